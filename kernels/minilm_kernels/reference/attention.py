"""Attention as the formula reads: scores, softmax, weighted sum. It keeps the whole Tq × Tk matrix for a moment."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minilm_kernels.philox import keep_mask
from minilm_kernels.reference.precision import narrow, widen


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
    """softmax(Q Kᵀ · scale + bias) V and the log-sum-exp of each row; see `contract.attention_forward`."""
    _check_shapes(q, k, v)
    b, heads, tq, _ = q.shape
    if not q.size or not k.size:
        nothing = np.full_like(widen(q), -np.inf, shape=(b, heads, tq))
        return np.zeros_like(q, shape=(b, heads, tq, v.shape[-1])), nothing
    scores = _scores(q, k, causal, key_padding_mask, bias, scale)  # (B, H, Tq, Tk)

    largest = np.max(scores, axis=-1, keepdims=True)
    largest = np.where(np.isneginf(largest), 0, largest)  # a row in which nothing may be seen
    scores -= largest
    weights = np.exp(scores, out=scores)
    total = np.sum(weights, axis=-1, keepdims=True)  # (B, H, Tq, 1)
    if dropout_p:
        weights = _drop(weights, dropout_p, seed)
    out = _heads_product(weights, widen(v))  # (B, H, Tq, dv)
    out /= np.where(total == 0, 1, total)
    with np.errstate(divide="ignore"):  # log 0 = −inf is the answer for an empty row
        lse = largest + np.log(total)
    return narrow(out, q), lse[..., 0]


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
    """dq, dk, dv and on request dbias; see `contract.attention_backward`."""
    _check_shapes(q, k, v)
    if not q.size or not k.size:
        dbias = np.zeros_like(bias) if need_dbias and bias is not None else None
        return np.zeros_like(q), np.zeros_like(k), np.zeros_like(v), dbias
    factor = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    wide_dout = widen(dout)

    scores = _scores(q, k, causal, key_padding_mask, bias, scale)  # (B, H, Tq, Tk)
    scores -= np.where(np.isneginf(lse), 0, lse)[..., None]
    weights = np.exp(scores, out=scores)

    dropped = _drop(weights, dropout_p, seed) if dropout_p else weights
    dv = _sum_over_group(dropped.swapaxes(-1, -2) @ wide_dout, k.shape[1])
    dweights = _heads_product(wide_dout, widen(v).swapaxes(-1, -2))  # (B, H, Tq, Tk)
    if dropout_p:
        dweights = _drop(dweights, dropout_p, seed)
    dweights -= np.sum(wide_dout * widen(out), axis=-1, keepdims=True)
    weights *= dweights
    dscores = weights
    dq = _heads_product(dscores, widen(k))
    dq *= factor
    dk = _sum_over_group(dscores.swapaxes(-1, -2) @ widen(q), k.shape[1])
    dk *= factor
    dbias = narrow(_sum_to(dscores, bias.shape), bias) if need_dbias and bias is not None else None
    return narrow(dq, q), narrow(dk, k), narrow(dv, v), dbias


def _check_shapes(q: Any, k: Any, v: Any) -> None:
    if q.ndim != 4 or k.ndim != 4 or v.ndim != 4:
        raise ValueError(f"attention takes q, k, v of shape (B, H, T, d); got {q.shape}, {k.shape}, {v.shape}")
    if k.shape[:3] != v.shape[:3] or q.shape[0] != k.shape[0] or q.shape[3] != k.shape[3]:
        raise ValueError(
            f"q {q.shape}, k {k.shape} and v {v.shape} do not fit: q and k share B and d; k and v share B, H and T"
        )
    if k.shape[1] == 0 or q.shape[1] % k.shape[1]:
        raise ValueError(f"{q.shape[1]} query heads cannot be shared out over {k.shape[1]} key heads")


def _scores(q: Any, k: Any, causal: bool, key_padding_mask: Any, bias: Any, scale: float | None) -> Any:
    """Q Kᵀ · scale + bias, with −inf wherever a query may not look: (B, H, Tq, Tk)."""
    factor = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores = _heads_product(widen(q) * factor, widen(k).swapaxes(-1, -2))
    if bias is not None:
        scores += bias
    if key_padding_mask is not None:
        np.copyto(scores, -np.inf, where=~key_padding_mask[:, None, None, :])
    if causal:
        tq, tk = scores.shape[-2:]
        future = np.triu(np.ones_like(scores, shape=(tq, tk), dtype=bool), k=1 + tk - tq)
        np.copyto(scores, -np.inf, where=future)
    return scores


def _heads_product(a: Any, b: Any) -> Any:
    """a (B, Hq, M, K) @ b (B, Hkv, K, N): each group of Hq/Hkv heads of a meets one head of b."""
    if a.shape[1] == b.shape[1]:
        return a @ b
    batch, heads, m, inner = a.shape
    grouped = a.reshape(batch, b.shape[1], -1, m, inner)
    return (grouped @ b[:, :, None]).reshape(batch, heads, m, b.shape[-1])


def _sum_over_group(a: Any, kv_heads: int) -> Any:
    """(B, Hq, M, N) → (B, Hkv, M, N): key heads collect the gradients of every query head that read them."""
    if a.shape[1] == kv_heads:
        return a
    batch, _, m, n = a.shape
    return a.reshape(batch, kv_heads, -1, m, n).sum(axis=2)


def _drop(weights: Any, dropout_p: float, seed: int) -> Any:
    batch, heads, tq, tk = weights.shape
    keep = np.asarray(keep_mask(batch * heads, tq, tk, dropout_p, seed).reshape(weights.shape), like=weights)
    return np.where(keep, weights / (1 - dropout_p) if dropout_p < 1 else 0, 0).astype(weights.dtype)


def _sum_to(a: Any, shape: tuple[int, ...]) -> Any:
    """Sum a over the axes along which `shape` was broadcast to a.shape."""
    extra = a.ndim - len(shape)
    axes = tuple(range(extra)) + tuple(i + extra for i, n in enumerate(shape) if n == 1 and a.shape[i + extra] != 1)
    return np.sum(a, axis=axes, keepdims=True).reshape(shape) if axes else a.copy()
