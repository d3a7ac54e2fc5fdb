"""Sixteen-bit floats are computed in float32 and returned in their own type."""

from __future__ import annotations

from typing import Any

import numpy as np


def widen(x: Any) -> Any:
    """x in the type to compute in: float16 becomes float32, anything else stays."""
    return x.astype(np.float32) if x.dtype == np.float16 else x


def narrow(x: Any, like: Any) -> Any:
    """x in the type of `like`."""
    return x if x.dtype == like.dtype else x.astype(like.dtype)
