"""One token for each character of a text: the tokenizer of first lessons.

    tokenizer = CharTokenizer.from_text("hello")     # e, h, l, o
    tokenizer.encode("hole")                         # [1, 3, 2, 0]

The vocabulary is tiny and nothing is learned; in exchange, sequences are long and a new character is an error.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from minilm.tokenizers.added_tokens import AddedToken
from minilm.tokenizers.base import PreTrainedTokenizer
from minilm.tokenizers.batching import Encoded
from minilm.tokenizers.vocabulary import ROLELESS, ROLES


class CharTokenizer(PreTrainedTokenizer):
    """Maps every character of a vocabulary to an id.

    `vocab` maps characters to ids. Without an `unk_token`, a character outside the vocabulary is refused.
    """

    FILES = ("vocab.json", "tokenizer_config.json")

    def __init__(self, vocab: Mapping[str, int], **options: Any) -> None:
        self.vocab = dict(vocab)
        long = [token for token in self.vocab if len(token) != 1]
        if long:
            raise ValueError(f"a CharTokenizer's vocabulary is made of single characters, not {long[:3]}")
        special = {role: options.pop(role) for role in ROLES if role in options}
        super().__init__(self.vocab, special_tokens=special, **options)

    @classmethod
    def from_text(cls, texts: str | Iterable[str], **options: Any) -> Self:
        """Return a tokenizer for the characters of a text or of several, with ids in the order of code points.

        `unk_token="<unk>"` adds a token for characters that are not among them; special tokens come last.
        """
        characters: set[str] = set()
        for text in [texts] if isinstance(texts, str) else texts:
            characters.update(text)
        if not characters:
            raise ValueError("there is no character in the text to make a vocabulary of")
        return cls({character: i for i, character in enumerate(sorted(characters))}, **options)

    def _encode_text(self, text: str) -> list[int]:
        if self.unk_token_id is not None:
            unknown = self.unk_token_id
            return [self.vocab.get(character, unknown) for character in text]
        try:
            return [self.vocab[character] for character in text]
        except KeyError as error:
            raise ValueError(
                f"the character {error} is not among the {len(self.vocab)} of the vocabulary; "
                "make the tokenizer from a text that has it, or with an unk_token"
            ) from None

    def _encode_text_with_offsets(self, text: str) -> Encoded:
        return Encoded(self._encode_text(text), [(place, place + 1) for place in range(len(text))])

    def _join(self, ids: list[int]) -> str:
        return "".join(map(self._tokens.__getitem__, ids))

    def pieces(self, text: str) -> list[str]:
        """Return what each token of a text stands for, to look at."""
        return self.tokenize(text)

    @classmethod
    def _read_folder(cls, folder: Path) -> dict[str, Any]:
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        if config.pop("tokenizer_class", None) != cls.__name__:
            raise ValueError(f"{folder} does not hold a {cls.__name__}: its tokenizer_config.json names another class")
        added = {int(i): AddedToken(**token) for i, token in config.pop("added_tokens_decoder").items()}
        vocab = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
        return config | {"vocab": vocab, "added_tokens": added}

    def _write_folder(self, folder: Path) -> list[Path]:
        config = {
            "tokenizer_class": type(self).__name__,
            **self.special_tokens_map,
            ROLELESS[0]: self.additional_special_tokens,
            "model_max_length": self.model_max_length,
            "padding_side": self.padding_side,
            "truncation_side": self.truncation_side,
            "added_tokens_decoder": {str(i): vars(token) for i, token in self.added_tokens_decoder.items()},
        }
        paths = [folder / "vocab.json", folder / "tokenizer_config.json"]
        for path, content in zip(paths, [self.vocab, config], strict=True):
            path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8", newline="\n")
        return paths
