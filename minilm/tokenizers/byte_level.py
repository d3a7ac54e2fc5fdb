"""Text as words and bytes: what happens before and after byte-pair encoding.

Two ideas of GPT-2 (Radford et al., 2019, section 2.2) live here. First, tokens are made of *bytes*: 256 symbols
spell every text in every language, so nothing is ever unknown. Second, text is cut into words before merging, so
that no token spans two words. The merges themselves are in `bpe.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

# A word is a contraction, or letters, or digits, or other signs, each with at most one leading space, or white
# space. `\s+(?!\S)` leaves the last space of a run to the word that follows it.
GPT2_PATTERN = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""

# The same on ASCII text, for the standard library's `re`, which is two to three times as fast as `regex` there.
# Beyond ASCII it will not do: it knows no \p{L}, and its \w and \d take 1,131 characters (², ½, Ⅷ) for others.
_ASCII_PATTERN = r"""'s|'t|'re|'ve|'m|'ll|'d| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+"""

# Texts are cut into sections of about this many characters. It bounds the memory for their words, and a few
# characters beyond ASCII slow down only their section.
SECTION = 4096


def _printable_alphabet() -> dict[int, str]:
    """Give every byte a printable character, so that vocabulary files are readable text.

    Bytes that Latin-1 prints keep their character; the other 68, among them space and newline, are shifted in order
    to U+0100 and up. The space, byte 32, becomes 'Ġ'.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


_CHARACTER_OF_BYTE = _printable_alphabet()
_BYTE_OF_CHARACTER = {character: byte for byte, character in _CHARACTER_OF_BYTE.items()}

# In the order of their code points, which is the order in which they open GPT-2's vocabulary.
ALPHABET = tuple(sorted(_BYTE_OF_CHARACTER))


def to_characters(data: bytes) -> str:
    """Spell bytes in the printable alphabet: `to_characters(b" low") == "Ġlow"`."""
    return data.decode("latin-1").translate(_CHARACTER_OF_BYTE)  # Latin-1 reads byte b as code point b


def to_bytes(characters: str) -> bytes:
    """Undo `to_characters`. Raises KeyError for a character outside the alphabet."""
    return bytes(map(_BYTE_OF_CHARACTER.__getitem__, characters))


def split_words(text: str) -> list[str]:
    """Cut text into words by GPT-2's pattern: `"We'll see 42!"` → `We`, `'ll`, ` see`, ` 42`, `!`.

    Every character of the text is in exactly one word, so the words joined are the text.
    """
    if text.isascii():
        return _ascii_words(text)
    return _compiled(GPT2_PATTERN).findall(text)


def word_sections(text: str, size: int = SECTION) -> Iterator[list[str]]:
    """Yield the words of `split_words(text)` in lists that each cover about `size` characters.

    A cut is made only where a space or a newline follows something that is not white space: no word spans that
    place and none looks past it, so the words are the same as without cuts.
    """
    start = 0
    while len(text) - start > size:
        cut = _CUT.search(text, start + size)
        if cut is None:
            break
        yield split_words(text[start : cut.start()])
        start = cut.start()
    yield split_words(text[start:] if start else text)


_CUT = re.compile(r"(?<=\S)[ \n]")
_ascii_words = re.compile(_ASCII_PATTERN, re.ASCII).findall


@cache
def _compiled(pattern: str) -> Any:
    import regex

    return regex.compile(pattern)
