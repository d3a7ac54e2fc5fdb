"""What users pass to a model, as checked integer arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from minilm.generation.prompt import as_ids
from minilm.tensor import Tensor


def read_ids(input_ids: Any, vocab_size: int) -> np.ndarray:
    """Token ids (B, T) int64, from (B, T) or (T,). Raises `TypeError` or `ValueError` that says what is wrong."""
    ids = as_ids(input_ids)
    ids = ids[None] if ids.ndim == 1 else ids
    if ids.ndim != 2 or ids.size == 0:
        raise ValueError(f"input_ids should be (B, T) or (T,) with at least one token, got shape {ids.shape}")
    check_vocabulary(ids, vocab_size, "input_ids")
    return ids


def check_vocabulary(ids: np.ndarray, vocab_size: int, name: str) -> None:
    """Refuse ids outside [0, vocab_size)."""
    low, high = int(ids.min(initial=0)), int(ids.max(initial=0))
    if low < 0 or high >= vocab_size:
        raise ValueError(
            f"{name} should lie between 0 and {vocab_size - 1} (vocab_size is {vocab_size}), got {low} to {high}: do "
            "the tokenizer and the model belong together?"
        )


def read_position_ids(position_ids: Any, shape: tuple[int, ...], seen: int, positions: int) -> np.ndarray:
    """Positions (1 or B, T) int64; without any given they count on from the `seen` cached ones."""
    length = shape[1]
    if position_ids is None:
        if seen + length > positions:
            past = f" after {seen} cached ones" if seen else ""
            raise ValueError(
                f"{length} tokens{past} are more than the model's {positions} positions (n_positions): shorten the "
                "text, or read it in windows"
            )
        return np.arange(seen, seen + length)[None]
    ids = as_ids(position_ids)
    ids = ids[None] if ids.ndim == 1 else ids
    if ids.ndim != 2 or ids.shape[1] != length or ids.shape[0] not in (1, shape[0]):
        raise ValueError(f"position_ids should have the shape of input_ids, {shape}, got {ids.shape}")
    if ids.min() < 0 or ids.max() >= positions:
        raise ValueError(
            f"position_ids should lie between 0 and {positions - 1} (n_positions is {positions}), got {ids.min()} to "
            f"{ids.max()}"
        )
    return ids


def read_attention_mask(attention_mask: Any, shape: tuple[int, ...], seen: int) -> np.ndarray | None:
    """The mask (B, seen + T) as bool, None where every token is real, which is the faster way."""
    if attention_mask is None:
        return None
    mask = np.asarray(attention_mask.numpy() if isinstance(attention_mask, Tensor) else attention_mask)
    mask = mask[None] if mask.ndim == 1 else mask
    expected = (shape[0], seen + shape[1])
    if mask.shape != expected:
        cached = f", the {seen} cached positions included" if seen else ""
        raise ValueError(f"attention_mask should be (B, T) = {expected}{cached}, got {mask.shape}")
    if mask.dtype != bool and not np.isin(mask, (0, 1)).all():
        raise ValueError("attention_mask should hold 1 for real tokens and 0 for padding, got other values")
    mask = mask.astype(bool)
    return None if mask.all() else mask


def read_labels(labels: Any, shape: tuple[int, ...], vocab_size: int, ignore_index: int = -100) -> np.ndarray:
    """Labels of the given shape, int64: ids of the vocabulary, or `ignore_index` where there is nothing to learn."""
    targets = as_ids(labels)
    targets = targets[None] if targets.ndim == 1 else targets
    if targets.shape != shape:
        raise ValueError(f"labels should have the shape of input_ids, {shape}, got {targets.shape}")
    check_vocabulary(targets[targets != ignore_index], vocab_size, "labels")
    return targets
