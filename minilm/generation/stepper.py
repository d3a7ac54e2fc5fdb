"""Stepper: ids in, next-token logits out. It hides the cache, the masks and the positions from the search loops."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from minilm.generation.cache import KVCache
from minilm.tensor import no_grad


class Generative(Protocol):
    """What `generate` needs of a model; see `GenerationMixin` for the contract of `__call__`."""

    config: Any
    training: bool

    def __call__(self, **inputs: Any) -> Any: ...

    def prepare_inputs_for_generation(
        self, input_ids: np.ndarray, attention_mask: np.ndarray | None, past_key_values: KVCache | None, **extra: Any
    ) -> dict[str, Any]: ...


class Stepper:
    """Runs a model one step ahead of the texts (rows, T) that a search loop holds.

    `window` is the number of positions that the model has, given where a text may grow beyond it: then only the last
    `window` tokens are read, and each step reads them anew, because every token's position changes.
    `extra` goes to the model unchanged at every step (the encoder's output, for a model that has one).
    """

    def __init__(
        self,
        model: Generative,
        attention_mask: np.ndarray | None,
        *,
        use_cache: bool,
        window: int | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        self.model = model
        self.attention_mask = attention_mask
        self.use_cache = use_cache
        self.window = window
        self.extra = dict(extra or {})
        self.cache: KVCache | None = None

    @no_grad()
    def logits(self, input_ids: np.ndarray) -> np.ndarray:
        """Logits (rows, V) of the token that follows `input_ids` (rows, T).

        Raises `FloatingPointError` where a logit is NaN.
        """
        mask = self._mask(input_ids.shape[1])
        use_cache = self.use_cache
        if self.window is not None and input_ids.shape[1] > self.window:
            input_ids = input_ids[:, -self.window :]
            mask = None if mask is None else mask[:, -self.window :]
            use_cache, self.cache = False, None
        inputs = self.model.prepare_inputs_for_generation(input_ids, mask, self.cache, **self.extra)
        output = self.model(**inputs, use_cache=use_cache, logits_to_keep=1)
        self.cache = output.past_key_values if use_cache else None
        logits = output.logits[:, -1].numpy()  # (rows, V)
        if np.isnan(logits).any():
            raise FloatingPointError(
                f"the model's logits are NaN after {input_ids.shape[1]} tokens: its weights or its training broke"
            )
        return logits

    def _mask(self, length: int) -> np.ndarray | None:
        """The mask of the prompt with every generated token marked as real."""
        if self.attention_mask is None:
            return None
        new = length - self.attention_mask.shape[1]
        return np.pad(self.attention_mask, ((0, 0), (0, new)), constant_values=True)

    def select(self, rows: np.ndarray) -> None:
        """Make row i of the next step continue the present row `rows[i]`: to repeat, reorder or drop rows."""
        if self.cache is not None:
            self.cache.reorder(rows)
        if self.attention_mask is not None:
            self.attention_mask = self.attention_mask[rows]
        self.extra = {name: _select(value, rows) for name, value in self.extra.items()}


def _select(value: Any, rows: np.ndarray) -> Any:
    """Rows of anything batched: an array or Tensor (B, ...), or a tuple of them."""
    if isinstance(value, tuple):
        return tuple(_select(item, rows) for item in value)
    return value[rows] if hasattr(value, "shape") else value
