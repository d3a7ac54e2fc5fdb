"""What a batch asks of a model: functions `(model, batch) -> loss` for the training loop."""

from __future__ import annotations

from typing import Any

from minilm.nn import functional as F
from minilm.nn.module import Module
from minilm.tensor import Tensor

__all__ = ["model_loss", "next_token_loss"]

Batch = dict[str, Any]


def model_loss(model: Module, batch: Batch) -> Tensor:
    """Return `model(**batch).loss`: the convention of Transformers for a batch that holds its labels."""
    return model(**batch).loss


def next_token_loss(model: Module, batch: Batch) -> Tensor:
    """Return the causal language-modelling loss of windows that come with the token after each position.

        L = −1/(B T) Σ log p(targets[b, t] | input_ids[b, : t + 1])

    `labels=` of Transformers shifts inside the model and so learns from T − 1 of T positions; with `targets`
    from the token file all T count, as in nanoGPT.

    Args:
        model: a causal language model, called as `model(input_ids, use_cache=False).logits`.
        batch: `input_ids` and `targets`, (B, T) integers each.
    """
    logits = model(batch["input_ids"], use_cache=False).logits  # (B, T, V)
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), Tensor(batch["targets"].reshape(-1)))
