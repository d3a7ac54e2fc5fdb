"""Philox4x32-10: random bits as a pure function of a counter and a key (Salmon et al. 2011, "Parallel random
numbers: as easy as 1, 2, 3").

No state and no order: the bits of row r, column c are the same whoever computes them, whenever. This is what lets a
kernel drop attention probabilities tile by tile, and lets the backward pass draw the same mask again.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_MULTIPLIER_0, _MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL_0, _WEYL_1 = 0x9E3779B9, 0xBB67AE85
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


def philox4x32(counter: tuple[Any, Any, Any, Any], key: tuple[int, int], rounds: int = 10) -> tuple[Any, Any, Any, Any]:
    """Four 32-bit words for each counter of four 32-bit words (arrays that broadcast; results are uint64 arrays)."""
    c0, c1, c2, c3 = (np.asarray(c).astype(np.uint64) for c in counter)
    key0, key1 = key
    for _ in range(rounds):
        product0, product1 = _MULTIPLIER_0 * c0, _MULTIPLIER_1 * c2
        c0, c1, c2, c3 = (
            (product1 >> _SHIFT) ^ c1 ^ np.uint64(key0),
            product1 & _LOW,
            (product0 >> _SHIFT) ^ c3 ^ np.uint64(key1),
            product0 & _LOW,
        )
        key0, key1 = (key0 + _WEYL_0) & 0xFFFFFFFF, (key1 + _WEYL_1) & 0xFFFFFFFF
    return c0, c1, c2, c3


def keep_mask(heads: int, rows: int, columns: int, dropout_p: float, seed: int) -> Any:
    """Which attention probabilities survive dropout: bool (heads, rows, columns), heads counting b·Hq + h.

    The word for (head, row, column) is word column % 4 of Philox at counter (column // 4, row, head, 0) under the
    64-bit key `seed`; the place is kept when word ≥ dropout_p · 2³².
    """
    blocks = -(-columns // 4)
    words = philox4x32(
        (
            np.arange(blocks)[None, None, :],
            np.arange(rows)[None, :, None],
            np.arange(heads)[:, None, None],
            np.zeros((1, 1, 1), dtype=np.uint64),
        ),
        (seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF),
    )
    stacked = np.stack(np.broadcast_arrays(*words), axis=-1).reshape(heads, rows, blocks * 4)
    return stacked[:, :, :columns] >= np.uint64(round(dropout_p * 2**32))
