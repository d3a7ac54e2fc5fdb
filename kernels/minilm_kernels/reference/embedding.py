"""The gradient of looking rows up in a table."""

from __future__ import annotations

from typing import Any

import numpy as np

from minilm_kernels.reference.precision import narrow, widen


def embedding_backward(dout: Any, ids: Any, num_embeddings: int) -> Any:
    """Row i collects dout wherever ids == i; see `contract.embedding_backward`.

    Sorting brings equal ids together, so that each table row is one contiguous sum. `np.add.at` says the same in
    one line, but is several times slower for rows. On a GPU it is one pass of atomic additions, and the only one of
    the two that CuPy takes over from NumPy.
    """
    width = dout.shape[-1]
    wide = widen(dout)
    table = np.zeros_like(wide, shape=(num_embeddings, width))
    flat = ids.reshape(-1)
    if not isinstance(table, np.ndarray):
        np.add.at(table, flat, wide.reshape(flat.size, width))
    elif flat.size and width:
        order = np.argsort(flat, kind="stable")
        ordered = flat[order]
        starts = np.flatnonzero(np.concatenate([ordered[:1] >= 0, ordered[1:] != ordered[:-1]]))
        table[ordered[starts]] = np.add.reduceat(wide.reshape(-1, width)[order], starts, axis=0)
    return narrow(table, dout)
