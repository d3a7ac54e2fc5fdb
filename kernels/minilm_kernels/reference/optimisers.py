"""The AdamW update and the global norm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np


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
    """One update in place; see `contract.adamw`."""
    if param.dtype == np.float16:
        raise TypeError("adamw keeps parameters in float32 or float64; got float16: update a float32 copy of them")
    if weight_decay:
        param *= 1 - lr * weight_decay
    m *= beta1
    m += (1 - beta1) * grad
    v *= beta2
    v += (1 - beta2) * (grad * grad)
    # m̂/(√v̂ + eps) with both corrections moved out of the arrays.
    denominator = np.sqrt(v)
    denominator /= math.sqrt(1 - beta2**step)
    denominator += eps
    update = m / denominator
    update *= lr / (1 - beta1**step)
    param -= update


def global_norm(arrays: Sequence[Any]) -> float:
    """√(Σ x²) over everything; see `contract.global_norm`."""
    total = 0.0
    for array in arrays:
        flat = array.reshape(-1)
        # Through float64 a block at a time: a square can overflow float32, and the sum of many loses digits there.
        for start in range(0, flat.size, 65536):
            block = flat[start : start + 65536].astype(np.float64)
            total += float(np.dot(block, block))
    return math.sqrt(total)
