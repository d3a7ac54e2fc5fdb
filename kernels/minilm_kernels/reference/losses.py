"""Cross-entropy of each row with its gradient."""

from __future__ import annotations

from typing import Any

import numpy as np

from minilm_kernels.reference.precision import narrow, widen


def cross_entropy(
    logits: Any,
    targets: Any,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    need_grad: bool = True,
) -> tuple[Any, Any | None]:
    """−log softmax(logits)[target] per row, and softmax − one-hot; see `contract.cross_entropy`."""
    n, vocabulary = logits.shape
    if logits.size == 0:
        return np.zeros_like(logits, shape=(n,)), np.zeros_like(logits) if need_grad else None
    wide = widen(logits)
    rows = np.arange(n, like=targets)
    kept = targets != ignore_index
    safe = np.where(kept, targets, 0)

    shifted = wide - np.max(wide, axis=-1, keepdims=True)
    at_target = shifted[rows, safe]
    mean_shifted = np.mean(shifted, axis=-1) if label_smoothing else 0.0  # before the buffer is reused
    probabilities = np.exp(shifted, out=shifted)
    total = np.sum(probabilities, axis=-1)
    log_total = np.log(total)

    losses = log_total - (1 - label_smoothing) * at_target - label_smoothing * mean_shifted
    losses = np.where(kept, losses, 0)
    if not need_grad:
        return narrow(losses, logits), None

    dlogits = probabilities
    dlogits /= total[:, None]
    if label_smoothing:
        dlogits -= label_smoothing / vocabulary
    dlogits[rows, safe] -= 1 - label_smoothing
    dlogits[~kept] = 0
    return narrow(losses, logits), narrow(dlogits, logits)
