"""Softmax and the norms: operations that bring a row to a common scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minilm import kernels
from minilm.ops.arithmetic import floats, require_floats
from minilm.ops.axes import normalise, one_name
from minilm.tensor import Array, Tensor, apply, define


def softmax_forward(x: Array) -> tuple[Array, tuple[Any, ...]]:
    out = kernels.softmax_forward(x)
    return out, (out,)


def softmax_backward(saved: tuple[Any, ...], grad: Array) -> tuple[Array]:
    (out,) = saved
    return (kernels.softmax_backward(grad, out),)


def log_softmax_forward(x: Array) -> tuple[Array, tuple[Any, ...]]:
    if x.size == 0:
        return x.copy(), (x,)
    shifted = x - np.max(x, axis=-1, keepdims=True)
    out = shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))
    return out, (out,)


def log_softmax_backward(saved: tuple[Any, ...], grad: Array) -> tuple[Array]:
    (out,) = saved
    return (grad - np.exp(out) * np.sum(grad, axis=-1, keepdims=True),)


def layer_norm_forward(
    x: Array, weight: Array | None, bias: Array | None, *, eps: float
) -> tuple[Array, tuple[Any, ...]]:
    out, mean, rstd = kernels.layer_norm_forward(x, weight, bias, eps=eps)
    return out, (x, weight, mean, rstd)


def layer_norm_backward(saved: tuple[Any, ...], grad: Array) -> tuple[Array, Array, Array]:
    x, weight, mean, rstd = saved
    return kernels.layer_norm_backward(grad, x, weight, mean, rstd)


def rms_norm_forward(x: Array, weight: Array | None, *, eps: float) -> tuple[Array, tuple[Any, ...]]:
    out, rstd = kernels.rms_norm_forward(x, weight, eps=eps)
    return out, (x, weight, rstd)


def rms_norm_backward(saved: tuple[Any, ...], grad: Array) -> tuple[Array, Array]:
    x, weight, rstd = saved
    return kernels.rms_norm_backward(grad, x, weight, rstd)


SOFTMAX = define("softmax", softmax_forward, softmax_backward)
LOG_SOFTMAX = define("log_softmax", log_softmax_forward, log_softmax_backward)
LAYER_NORM = define("layer_norm", layer_norm_forward, layer_norm_backward)
RMS_NORM = define("rms_norm", rms_norm_forward, rms_norm_backward)


def _along(operation: Any, x: Tensor, dim: int | None, axis: int | None, name: str) -> Tensor:
    """Run an operation on the last axis along another one."""
    where = one_name(dim, axis)
    if not isinstance(where, int):
        raise TypeError(f"{name} needs the axis that sums to one: {name}(x, dim=-1)")
    x = floats(x)
    if x.ndim == 0:
        return apply(operation, x.reshape(1)).reshape(())
    where = normalise(where, x.ndim)
    if where == x.ndim - 1:
        return apply(operation, x)
    return apply(operation, x.transpose(where, -1)).transpose(where, -1)


def softmax(x: Tensor, dim: int | None = None, *, axis: int | None = None) -> Tensor:
    """exp(x_i)/Σ_j exp(x_j) along an axis: positive numbers that sum to one. A row of −inf alone gives zeros."""
    return _along(SOFTMAX, x, dim, axis, "softmax")


def log_softmax(x: Tensor, dim: int | None = None, *, axis: int | None = None) -> Tensor:
    """x − log Σ exp(x) along an axis: the logarithm of softmax, without rounding small probabilities to zero."""
    return _along(LOG_SOFTMAX, x, dim, axis, "log_softmax")


def _flattened(x: Tensor, normalized_shape: int | Sequence[int] | None, *parameters: Tensor | None) -> Any:
    """The trailing axes to normalise over joined into one, and the parameters with them."""
    shape = x.shape[-1:] if normalized_shape is None else normalized_shape
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    if not shape or x.shape[x.ndim - len(shape) :] != shape:
        raise ValueError(f"normalized_shape {shape} must be the last axes of the input, whose shape is {x.shape}")
    for p in parameters:
        if p is not None and p.shape != shape:
            raise ValueError(f"weight and bias must have shape {shape}, got {p.shape}")
    if len(shape) == 1:
        return x, *parameters
    return x.flatten(-len(shape)), *(None if p is None else p.flatten() for p in parameters)


def layer_norm(
    x: Tensor,
    normalized_shape: int | Sequence[int] | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """(x − μ)/√(σ² + eps) · weight + bias over the last axes (Ba et al. 2016); σ² is the biased variance."""
    require_floats(x, "layer_norm")
    rows, flat_weight, flat_bias = _flattened(x, normalized_shape, weight, bias)
    return apply(LAYER_NORM, rows, flat_weight, flat_bias, eps=eps).reshape(x.shape)


def rms_norm(
    x: Tensor,
    normalized_shape: int | Sequence[int] | None = None,
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """x/√(mean(x²) + eps) · weight over the last axes (Zhang & Sennrich 2019). eps None: the type's machine epsilon."""
    require_floats(x, "rms_norm")
    rows, flat_weight = _flattened(x, normalized_shape, weight)
    small = float(np.finfo(x.dtype).eps) if eps is None else eps
    return apply(RMS_NORM, rows, flat_weight, eps=small).reshape(x.shape)
