"""Checkers for the exercises of the course: each says "right", or what is off, or "not answered yet".

A checker raises nothing, so that a notebook runs through with its exercises unanswered. Worked solutions call
`set_strict()` first: from then on a wrong or missing answer raises `AssertionError`.
"""

from __future__ import annotations

import copy
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Verdict", "check_array", "check_equal", "check_function", "set_strict"]

_strict = False


@dataclass(frozen=True)
class Verdict:
    """What a checker found; true where the answer is right."""

    right: bool
    message: str

    def __bool__(self) -> bool:
        return self.right

    def _ipython_display_(self) -> None:
        """Nothing: the message was printed already."""


def set_strict(on: bool = True) -> None:
    """Make every checker raise `AssertionError` where the answer is not right (`on=False`: only say so)."""
    global _strict
    _strict = on


def check_array(name: str, got: object, expected: object, tolerance: float = 1e-6, hint: str = "") -> Verdict:
    """Compare a number, an array or a Tensor with the expected one: shape, kind of numbers, finiteness, values.

    |got − expected| ≤ tolerance · (1 + |expected|) has to hold for every entry. `got` is `...` while the exercise is
    not answered. `name` is how the message calls the answer; `hint` is shown with a wrong one.
    """
    if got is Ellipsis or got is None:
        return _conclude(name, None, hint)
    return _conclude(name, _array_fault(got, expected, tolerance), hint)


def check_equal(name: str, got: object, expected: object, hint: str = "") -> Verdict:
    """Compare an answer that is right or wrong as a whole: a text, a whole number, a list of token ids, a shape."""
    if got is Ellipsis or got is None:
        return _conclude(name, None, hint)
    got, expected = _plain(got), _plain(expected)
    if type(got) is not type(expected) and not (_is_number(got) and _is_number(expected)):
        return _conclude(name, f"{got!r} is {_a(got)}, but {_a(expected)} is asked for", hint)
    return _conclude(name, "" if got == expected else f"{_short(got)} is not it", hint)


def check_function(
    name: str,
    function: Callable[..., object],
    cases: Sequence[tuple],
    expected: Callable[..., object] | Sequence[object],
    tolerance: float = 1e-6,
    hint: str = "",
) -> Verdict:
    """Call `function` with the arguments of every case and compare each result as `check_array` does.

    `expected` is a function that is right, or the right result for each case. An exception in `function`, an argument
    changed in place, and a result of the wrong shape are told in plain words. `function` counts as not answered while
    it returns `None` or `...` in every case.
    """
    if not callable(expected) and len(expected) != len(cases):
        raise ValueError(f"{len(cases)} cases but {len(expected)} expected results: give one for each case")
    if function is Ellipsis or function is None:
        return _conclude(name, None, hint)
    if not callable(function):
        return _conclude(name, f"{_short(function)} is {_a(function)}, not a function", hint)
    unanswered = 0
    for number, case in enumerate(cases):
        want = expected(*copy.deepcopy(case)) if callable(expected) else expected[number]
        given = copy.deepcopy(case)
        call = f"{name}({', '.join(_short(argument) for argument in case)})"
        try:
            got = function(*given)
        except NotImplementedError:
            unanswered += 1
            continue
        except Exception as error:
            line = _line_of(error, function)
            return _conclude(name, f"{call} raises {type(error).__name__}: {error}{line}", hint)
        if got is None or got is Ellipsis:
            unanswered += 1
            continue
        if fault := _array_fault(got, want, tolerance):
            return _conclude(name, f"for {call}: {fault}", hint)
        if changed := _changed_argument(case, given):
            return _conclude(name, f"{call} changes its argument {changed} in place: work on a copy", hint)
    if unanswered == len(cases):
        return _conclude(name, None, hint)
    if unanswered:
        return _conclude(name, "returns nothing in some cases: is a `return` missing in one branch?", hint)
    return _conclude(name, "", hint)


def _conclude(name: str, fault: str | None, hint: str) -> Verdict:
    """Print and return the verdict: `None` is an unanswered exercise, an empty fault a right answer."""
    if fault is None:
        verdict = Verdict(False, f"not answered yet: {name}")
    elif fault == "":
        verdict = Verdict(True, f"right: {name}")
    else:
        verdict = Verdict(False, f"not yet: {name}: {fault}" + (f"\n  hint: {hint}" if hint else ""))
    if _strict and not verdict:
        raise AssertionError(verdict.message)
    print(verdict.message)
    return verdict


def _array_fault(got: object, expected: object, tolerance: float) -> str:
    """What is wrong with `got`, in words; empty where nothing is."""
    try:
        a, b = np.asarray(_plain(got)), np.asarray(_plain(expected))
    except (ValueError, TypeError) as error:
        return f"{_short(got)} cannot be read as an array: {error}"
    if a.dtype.kind not in "biufc":
        return f"{_short(got)} is {_a(got)}, but numbers are asked for"
    if a.shape != b.shape:
        return f"its shape is {a.shape}, but {b.shape} is asked for"
    if b.dtype.kind == "b" and a.dtype.kind != "b":
        return f"its dtype is {a.dtype}, but a mask of True and False is asked for"
    if a.dtype.kind == "b" and b.dtype.kind != "b":
        return f"its values are True and False, but numbers ({b.dtype}) are asked for"
    if b.dtype.kind in "iu" and a.dtype.kind == "f":
        return f"its dtype is {a.dtype}, but whole numbers are asked for"
    if a.size == 0:
        return ""
    x, y = a.astype(np.float64), b.astype(np.float64)
    infinite = ~np.isfinite(y)
    same_infinite = (x[infinite] == y[infinite]) | (np.isnan(x[infinite]) & np.isnan(y[infinite]))
    if not same_infinite.all():
        place = tuple(int(i) for i in np.argwhere(infinite)[int(np.argmin(same_infinite))])
        return f"at {_place(place)} it is {x[place]:.6g}, but {y[place]} is asked for"
    if not np.isfinite(x[~infinite]).all():
        bad = x[~infinite & ~np.isfinite(x)]
        return f"{bad.size} of its {x.size} values are not finite (the first is {bad[0]})"
    x, y = np.where(infinite, 0.0, x), np.where(infinite, 0.0, y)
    off = np.abs(x - y) > tolerance * (1 + np.abs(y))
    if not off.any():
        return ""
    if pattern := _pattern(x, y, tolerance):
        return pattern
    place = tuple(int(i) for i in np.unravel_index(int(np.argmax(np.abs(x - y))), x.shape))
    if x.ndim == 0:
        return f"it is {x[()]:.6g}, not yet right"
    return f"{int(off.sum())} of {x.size} values are off, most at {_place(place)}, where it is {x[place]:.6g}"


def _pattern(x: np.ndarray, y: np.ndarray, tolerance: float) -> str:
    """Name a mistake that explains every wrong value: transposed, a wrong sign, a constant factor or offset."""

    def near(p: np.ndarray, q: np.ndarray) -> bool:
        return bool(np.all(np.abs(p - q) <= tolerance * (1 + np.abs(q))))

    if x.ndim >= 2 and x.shape[-1] == x.shape[-2] and near(np.swapaxes(x, -1, -2), y):
        return "it is the transpose of what is asked for"
    if near(-x, y):
        return "its sign is the wrong way round"
    if x.size > 2:
        large = np.abs(y) > 0.1 * np.abs(y).max()
        factor = float(np.median(x[large] / y[large])) if large.any() else 0.0
        if factor != 0 and near(x / factor, y):
            return f"every value is {factor:.4g} times what is asked for"
        offset = float(np.median(x - y))
        if near(x - offset, y):
            return f"every value is {offset:+.4g} away from what is asked for"
    return ""


def _plain(value: Any) -> Any:
    """Tensors and CuPy arrays as NumPy arrays, lists of them as lists, NumPy scalars as Python's; the rest as it is."""
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(item) for item in value) if type(value) in (list, tuple) else value
    for method in ("numpy", "get"):  # a Tensor; a CuPy array
        if hasattr(value, "shape") and hasattr(value, method):
            return getattr(value, method)()
    return value


def _changed_argument(before: tuple, after: tuple) -> str:
    for number, (old, new) in enumerate(zip(before, after, strict=True), start=1):
        if not hasattr(old, "shape") and not isinstance(old, (list, tuple)):
            continue
        if not np.array_equal(np.asarray(_plain(old)), np.asarray(_plain(new))):
            return str(number)
    return ""


def _line_of(error: BaseException, function: Callable[..., object]) -> str:
    """Where in the reader's own function the exception came from."""
    code = getattr(function, "__code__", None)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if code is not None and frame.name == code.co_name and frame.filename == code.co_filename:
            return f" (line {(frame.lineno or 0) - code.co_firstlineno + 1} of the function)"
    return ""


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _a(value: object) -> str:
    name = type(value).__name__
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def _short(value: object) -> str:
    plain = _plain(value)
    if isinstance(plain, np.ndarray) and plain.size > 6:
        return f"array of shape {plain.shape}"
    text = " ".join(repr(plain.tolist() if isinstance(plain, np.ndarray) else plain).split())
    return text if len(text) <= 50 else text[:47] + "..."


def _place(index: tuple[int, ...]) -> str:
    return f"[{', '.join(str(i) for i in index)}]"
