"""Tensor maps: how Hopper's copy engine learns the shape of an array, and which boxes of it to bring.

`check` holds what the hardware demands, for the GPU and the emulator alike; `encode` asks the driver for the 128 bytes
that the GPU understands (CUDA driver API, cuTensorMapEncodeTiled). Not yet run on a GPU.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import numpy as np

SWIZZLES = {0: 0, 32: 1, 64: 2, 128: 3}  # bytes: CUtensorMapSwizzle
_TYPES = {"uint8": 0, "uint16": 1, "uint32": 2, "int32": 3, "uint64": 4, "int64": 5}
_TYPES |= {"float16": 6, "float32": 7, "float64": 8, "bfloat16": 9}  # CUtensorMapDataType
_L2_PROMOTION_128B = 2


def check(array: Any, box: tuple[int, ...], swizzle: int) -> None:
    """Raise ValueError, with the rule, where the hardware could not copy such boxes of such an array."""
    if array.ndim not in (2, 3) or len(box) != array.ndim:
        raise ValueError(f"a tensor map takes 2 or 3 axes and a box of as many; got {array.shape} and {box}")
    if swizzle not in SWIZZLES:
        raise ValueError(f"swizzle is 0, 32, 64 or 128 bytes, not {swizzle}")
    inner = box[-1] * array.itemsize
    if any(not 1 <= b <= 256 for b in box) or inner % 16 or (swizzle and inner > swizzle):
        limit = f"at most the {swizzle} bytes of the swizzle and " if swizzle else ""
        raise ValueError(f"a box has 1 to 256 elements an axis, and rows of {limit}a multiple of 16 bytes; got {box}")
    if array.strides[-1] != array.itemsize or any(s % 16 for s in array.strides[:-1]):
        raise ValueError(
            f"the rows of the array have to be contiguous and to begin at multiples of 16 bytes; the strides are "
            f"{array.strides}: lengthen the rows with zeros first"
        )
    if 0 in array.shape:
        raise ValueError(f"a tensor map of an empty array: {array.shape}")


def encode(array: Any, box: tuple[int, ...], swizzle: int) -> np.ndarray:
    """The tensor map of a CuPy array, as a NumPy array of one element that CuPy passes to a kernel by value."""
    check(array, box, swizzle)
    if array.ndim == 2:  # the copies of hopper.cuh have three coordinates
        shape, strides, box = (1, *array.shape), (array.shape[0] * array.strides[0], *array.strides), (1, *box)
    else:
        shape, strides = array.shape, array.strides
    storage = np.zeros(256, np.uint8)  # NumPy aligns to 16 bytes, the driver demands 64 (newer headers 128)
    start = -storage.ctypes.data % 128
    made = storage[start : start + 128].view("V128")
    status = _driver().cuTensorMapEncodeTiled(
        ctypes.c_void_p(made.ctypes.data),
        ctypes.c_int(_TYPES[np.dtype(array.dtype).name]),
        ctypes.c_uint32(3),
        ctypes.c_void_p(array.data.ptr),
        (ctypes.c_uint64 * 3)(*shape[::-1]),
        (ctypes.c_uint64 * 2)(*strides[-2::-1]),
        (ctypes.c_uint32 * 3)(*box[::-1]),
        (ctypes.c_uint32 * 3)(1, 1, 1),
        ctypes.c_int(0),  # no interleave
        ctypes.c_int(SWIZZLES[swizzle]),
        ctypes.c_int(_L2_PROMOTION_128B),
        ctypes.c_int(0),  # zeros outside of the array
    )
    if status:
        raise RuntimeError(
            f"the CUDA driver refused a tensor map of {array.shape} {array.dtype}, box {box}, swizzle {swizzle}: "
            f"CUresult {status}"
        )
    return made


def _driver() -> Any:
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        return ctypes.CDLL(name)
    except OSError as error:
        raise RuntimeError(f"the CUDA driver ({name}) cannot be loaded: {error}") from error
