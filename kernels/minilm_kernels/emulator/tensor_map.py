"""A tensor map for the emulator: which array, and which boxes of it a copy takes."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

MAGIC = 0x6D6C6D61
_SWIZZLES = {0: 0, 128: 1, 64: 2, 32: 3}  # bytes: the number that a matrix descriptor has for it


@dataclass(frozen=True, eq=False)
class TensorMap:
    """What a kernel takes as `const __grid_constant__ TensorMap`.

    array    two or three axes, contiguous along the last
    box      elements along each axis that one copy takes
    swizzle  bytes of the pattern in which the box stands in shared memory: 0, 32, 64 or 128
    """

    array: np.ndarray
    box: tuple[int, ...]
    swizzle: int

    def pack(self, address: int) -> bytes:
        """The 128 bytes of `struct TensorMap` in include/hopper.h, for an array that stands at `address`."""
        missing = 3 - self.array.ndim
        size = (*self.array.shape[::-1], *[1] * missing)
        step = (*self.array.strides[::-1], *[0] * missing)
        box = (*self.box[::-1], *[1] * missing)
        head = struct.pack("<QIIII", address, MAGIC, self.array.ndim, self.array.itemsize, _SWIZZLES[self.swizzle])
        return (head + struct.pack("<3I3I3Q", *size, *box, *step)).ljust(128, b"\0")
