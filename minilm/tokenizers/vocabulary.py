"""Tokens and their ids, and the special tokens among them.

Transformers' names throughout. A *special* token marks structure (end of text, padding) and may have a *role*:
`eos_token`, `pad_token`. An *added* token is any that was not part of the learned vocabulary, or is special.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from operator import index
from typing import Any, overload

from minilm.tokenizers.added_tokens import AddedToken, AddedTokenSplitter

ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
# Special tokens without a role: the name that Transformers gave the list in version 4, and in version 5.
ROLELESS = ("additional_special_tokens", "extra_special_tokens")


class SpecialToken:
    """A special token by its role: `tokenizer.pad_token` is its text, or None where there is none."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.role = name

    @overload
    def __get__(self, holder: None, owner: type) -> SpecialToken: ...
    @overload
    def __get__(self, holder: TokenVocabulary, owner: type) -> str | None: ...
    def __get__(self, holder: TokenVocabulary | None, owner: type) -> SpecialToken | str | None:
        return self if holder is None else holder._role.get(self.role)

    def __set__(self, holder: TokenVocabulary, token: str | AddedToken | None) -> None:
        if token is not None and str(token) not in holder._ids:
            raise ValueError(
                f"{str(token)!r} is not in the vocabulary, so it cannot become the {self.role}; "
                f"add it with tokenizer.add_special_tokens({{{self.role!r}: {str(token)!r}}})"
            )
        holder._role[self.role] = None if token is None else str(token)


class SpecialTokenId:
    """The id of a special token by its role: `tokenizer.pad_token_id`, or None where there is none."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.role = name.removesuffix("_id")

    @overload
    def __get__(self, holder: None, owner: type) -> SpecialTokenId: ...
    @overload
    def __get__(self, holder: TokenVocabulary, owner: type) -> int | None: ...
    def __get__(self, holder: TokenVocabulary | None, owner: type) -> SpecialTokenId | int | None:
        if holder is None:
            return self
        token = holder._role.get(self.role)
        return None if token is None else holder._ids[token]

    def __set__(self, holder: TokenVocabulary, value: object) -> None:
        raise AttributeError(f"set {self.role} to the text of a token; {self.role}_id follows from it")


class TokenVocabulary:
    """The tokens of a tokenizer with their ids, its added tokens, and which special token has which role.

    `vocab` maps the learned tokens to ids. `added_tokens` are tokens with fixed ids, `special_tokens` maps roles to
    tokens; a special token that is new gets the next free id. Raises ValueError where ids or tokens collide.
    """

    bos_token, bos_token_id = SpecialToken(), SpecialTokenId()
    eos_token, eos_token_id = SpecialToken(), SpecialTokenId()
    unk_token, unk_token_id = SpecialToken(), SpecialTokenId()
    sep_token, sep_token_id = SpecialToken(), SpecialTokenId()
    pad_token, pad_token_id = SpecialToken(), SpecialTokenId()
    cls_token, cls_token_id = SpecialToken(), SpecialTokenId()
    mask_token, mask_token_id = SpecialToken(), SpecialTokenId()

    def __init__(
        self,
        vocab: Mapping[str, int],
        *,
        added_tokens: Mapping[int, AddedToken] | None = None,
        special_tokens: Mapping[str, str | AddedToken | None] | None = None,
        additional_special_tokens: Iterable[str | AddedToken] = (),
    ) -> None:
        self._vocab_size = len(vocab)
        self._ids = dict(vocab)
        self._tokens = {i: token for token, i in vocab.items()}
        if len(self._tokens) != len(self._ids):
            raise ValueError(f"the vocabulary has {len(self._ids)} tokens but only {len(self._tokens)} ids")
        self._added: dict[int, AddedToken] = {}
        self._role: dict[str, str | None] = {}
        self._splitter = AddedTokenSplitter({})
        for i, token in sorted((added_tokens or {}).items()):
            self._register(token, i)
        self.add_special_tokens({role: token for role, token in (special_tokens or {}).items() if token is not None})
        self.add_tokens(list(additional_special_tokens), special_tokens=True)

    @property
    def vocab_size(self) -> int:
        """The number of learned tokens; `len(tokenizer)` counts the added ones too."""
        return self._vocab_size

    def __len__(self) -> int:
        return len(self._ids)

    def get_vocab(self) -> dict[str, int]:
        """Return every token with its id, added tokens included."""
        return dict(self._ids)

    def get_added_vocab(self) -> dict[str, int]:
        """Return the added tokens with their ids."""
        return {token.content: i for i, token in self.added_tokens_decoder.items()}

    @property
    def added_tokens_decoder(self) -> dict[int, AddedToken]:
        """The added tokens by id."""
        return dict(sorted(self._added.items()))

    @property
    def special_tokens_map(self) -> dict[str, str]:
        """The special tokens by role, those that are set."""
        return {role: token for role in ROLES if (token := self._role.get(role)) is not None}

    @property
    def additional_special_tokens(self) -> list[str]:
        """The special tokens that have no role."""
        special = [token.content for token in self.added_tokens_decoder.values() if token.special]
        return [token for token in special if token not in self.special_tokens_map.values()]

    @property
    def all_special_tokens(self) -> list[str]:
        """Every special token once, those with a role first."""
        return list(dict.fromkeys([*self.special_tokens_map.values(), *self.additional_special_tokens]))

    @property
    def all_special_ids(self) -> list[int]:
        """The ids of `all_special_tokens`."""
        return [self._ids[token] for token in self.all_special_tokens]

    def add_tokens(
        self, tokens: str | AddedToken | Sequence[str | AddedToken], special_tokens: bool = False
    ) -> int:
        """Add tokens that are found in text before anything else is done to it; return how many are new.

        The embedding of a model must have `len(tokenizer)` rows afterwards.
        """
        before = len(self)
        for token in [tokens] if isinstance(tokens, str | AddedToken) else tokens:
            i = self._ids.get(str(token), max(self._tokens, default=-1) + 1)
            if isinstance(token, str):
                fresh = AddedToken.make_special(token) if special_tokens else AddedToken(token)
                token = self._added.get(i, fresh)  # named again, a token keeps its settings
            self._register(replace(token, special=token.special or special_tokens), i)
        return len(self) - before

    def add_special_tokens(self, special_tokens: Mapping[str, Any]) -> int:
        """Give special tokens their roles, `{"pad_token": "<pad>"}`, adding new ones; return how many were new.

        The key "additional_special_tokens" (or "extra_special_tokens") takes a list of tokens without a role.
        """
        new = 0
        for role, value in special_tokens.items():
            if role in ROLELESS:
                new += self.add_tokens(list(value), special_tokens=True)
            elif role in ROLES:
                new += self.add_tokens(value, special_tokens=True)
                self._role[role] = str(value)
            else:
                raise ValueError(f"{role!r} is not a role of a special token; the roles are {', '.join(ROLES)}")
        return new

    def convert_tokens_to_ids(self, tokens: str | Sequence[str]) -> Any:
        """Return the id of a token, or of each of several; an unknown one has the id of `unk_token`.

        Raises ValueError for an unknown token where there is no `unk_token`.
        """
        if not isinstance(tokens, str):
            return [self.convert_tokens_to_ids(token) for token in tokens]
        found = self._ids.get(tokens, self.unk_token_id)
        if found is None:
            raise ValueError(f"the token {tokens!r} is not in the vocabulary, and there is no unk_token")
        return found

    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> Any:
        """Return the token string of an id, or of each of several."""
        plain = to_lists(ids)
        if isinstance(plain, int):
            return self._tokens[self._known_ids([plain])[0]]
        return [self._tokens[i] for i in self._known_ids(plain, skip_special_tokens)]

    def _known_ids(self, ids: list[int], skip_special_tokens: bool = False) -> list[int]:
        """Return the ids, without the special ones if asked. Raises ValueError for one that no token has."""
        unknown = set(ids) - self._tokens.keys()
        if unknown:
            raise ValueError(f"no token has the id {min(unknown)}; the ids run from 0 to {max(self._tokens)}")
        if not skip_special_tokens:
            return ids
        special = {i for i, token in self._added.items() if token.special}
        return [i for i in ids if i not in special]

    def _register(self, token: AddedToken, i: int) -> None:
        if self._ids.get(token.content, i) != i:
            raise ValueError(f"the added token {token.content!r} wants id {i} but has {self._ids[token.content]}")
        if self._tokens.get(i, token.content) != token.content:
            raise ValueError(f"the added token {token.content!r} wants id {i}, which {self._tokens[i]!r} has")
        self._ids[token.content] = i
        self._tokens[i] = token.content
        self._added[i] = token
        self._splitter = AddedTokenSplitter(self._added)


def to_lists(ids: Any) -> Any:
    """Return ids as a plain int or as (nested) lists of ints, from lists, arrays or tensors.

    Raises TypeError for anything that is not a whole number.
    """
    if isinstance(ids, Mapping):
        ids = ids["input_ids"]
    if hasattr(ids, "tolist"):
        ids = ids.tolist()
    if isinstance(ids, Sequence) and not isinstance(ids, str | bytes):
        try:
            return list(map(index, ids))
        except TypeError:
            return [to_lists(row) for row in ids]
    try:
        return index(ids)
    except TypeError:
        raise TypeError(f"token ids are whole numbers, not {type(ids).__name__} ({ids!r})") from None
