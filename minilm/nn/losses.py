"""Losses as modules; the formulas and their gradients are in `minilm.ops`."""

from __future__ import annotations

from minilm.nn import functional as F
from minilm.nn.module import Module
from minilm.tensor import Tensor


def _check_reduction(reduction: str) -> str:
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'reduction must be "mean", "sum" or "none", got {reduction!r}.')
    return reduction


class CrossEntropyLoss(Module):
    """Cross-entropy from logits: the surprise, in nats, at the right class.

        ℓ = −log softmax(z)[y] = log Σ_j exp(z_j) − z_y
        with label smoothing ε:  ℓ = (1 − ε) ℓ(y) + ε · mean over all classes j of ℓ(j)

    logits z (N, V) and targets y (N,) integer classes, with more axes as `F.cross_entropy` takes them. Positions
    whose target is `ignore_index` cost nothing and are not counted in the mean.

    Args:
        ignore_index: the target that means "no loss here".
        reduction: "mean" over the counted targets, "sum", or "none" for one loss each.
        label_smoothing: ε, within [0, 1]. Szegedy et al. 2016, section 7.
    """

    def __init__(self, *, ignore_index: int = -100, reduction: str = "mean", label_smoothing: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= label_smoothing <= 1.0:
            raise ValueError(f"label_smoothing must be within [0, 1], got {label_smoothing}.")
        self.ignore_index = ignore_index
        self.reduction = _check_reduction(reduction)
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(
            logits,
            target,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
            reduction=self.reduction,
        )

    def extra_repr(self) -> str:
        return f"ignore_index={self.ignore_index}, reduction={self.reduction!r}, label_smoothing={self.label_smoothing}"


class MSELoss(Module):
    """Mean squared error: ℓ = mean of (x − y)², for x and y of one shape.

    Args:
        reduction: "mean" over all elements, "sum", or "none" for one loss each.
    """

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = _check_reduction(reduction)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.mse_loss(input, target, reduction=self.reduction)

    def extra_repr(self) -> str:
        return f"reduction={self.reduction!r}"
