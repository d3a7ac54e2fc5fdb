"""Arithmetic with broadcasting: + − × ÷, powers, absolute value, the larger and the smaller of two, type casts.

Where a size-1 or missing axis of an operand was repeated to fit the other, its gradient is the sum over the repeats:
`unbroadcast` undoes what broadcasting did.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minilm.tensor import DEFAULT_DTYPE, Array, Tensor, apply, define

Operand = Any  # a Tensor, an array, or a Python number


def unbroadcast(grad: Array, shape: tuple[int, ...]) -> Array:
    """Sum grad over the axes along which an array of this shape was broadcast."""
    if grad.shape == tuple(shape):
        return grad
    extra = grad.ndim - len(shape)
    axes = tuple(range(extra)) + tuple(i + extra for i, n in enumerate(shape) if n == 1 and grad.shape[i + extra] != 1)
    return np.sum(grad, axis=axes, keepdims=True).reshape(shape)


def operands(a: Operand, b: Operand) -> tuple[Operand, Operand]:
    """a and b in types that meet as in PyTorch: next to floats, integers take the float's type."""
    a, b = _operand(a), _operand(b)
    kind_a, kind_b = _kind(a), _kind(b)
    if kind_a != "f" and kind_b == "f":
        a = _like(a, b)
    elif kind_a == "f" and kind_b != "f":
        b = _like(b, a)
    return a, b


def _operand(x: Operand) -> Operand:
    if isinstance(x, (Tensor, int, float, bool)):  # np.float64 is a float: as weak as a Python number
        return float(x) if isinstance(x, np.floating) else x
    if isinstance(x, np.generic):
        return x.item()
    return Tensor(x)


def _kind(x: Operand) -> str:
    if isinstance(x, Tensor):
        return x.dtype.kind
    return "f" if isinstance(x, float) else "i"


def _like(x: Operand, other: Operand) -> Operand:
    """The integer operand x as floats of the type of `other` (the default type for a Python float)."""
    if not isinstance(x, Tensor):
        return x
    return cast(x, other.dtype if isinstance(other, Tensor) else DEFAULT_DTYPE)


def _shape(x: Any) -> tuple[int, ...]:
    return getattr(x, "shape", ())


# --- a + b, a − b


def add_forward(a: Array, b: Array) -> tuple[Array, tuple[Any, ...]]:
    return a + b, (_shape(a), _shape(b))


def add_backward(
    saved: tuple[Any, ...], grad: Array, needs: tuple[bool, ...]
) -> tuple[Array | None, Array | None]:
    shape_a, shape_b = saved
    return unbroadcast(grad, shape_a) if needs[0] else None, unbroadcast(grad, shape_b) if needs[1] else None


def sub_forward(a: Array, b: Array) -> tuple[Array, tuple[Any, ...]]:
    return a - b, (_shape(a), _shape(b))


def sub_backward(
    saved: tuple[Any, ...], grad: Array, needs: tuple[bool, ...]
) -> tuple[Array | None, Array | None]:
    shape_a, shape_b = saved
    return unbroadcast(grad, shape_a) if needs[0] else None, -unbroadcast(grad, shape_b) if needs[1] else None


# --- a · b, a / b


def mul_forward(a: Array, b: Array) -> tuple[Array, tuple[Any, ...]]:
    return a * b, (a, b)


def mul_backward(
    saved: tuple[Any, ...], grad: Array, needs: tuple[bool, ...]
) -> tuple[Array | None, Array | None]:
    a, b = saved
    da = unbroadcast(grad * b, _shape(a)) if needs[0] else None
    db = unbroadcast(grad * a, _shape(b)) if needs[1] else None
    return da, db


def div_forward(a: Array, b: Array) -> tuple[Array, tuple[Any, ...]]:
    return a / b, (a, b)


def div_backward(
    saved: tuple[Any, ...], grad: Array, needs: tuple[bool, ...]
) -> tuple[Array | None, Array | None]:
    a, b = saved
    over_b = grad / b
    da = unbroadcast(over_b, _shape(a)) if needs[0] else None
    db = unbroadcast(-over_b * (a / b), _shape(b)) if needs[1] else None
    return da, db


# --- −a, |a|, type casts


def neg_forward(a: Array) -> tuple[Array, tuple[Any, ...]]:
    return -a, ()


def neg_backward(saved: tuple[Any, ...], grad: Array) -> tuple[Array]:
    return (-grad,)


def abs_forward(a: Array) -> tuple[Array, tuple[Any, ...]]:
    return np.abs(a), (a,)


def abs_backward(saved: tuple[Any, ...], grad: Array) -> tuple[Array]:
    (a,) = saved
    return (grad * np.sign(a),)


def cast_forward(a: Array, *, dtype: Any) -> tuple[Array, tuple[Any, ...]]:
    return a.astype(dtype), ()


def cast_backward(saved: tuple[Any, ...], grad: Array) -> tuple[Array]:
    return (grad,)  # the engine returns it in the type of the input


def clone_forward(a: Array) -> tuple[Array, tuple[Any, ...]]:
    return a.copy(), ()


# --- a ** b


def pow_forward(a: Array, b: Array) -> tuple[Array, tuple[Any, ...]]:
    # NumPy has no fast path for a cube: x·x·x is about a hundred times faster than x ** 3.
    out = a * a * a if isinstance(b, (int, float)) and b == 3 else a**b
    return out, (a, b, out)


def pow_backward(
    saved: tuple[Any, ...], grad: Array, needs: tuple[bool, ...]
) -> tuple[Array | None, Array | None]:
    a, b, out = saved
    da = db = None
    if needs[0]:  # b · a^(b−1), with 0 for b = 0 even where a = 0
        if isinstance(b, (int, float)):
            slope = b * (a if b == 2 else a * a if b == 3 else a ** (b - 1)) if b != 0 else np.zeros_like(a)
        else:
            slope = np.where(b == 0, 0, b * a ** np.where(b == 0, 1, b - 1))
        da = unbroadcast(grad * slope, _shape(a))
    if needs[1]:  # a^b · log a, with 0 where a = 0 ≤ b
        if isinstance(a, (int, float)):
            a = np.full_like(b, a)
        flat = (a == 0) & (b >= 0)
        log_a = np.log(np.where(flat, 1, a).astype(out.dtype))
        db = unbroadcast(grad * np.where(flat, 0, out * log_a), _shape(b))
    return da, db


# --- max(a, b), min(a, b)


def maximum_forward(a: Array, b: Array) -> tuple[Array, tuple[Any, ...]]:
    return np.maximum(a, b), (a, b, 1)


def minimum_forward(a: Array, b: Array) -> tuple[Array, tuple[Any, ...]]:
    return np.minimum(a, b), (a, b, -1)


def extremum_backward(saved: tuple[Any, ...], grad: Array) -> tuple[Array, Array]:
    """The gradient goes to the operand that was chosen; a tie shares it half and half."""
    a, b, sign = saved
    # 1 where a was chosen, 0 for a tie, −1 where b was; np.sign(a − b) would be NaN where both are infinite
    lead = sign * (np.greater(a, b) * 1.0 - np.less(a, b))
    return unbroadcast(grad * (1 + lead) / 2, _shape(a)), unbroadcast(grad * (1 - lead) / 2, _shape(b))


ADD = define("add", add_forward, add_backward)
SUB = define("sub", sub_forward, sub_backward)
MUL = define("mul", mul_forward, mul_backward)
DIV = define("div", div_forward, div_backward)
NEG = define("neg", neg_forward, neg_backward)
ABS = define("abs", abs_forward, abs_backward)
CAST = define("cast", cast_forward, cast_backward)
CLONE = define("clone", clone_forward, cast_backward)
POW = define("pow", pow_forward, pow_backward)
MAXIMUM = define("maximum", maximum_forward, extremum_backward)
MINIMUM = define("minimum", minimum_forward, extremum_backward)


def add(a: Operand, b: Operand) -> Tensor:
    """a + b."""
    return apply(ADD, *operands(a, b))


def sub(a: Operand, b: Operand) -> Tensor:
    """a − b."""
    return apply(SUB, *operands(a, b))


def mul(a: Operand, b: Operand) -> Tensor:
    """a · b, elementwise."""
    return apply(MUL, *operands(a, b))


def div(a: Operand, b: Operand) -> Tensor:
    """a / b, elementwise; integers divide to floats."""
    a, b = operands(a, b)
    if _kind(a) != "f" and _kind(b) != "f":
        a, b = _like(a, 1.0), _like(b, 1.0)
    return apply(DIV, a, b)


def neg(a: Tensor) -> Tensor:
    """−a."""
    return apply(NEG, a)


def abs(a: Tensor) -> Tensor:
    """|a|; the gradient at 0 is 0."""
    return apply(ABS, a)


def pow(a: Operand, b: Operand) -> Tensor:
    """a to the power b. The gradient with respect to b needs a ≥ 0."""
    return apply(POW, *operands(a, b))


def maximum(a: Operand, b: Operand) -> Tensor:
    """The larger of a and b, elementwise; a tie shares the gradient. NaN wins."""
    return apply(MAXIMUM, *operands(a, b))


def minimum(a: Operand, b: Operand) -> Tensor:
    """The smaller of a and b, elementwise; a tie shares the gradient. NaN wins."""
    return apply(MINIMUM, *operands(a, b))


def cast(a: Tensor, dtype: Any) -> Tensor:
    """a in another type; the gradient comes back in the type of a."""
    dtype = np.dtype(dtype)
    if a.dtype == dtype:
        return a
    if dtype.kind != "f":  # integers carry no gradient
        return Tensor._wrap(a.data.astype(dtype))
    return apply(CAST, a, dtype=dtype)


def clone(a: Tensor) -> Tensor:
    """A copy with memory of its own, part of the graph."""
    return apply(CLONE, a)


def one_type(*tensors: Tensor | None) -> list[Any]:
    """All in the widest of their float types, as the elementwise operations do it; integers join the floats."""
    types = {t.dtype for t in tensors if t is not None}
    if len(types) == 1:
        return list(tensors)
    floats = [t for t in types if t.kind == "f"]
    widest = np.result_type(*(floats or types))
    return [None if t is None else cast(t, widest) for t in tensors]


def floats(x: Tensor) -> Tensor:
    """x itself if it holds floats, otherwise its values in the default float type, as PyTorch's functions take them."""
    return x if x.dtype.kind == "f" else cast(x, DEFAULT_DTYPE)


def require_floats(x: Tensor, name: str) -> None:
    """TypeError, with what to do, for an operation that has no meaning on integers."""
    if x.dtype.kind != "f":
        raise TypeError(f"{name} needs floats, and this tensor holds {x.dtype}: convert it with x.float()")
