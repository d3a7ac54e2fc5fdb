"""`minilm generate`: a model goes on with a text, and shows it as it is written."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from .arguments import add_verb, at_least, number_above, share
from .models import DEFAULT_MODEL

EXAMPLES = """\
  minilm generate --prompt "The value of"
      the small GPT that comes with minilm goes on
  minilm generate --model runs/tiny --prompt "The value of" --seed 1
      a model of yours: the folder of a run, or of a checkpoint
  minilm generate --model gpt2 --prompt "Once upon a time" --greedy
      the most likely token every time
  minilm generate --prompt "The value of" --top-p 0.9 --temperature 1.2 --count 3
      three continuations, more daring
  echo "The value of" | minilm generate --prompt -
      the prompt from a pipe
"""


def add_parser(verbs: Any) -> None:
    parser = add_verb(verbs, "generate", run, "let a model go on with a text", EXAMPLES)
    parser.add_argument("--model", default=DEFAULT_MODEL, help=f"a name or a folder ({DEFAULT_MODEL})")
    parser.add_argument("--prompt", default="The", help="what to go on from; - reads it from standard input")
    parser.add_argument("--max-new-tokens", type=at_least(1), default=100, metavar="N", help="(100)")
    parser.add_argument("--greedy", action="store_true", help="the most likely token every time")
    parser.add_argument("--temperature", type=number_above(0), metavar="X", help="below 1 is safer (0.8)")
    parser.add_argument("--top-k", type=at_least(1), metavar="K", help="only the K most likely tokens (50)")
    parser.add_argument("--top-p", type=share, metavar="P", help="only the likeliest, P together")
    parser.add_argument(
        "--repetition-penalty", type=number_above(0), metavar="X", help="above 1 repeats less"
    )
    parser.add_argument("--count", type=at_least(1), default=1, metavar="N", help="continuations (1)")
    parser.add_argument("--seed", type=at_least(0), metavar="N", help="the same seed gives the same text")


def run(options: argparse.Namespace) -> int:
    sampling = [name for name in ("temperature", "top_k", "top_p") if getattr(options, name) is not None]
    if options.greedy and (sampling or options.count > 1):
        what = ", ".join("--" + name.replace("_", "-") for name in sampling) or "--count"
        raise ValueError(
            f"--greedy always takes the most likely token, so {what} has nothing to choose; drop one"
        )
    # Imported here, so that --help and wrong options answer at once.
    import numpy as np

    from minilm.generation import TextStreamer

    from .models import load_model, load_tokenizer, model_folder

    prompt = sys.stdin.read().rstrip("\n") if options.prompt == "-" else options.prompt
    folder = model_folder(options.model)
    tokenizer, model = load_tokenizer(folder), load_model(folder)
    ids = tokenizer.encode(prompt) or [tokenizer.eos_token_id]
    if ids == [None]:
        raise ValueError("the prompt is empty, and this model has no token to start from; give a --prompt")
    choice = _choice(options)
    for index in range(options.count):
        seed = None if options.seed is None else options.seed + index
        streamer = TextStreamer(tokenizer, skip_special_tokens=True)
        model.generate(
            np.array([ids]),
            max_new_tokens=options.max_new_tokens,
            streamer=streamer,
            seed=seed,
            sliding_window=True,
            **choice,
        )
        if index + 1 < options.count:
            print("-" * 40)
    return 0


def _choice(options: argparse.Namespace) -> dict[str, Any]:
    """Return how tokens are chosen, as `generate` names it."""
    chosen: dict[str, Any] = {"do_sample": not options.greedy}
    if options.repetition_penalty is not None:
        chosen["repetition_penalty"] = options.repetition_penalty
    if not options.greedy:
        chosen["temperature"] = 0.8 if options.temperature is None else options.temperature
        chosen["top_k"] = 50 if options.top_k is None else options.top_k
        if options.top_p is not None:
            chosen["top_p"] = options.top_p
    return chosen
