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
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minilm.gradcheck.differences import (
    STEP,
    Contraction,
    Probe,
    Settings,
    evaluate,
    exhaustive,
    index_text,
    on_host,
    projection,
)
from minilm.gradcheck.report import GradcheckError, GradcheckResult, InputCheck
from minilm.tensor import Array, Tensor, grad

EXHAUSTIVE_LIMIT = 256  # elements of all inputs together up to which "auto" moves every one of them


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
    outputs = evaluate(function, name)
    cotangents = [_random_like(out.data, random) for out in outputs]
    scalar = Contraction(function, name, cotangents)
    scalar.refuse_randomness([out.data for out in outputs])
    problem = ""
    if not all(np.isfinite(on_host(out.data)).all() for out in outputs):
        problem = "the output itself is not finite"
    gradients, error = _backward(outputs, [x for _, x in checked], cotangents)
    if error is not None:
        problem = f"backward raised {type(error).__name__}: {error}"

    checks = []
    for (label, x), gradient in zip(checked, gradients, strict=True):
        trouble = problem or _problem(gradient, x.shape)
        if trouble:
            probe = Probe.failed(trouble)
        elif mode == "exhaustive":
            probe = exhaustive(scalar, x, gradient, settings)
        else:
            probe = projection(scalar, x, gradient, settings, random)
        passed = bool(probe.relative <= settings.tolerance)  # NaN is not
        checks.append(
            InputCheck(name, label, x.shape, mode, probe.count, probe.max_abs, probe.relative, passed, probe.note)
        )
    result = GradcheckResult(name, tuple(checks), settings.tolerance, settings.seed)
    if raise_exception and not result:
        raise GradcheckError(result) from error
    return result


# ------------------------------------------------------------------------------------------- what is compared


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
        return f"the gradient is {gradient[where]} at {index_text(where)} ({int(bad.sum())} elements are not finite)"
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
