"""GELU, its derivative and the error function: one read, one write."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

from minilm_kernels.numba_cpu.compiled import chunks, narrow, parallel, ready, serial
from minilm_kernels.numba_cpu.special import erf as erf_of
from minilm_kernels.numba_cpu.special import exp, tanh

_SQRT_HALF = math.sqrt(0.5)
_SQRT_2_OVER_PI = math.sqrt(2 / math.pi)
_INVERSE_SQRT_2PI = 1 / math.sqrt(2 * math.pi)


@serial
def gelu_tanh(x: Any) -> Any:
    """x/2 · (1 + tanh(√(2/π)(x + 0.044715 x³))) of one number."""
    half, one = type(x)(0.5), type(x)(1)
    return half * x * (one + tanh(type(x)(_SQRT_2_OVER_PI) * (x + type(x)(0.044715) * x * x * x)))


@serial
def gelu_exact(x: Any) -> Any:
    """x · Φ(x) of one number."""
    return type(x)(0.5) * x * (type(x)(1) + erf_of(x * type(x)(_SQRT_HALF)))


@serial
def gelu_tanh_slope(x: Any) -> Any:
    """The derivative of `gelu_tanh`."""
    half, one = type(x)(0.5), type(x)(1)
    square = x * x
    t = tanh(type(x)(_SQRT_2_OVER_PI) * (x + type(x)(0.044715) * square * x))
    inner = type(x)(_SQRT_2_OVER_PI) * (one + type(x)(3 * 0.044715) * square)
    return half * (one + t) + half * x * (one - t * t) * inner


@serial
def gelu_exact_slope(x: Any) -> Any:
    """The derivative of `gelu_exact`: Φ(x) + x φ(x)."""
    half, one = type(x)(0.5), type(x)(1)
    cdf = half * (one + erf_of(x * type(x)(_SQRT_HALF)))
    return cdf + x * exp(-half * x * x) * type(x)(_INVERSE_SQRT_2PI)


@parallel
def _forward(x: Any, y: Any, is_tanh: bool, pieces: int) -> None:
    n = x.size
    for piece in numba.prange(pieces):
        if is_tanh:
            for i in range(piece * n // pieces, (piece + 1) * n // pieces):
                y[i] = gelu_tanh(x[i])
        else:
            for i in range(piece * n // pieces, (piece + 1) * n // pieces):
                y[i] = gelu_exact(x[i])


@parallel
def _backward(dy: Any, x: Any, dx: Any, is_tanh: bool, pieces: int) -> None:
    n = x.size
    for piece in numba.prange(pieces):
        if is_tanh:
            for i in range(piece * n // pieces, (piece + 1) * n // pieces):
                dx[i] = dy[i] * gelu_tanh_slope(x[i])
        else:
            for i in range(piece * n // pieces, (piece + 1) * n // pieces):
                dx[i] = dy[i] * gelu_exact_slope(x[i])


@parallel
def _erf(x: Any, y: Any, pieces: int) -> None:
    n = x.size
    for piece in numba.prange(pieces):
        for i in range(piece * n // pieces, (piece + 1) * n // pieces):
            y[i] = erf_of(x[i])


def _check(approximate: str) -> bool:
    if approximate not in ("none", "tanh"):
        raise ValueError(f"approximate must be 'none' (exact) or 'tanh' (GPT-2's form), not {approximate!r}")
    return approximate == "tanh"


def gelu_forward(x: Any, *, approximate: str = "none") -> Any:
    """See `contract.gelu_forward`."""
    is_tanh, source = _check(approximate), ready(x)
    y = np.empty_like(source)
    _forward(source.reshape(-1), y.reshape(-1), is_tanh, chunks(source.size, 4))
    return narrow(y, x)


def gelu_backward(dy: Any, x: Any, *, approximate: str = "none") -> Any:
    """See `contract.gelu_backward`."""
    is_tanh, source = _check(approximate), ready(x)
    dx = np.empty_like(source)
    _backward(ready(dy).reshape(-1), source.reshape(-1), dx.reshape(-1), is_tanh, chunks(source.size, 4))
    return narrow(dx, x)


def erf(x: Any) -> Any:
    """See `contract.erf`."""
    source = ready(x)
    y = np.empty_like(source)
    _erf(source.reshape(-1), y.reshape(-1), chunks(source.size, 4))
    return narrow(y, x)
