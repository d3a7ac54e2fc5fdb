"""From many numbers to few: sum, mean, variance, largest and smallest, log-sum-exp, cumulative sum."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from minilm.ops.arithmetic import floats, require_floats
from minilm.ops.axes import Axes, normalise, normalise_all, one_name
from minilm.ops.indexing import gather
from minilm.tensor import Array, Tensor, apply, define


class ValuesAndIndices(NamedTuple):
    """What `max(dim)` and `min(dim)` return: the values, and where along the axis they stand."""

    values: Tensor
    indices: Tensor


def _expanded(grad: Array, axes: tuple[int, ...], keepdim: bool) -> Array:
    """Give the reduced axes back to grad, with size 1, so that it broadcasts against the input."""
    return grad if keepdim else np.expand_dims(grad, axes)


def sum_forward(x: Array, *, axes: tuple[int, ...], keepdim: bool) -> tuple[Array, tuple[Any, ...]]:
    return np.sum(x, axis=axes, keepdims=keepdim), (x.shape, axes, keepdim)


def sum_backward(saved: tuple[Any, ...], grad: Array) -> tuple[Array]:
    shape, axes, keepdim = saved
    return (np.broadcast_to(_expanded(grad, axes, keepdim), shape),)


def mean_forward(x: Array, *, axes: tuple[int, ...], keepdim: bool) -> tuple[Array, tuple[Any, ...]]:
    count = int(np.prod([x.shape[a] for a in axes]))
    total = np.sum(x, axis=axes, keepdims=keepdim)
    return total / count if count else total * np.nan, (x.shape, axes, keepdim, count)


def mean_backward(saved: tuple[Any, ...], grad: Array) -> tuple[Array]:
    shape, axes, keepdim, count = saved
    return (np.broadcast_to(_expanded(grad, axes, keepdim) / (count or 1), shape),)


def var_forward(
    x: Array, *, axes: tuple[int, ...], keepdim: bool, correction: int
) -> tuple[Array, tuple[Any, ...]]:
    count = int(np.prod([x.shape[a] for a in axes]))
    centred = x - np.sum(x, axis=axes, keepdims=True) / (count or 1)
    total = np.sum(centred * centred, axis=axes, keepdims=keepdim)
    divisor = count - correction
    return total / divisor if divisor > 0 else total * np.nan, (centred, axes, keepdim, divisor)


def var_backward(saved: tuple[Any, ...], grad: Array) -> tuple[Array]:
    centred, axes, keepdim, divisor = saved
    scale = 2 / divisor if divisor > 0 else np.nan
    return (_expanded(grad, axes, keepdim) * centred * scale,)


def std_forward(
    x: Array, *, axes: tuple[int, ...], keepdim: bool, correction: int
) -> tuple[Array, tuple[Any, ...]]:
    variance, saved = var_forward(x, axes=axes, keepdim=keepdim, correction=correction)
    out = np.sqrt(variance)
    return out, (out, *saved)


def std_backward(saved: tuple[Any, ...], grad: Array) -> tuple[Array]:
    """Zero where all numbers are equal: on that corner every slope from −1/√n to 1/√n would do."""
    out, centred, axes, keepdim, divisor = saved
    slope = np.where(out == 0, 0, grad / np.where(out == 0, 1, out)).astype(grad.dtype)
    return (_expanded(slope, axes, keepdim) * centred * (1 / divisor if divisor > 0 else np.nan),)


def amax_forward(x: Array, *, axes: tuple[int, ...], keepdim: bool) -> tuple[Array, tuple[Any, ...]]:
    out = np.max(x, axis=axes, keepdims=True)
    return (out if keepdim else np.squeeze(out, axis=axes)), (x, out, axes, keepdim)


def amin_forward(x: Array, *, axes: tuple[int, ...], keepdim: bool) -> tuple[Array, tuple[Any, ...]]:
    out = np.min(x, axis=axes, keepdims=True)
    return (out if keepdim else np.squeeze(out, axis=axes)), (x, out, axes, keepdim)


def extreme_backward(saved: tuple[Any, ...], grad: Array) -> tuple[Array]:
    """Equal winners share the gradient evenly."""
    x, out, axes, keepdim = saved
    winners = x == out
    return (winners * (_expanded(grad, axes, keepdim) / np.sum(winners, axis=axes, keepdims=True)),)


def logsumexp_forward(x: Array, *, axes: tuple[int, ...], keepdim: bool) -> tuple[Array, tuple[Any, ...]]:
    if x.size:
        largest = np.max(x, axis=axes, keepdims=True)
        largest = np.where(np.isinf(largest), 0, largest).astype(x.dtype)
    else:  # nothing is the largest (`initial=` would say so, but CuPy does not know it)
        largest = np.zeros_like(x, shape=tuple(1 if i in axes else n for i, n in enumerate(x.shape)))
    with np.errstate(divide="ignore"):  # nothing to add up: log 0 = −inf
        out = largest + np.log(np.sum(np.exp(x - largest), axis=axes, keepdims=True))
    return (out if keepdim else np.squeeze(out, axis=axes)), (x, out, axes, keepdim)


def logsumexp_backward(saved: tuple[Any, ...], grad: Array) -> tuple[Array]:
    x, out, axes, keepdim = saved
    return (_expanded(grad, axes, keepdim) * np.exp(x - np.where(np.isneginf(out), 0, out)),)


def cumsum_forward(x: Array, *, dim: int) -> tuple[Array, tuple[Any, ...]]:
    return np.cumsum(x, axis=dim), (dim,)


def cumsum_backward(saved: tuple[Any, ...], grad: Array) -> tuple[Array]:
    (dim,) = saved
    return (np.flip(np.cumsum(np.flip(grad, dim), axis=dim), dim),)


SUM = define("sum", sum_forward, sum_backward)
MEAN = define("mean", mean_forward, mean_backward)
VAR = define("var", var_forward, var_backward)
STD = define("std", std_forward, std_backward)
AMAX = define("amax", amax_forward, extreme_backward)
AMIN = define("amin", amin_forward, extreme_backward)
LOGSUMEXP = define("logsumexp", logsumexp_forward, logsumexp_backward)
CUMSUM = define("cumsum", cumsum_forward, cumsum_backward)


def _reduce(operation: Any, x: Tensor, dim: Axes, keepdim: bool, axis: Axes, keepdims: bool, **more: Any) -> Tensor:
    axes = normalise_all(one_name(dim, axis), x.ndim)
    return apply(operation, x, axes=axes, keepdim=bool(keepdim or keepdims), **more)


def sum(x: Tensor, dim: Axes = None, keepdim: bool = False, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """The sum over the given axes, or over everything."""
    return _reduce(SUM, x, dim, keepdim, axis, keepdims)


def mean(x: Tensor, dim: Axes = None, keepdim: bool = False, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """The arithmetic mean over the given axes, or over everything. Floats only; of nothing it is NaN."""
    require_floats(x, "mean")
    return _reduce(MEAN, x, dim, keepdim, axis, keepdims)


def var(
    x: Tensor,
    dim: Axes = None,
    unbiased: bool = True,
    keepdim: bool = False,
    *,
    correction: int | None = None,
    axis: Axes = None,
    keepdims: bool = False,
) -> Tensor:
    """The variance Σ(x − μ)²/(n − correction). As in PyTorch it is the unbiased one (correction 1) unless asked."""
    require_floats(x, "var")
    divisor_correction = (1 if unbiased else 0) if correction is None else correction
    return _reduce(VAR, x, dim, keepdim, axis, keepdims, correction=divisor_correction)


def std(
    x: Tensor,
    dim: Axes = None,
    unbiased: bool = True,
    keepdim: bool = False,
    *,
    correction: int | None = None,
    axis: Axes = None,
    keepdims: bool = False,
) -> Tensor:
    """The standard deviation, the square root of `var`; its gradient is zero where all numbers are equal."""
    require_floats(x, "std")
    divisor_correction = (1 if unbiased else 0) if correction is None else correction
    return _reduce(STD, x, dim, keepdim, axis, keepdims, correction=divisor_correction)


def amax(x: Tensor, dim: Axes = None, keepdim: bool = False, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """The largest element over the axes; equal ones share the gradient evenly."""
    return _reduce(AMAX, x, dim, keepdim, axis, keepdims)


def amin(x: Tensor, dim: Axes = None, keepdim: bool = False, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """The smallest element over the axes; equal ones share the gradient evenly."""
    return _reduce(AMIN, x, dim, keepdim, axis, keepdims)


def max(
    x: Tensor, dim: int | None = None, keepdim: bool = False, *, axis: int | None = None, keepdims: bool = False
) -> Any:
    """The largest element of all; or with a dim, as in PyTorch, `(values, indices)` along it."""
    return _extreme(x, dim, keepdim, axis, keepdims, amax, argmax)


def min(
    x: Tensor, dim: int | None = None, keepdim: bool = False, *, axis: int | None = None, keepdims: bool = False
) -> Any:
    """The smallest element of all; or with a dim, as in PyTorch, `(values, indices)` along it."""
    return _extreme(x, dim, keepdim, axis, keepdims, amin, argmin)


def _extreme(x: Tensor, dim: Any, keepdim: bool, axis: Any, keepdims: bool, whole: Any, arg: Any) -> Any:
    where = one_name(dim, axis)
    if x.data.size == 0:
        raise ValueError(f"the largest or smallest element of an empty tensor {x.shape} does not exist")
    if where is None:
        return whole(x)
    if not isinstance(where, int):
        raise TypeError("max and min take one dim; amax and amin take several")
    keep = bool(keepdim or keepdims)
    if x.ndim == 0:
        return ValuesAndIndices(x, Tensor._wrap(np.zeros_like(x.data, dtype=np.int64)))
    indices = arg(x, dim=where, keepdim=True)
    values = gather(x, where, indices)
    if not keep:
        position = normalise(where, x.ndim)
        values, indices = values.squeeze(position), indices.squeeze(position)
    return ValuesAndIndices(values, indices)


def _arg(function: Any, x: Tensor, dim: Any, keepdim: bool, axis: Any) -> Tensor:
    where = one_name(dim, axis)
    if where is None:
        return Tensor._wrap(np.asarray(function(x.data), like=x.data))
    found = function(x.data, axis=normalise(where, x.ndim))  # type: ignore[arg-type]
    if keepdim:
        found = np.expand_dims(found, normalise(where, x.ndim))  # type: ignore[arg-type]
    return Tensor._wrap(np.asarray(found, like=x.data))


def argmax(
    x: Tensor, dim: int | None = None, keepdim: bool = False, *, axis: int | None = None, keepdims: bool = False
) -> Tensor:
    """Where the largest element stands (the first of equals): along a dim, or in the flattened tensor."""
    return _arg(np.argmax, x, dim, keepdim or keepdims, axis)


def argmin(
    x: Tensor, dim: int | None = None, keepdim: bool = False, *, axis: int | None = None, keepdims: bool = False
) -> Tensor:
    """Where the smallest element stands (the first of equals): along a dim, or in the flattened tensor."""
    return _arg(np.argmin, x, dim, keepdim or keepdims, axis)


def logsumexp(
    x: Tensor, dim: Axes = None, keepdim: bool = False, *, axis: Axes = None, keepdims: bool = False
) -> Tensor:
    """log Σ exp(x) without overflow: the largest element is taken out first."""
    return _reduce(LOGSUMEXP, floats(x), dim, keepdim, axis, keepdims)


def cumsum(x: Tensor, dim: int | None = None, *, axis: int | None = None) -> Tensor:
    """The running sum along a dim."""
    dim = one_name(dim, axis)  # type: ignore[assignment]
    if dim is None:
        raise TypeError("cumsum needs the axis to sum along: cumsum(x, dim=0)")
    return apply(CUMSUM, x, dim=normalise(dim, x.ndim))
