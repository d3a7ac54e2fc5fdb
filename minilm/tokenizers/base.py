"""What every tokenizer offers, whatever its algorithm: Transformers' surface, on lists and NumPy arrays.

A tokenizer derives from `PreTrainedTokenizer` and supplies its algorithm (`_encode_text`, `_join`), the special
tokens around a text (`_layout`) and its files (`FILES`, `_read_folder`, `_write_folder`). Special and added tokens,
pairs of texts, truncation, padding, batches, saving and loading are done here.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from minilm import hub
from minilm.tokenizers import batching
from minilm.tokenizers.added_tokens import AddedToken
from minilm.tokenizers.batching import BatchEncoding, Encoded, Layout
from minilm.tokenizers.vocabulary import TokenVocabulary, to_lists

# What Transformers writes where no limit is known.
NO_MAX_LENGTH = int(1e30)


class PreTrainedTokenizer(TokenVocabulary):
    """Turns text into token ids and back. Derived classes supply the algorithm.

    Special tokens are given by role, `eos_token="<|endoftext|>"`. `model_max_length` is the longest input of the
    model, in tokens; `padding_side` and `truncation_side` are "left" or "right".
    """

    # What a folder must hold for this tokenizer, in the form of `hub.resolve`.
    FILES: ClassVar[tuple[hub.Requirement, ...]] = ()
    # What a model of this kind takes, of "input_ids", "token_type_ids" and "attention_mask".
    model_input_names: ClassVar[tuple[str, ...]] = ("input_ids", "attention_mask")
    pad_token_type_id = 0

    def __init__(
        self,
        vocab: Mapping[str, int],
        *,
        added_tokens: Mapping[int, AddedToken] | None = None,
        special_tokens: Mapping[str, str | AddedToken | None] | None = None,
        additional_special_tokens: Iterable[str | AddedToken] = (),
        model_max_length: int | None = None,
        padding_side: str = "right",
        truncation_side: str = "right",
    ) -> None:
        super().__init__(
            vocab,
            added_tokens=added_tokens,
            special_tokens=special_tokens,
            additional_special_tokens=additional_special_tokens,
        )
        self.model_max_length = NO_MAX_LENGTH if model_max_length is None else int(model_max_length)
        self.padding_side = batching.check_side(padding_side, "padding_side")
        self.truncation_side = batching.check_side(truncation_side, "truncation_side")

    # ----------------------------------------------------------------- what a derived class supplies

    def _encode_text(self, text: str) -> list[int]:
        """Return the ids of ordinary text, without special or added tokens in it."""
        raise NotImplementedError

    def _encode_text_with_offsets(self, text: str) -> Encoded:
        """Return the ids of ordinary text and, for each, the characters (start, stop) it stands for."""
        raise NotImplementedError

    def _join(self, ids: list[int]) -> str:
        """Return the text of ids that are all in the vocabulary."""
        raise NotImplementedError

    def _layout(self, pair: bool) -> Layout:
        """Return what the model's input consists of: by default the text, then its pair, and nothing else."""
        return [("A", 0), ("B", 1)] if pair else [("A", 0)]

    @classmethod
    def _read_folder(cls, folder: Path) -> dict[str, Any]:
        """Return the constructor's arguments that the files in `folder` hold."""
        raise NotImplementedError

    def _write_folder(self, folder: Path) -> list[Path]:
        """Write the tokenizer's files and return their paths."""
        raise NotImplementedError

    # ----------------------------------------------------------------------------------------- files

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, *, revision: str = "main", **overrides: Any) -> Self:
        """Return the tokenizer of a folder, of a bundled model, or of a model of the Hugging Face Hub.

        `overrides` replace what the files say: `from_pretrained("gpt2", padding_side="left")`.
        """
        folder = hub.resolve(name_or_path, files=cls.FILES, revision=revision)
        return cls(**(cls._read_folder(folder) | overrides))

    def save_pretrained(self, folder: str | Path) -> tuple[str, ...]:
        """Write the tokenizer's files into `folder` and return their paths; `from_pretrained` reads them."""
        path = Path(folder)
        if path.is_file():
            raise NotADirectoryError(f"{path} is a file; save_pretrained writes several files into a folder")
        path.mkdir(parents=True, exist_ok=True)
        return tuple(str(written) for written in self._write_folder(path))

    # -------------------------------------------------------------------------------------- encoding

    def __call__(
        self,
        text: str | Sequence[str],
        text_pair: str | Sequence[str] | None = None,
        *,
        add_special_tokens: bool = True,
        padding: bool | str = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_tensors: str | None = None,
        return_attention_mask: bool | None = None,
        return_token_type_ids: bool | None = None,
        return_special_tokens_mask: bool = False,
        return_offsets_mapping: bool = False,
        return_length: bool = False,
        split_special_tokens: bool = False,
    ) -> BatchEncoding:
        """Encode a text or a list of texts, each with a second text if `text_pair` is given.

        `padding`: True or "longest" pads to the longest row, "max_length" to `max_length`. `truncation`: True or
        "longest_first", "only_first" or "only_second" cut to `max_length`, by default the `model_max_length`.
        `return_tensors="np"` makes int64 arrays (B, T), with B = 1 for a single text. `return_offsets_mapping` adds
        for each token the characters (start, stop) of the text that it stands for. `split_special_tokens` takes
        special tokens in the text for ordinary text.

        Returns a BatchEncoding with `input_ids` and `attention_mask` (1 real, 0 padding). Raises ValueError for
        padding without a pad token, for a length that is needed but not known, and for `return_tensors="pt"`.
        """
        batching.check_return_tensors(return_tensors)
        truncation = self._truncation(truncation, max_length, padding)
        wanted = {"input_ids"} | set(self.model_input_names)
        for name, asked in {
            "attention_mask": return_attention_mask,
            "token_type_ids": return_token_type_ids,
            "special_tokens_mask": return_special_tokens_mask,
            "offset_mapping": return_offsets_mapping,
        }.items():
            if asked is not None:
                (wanted.add if asked else wanted.discard)(name)
        names = [name for name in batching.COLUMNS if name in wanted]

        texts, pairs, is_batch = batching.as_batch(text, text_pair)
        rows = []
        for first, second in zip(texts, pairs, strict=True):
            parts = {"A": self._encode_part(first, return_offsets_mapping, split_special_tokens)}
            if second is not None:
                parts["B"] = self._encode_part(second, return_offsets_mapping, split_special_tokens)
            layout = self._layout("B" in parts)
            if not add_special_tokens:
                layout = [slot for slot in layout if slot[0] in parts]
            if truncation != "do_not_truncate":
                length = self._length(max_length, f"truncation={truncation!r}")
                parts = batching.truncate(parts, layout, length, truncation, self.truncation_side)
            rows.append(batching.assemble(layout, parts, names))

        columns: dict[str, list[Any]] = {name: [row[name] for row in rows] for name in names}
        columns = self._pad(columns, padding, max_length, pad_to_multiple_of, padding_side)
        if return_length:
            columns |= {"length": [len(row) for row in columns["input_ids"]]}
        return _finish(columns, is_batch, return_tensors)

    def encode(self, text: str, text_pair: str | None = None, **options: Any) -> Any:
        """Return the ids of one text as a list, or with `return_tensors="np"` as an array (1, T).

        Takes the options of calling the tokenizer.
        """
        if not isinstance(text, str):
            hint = "; for several texts call the tokenizer: tokenizer(texts)" if isinstance(text, list) else ""
            raise TypeError(f"encode takes one text, a str, not {type(text).__name__}{hint}")
        if text_pair is None and not options:  # the common case, at half the cost for a short text
            parts = {"A": self._encode_part(text, False, False)}
            return batching.assemble(self._layout(False), parts, ["input_ids"])["input_ids"]
        return self(text, text_pair, **options)["input_ids"]

    def tokenize(self, text: str, pair: str | None = None, add_special_tokens: bool = False) -> list[str]:
        """Return the token strings of a text, as they stand in the vocabulary."""
        return [self._tokens[i] for i in self.encode(text, pair, add_special_tokens=add_special_tokens)]

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """Return how many special tokens are put around a text, or around a text and its pair."""
        return sum(isinstance(slot, int) for slot, _ in self._layout(pair))

    def pad(
        self,
        encoded_inputs: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        padding: bool | str = True,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_tensors: str | None = None,
    ) -> BatchEncoding:
        """Pad what was encoded without padding: a batch, a single row, or a list of rows (from a data set).

        Entries it does not know, such as labels, are passed on as they are.
        """
        batching.check_return_tensors(return_tensors)
        if not isinstance(encoded_inputs, Mapping):
            if not encoded_inputs:
                raise ValueError("there is nothing to pad: the list of rows is empty")
            encoded_inputs = {name: [row[name] for row in encoded_inputs] for name in encoded_inputs[0]}
        if "input_ids" not in encoded_inputs:
            raise ValueError(f"rows need input_ids to be padded; there are {', '.join(encoded_inputs) or 'none'}")
        ids = to_lists(encoded_inputs)
        is_batch = not ids or isinstance(ids[0], list)
        columns = {
            name: to_lists(column) if name in batching.COLUMNS else column for name, column in encoded_inputs.items()
        }
        if not is_batch:
            columns = {name: [column] for name, column in columns.items()}
        columns.setdefault("attention_mask", [[1] * len(row) for row in columns["input_ids"]])
        columns = self._pad(columns, padding, max_length, pad_to_multiple_of, padding_side)
        return _finish(columns, is_batch, return_tensors)

    # -------------------------------------------------------------------------------------- decoding

    def decode(
        self, token_ids: Any, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool | None = None
    ) -> Any:
        """Return the text of token ids: a list, an array or a Tensor; of rows of them, a list of texts.

        `clean_up_tokenization_spaces` has a meaning only for tokenizers whose tokens lose the spaces around them.
        """
        ids = to_lists(token_ids)
        if isinstance(ids, int):
            ids = [ids]
        if ids and isinstance(ids[0], list):
            return [self.decode(row, skip_special_tokens, clean_up_tokenization_spaces) for row in ids]
        return self._join(self._known_ids(ids, skip_special_tokens))

    def batch_decode(
        self, sequences: Any, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool | None = None
    ) -> list[str]:
        """Return the text of every row of token ids."""
        return [self.decode(row, skip_special_tokens, clean_up_tokenization_spaces) for row in to_lists(sequences)]

    # --------------------------------------------------------------------------------------- helpers

    def _encode_part(self, text: str, with_offsets: bool, split_special_tokens: bool) -> Encoded:
        """Encode one text: its added tokens by themselves, what lies between them by the algorithm."""
        try:
            text.isascii() or text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"the text has half a surrogate pair at position {error.start}, which is not a character; "
                'clean it first: text.encode("utf-8", "replace").decode()'
            ) from None
        ids: list[int] = []
        offsets: list[batching.Offset] = []
        for segment in self._splitter.split(text, split_special_tokens=split_special_tokens):
            if segment.token_id is not None:
                ids.append(segment.token_id)
                offsets.append((segment.start, segment.start + len(segment.text)))
            elif with_offsets:
                part = self._encode_text_with_offsets(segment.text)
                ids += part.ids
                offsets += [(segment.start + start, segment.start + stop) for start, stop in part.offsets]
            else:
                ids += self._encode_text(segment.text)
        return Encoded(ids, offsets)

    def _truncation(self, truncation: bool | str | None, max_length: int | None, padding: bool | str) -> str:
        """Return the truncation strategy by its name; a `max_length` alone asks for it too, as in Transformers."""
        if truncation is None and max_length is not None:
            if padding is False:
                warnings.warn("max_length without truncation=True: truncating to it", stacklevel=3)
                truncation = True
            elif padding in (True, "longest"):
                warnings.warn("max_length without truncation=True: ignored, padding to the longest", stacklevel=3)
        strategy = "longest_first" if truncation is True else truncation or "do_not_truncate"
        if strategy not in batching.TRUNCATION:
            raise ValueError(f"truncation={truncation!r}: it must be a bool or one of {', '.join(batching.TRUNCATION)}")
        return strategy

    def _length(self, max_length: int | None, purpose: str) -> int:
        if max_length is None and self.model_max_length >= NO_MAX_LENGTH:
            raise ValueError(f"{purpose} needs a length: pass max_length=…, or set tokenizer.model_max_length")
        length = self.model_max_length if max_length is None else max_length
        if length < 0:
            raise ValueError(f"max_length={length} is negative")
        return length

    def _pad(
        self,
        columns: dict[str, list[Any]],
        padding: bool | str,
        max_length: int | None,
        multiple_of: int | None,
        side: str | None,
    ) -> dict[str, list[Any]]:
        strategy = {True: "longest", False: "do_not_pad"}[padding] if isinstance(padding, bool) else padding
        if strategy not in batching.PADDING:
            raise ValueError(f"padding={padding!r}: it must be a bool or one of {', '.join(batching.PADDING)}")
        if strategy == "do_not_pad":
            return columns
        if self.pad_token_id is None:
            raise ValueError(
                "padding needs a pad token, and this tokenizer has none: set one first, "
                "`tokenizer.pad_token = tokenizer.eos_token`, or add one with add_special_tokens"
            )
        fill = {
            "input_ids": self.pad_token_id,
            "token_type_ids": self.pad_token_type_id,
            "attention_mask": 0,
            "special_tokens_mask": 1,
            "offset_mapping": (0, 0),
        }
        return batching.pad_columns(
            columns,
            fill,
            length=self._length(max_length, "padding='max_length'") if strategy == "max_length" else None,
            multiple_of=multiple_of,
            side=batching.check_side(side or self.padding_side, "padding_side"),
        )

    def __repr__(self) -> str:
        special = ", ".join(f"{role}={token!r}" for role, token in self.special_tokens_map.items())
        return f"{type(self).__name__}(vocab_size={self.vocab_size}, len={len(self)}, {special})"


def _finish(columns: dict[str, list[Any]], is_batch: bool, return_tensors: str | None) -> BatchEncoding:
    """Return the columns as arrays, or as lists without the batch axis for a single text."""
    if return_tensors is not None:
        return BatchEncoding(batching.to_arrays(columns))
    return BatchEncoding(columns if is_batch else {name: rows[0] for name, rows in columns.items()})
