"""How everything here is compiled, and how arrays enter compiled code."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np

from minilm_kernels.cache import cache_folder

# Sums may be reordered, so that they run in vector registers, and a·b + c may be fused. What is not allowed is to
# assume that NaN and infinity do not occur: they must reach the output.
FAST = {"contract", "reassoc", "nsz", "arcp", "afn"}


@functools.cache
def _compiled_folder() -> str:
    """Where compiled code is kept. Numba notices a change of the file that a function stands in, but not of the files
    it calls into; so the folder's name holds a digest of all of them."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return str(cache_folder("numba") / digest.hexdigest()[:16])


def _compile(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    def decorate(function: Callable[..., Any]) -> Any:
        before = numba.config.CACHE_DIR
        numba.config.CACHE_DIR = before or _compiled_folder()  # read when a function is decorated
        try:
            return numba.njit(cache=True, nogil=True, error_model="numpy", **options)(function)
        finally:
            numba.config.CACHE_DIR = before

    return decorate


parallel = _compile(parallel=True, fastmath=FAST)
serial = _compile(fastmath=FAST)
# For code whose rounding is the point: (x + 1.5·2²³) − 1.5·2²³ is the nearest integer, not x.
in_this_order = _compile(fastmath={"contract", "nsz"})


def ready(x: Any) -> np.ndarray[Any, Any]:
    """x contiguous and in a type that is computed in: float16 becomes float32."""
    if not isinstance(x, np.ndarray):
        raise TypeError(f"the implementation 'numba' takes NumPy arrays, not {type(x).__module__}.{type(x).__name__}")
    if x.dtype == np.float16:
        return x.astype(np.float32, order="C")
    if x.dtype != np.float32 and x.dtype != np.float64:
        raise TypeError(f"expected float16, float32 or float64, got {x.dtype}")
    return np.asarray(x, order="C")  # unlike ascontiguousarray, it leaves a 0-d array 0-d


def rows(x: Any) -> np.ndarray[Any, Any]:
    """`ready` as a matrix: all axes but the last joined into one."""
    array = ready(x)
    return array.reshape(math.prod(array.shape[:-1]), array.shape[-1])


def narrow(out: np.ndarray[Any, Any], like: Any) -> np.ndarray[Any, Any]:
    """out in the type of `like`."""
    return out if out.dtype == like.dtype else out.astype(like.dtype)


def chunks(items: int, work: int) -> int:
    """Into how many pieces to cut `items` for the threads, each worth the few microseconds that a start costs.

    work: roughly how many elements one item touches.
    """
    wanted = min(4 * numba.get_num_threads(), items, max(1, items * work // 16384))
    return max(1, wanted)
