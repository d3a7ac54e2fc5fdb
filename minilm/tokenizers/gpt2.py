"""GPT-2's tokenizer: byte-level byte-pair encoding, with Transformers' surface.

    tokenizer = GPT2Tokenizer.from_pretrained("gpt2")
    tokenizer("Hello world").input_ids          # [15496, 995]
    tokenizer.decode([15496, 995])              # "Hello world"

Text is cut into words and spelled in bytes (`byte_level.py`), and each word is encoded by merges (`bpe.py`). Any
bytes survive encoding and decoding. The files are read and written by `gpt2_files.py`.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Self

from minilm.tokenizers import byte_level, gpt2_files
from minilm.tokenizers.added_tokens import AddedToken, AddedTokenSplitter
from minilm.tokenizers.base import PreTrainedTokenizer
from minilm.tokenizers.batching import Encoded, Layout, Offset
from minilm.tokenizers.bpe import BytePairEncoder, Pair, learn_merges
from minilm.tokenizers.vocabulary import ROLES, to_lists

END_OF_TEXT = "<|endoftext|>"

# At most this many words are remembered with their ids, twice; longer words are not.
CACHED_WORDS = 1 << 16
CACHED_WORD_LENGTH = 64


class WordCache(dict[str, tuple[int, ...]]):
    """Remembers the ids of words, in bounded memory: `cache[word]` encodes the word if it is new.

    When full, it keeps what it holds as the older generation and starts anew; a word found there moves back. Words
    in use survive, others are dropped with their generation.
    """

    def __init__(self, encode: Callable[[str], tuple[int, ...]], limit: int = CACHED_WORDS) -> None:
        super().__init__()
        self._encode = encode
        self._limit = limit
        self._older: dict[str, tuple[int, ...]] = {}

    def __missing__(self, word: str) -> tuple[int, ...]:
        ids = self._older.get(word)
        if ids is None:
            ids = self._encode(word)
        if len(word) <= CACHED_WORD_LENGTH:
            if len(self) >= self._limit:
                self._older = dict(self)
                self.clear()
            self[word] = ids
        return ids


@dataclass(frozen=True)
class WordStep:
    """A word after one merge, in readable pieces; `rank` and `pair` are None before the first."""

    rank: int | None
    pair: Pair | None
    pieces: tuple[str, ...]


class GPT2Tokenizer(PreTrainedTokenizer):
    """Byte-level BPE with GPT-2's word pattern (Radford et al., 2019).

    `vocab` maps token strings, spelled in the printable byte alphabet, to ids; `merges` lists pairs of them,
    earliest first. `errors` says how bytes that are no UTF-8 are decoded, as in `bytes.decode`.
    `add_prefix_space` puts a space before a text, so that its first word is encoded like any other;
    `add_bos_token` and `add_eos_token` put those tokens around every text.
    """

    FILES = (("tokenizer.json", "vocab.json"),)

    def __init__(
        self,
        vocab: Mapping[str, int],
        merges: Sequence[Pair],
        *,
        errors: str = "replace",
        bos_token: str | AddedToken | None = END_OF_TEXT,
        eos_token: str | AddedToken | None = END_OF_TEXT,
        unk_token: str | AddedToken | None = END_OF_TEXT,
        pad_token: str | AddedToken | None = None,
        sep_token: str | AddedToken | None = None,
        cls_token: str | AddedToken | None = None,
        mask_token: str | AddedToken | None = None,
        add_prefix_space: bool = False,
        add_bos_token: bool = False,
        add_eos_token: bool = False,
        **options: Any,
    ) -> None:
        self.vocab = dict(vocab)
        self.merges = [(left, right) for left, right in merges]
        self.errors = errors
        self.add_prefix_space = add_prefix_space
        self.add_bos_token = add_bos_token
        self.add_eos_token = add_eos_token
        self._encoder = BytePairEncoder(self.vocab, self.merges)
        self.clear_cache()
        self._bytes = {i: _bytes_of(token) for token, i in self.vocab.items()}
        special_tokens = {
            "bos_token": bos_token,
            "eos_token": eos_token,
            "unk_token": unk_token,
            "sep_token": sep_token,
            "pad_token": pad_token,
            "cls_token": cls_token,
            "mask_token": mask_token,
        }
        super().__init__(vocab, special_tokens=special_tokens, **options)

    # -------------------------------------------------------------------------------------- learning

    @classmethod
    def train(
        cls,
        texts: str | Iterable[str | Iterable[str]],
        vocab_size: int = 8192,
        *,
        min_frequency: int = 2,
        special_tokens: Sequence[str | AddedToken] = (END_OF_TEXT,),
        add_prefix_space: bool = False,
        progress: bool = False,
        **options: Any,
    ) -> Self:
        """Learn a vocabulary from a text, or from an iterable of texts or of lists of texts.

        The ids are: the special tokens, the 256 bytes, the merges in the order in which they were learned. Texts are
        read once and only their distinct words are kept. Special tokens in the texts are left out of the count. The
        result depends on the texts alone, not on their order.

        Raises ValueError if `vocab_size` has no room for the bytes and special tokens; warns if no pair that occurs
        `min_frequency` times is left before it is filled.
        """
        added = [token if isinstance(token, AddedToken) else AddedToken.make_special(token) for token in special_tokens]
        names = [token.content for token in added]
        n_merges = vocab_size - len(names) - len(byte_level.ALPHABET)
        if n_merges < 0:
            raise ValueError(
                f"vocab_size={vocab_size} is too small: the {len(byte_level.ALPHABET)} bytes and {len(names)} special "
                f"tokens already make {vocab_size - n_merges}"
            )
        splitter = AddedTokenSplitter(dict(enumerate(added)))
        counts: Counter[str] = Counter()
        for text in _flatten(texts):
            for segment in splitter.split(text):
                if segment.token_id is None:
                    for words in _word_sections(segment.text, add_prefix_space):
                        counts.update(words)
        merges = learn_merges(
            {byte_level.to_characters(word.encode()): count for word, count in counts.items()},
            n_merges,
            alphabet=byte_level.ALPHABET,
            min_frequency=min_frequency,
            progress=progress,
        )
        tokens = [*names, *byte_level.ALPHABET, *(left + right for left, right in merges)]
        if len(set(tokens)) != len(tokens):
            clash = next(name for name in names if tokens.count(name) > 1)
            raise ValueError(f"the special token {clash!r} is also a token of ordinary text; choose a longer one")
        if len(tokens) < vocab_size:
            warnings.warn(
                f"the texts yield {len(tokens)} tokens, not {vocab_size}: no further pair occurs {min_frequency} "
                "times. Give a model the size len(tokenizer)",
                stacklevel=2,
            )
        # GPT-2 uses one token for all these roles; without it the caller says what has which role.
        for role in ("bos_token", "eos_token", "unk_token"):
            options.setdefault(role, END_OF_TEXT if END_OF_TEXT in names else None)
        vocab = {token: i for i, token in enumerate(tokens)}
        added_tokens = dict(enumerate(added))
        return cls(vocab, merges, added_tokens=added_tokens, add_prefix_space=add_prefix_space, **options)

    def train_new_from_iterator(
        self,
        text_iterator: Iterable[str | Iterable[str]],
        vocab_size: int,
        *,
        new_special_tokens: Sequence[str | AddedToken] = (),
        min_frequency: int = 0,
        progress: bool = False,
    ) -> Self:
        """Learn a tokenizer like this one, with its special tokens and settings, from other texts.

        As in Transformers, `min_frequency` is 0: the vocabulary is filled even with pairs that occur once.
        """
        special = [token for token in self.added_tokens_decoder.values() if token.special]
        roles: dict[str, str | None] = dict.fromkeys(ROLES)
        return type(self).train(
            text_iterator,
            vocab_size,
            min_frequency=min_frequency,
            special_tokens=[*special, *new_special_tokens],
            progress=progress,
            **(roles | self.special_tokens_map | self.settings()),
        )

    # -------------------------------------------------------------------------------------- encoding

    def _encode_word(self, word: str) -> tuple[int, ...]:
        # `encode_bytes` hands bytes that are no UTF-8 through text as lone surrogates.
        return self._encoder.encode(byte_level.to_characters(word.encode("utf-8", "surrogateescape")))

    def _encode_text(self, text: str) -> list[int]:
        ids: list[int] = []
        for words in _word_sections(text, self.add_prefix_space):
            ids.extend(chain.from_iterable(map(self._cache.__getitem__, words)))
        return ids

    def _encode_text_with_offsets(self, text: str) -> Encoded:
        encoded = Encoded([])
        start = 0
        for words in _word_sections(text, self.add_prefix_space):
            for word in words:
                ids = self._cache[word]
                encoded.ids += ids
                encoded.offsets += [(start + first, start + stop) for first, stop in self._characters(word, ids)]
                start += len(word)
        if start > len(text):  # a space was put before the text; it counts as part of the first character
            encoded.offsets = [(max(first - 1, 0), max(stop - 1, 1)) for first, stop in encoded.offsets]
        return encoded

    def _characters(self, word: str, ids: tuple[int, ...]) -> Iterator[Offset]:
        """Yield for each token the characters of the word of which it holds a byte or more."""
        of_byte = [place for place, character in enumerate(word) for _ in character.encode("utf-8", "surrogateescape")]
        start = 0
        for i in ids:
            stop = start + len(self._bytes[i])
            yield of_byte[start], of_byte[stop - 1] + 1
            start = stop

    def clear_cache(self) -> None:
        """Forget the words encoded so far; nothing changes but the time that the next text takes."""
        self._cache = WordCache(self._encode_word)

    def encode_bytes(self, data: bytes) -> list[int]:
        """Return ids for any bytes, text or not; `decode_bytes` returns exactly these bytes.

        Bytes that are UTF-8 get the ids of their text. Special tokens are not looked for and no space is added.
        """
        text = data.decode("utf-8", "surrogateescape")
        return list(chain.from_iterable(map(self._cache.__getitem__, byte_level.split_words(text))))

    def _layout(self, pair: bool) -> Layout:
        before = [self._required("bos_token")] if self.add_bos_token else []
        after = [self._required("eos_token")] if self.add_eos_token else []
        layout: Layout = []
        for name, type_id in super()._layout(pair):
            layout += [(slot, type_id) for slot in (*before, name, *after)]
        return layout

    def _required(self, role: str) -> int:
        i = getattr(self, role + "_id")
        if i is None:
            raise ValueError(f"add_{role} is on, but there is no {role}; set tokenizer.{role} first")
        return i

    # -------------------------------------------------------------------------------------- decoding

    def _join(self, ids: list[int]) -> str:
        return b"".join(map(self._bytes.__getitem__, ids)).decode("utf-8", self.errors)

    def decode_bytes(self, token_ids: Any, skip_special_tokens: bool = False) -> bytes:
        """Return the bytes of token ids, which need not be UTF-8."""
        return b"".join(self._bytes[i] for i in self._known_ids(to_lists(token_ids), skip_special_tokens))

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        """Return the text of token strings."""
        return self._join(self.convert_tokens_to_ids(tokens))

    def _register(self, token: AddedToken, i: int) -> None:
        super()._register(token, i)
        self._bytes[i] = token.content.encode()

    # --------------------------------------------------------------------------------------- looking

    def pieces(self, text: str) -> list[str]:
        r"""Return what each token of a text stands for, to look at: `["Hello", " w", "Ã", "¶", "rld"]`.

        A byte that is not a whole character by itself is shown as `\x..`; all others joined are the text.
        """
        return [self._readable(self._bytes[i]) for i in self.encode(text, add_special_tokens=False)]

    def merge_steps(self, word: str) -> list[WordStep]:
        """Return how one word is encoded, from its bytes to its tokens, one merge a step.

        Raises ValueError if the text is more than one word: merges never cross words.
        """
        words = byte_level.split_words(word)
        if len(words) != 1:
            raise ValueError(f"merges act inside one word, and this is {len(words)}: {words}; pass one of them")
        return [
            WordStep(step.rank, step.pair and self._show(step.pair), self._show(step.tokens))
            for step in self._encoder.steps(byte_level.to_characters(word.encode()))
        ]

    def _show(self, tokens: Any) -> Any:
        return tuple(self._readable(byte_level.to_bytes(token)) for token in tokens)

    @staticmethod
    def _readable(data: bytes) -> str:
        return data.decode("utf-8", "backslashreplace")

    # ----------------------------------------------------------------------------------------- files

    def settings(self) -> dict[str, Any]:
        """Return the settings of this tokenizer that are neither tokens nor merges, as the constructor takes them."""
        return {name: getattr(self, name) for name in gpt2_files.SETTINGS}

    @classmethod
    def _read_folder(cls, folder: Path) -> dict[str, Any]:
        return gpt2_files.read_folder(folder)

    def _write_folder(self, folder: Path) -> list[Path]:
        return gpt2_files.write_folder(
            folder, self.vocab, self.merges, self.added_tokens_decoder, self.special_tokens_map, self.settings()
        )


def _bytes_of(token: str) -> bytes:
    """Return the bytes that a token of the vocabulary stands for."""
    try:
        return byte_level.to_bytes(token)
    except KeyError:  # not spelled in the byte alphabet: a special token, which is text as it stands
        return token.encode()


def _word_sections(text: str, add_prefix_space: bool) -> Iterator[list[str]]:
    if add_prefix_space and not text.startswith(" "):
        text = " " + text
    return byte_level.word_sections(text)


def _flatten(texts: str | Iterable[str | Iterable[str]]) -> Iterator[str]:
    for item in [texts] if isinstance(texts, str) else texts:
        if isinstance(item, str):
            yield item
        elif isinstance(item, bytes) or not isinstance(item, Iterable):
            raise TypeError(f"training needs texts, which are str, not {type(item).__name__}")
        else:
            yield from _flatten(item)
