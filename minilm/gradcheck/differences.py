"""Difference quotients: an input is moved, the function is asked again, and its answers are set against backward's.

The formulas, and what a relative error is, stand at the head of `check.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from minilm.tensor import Array, Tensor, no_grad

STEP = 6e-6  # ε^(1/3) in float64: truncation, ~h²/6, and rounding, ~ε/h, are then both near 1e-11
ROUNDING = 10 * np.finfo(np.float64).eps  # a few operations round one after another inside F
MODES = ("auto", "exhaustive", "projection")


@dataclass(frozen=True)
class Settings:
    """How to check; the fields are the keyword arguments of `gradcheck`."""

    mode: str = "auto"
    tolerance: float = 1e-6
    step: float = STEP
    directions: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, got {self.mode!r}")
        if not (self.step > 0 and self.tolerance > 0 and self.directions > 0):
            raise ValueError(
                "step, tolerance and directions must be positive, "
                f"got {self.step}, {self.tolerance} and {self.directions}"
            )


# ---------------------------------------------------------------------------- the two ways of moving an input


@dataclass(frozen=True)
class Probe:
    """What was found out about one input; NaN for both errors says that no comparison was possible."""

    count: int
    max_abs: float
    relative: float
    note: str = ""

    @staticmethod
    def failed(note: str) -> Probe:
        return Probe(0, np.nan, np.nan, note)


def exhaustive(scalar: Contraction, x: Tensor, gradient: Array, settings: Settings) -> Probe:
    """Moves every element in turn and compares the whole vector Jᵀc."""
    step, tolerance = settings.step, settings.tolerance
    numeric = np.zeros(x.shape)
    noise = 0.0
    for index in np.ndindex(*x.shape):
        numeric[index], rounding = _quotient(scalar, x.data, _one_hot_mover(index), step)
        noise = max(noise, rounding)
    if not np.isfinite(numeric).all():
        return Probe.failed("the output is not finite when the input moves by the step")
    error = np.abs(gradient - numeric)
    scale = max(_largest(gradient), _largest(numeric), noise / tolerance)
    relative = _ratio(_largest(error), scale)
    note = ""
    if relative > tolerance:
        worst = np.unravel_index(int(error.argmax()), error.shape)
        note = _explain(gradient, numeric, tolerance) + "\n" if gradient.size > 1 else ""
        note += f"at {index_text(worst)} backward says {gradient[worst]:.9g}, differences say {numeric[worst]:.9g}"
        note += _kink_note(scalar, x.data, _one_hot_mover(worst), step, gradient[worst])
    return Probe(numeric.size, _largest(error), relative, note)


def projection(
    scalar: Contraction, x: Tensor, gradient: Array, settings: Settings, random: np.random.Generator
) -> Probe:
    """Moves all elements at once along random directions and compares a·v."""
    step, tolerance, directions = settings.step, settings.tolerance, settings.directions
    if x.numel() == 0:
        return Probe(0, 0.0, 0.0)
    length = float(np.linalg.norm(gradient))
    worst_error, worst_relative, note = 0.0, 0.0, ""
    for _ in range(directions):
        v = random.standard_normal(x.shape)
        numeric, noise = _quotient(scalar, x.data, _direction_mover(v), step)
        if not np.isfinite(numeric):
            return Probe.failed("the output is not finite when the input moves by the step")
        expected = float((gradient * v).sum())
        error = abs(expected - numeric)
        relative = _ratio(error, max(length, abs(numeric), noise / tolerance))
        if relative > tolerance and relative > worst_relative:
            note = f"along a random direction backward says {expected:.9g}, differences say {numeric:.9g}"
            note += _kink_note(scalar, x.data, _direction_mover(v), step, expected)
        worst_error, worst_relative = max(worst_error, error), max(worst_relative, relative)
    return Probe(directions, worst_error, worst_relative, note)


Mover = Callable[[Array, float], None]  # moves an array in place by h times something


def _one_hot_mover(index: tuple[Any, ...]) -> Mover:
    def move(array: Array, h: float) -> None:
        array[index] += h

    return move


def _direction_mover(direction: Array) -> Mover:
    def move(array: Array, h: float) -> None:
        moved = np.empty_like(array)
        moved[...] = h * direction
        array[...] += moved

    return move


def _quotient(scalar: Contraction, array: Array, move: Mover, step: float) -> tuple[float, float]:
    """(f(x + h) − f(x − h)) / 2h along one way of moving, and how far rounding alone may have moved it."""
    above, below = scalar.outputs_at(array, move, step), scalar.outputs_at(array, move, -step)
    # The outputs are subtracted before they are summed: what did not move then cancels exactly.
    return scalar.contract(above, below) / (2 * step), ROUNDING * scalar.size_of_moved(above, below) / step


def _slope_jump(scalar: Contraction, array: Array, move: Mover, step: float) -> float:
    """|slope to the right − slope to the left| = |f(x + h) − 2 f(x) + f(x − h)| / h."""
    here = scalar.outputs()
    right = scalar.contract(scalar.outputs_at(array, move, step), here)
    left = scalar.contract(here, scalar.outputs_at(array, move, -step))
    return abs(right - left) / step


@contextmanager
def _restored(array: Array) -> Iterator[None]:
    before = array.copy()
    try:
        yield
    finally:
        array[...] = before


class Contraction:
    """The scalar f = Σ c ∘ F, evaluated without a graph at wherever the inputs now stand."""

    def __init__(self, function: Callable[[], Any], name: str, cotangents: Sequence[Array]) -> None:
        self.function = function
        self.name = name
        self.cotangents = cotangents

    def outputs(self) -> list[Array]:
        with no_grad():
            return [out.data.copy() for out in evaluate(self.function, self.name)]  # it may be a view of x

    def outputs_at(self, array: Array, move: Mover, h: float) -> list[Array]:
        with _restored(array):
            move(array, h)
            return self.outputs()

    def contract(self, above: Sequence[Array], below: Sequence[Array]) -> float:
        # inf − inf is NaN and NaN fails, which is the verdict wanted; the warning would only repeat it
        with np.errstate(invalid="ignore", over="ignore"):
            triples = zip(self.cotangents, above, below, strict=True)
            return sum(float((c * (a - b)).sum()) for c, a, b in triples)

    def size_of_moved(self, above: Sequence[Array], below: Sequence[Array]) -> float:
        """‖c ∘ F‖₂ over the outputs that changed; the others carry no rounding into the difference."""
        with np.errstate(invalid="ignore", over="ignore"):
            triples = zip(self.cotangents, above, below, strict=True)
            return math.sqrt(sum(float((((c * a) ** 2) * (a != b)).sum()) for c, a, b in triples))

    def refuse_randomness(self, first: Sequence[Array]) -> None:
        second = self.outputs()
        same = len(first) == len(second) and all(
            a.shape == b.shape and np.allclose(on_host(a), on_host(b), rtol=1e-9, atol=1e-12, equal_nan=True)
            for a, b in zip(first, second, strict=True)
        )
        if not same:
            raise ValueError(
                f"{self.name} gives different outputs for the same inputs, so differences cannot be taken; "
                "if it drops out or samples, call module.eval() or minilm.seed(...) inside the function"
            )


def evaluate(function: Callable[[], Any], name: str) -> list[Tensor]:
    """The floating-point outputs of the function, always as a list."""
    returned = function()
    outputs = list(returned) if isinstance(returned, (tuple, list)) else [returned]
    for out in outputs:
        if not isinstance(out, Tensor):
            raise TypeError(f"{name} must return a Tensor or a tuple of Tensors, got {type(out).__name__}")
    outputs = [out for out in outputs if out.dtype.kind == "f"]
    if not outputs:
        raise TypeError(f"{name} returned no floating-point Tensor, so there is nothing to differentiate")
    for out in outputs:
        if out.dtype != np.float64:
            raise TypeError(
                f"{name} returned {out.dtype} from float64 inputs; its differences would be rounded away. "
                "Keep the whole computation in float64 (x.double(), module.double())"
            )
    return outputs


# ------------------------------------------------------------------------------------------------ what the numbers say


def _explain(gradient: Array, numeric: Array, tolerance: float) -> str:
    """The usual suspects: a gradient of zeros, a constant factor, a transposition."""
    if not gradient.any():
        return "backward gives zeros everywhere, or the input was detached on the way"
    if not numeric.any():
        return "differences give zero everywhere: the output does not depend on this input"
    if gradient.shape == gradient.T.shape and np.allclose(gradient.T, numeric, rtol=1e-6, atol=0):
        return "the gradient is right but transposed"
    factor = float((gradient * numeric).sum() / (numeric * numeric).sum())
    if _ratio(_largest(gradient - factor * numeric), _largest(gradient)) <= tolerance:
        return f"the gradient is {factor:.6g} times what it should be, everywhere"
    wrong = np.abs(gradient - numeric) > tolerance * max(_largest(gradient), _largest(numeric))
    return f"{int(wrong.sum())} of {wrong.size} elements are wrong"


def _kink_note(scalar: Contraction, array: Array, move: Mover, step: float, expected: float) -> str:
    """Says when the quotient cannot be trusted here, so that a kink is not mistaken for a wrong gradient.

    Near a kink the quotient depends on the step. On a kink it does not, but the slopes to the left and to the
    right differ, by as much for half the step; those of a smooth function differ by half as much.
    """
    coarse, fine = _quotient(scalar, array, move, step)[0], _quotient(scalar, array, move, step / 2)[0]
    jump, finer_jump = _slope_jump(scalar, array, move, step), _slope_jump(scalar, array, move, step / 2)
    matters = 0.05 * abs(coarse - expected)
    if abs(fine - coarse) > matters or (jump > matters and finer_jump > 0.75 * jump):
        return "\nthe function has a kink here (or bends sharply); move the input before judging the gradient"
    return ""


# ------------------------------------------------------------------------------------------------------- small helpers


def on_host(array: Array) -> Array:
    return array if isinstance(array, np.ndarray) else array.get()  # .get() is CuPy's copy to the host


def _largest(array: Array) -> float:
    return float(np.abs(array).max()) if array.size else 0.0


def _ratio(error: float, scale: float) -> float:
    return 0.0 if error == 0 else error / scale if scale else float("inf")


def index_text(index: Iterable[Any]) -> str:
    return "[" + ", ".join(str(int(i)) for i in index) + "]"
