"""Prompt: what `generate` is given, as arrays, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from minilm.generation.config import GenerationConfig
from minilm.tensor import Tensor


@dataclass(frozen=True, eq=False)
class Prompt:
    """Token ids (B, T) int64, and a mask (B, T) bool where some rows are padded on the left (None otherwise)."""

    input_ids: np.ndarray
    attention_mask: np.ndarray | None = None

    @property
    def length(self) -> int:
        """T, padding included."""
        return self.input_ids.shape[1]

    @property
    def padding(self) -> np.ndarray | None:
        """(B,) the number of padding tokens on the left of each row, None where no row has any."""
        return None if self.attention_mask is None else self.attention_mask.argmax(axis=1)


def read_prompt(input_ids: Any, attention_mask: Any, config: GenerationConfig, vocab_size: int | None) -> Prompt:
    """Make a `Prompt` from what the user passed.

    Raises `TypeError` for ids that are not integers, `ValueError` for shapes, ids or masks that make no sense.
    """
    if input_ids is None:
        if config.bos_token_id is None:
            raise ValueError("generate needs input_ids: there is no bos_token_id to start a text from")
        input_ids = [[config.bos_token_id]]
    ids = as_ids(input_ids)
    if ids.ndim == 1:
        ids = ids[None]
    if ids.ndim != 2 or ids.size == 0:
        raise ValueError(f"input_ids should be (B, T) or (T,) with at least one token, got shape {ids.shape}")
    if vocab_size is not None and (ids.min() < 0 or ids.max() >= vocab_size):
        raise ValueError(
            f"input_ids should be between 0 and {vocab_size - 1}, got {ids.min()} to {ids.max()}: "
            "do the tokenizer and the model belong together?"
        )
    mask = _given_mask(attention_mask, ids) if attention_mask is not None else _implied_mask(ids, config)
    if mask is None or mask.all():
        return Prompt(ids)
    if not mask[:, -1].all() or (np.diff(mask.astype(np.int8), axis=1) < 0).any():
        raise ValueError(_PADDING_ON_THE_LEFT + "the attention_mask should be zeros and then ones in every row")
    return Prompt(ids, mask)


_PADDING_ON_THE_LEFT = (
    "generate continues after the last position, so padding belongs on the left (make the tokenizer with "
    "padding_side='left'): "
)


def as_ids(values: Any) -> np.ndarray:
    """Token ids as an int64 array. Raises `TypeError` for anything but integers."""
    if isinstance(values, Tensor):
        values = values.numpy()
    try:
        ids = np.asarray(values)
    except ValueError as error:
        raise ValueError(
            "rows of token ids have different lengths: pad them to one length and pass the attention_mask as well "
            "(the tokenizer does both with padding=True)"
        ) from error
    if ids.dtype.kind not in "iu" and ids.size > 0:
        hint = ": encode text with the model's tokenizer first" if ids.dtype.kind == "U" else ""
        raise TypeError(f"token ids should be integers, got {ids.dtype} ({type(values).__name__}){hint}")
    return ids.astype(np.int64)


def _given_mask(attention_mask: Any, ids: np.ndarray) -> np.ndarray:
    mask = np.asarray(attention_mask.numpy() if isinstance(attention_mask, Tensor) else attention_mask)
    mask = mask[None] if mask.ndim == 1 else mask
    if mask.shape != ids.shape:
        raise ValueError(f"attention_mask should have the shape of input_ids, {ids.shape}, got {mask.shape}")
    return mask.astype(bool)


def _implied_mask(ids: np.ndarray, config: GenerationConfig) -> np.ndarray | None:
    """The mask that padding tokens at the beginning of rows imply, None where they may be text.

    A padding token after the first other token is text, and so is the last token of a row of nothing else.
    """
    pad = config.pad_token_id
    if pad is None or pad in config.eos_token_ids:
        return None
    begun = np.logical_or.accumulate(ids != pad, axis=1)
    if (begun[:, -1] & (ids[:, -1] == pad)).any():
        raise ValueError(
            _PADDING_ON_THE_LEFT
            + f"a row ends in the padding token {pad}. If that is text, pass an attention_mask of ones"
        )
    begun[:, -1] = True
    return begun
