"""The tokenizers beside the `tokenizers` package and Transformers: the same merges, ids, offsets and files."""

from __future__ import annotations

import json
import os
import random
import unicodedata
import warnings
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest

tokenizers = pytest.importorskip("tokenizers")
transformers = pytest.importorskip("transformers")

from minilm.tokenizers import AddedToken, GPT2Tokenizer  # noqa: E402
from minilm.tokenizers.byte_level import split_words  # noqa: E402

END = "<|endoftext|>"
TEXT = "\n".join(topics[name] for name in sorted(topics))
ALPHABET = tokenizers.pre_tokenizers.ByteLevel.alphabet()

# Stretches of the code space that break tokenizers: controls, all spaces, combining marks, right-to-left, digits and
# numbers of several kinds, Han, Hangul, emoji with joiners and selectors, private use, the last plane.
RANGES = [
    (0x00, 0x7F), (0x80, 0xFF), (0x100, 0x24F), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x4FF), (0x5D0, 0x5EA),
    (0x600, 0x6FF), (0x900, 0x97F), (0xE00, 0xE7F), (0x1680, 0x1680), (0x2000, 0x206F), (0x2070, 0x209C),
    (0x20A0, 0x20BF), (0x2150, 0x218B), (0x2460, 0x24FF), (0x3000, 0x303F), (0x3040, 0x30FF), (0x4E00, 0x9FFF),
    (0xAC00, 0xD7A3), (0xE000, 0xE0FF), (0xFE00, 0xFE0F), (0xFF00, 0xFFEF), (0x10400, 0x1044F), (0x1D7CE, 0x1D7FF),
    (0x1F300, 0x1F64F), (0x20000, 0x200FF), (0x10FFF0, 0x10FFFD),
]  # fmt: skip


def fuzz(seed: int, count: int) -> Iterator[str]:
    """Yield texts that mix slices of real text, characters from everywhere, spaces, contractions and repeats."""
    rng = random.Random(seed)
    for _ in range(count):
        parts: list[str] = []
        for _ in range(rng.randint(0, 12)):
            kind = rng.randrange(6)
            if kind == 0:
                start = rng.randrange(len(TEXT))
                parts.append(TEXT[start : start + rng.randint(1, 40)])
            elif kind == 1:
                parts.append(rng.choice([" ", "  ", "\n", "\t", "\r\n", "\u00a0", "\u2003 ", "\x1c", "\x85", "\u3000"]))
            elif kind == 2:
                parts.append(rng.choice(["'s", "'S", "'ll", "'", "_", "<|endoftext", "|>", "e\u0301", "👩‍👩‍👧"]))
            elif kind == 3:
                parts.append(rng.choice("aé世1²_ ") * rng.randint(1, 30))
            else:
                low, high = rng.choice(RANGES)
                parts.append("".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 8))))
        yield "".join(parts)


def train_theirs(texts: list[str], vocab_size: int, **options: Any) -> Any:
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE())
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    theirs.decoder = tokenizers.decoders.ByteLevel()
    options = {"min_frequency": 2, "special_tokens": [END], "initial_alphabet": ALPHABET} | options
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=vocab_size, show_progress=False, **options)
    theirs.train_from_iterator(texts, trainer)
    return theirs


def merges_of(theirs: Any) -> list[tuple[str, ...]]:
    return [tuple(pair) for pair in json.loads(theirs.to_str())["model"]["merges"]]


@pytest.fixture(scope="module")
def large() -> tuple[GPT2Tokenizer, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the topics cannot fill a vocabulary of this size
        ours = GPT2Tokenizer.train(TEXT, 8192)
    return ours, train_theirs([TEXT], 8192)


# ------------------------------------------------------------------------------------------- learning


def test_merges_and_vocabulary_are_identical_on_the_embedded_text(large: tuple[GPT2Tokenizer, Any]) -> None:
    ours, theirs = large
    assert len(ours.merges) > 5000
    assert ours.merges == merges_of(theirs)
    assert ours.get_vocab() == theirs.get_vocab()


@pytest.mark.parametrize("min_frequency", [0, 1, 3])
def test_merges_are_identical_on_text_from_everywhere(min_frequency: int) -> None:
    # The package counts the letters of special tokens as text, though it never encodes them so; we leave them out.
    texts = [text.replace(END, "") for text in fuzz(seed=1, count=300)]
    ours = GPT2Tokenizer.train(texts, 900, min_frequency=min_frequency)
    assert ours.merges == merges_of(train_theirs(texts, 900, min_frequency=min_frequency))


@pytest.mark.parametrize("letters", ["a", "ab", "abc"])
def test_merges_are_identical_on_few_letters(letters: str) -> None:
    for seed in range(60):
        rng = random.Random(seed)
        text = " ".join("".join(rng.choices(letters, k=rng.randint(1, 20))) for _ in range(rng.choice([3, 40])))
        size = 257 + rng.choice([5, 40, 200])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ours = GPT2Tokenizer.train(text, size, min_frequency=0)
        assert ours.merges == merges_of(train_theirs([text], size, min_frequency=0)), text


def test_a_new_tokenizer_from_an_old_one_is_that_of_transformers(tmp_path: Path) -> None:
    ours = GPT2Tokenizer.train(TEXT[:20_000], 300)
    ours.add_special_tokens({"pad_token": "<pad>"})
    ours.save_pretrained(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    texts = TEXT[20_000:60_000].split("\n")
    ours_new = ours.train_new_from_iterator(texts, 500)
    theirs_new = theirs.train_new_from_iterator(texts, 500)
    assert ours_new.get_vocab() == theirs_new.get_vocab()
    assert ours_new("a new day<pad>").input_ids == theirs_new("a new day<pad>").input_ids


# --------------------------------------------------------------------------------------- words and ids


def test_every_character_is_cut_into_words_alike() -> None:
    # Characters that Python does not know are left out: the packages follow Unicode at different speeds.
    theirs = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    characters = [character for character in characters if unicodedata.category(character) != "Cn"]
    characters = [c for c in characters if not 0xF0000 <= ord(c)]  # two planes of private use, all alike
    for start in range(0, len(characters), 5000):
        text = "".join(f"a{c}1{c}!{c} {c}" for c in characters[start : start + 5000])
        expected = [text[slice(*span)] for _, span in theirs.pre_tokenize_str(text)]
        assert split_words(text) == expected, hex(ord(characters[start]))


@pytest.mark.parametrize("vocab_size", [257, 300, 600])
def test_ids_and_offsets_with_small_vocabularies(vocab_size: int) -> None:
    ours = GPT2Tokenizer.train(TEXT[:50_000], vocab_size)
    compare_ids(ours, train_theirs([TEXT[:50_000]], vocab_size), seed=vocab_size, count=300)


def test_ids_and_offsets_with_a_large_vocabulary(large: tuple[GPT2Tokenizer, Any]) -> None:
    compare_ids(*large, seed=0, count=1500)
    ours, theirs = large
    assert ours.encode(TEXT) == theirs.encode(TEXT).ids


def compare_ids(ours: GPT2Tokenizer, theirs: Any, seed: int, count: int) -> None:
    for text in fuzz(seed, count):
        encoded, expected = ours(text, return_offsets_mapping=True), theirs.encode(text)
        assert encoded.input_ids == expected.ids, repr(text)
        assert encoded.offset_mapping == expected.offsets, repr(text)
        assert ours.tokenize(text) == expected.tokens
        assert ours.decode(expected.ids) == theirs.decode(expected.ids, skip_special_tokens=False) == text
        # Broken up, the ids are no longer UTF-8: both put the same replacement characters in the same places.
        part = expected.ids[1::2]
        assert ours.decode(part) == theirs.decode(part, skip_special_tokens=False)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lstrip": True},
        {"rstrip": True},
        {"single_word": True},
        {"normalized": False, "lstrip": True, "rstrip": True},
    ],
)
def test_added_tokens_are_found_alike(options: dict[str, bool]) -> None:
    ours = GPT2Tokenizer.train(TEXT[:50_000], 500)
    theirs = train_theirs([TEXT[:50_000]], 500)
    contents = ["<m>", "cat", "<m><m>", "t h", "\u4e16"]
    ours.add_tokens([AddedToken(content, **options) for content in contents])
    theirs.add_tokens([tokenizers.AddedToken(content, **options) for content in contents])
    rng = random.Random(0)
    pieces = [*contents, END, " ", "  ", "\n", "a", "cats", "_", "é", "1", "the", ".", "\u3000"]
    for _ in range(600):
        text = "".join(rng.choices(pieces, k=rng.randint(1, 10)))
        expected = theirs.encode(text)
        encoded = ours(text, return_offsets_mapping=True)
        assert encoded.input_ids == expected.ids, repr(text)
        assert encoded.offset_mapping == expected.offsets, repr(text)


# --------------------------------------------------------------------------------- files and the surface


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[GPT2Tokenizer, Path]:
    folder = tmp_path_factory.mktemp("saved")
    ours = GPT2Tokenizer.train(TEXT[:60_000], 700, model_max_length=64)
    ours.add_special_tokens({"pad_token": "<pad>", "additional_special_tokens": ["<x>"]})
    ours.add_tokens("lambda form")
    ours.save_pretrained(folder)
    return ours, folder


SURFACE = ["Hello world", "", f"a{END}b <x> <pad>", "  a lambda form in Grüße 世界 🙂\n\n", "x " * 40]


@pytest.mark.parametrize("reader", ["GPT2Tokenizer", "AutoTokenizer", "from the older files"])
def test_transformers_reads_what_we_save(reader: str, saved: tuple[GPT2Tokenizer, Path], tmp_path: Path) -> None:
    ours, folder = saved
    if reader == "from the older files":
        for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
            (tmp_path / name).write_bytes((folder / name).read_bytes())
        folder, reader = tmp_path, "GPT2Tokenizer"
    theirs = getattr(transformers, reader).from_pretrained(folder)
    assert theirs.get_vocab() == ours.get_vocab()
    assert len(theirs) == len(ours) and theirs.vocab_size == ours.vocab_size
    assert theirs.special_tokens_map == ours.special_tokens_map
    assert theirs.model_max_length == ours.model_max_length
    assert sorted(theirs.all_special_ids) == sorted(ours.all_special_ids)
    for text in [*SURFACE, *fuzz(seed=7, count=300)]:
        ids = ours.encode(text)
        assert theirs.encode(text) == ids, repr(text)
        for skip in (False, True):
            assert theirs.decode(ids, skip_special_tokens=skip) == ours.decode(ids, skip_special_tokens=skip)


def test_we_read_what_transformers_saves(saved: tuple[GPT2Tokenizer, Path], tmp_path: Path) -> None:
    ours, folder = saved
    theirs = transformers.GPT2Tokenizer.from_pretrained(folder, add_bos_token=True, padding_side="left")
    theirs.save_pretrained(tmp_path)
    read = GPT2Tokenizer.from_pretrained(tmp_path)
    assert read.get_vocab() == ours.get_vocab() and read.merges == ours.merges
    assert read.padding_side == "left" and read.add_bos_token
    assert read.added_tokens_decoder == ours.added_tokens_decoder
    assert read.special_tokens_map == ours.special_tokens_map
    assert read(SURFACE, padding=True) == dict(theirs(SURFACE, padding=True))


@pytest.mark.parametrize("padding_side", ["left", "right"])
@pytest.mark.parametrize("truncation_side", ["left", "right"])
def test_calling_gives_what_transformers_gives(
    padding_side: str, truncation_side: str, saved: tuple[GPT2Tokenizer, Path]
) -> None:
    _, folder = saved
    sides = {"padding_side": padding_side, "truncation_side": truncation_side}
    ours = GPT2Tokenizer.from_pretrained(folder, **sides)
    theirs = transformers.GPT2Tokenizer.from_pretrained(folder, **sides)
    extras = {"return_special_tokens_mask": True, "return_offsets_mapping": True, "return_length": True}
    calls: list[dict[str, Any]] = [
        {},
        {"padding": True},
        {"padding": "longest", "pad_to_multiple_of": 8},
        {"padding": "max_length", "max_length": 9},
        {"truncation": True},
        {"truncation": True, "max_length": 5},
        {"truncation": "only_first", "max_length": 3, "padding": "max_length"},
        {"truncation": True, "padding": True, "max_length": 7, "return_tensors": "np"},
        {"return_attention_mask": False, "return_token_type_ids": True},
        {"split_special_tokens": True},
        extras,
        {**extras, "padding": True, "truncation": True, "max_length": 6},
    ]
    for options in calls:
        encoded, expected = ours(SURFACE, **options), theirs(SURFACE, **options)
        assert set(encoded) == set(expected), options
        for name in encoded:
            if options.get("return_tensors"):
                assert encoded[name].dtype == expected[name].dtype
                assert encoded[name].tolist() == expected[name].tolist()
            else:
                assert encoded[name] == expected[name], (options, name)
        if not options.get("return_tensors"):
            for text in SURFACE:
                assert {**ours(text, **options)}.keys() == {**theirs(text, **options)}.keys()
                assert ours(text, **options).input_ids == theirs(text, **options)["input_ids"]


@pytest.mark.parametrize("truncation", ["longest_first", "only_first", "only_second"])
@pytest.mark.parametrize("add_bos_token", [False, True])
def test_pairs_are_truncated_as_in_transformers(
    truncation: str, add_bos_token: bool, saved: tuple[GPT2Tokenizer, Path]
) -> None:
    _, folder = saved
    ours = GPT2Tokenizer.from_pretrained(folder, add_bos_token=add_bos_token)
    theirs = transformers.GPT2Tokenizer.from_pretrained(folder, add_bos_token=add_bos_token)
    rng = random.Random(0)
    compared = 0
    for _ in range(200):
        first, second = (" x" * rng.randint(0, 12), " y" * rng.randint(1, 12))
        options = {"truncation": truncation, "max_length": rng.randint(3, 26), "return_token_type_ids": True}
        try:
            expected = dict(theirs(first, second, **options))
        except Exception as error:  # the tokenizers package raises nothing narrower
            assert "Truncation error" in str(error)
            with pytest.raises(ValueError, match="tokens too long|no room for"):
                ours(first, second, **options)
        else:
            assert dict(ours(first, second, **options)) == expected, (first, second, options)
            compared += 1
    assert compared > 80


@pytest.mark.parametrize("text", ["Hello", " Hello", f"Hello{END}Hello  {END} a", "", "世"])
def test_a_prefix_space_is_put_where_transformers_puts_it(text: str, saved: tuple[GPT2Tokenizer, Path]) -> None:
    _, folder = saved
    ours = GPT2Tokenizer.from_pretrained(folder, add_prefix_space=True)
    theirs = transformers.GPT2Tokenizer.from_pretrained(folder, add_prefix_space=True)
    options = {"return_offsets_mapping": True}
    assert dict(ours(text, **options)) == dict(theirs(text, **options))


# ------------------------------------------------------------------------------- GPT-2's own vocabulary


@pytest.fixture(scope="module")
def gpt2_folder() -> Path:
    root = os.environ.get("MINILM_DATA")
    folder = Path(root, "gpt2_vocab") if root else None
    if folder is None or not (folder / "vocab.json").is_file():
        pytest.skip("set MINILM_DATA to a folder with gpt2_vocab/vocab.json and gpt2_vocab/merges.txt")
    return folder


@pytest.mark.parametrize(
    ("text", "ids"), [("Hello world", [15496, 995]), ("Once upon a time", [7454, 2402, 257, 640]), (END, [50256])]
)
def test_golden_ids(text: str, ids: list[int], gpt2_folder: Path) -> None:
    tokenizer = GPT2Tokenizer.from_pretrained(gpt2_folder)
    assert tokenizer.encode(text) == ids
    assert tokenizer.decode(ids) == text


def test_gpt2s_vocabulary_on_fuzzed_text(gpt2_folder: Path) -> None:
    ours = GPT2Tokenizer.from_pretrained(gpt2_folder)
    assert len(ours) == ours.vocab_size == 50257
    theirs = tokenizers.ByteLevelBPETokenizer(str(gpt2_folder / "vocab.json"), str(gpt2_folder / "merges.txt"))
    theirs.add_special_tokens([END])
    for text in [TEXT, *fuzz(seed=3, count=3000)]:
        assert ours.encode(text) == theirs.encode(text).ids, repr(text)


def test_gpt2s_vocabulary_beside_tiktoken(gpt2_folder: Path) -> None:
    tiktoken = pytest.importorskip("tiktoken")
    from tiktoken.load import data_gym_to_mergeable_bpe_ranks

    ours = GPT2Tokenizer.from_pretrained(gpt2_folder)
    ranks = data_gym_to_mergeable_bpe_ranks(str(gpt2_folder / "merges.txt"), str(gpt2_folder / "vocab.json"))
    from minilm.tokenizers.byte_level import GPT2_PATTERN

    theirs = tiktoken.Encoding("gpt2-here", pat_str=GPT2_PATTERN, mergeable_ranks=ranks, special_tokens={END: 50256})
    for text in [TEXT, *fuzz(seed=4, count=1500)]:
        ids = theirs.encode(text, allowed_special="all")
        assert ours.encode(text) == ids, repr(text)
        assert ours.decode_bytes(ids[::2]) == theirs.decode_bytes(ids[::2])
