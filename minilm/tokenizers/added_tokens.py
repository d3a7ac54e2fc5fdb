"""Tokens that are found in text whole, before anything else is done to it.

Special tokens (`<|endoftext|>`) and tokens that a user adds are not learned and never cut. They are looked for
first; what lies between them is handed to the algorithm of the tokenizer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class AddedToken:
    """A token that is matched as a whole, with Transformers' names for how.

    `single_word`: only where no letter or digit touches it. `lstrip`, `rstrip`: it swallows white space on that
    side. `normalized`: it is looked for after, and inside what remains from, the tokens that are not. `special`: it
    marks structure, not text, and `decode(..., skip_special_tokens=True)` leaves it out.
    """

    content: str
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = True
    special: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.content, str) or not self.content:
            raise ValueError(f"an added token must be a string of at least one character, not {self.content!r}")

    @classmethod
    def make_special(cls, content: str) -> AddedToken:
        """Return a special token with Transformers' settings for one: matched first and exactly."""
        return cls(content, normalized=False, special=True)

    def __str__(self) -> str:
        return self.content


class Segment(NamedTuple):
    """A stretch of text that starts at character `start`: an added token if `token_id` is set, else ordinary."""

    text: str
    start: int
    token_id: int | None = None


class AddedTokenSplitter:
    """Cuts text at added tokens. Where several match at one place, the longest wins, as in `tokenizers`."""

    def __init__(self, tokens: Mapping[int, AddedToken]) -> None:
        self._id_of = {token.content: i for i, token in tokens.items()}
        self._token_of = {token.content: token for token in tokens.values()}
        exact = [token.content for token in tokens.values() if not token.normalized]
        later = [token.content for token in tokens.values() if token.normalized]
        ordinary = [token.content for token in tokens.values() if not token.special]
        self._passes = _patterns(exact) + _patterns(later)
        self._passes_without_special = _patterns(ordinary)

    def split(self, text: str, *, split_special_tokens: bool = False) -> list[Segment]:
        """Return the segments of `text` in order; ordinary ones are never empty.

        With `split_special_tokens` the special tokens are treated as ordinary text, which is what text from a
        stranger deserves.
        """
        segments = [Segment(text, 0)] if text else []
        for pattern in self._passes_without_special if split_special_tokens else self._passes:
            if pattern.search(text):
                segments = [part for segment in segments for part in self._split_once(segment, pattern)]
        return segments

    def _split_once(self, segment: Segment, pattern: re.Pattern[str]) -> Iterator[Segment]:
        if segment.token_id is not None:
            yield segment
            return
        text, done = segment.text, 0
        for match in pattern.finditer(text):
            token = self._token_of[match.group()]
            start, stop = match.span()
            if token.single_word and (re.search(r"\w\Z", text[:start]) or re.match(r"\w", text[stop:])):
                continue
            if token.lstrip:
                start = max(done, len(text[:start].rstrip()))
            if token.rstrip:
                stop = len(text) - len(text[stop:].lstrip())
            if start > done:
                yield Segment(text[done:start], segment.start + done)
            yield Segment(text[start:stop], segment.start + start, self._id_of[token.content])
            done = stop
        if done < len(text):
            yield Segment(text[done:], segment.start + done)


def _patterns(contents: list[str]) -> list[re.Pattern[str]]:
    """Return a pattern for any of the strings, the longest first, or no pattern for no strings."""
    alternatives = map(re.escape, sorted(contents, key=len, reverse=True))
    return [re.compile("|".join(alternatives))] if contents else []
