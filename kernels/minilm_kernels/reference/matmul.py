"""Matrix product. The one operation NumPy hands to a BLAS library."""

from __future__ import annotations

import math
from typing import Any

from minilm_kernels.reference.precision import narrow, widen


def matmul(
    a: Any, b: Any, *, transpose_a: bool = False, transpose_b: bool = False, bias: Any | None = None
) -> Any:
    """`op(a) @ op(b) + bias`; see `contract.matmul`."""
    left, right = widen(a), widen(b)
    if transpose_a:
        left = left.swapaxes(-1, -2)
    if transpose_b:
        right = right.swapaxes(-1, -2)
    if right.ndim == 2 and left.ndim > 2 and not transpose_a:
        # One large product instead of a loop over small ones: (..., M, K) is (…·M, K) when b is shared.
        rows = left.reshape(math.prod(left.shape[:-1]), left.shape[-1])
        out = (rows @ right).reshape(*left.shape[:-1], right.shape[-1])
    else:
        out = left @ right
    if bias is not None:
        out += widen(bias)
    return narrow(out, a)
