"""Softmax over the last axis, a row at a time."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from minilm_kernels.numba_cpu.compiled import chunks, narrow, parallel, rows
from minilm_kernels.numba_cpu.special import exp


@parallel
def _forward(x: Any, y: Any, pieces: int) -> None:
    n, width = x.shape
    zero = x.dtype.type(0)
    for piece in numba.prange(pieces):
        for i in range(piece * n // pieces, (piece + 1) * n // pieces):
            largest = x[i, 0]
            for j in range(width):
                largest = max(largest, x[i, j])
            largest = zero if largest == -np.inf else largest
            total = zero
            for j in range(width):
                e = exp(x[i, j] - largest)
                y[i, j] = e
                total += e
            inverse = 1 / (total if total != 0 else x.dtype.type(1))
            for j in range(width):
                y[i, j] *= inverse


@parallel
def _backward(dy: Any, y: Any, dx: Any, pieces: int) -> None:
    n, width = y.shape
    for piece in numba.prange(pieces):
        for i in range(piece * n // pieces, (piece + 1) * n // pieces):
            total = y.dtype.type(0)
            for j in range(width):
                total += dy[i, j] * y[i, j]
            for j in range(width):
                dx[i, j] = y[i, j] * (dy[i, j] - total)


def softmax_forward(x: Any) -> Any:
    """See `contract.softmax_forward`."""
    source = rows(x)
    y = np.empty_like(source)
    if y.size:
        _forward(source, y, chunks(*source.shape))
    return narrow(y.reshape(x.shape), x)


def softmax_backward(dy: Any, y: Any) -> Any:
    """See `contract.softmax_backward`."""
    source, grad = rows(y), rows(dy)
    dx = np.empty_like(source)
    if dx.size:
        _backward(grad, source, dx, chunks(*source.shape))
    return narrow(dx.reshape(y.shape), y)
