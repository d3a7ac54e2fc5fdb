"""From the ids of texts to what a model takes: special tokens around them, truncation, padding, arrays.

Functions on plain lists, the same for every tokenizer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Offset = tuple[int, int]
# What a model's input consists of, in order: each slot is the text "A", its pair "B" or the id of a special token,
# and its token type id.
Layout = list[tuple[str | int, int]]

COLUMNS = ("input_ids", "token_type_ids", "attention_mask", "special_tokens_mask", "offset_mapping")
PADDING = ("longest", "max_length", "do_not_pad")
TRUNCATION = ("longest_first", "only_first", "only_second", "do_not_truncate")


class BatchEncoding(dict[str, Any]):
    """What a tokenizer returns: a dict whose entries are attributes too, `batch["input_ids"]`, `batch.input_ids`."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"this encoding has no {name!r}; it has {', '.join(self) or 'nothing'}") from None


@dataclass
class Encoded:
    """The ids of one text and, if asked for, the characters (start, stop) that each stands for."""

    ids: list[int]
    offsets: list[Offset] = field(default_factory=list)


def check_return_tensors(return_tensors: str | None) -> None:
    """Raise ValueError unless `return_tensors` is None (lists) or "np" (NumPy arrays)."""
    if return_tensors not in (None, "np"):
        raise ValueError(
            f'return_tensors={return_tensors!r} is not available, minilm works on NumPy arrays: say '
            'return_tensors="np" (models take these arrays as they are) or leave it out for lists'
        )


def check_side(side: str, what: str) -> str:
    """Return `side` if it is "left" or "right", else raise ValueError."""
    if side not in ("left", "right"):
        raise ValueError(f"{what} must be 'left' or 'right', not {side!r}")
    return side


def as_batch(
    text: str | Sequence[str], text_pair: str | Sequence[str] | None
) -> tuple[list[str], list[str | None], bool]:
    """Return the texts, their pairs (None where there is none), and whether a batch was given.

    Raises TypeError for what is not text and ValueError where texts and pairs do not match.
    """
    is_batch = isinstance(text, list | tuple)
    if text_pair is not None and isinstance(text_pair, list | tuple) != is_batch:
        raise ValueError("text and text_pair must both be single texts, or both be lists of texts")
    texts: list[Any] = list(text) if is_batch else [text]
    pairs: list[Any] = [None] * len(texts)
    if text_pair is not None:
        pairs = list(text_pair) if is_batch else [text_pair]
    if len(texts) != len(pairs):
        raise ValueError(f"there are {len(texts)} texts but {len(pairs)} second texts")
    for item in [*texts, *(pairs if text_pair is not None else [])]:
        if not isinstance(item, str):
            hint = "; decode it first, or use encode_bytes" if isinstance(item, bytes) else ""
            raise TypeError(f"a text must be a str, or a list of str for a batch, not {type(item).__name__}{hint}")
    return texts, pairs, is_batch


# ------------------------------------------------------------------------------------------- one row


def assemble(layout: Layout, parts: Mapping[str, Encoded], columns: Sequence[str]) -> dict[str, list[Any]]:
    """Return one row of each of the columns: the parts in their places among the special tokens."""
    row: dict[str, list[Any]] = {name: [] for name in columns}
    for slot, type_id in layout:
        part = parts[slot] if isinstance(slot, str) else Encoded([slot], [(0, 0)])
        constant = {"attention_mask": 1, "token_type_ids": type_id, "special_tokens_mask": int(isinstance(slot, int))}
        for name, entries in row.items():
            if name == "input_ids":
                entries += part.ids
            elif name == "offset_mapping":
                entries += part.offsets
            else:
                entries += [constant[name]] * len(part.ids)
    return row


def truncate(parts: Mapping[str, Encoded], layout: Layout, length: int, strategy: str, side: str) -> dict[str, Encoded]:
    """Return the parts shortened so that the row has at most `length` tokens, special tokens included."""
    room = length - sum(isinstance(slot, int) for slot, _ in layout)
    if room < 0:
        raise ValueError(f"max_length={length} leaves no room for the {length - room} special tokens of the row")
    lengths = truncated_lengths([len(part.ids) for part in parts.values()], room, strategy)
    return {
        name: Encoded(keep(part.ids, kept, side), keep(part.offsets, kept, side))
        for (name, part), kept in zip(parts.items(), lengths, strict=True)
    }


def truncated_lengths(lengths: Sequence[int], room: int, strategy: str) -> list[int]:
    """Return how many tokens of a text, or of a text and its pair, remain within `room` tokens in all.

    "longest_first" shortens the longer one, and both evenly once they are of one length; "only_first" and
    "only_second" shorten that one alone. Raises ValueError when nothing of it would remain.
    """
    kept = list(lengths)
    excess = sum(kept) - room
    if excess <= 0:
        return kept
    if strategy == "longest_first" and len(kept) == 1:
        return [room]
    if strategy == "longest_first":
        shorter = min(min(kept), room // 2)
        return [shorter, room - shorter] if kept[0] <= kept[1] else [room - shorter, shorter]
    place = 1 if strategy == "only_second" else 0
    if place >= len(kept) or kept[place] <= excess:
        available = f"one of {kept[place]}" if place < len(kept) else "a row without one"
        raise ValueError(
            f"the row is {excess} tokens too long, which truncation={strategy!r} cannot take from {available}"
        )
    kept[place] -= excess
    return kept


def keep(items: list[Any], length: int, side: str) -> list[Any]:
    """Return `length` items of a list, cutting off the rest at `side`."""
    return items[:length] if side == "right" else items[max(len(items) - length, 0) :]


# ------------------------------------------------------------------------------------------- a batch


def pad_columns(
    columns: Mapping[str, list[Any]], fill: Mapping[str, Any], length: int | None, multiple_of: int | None, side: str
) -> dict[str, list[Any]]:
    """Return the columns with every row filled up, at `side`, to `length`, or to the longest row if it is None.

    `multiple_of` rounds the length up. A longer row stays as it is, and so do columns without an entry in `fill`.
    """
    target = max(map(len, columns["input_ids"]), default=0) if length is None else length
    if multiple_of:
        target = -(-target // multiple_of) * multiple_of

    def padded(row: list[Any], value: Any) -> list[Any]:
        filling = [value] * (target - len(row))
        return row + filling if side == "right" else filling + row

    return {
        name: [padded(row, fill[name]) for row in rows] if name in fill else rows for name, rows in columns.items()
    }


def to_arrays(columns: Mapping[str, list[Any]]) -> dict[str, np.ndarray]:
    """Return each column as an int64 array (B, T). Raises ValueError when its rows differ in length."""
    arrays = {}
    for name, rows in columns.items():
        lengths = {len(row) for row in rows if isinstance(row, list)}
        if len(lengths) > 1:
            raise ValueError(
                f"the rows of {name} have {min(lengths)} to {max(lengths)} tokens, which is no array: "
                "pass padding=True, and truncation=True with a max_length to bound them"
            )
        arrays[name] = np.asarray(rows, dtype=np.int64) if rows else np.zeros((0, 0), dtype=np.int64)
    return arrays
