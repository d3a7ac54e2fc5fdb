"""ModelOutput: the named tuple-like result of a forward pass, and what `generate` returns on request."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from minilm.generation.cache import KVCache


@dataclass
class ModelOutput:
    """Base of result dataclasses: read by attribute, by name, by index or as a tuple.

    >>> output.logits, output["logits"], output[0], output[:2], tuple(output)

    Index and tuple leave out what is None, as in Transformers, so `output[0]` is the loss where labels were given and
    the logits otherwise.
    """

    def keys(self) -> list[str]:
        """The names of what is there."""
        return [f.name for f in fields(self) if getattr(self, f.name) is not None]

    def to_tuple(self) -> tuple[Any, ...]:
        """What is there, in order."""
        return tuple(getattr(self, name) for name in self.keys())

    def __getitem__(self, key: str | int | slice) -> Any:
        if not isinstance(key, str):
            return self.to_tuple()[key]
        if key not in self.keys():
            raise KeyError(f"{type(self).__name__} holds {self.keys()}, not {key!r}")
        return getattr(self, key)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.to_tuple())

    def __len__(self) -> int:
        return len(self.keys())

    def __contains__(self, key: object) -> bool:
        return key in self.keys()


@dataclass
class GenerateOutput(ModelOutput):
    """The result of `generate(..., return_dict_in_generate=True)`; n is num_return_sequences, K num_beams.

    sequences         (B * n, T') int64, prompts included, padded on the right
    sequences_scores  (B * n,) for beam search: sum of log p / length ** length_penalty
    scores            with output_scores: for each step the processed scores (B * n, V), with beams (B * K, V)
    logits            with output_logits: for each step the model's logits, before processing
    beam_indices      for beam search: (B * n, new tokens), the row each token came from, -1 after the end
    past_key_values   the cache at the end
    """

    sequences: np.ndarray
    sequences_scores: np.ndarray | None = None
    scores: tuple[np.ndarray, ...] | None = None
    logits: tuple[np.ndarray, ...] | None = None
    beam_indices: np.ndarray | None = None
    past_key_values: KVCache | None = None
