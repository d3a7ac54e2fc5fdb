"""Calling a tokenizer: batches, pairs, truncation, padding, arrays, and what is refused."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minilm.tokenizers import BatchEncoding, CharTokenizer, GPT2Tokenizer
from minilm.tokenizers.batching import truncated_lengths

# One token a character: a is 0, b is 1, …; the pad token is 26.
LETTERS = CharTokenizer.from_text("abcdefghijklmnopqrstuvwxyz", pad_token="<pad>")
PAD = 26


@pytest.fixture
def tokenizer() -> CharTokenizer:
    return CharTokenizer.from_text("abcdefghijklmnopqrstuvwxyz", pad_token="<pad>")


@pytest.fixture
def framed() -> GPT2Tokenizer:
    """A tokenizer that puts <s> (0) and </s> (1) around every text; "a" is 67."""
    return GPT2Tokenizer.train(
        "", 258, special_tokens=["<s>", "</s>"], bos_token="<s>", eos_token="</s>", pad_token="</s>",
        add_bos_token=True, add_eos_token=True,
    )  # fmt: skip


def test_one_text(tokenizer: CharTokenizer) -> None:
    assert tokenizer("abc") == {"input_ids": [0, 1, 2], "attention_mask": [1, 1, 1]}
    assert tokenizer.encode("abc") == [0, 1, 2]
    assert tokenizer("") == {"input_ids": [], "attention_mask": []}


def test_a_batch(tokenizer: CharTokenizer) -> None:
    assert tokenizer(["ab", "c", ""]) == {"input_ids": [[0, 1], [2], []], "attention_mask": [[1, 1], [1], []]}
    assert tokenizer(("ab", "c")).input_ids == [[0, 1], [2]]
    assert tokenizer([]) == {"input_ids": [], "attention_mask": []}


def test_an_encoding_is_a_dict_with_attributes(tokenizer: CharTokenizer) -> None:
    encoding = tokenizer("ab")
    assert isinstance(encoding, dict) and isinstance(encoding, BatchEncoding)
    assert list(encoding) == ["input_ids", "attention_mask"]
    assert encoding.input_ids is encoding["input_ids"]
    assert dict(**encoding) == encoding == pickle.loads(pickle.dumps(encoding))
    with pytest.raises(AttributeError, match="no 'token_type_ids'; it has input_ids, attention_mask"):
        encoding.token_type_ids  # noqa: B018


def test_arrays(tokenizer: CharTokenizer) -> None:
    single = tokenizer("abc", return_tensors="np")
    assert single.input_ids.shape == single.attention_mask.shape == (1, 3)
    assert single.input_ids.dtype == np.int64
    assert tokenizer.encode("abc", return_tensors="np").tolist() == [[0, 1, 2]]
    batch = tokenizer(["abc", "d"], padding=True, return_tensors="np", return_offsets_mapping=True)
    assert batch.input_ids.tolist() == [[0, 1, 2], [3, PAD, PAD]]
    assert batch.offset_mapping.shape == (2, 3, 2)
    assert tokenizer("", return_tensors="np").input_ids.shape == (1, 0)
    assert tokenizer([], return_tensors="np").input_ids.shape == (0, 0)
    assert tokenizer("", return_tensors="np").input_ids.dtype == np.int64
    assert tokenizer(["ab", "c"], padding=True, return_tensors="np", return_length=True).length.tolist() == [2, 2]


def test_rows_of_different_lengths_are_no_array(tokenizer: CharTokenizer) -> None:
    with pytest.raises(ValueError, match="input_ids have 1 to 3 tokens.*padding=True"):
        tokenizer(["abc", "d"], return_tensors="np")


@pytest.mark.parametrize("name", ["pt", "tf", "jax", "numpy"])
def test_other_tensors_are_refused_with_the_word_to_use(name: str, tokenizer: CharTokenizer) -> None:
    with pytest.raises(ValueError, match=f"return_tensors='{name}' is not available.*return_tensors=\"np\""):
        tokenizer("abc", return_tensors=name)
    with pytest.raises(ValueError, match='return_tensors="np"'):
        tokenizer.pad({"input_ids": [[1]]}, return_tensors=name)


@pytest.mark.parametrize("text", [None, 5, b"abc", ["a", None], [["a"]], ["a", b"b"]])
def test_what_is_no_text_is_refused(text: object, tokenizer: CharTokenizer) -> None:
    with pytest.raises(TypeError, match="a text must be a str"):
        tokenizer(text)  # type: ignore[arg-type]


def test_encode_takes_one_text(tokenizer: CharTokenizer) -> None:
    with pytest.raises(TypeError, match=r"for several texts call the tokenizer: tokenizer\(texts\)"):
        tokenizer.encode(["a", "b"])  # type: ignore[arg-type]


# -------------------------------------------------------------------------------------------- padding


@pytest.mark.parametrize(("padding", "length"), [(True, 3), ("longest", 3), ("max_length", 5)])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding(padding: bool | str, length: int, side: str, tokenizer: CharTokenizer) -> None:
    tokenizer.padding_side = side
    options = {"max_length": 5} if padding == "max_length" else {}
    batch = tokenizer(["abc", "d"], padding=padding, return_special_tokens_mask=True, **options)
    rows = {"input_ids": [0, 1, 2], "attention_mask": [1, 1, 1], "special_tokens_mask": [0, 0, 0]}
    fill = {"input_ids": PAD, "attention_mask": 0, "special_tokens_mask": 1}
    for name, row in rows.items():
        filling = [fill[name]] * (length - 3)
        assert batch[name][0] == (row + filling if side == "right" else filling + row)
    assert [len(row) for row in batch.input_ids] == [length, length]
    last = [3] + [PAD] * (length - 1)
    assert batch.input_ids[1] == (last if side == "right" else last[::-1])


def test_the_side_can_be_chosen_for_one_call(tokenizer: CharTokenizer) -> None:
    assert tokenizer(["ab", "c"], padding=True, padding_side="left").input_ids == [[0, 1], [PAD, 2]]
    assert tokenizer.padding_side == "right"
    with pytest.raises(ValueError, match="padding_side must be 'left' or 'right', not 'top'"):
        tokenizer("a", padding=True, padding_side="top")


def test_padding_to_a_multiple(tokenizer: CharTokenizer) -> None:
    assert [len(row) for row in tokenizer(["abcde", "f"], padding=True, pad_to_multiple_of=4).input_ids] == [8, 8]
    assert [len(row) for row in tokenizer(["abcd", "f"], padding=True, pad_to_multiple_of=4).input_ids] == [4, 4]


def test_padding_does_not_truncate(tokenizer: CharTokenizer) -> None:
    batch = tokenizer(["abcd", "e"], padding="max_length", max_length=2, truncation=False)
    assert batch.input_ids == [[0, 1, 2, 3], [4, PAD]]


def test_padding_without_a_pad_token_says_what_to_write(tokenizer: CharTokenizer) -> None:
    tokenizer.pad_token = None
    with pytest.raises(ValueError, match="tokenizer.pad_token = tokenizer.eos_token"):
        tokenizer(["a", "bc"], padding=True)


def test_padding_to_an_unknown_length_is_refused(tokenizer: CharTokenizer) -> None:
    with pytest.raises(ValueError, match="padding='max_length' needs a length"):
        tokenizer("a", padding="max_length")
    tokenizer.model_max_length = 3
    assert tokenizer("a", padding="max_length").input_ids == [0, PAD, PAD]


def test_an_unknown_strategy_is_refused(tokenizer: CharTokenizer) -> None:
    with pytest.raises(ValueError, match="padding='max': it must be a bool or one of longest, max_length"):
        tokenizer("a", padding="max")
    with pytest.raises(ValueError, match="truncation='first': it must be a bool or one of longest_first"):
        tokenizer("a", truncation="first", max_length=3)


def test_padding_later(tokenizer: CharTokenizer) -> None:
    expected = {"input_ids": [[0, 1], [2, PAD]], "attention_mask": [[1, 1], [1, 0]]}
    assert tokenizer.pad(tokenizer(["ab", "c"])) == expected
    assert tokenizer.pad({"input_ids": [np.array([0, 1]), np.array([2])]}) == expected
    rows = [{"input_ids": [0, 1], "labels": 7.5}, {"input_ids": [2], "labels": 0.5}]
    assert tokenizer.pad(rows) == {**expected, "labels": [7.5, 0.5]}
    assert tokenizer.pad({"input_ids": [2]}, padding="max_length", max_length=2) == {
        "input_ids": [2, PAD],
        "attention_mask": [1, 0],
    }
    assert tokenizer.pad(tokenizer(["ab", "c"]), return_tensors="np").input_ids.shape == (2, 2)
    with pytest.raises(ValueError, match="need input_ids"):
        tokenizer.pad({"labels": [1]})
    with pytest.raises(ValueError, match="empty"):
        tokenizer.pad([])


# ----------------------------------------------------------------------------------------- truncation


@pytest.mark.parametrize(("side", "kept"), [("right", [0, 1, 2]), ("left", [3, 4, 5])])
def test_truncation(side: str, kept: list[int], tokenizer: CharTokenizer) -> None:
    tokenizer.truncation_side = side
    encoded = tokenizer("abcdef", truncation=True, max_length=3, return_offsets_mapping=True)
    assert encoded.input_ids == kept
    assert encoded.offset_mapping == [(i, i + 1) for i in kept]
    assert tokenizer("ab", truncation=True, max_length=3).input_ids == [0, 1]
    assert tokenizer("ab", truncation=True, max_length=0).input_ids == []


def test_special_tokens_are_not_cut_off(framed: GPT2Tokenizer) -> None:
    a = framed.encode("a", add_special_tokens=False)
    assert framed("aaaa", truncation=True, max_length=4).input_ids == [0, *a, *a, 1]
    assert framed("aaaa", truncation=True, max_length=4, add_special_tokens=False).input_ids == a * 4
    assert framed("aaaa", truncation=True, max_length=2).input_ids == [0, 1]
    with pytest.raises(ValueError, match="max_length=1 leaves no room for the 2 special tokens"):
        framed("aaaa", truncation=True, max_length=1)


def test_the_limit_of_the_model_is_the_default_length(tokenizer: CharTokenizer) -> None:
    with pytest.raises(ValueError, match="truncation='longest_first' needs a length: pass max_length"):
        tokenizer("abcd", truncation=True)
    tokenizer.model_max_length = 2
    assert tokenizer("abcd", truncation=True).input_ids == [0, 1]
    with pytest.raises(ValueError, match="max_length=-1 is negative"):
        tokenizer("abcd", truncation=True, max_length=-1)


def test_a_length_alone_truncates_with_a_warning(tokenizer: CharTokenizer) -> None:
    with pytest.warns(UserWarning, match="truncating to it"):
        assert tokenizer("abcd", max_length=2).input_ids == [0, 1]
    with pytest.warns(UserWarning, match="ignored"):
        assert tokenizer(["abcd"], max_length=2, padding=True).input_ids == [[0, 1, 2, 3]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tokenizer("abcd", max_length=2, truncation=False).input_ids == [0, 1, 2, 3]


# ---------------------------------------------------------------------------------------------- pairs


def test_pairs(tokenizer: CharTokenizer) -> None:
    encoded = tokenizer("ab", "c", return_token_type_ids=True, return_offsets_mapping=True)
    assert encoded.input_ids == [0, 1, 2]
    assert encoded.token_type_ids == [0, 0, 1]
    assert encoded.offset_mapping == [(0, 1), (1, 2), (0, 1)]
    batch = tokenizer(["ab", "a"], ["c", "b"], padding=True, return_token_type_ids=True)
    assert batch.input_ids == [[0, 1, 2], [0, 1, PAD]]
    assert batch.token_type_ids == [[0, 0, 1], [0, 1, 0]]


def test_texts_and_pairs_must_match(tokenizer: CharTokenizer) -> None:
    with pytest.raises(ValueError, match="2 texts but 1 second texts"):
        tokenizer(["a", "b"], ["c"])
    with pytest.raises(ValueError, match="both be single texts, or both be lists"):
        tokenizer(["a", "b"], "c")


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("longest_first", ("ab", "fg")),
        ("only_first", ("a", "fgh")),
        ("only_second", ("abc", "f")),
    ],
)
def test_truncating_pairs(strategy: str, expected: tuple[str, str], tokenizer: CharTokenizer) -> None:
    ids = tokenizer("abc", "fgh", truncation=strategy, max_length=4).input_ids
    assert ids == tokenizer("".join(expected)).input_ids


def test_a_pair_that_cannot_be_truncated(tokenizer: CharTokenizer) -> None:
    with pytest.raises(ValueError, match="3 tokens too long, which truncation='only_second' cannot take from one of 2"):
        tokenizer("abcd", "ef", truncation="only_second", max_length=3)
    with pytest.raises(ValueError, match="from a row without one"):
        tokenizer("abcd", truncation="only_second", max_length=3)


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 40))
def test_longest_first_removes_from_the_longer_until_it_fits(first: int, second: int, room: int) -> None:
    kept = truncated_lengths([first, second], room, "longest_first")
    assert sum(kept) == min(first + second, room)
    assert kept[0] <= first and kept[1] <= second
    # A text loses tokens only while it is at least as long as the other.
    if kept[0] < first:
        assert kept[0] >= kept[1] - 1
    if kept[1] < second:
        assert kept[1] >= kept[0] - 1
