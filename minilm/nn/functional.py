"""`nn.functional`, usually imported as `F`: the operations of `minilm.ops` under PyTorch's names.

Formulas and gradients are in `minilm.ops`, where each is a pair of pure functions; what stands here is only what
those make up.
"""

from __future__ import annotations

from minilm.ops import (
    cross_entropy,
    dropout,
    embedding,
    gelu,
    layer_norm,
    linear,
    log_softmax,
    pad,
    relu,
    rms_norm,
    scaled_dot_product_attention,
    sigmoid,
    silu,
    softmax,
    tanh,
)
from minilm.tensor import Tensor

__all__ = [
    "cross_entropy",
    "dropout",
    "embedding",
    "gelu",
    "layer_norm",
    "linear",
    "log_softmax",
    "mse_loss",
    "pad",
    "relu",
    "rms_norm",
    "scaled_dot_product_attention",
    "sigmoid",
    "silu",
    "softmax",
    "tanh",
]


def mse_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """(x − y)², for x and y of one shape, as its "mean" over all elements, its "sum", or each by itself ("none").

    Raises:
        ValueError: for different shapes, which would broadcast into something nobody wants, and other reductions.
    """
    if input.shape != target.shape:
        raise ValueError(f"mse_loss needs input and target of one shape, got {input.shape} and {target.shape}.")
    difference = input - target
    squared = difference * difference
    if reduction == "none":
        return squared
    if reduction not in ("mean", "sum"):
        raise ValueError(f'reduction must be "mean", "sum" or "none", got {reduction!r}.')
    return squared.mean() if reduction == "mean" else squared.sum()
