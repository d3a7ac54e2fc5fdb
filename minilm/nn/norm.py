"""Normalisation of the last axes: `LayerNorm` (centre and scale) and `RMSNorm` (scale only)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from minilm.nn import functional as F
from minilm.nn import init
from minilm.nn.module import Module, Parameter
from minilm.tensor import Tensor


class LayerNorm(Module):
    """Layer normalisation: each position is shifted to mean 0 and scaled to variance 1, then given γ and β.

        y = (x − mean(x)) / √(var(x) + ε) · γ + β        over the last axes, whose shape is `normalized_shape`

    x (…, *normalized_shape), γ = weight and β = bias (*normalized_shape), y like x. The variance is the biased one
    (divided by n). Ba, Kiros and Hinton 2016, "Layer Normalization", equations 3 and 4.

    Args:
        normalized_shape: the width C, or the shape of several last axes.
        eps: ε, keeps the square root away from 0.
        elementwise_affine: False leaves out γ and β.
        bias: False leaves out β only.
        dtype: of the parameters, float32 if None.
    """

    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        dtype: np.dtype | type | None = None,
    ) -> None:
        super().__init__()
        self.normalized_shape = _as_shape(normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        self.register_parameter("weight", _empty(self.normalized_shape, dtype) if elementwise_affine else None)
        self.register_parameter("bias", _empty(self.normalized_shape, dtype) if elementwise_affine and bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """γ = 1, β = 0."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        affine = "" if self.elementwise_affine else ", elementwise_affine=False"
        no_bias = ", bias=False" if self.elementwise_affine and self.bias is None else ""
        return f"{_shown(self.normalized_shape)}, eps={self.eps}{affine}{no_bias}"


class RMSNorm(Module):
    """Root-mean-square normalisation: LayerNorm without the shift; as good in practice and cheaper.

        y = x / √(mean(x²) + ε) · γ        over the last axes, whose shape is `normalized_shape`

    x (…, *normalized_shape), γ = weight (*normalized_shape), y like x. Zhang and Sennrich 2019, "Root Mean Square
    Layer Normalization", equation 4.

    Args:
        normalized_shape: the width C, or the shape of several last axes.
        eps: ε; None means the machine epsilon of x's dtype, as in PyTorch.
        elementwise_affine: False leaves out γ.
        dtype: of the parameter, float32 if None.
    """

    weight: Parameter | None

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        *,
        dtype: np.dtype | type | None = None,
    ) -> None:
        super().__init__()
        self.normalized_shape = _as_shape(normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        self.register_parameter("weight", _empty(self.normalized_shape, dtype) if elementwise_affine else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """γ = 1."""
        if self.weight is not None:
            init.ones_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        affine = "" if self.elementwise_affine else ", elementwise_affine=False"
        return f"{_shown(self.normalized_shape)}, eps={self.eps}{affine}"


def _as_shape(normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    is_number = isinstance(normalized_shape, (int, np.integer))
    shape = (int(normalized_shape),) if is_number else tuple(normalized_shape)  # type: ignore[arg-type]
    if not shape or math.prod(shape) < 1:
        raise ValueError(f"normalized_shape must hold at least one axis of at least 1, got {normalized_shape}.")
    return shape


def _empty(shape: tuple[int, ...], dtype: np.dtype | type | None) -> Parameter:
    return Parameter(np.empty(shape, dtype or np.float32))


def _shown(shape: tuple[int, ...]) -> str:
    return str(shape[0]) if len(shape) == 1 else str(shape)
