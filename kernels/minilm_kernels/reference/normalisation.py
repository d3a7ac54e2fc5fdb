"""Layer norm and RMS norm over the last axis."""

from __future__ import annotations

from typing import Any

import numpy as np

from minilm_kernels.reference.precision import narrow, widen


def layer_norm_forward(x: Any, weight: Any | None, bias: Any | None, *, eps: float = 1e-5) -> tuple[Any, Any, Any]:
    """`(x − μ)/sqrt(σ² + eps) ⊙ weight + bias`; see `contract.layer_norm_forward`."""
    wide = widen(x)
    mean = np.mean(wide, axis=-1, keepdims=True)
    y = wide - mean
    rstd = 1 / np.sqrt(np.mean(y * y, axis=-1, keepdims=True) + eps)
    y *= rstd
    if weight is not None:
        y *= weight
    if bias is not None:
        y += bias
    return narrow(y, x), mean, rstd


def layer_norm_backward(dy: Any, x: Any, weight: Any | None, mean: Any, rstd: Any) -> tuple[Any, Any, Any]:
    """dx, dweight, dbias; see `contract.layer_norm_backward`."""
    wide_dy = widen(dy)
    normed = (widen(x) - mean) * rstd
    rows = tuple(range(dy.ndim - 1))
    dweight = np.sum(wide_dy * normed, axis=rows)
    dbias = np.sum(wide_dy, axis=rows)
    g = wide_dy if weight is None else wide_dy * weight
    dx = g - np.mean(g, axis=-1, keepdims=True)
    normed *= np.mean(g * normed, axis=-1, keepdims=True)
    dx -= normed
    dx *= rstd
    return narrow(dx, x), narrow(dweight, x), narrow(dbias, x)


def rms_norm_forward(x: Any, weight: Any | None, *, eps: float = 1e-6) -> tuple[Any, Any]:
    """`x / sqrt(mean(x²) + eps) ⊙ weight`; see `contract.rms_norm_forward`."""
    wide = widen(x)
    rstd = 1 / np.sqrt(np.mean(wide * wide, axis=-1, keepdims=True) + eps)
    y = wide * rstd
    if weight is not None:
        y *= weight
    return narrow(y, x), rstd


def rms_norm_backward(dy: Any, x: Any, weight: Any | None, rstd: Any) -> tuple[Any, Any]:
    """dx, dweight; see `contract.rms_norm_backward`."""
    wide_dy = widen(dy)
    normed = widen(x) * rstd
    dweight = np.sum(wide_dy * normed, axis=tuple(range(dy.ndim - 1)))
    g = wide_dy if weight is None else wide_dy * weight
    dx = g - normed * np.mean(g * normed, axis=-1, keepdims=True)
    dx *= rstd
    return narrow(dx, x), narrow(dweight, x)
