"""The operations of a language model: embedding, dropout, cross-entropy, scaled dot-product attention."""

from __future__ import annotations

from typing import Any

import numpy as np

from minilm import kernels, random
from minilm.ops.arithmetic import one_type, require_floats
from minilm.ops.indexing import as_given
from minilm.ops.reductions import sum
from minilm.tensor import Array, Tensor, apply, define

# --- embedding


def embedding_forward(table: Array, ids: Array, *, padding_idx: int | None) -> tuple[Array, tuple[Any, ...]]:
    return table[ids], (ids, table.shape[0], padding_idx)


def embedding_backward(saved: tuple[Any, ...], grad: Array) -> tuple[Array, None]:
    ids, rows, padding_idx = saved
    dtable = kernels.embedding_backward(grad, ids, rows)
    if padding_idx is not None:
        dtable[padding_idx] = 0
    return dtable, None


# --- dropout


def dropout_forward(x: Array, keep: Array, *, p: float) -> tuple[Array, tuple[Any, ...]]:
    mask = keep.astype(x.dtype)
    mask *= 1 / (1 - p)
    return x * mask, (mask,)


def dropout_backward(saved: tuple[Any, ...], grad: Array) -> tuple[Array, None]:
    (mask,) = saved
    return grad * mask, None


# --- cross-entropy: the loss of each row


def cross_entropy_forward(
    logits: Array, targets: Array, *, ignore_index: int, label_smoothing: float, need_grad: bool
) -> tuple[Array, tuple[Any, ...]]:
    losses, dlogits = kernels.cross_entropy(
        logits, targets, ignore_index=ignore_index, label_smoothing=label_smoothing, need_grad=need_grad
    )
    return losses, (dlogits,)


def cross_entropy_backward(saved: tuple[Any, ...], grad: Array) -> tuple[Array, None]:
    (dlogits,) = saved
    return grad[:, None] * dlogits, None


# --- attention


def attention_forward(
    q: Array, k: Array, v: Array, bias: Array | None, key_padding_mask: Array | None, **options: Any
) -> tuple[Array, tuple[Any, ...]]:
    out, lse = kernels.attention_forward(q, k, v, bias=bias, key_padding_mask=key_padding_mask, **options)
    return out, (q, k, v, bias, key_padding_mask, out, lse, options)


def attention_backward(
    saved: tuple[Any, ...], grad: Array, needs: tuple[bool, ...]
) -> tuple[Array, Array, Array, Array | None, None]:
    q, k, v, bias, key_padding_mask, out, lse, options = saved
    dq, dk, dv, dbias = kernels.attention_backward(
        grad, q, k, v, out, lse, bias=bias, key_padding_mask=key_padding_mask, need_dbias=needs[3], **options
    )
    return dq, dk, dv, dbias, None


EMBEDDING = define("embedding", embedding_forward, embedding_backward)
DROPOUT = define("dropout", dropout_forward, dropout_backward)
CROSS_ENTROPY = define("cross_entropy", cross_entropy_forward, cross_entropy_backward)
ATTENTION = define("scaled_dot_product_attention", attention_forward, attention_backward)


def _integers(ids: Any, what: str, like: Tensor) -> Array:
    array = ids.data if isinstance(ids, Tensor) else np.asarray(ids, like=like.data)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{what} must be integers, not {array.dtype}")
    return array


def embedding(ids: Any, weight: Tensor, padding_idx: int | None = None) -> Tensor:
    """Row ids[…] of the table for each id: ids (…) integer, weight (V, C) → (…, C).

    padding_idx: a row whose gradient stays zero. Raises IndexError for an id outside 0 … V − 1.
    """
    array = _integers(ids, "ids", weight)
    rows = weight.shape[0]
    if array.size and (int(array.min()) < 0 or int(array.max()) >= rows):
        bad = int(array.min()) if int(array.min()) < 0 else int(array.max())
        raise IndexError(f"id {bad} lies outside the table of {rows} rows (ids 0 … {rows - 1})")
    if padding_idx is not None:
        padding_idx = padding_idx % rows
    return apply(EMBEDDING, weight, as_given(ids, array), padding_idx=padding_idx)


def dropout(x: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """While training, zero each element with chance p and scale the rest by 1/(1 − p) (Srivastava et al. 2014)."""
    if not 0 <= p <= 1:
        raise ValueError(f"the dropout probability p must lie in 0 … 1, not {p}")
    if not training or p == 0:
        return x
    if p == 1:
        return x * 0.0
    # 16 random bits an element decide: a quarter of the time that random floats take. p is met to 2⁻¹⁷.
    bits = random.generator().integers(0, 2**16, size=x.shape, dtype=np.uint16)
    keep = bits >= min(round(p * 2**16), 2**16 - 1)
    return apply(DROPOUT, x, np.asarray(keep, like=x.data), p=p)


def cross_entropy(
    input: Tensor,
    target: Any,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """−log softmax(input)[target]: the cross-entropy of class indices, from logits.

    input   (N, V) logits, or (V,), or (N, V, d₁, …) with the classes second, as in PyTorch
    target  (N,) integer classes, or (), or (N, d₁, …); places equal to ignore_index count for nothing
    reduction        "mean" over the places that count (NaN if there are none), "sum", or "none" (one loss a place)
    label_smoothing  ε in 0 … 1: the target is (1 − ε)·one-hot + ε/V

    Raises IndexError for a class outside 0 … V − 1, ValueError for shapes that do not fit.
    """
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none', not {reduction!r}")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must lie in 0 … 1, not {label_smoothing}")
    require_floats(input, "cross_entropy")
    targets = _integers(target, "the targets of cross_entropy (class indices)", input)
    class_axis = 0 if input.ndim == 1 else 1
    if input.ndim == 0 or tuple(targets.shape) != input.shape[:class_axis] + input.shape[class_axis + 1 :]:
        raise ValueError(
            f"cross_entropy: logits {input.shape} need targets of shape "
            f"{input.shape[:class_axis] + input.shape[class_axis + 1 :]}, got {tuple(targets.shape)}"
        )
    rows = input.reshape(1, -1) if input.ndim == 1 else input
    if rows.ndim > 2:
        rows = rows.permute(0, *range(2, rows.ndim), 1)
    classes = input.shape[class_axis]
    rows = rows.reshape(targets.size, classes)
    flat = targets.reshape(-1)
    counted = flat != ignore_index
    outside = counted & ((flat < 0) | (flat >= classes))
    if bool(outside.any()):
        raise IndexError(
            f"class {int(flat[outside][0])} lies outside 0 … {classes - 1} (and is not ignore_index {ignore_index})"
        )
    losses = apply(
        CROSS_ENTROPY,
        rows,
        flat,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        need_grad=input.requires_grad,
    )
    if reduction == "none":
        return losses.reshape(tuple(targets.shape))
    total = sum(losses)
    count = int(counted.sum())
    if reduction == "sum":
        return total
    return total / count if count else total + float("nan")  # as in PyTorch: the mean is NaN, its gradient zero


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    key_padding_mask: Any = None,
) -> Tensor:
    """softmax(Q Kᵀ/√d_k + mask) V (Vaswani et al. 2017, eq. 1).

    query             (…, Hq, Tq, d); key and value (…, Hkv, Tk, d). Without a head axis, (…, T, d), there is one head
    attn_mask         bool (True: may attend) or float (added to the scores), broadcasting to (…, Hq, Tq, Tk)
    is_causal         query i sees key j ≤ i + Tk − Tq (aligned bottom-right: the last query sees every key)
    key_padding_mask  (B, Tk) bool, True for a real key
    enable_gqa        allow fewer key heads than query heads (Hq % Hkv == 0)

    A query that may attend to nothing gets 0. Raises ValueError for shapes that do not fit.
    """
    if not 0 <= dropout_p < 1:
        raise ValueError(f"dropout_p must lie in 0 … 1 (1 excluded), not {dropout_p}")
    lead = query.shape[:-2]
    if query.ndim < 2 or key.ndim != query.ndim or value.ndim != query.ndim:
        raise ValueError(
            f"attention needs query, key, value of shape (…, T, d) with equal numbers of axes; got "
            f"{query.shape}, {key.shape}, {value.shape}"
        )
    require_floats(query, "attention")
    q, k, v = (_four_axes(t) for t in one_type(query, key, value))
    if k.shape[1] != q.shape[1] and not enable_gqa:
        raise ValueError(f"{q.shape[1]} query heads and {k.shape[1]} key heads: pass enable_gqa=True to share them out")
    bias = _as_bias(attn_mask, q, k.shape[2], query.shape)
    seed = int(random.generator().integers(0, 2**63)) if dropout_p else 0
    if key_padding_mask is not None:
        key_padding_mask = as_given(key_padding_mask, _as_bool(key_padding_mask, q, "key_padding_mask"))
        if key_padding_mask.shape != (q.shape[0], k.shape[2]):
            raise ValueError(
                f"key_padding_mask must have shape (B, Tk) = ({q.shape[0]}, {k.shape[2]}), "
                f"got {tuple(key_padding_mask.shape)}"
            )
    out = apply(
        ATTENTION, q, k, v, bias, key_padding_mask,
        causal=is_causal, scale=scale, dropout_p=dropout_p, seed=seed,
    )  # fmt: skip
    return out if query.ndim == 4 else out.reshape(*lead, *out.shape[-2:])


def _four_axes(t: Tensor) -> Tensor:
    """(…, T, d) as (B, H, T, d)."""
    if t.ndim == 4:
        return t
    if t.ndim < 4:
        return t.reshape(*(1,) * (3 - t.ndim), *t.shape[:-2], 1, *t.shape[-2:])
    return t.reshape(-1, *t.shape[-3:])


def _as_bool(mask: Any, like: Tensor, what: str) -> Array:
    array = mask.data if isinstance(mask, Tensor) else np.asarray(mask, like=like.data)
    if array.dtype.kind == "b":
        return array
    if array.dtype.kind in "iu" and bool(((array == 0) | (array == 1)).all()):
        return array != 0
    raise TypeError(f"{what} must be boolean or hold 0 and 1, not {array.dtype}")


def _as_bias(attn_mask: Any, q: Tensor, tk: int, query_shape: tuple[int, ...]) -> Tensor | None:
    """A boolean mask as 0 and −inf, a float mask as it is; either with four axes that broadcast to (B, Hq, Tq, Tk)."""
    if attn_mask is None:
        return None
    mask = attn_mask if isinstance(attn_mask, Tensor) else Tensor(np.asarray(attn_mask, like=q.data))
    if mask.dtype.kind == "b":
        mask = Tensor(np.where(mask.data, np.zeros_like(q.data, shape=()), np.full_like(q.data, -np.inf, shape=())))
    elif mask.dtype.kind != "f":
        raise TypeError(f"attn_mask must be boolean (True: may attend) or float (to be added), not {mask.dtype}")
    if len(query_shape) == 3 and mask.ndim == 3:
        mask = mask.unsqueeze(1)  # (B, Tq, Tk) beside (B, T, d): there is no head axis to broadcast over
    elif mask.ndim > 4:
        mask = mask.expand(*query_shape[:-3], *mask.shape[-3:]).reshape(-1, *mask.shape[-3:])
    if mask.ndim < 4:
        mask = mask.reshape(*(1,) * (4 - mask.ndim), *mask.shape)
    target = (q.shape[0], q.shape[1], q.shape[2], tk)
    if any(n not in (1, wanted) for n, wanted in zip(mask.shape, target, strict=True)):
        raise ValueError(f"attn_mask {mask.shape} does not broadcast to (B, Hq, Tq, Tk) = {target}")
    return mask
