"""The affine layer y = x Wᵀ + b."""

from __future__ import annotations

import math

import numpy as np

from minilm.nn import functional as F
from minilm.nn import init
from minilm.nn.module import Module, Parameter
from minilm.tensor import Tensor


class Linear(Module):
    """The affine map of the last axis.

        y = x Wᵀ + b        x (…, in)   W (out, in)   b (out,)   y (…, out)

    Both start from U(−1/√in, 1/√in), as in PyTorch.

    Args:
        in_features: width of the input.
        out_features: width of the output.
        bias: False leaves b out.
        dtype: of the parameters, float32 if None.
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, *, dtype: np.dtype | type | None = None
    ) -> None:
        super().__init__()
        if in_features < 1 or out_features < 1:
            raise ValueError(f"Linear needs widths of at least 1, got in={in_features}, out={out_features}.")
        self.in_features = in_features
        self.out_features = out_features
        self.weight = Parameter(np.empty((out_features, in_features), dtype or np.float32))
        self.register_parameter("bias", Parameter(np.empty(out_features, dtype or np.float32)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new parameters."""
        # PyTorch writes this bound as kaiming_uniform_(weight, a=√5): √(2 / (1 + 5)) · √(3 / in) = 1 / √in.
        bound = 1.0 / math.sqrt(self.in_features)
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
