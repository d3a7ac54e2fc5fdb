"""CharTokenizer: one token for each character."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minilm.tokenizers import CharTokenizer


def test_ids_are_in_the_order_of_code_points() -> None:
    tokenizer = CharTokenizer.from_text("hello")
    assert tokenizer.get_vocab() == {"e": 0, "h": 1, "l": 2, "o": 3}
    assert tokenizer.encode("hole") == [1, 3, 2, 0]
    assert tokenizer.decode([1, 3, 2, 0]) == "hole"
    assert tokenizer.vocab_size == len(tokenizer) == 4
    assert CharTokenizer.from_text(["lo", "he", "l"]).get_vocab() == tokenizer.get_vocab()


@given(st.text(min_size=1))
def test_its_own_text_survives(text: str) -> None:
    tokenizer = CharTokenizer.from_text(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode(text)) == len(text)


def test_an_unknown_character() -> None:
    with pytest.raises(ValueError, match="the character 'p' is not among the 4 of the vocabulary"):
        CharTokenizer.from_text("hello").encode("help")
    tokenizer = CharTokenizer.from_text("hello", unk_token="<unk>")
    assert tokenizer.encode("help") == [1, 0, 2, 4]
    assert tokenizer.decode([1, 0, 2, 4]) == "hel<unk>"


def test_special_tokens_come_last_and_are_found_in_text() -> None:
    tokenizer = CharTokenizer.from_text("ab<>e", eos_token="<e>", pad_token="<p>")
    assert tokenizer.eos_token_id == 5 and tokenizer.pad_token_id == 6
    assert tokenizer.encode("a<e>b") == [2, 5, 3]
    assert tokenizer.decode([2, 5, 3], skip_special_tokens=True) == "ab"


def test_offsets_and_pieces() -> None:
    tokenizer = CharTokenizer.from_text("ab")
    assert tokenizer("ab", return_offsets_mapping=True).offset_mapping == [(0, 1), (1, 2)]
    assert tokenizer.pieces("aba") == ["a", "b", "a"]


def test_what_makes_no_vocabulary() -> None:
    with pytest.raises(ValueError, match="no character"):
        CharTokenizer.from_text("")
    with pytest.raises(ValueError, match=r"single characters, not \['ab'\]"):
        CharTokenizer({"a": 0, "ab": 1})
