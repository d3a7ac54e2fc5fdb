"""The command line: `python -m minilm <verb>`, or `minilm <verb>` once installed. One file per verb."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

__all__ = ["main"]

VERBS = ("pretrain", "generate", "evaluate", "tokenize", "gradcheck", "info")

# What goes wrong because of what was asked for: files, numbers, names. Anything else is a mistake in minilm,
# and its traceback is what is needed to find it.
EXPECTED = (OSError, ValueError, RuntimeError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 a check failed, 2 wrong input, 130 interrupted."""
    options = _parser().parse_args(arguments)
    try:
        code = options.run(options)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe has seen enough, as in `minilm generate | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except EXPECTED as error:
        if options.debug:
            raise
        print(f"minilm {options.verb}: {_sentence(error)}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="minilm",
        description="Large language models from first principles, in NumPy you can read.",
        epilog="minilm VERB --help shows the options of a verb, with examples.",
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb in VERBS:
        importlib.import_module(f".{verb}", __package__).add_parser(verbs)
    return parser


def _sentence(error: BaseException) -> str:
    """Return the message of an error on one line."""
    if isinstance(error, OSError) and error.strerror:
        name = f": {error.filename}" if error.filename is not None else ""
        return f"{error.strerror}{name}"
    return " ".join(str(error).split()) or type(error).__name__
