"""`minilm gradcheck`: is every gradient right?"""

from __future__ import annotations

import argparse
from typing import Any

from .arguments import add_verb, at_least, number_above

EXAMPLES = """\
  minilm gradcheck
      every operation against difference quotients, some thousand numbers
  minilm gradcheck softmax layer_norm
      these operations only
  minilm gradcheck matmul --mode projection --seed 3
      along random directions, from other random inputs
"""


def add_parser(verbs: Any) -> None:
    parser = add_verb(verbs, "gradcheck", run, "check every gradient against difference quotients", EXAMPLES)
    parser.add_argument("operations", nargs="*", metavar="OPERATION", help="by default all of them")
    parser.add_argument(
        "--mode",
        choices=("exhaustive", "projection"),
        default="exhaustive",
        help="move every element, or along random directions (exhaustive)",
    )
    parser.add_argument("--tolerance", type=number_above(0), default=1e-6, metavar="X", help="(1e-6)")
    parser.add_argument("--seed", type=at_least(0), default=0, metavar="N", help="of the inputs (0)")


def run(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from minilm.gradcheck import check_all

    with tqdm(unit=" checks", leave=False) as bar:
        report = check_all(
            options.operations or None,
            mode=options.mode,
            tolerance=options.tolerance,
            seed=options.seed,
            on_result=lambda result: bar.update(),
        )
    print(report)
    return 0 if report.passed else 1
