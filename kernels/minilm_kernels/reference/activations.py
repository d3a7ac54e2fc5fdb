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


def gelu_forward(x: Any, *, approximate: str = "none") -> Any:
    """x · Φ(x); see `contract.gelu_forward`."""
    _check(approximate)
    wide = widen(x)
    if approximate == "none":
        y = erf(wide * _SQRT_HALF)
    else:
        y = np.tanh(_SQRT_2_OVER_PI * (wide + 0.044715 * (wide * wide * wide)))
    y += 1
    y *= 0.5 * wide
    return narrow(y, x)


def gelu_backward(dy: Any, x: Any, *, approximate: str = "none") -> Any:
    """dy · gelu'(x); see `contract.gelu_backward`."""
    _check(approximate)
    wide = widen(x)
    square = wide * wide
    if approximate == "none":
        # d/dx x·Φ(x) = Φ(x) + x·φ(x), with the normal density φ.
        slope = 0.5 * (1 + erf(wide * _SQRT_HALF)) + wide * (np.exp(-0.5 * square) * _INVERSE_SQRT_2PI)
    else:
        # u = √(2/π)(x + 0.044715 x³);  d/dx x/2·(1 + tanh u) = (1 + tanh u)/2 + x/2·(1 − tanh² u)·u'
        t = np.tanh(_SQRT_2_OVER_PI * (wide + 0.044715 * (square * wide)))
        inner = _SQRT_2_OVER_PI * (1 + 3 * 0.044715 * square)
        slope = 0.5 * (1 + t) + 0.5 * wide * (1 - t * t) * inner
    return narrow(slope * widen(dy), x)
