"""What a training step does to gradients as a whole."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from minilm import kernels
from minilm.tensor import Tensor


def clip_grad_norm_(parameters: Tensor | Iterable[Tensor], max_norm: float, error_if_nonfinite: bool = False) -> float:
    """Scale all gradients together so that their global norm is at most `max_norm`; return the norm before.

        n = √(Σ over all parameters of ‖g‖²),    g ← g · min(1, max_norm / (n + 10⁻⁶))

    One common factor keeps the direction of the step. Pascanu et al. 2013, "On the difficulty of training recurrent
    neural networks", algorithm 1. Parameters without a gradient are passed over.

    Args:
        parameters: one parameter or several, each once.
        max_norm: the largest norm that is left alone, at least 0.
        error_if_nonfinite: raise when the norm is NaN or infinite. If not, the gradients are scaled by what the
            formula gives, as in PyTorch: zeros for an infinite norm (NaN where the gradient itself was infinite),
            NaN for NaN; look at the returned norm.

    Raises:
        ValueError: for a negative `max_norm`.
        RuntimeError: for a norm that is not finite, with `error_if_nonfinite`.
    """
    if not max_norm >= 0:
        raise ValueError(f"max_norm must be at least 0, got {max_norm}.")
    parameters = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    grads = [p.grad for p in parameters if p.grad is not None]
    if not grads:
        return 0.0
    norm = float(kernels.global_norm([grad.data for grad in grads]))
    if error_if_nonfinite and not math.isfinite(norm):
        raise RuntimeError(
            f"the global norm of the gradients is {norm}: look for a division by 0, an overflow, or a learning rate "
            "that is too high."
        )
    scale = max_norm / (norm + 1e-6)
    if not scale >= 1.0:  # NaN comes here too
        with np.errstate(invalid="ignore"):  # ∞ · 0, of which the returned norm tells
            for grad in grads:
                grad.data *= scale
                grad.bump_version()
    return norm
