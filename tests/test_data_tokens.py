"""Token files hold exactly what the tokenizer gave, split by position, with documents whole where
possible."""

import json

import numpy as np
import pytest

from minilm.data import TextFile, TokenDataset


class ByteTokenizer:
    """Bytes as tokens; with an end-of-text token when asked."""

    def __init__(self, eos=None, size=257):
        self.eos_token_id = eos
        self.size = size

    def encode(self, text):
        return list(text.encode())

    def __len__(self):
        return self.size


def test_one_text_splits_where_nanogpt_splits(tmp_path):
    text = "abcdefghij" * 100 + "xyz"
    dataset = TokenDataset.build([text], ByteTokenizer(), tmp_path)
    ids = np.frombuffer(text.encode(), dtype=np.uint8)
    split = int(len(text) * 0.9)
    assert np.array_equal(dataset.train, ids[:split])
    assert np.array_equal(dataset.validation, ids[split:])
    assert dataset.train.dtype == np.uint16
    assert isinstance(dataset.train, np.memmap)


def test_documents_stay_whole_and_end_with_the_end_token(tmp_path):
    documents = [chr(97 + i) * 99 for i in range(10)]
    dataset = TokenDataset.build(documents, ByteTokenizer(eos=256), tmp_path, validation_fraction=0.195)
    assert len(dataset.validation) == 200  # 0.195 of 1000 tokens, moved to the start of the ninth document
    assert dataset.validation[0] == ord("i")
    assert dataset.train[-1] == 256
    assert dataset.info.documents == 10
    assert dataset.info.characters == 990


def test_a_document_is_cut_when_no_start_is_near(tmp_path):
    dataset = TokenDataset.build(["a" * 500, "b" * 500], ByteTokenizer(), tmp_path, validation_fraction=0.1)
    assert len(dataset.validation) == 100


def test_files_in_pieces_give_the_same_tokens(tmp_path):
    text = "some words on a line\n" * 30_000  # more than half a megabyte: several pieces below
    path = tmp_path / "a.txt"
    path.write_text(text, encoding="utf-8")

    class Small(TextFile):
        def pieces(self, size=1000):
            return super().pieces(size)

    whole = TokenDataset.build([text], ByteTokenizer(), tmp_path / "whole")
    pieces = TokenDataset.build([Small(path)], ByteTokenizer(), tmp_path / "pieces")
    assert np.array_equal(whole.train, pieces.train)
    assert np.array_equal(whole.validation, pieces.validation)


def test_large_vocabularies_take_four_bytes(tmp_path):
    class Large(ByteTokenizer):
        def encode(self, text):
            return [70_000 + ord(character) for character in text]

    dataset = TokenDataset.build(["hello world"], Large(size=100_000), tmp_path, 0.5)
    assert dataset.train.dtype == np.uint32
    assert dataset.train[0] == 70_000 + ord("h")


def test_the_header_is_read_by_numpy(tmp_path):
    TokenDataset.build(["x" * 12_345], ByteTokenizer(), tmp_path)
    assert np.load(tmp_path / "tokens.npy").shape == (12_345,)


def test_load_again_and_build_over(tmp_path):
    TokenDataset.build(["a" * 100], ByteTokenizer(), tmp_path)
    again = TokenDataset.load(tmp_path)
    assert len(again.train) == 90
    TokenDataset.build(["b" * 50], ByteTokenizer(), tmp_path)
    assert len(TokenDataset.load(tmp_path).train) == 45
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset.json", "tokens.npy"]
    assert "train=45 tokens" in repr(TokenDataset.load(tmp_path))


def test_a_failed_build_leaves_nothing_half_written(tmp_path):
    with pytest.raises(ValueError, match="too few"):
        TokenDataset.build([""], ByteTokenizer(), tmp_path)
    with pytest.raises(ValueError, match="between 0 and 1"):
        TokenDataset.build(["abc"], ByteTokenizer(), tmp_path, validation_fraction=1.0)
    with pytest.raises(ValueError, match="gave id 99 but says it has 50"):
        TokenDataset.build(["abc"], ByteTokenizer(size=50), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_load_refuses_what_does_not_belong_together(tmp_path):
    with pytest.raises(FileNotFoundError, match="no token dataset"):
        TokenDataset.load(tmp_path)
    TokenDataset.build(["a" * 100], ByteTokenizer(), tmp_path)
    description = json.loads((tmp_path / "dataset.json").read_text())
    description["tokens"] = 99
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    with pytest.raises(ValueError, match="build it again"):
        TokenDataset.load(tmp_path)
    (tmp_path / "tokens.npy").write_bytes(b"garbage")
    with pytest.raises(ValueError, match="cannot be read"):
        TokenDataset.load(tmp_path)
