"""Matrix product: the output is cut into pieces, each a one-threaded BLAS call; the bias is added while the piece is in
the cache."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from minilm_kernels.numba_cpu.blas import gemm, gemm_address
from minilm_kernels.numba_cpu.compiled import narrow, parallel


@parallel
def _product(
    address: int, a: Any, b: Any, out: Any, bias: Any, trans_a: bool, trans_b: bool, row_pieces: int, column_pieces: int
) -> None:
    """out[i] = op(a[i]) op(b[i]) + bias for stacks of matrices; a and b of length 1 serve all i."""
    count, m, n = out.shape
    k = a.shape[1] if trans_a else a.shape[2]
    size = out.itemsize
    one, zero = out.dtype.type(1), out.dtype.type(0)
    per_matrix = row_pieces * column_pieces
    for task in numba.prange(count * per_matrix):
        i = task // per_matrix
        row_piece, column_piece = (task % per_matrix) // column_pieces, task % column_pieces
        r0, r1 = row_piece * m // row_pieces, (row_piece + 1) * m // row_pieces
        c0, c1 = column_piece * n // column_pieces, (column_piece + 1) * n // column_pieces
        at, bt = a[i if a.shape[0] > 1 else 0], b[i if b.shape[0] > 1 else 0]
        a_start = at.ctypes.data + size * (r0 if trans_a else r0 * at.shape[1])
        b_start = bt.ctypes.data + size * (c0 * bt.shape[1] if trans_b else c0)
        c_start = out[i].ctypes.data + size * (r0 * n + c0)
        beta = zero
        if bias.size:
            beta = one
            for r in range(r0, r1):
                for c in range(c0, c1):
                    out[i, r, c] = bias[c]
        gemm(
            address, trans_a, trans_b, r1 - r0, c1 - c0, k, one, a_start, at.shape[1], b_start, bt.shape[1], beta,
            c_start, n,
        )  # fmt: skip


def _stored(x: Any, transposed: bool) -> tuple[Any, bool]:
    """x as BLAS can read it, contiguous either as it is or as its transpose, and whether it is transposed now."""
    if x.dtype == np.float16:
        x = x.astype(np.float32)
    if x.dtype != np.float32 and x.dtype != np.float64:
        raise TypeError(f"expected float16, float32 or float64, got {x.dtype}")
    if not x.flags.c_contiguous and x.swapaxes(-1, -2).flags.c_contiguous:
        return x.swapaxes(-1, -2), not transposed
    return np.ascontiguousarray(x), transposed


def matmul(
    a: Any, b: Any, *, transpose_a: bool = False, transpose_b: bool = False, bias: Any | None = None
) -> Any:
    """See `contract.matmul`."""
    left, transpose_a = _stored(a, transpose_a)
    right, transpose_b = _stored(b, transpose_b)
    if left.dtype != right.dtype:
        common = np.result_type(left, right)
        left, right = left.astype(common), right.astype(common)
    m, k = left.shape[-2:][:: -1 if transpose_a else 1]
    k_right, n = right.shape[-2:][:: -1 if transpose_b else 1]
    if k != k_right:
        raise ValueError(f"matmul: {k} columns meet {k_right} rows, in {a.shape} and {b.shape}")
    batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    out = np.empty((*batch, m, n), left.dtype)
    offset = np.empty(0, left.dtype) if bias is None else np.ascontiguousarray(bias, dtype=left.dtype)
    if not out.size or not k:
        out[...] = 0 if bias is None else offset
        return narrow(out, a)

    if right.ndim == 2 and not transpose_a:  # one tall product
        lefts, rights, outs = left.reshape(1, -1, k), right[None], out.reshape(1, -1, n)
    else:
        lefts, rights, outs = _stack(left, batch), _stack(right, batch), out.reshape(-1, m, n)
    count, tall, wide = outs.shape
    pieces = _pieces(count, tall, wide, k)
    by_rows = tall >= wide
    _product(
        gemm_address(left.dtype), lefts, rights, outs, offset, transpose_a, transpose_b,
        pieces if by_rows else 1, 1 if by_rows else pieces,
    )  # fmt: skip
    return narrow(out, a)


def _stack(x: Any, batch: tuple[int, ...]) -> Any:
    """x as a stack of matrices (count, rows, columns): one for each batch entry, or a single one for all."""
    matrix = x.shape[-2:]
    if x.size == matrix[0] * matrix[1]:
        return x.reshape(1, *matrix)
    return np.ascontiguousarray(np.broadcast_to(x, (*batch, *matrix))).reshape(-1, *matrix)


def _pieces(count: int, m: int, n: int, k: int) -> int:
    """Into how many pieces to cut each product: one a thread, unless it is small or there are many of them."""
    threads = numba.get_num_threads()
    if count >= 2 * threads or m * n * k < 2**17:
        return 1
    return min(threads, max(m, n))
