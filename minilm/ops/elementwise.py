"""Functions of one number, applied to each element."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minilm import kernels
from minilm.ops.arithmetic import floats
from minilm.tensor import Array, Tensor, apply, define

# --- exp, log, sqrt, sin, cos


def exp_forward(x: Array) -> tuple[Array, tuple[Any, ...]]:
    out = np.exp(x)
    return out, (out,)


def exp_backward(saved: tuple[Any, ...], grad: Array) -> tuple[Array]:
    (out,) = saved
    return (grad * out,)


def log_forward(x: Array) -> tuple[Array, tuple[Any, ...]]:
    return np.log(x), (x,)


def log_backward(saved: tuple[Any, ...], grad: Array) -> tuple[Array]:
    (x,) = saved
    return (grad / x,)


def sqrt_forward(x: Array) -> tuple[Array, tuple[Any, ...]]:
    out = np.sqrt(x)
    return out, (out,)


def sqrt_backward(saved: tuple[Any, ...], grad: Array) -> tuple[Array]:
    (out,) = saved
    return (grad / (2 * out),)


def sin_forward(x: Array) -> tuple[Array, tuple[Any, ...]]:
    return np.sin(x), (x,)


def sin_backward(saved: tuple[Any, ...], grad: Array) -> tuple[Array]:
    (x,) = saved
    return (grad * np.cos(x),)


def cos_forward(x: Array) -> tuple[Array, tuple[Any, ...]]:
    return np.cos(x), (x,)


def cos_backward(saved: tuple[Any, ...], grad: Array) -> tuple[Array]:
    (x,) = saved
    return (-grad * np.sin(x),)


# --- the squashing functions


def tanh_forward(x: Array) -> tuple[Array, tuple[Any, ...]]:
    out = np.tanh(x)
    return out, (out,)


def tanh_backward(saved: tuple[Any, ...], grad: Array) -> tuple[Array]:
    (out,) = saved
    return (grad * (1 - out * out),)


def sigmoid_array(x: Array) -> Array:
    """1/(1 + e^−x) as (1 + tanh(x/2))/2, which cannot overflow."""
    return 0.5 * (1 + np.tanh(0.5 * x))


def sigmoid_forward(x: Array) -> tuple[Array, tuple[Any, ...]]:
    out = sigmoid_array(x)
    return out, (out,)


def sigmoid_backward(saved: tuple[Any, ...], grad: Array) -> tuple[Array]:
    (out,) = saved
    return (grad * out * (1 - out),)


def erf_forward(x: Array) -> tuple[Array, tuple[Any, ...]]:
    return kernels.erf(x), (x,)


def erf_backward(saved: tuple[Any, ...], grad: Array) -> tuple[Array]:
    (x,) = saved
    return (grad * (2 / math.sqrt(math.pi)) * np.exp(-x * x),)


# --- the activations


def relu_forward(x: Array) -> tuple[Array, tuple[Any, ...]]:
    out = np.maximum(x, 0)
    return out, (out,)


def relu_backward(saved: tuple[Any, ...], grad: Array) -> tuple[Array]:
    (out,) = saved
    return (grad * (out > 0),)


def gelu_forward(x: Array, *, approximate: str) -> tuple[Array, tuple[Any, ...]]:
    return kernels.gelu_forward(x, approximate=approximate), (x, approximate)


def gelu_backward(saved: tuple[Any, ...], grad: Array) -> tuple[Array]:
    x, approximate = saved
    return (kernels.gelu_backward(grad, x, approximate=approximate),)


def silu_forward(x: Array) -> tuple[Array, tuple[Any, ...]]:
    gate = sigmoid_array(x)
    return x * gate, (x, gate)


def silu_backward(saved: tuple[Any, ...], grad: Array) -> tuple[Array]:
    x, gate = saved
    return (grad * gate * (1 + x * (1 - gate)),)


def clip_forward(x: Array, *, low: float | None, high: float | None) -> tuple[Array, tuple[Any, ...]]:
    return np.clip(x, low, high), (x, low, high)


def clip_backward(saved: tuple[Any, ...], grad: Array) -> tuple[Array]:
    x, low, high = saved
    inside = (x >= low if low is not None else True) & (x <= high if high is not None else True)
    return (grad * inside,)


EXP = define("exp", exp_forward, exp_backward)
LOG = define("log", log_forward, log_backward)
SQRT = define("sqrt", sqrt_forward, sqrt_backward)
SIN = define("sin", sin_forward, sin_backward)
COS = define("cos", cos_forward, cos_backward)
TANH = define("tanh", tanh_forward, tanh_backward)
SIGMOID = define("sigmoid", sigmoid_forward, sigmoid_backward)
ERF = define("erf", erf_forward, erf_backward)
RELU = define("relu", relu_forward, relu_backward)
GELU = define("gelu", gelu_forward, gelu_backward)
SILU = define("silu", silu_forward, silu_backward)
CLIP = define("clip", clip_forward, clip_backward)


def exp(x: Tensor) -> Tensor:
    """eˣ."""
    return apply(EXP, floats(x))


def log(x: Tensor) -> Tensor:
    """The natural logarithm."""
    return apply(LOG, floats(x))


def sqrt(x: Tensor) -> Tensor:
    """√x."""
    return apply(SQRT, floats(x))


def sin(x: Tensor) -> Tensor:
    """The sine of x in radians."""
    return apply(SIN, floats(x))


def cos(x: Tensor) -> Tensor:
    """The cosine of x in radians."""
    return apply(COS, floats(x))


def tanh(x: Tensor) -> Tensor:
    """The hyperbolic tangent."""
    return apply(TANH, floats(x))


def sigmoid(x: Tensor) -> Tensor:
    """σ(x) = 1/(1 + e^−x)."""
    return apply(SIGMOID, floats(x))


def erf(x: Tensor) -> Tensor:
    """The error function 2/√π ∫₀ˣ exp(−t²) dt."""
    return apply(ERF, floats(x))


def relu(x: Tensor) -> Tensor:
    """max(x, 0); the gradient at 0 is 0."""
    return apply(RELU, x)


def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """x · Φ(x) (Hendrycks & Gimpel 2016): exact ("none"), or GPT-2's form with a tanh ("tanh")."""
    return apply(GELU, floats(x), approximate=approximate)


def silu(x: Tensor) -> Tensor:
    """x · σ(x), also called swish (Elfwing et al. 2018)."""
    return apply(SILU, floats(x))


def clip(x: Tensor, min: float | None = None, max: float | None = None) -> Tensor:
    """x held between min and max; no gradient where it was cut off."""
    if min is None and max is None:
        raise ValueError("clip needs min, max or both")
    if isinstance(min, float) or isinstance(max, float):
        x = floats(x)
    return apply(CLIP, x, low=min, high=max)
