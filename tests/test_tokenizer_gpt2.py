"""GPT2Tokenizer: round trips, special tokens, learning, decoding, and what a reader can look at."""

from __future__ import annotations

import copy
import pickle
import warnings
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minilm.tokenizers import AddedToken, GPT2Tokenizer
from minilm.tokenizers.gpt2 import WordCache

END = "<|endoftext|>"
TEXT = "\n".join(topics[name] for name in sorted(topics))[:120_000]
LEARNED = GPT2Tokenizer.train(TEXT, 700)


@pytest.fixture
def tokenizer() -> GPT2Tokenizer:
    return copy.deepcopy(LEARNED)


# ---------------------------------------------------------------------------------------- round trips


@settings(max_examples=200, deadline=None)
@given(st.text() | st.text(alphabet="the ni'sre \n\t12é世🙂\u0301\x00", max_size=80))
def test_any_text_survives(text: str) -> None:
    assert LEARNED.decode(LEARNED.encode(text, split_special_tokens=True)) == text


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_survive(data: bytes) -> None:
    assert LEARNED.decode_bytes(LEARNED.encode_bytes(data)) == data


@given(st.text(max_size=40))
def test_the_bytes_of_a_text_have_the_ids_of_the_text(text: str) -> None:
    assert LEARNED.encode_bytes(text.encode()) == LEARNED.encode(text, split_special_tokens=True)


def test_text_encoded_after_broken_bytes_is_not_affected(tokenizer: GPT2Tokenizer) -> None:
    tokenizer.encode_bytes(b"ab\xff\xfe")
    assert tokenizer.decode(tokenizer.encode("ab")) == "ab"


def test_half_a_character_is_shown_as_a_replacement_or_raises(tokenizer: GPT2Tokenizer) -> None:
    ids = tokenizer.encode_bytes("世".encode()[:2])
    assert tokenizer.decode(ids) == "\N{REPLACEMENT CHARACTER}"
    tokenizer.errors = "strict"
    with pytest.raises(UnicodeDecodeError):
        tokenizer.decode(ids)


def test_a_long_text_is_the_concatenation_of_its_tokens(tokenizer: GPT2Tokenizer) -> None:
    ids = tokenizer.encode(TEXT)
    assert tokenizer.decode(ids) == TEXT
    assert len(TEXT) / 5 < len(ids) < len(TEXT) / 2
    assert max(ids) < len(tokenizer)


@pytest.mark.parametrize("word", ["a" * 100_000, "the" * 30_000, "世" * 20_000, "é1" * 20_000, " " * 100_000])
def test_very_long_words(word: str, tokenizer: GPT2Tokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode(word)) == word


def test_half_a_surrogate_pair_is_refused(tokenizer: GPT2Tokenizer) -> None:
    with pytest.raises(ValueError, match="half a surrogate pair at position 1"):
        tokenizer("a\ud800b")


# ------------------------------------------------------------------------------------------- learning


def test_learning_is_repeatable_and_independent_of_order() -> None:
    parts = TEXT[:20_000].split("\n")
    first = GPT2Tokenizer.train(parts, 400)
    second = GPT2Tokenizer.train(iter(reversed(parts)), 400)
    assert first.merges == second.merges
    assert first.get_vocab() == second.get_vocab()


def test_a_vocabulary_opens_with_special_tokens_and_bytes() -> None:
    tokenizer = GPT2Tokenizer.train("aaab" * 50, 262, special_tokens=[END, "<pad>"], pad_token="<pad>")
    assert tokenizer.convert_ids_to_tokens([0, 1, 2, 257]) == [END, "<pad>", "!", "\u0143"]
    assert tokenizer.eos_token_id == tokenizer.bos_token_id == 0
    assert tokenizer.pad_token_id == 1
    assert tokenizer.vocab_size == len(tokenizer) == 262
    assert tokenizer.merges[0] == ("a", "a")


def test_texts_may_be_a_string_texts_or_batches_of_texts() -> None:
    whole = GPT2Tokenizer.train("low lower lowest", 260)
    assert GPT2Tokenizer.train(["low", " lower", " lowest"], 260).merges == whole.merges
    assert GPT2Tokenizer.train([["low", " lower"], [" lowest"]], 260).merges == whole.merges


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(TypeError, match="not bytes"):
        GPT2Tokenizer.train([b"abc"], 300)  # type: ignore[list-item]
    with pytest.raises(TypeError, match="not int"):
        GPT2Tokenizer.train([1, 2], 300)  # type: ignore[list-item]


def test_a_vocabulary_too_small_for_the_bytes_is_refused() -> None:
    with pytest.raises(ValueError, match="256 bytes and 1 special tokens already make 257"):
        GPT2Tokenizer.train("abc", 256)


def test_a_vocabulary_that_cannot_be_filled_warns() -> None:
    with pytest.warns(UserWarning, match="yield 258 tokens, not 300"):
        tokenizer = GPT2Tokenizer.train("abab", 300)
    assert len(tokenizer) == 258


def test_special_tokens_in_the_texts_are_not_counted() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = GPT2Tokenizer.train(["low low", "lower"], 300)
        marked = GPT2Tokenizer.train(f"low low{END}lower", 300)
    assert plain.merges == marked.merges


def test_a_special_token_that_is_also_text_is_refused() -> None:
    with pytest.raises(ValueError, match="'x' is also a token of ordinary text"):
        GPT2Tokenizer.train("abc", 258, special_tokens=["x"])


def test_without_gpt2s_end_token_no_role_is_guessed() -> None:
    tokenizer = GPT2Tokenizer.train("abab", 259, special_tokens=["<s>", "</s>"], eos_token="</s>")
    assert tokenizer.special_tokens_map == {"eos_token": "</s>"}
    assert tokenizer.additional_special_tokens == ["<s>"]
    assert len(tokenizer) == 259


def test_a_new_tokenizer_like_this_one(tokenizer: GPT2Tokenizer) -> None:
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    tokenizer.padding_side = "left"
    new = tokenizer.train_new_from_iterator(["low lower lowest"] * 3, 264, new_special_tokens=["<x>"])
    assert new.get_added_vocab() == {END: 0, "<pad>": 1, "<x>": 2}
    assert new.special_tokens_map == tokenizer.special_tokens_map
    assert new.settings() == tokenizer.settings()
    assert len(new) == 264
    assert new.merges[0] == ("l", "o")


def test_a_prefix_space_counts_in_learning() -> None:
    with_space = GPT2Tokenizer.train(["low"] * 5, 260, add_prefix_space=True)
    assert with_space.merges[-1] == ("Ġlo", "w")
    assert with_space.tokenize("low") == with_space.tokenize(" low") == ["Ġlow"]


# ------------------------------------------------------------------------- special and added tokens


def test_a_special_token_in_text_is_one_token(tokenizer: GPT2Tokenizer) -> None:
    ids = tokenizer.encode(f"a{END}b{END}")
    assert ids.count(tokenizer.eos_token_id) == 2
    assert tokenizer.tokenize(f"a{END}b") == ["a", END, "b"]
    assert tokenizer.decode(ids) == f"a{END}b{END}"
    assert tokenizer.decode(ids, skip_special_tokens=True) == "ab"


def test_text_of_a_stranger_can_be_kept_from_being_special(tokenizer: GPT2Tokenizer) -> None:
    ids = tokenizer(f"a{END}b", split_special_tokens=True).input_ids
    assert tokenizer.eos_token_id not in ids
    assert tokenizer.decode(ids) == f"a{END}b"


def test_adding_tokens(tokenizer: GPT2Tokenizer) -> None:
    size = len(tokenizer)
    assert tokenizer.add_tokens(["foo bar", "foo", "the"]) == 3 - int("the" in LEARNED.get_vocab())
    assert tokenizer.add_tokens("foo") == 0
    assert tokenizer.tokenize("xfoo barfoo") == ["x", "foo bar", "foo"]
    assert tokenizer.vocab_size == size < len(tokenizer)
    assert tokenizer.decode(tokenizer.encode("foo bar"), skip_special_tokens=True) == "foo bar"
    assert tokenizer.get_added_vocab()["foo bar"] == size


def test_added_tokens_beyond_ascii_survive(tokenizer: GPT2Tokenizer) -> None:
    tokenizer.add_tokens(["é", "世界"])
    assert tokenizer.tokenize("né世界") == ["n", "é", "世界"]
    assert tokenizer.decode(tokenizer.encode("né世界")) == "né世界"


def test_the_longest_added_token_wins(tokenizer: GPT2Tokenizer) -> None:
    tokenizer.add_tokens(["<a>", "<a><b>"], special_tokens=True)
    assert tokenizer.tokenize("<a><b><a>") == ["<a><b>", "<a>"]


@pytest.mark.parametrize(
    ("token", "text", "expected"),
    [
        (AddedToken("<m>", lstrip=True), "a  <m> b", ["a", "<m>", "Ġb"]),
        (AddedToken("<m>", rstrip=True), "a <m>  b", ["a", "Ġ", "<m>", "b"]),
        (AddedToken("<m>", lstrip=True, rstrip=True), "a <m> <m> b", ["a", "<m>", "<m>", "b"]),
        (AddedToken("cat", single_word=True), "cat,concat cat", ["cat", ",", "con", "c", "at", "Ġ", "cat"]),
    ],
)
def test_how_added_tokens_are_matched(token: AddedToken, text: str, expected: list[str]) -> None:
    merges = [("o", "n"), ("c", "on"), ("a", "t"), ("Ġ", "b")]
    tokens = [*LEARNED.convert_ids_to_tokens(range(257)), *map("".join, merges)]
    tokenizer = GPT2Tokenizer({token: i for i, token in enumerate(tokens)}, merges)
    tokenizer.add_tokens(token)
    assert tokenizer.tokenize(text) == expected


def test_exact_tokens_are_found_before_the_others(tokenizer: GPT2Tokenizer) -> None:
    tokenizer.add_tokens(["ab<x>"])
    tokenizer.add_tokens(["<x>"], special_tokens=True)
    assert tokenizer.tokenize("ab<x>")[-1] == "<x>"


def test_roles(tokenizer: GPT2Tokenizer) -> None:
    assert tokenizer.pad_token is None and tokenizer.pad_token_id is None
    tokenizer.pad_token = tokenizer.eos_token
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    assert tokenizer.add_special_tokens({"pad_token": "<pad>", "additional_special_tokens": ["<x>"]}) == 2
    assert tokenizer.pad_token_id == len(tokenizer) - 2
    assert tokenizer.all_special_tokens == [END, "<pad>", "<x>"]
    assert tokenizer.all_special_ids == [0, len(tokenizer) - 2, len(tokenizer) - 1]
    tokenizer.pad_token = None
    assert tokenizer.pad_token_id is None


def test_a_role_needs_a_token_that_exists(tokenizer: GPT2Tokenizer) -> None:
    with pytest.raises(ValueError, match=r"add_special_tokens\(\{'pad_token': '<pad>'\}\)"):
        tokenizer.pad_token = "<pad>"
    with pytest.raises(ValueError, match="not a role"):
        tokenizer.add_special_tokens({"padding": "<pad>"})
    with pytest.raises(AttributeError, match="follows from it"):
        tokenizer.pad_token_id = 3  # type: ignore[misc]


def test_a_token_named_again_keeps_its_settings(tokenizer: GPT2Tokenizer) -> None:
    tokenizer.add_tokens(AddedToken("<m>", lstrip=True))
    tokenizer.add_special_tokens({"mask_token": "<m>"})
    assert tokenizer.added_tokens_decoder[tokenizer.mask_token_id or -1] == AddedToken("<m>", lstrip=True, special=True)


def test_colliding_added_tokens_are_refused() -> None:
    vocab = LEARNED.vocab
    with pytest.raises(ValueError, match="wants id 5, which"):
        GPT2Tokenizer(vocab, [], added_tokens={5: AddedToken("<x>")})
    with pytest.raises(ValueError, match="wants id 900 but has"):
        GPT2Tokenizer(vocab, [], added_tokens={900: AddedToken("a")})
    with pytest.raises(ValueError, match="at least one character"):
        AddedToken("")
    with pytest.raises(ValueError, match="2 tokens but only 1 ids"):
        GPT2Tokenizer({"a": 0, "b": 0}, [])


def test_tokens_around_every_text() -> None:
    tokenizer = GPT2Tokenizer(LEARNED.vocab, LEARNED.merges, add_bos_token=True, add_eos_token=True)
    plain = LEARNED.encode("hello")
    assert tokenizer.encode("hello") == [0, *plain, 0]
    assert tokenizer.encode("hello", add_special_tokens=False) == plain
    assert tokenizer("hello", "hello").input_ids == [0, *plain, 0, 0, *plain, 0]
    assert tokenizer.num_special_tokens_to_add() == 2
    assert tokenizer("hello", return_special_tokens_mask=True).special_tokens_mask == [1, *[0] * len(plain), 1]
    assert tokenizer.tokenize("hello") == LEARNED.tokenize("hello")
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match="there is no eos_token"):
        tokenizer("hello")


# ------------------------------------------------------------------------------------------- decoding


class TensorLike:
    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def tolist(self) -> Any:
        return self.array.tolist()


def test_what_can_be_decoded(tokenizer: GPT2Tokenizer) -> None:
    ids = tokenizer.encode("low and high")
    array = np.array(ids)
    for form in (ids, tuple(ids), array, array.astype(np.int32), TensorLike(array), list(array)):
        assert tokenizer.decode(form) == "low and high"
    assert tokenizer.decode(ids[0]) == tokenizer.decode(np.int64(ids[0])) == tokenizer.decode(ids[:1])
    assert tokenizer.decode([]) == ""
    rows = np.array([ids, ids])
    for form in (rows, rows.tolist(), [np.array(ids), ids], TensorLike(rows), tokenizer(["low and high"] * 2)):
        assert tokenizer.batch_decode(form) == tokenizer.decode(form) == ["low and high"] * 2


def test_what_cannot_be_decoded(tokenizer: GPT2Tokenizer) -> None:
    with pytest.raises(ValueError, match="no token has the id 700; the ids run from 0 to 699"):
        tokenizer.decode([1, 700])
    with pytest.raises(ValueError, match="no token has the id -1"):
        tokenizer.decode(-1)
    with pytest.raises(TypeError, match=r"whole numbers, not float \(1.0\)"):
        tokenizer.decode(np.array([1.0]))
    with pytest.raises(TypeError, match="whole numbers, not str"):
        tokenizer.decode("low")


def test_tokens_and_ids(tokenizer: GPT2Tokenizer) -> None:
    tokens = tokenizer.tokenize("low wörld")
    ids = tokenizer.convert_tokens_to_ids(tokens)
    assert ids == tokenizer.encode("low wörld")
    assert tokenizer.convert_ids_to_tokens(ids) == tokenizer.convert_ids_to_tokens(np.array(ids)) == tokens
    assert tokenizer.convert_ids_to_tokens(ids[0]) == tokens[0]
    assert tokenizer.convert_ids_to_tokens([0, ids[0]], skip_special_tokens=True) == tokens[:1]
    assert tokenizer.convert_tokens_to_string(tokens) == "low wörld"
    assert tokenizer.convert_tokens_to_ids("no such token") == tokenizer.unk_token_id
    tokenizer.unk_token = None
    with pytest.raises(ValueError, match="there is no unk_token"):
        tokenizer.convert_tokens_to_ids("no such token")


# -------------------------------------------------------------------------------------------- looking


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="the ni 12é世🙂\u0301\n", max_size=30))
def test_offsets_point_at_the_characters_of_each_token(text: str) -> None:
    for tokenizer in (LEARNED, WITH_PREFIX):
        encoded = tokenizer(text, return_offsets_mapping=True)
        assert len(encoded.offset_mapping) == len(encoded.input_ids)
        reached = 0
        for i, (start, stop) in zip(encoded.input_ids, encoded.offset_mapping, strict=True):
            assert start <= reached <= stop, "no character is skipped"
            data = tokenizer.decode_bytes([i])
            assert data in text[start:stop].encode() or data in b" " + text[start:stop].encode()
            reached = stop
        assert reached == len(text)


WITH_PREFIX = GPT2Tokenizer(LEARNED.vocab, LEARNED.merges, add_prefix_space=True)


def test_offsets_around_special_tokens(tokenizer: GPT2Tokenizer) -> None:
    text = f"ab{END} c"
    encoded = tokenizer(text, return_offsets_mapping=True)
    pieces = [text[start:stop] for start, stop in encoded.offset_mapping]
    assert "".join(pieces) == text
    assert END in pieces


def test_pieces_show_what_tokens_stand_for() -> None:
    tokenizer = GPT2Tokenizer(LEARNED.vocab, [])
    assert tokenizer.pieces(f"a é{END}") == ["a", " ", "\\xc3", "\\xa9", END]
    assert "".join(LEARNED.pieces(TEXT[:1000])) == TEXT[:1000]


def test_the_merges_of_a_word_step_by_step(tokenizer: GPT2Tokenizer) -> None:
    steps = tokenizer.merge_steps(" statement")
    assert steps[0].pieces == tuple(" statement") and steps[0].rank is None
    assert steps[-1].pieces == tuple(tokenizer.pieces(" statement"))
    for before, after in zip(steps, steps[1:], strict=False):
        assert after.pair is not None and after.rank is not None
        assert len(after.pieces) == len(before.pieces) - 1
        assert "".join(after.pair) in after.pieces
        assert tokenizer._show(tokenizer.merges[after.rank]) == after.pair
    with pytest.raises(ValueError, match="inside one word, and this is 2"):
        tokenizer.merge_steps("two words")


def test_the_cache_is_bounded_and_keeps_words_in_use() -> None:
    encoded: list[str] = []

    def encode(word: str) -> tuple[int, ...]:
        encoded.append(word)
        return (len(word),)

    cache = WordCache(encode, limit=3)
    for word in ["a", "b", "c", "d", "a", "a", "e", "f", "g", "h" * 100, "h" * 100]:
        assert cache[word] == (len(word),)
        assert len(cache) + len(cache._older) <= 6
    assert encoded == ["a", "b", "c", "d", "e", "f", "g", "h" * 100, "h" * 100]
    assert "h" * 100 not in cache


def test_a_full_cache_does_not_change_the_ids(tokenizer: GPT2Tokenizer) -> None:
    tokenizer._cache = WordCache(tokenizer._encode_word, limit=5)
    assert tokenizer.encode(TEXT[:5000]) == LEARNED.encode(TEXT[:5000])


def test_copies_and_pickles(tokenizer: GPT2Tokenizer) -> None:
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    for twin in (copy.deepcopy(tokenizer), pickle.loads(pickle.dumps(tokenizer))):
        assert twin(["a <pad>", "low"], padding=True) == tokenizer(["a <pad>", "low"], padding=True)
        twin.add_tokens("new")
        assert "new" not in tokenizer.get_vocab()


def test_repr(tokenizer: GPT2Tokenizer) -> None:
    assert repr(tokenizer).startswith("GPT2Tokenizer(vocab_size=700, len=700, bos_token='<|endoftext|>'")
