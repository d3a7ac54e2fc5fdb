"""Attention in tiles (Dao et al. 2022): a tile of queries meets one tile of keys after another. The T × T matrix never
exists, tiles that the causal mask removes are never computed, and memory grows linearly in T. (With dropout, one byte
for each probability says which survive, and a bias is as large as its caller made it.)

The two products of a tile are BLAS calls; the softmax between them runs on a tile that is in the cache.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

from minilm_kernels.numba_cpu.blas import gemm, gemm_address
from minilm_kernels.numba_cpu.compiled import narrow, parallel, serial
from minilm_kernels.numba_cpu.special import exp
from minilm_kernels.philox import keep_mask

QUERY_TILE, KEY_TILE = 64, 128


@serial
def _mask_tile(
    s: Any, rows: int, columns: int, i0: int, j0: int, offset: int, causal: bool, mask: Any, bias: Any, b: int, h: int
) -> None:
    """Add the bias to a tile of scores and write −inf where a query may not look. offset = Tk − Tq."""
    hidden = s.dtype.type(-np.inf)
    if bias.size:
        bias_b, bias_h = b if bias.shape[0] > 1 else 0, h if bias.shape[1] > 1 else 0
        for r in range(rows):
            bias_r = i0 + r if bias.shape[2] > 1 else 0
            for c in range(columns):
                s[r, c] += bias[bias_b, bias_h, bias_r, j0 + c if bias.shape[3] > 1 else 0]
    if mask.size:
        for c in range(columns):
            if not mask[b, j0 + c]:
                for r in range(rows):
                    s[r, c] = hidden
    if causal and j0 + columns - 1 > i0 + offset:
        for r in range(rows):
            for c in range(max(0, i0 + r + offset + 1 - j0), columns):
                s[r, c] = hidden


@parallel
def _forward(
    address: int, q: Any, k: Any, v: Any, mask: Any, bias: Any, keep: Any, keep_scale: float, scale: float,
    causal: bool, out: Any, lse: Any,
) -> None:  # fmt: skip
    heads, tq, d = q.shape[1:]
    kv_heads, tk = k.shape[1:3]
    dv = v.shape[3]
    group, offset, size = heads // kv_heads, tk - tq, q.itemsize
    number = out.dtype.type
    tiles = -(-tq // QUERY_TILE)
    for task in numba.prange(q.shape[0] * heads * tiles):
        # The last tiles have the most keys under a causal mask: they go first, so that no thread is left with one.
        tile = tiles - 1 - task // (q.shape[0] * heads)
        b, h = task % (q.shape[0] * heads) // heads, task % heads
        i0 = tile * QUERY_TILE
        rows = min(QUERY_TILE, tq - i0)
        s = np.empty((QUERY_TILE, KEY_TILE), out.dtype)
        o = np.zeros((QUERY_TILE, dv), out.dtype)
        largest = np.full(QUERY_TILE, -np.inf, out.dtype)
        total = np.zeros(QUERY_TILE, out.dtype)
        q_start = q[b, h].ctypes.data + i0 * q.strides[2]
        end = min(tk, i0 + rows + offset) if causal else tk
        for j0 in range(0, end, KEY_TILE):
            columns = min(KEY_TILE, end - j0)
            k_start = k[b, h // group].ctypes.data + j0 * k.strides[2]
            gemm(address, False, True, rows, columns, d, number(scale), q_start, q.strides[2] // size, k_start,
                 k.strides[2] // size, number(0), s.ctypes.data, KEY_TILE)  # fmt: skip
            _mask_tile(s, rows, columns, i0, j0, offset, causal, mask, bias, b, h)
            for r in range(rows):
                top = largest[r]
                for c in range(columns):
                    top = max(top, s[r, c])
                finite = number(0) if top == -np.inf else top
                shrink = exp(largest[r] - finite)
                largest[r] = top
                added = number(0)
                for c in range(columns):
                    e = exp(s[r, c] - finite)
                    s[r, c] = e
                    added += e
                total[r] = total[r] * shrink + added
                for c in range(dv):
                    o[r, c] *= shrink
                if keep.size:
                    for c in range(columns):
                        s[r, c] *= number(keep_scale) if keep[b * heads + h, i0 + r, j0 + c] else number(0)
            v_start = v[b, h // group].ctypes.data + j0 * v.strides[2]
            gemm(address, False, False, rows, dv, columns, number(1), s.ctypes.data, KEY_TILE, v_start,
                 v.strides[2] // size, number(1), o.ctypes.data, dv)  # fmt: skip
        for r in range(rows):
            inverse = number(1) / (total[r] if total[r] != 0 else number(1))
            for c in range(dv):
                out[b, h, i0 + r, c] = o[r, c] * inverse
            seen = number(0) if largest[r] == -np.inf else largest[r]
            lse[b, h, i0 + r] = seen + np.log(total[r])


@parallel
def _backward(
    address: int, dout: Any, q: Any, k: Any, v: Any, out: Any, lse: Any, mask: Any, bias: Any, keep: Any,
    keep_scale: float, scale: float, causal: bool, dq: Any, dk: Any, dv: Any, dbias: Any,
) -> None:  # fmt: skip
    heads, tq, d = q.shape[1:]
    kv_heads, tk = k.shape[1:3]
    width = v.shape[3]
    group, offset, size = heads // kv_heads, tk - tq, q.itemsize
    number = out.dtype.type
    for task in numba.prange(q.shape[0] * kv_heads):  # one thread owns a key head: no two write the same dk
        b, g = task // kv_heads, task % kv_heads
        s = np.empty((QUERY_TILE, KEY_TILE), out.dtype)
        ds = np.empty((QUERY_TILE, KEY_TILE), out.dtype)
        delta = np.empty(QUERY_TILE, out.dtype)
        for h in range(g * group, (g + 1) * group):
            for i0 in range(0, tq, QUERY_TILE):
                rows = min(QUERY_TILE, tq - i0)
                for r in range(rows):
                    total = number(0)
                    for c in range(width):
                        total += dout[b, h, i0 + r, c] * out[b, h, i0 + r, c]
                    delta[r] = total
                q_start = q[b, h].ctypes.data + i0 * q.strides[2]
                do_start = dout[b, h].ctypes.data + i0 * dout.strides[2]
                dq_start = dq[b, h].ctypes.data + i0 * dq.strides[2]
                end = min(tk, i0 + rows + offset) if causal else tk
                for j0 in range(0, end, KEY_TILE):
                    columns = min(KEY_TILE, end - j0)
                    k_start = k[b, g].ctypes.data + j0 * k.strides[2]
                    v_start = v[b, g].ctypes.data + j0 * v.strides[2]
                    gemm(address, False, True, rows, columns, d, number(scale), q_start, q.strides[2] // size, k_start,
                         k.strides[2] // size, number(0), s.ctypes.data, KEY_TILE)  # fmt: skip
                    _mask_tile(s, rows, columns, i0, j0, offset, causal, mask, bias, b, h)
                    gemm(address, False, True, rows, columns, width, number(1), do_start, dout.strides[2] // size,
                         v_start, v.strides[2] // size, number(0), ds.ctypes.data, KEY_TILE)  # fmt: skip
                    for r in range(rows):
                        shift = number(0) if lse[b, h, i0 + r] == -np.inf else lse[b, h, i0 + r]
                        centre = delta[r]
                        if keep.size:
                            for c in range(columns):
                                p = exp(s[r, c] - shift)
                                m = number(keep_scale) if keep[b * heads + h, i0 + r, j0 + c] else number(0)
                                s[r, c] = p * m
                                ds[r, c] = p * (ds[r, c] * m - centre)
                        else:
                            for c in range(columns):
                                p = exp(s[r, c] - shift)
                                s[r, c] = p
                                ds[r, c] = p * (ds[r, c] - centre)
                    if dbias.size:
                        for r in range(rows):
                            for c in range(columns):
                                dbias[b, h, i0 + r, j0 + c] = ds[r, c]
                    gemm(address, True, False, columns, width, rows, number(1), s.ctypes.data, KEY_TILE, do_start,
                         dout.strides[2] // size, number(1), dv[b, g].ctypes.data + j0 * dv.strides[2],
                         dv.strides[2] // size)  # fmt: skip
                    gemm(address, False, False, rows, d, columns, number(scale), ds.ctypes.data, KEY_TILE, k_start,
                         k.strides[2] // size, number(1), dq_start, dq.strides[2] // size)  # fmt: skip
                    gemm(address, True, False, columns, d, rows, number(scale), ds.ctypes.data, KEY_TILE, q_start,
                         q.strides[2] // size, number(1), dk[b, g].ctypes.data + j0 * dk.strides[2],
                         dk.strides[2] // size)  # fmt: skip


def _rows_ready(x: Any, dtype: Any) -> Any:
    """x in this type and with contiguous rows, as BLAS needs them; the other axes may be strided (a packed product)."""
    if x.dtype != dtype:
        return x.astype(dtype)
    size = x.itemsize
    # The strides of an axis of length 1 are not looked at by anyone but BLAS, which wants a row at least that long.
    fine = x.strides[3] == size and x.strides[2] % size == 0 and x.strides[2] >= size * x.shape[3]
    return x if fine else np.ascontiguousarray(x)


def _common_type(*arrays: Any) -> Any:
    """The type to compute in: the widest of the arrays', and at least float32."""
    return np.result_type(np.float32, *arrays)


def _options(q: Any, k: Any, key_padding_mask: Any, bias: Any, scale: Any, dropout_p: float, seed: int) -> Any:
    dtype = q.dtype
    mask = np.empty((0, 0), np.bool_) if key_padding_mask is None else np.ascontiguousarray(key_padding_mask)
    added = np.empty((0, 0, 0, 0), dtype)
    if bias is not None:
        added = np.ascontiguousarray(bias, dtype=dtype).reshape((1,) * (4 - bias.ndim) + bias.shape)
    keep = np.empty((0, 0, 0), np.bool_)
    if dropout_p:
        keep = keep_mask(q.shape[0] * q.shape[1], q.shape[2], k.shape[2], dropout_p, seed)
    return mask, added, keep, 1 / (1 - dropout_p), 1 / math.sqrt(q.shape[-1]) if scale is None else scale


def attention_forward(
    q: Any,
    k: Any,
    v: Any,
    *,
    causal: bool = False,
    key_padding_mask: Any | None = None,
    bias: Any | None = None,
    scale: float | None = None,
    dropout_p: float = 0.0,
    seed: int = 0,
) -> tuple[Any, Any]:
    """See `contract.attention_forward`."""
    _check_shapes(q, k, v)
    wide = [_rows_ready(x, _common_type(q, k, v)) for x in (q, k, v)]
    b, heads, tq, _ = q.shape
    out, lse = np.zeros((b, heads, tq, v.shape[-1]), wide[0].dtype), np.full((b, heads, tq), -np.inf, wide[0].dtype)
    if q.size and k.size:
        mask, added, keep, keep_scale, factor = _options(wide[0], k, key_padding_mask, bias, scale, dropout_p, seed)
        _forward(gemm_address(out.dtype), *wide, mask, added, keep, keep_scale, factor, causal, out, lse)
    return narrow(out, q), lse


def attention_backward(
    dout: Any,
    q: Any,
    k: Any,
    v: Any,
    out: Any,
    lse: Any,
    *,
    causal: bool = False,
    key_padding_mask: Any | None = None,
    bias: Any | None = None,
    scale: float | None = None,
    dropout_p: float = 0.0,
    seed: int = 0,
    need_dbias: bool = False,
) -> tuple[Any, Any, Any, Any | None]:
    """See `contract.attention_backward`. dbias, where asked for, takes Tq × Tk memory: it is that large."""
    _check_shapes(q, k, v)
    dtype = _common_type(q, k, v)
    wide = [_rows_ready(x, dtype) for x in (dout, q, k, v)]
    dq, dk, dv = (np.zeros(x.shape, dtype) for x in (q, k, v))
    wants_bias = need_dbias and bias is not None
    scores_shape = (*q.shape[:3], k.shape[2]) if wants_bias else (0, 0, 0, 0)
    dscores = np.zeros(scores_shape, dtype)
    if q.size and k.size:
        mask, added, keep, keep_scale, factor = _options(wide[1], k, key_padding_mask, bias, scale, dropout_p, seed)
        _backward(
            gemm_address(dtype), *wide, np.ascontiguousarray(out, dtype=dtype), np.ascontiguousarray(lse, dtype=dtype),
            mask, added, keep, keep_scale, factor, causal, dq, dk, dv, dscores,
        )  # fmt: skip
    dbias = None
    if wants_bias:
        shape = (1,) * (4 - bias.ndim) + bias.shape  # type: ignore[union-attr]
        axes = tuple(i for i in range(4) if shape[i] == 1)
        dbias = narrow(dscores.sum(axis=axes, keepdims=True).reshape(bias.shape), bias)  # type: ignore[union-attr]
    return narrow(dq, q), narrow(dk, k), narrow(dv, v), dbias


def _check_shapes(q: Any, k: Any, v: Any) -> None:
    from minilm_kernels.reference.attention import _check_shapes as check

    check(q, k, v)
