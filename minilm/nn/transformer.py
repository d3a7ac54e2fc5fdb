"""Transformer blocks and stacks of them: encoder, decoder, and the block of GPT-like models.

Every sublayer (attention or feed-forward) sits on a residual path, in one of two ways:

    post-norm   y = norm(x + dropout(sublayer(x)))          Vaswani et al. 2017, section 5.4
    pre-norm    y = x + dropout(sublayer(norm(x)))          GPT-2; Xiong et al. 2020

Pre-norm leaves a path from the loss to every layer that no norm interrupts, so it trains without warm-up; a pre-norm
stack needs one more norm at its end, since nothing has normalised the sum.

`TransformerEncoderLayer` and `TransformerDecoderLayer` have the constructor arguments, defaults and parameter names of
torch.nn; inputs are always batch first, and masks say who *may* be seen (see `minilm.nn.attention`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from minilm.nn.activation import Activation, Dropout, get_activation
from minilm.nn.attention import KeyValueCache, MultiHeadAttention
from minilm.nn.containers import ModuleList
from minilm.nn.feedforward import FeedForward
from minilm.nn.linear import Linear
from minilm.nn.module import Module
from minilm.nn.norm import LayerNorm, RMSNorm
from minilm.nn.positions import RotaryEmbedding
from minilm.tensor import Tensor


def residual(
    x: Tensor, sublayer: Callable[[Tensor], Tensor], norm: Module, dropout: Module, norm_first: bool
) -> Tensor:
    """One sublayer on its residual path, pre-norm or post-norm; all shapes (B, T, C)."""
    if norm_first:
        return x + dropout(sublayer(norm(x)))
    return norm(x + dropout(sublayer(x)))


class TransformerBlock(Module):
    """Self-attention and feed-forward, each on its residual path: the block of GPT, LLaMA and their like.

        x = x + attention(norm1(x))
        x = x + feed_forward(norm2(x))        (pre-norm; `norm_first=False` for post-norm)        x (B, T, C)

    Args:
        embed_dim: C.
        num_heads: H.
        hidden_dim: width inside the feed-forward; None for `FeedForward`'s default.
        dropout: on attention weights, inside the feed-forward, and on what each sublayer adds.
        activation: "gelu", "relu", "swiglu", … as in `FeedForward`.
        norm: "layer" for LayerNorm or "rms" for RMSNorm.
        norm_first: pre-norm if True.
        eps: of the norms.
        bias: False leaves out every bias.
        num_kv_heads: grouped heads, as in `MultiHeadAttention`.
        rotary: rotary positions, as in `MultiHeadAttention`; one object may be given to all blocks.
        dtype: of the parameters, float32 if None.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        hidden_dim: int | None = None,
        *,
        dropout: float = 0.0,
        activation: str | Activation = "gelu",
        norm: str = "layer",
        norm_first: bool = True,
        eps: float = 1e-5,
        bias: bool = True,
        num_kv_heads: int | None = None,
        rotary: RotaryEmbedding | None = None,
        dtype: np.dtype | type | None = None,
    ) -> None:
        super().__init__()
        if norm not in ("layer", "rms"):
            raise ValueError(f'norm must be "layer" or "rms", got {norm!r}.')

        def make_norm() -> Module:
            if norm == "rms":
                return RMSNorm(embed_dim, eps, dtype=dtype)
            return LayerNorm(embed_dim, eps, bias=bias, dtype=dtype)

        self.norm_first = norm_first
        self.norm1 = make_norm()
        self.self_attn = MultiHeadAttention(
            embed_dim, num_heads, dropout, bias, num_kv_heads=num_kv_heads, rotary=rotary, dtype=dtype
        )
        self.norm2 = make_norm()
        self.feed_forward = FeedForward(embed_dim, hidden_dim, activation, dropout, bias, dtype=dtype)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        *,
        attn_mask: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
        cache: KeyValueCache | None = None,
        layer: int = 0,
        positions: Any = None,
    ) -> Tensor:
        """x (B, T, C) → (B, T, C); the arguments are those of `MultiHeadAttention.forward`."""

        def attend(y: Tensor) -> Tensor:
            return self.self_attn(
                y,
                attn_mask=attn_mask,
                key_padding_mask=key_padding_mask,
                is_causal=is_causal,
                cache=cache,
                layer=layer,
                positions=positions,
            )

        x = residual(x, attend, self.norm1, self.dropout, self.norm_first)
        return residual(x, self.feed_forward, self.norm2, self.dropout, self.norm_first)


class TransformerEncoderLayer(Module):
    """Self-attention over the whole input, then feed-forward. Vaswani et al. 2017, section 3.1.

    Shapes: x (B, T, C) → (B, T, C).

    Args:
        d_model: C.
        nhead: H.
        dim_feedforward: the hidden width.
        dropout: on attention weights, inside the feed-forward, and on what each sublayer adds.
        activation: a name (see `nn.activation.ACTIVATIONS`) or a function.
        layer_norm_eps: ε of the norms.
        norm_first: pre-norm if True; the default is post-norm, as in the paper.
        bias: False leaves out every bias.
        dtype: of the parameters, float32 if None.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Activation = "relu",
        layer_norm_eps: float = 1e-5,
        *,
        norm_first: bool = False,
        bias: bool = True,
        dtype: np.dtype | type | None = None,
    ) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.activation = get_activation(activation)
        self.self_attn = MultiHeadAttention(d_model, nhead, dropout, bias, dtype=dtype)
        self.linear1 = Linear(d_model, dim_feedforward, bias, dtype=dtype)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, dtype=dtype)
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)

    def forward(
        self,
        x: Tensor,
        *,
        attn_mask: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """x (B, T, C) → (B, T, C); the masks are those of `MultiHeadAttention.forward`."""

        def attend(y: Tensor) -> Tensor:
            return self.self_attn(y, attn_mask=attn_mask, key_padding_mask=key_padding_mask, is_causal=is_causal)

        x = residual(x, attend, self.norm1, self.dropout, self.norm_first)
        return residual(x, self._feed_forward, self.norm2, self.dropout, self.norm_first)

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.linear2(self.dropout(self.activation(self.linear1(x))))


class TransformerDecoderLayer(Module):
    """Causal self-attention, cross-attention to the encoder's output, then feed-forward. Vaswani et al. 2017, 3.1.

    Shapes: x (B, T, C) and memory (B, S, C) → (B, T, C). Arguments as in `TransformerEncoderLayer`.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Activation = "relu",
        layer_norm_eps: float = 1e-5,
        *,
        norm_first: bool = False,
        bias: bool = True,
        dtype: np.dtype | type | None = None,
    ) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.activation = get_activation(activation)
        self.self_attn = MultiHeadAttention(d_model, nhead, dropout, bias, dtype=dtype)
        self.multihead_attn = MultiHeadAttention(d_model, nhead, dropout, bias, dtype=dtype)
        self.linear1 = Linear(d_model, dim_feedforward, bias, dtype=dtype)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, dtype=dtype)
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.norm3 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        *,
        attn_mask: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        is_causal: bool = True,
        memory_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        cache: KeyValueCache | None = None,
        layer: int = 0,
    ) -> Tensor:
        """Decode one layer.

        Args:
            x: (B, T, C).
            memory: (B, S, C), what the encoder made of the source.
            attn_mask, key_padding_mask, cache, layer: for the self-attention, see `MultiHeadAttention.forward`.
            is_causal: True here, since a decoder must not see what it is to predict. (PyTorch's default is False.)
            memory_mask: (T, S) or broadcasting to (B, H, T, S), for the cross-attention.
            memory_key_padding_mask: (B, S), True = real source token.

        Returns:
            (B, T, C).
        """

        def attend(y: Tensor) -> Tensor:
            return self.self_attn(
                y,
                attn_mask=attn_mask,
                key_padding_mask=key_padding_mask,
                is_causal=is_causal,
                cache=cache,
                layer=layer,
            )

        def look_at_source(y: Tensor) -> Tensor:
            return self.multihead_attn(y, memory, attn_mask=memory_mask, key_padding_mask=memory_key_padding_mask)

        x = residual(x, attend, self.norm1, self.dropout, self.norm_first)
        x = residual(x, look_at_source, self.norm2, self.dropout, self.norm_first)
        return residual(x, self._feed_forward, self.norm3, self.dropout, self.norm_first)

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.linear2(self.dropout(self.activation(self.linear1(x))))


class TransformerEncoder(Module):
    """A stack of encoder layers.

        x = layer_L(… layer_1(x)),  then norm(x) if given        x (B, T, C)

    Args:
        encoder_layer: becomes the first layer; the others are copies of it with parameters drawn anew. (PyTorch
            copies the numbers too, so that all layers start equal.)
        num_layers: L.
        norm: applied at the end; a pre-norm stack needs it.
    """

    def __init__(self, encoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        super().__init__()
        self.layers = stack(encoder_layer, num_layers)
        self.num_layers = num_layers
        self.norm = norm

    def forward(self, x: Tensor, **masks: Any) -> Tensor:
        """x (B, T, C) → (B, T, C); the keyword arguments go to every layer."""
        for layer in self.layers:
            x = layer(x, **masks)
        return x if self.norm is None else self.norm(x)


class TransformerDecoder(Module):
    """A stack of decoder layers; arguments as in `TransformerEncoder`."""

    def __init__(self, decoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        super().__init__()
        self.layers = stack(decoder_layer, num_layers)
        self.num_layers = num_layers
        self.norm = norm

    def forward(self, x: Tensor, memory: Tensor, *, cache: KeyValueCache | None = None, **masks: Any) -> Tensor:
        """x (B, T, C), memory (B, S, C) → (B, T, C); the other keyword arguments go to every layer."""
        for index, layer in enumerate(self.layers):
            x = layer(x, memory, cache=cache, layer=index, **masks)
        return x if self.norm is None else self.norm(x)


def stack(layer: Module, num_layers: int) -> ModuleList:
    """`layer` and num_layers − 1 copies of it, each with parameters of its own, drawn by its `reset_parameters`.

    Raises:
        ValueError: for less than one layer.
        TypeError: if a module in it has parameters but no `reset_parameters` to draw them.
    """
    if num_layers < 1:
        raise ValueError(f"a stack needs at least one layer, got {num_layers}.")
    layers = ModuleList([layer])
    for _ in range(num_layers - 1):
        another = copy.deepcopy(layer)
        for module in another.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
            elif any(param is not None for param in module._parameters.values()):
                raise TypeError(
                    f"{type(module).__name__} has parameters but no reset_parameters(), so a fresh copy cannot be "
                    "drawn: define it, or build the layers yourself in a ModuleList."
                )
        layers.append(another)
    return layers
