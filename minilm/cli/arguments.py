"""What the verbs share: the form of their help, and arguments that say what they expect."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any

__all__ = ["add_verb", "at_least", "number_above", "share"]

Run = Callable[[argparse.Namespace], int]


def add_verb(verbs: Any, name: str, run: Run, help: str, examples: str) -> argparse.ArgumentParser:
    """Add a verb with its examples below the options, and `--debug`."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        name,
        help=help,
        description=help[0].upper() + help[1:] + ".",
        epilog="examples:\n" + examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--debug", action="store_true", help="show where in the code an error comes from")
    parser.set_defaults(run=run)
    return parser


def at_least(least: int) -> Callable[[str], int]:
    """Return a converter to whole numbers from `least` on."""

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, got {text!r}")
        return value

    return convert


def number_above(limit: float) -> Callable[[str], float]:
    """Return a converter to finite numbers above `limit`."""

    def convert(text: str) -> float:
        value = _float(text)
        if not limit < value < math.inf:
            raise argparse.ArgumentTypeError(f"expected a number above {limit:g}, got {text!r}")
        return value

    return convert


def share(text: str) -> float:
    """Convert to a number from 0 to 1."""
    value = _float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, got {text!r}")
    return value


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
