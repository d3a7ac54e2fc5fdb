"""AdamW in one pass over its four arrays, and the global norm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numba
import numpy as np

from minilm_kernels.numba_cpu.compiled import chunks, parallel


@parallel
def _update(
    param: Any, grad: Any, m: Any, v: Any, decay: float, beta1: float, beta2: float, root: float, eps: float,
    rate: float, pieces: int,
) -> None:  # fmt: skip
    n = param.size
    number = param.dtype.type
    keep, b1, b2 = number(decay), number(beta1), number(beta2)
    a1, a2 = number(1 - beta1), number(1 - beta2)
    inverse_root, small, lr = number(root), number(eps), number(rate)
    for piece in numba.prange(pieces):
        for i in range(piece * n // pieces, (piece + 1) * n // pieces):
            g = grad[i]
            first = b1 * m[i] + a1 * g
            second = b2 * v[i] + a2 * g * g
            m[i], v[i] = first, second
            param[i] = param[i] * keep - lr * first / (np.sqrt(second) * inverse_root + small)


def adamw(
    param: Any,
    grad: Any,
    m: Any,
    v: Any,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    step: int,
) -> None:
    """See `contract.adamw`."""
    if param.dtype == np.float16:
        raise TypeError("adamw keeps parameters in float32 or float64; got float16: update a float32 copy of them")
    for name, array in (("param", param), ("m", m), ("v", v)):
        if not array.flags.c_contiguous:
            raise ValueError(f"adamw updates in place and needs {name} contiguous; got strides {array.strides}")
    _update(
        param.reshape(-1), np.ascontiguousarray(grad).reshape(-1), m.reshape(-1), v.reshape(-1),
        1 - lr * weight_decay, beta1, beta2, 1 / math.sqrt(1 - beta2**step), eps, lr / (1 - beta1**step),
        chunks(param.size, 4),
    )  # fmt: skip


@parallel
def _sum_of_squares(x: Any, partial: Any) -> None:
    n, pieces = x.size, partial.size
    for piece in numba.prange(pieces):
        start, stop = piece * n // pieces, (piece + 1) * n // pieces
        total = 0.0
        for i in range(start, stop):
            wide = np.float64(x[i])
            total += wide * wide
        partial[piece] = total


def global_norm(arrays: Sequence[Any]) -> float:
    """See `contract.global_norm`."""
    total = 0.0
    for array in arrays:
        flat = np.ascontiguousarray(array).reshape(-1)
        if flat.dtype == np.float16:
            flat = flat.astype(np.float32)
        partial = np.zeros(chunks(flat.size, 1))
        _sum_of_squares(flat, partial)
        total += float(partial.sum())
    return math.sqrt(total)
