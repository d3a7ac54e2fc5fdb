"""Cross-entropy with its gradient: each row of logits is read twice and the gradient written once."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from minilm_kernels.numba_cpu.compiled import chunks, narrow, parallel, ready
from minilm_kernels.numba_cpu.special import exp


@parallel
def _rows(
    logits: Any, targets: Any, ignore: int, smoothing: float, losses: Any, dlogits: Any, need_grad: bool, pieces: int
) -> None:
    n, classes = logits.shape
    zero = logits.dtype.type(0)
    epsilon = logits.dtype.type(smoothing)
    share = logits.dtype.type(smoothing / classes)
    for piece in numba.prange(pieces):
        for i in range(piece * n // pieces, (piece + 1) * n // pieces):
            target = targets[i]
            if target == ignore:
                losses[i] = zero
                if need_grad:
                    for j in range(classes):
                        dlogits[i, j] = zero
                continue
            largest = logits[i, 0]
            for j in range(classes):
                largest = max(largest, logits[i, j])
            total = zero
            if need_grad:
                for j in range(classes):
                    e = exp(logits[i, j] - largest)
                    dlogits[i, j] = e
                    total += e
            else:
                for j in range(classes):
                    total += exp(logits[i, j] - largest)
            loss = np.log(total) - (1 - epsilon) * (logits[i, target] - largest)
            if smoothing != 0:
                mean = zero
                for j in range(classes):
                    mean += logits[i, j] - largest
                loss -= epsilon * (mean / logits.dtype.type(classes))
            losses[i] = loss
            if need_grad:
                inverse = 1 / total
                for j in range(classes):
                    dlogits[i, j] = dlogits[i, j] * inverse - share
                dlogits[i, target] -= 1 - epsilon


def cross_entropy(
    logits: Any,
    targets: Any,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    need_grad: bool = True,
) -> tuple[Any, Any | None]:
    """See `contract.cross_entropy`."""
    source = ready(logits)
    losses = np.zeros(len(source), source.dtype)
    dlogits = np.empty_like(source) if need_grad else np.empty((0, 0), source.dtype)
    if source.size:
        _rows(
            source, np.ascontiguousarray(targets, dtype=np.int64), ignore_index, label_smoothing, losses, dlogits,
            need_grad, chunks(*source.shape),
        )  # fmt: skip
    return narrow(losses, logits), narrow(dlogits, logits) if need_grad else None
