"""Byte-pair encoding by itself: learning, encoding, and the byte alphabet and words below it."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minilm.tokenizers import BytePairEncoder, learn_merges
from minilm.tokenizers.byte_level import (
    ALPHABET,
    GPT2_PATTERN,
    split_words,
    to_bytes,
    to_characters,
    word_sections,
)

LETTERS = "abcdefgh"
word_counts = st.dictionaries(
    st.text(alphabet=LETTERS[:3], min_size=1, max_size=12), st.integers(1, 20), min_size=1, max_size=20
)


def learn_by_recounting(counts: dict[str, int], n_merges: int, alphabet: str, min_frequency: int) -> list:
    """The definition of BPE training, slow and plain: count all pairs, merge the best one everywhere, repeat."""
    rank = {token: i for i, token in enumerate(alphabet)}
    words = {word: list(word) for word in counts}
    merges: list[tuple[str, str]] = []
    while len(merges) < n_merges:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, tokens in words.items():
            # "aaa" holds the pair (a, a) twice, though only one of the two can be merged.
            for pair in zip(tokens, tokens[1:], strict=False):
                pairs[pair] += counts[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], rank[pair[0]], rank[pair[1]]))
        if pairs[best] < max(min_frequency, 1):
            break
        merges.append(best)
        rank["".join(best)] = len(rank)
        for tokens in words.values():
            place = 0
            while place < len(tokens) - 1:
                if (tokens[place], tokens[place + 1]) == best:
                    tokens[place : place + 2] = ["".join(best)]
                place += 1
    return merges


def encoder_for(merges: list[tuple[str, str]], alphabet: str = LETTERS) -> BytePairEncoder:
    tokens = [*alphabet, *(left + right for left, right in merges)]
    return BytePairEncoder({token: i for i, token in enumerate(tokens)}, merges)


# ------------------------------------------------------------------------------------------ learning


def test_an_example_worked_by_hand() -> None:
    # (e, s), (s, t) and (t, .) occur 9 times; then (es, t) and (t, .) do, and t is the older token; then the rest.
    counts = {"low.": 5, "lower.": 2, "newest.": 6, "widest.": 3}
    merges = learn_merges(counts, 4, alphabet=".deilnorstw")
    assert merges == [("e", "s"), ("t", "."), ("es", "t."), ("l", "o")]


@settings(max_examples=150, deadline=None)
@given(word_counts, st.integers(0, 30), st.integers(0, 4))
def test_keeping_counts_up_to_date_equals_recounting(
    counts: dict[str, int], n_merges: int, min_frequency: int
) -> None:
    expected = learn_by_recounting(counts, n_merges, LETTERS, min_frequency)
    assert learn_merges(counts, n_merges, alphabet=LETTERS, min_frequency=min_frequency) == expected


@settings(max_examples=100, deadline=None)
@given(word_counts, st.randoms(use_true_random=False))
def test_the_order_of_the_words_does_not_matter(counts: dict[str, int], rng: random.Random) -> None:
    items = list(counts.items())
    rng.shuffle(items)
    assert learn_merges(dict(items), 20, alphabet=LETTERS) == learn_merges(counts, 20, alphabet=LETTERS)


def test_ties_go_to_the_pair_of_older_tokens() -> None:
    assert learn_merges({"cd": 2, "ab": 2, "ac": 2}, 3, alphabet="abcd") == [("a", "b"), ("a", "c"), ("c", "d")]


def test_runs_of_one_letter() -> None:
    assert learn_merges({"a" * 9: 1}, 10, alphabet="a", min_frequency=1) == [
        ("a", "a"),
        ("aa", "aa"),
        ("aaaa", "a"),
        ("aaaa", "aaaaa"),
    ]


def test_rare_pairs_are_not_merged() -> None:
    counts = {"ab": 3, "cd": 2}
    assert learn_merges(counts, 9, alphabet="abcd", min_frequency=3) == [("a", "b")]
    assert learn_merges(counts, 9, alphabet="abcd", min_frequency=4) == []


def test_a_word_outside_the_alphabet_is_refused() -> None:
    with pytest.raises(ValueError, match="'z'.*not in the alphabet"):
        learn_merges({"az": 1}, 1, alphabet="ab")


def test_a_very_long_word_is_learned_from_quickly() -> None:
    rng = random.Random(0)
    word = "".join(rng.choices(LETTERS, k=20_000))
    assert len(learn_merges({word: 1}, 300, alphabet=LETTERS)) == 300


def test_progress_is_shown_only_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    learn_merges({"ab": 2}, 1, alphabet="ab")
    assert capsys.readouterr().err == ""
    learn_merges({"ab": 2}, 1, alphabet="ab", progress=True)
    assert "merges" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------ encoding


@settings(max_examples=150, deadline=None)
@given(word_counts, st.text(alphabet=LETTERS[:3], max_size=40))
def test_the_heap_finds_the_tokens_of_the_definition(counts: dict[str, int], word: str) -> None:
    encoder = encoder_for(learn_merges(counts, 30, alphabet=LETTERS, min_frequency=1))
    tokens = encoder.steps(word)[-1].tokens
    assert tuple(encoder.token(i) for i in encoder.encode(word)) == tokens
    assert "".join(tokens) == word


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=25),
    st.text(alphabet="ab", max_size=30),
)
def test_the_heap_and_the_definition_agree_on_merges_nobody_learned(
    choices: list[tuple[int, int]], word: str
) -> None:
    # Merge lists written by hand can reach one token in two ways, or list a merge before its parts exist.
    tokens = ["a", "b"]
    merges = []
    for left, right in choices:
        pair = (tokens[left % len(tokens)], tokens[right % len(tokens)])
        if len("".join(pair)) <= 8 and pair not in merges:
            merges.append(pair)
            tokens.append("".join(pair))
    random.Random(len(word)).shuffle(merges)
    encoder = BytePairEncoder({token: i for i, token in enumerate(dict.fromkeys(tokens))}, merges)
    assert tuple(encoder.token(i) for i in encoder.encode(word)) == encoder.steps(word)[-1].tokens


def test_the_steps_of_a_word() -> None:
    encoder = encoder_for([("a", "b"), ("ab", "c"), ("c", "ab")])
    steps = encoder.steps("cabab")
    assert [step.tokens for step in steps] == [
        ("c", "a", "b", "a", "b"),
        ("c", "ab", "a", "b"),
        ("c", "ab", "ab"),
        ("cab", "ab"),
    ]
    assert [step.rank for step in steps] == [None, 0, 0, 2]
    assert [step.pair for step in steps] == [None, ("a", "b"), ("a", "b"), ("c", "ab")]


def test_a_merge_listed_twice_has_its_later_rank() -> None:
    encoder = encoder_for([("a", "b"), ("b", "c"), ("a", "b")])
    assert encoder.steps("abc")[-1].tokens == ("a", "bc")


def test_the_empty_word() -> None:
    assert encoder_for([("a", "b")]).encode("") == ()


def test_an_unknown_character_is_refused() -> None:
    with pytest.raises(ValueError, match="no token stands for the character '!'"):
        encoder_for([("a", "b")]).encode("ab!")


def test_a_merge_without_its_token_is_refused() -> None:
    with pytest.raises(ValueError, match=r"merge 0 \('a' \+ 'b'\) needs the token 'ab'"):
        BytePairEncoder({"a": 0, "b": 1}, [("a", "b")])


@pytest.mark.parametrize("word", ["a" * 100_000, "ab" * 50_000, "abcdefgh" * 12_500])
def test_a_word_of_100_000_letters(word: str) -> None:
    merges = learn_merges({"a" * 64: 2, "ab" * 32: 2, "abcdefgh" * 8: 2}, 60, alphabet=LETTERS)
    encoder = encoder_for(merges)
    ids = encoder.encode(word)
    assert "".join(map(encoder.token, ids)) == word
    assert len(ids) < len(word) / 20


# ------------------------------------------------------------------------------------ bytes and words


def test_every_byte_has_a_printable_character_of_its_own() -> None:
    characters = to_characters(bytes(range(256)))
    assert len(set(characters)) == 256
    assert all(character.isprintable() and not character.isspace() for character in characters)
    assert sorted(characters) == list(ALPHABET)
    assert to_characters(b" low\n") == "ĠlowĊ"


@given(st.binary())
def test_bytes_survive_the_alphabet(data: bytes) -> None:
    assert to_bytes(to_characters(data)) == data


def test_a_character_outside_the_byte_alphabet_is_refused() -> None:
    with pytest.raises(KeyError):
        to_bytes("a b")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("We'll see 42!", ["We", "'ll", " see", " 42", "!"]),
        ("a  b", ["a", " ", " b"]),
        ("a \n", ["a", " \n"]),
        ("x²½Ⅷ", ["x", "²½Ⅷ"]),
        ("I'M don'T", ["I", "'", "M", " don", "'", "T"]),
        ("snake_case", ["snake", "_", "case"]),
        ("你好，世界", ["你好", "，", "世界"]),
        ("e\u0301a", ["e", "\u0301", "a"]),
        ("a\x1cb\x85c\xa0d", ["a", "\x1c", "b", "\x85", "c", "\xa0", "d"]),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert split_words(text) == words


@given(
    st.text(alphabet=st.characters(max_codepoint=127)) | st.text(alphabet="ab1'! \n\tslrt\x0b\x1c\x7f_", max_size=30)
)
def test_words_of_ascii_text_do_not_depend_on_the_regular_expression_engine(text: str) -> None:
    import regex

    assert split_words(text) == regex.findall(GPT2_PATTERN, text)


@settings(max_examples=60, deadline=None)
@given(
    st.text(alphabet="ab1'! \n\t\x1c\x85\xa0\u2003é世²", max_size=200) | st.text(max_size=100), st.integers(1, 20)
)
def test_cutting_a_text_into_sections_does_not_change_its_words(text: str, size: int) -> None:
    words = [word for section in word_sections(text, size) for word in section]
    assert words == split_words(text)
    assert "".join(words) == text


def test_long_text_is_really_cut() -> None:
    assert len(list(word_sections("one two three four " * 100, 50))) > 20
