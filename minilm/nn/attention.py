"""Multi-head attention: every position asks (query), every position offers (key, value), softmax decides who is heard.

Two meanings to know before the code:

- Masks say who *may* be seen, as in `F.scaled_dot_product_attention` and in Transformers' `attention_mask`: in a
  boolean `attn_mask` True = may attend, in `key_padding_mask` True = a real token. (torch.nn.MultiheadAttention and
  torch.nn.Transformer mean the opposite: there True = hidden.)
- `is_causal` for Tq ≠ Tk aligns the last query with the last key, which is what a KV cache needs.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np

from minilm.nn import functional as F
from minilm.nn import init
from minilm.nn.activation import check_dropout
from minilm.nn.linear import Linear
from minilm.nn.module import Module, Parameter
from minilm.nn.positions import RotaryEmbedding
from minilm.nn.state import as_array
from minilm.tensor import Tensor


class KeyValueCache(Protocol):
    """What an attention layer needs of a cache: past keys and values, kept for each layer."""

    def update(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Append (B, H_kv, T, d) for a layer and return all that is kept, (B, H_kv, T_past + T, d)."""
        ...

    def get_seq_length(self, layer: int = 0) -> int:
        """T_past, the number of positions kept for a layer."""
        ...


class MultiHeadAttention(Module):
    """Attention with H heads, each in a subspace of width d = C / H.

        q = x W_Qᵀ + b_Q,   k = y W_Kᵀ + b_K,   v = z W_Vᵀ + b_V          split into heads (B, H, T, d)
        A = softmax(q kᵀ / √d + mask)                                     (B, H, Tq, Tk), rows sum to 1
        out = concat_heads(A v) W_Oᵀ + b_O

    x = query (B, Tq, C); y = key and z = value (B, Tk, C), both x for self-attention; out (B, Tq, C). Vaswani et al.
    2017, section 3.2.2.

    With `num_kv_heads` < H, groups of H / num_kv_heads query heads share one key and value head, which makes the KV
    cache that much smaller (Ainslie et al. 2023, "GQA"; one is multi-query attention, Shazeer 2019).

    Parameters, with the names and layout of torch.nn.MultiheadAttention: in_proj_weight = [W_Q; W_K; W_V]
    (C + 2 · num_kv_heads · d, C), in_proj_bias, out_proj.weight (C, C), out_proj.bias. Inputs are always batch first.

    Args:
        embed_dim: C.
        num_heads: H, divides C.
        dropout: chance with which an attention weight is dropped in training.
        bias: False leaves out all biases.
        num_kv_heads: heads of keys and values, divides H; None means H.
        rotary: turns queries and keys by their positions; for self-attention only.
        dtype: of the parameters, float32 if None.
    """

    in_proj_weight: Parameter
    in_proj_bias: Parameter | None

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        *,
        num_kv_heads: int | None = None,
        rotary: RotaryEmbedding | None = None,
        dtype: np.dtype | type | None = None,
    ) -> None:
        super().__init__()
        num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        if num_heads < 1 or embed_dim < 1 or embed_dim % num_heads:
            raise ValueError(f"embed_dim must be a multiple of num_heads, got {embed_dim} and {num_heads}.")
        if num_kv_heads < 1 or num_heads % num_kv_heads:
            raise ValueError(f"num_heads must be a multiple of num_kv_heads, got {num_heads} and {num_kv_heads}.")
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.num_kv_heads = num_kv_heads
        self.head_dim = embed_dim // num_heads
        if rotary is not None and rotary.dim != self.head_dim:
            raise ValueError(f"rotary was built for heads of width {rotary.dim}, here they are {self.head_dim} wide.")
        self.dropout = check_dropout(dropout)
        self.rotary = rotary
        kv_dim = num_kv_heads * self.head_dim
        self.widths = [embed_dim, kv_dim, kv_dim]  # rows of W_Q, W_K, W_V
        self.in_proj_weight = Parameter(np.empty((sum(self.widths), embed_dim), dtype or np.float32))
        in_bias = Parameter(np.empty(sum(self.widths), dtype or np.float32)) if bias else None
        self.register_parameter("in_proj_bias", in_bias)
        self.out_proj = Linear(embed_dim, embed_dim, bias, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier for W_Q, W_K, W_V (as one matrix, as PyTorch), `Linear`'s draw for W_O, zero for all biases."""
        init.xavier_uniform_(self.in_proj_weight)
        self.out_proj.reset_parameters()
        if self.in_proj_bias is not None and self.out_proj.bias is not None:
            init.zeros_(self.in_proj_bias)
            init.zeros_(self.out_proj.bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        *,
        attn_mask: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
        need_weights: bool = False,
        cache: KeyValueCache | None = None,
        layer: int = 0,
        positions: Any = None,
    ) -> Any:
        """Attend from `query` to `key` and `value`.

        Args:
            query: (B, Tq, C).
            key: (B, Tk, C); None for self-attention.
            value: (B, Tk, C); None means `key`.
            attn_mask: broadcasts to (B, H, Tq, Tk); boolean, True = may attend, or floating, added to the scores.
            key_padding_mask: (B, Tk) boolean, True = real token. With a cache, Tk counts the cached positions too.
            is_causal: hide later positions.
            need_weights: also return A (B, H, Tq, Tk), each head by itself, before dropout.
            cache: past keys and values, which are extended; for self-attention only.
            layer: this layer's index in the cache.
            positions: integer positions of the queries (T,) or (B, T) for rotary; None continues after the cache.

        Returns:
            (B, Tq, C); with `need_weights` the pair of it and A. A query that may attend to nothing gets A = 0.

        Raises:
            ValueError: for inputs of the wrong shape, and for a cache or rotary positions in cross-attention.
        """
        crossed = key is not None and key is not query
        key = query if key is None else key
        value = key if value is None else value
        self._check(query, key, value, crossed, cache)

        q, k, v = self._project(query, key, value)  # (B, T, H·d) each
        q = self._split_heads(q, self.num_heads)  # (B, H, Tq, d)
        k = self._split_heads(k, self.num_kv_heads)  # (B, H_kv, Tk, d)
        v = self._split_heads(v, self.num_kv_heads)
        if self.rotary is not None:
            offset = 0 if cache is None else cache.get_seq_length(layer)
            q, k = self.rotary(q, offset, positions), self.rotary(k, offset, positions)
        if cache is not None:
            k, v = cache.update(layer, k, v)

        masks: dict[str, Any] = {
            "attn_mask": attn_mask,
            "key_padding_mask": key_padding_mask,
            "is_causal": is_causal,
        }
        dropout = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            weights = attention_weights(q, k, **masks)  # (B, H, Tq, Tk)
            heads = F.dropout(weights, dropout) @ _repeat_heads(v, self.num_heads)
        else:
            heads = F.scaled_dot_product_attention(
                q, k, v, dropout_p=dropout, enable_gqa=self.num_kv_heads != self.num_heads, **masks
            )
        merged = heads.transpose(1, 2).reshape(*query.shape[:2], self.embed_dim)  # (B, Tq, C)
        out = self.out_proj(merged)
        return (out, weights) if need_weights else out

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        """q, k and v: one product for self-attention, three for different inputs."""
        weight, bias = self.in_proj_weight, self.in_proj_bias
        if query is key and key is value:
            return list(F.linear(query, weight, bias).split(self.widths, dim=-1))
        parts = weight.split(self.widths, dim=0)
        biases = [None] * 3 if bias is None else bias.split(self.widths, dim=0)
        return [F.linear(x, w, b) for x, w, b in zip((query, key, value), parts, biases, strict=True)]

    def _split_heads(self, x: Tensor, heads: int) -> Tensor:
        return x.reshape(*x.shape[:2], heads, self.head_dim).transpose(1, 2)

    def _check(self, query: Tensor, key: Tensor, value: Tensor, crossed: bool, cache: KeyValueCache | None) -> None:
        for name, x in (("query", query), ("key", key), ("value", value)):
            if x.ndim != 3 or x.shape[-1] != self.embed_dim:
                raise ValueError(f"{name} must have shape (B, T, {self.embed_dim}), got {x.shape}.")
        if key.shape[:2] != value.shape[:2] or key.shape[0] != query.shape[0]:
            raise ValueError(
                "query, key and value must share B, and key and value T; got "
                f"{query.shape}, {key.shape} and {value.shape}."
            )
        if crossed and (cache is not None or self.rotary is not None):
            what = "a KV cache" if cache is not None else "rotary positions"
            raise ValueError(f"{what} can be used in self-attention only: leave out `key` and `value`.")

    def extra_repr(self) -> str:
        grouped = "" if self.num_kv_heads == self.num_heads else f", num_kv_heads={self.num_kv_heads}"
        dropout = f", dropout={self.dropout}" if self.dropout else ""
        return f"embed_dim={self.embed_dim}, num_heads={self.num_heads}{grouped}{dropout}"


def attention_weights(
    query: Tensor,
    key: Tensor,
    attn_mask: Any = None,
    is_causal: bool = False,
    scale: float | None = None,
    key_padding_mask: Any = None,
) -> Tensor:
    """The matrix A of attention, for pictures and for study; `F.scaled_dot_product_attention` never stores it.

        A = softmax(q kᵀ · scale + mask)        q (B, H, Tq, d)   k (B, H_kv, Tk, d)   A (B, H, Tq, Tk)

    Arguments as in `F.scaled_dot_product_attention`; scale is 1/√d if None. A row that may attend to nothing is 0.
    Differentiable.
    """
    scale = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = (query * scale) @ _repeat_heads(key, query.shape[1]).transpose(-1, -2)  # (B, H, Tq, Tk)
    allowed = np.ones_like(scores.data, dtype=bool)
    if is_causal:
        allowed = np.tril(allowed, key.shape[-2] - query.shape[-2])
    if key_padding_mask is not None:
        allowed = allowed & (as_array(key_padding_mask, like=query)[:, None, None, :] != 0)
    if attn_mask is not None:
        mask = attn_mask if isinstance(attn_mask, Tensor) else Tensor(as_array(attn_mask, like=query))
        if mask.is_floating_point():
            scores = scores + mask.to(scores.dtype)
        else:
            allowed = allowed & (mask.data != 0)
    # The softmax of a row of −inf only is defined as zeros, in ops and in every kernel.
    return scores.masked_fill(~allowed, -np.inf).softmax(dim=-1)


def _repeat_heads(x: Tensor, heads: int) -> Tensor:
    """Key or value heads, each repeated for its group of query heads: (B, H_kv, T, d) → (B, H, T, d)."""
    batch, kv_heads, length, width = x.shape
    if kv_heads == heads:
        return x
    grouped = x.unsqueeze(2).expand(batch, kv_heads, heads // kv_heads, length, width)
    return grouped.reshape(batch, heads, length, width)
