"""The position-wise feed-forward network of a Transformer block."""

from __future__ import annotations

import numpy as np

from minilm.nn.activation import Activation, Dropout, get_activation
from minilm.nn.linear import Linear
from minilm.nn.module import Module
from minilm.tensor import Tensor


class FeedForward(Module):
    """Two layers with a nonlinearity between them, applied to each position by itself.

        y = W₂ · dropout(φ(W₁ x + b₁)) + b₂                  φ = gelu, relu, silu, …
        y = W₂ · dropout(silu(W_g x) ⊙ (W₁ x)) + b₂          activation="swiglu" (each product with its bias)

    x, y (…, C); the hidden width is 4C by default (Vaswani et al. 2017, section 3.3), for SwiGLU 8C/3, rounded up to
    a multiple of 8, since its third matrix makes up for the rest (Shazeer 2020, "GLU Variants Improve Transformer").

    Args:
        embed_dim: C.
        hidden_dim: the width in between; None for the defaults above.
        activation: a name (see `nn.activation.ACTIVATIONS`), "swiglu", or a function.
        dropout: after the nonlinearity.
        bias: False leaves out the biases.
        dtype: of the parameters, float32 if None.
    """

    def __init__(
        self,
        embed_dim: int,
        hidden_dim: int | None = None,
        activation: str | Activation = "gelu",
        dropout: float = 0.0,
        bias: bool = True,
        *,
        dtype: np.dtype | type | None = None,
    ) -> None:
        super().__init__()
        gated = activation == "swiglu"
        if hidden_dim is None:
            hidden_dim = -(-8 * embed_dim // 24) * 8 if gated else 4 * embed_dim
        self.activation = activation
        self._function = get_activation("silu" if gated else activation)
        self.linear1 = Linear(embed_dim, hidden_dim, bias, dtype=dtype)
        self.gate = Linear(embed_dim, hidden_dim, bias, dtype=dtype) if gated else None
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(hidden_dim, embed_dim, bias, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        if self.gate is None:
            hidden = self._function(self.linear1(x))  # (…, hidden)
        else:
            hidden = self._function(self.gate(x)) * self.linear1(x)  # (…, hidden)
        return self.linear2(self.dropout(hidden))

    def extra_repr(self) -> str:
        return f"activation={getattr(self.activation, '__name__', self.activation)!r}"
