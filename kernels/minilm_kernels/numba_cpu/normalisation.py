"""Layer norm and RMS norm, a row at a time. The gradients of weight and bias are summed per thread, then over threads
in a fixed order, so that a run repeats to the bit."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from minilm_kernels.numba_cpu.compiled import chunks, narrow, parallel, ready, rows


@parallel
def _layer_forward(x: Any, weight: Any, bias: Any, y: Any, mean: Any, rstd: Any, eps: float, pieces: int) -> None:
    n, width = x.shape
    one = x.dtype.type(1)
    for piece in numba.prange(pieces):
        for i in range(piece * n // pieces, (piece + 1) * n // pieces):
            total = x.dtype.type(0)
            for j in range(width):
                total += x[i, j]
            mu = total / x.dtype.type(width)
            square = x.dtype.type(0)
            for j in range(width):
                centred = x[i, j] - mu
                square += centred * centred
            r = one / np.sqrt(square / x.dtype.type(width) + x.dtype.type(eps))
            for j in range(width):
                y[i, j] = (x[i, j] - mu) * r * weight[j] + bias[j]
            mean[i], rstd[i] = mu, r


@parallel
def _layer_backward(
    dy: Any, x: Any, weight: Any, mean: Any, rstd: Any, dx: Any, dweights: Any, dbiases: Any, pieces: int
) -> None:
    n, width = x.shape
    for piece in numba.prange(pieces):
        dweight, dbias = dweights[piece], dbiases[piece]
        for i in range(piece * n // pieces, (piece + 1) * n // pieces):
            mu, r = mean[i], rstd[i]
            sum_g = x.dtype.type(0)
            sum_gx = x.dtype.type(0)
            for j in range(width):
                normed = (x[i, j] - mu) * r
                g = dy[i, j] * weight[j]
                sum_g += g
                sum_gx += g * normed
                dweight[j] += dy[i, j] * normed
                dbias[j] += dy[i, j]
            sum_g /= x.dtype.type(width)
            sum_gx /= x.dtype.type(width)
            for j in range(width):
                dx[i, j] = r * (dy[i, j] * weight[j] - sum_g - (x[i, j] - mu) * r * sum_gx)


@parallel
def _rms_forward(x: Any, weight: Any, y: Any, rstd: Any, eps: float, pieces: int) -> None:
    n, width = x.shape
    one = x.dtype.type(1)
    for piece in numba.prange(pieces):
        for i in range(piece * n // pieces, (piece + 1) * n // pieces):
            square = x.dtype.type(0)
            for j in range(width):
                square += x[i, j] * x[i, j]
            r = one / np.sqrt(square / x.dtype.type(width) + x.dtype.type(eps))
            for j in range(width):
                y[i, j] = x[i, j] * r * weight[j]
            rstd[i] = r


@parallel
def _rms_backward(dy: Any, x: Any, weight: Any, rstd: Any, dx: Any, dweights: Any, pieces: int) -> None:
    n, width = x.shape
    for piece in numba.prange(pieces):
        dweight = dweights[piece]
        for i in range(piece * n // pieces, (piece + 1) * n // pieces):
            r = rstd[i]
            sum_gx = x.dtype.type(0)
            for j in range(width):
                normed = x[i, j] * r
                sum_gx += dy[i, j] * weight[j] * normed
                dweight[j] += dy[i, j] * normed
            sum_gx /= x.dtype.type(width)
            for j in range(width):
                dx[i, j] = r * (dy[i, j] * weight[j] - x[i, j] * r * sum_gx)


def _parameter(p: Any | None, x: Any, value: float) -> Any:
    return np.full(x.shape[1], value, dtype=x.dtype) if p is None else ready(p).astype(x.dtype, copy=False)


def layer_norm_forward(x: Any, weight: Any | None, bias: Any | None, *, eps: float = 1e-5) -> tuple[Any, Any, Any]:
    """See `contract.layer_norm_forward`."""
    source = rows(x)
    y = np.empty_like(source)
    mean, rstd = np.empty(len(source), source.dtype), np.empty(len(source), source.dtype)
    _layer_forward(
        source, _parameter(weight, source, 1), _parameter(bias, source, 0), y, mean, rstd, eps, chunks(*source.shape)
    )
    lead = (*x.shape[:-1], 1)
    return narrow(y.reshape(x.shape), x), mean.reshape(lead), rstd.reshape(lead)


def layer_norm_backward(dy: Any, x: Any, weight: Any | None, mean: Any, rstd: Any) -> tuple[Any, Any, Any]:
    """See `contract.layer_norm_backward`."""
    source, grad = rows(x), rows(dy)
    pieces = chunks(*source.shape)
    dx = np.empty_like(source)
    dweights, dbiases = np.zeros((2, pieces, source.shape[1]), source.dtype)
    _layer_backward(
        grad, source, _parameter(weight, source, 1), mean.ravel(), rstd.ravel(), dx, dweights, dbiases, pieces
    )
    return narrow(dx.reshape(x.shape), x), narrow(dweights.sum(0), x), narrow(dbiases.sum(0), x)


def rms_norm_forward(x: Any, weight: Any | None, *, eps: float = 1e-6) -> tuple[Any, Any]:
    """See `contract.rms_norm_forward`."""
    source = rows(x)
    y, rstd = np.empty_like(source), np.empty(len(source), source.dtype)
    _rms_forward(source, _parameter(weight, source, 1), y, rstd, eps, chunks(*source.shape))
    return narrow(y.reshape(x.shape), x), rstd.reshape(*x.shape[:-1], 1)


def rms_norm_backward(dy: Any, x: Any, weight: Any | None, rstd: Any) -> tuple[Any, Any]:
    """See `contract.rms_norm_backward`."""
    source, grad = rows(x), rows(dy)
    pieces = chunks(*source.shape)
    dx, dweights = np.empty_like(source), np.zeros((pieces, source.shape[1]), source.dtype)
    _rms_backward(grad, source, _parameter(weight, source, 1), rstd.ravel(), dx, dweights, pieces)
    return narrow(dx.reshape(x.shape), x), narrow(dweights.sum(0), x)
