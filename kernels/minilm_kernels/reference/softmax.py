"""Softmax over the last axis."""

from __future__ import annotations

from typing import Any

import numpy as np

from minilm_kernels.reference.precision import narrow, widen


def softmax_forward(x: Any) -> Any:
    """`exp(x − max x) / Σ exp(x − max x)`; see `contract.softmax_forward`."""
    if x.size == 0:
        return np.zeros_like(x)
    wide = widen(x)
    largest = np.max(wide, axis=-1, keepdims=True)
    # A row of −inf alone has no largest finite value; subtracting 0 leaves exp(−inf) = 0 everywhere.
    largest = np.where(np.isneginf(largest), 0, largest)
    y = np.exp(wide - largest)
    total = np.sum(y, axis=-1, keepdims=True)
    y /= np.where(total == 0, 1, total)
    return narrow(y, x)


def softmax_backward(dy: Any, y: Any) -> Any:
    """`y ⊙ (dy − Σ dy y)`; see `contract.softmax_backward`."""
    wide_dy, wide_y = widen(dy), widen(y)
    dx = wide_dy - np.sum(wide_dy * wide_y, axis=-1, keepdims=True)
    dx *= wide_y
    return narrow(dx, y)
