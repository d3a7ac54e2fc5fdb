"""The gradient of a look-up. Each thread owns a range of table rows and adds what falls into it, in order: no two
threads write one row, and a run repeats to the bit."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from minilm_kernels.numba_cpu.compiled import narrow, parallel, rows


@parallel
def _collect(dout: Any, ids: Any, table: Any, pieces: int) -> None:
    n, width = dout.shape
    total = table.shape[0]
    for piece in numba.prange(pieces):
        first, last = piece * total // pieces, (piece + 1) * total // pieces
        for i in range(n):
            row = ids[i]
            if first <= row < last:
                for j in range(width):
                    table[row, j] += dout[i, j]


def embedding_backward(dout: Any, ids: Any, num_embeddings: int) -> Any:
    """See `contract.embedding_backward`."""
    grad = rows(dout)
    table = np.zeros((num_embeddings, grad.shape[1]), grad.dtype)
    flat = np.ascontiguousarray(ids.reshape(-1), dtype=np.int64)
    if flat.size:
        _collect(grad, flat, table, min(numba.get_num_threads(), num_embeddings))
    return narrow(table, dout)
