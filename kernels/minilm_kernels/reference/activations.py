"""GELU and its derivative, in the exact form and in the tanh form of GPT-2."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minilm_kernels.reference.precision import narrow, widen
from minilm_kernels.reference.special import erf

_SQRT_HALF = math.sqrt(0.5)
_SQRT_2_OVER_PI = math.sqrt(2 / math.pi)
_INVERSE_SQRT_2PI = 1 / math.sqrt(2 * math.pi)


def _check(approximate: str) -> None:
    if approximate not in ("none", "tanh"):
        raise ValueError(f"approximate must be 'none' (exact) or 'tanh' (GPT-2's form), not {approximate!r}")


def _gpt2_tanh(x: Any) -> Any:
    """tanh(√(2/π) · (x + 0.044715 x³)), in one buffer: on arrays of this size NumPy's time goes into fresh memory."""
    u = x * x
    u *= 0.044715
    u += 1
    u *= x
    u *= _SQRT_2_OVER_PI
    return np.tanh(u, out=u)


def gelu_forward(x: Any, *, approximate: str = "none") -> Any:
    """x · Φ(x); see `contract.gelu_forward`."""
    _check(approximate)
    wide = widen(x)
    y = erf(wide * _SQRT_HALF) if approximate == "none" else _gpt2_tanh(wide)
    y += 1
    y *= wide
    y *= 0.5
    return narrow(y, x)


def gelu_backward(dy: Any, x: Any, *, approximate: str = "none") -> Any:
    """dy · gelu'(x); see `contract.gelu_backward`."""
    _check(approximate)
    if x.ndim == 0:  # NumPy makes scalars of 0-d arrays, and the buffers below must be arrays
        return gelu_backward(dy.reshape(1), x.reshape(1), approximate=approximate).reshape(())
    wide = widen(x)
    if approximate == "none":
        # d/dx x·Φ(x) = Φ(x) + x·φ(x), with the normal density φ.
        slope = erf(wide * _SQRT_HALF)
        slope += 1
        slope *= 0.5
        density = wide * wide
        density *= -0.5
        density = np.exp(density, out=density)
        density *= wide
        density *= _INVERSE_SQRT_2PI
        slope += density
    else:
        # With u = √(2/π)(x + 0.044715 x³) and t = tanh u:  d/dx x/2·(1 + t) = ½·(1 + t + x·(1 − t²)·u').
        t = _gpt2_tanh(wide)
        du = wide * wide
        du *= 3 * 0.044715
        du += 1
        du *= _SQRT_2_OVER_PI
        slope = t * t
        slope -= 1  # −(1 − t²)
        slope *= wide
        slope *= du
        t += 1
        slope = np.subtract(t, slope, out=slope)
        slope *= 0.5
    slope *= widen(dy)
    return narrow(slope, x)
