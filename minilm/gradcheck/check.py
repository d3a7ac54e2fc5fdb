"""Gradients against difference quotients: the test that needs no other library to say what is right.

A function F of inputs x, contracted with a random cotangent c, is a scalar f(x) = Σ c ∘ F(x). Backward gives
its gradient a = Jᵀc in one pass. Moving x and looking gives the same numbers without any calculus:

    exhaustive   n_i = (f(x + h·e_i) − f(x − h·e_i)) / 2h      for every element i,        compared with a_i
    projection   n_v = (f(x + h·v) − f(x − h·v)) / 2h          for random directions v,    compared with a·v

Exhaustive costs two evaluations an element and names the element that is wrong. Projection costs two evaluations
a direction, whatever the size, and sees any error of the gradient that is not orthogonal to v.

The cotangent is random and never all ones: the rows of softmax sum to one, so with ones its true gradient is
zero, and a backward that returns zeros would pass.

Relative error: the largest |a − n| divided by the scale of the gradient. The scale is max(|a|, |n|) over all the
elements of the input (exhaustive) or max(‖a‖₂, |n|) (projection: a·v is ‖a‖₂ times a standard normal number).
It is never less than the smallest gradient that differences can measure to within the tolerance: rounding alone
moves n by about ε‖c ∘ F‖₂/h, so that a gradient of exactly zero passes against a quotient of 1e-11.

What it refuses: float32 (a difference quotient in float32 is good to about three digits, and would need a
tolerance that hides mistakes) and functions that give two answers for one question (dropout).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from minilm.gradcheck.report import GradcheckError, GradcheckResult, InputCheck
from minilm.tensor import Array, Tensor, grad, no_grad

STEP = 6e-6  # ε^(1/3) in float64: truncation, ~h²/6, and rounding, ~ε/h, are then both near 1e-11
ROUNDING = 10 * np.finfo(np.float64).eps  # a few operations round one after another inside F
EXHAUSTIVE_LIMIT = 256  # elements of all inputs together up to which "auto" moves every one of them
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


def gradcheck(
    function: Callable[..., Any],
    inputs: Any,
    *,
    mode: str = "auto",
    tolerance: float = 1e-6,
    step: float = STEP,
    directions: int = 3,
    seed: int = 0,
    raise_exception: bool = True,
    name: str | None = None,
) -> GradcheckResult:
    """Compares the gradients of `function(*inputs)` with central differences in float64.

    inputs: one array or Tensor, or a tuple of them. Checked are float64 arrays and Tensors that require a
    gradient; integers, masks, strings and Tensors that require none are passed on unchanged. The function
    returns a Tensor or several; those that are not floating point (indices) are left out.

    mode: "exhaustive" moves every element of every input, "projection" moves each input along `directions`
    random directions, "auto" takes the first up to 256 elements and the second beyond.

    Each input is moved in place and restored to the bit. No `.grad` is written, and the random numbers come from
    a generator of its own (`seed`), so a check leaves the state of minilm's generator alone.

    Returns a result that is true when every input passes and prints as a table. With `raise_exception`, a
    failure is a GradcheckError instead, which carries that result. Inputs that cannot be checked are a TypeError
    or a ValueError in both cases.
    """
    arguments = _as_arguments(inputs)
    return _check(
        lambda: function(*arguments),
        _named_inputs(function, arguments),
        name or _function_name(function),
        Settings(mode, tolerance, step, directions, seed),
        raise_exception,
    )


def gradcheck_module(
    module: Any,
    inputs: Any,
    *,
    mode: str = "auto",
    tolerance: float = 1e-6,
    step: float = STEP,
    directions: int = 3,
    seed: int = 0,
    raise_exception: bool = True,
    name: str | None = None,
) -> GradcheckResult:
    """Checks `module(*inputs)` with respect to its inputs and to every parameter that requires a gradient.

    The module must be float64 (`module.double()`) and give the same answer twice (`module.eval()`, if it drops
    out). Everything else as in `gradcheck`; inputs may be integers throughout, such as token ids.
    """
    arguments = _as_arguments(inputs)
    checked = _named_inputs(getattr(module, "forward", module), arguments)
    checked += [(key, p) for key, p in module.named_parameters() if p.requires_grad]
    return _check(
        lambda: module(*arguments),
        checked,
        name or type(module).__name__,
        Settings(mode, tolerance, step, directions, seed),
        raise_exception,
    )


def _check(
    function: Callable[[], Any],
    checked: Sequence[tuple[str, Tensor]],
    name: str,
    settings: Settings,
    raise_exception: bool,
) -> GradcheckResult:
    _refuse_inputs(name, checked)
    mode = settings.mode
    if mode == "auto":
        elements = sum(x.numel() for _, x in checked)
        mode = "exhaustive" if elements <= EXHAUSTIVE_LIMIT else "projection"

    # A stream of its own: default_rng(seed) would give back the very numbers that a test drew its inputs from, and
    # a cotangent equal to the input is orthogonal to the gradient of everything that ignores the input's length.
    random = np.random.default_rng([settings.seed, 0xC07A])
    outputs = _evaluate(function, name)
    cotangents = [_random_like(out.data, random) for out in outputs]
    scalar = _Contraction(function, name, cotangents)
    scalar.refuse_randomness([out.data for out in outputs])
    problem = ""
    if not all(np.isfinite(_numpy(out.data)).all() for out in outputs):
        problem = "the output itself is not finite"
    gradients, error = _backward(outputs, [x for _, x in checked], cotangents)
    if error is not None:
        problem = f"backward raised {type(error).__name__}: {error}"

    checks = []
    for (label, x), gradient in zip(checked, gradients, strict=True):
        trouble = problem or _problem(gradient, x.shape)
        if trouble:
            probe = _Probe.failed(trouble)
        elif mode == "exhaustive":
            probe = _exhaustive(scalar, x, gradient, settings)
        else:
            probe = _projection(scalar, x, gradient, settings, random)
        passed = bool(probe.relative <= settings.tolerance)  # NaN is not
        checks.append(
            InputCheck(name, label, x.shape, mode, probe.count, probe.max_abs, probe.relative, passed, probe.note)
        )
    result = GradcheckResult(name, tuple(checks), settings.tolerance, settings.seed)
    if raise_exception and not result:
        raise GradcheckError(result) from error
    return result


# ---------------------------------------------------------------------------- the two ways of moving an input


@dataclass(frozen=True)
class _Probe:
    count: int
    max_abs: float
    relative: float
    note: str = ""

    @staticmethod
    def failed(note: str) -> _Probe:
        return _Probe(0, np.nan, np.nan, note)


def _exhaustive(scalar: _Contraction, x: Tensor, gradient: Array, settings: Settings) -> _Probe:
    """Moves every element in turn and compares the whole vector Jᵀc."""
    step, tolerance = settings.step, settings.tolerance
    numeric = np.zeros(x.shape)
    noise = 0.0
    for index in np.ndindex(*x.shape):
        numeric[index], rounding = _quotient(scalar, x.data, _one_hot_mover(index), step)
        noise = max(noise, rounding)
    if not np.isfinite(numeric).all():
        return _Probe.failed("the output is not finite when the input moves by the step")
    error = np.abs(gradient - numeric)
    scale = max(_largest(gradient), _largest(numeric), noise / tolerance)
    relative = _ratio(_largest(error), scale)
    note = ""
    if relative > tolerance:
        worst = np.unravel_index(int(error.argmax()), error.shape)
        note = _explain(gradient, numeric, tolerance) + "\n" if gradient.size > 1 else ""
        note += f"at {_index(worst)} backward says {gradient[worst]:.9g}, differences say {numeric[worst]:.9g}"
        note += _kink_note(scalar, x.data, _one_hot_mover(worst), step, gradient[worst])
    return _Probe(numeric.size, _largest(error), relative, note)


def _projection(
    scalar: _Contraction, x: Tensor, gradient: Array, settings: Settings, random: np.random.Generator
) -> _Probe:
    """Moves all elements at once along random directions and compares a·v."""
    step, tolerance, directions = settings.step, settings.tolerance, settings.directions
    if x.numel() == 0:
        return _Probe(0, 0.0, 0.0)
    length = float(np.linalg.norm(gradient))
    worst_error, worst_relative, note = 0.0, 0.0, ""
    for _ in range(directions):
        v = random.standard_normal(x.shape)
        numeric, noise = _quotient(scalar, x.data, _direction_mover(v), step)
        if not np.isfinite(numeric):
            return _Probe.failed("the output is not finite when the input moves by the step")
        expected = float((gradient * v).sum())
        error = abs(expected - numeric)
        relative = _ratio(error, max(length, abs(numeric), noise / tolerance))
        if relative > tolerance and relative > worst_relative:
            note = f"along a random direction backward says {expected:.9g}, differences say {numeric:.9g}"
            note += _kink_note(scalar, x.data, _direction_mover(v), step, expected)
        worst_error, worst_relative = max(worst_error, error), max(worst_relative, relative)
    return _Probe(directions, worst_error, worst_relative, note)


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


def _quotient(scalar: _Contraction, array: Array, move: Mover, step: float) -> tuple[float, float]:
    """(f(x + h) − f(x − h)) / 2h along one way of moving, and how far rounding alone may have moved it."""
    above, below = scalar.outputs_at(array, move, step), scalar.outputs_at(array, move, -step)
    # The outputs are subtracted before they are summed: what did not move then cancels exactly.
    return scalar.contract(above, below) / (2 * step), ROUNDING * scalar.size_of_moved(above, below) / step


def _slope_jump(scalar: _Contraction, array: Array, move: Mover, step: float) -> float:
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


class _Contraction:
    """The scalar f = Σ c ∘ F, evaluated without a graph at wherever the inputs now stand."""

    def __init__(self, function: Callable[[], Any], name: str, cotangents: Sequence[Array]) -> None:
        self.function = function
        self.name = name
        self.cotangents = cotangents

    def outputs(self) -> list[Array]:
        with no_grad():
            return [out.data.copy() for out in _evaluate(self.function, self.name)]  # it may be a view of x

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
            a.shape == b.shape and np.allclose(_numpy(a), _numpy(b), rtol=1e-9, atol=1e-12, equal_nan=True)
            for a, b in zip(first, second, strict=True)
        )
        if not same:
            raise ValueError(
                f"{self.name} gives different outputs for the same inputs, so differences cannot be taken; "
                "if it drops out or samples, call module.eval() or minilm.seed(...) inside the function"
            )


# ------------------------------------------------------------------------------------------- what is compared


def _evaluate(function: Callable[[], Any], name: str) -> list[Tensor]:
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


def _backward(
    outputs: Sequence[Tensor], xs: Sequence[Tensor], cotangents: Sequence[Array]
) -> tuple[list[Array], Exception | None]:
    """Jᵀc as NumPy arrays, zeros for an input that no output depends on; and what backward raised, if it did."""
    gradients: Sequence[Tensor | None] = [None] * len(xs)
    error = None
    reached = [(out, Tensor(c)) for out, c in zip(outputs, cotangents, strict=True) if out.requires_grad]
    if reached:
        try:
            with np.errstate(all="ignore"):  # a gradient that is not finite is reported by name instead
                gradients = grad(
                    [out for out, _ in reached],
                    xs,
                    grad_outputs=[c for _, c in reached],
                    allow_unused=True,
                )
        except Exception as raised:  # whatever it is, it is a verdict on the function that is being checked
            error = raised
    return [np.zeros(x.shape) if g is None else g.numpy() for x, g in zip(xs, gradients, strict=True)], error


def _problem(gradient: Array, shape: tuple[int, ...]) -> str:
    """What makes a comparison of numbers pointless, in words; looked at before any number is compared."""
    if gradient.shape != shape:
        return f"the gradient has shape {gradient.shape}, its input has shape {shape}"
    bad = ~np.isfinite(gradient)
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        return f"the gradient is {gradient[where]} at {_index(where)} ({int(bad.sum())} elements are not finite)"
    return ""


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


def _kink_note(scalar: _Contraction, array: Array, move: Mover, step: float, expected: float) -> str:
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


# ---------------------------------------------------------------------------------------------- small helpers


def _as_arguments(inputs: Any) -> tuple[Any, ...]:
    """The inputs as a tuple, with float64 arrays as leaves and Tensors from a graph cut off from it.

    Memory is shared throughout: what is moved in place is what the function sees.
    """
    arguments = inputs if isinstance(inputs, (tuple, list)) else (inputs,)
    return tuple(_as_argument(x) for x in arguments)


def _as_argument(x: Any) -> Any:
    if isinstance(x, Tensor):
        return x if x.is_leaf else x.detach().requires_grad_()
    if hasattr(x, "dtype") and x.dtype.kind == "f" and hasattr(x, "ndim") and not isinstance(x, np.generic):
        return Tensor(x, requires_grad=True)
    return x


def _named_inputs(function: Callable[..., Any], arguments: Sequence[Array]) -> list[tuple[str, Tensor]]:
    names = _parameter_names(function, len(arguments))
    pairs = zip(names, arguments, strict=True)
    return [(name, x) for name, x in pairs if isinstance(x, Tensor) and x.requires_grad]


def _refuse_inputs(name: str, checked: Sequence[tuple[str, Tensor]]) -> None:
    if not checked:
        raise ValueError(
            f"nothing to check in {name}: no input is a float64 array or a Tensor with requires_grad=True"
        )
    for label, x in checked:
        if x.dtype != np.float64:
            raise TypeError(
                f"{label} of {name} is {x.dtype}, whose difference quotients are good to about three digits; "
                "use float64: x.double(), module.double() or dtype=np.float64"
            )
        if not getattr(x.data.flags, "writeable", True):
            raise ValueError(f"{label} of {name} is a read-only array and cannot be moved; pass a copy of it")


def _parameter_names(function: Callable[..., Any], count: int) -> list[str]:
    """The function's own names for its first arguments, for the table."""
    names: list[str] = []
    try:
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
                names.append(parameter.name)
    except (TypeError, ValueError):  # a callable without a signature
        pass
    return (names + [f"input {i}" for i in range(len(names), count)])[:count]


def _function_name(function: Callable[..., Any]) -> str:
    name = getattr(function, "__name__", type(function).__name__)
    return "function" if name == "<lambda>" else name


def _random_like(array: Array, random: np.random.Generator) -> Any:
    values = np.empty_like(array)
    values[...] = random.standard_normal(array.shape)
    return values


def _numpy(array: Array) -> Array:
    return array if isinstance(array, np.ndarray) else array.get()  # .get() is CuPy's copy to the host


def _largest(array: Array) -> float:
    return float(np.abs(array).max()) if array.size else 0.0


def _ratio(error: float, scale: float) -> float:
    return 0.0 if error == 0 else error / scale if scale else float("inf")


def _index(index: Iterable[Any]) -> str:
    return "[" + ", ".join(str(int(i)) for i in index) + "]"
