"""Token files: a corpus as one array of token ids on disk, memory-mapped, with a train and a validation part.

Tokenising happens once and in bounded memory; afterwards a corpus of any size costs no memory, because the
operating system reads the pages that a batch touches. A dataset is a folder with `tokens.npy` (uint16, or
uint32 when the vocabulary needs it) and `dataset.json` (the split, and what the tokens were made with).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from .text import TextFile

__all__ = ["TokenDataset", "Tokenizer"]

FORMAT_VERSION = 1


class Tokenizer(Protocol):
    """What a token file needs of a tokenizer."""

    def encode(self, text: str) -> list[int]: ...

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class DatasetInfo:
    """What `dataset.json` says about the tokens beside it."""

    format_version: int
    tokens: int
    split: int  # position of the first validation token
    vocab_size: int
    characters: int
    documents: int


class TokenDataset:
    """Token ids on disk with a train and a validation part.

    Attributes:
        train: the ids of the train part, (N,), read-only and memory-mapped.
        validation: the ids of the validation part, (M,).
        info: sizes, and what the tokens were made with.
    """

    def __init__(self, tokens: np.ndarray, info: DatasetInfo) -> None:
        self.train = tokens[: info.split]
        self.validation = tokens[info.split :]
        self.info = info

    @classmethod
    def build(
        cls,
        documents: Iterable[str | TextFile],
        tokenizer: Tokenizer,
        folder: str | Path,
        validation_fraction: float = 0.1,
    ) -> TokenDataset:
        """Tokenise `documents` into `folder` and open the result.

        Each document is followed by the tokenizer's end-of-text token, if it has one. The validation part is the end
        of the token stream: the last `validation_fraction` of it, moved to the nearest start of a document when there
        is one within a tenth of that part, so that documents stay whole. The memory used does not depend on the size
        of the corpus.

        Args:
            documents: texts, or files as from `text_files`.
            tokenizer: gives `encode(text)` and `len`, and perhaps `eos_token_id`.
            folder: made if it is missing; a dataset already in it is replaced.
            validation_fraction: between 0 and 1, both excluded.

        Raises:
            ValueError: a wrong fraction, too little text for both parts, or a file that is not text.
        """
        if not 0 < validation_fraction < 1:
            raise ValueError(f"validation_fraction is a share between 0 and 1, got {validation_fraction}")
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        vocab_size = len(tokenizer)
        partial = folder / "tokens.npy.partial"
        try:
            with partial.open("wb") as file:
                count, characters, starts = _write_tokens(file, documents, tokenizer, vocab_size)
            split = _split_position(count, starts, validation_fraction)
            info = DatasetInfo(FORMAT_VERSION, count, split, vocab_size, characters, len(starts))
            (folder / "dataset.json").unlink(
                missing_ok=True
            )  # the old description never stands beside new tokens
            partial.replace(folder / "tokens.npy")
        finally:
            partial.unlink(missing_ok=True)
        (folder / "dataset.json").write_text(json.dumps(asdict(info), indent=1) + "\n", encoding="utf-8")
        return cls.load(folder)

    @classmethod
    def load(cls, folder: str | Path) -> TokenDataset:
        """Open the dataset in `folder`.

        Raises:
            FileNotFoundError: there is no dataset in the folder.
            ValueError: its files do not belong together.
        """
        folder = Path(folder)
        description = folder / "dataset.json"
        if not description.is_file():
            raise FileNotFoundError(
                f"{folder} holds no token dataset (no dataset.json); make one with TokenDataset.build"
            )
        try:
            info = DatasetInfo(**json.loads(description.read_text(encoding="utf-8")))
            tokens = np.load(folder / "tokens.npy", mmap_mode="r", allow_pickle=False)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"the token dataset in {folder} cannot be read ({error}); build it again"
            ) from error
        if info.format_version != FORMAT_VERSION or tokens.shape != (info.tokens,):
            raise ValueError(
                f"the token dataset in {folder} has format {info.format_version} and {tokens.shape} tokens; "
                f"expected format {FORMAT_VERSION} and ({info.tokens},); build it again"
            )
        return cls(tokens, info)

    def __repr__(self) -> str:
        return (
            f"TokenDataset(train={len(self.train):,} tokens, validation={len(self.validation):,} tokens, "
            f"vocab_size={self.info.vocab_size:,}, documents={self.info.documents:,})"
        )


def _write_tokens(
    file: BinaryIO, documents: Iterable[str | TextFile], tokenizer: Tokenizer, vocab_size: int
) -> tuple[int, int, list[int]]:
    """Write an .npy file piece by piece; return the number of tokens and characters and where documents start."""
    dtype = np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.uint32)
    end_of_text: Any = getattr(tokenizer, "eos_token_id", None)
    count = characters = 0
    starts = []
    # NumPy pads the header so that the length can grow in place: write it now, and again when the length is known.
    _write_header(file, dtype, 0)
    header_bytes = file.tell()
    for document in documents:
        before = count
        for piece in [document] if isinstance(document, str) else document.pieces():
            ids = np.asarray(tokenizer.encode(piece), dtype=np.int64)
            if ids.size and (ids.min() < 0 or ids.max() >= vocab_size):
                raise ValueError(f"the tokenizer gave id {ids.max()} but says it has {vocab_size} tokens")
            file.write(ids.astype(dtype).tobytes())
            count += ids.size
            characters += len(piece)
        if count > before:
            starts.append(before)
            if end_of_text is not None:
                file.write(np.asarray([end_of_text], dtype=dtype).tobytes())
                count += 1
    file.seek(0)
    _write_header(file, dtype, count)
    if file.tell() != header_bytes:
        raise RuntimeError(f"the .npy header grew from {header_bytes} to {file.tell()} bytes")
    file.flush()
    os.fsync(file.fileno())
    return count, characters, starts


def _write_header(file: BinaryIO, dtype: np.dtype, length: int) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (length,)}
    np.lib.format.write_array_header_1_0(file, header)


def _split_position(count: int, starts: list[int], validation_fraction: float) -> int:
    """Return where the validation part starts."""
    target = int(count * (1 - validation_fraction))
    if target < 1 or target >= count:
        raise ValueError(
            f"{count} tokens are too few for a train and a validation part of {validation_fraction:.0%}; "
            "give more text"
        )
    nearest = min(starts, key=lambda start: abs(start - target))
    return nearest if nearest and abs(nearest - target) <= (count - target) // 10 else target
