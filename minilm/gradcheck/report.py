"""What a gradient check found, and the table it prints.

Plain records: nothing here computes a gradient. A relative error that is not a number never passes, because the
verdict is decided where the numbers are made (`check.py`) and non-finite values are looked for first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

HEADINGS = ("operation", "input", "shape", "mode", "max abs", "relative", "verdict")


class GradcheckError(AssertionError):
    """A gradient disagrees with its difference quotient; `.result` holds the numbers behind the message."""

    def __init__(self, result: GradcheckResult) -> None:
        super().__init__(f"the gradient of {result.operation} is wrong:\n{result}")
        self.result = result


@dataclass(frozen=True)
class InputCheck:
    """The check of one input: the largest error over its elements, or over the random directions tried."""

    operation: str
    input: str
    shape: tuple[int, ...]
    mode: str  # "exhaustive" or "projection"
    probes: int  # elements moved, or directions tried
    max_abs_error: float
    relative_error: float
    passed: bool
    note: str = ""  # why it failed, in words

    def row(self) -> tuple[str, ...]:
        return (
            self.operation,
            self.input,
            str(self.shape),
            self.mode,
            f"{self.max_abs_error:.1e}",
            f"{self.relative_error:.1e}",
            "ok" if self.passed else "WRONG",
        )


@dataclass(frozen=True)
class GradcheckResult:
    """The checks of every input of one function; true when all of them pass, and `print` shows the table."""

    operation: str
    inputs: tuple[InputCheck, ...]
    tolerance: float
    seed: int

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.inputs)

    @property
    def relative_error(self) -> float:
        """The worst relative error of any input (0 when there was nothing to move; NaN if one is NaN)."""
        return worst(check.relative_error for check in self.inputs)

    @property
    def max_abs_error(self) -> float:
        return worst(check.max_abs_error for check in self.inputs)

    def __bool__(self) -> bool:
        return self.passed

    def __iter__(self) -> Iterator[InputCheck]:
        return iter(self.inputs)

    def __str__(self) -> str:
        return table(self.inputs)


@dataclass(frozen=True)
class Report:
    """The results of many functions, as `check_all` returns them; true when every one passes."""

    results: tuple[GradcheckResult, ...]

    @property
    def passed(self) -> bool:
        return all(self.results)

    @property
    def failures(self) -> tuple[GradcheckResult, ...]:
        return tuple(result for result in self.results if not result)

    @property
    def relative_error(self) -> float:
        return worst(result.relative_error for result in self.results)

    def __bool__(self) -> bool:
        return self.passed

    def __iter__(self) -> Iterator[GradcheckResult]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    def __str__(self) -> str:
        return table([check for result in self.results for check in result]) + "\n\n" + self.summary()

    def summary(self) -> str:
        """One sentence: how many functions were checked, how many passed, and the worst relative error."""
        right = len(self.results) - len(self.failures)
        verdict = "every gradient is right" if self.passed else f"{len(self.failures)} WRONG"
        error = f"worst relative error {self.relative_error:.1e}"
        return f"{right} of {len(self.results)} pass, {error}: {verdict}"


def worst(errors: Iterable[float]) -> float:
    """The largest error, where NaN counts as larger than every number (`max` alone may lose it)."""
    errors = list(errors)
    return math.nan if any(math.isnan(error) for error in errors) else max(errors, default=0.0)


def table(checks: Iterable[InputCheck]) -> str:
    """One line per input under the headings, columns aligned, the note of a failed check under its line."""
    checks = list(checks)
    rows = [check.row() for check in checks]
    widths = [max(len(row[i]) for row in [HEADINGS, *rows]) for i in range(len(HEADINGS))]
    lines = [_line(HEADINGS, widths), "  ".join("-" * width for width in widths)]
    for check, row in zip(checks, rows, strict=True):
        lines.append(_line(row, widths))
        if check.note:
            lines.extend("    " + part for part in check.note.split("\n"))
    return "\n".join(lines)


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    numeric = (4, 5)  # the two error columns align on the right
    padded = [
        cell.rjust(width) if i in numeric else cell.ljust(width)
        for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(padded).rstrip()
