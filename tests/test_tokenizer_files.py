"""The files of tokenizers: every form that is in use is read, every reader's form is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest

from minilm import hub
from minilm.tokenizers import AddedToken, CharTokenizer, GPT2Tokenizer

END = "<|endoftext|>"
LEARNED = GPT2Tokenizer.train(topics["lambda"] + topics["strings"] + "Grüße, 世界", 400)
SAMPLE = f"a lambda expression{END}  Grüße 世界🙂\n<x>"


def assert_same(first: GPT2Tokenizer, second: GPT2Tokenizer) -> None:
    assert first.get_vocab() == second.get_vocab()
    assert first.vocab_size == second.vocab_size
    assert first.merges == second.merges
    assert first.added_tokens_decoder == second.added_tokens_decoder
    assert first.special_tokens_map == second.special_tokens_map
    assert first.additional_special_tokens == second.additional_special_tokens
    assert first.settings() == second.settings()
    assert first(SAMPLE) == second(SAMPLE)


def change(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    edit(content)
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    LEARNED.save_pretrained(tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


def keep_only(folder: Path, *names: str) -> None:
    for path in folder.iterdir():
        if path.name not in names:
            path.unlink()


# -------------------------------------------------------------------------------------- there and back


def test_what_is_written(folder: Path, tmp_path: Path) -> None:
    names = ["merges.txt", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.json"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert sorted(LEARNED.save_pretrained(str(tmp_path / "a" / "b"))) == [str(tmp_path / "a" / "b" / n) for n in names]
    for name in names:
        content = (folder / name).read_bytes()
        assert content == (tmp_path / "a" / "b" / name).read_bytes(), "the same tokenizer makes the same files"
        assert b"\r" not in content and content.endswith(b"\n")
    lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("#version") and lines[1] == " ".join(LEARNED.merges[0])


def test_all_settings_survive(tmp_path: Path) -> None:
    tokenizer = GPT2Tokenizer(
        LEARNED.vocab,
        LEARNED.merges,
        errors="ignore",
        pad_token=AddedToken("<pad>", rstrip=True, normalized=False, special=True),
        mask_token="<mask>",
        unk_token=None,
        add_prefix_space=True,
        add_bos_token=True,
        add_eos_token=True,
        model_max_length=77,
        padding_side="left",
        truncation_side="left",
        additional_special_tokens=["<x>", "<y>"],
    )
    tokenizer.add_tokens([AddedToken("cat", single_word=True), "d og"])
    tokenizer.save_pretrained(tmp_path)
    assert_same(GPT2Tokenizer.from_pretrained(tmp_path), tokenizer)
    keep_only(tmp_path, "vocab.json", "merges.txt", "tokenizer_config.json")
    assert_same(GPT2Tokenizer.from_pretrained(tmp_path), tokenizer)
    overridden = GPT2Tokenizer.from_pretrained(tmp_path, padding_side="right", pad_token="<y>", add_bos_token=False)
    assert overridden.padding_side == "right" and overridden.pad_token == "<y>" and not overridden.add_bos_token


def test_a_tokenizer_without_an_end_token_stays_without(tmp_path: Path) -> None:
    tokenizer = GPT2Tokenizer.train("abab", 257, special_tokens=[])
    tokenizer.save_pretrained(tmp_path)
    assert GPT2Tokenizer.from_pretrained(tmp_path).special_tokens_map == {}
    assert len(GPT2Tokenizer.from_pretrained(tmp_path)) == 257


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="several files into a folder"):
        LEARNED.save_pretrained(tmp_path / "file")


def test_a_bundled_tokenizer_is_found_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hub, "ASSETS", tmp_path)
    LEARNED.save_pretrained(tmp_path / "tiny")
    (tmp_path / "tiny" / "config.json").write_text("{}", encoding="utf-8")
    assert_same(GPT2Tokenizer.from_pretrained("minilm/tiny"), LEARNED)


# ---------------------------------------------------------------------------------------- every form


@pytest.mark.parametrize(
    "names",
    [
        ("tokenizer.json",),
        ("tokenizer.json", "tokenizer_config.json"),
        ("vocab.json", "merges.txt"),
        ("vocab.json", "merges.txt", "special_tokens_map.json"),
    ],
)
def test_each_form_is_enough(names: tuple[str, ...], folder: Path) -> None:
    keep_only(folder, *names)
    read = GPT2Tokenizer.from_pretrained(folder)
    assert read(SAMPLE) == LEARNED(SAMPLE)
    assert read.eos_token == END and read.eos_token_id == 0
    assert read.decode(read.encode(SAMPLE), skip_special_tokens=True) == SAMPLE.replace(END, "")


def test_merges_as_strings(folder: Path) -> None:
    keep_only(folder, "tokenizer.json")

    def as_strings(content: dict[str, Any]) -> None:
        content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]

    change(folder / "tokenizer.json", as_strings)
    assert GPT2Tokenizer.from_pretrained(folder).merges == LEARNED.merges


def test_merges_with_the_line_ends_of_windows(folder: Path) -> None:
    keep_only(folder, "vocab.json", "merges.txt")
    text = (folder / "merges.txt").read_text(encoding="utf-8")
    (folder / "merges.txt").write_bytes(text.replace("\n", "\r\n").encode())
    assert GPT2Tokenizer.from_pretrained(folder).merges == LEARNED.merges


def test_a_vocabulary_without_the_end_token_gets_it_at_the_end(folder: Path) -> None:
    keep_only(folder, "vocab.json", "merges.txt")
    change(folder / "vocab.json", lambda vocab: vocab.pop(END))
    tokenizer = GPT2Tokenizer.from_pretrained(folder)
    assert tokenizer.eos_token_id == 400 and len(tokenizer) == 400


def test_added_tokens_of_the_oldest_form(folder: Path) -> None:
    keep_only(folder, "vocab.json", "merges.txt")
    (folder / "added_tokens.json").write_text('{"<new>": 400}', encoding="utf-8")
    assert GPT2Tokenizer.from_pretrained(folder).tokenize("a<new> b") == ["a", "<new>", "\u0120b"]
    # Version 4 writes it beside the configuration, which knows the settings of the token.
    config = {"added_tokens_decoder": {"400": {"content": "<new>", "rstrip": True}}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    assert GPT2Tokenizer.from_pretrained(folder).tokenize("a<new> b") == ["a", "<new>", "b"]


@pytest.mark.parametrize("name", ["additional_special_tokens", "extra_special_tokens"])
@pytest.mark.parametrize("as_dict", [False, True])
def test_special_tokens_without_a_role(name: str, as_dict: bool, folder: Path) -> None:
    keep_only(folder, "vocab.json", "merges.txt")
    tokens: Any = ["<x>", {"content": "<y>", "lstrip": True, "normalized": False}]
    config = {name: dict(enumerate(tokens)) if as_dict else tokens}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    tokenizer = GPT2Tokenizer.from_pretrained(folder)
    assert tokenizer.additional_special_tokens == ["<x>", "<y>"]
    assert tokenizer.added_tokens_decoder[401].lstrip


def test_special_tokens_as_objects_and_nulls(folder: Path) -> None:
    keep_only(folder, "vocab.json", "merges.txt")
    special = {"eos_token": {"content": "<e>", "__type": "AddedToken"}, "pad_token": "<p>"}
    (folder / "special_tokens_map.json").write_text(json.dumps(special), encoding="utf-8")
    config = {"pad_token": None, "unk_token": None, "bos_token": "<b>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    tokenizer = GPT2Tokenizer.from_pretrained(folder)
    assert tokenizer.special_tokens_map == {"bos_token": "<b>", "eos_token": "<e>", "pad_token": "<p>"}


def test_the_template_of_a_tokenizer_json_counts(tmp_path: Path) -> None:
    tokenizer = GPT2Tokenizer(LEARNED.vocab, LEARNED.merges, add_bos_token=True)
    tokenizer.save_pretrained(tmp_path)
    keep_only(tmp_path, "tokenizer.json")
    assert GPT2Tokenizer.from_pretrained(tmp_path).encode("a") == tokenizer.encode("a")


# --------------------------------------------------------------------------------------- refused files


def edit_model(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["model"].update(changes)


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (edit_model(type="WordPiece"), "its model is WordPiece, not BPE"),
        (edit_model(ignore_merges=True), "ignore_merges"),
        (edit_model(dropout=0.1), "dropout"),
        (edit_model(end_of_word_suffix="</w>"), "marks parts of words"),
        (lambda content: content.update(normalizer={"type": "NFC"}), "it normalises text"),
        (lambda content: content.update(pre_tokenizer={"type": "Whitespace"}), "it cuts words by Whitespace"),
        (lambda content: content.update(pre_tokenizer=None), "it cuts words by None"),
        (lambda content: content["pre_tokenizer"].update(use_regex=False), "without GPT-2's pattern"),
        (lambda content: content.update(post_processor={"type": "RobertaProcessing"}), "by RobertaProcessing"),
        (
            lambda content: content["post_processor"]["single"].insert(0, {"SpecialToken": {"id": "[CLS]"}}),
            r"puts \['\[CLS\]'\] where GPT2Tokenizer can put only the bos_token",
        ),
    ],
)
def test_a_tokenizer_json_of_another_algorithm(
    edit: Callable[[dict[str, Any]], None], reason: str, folder: Path
) -> None:
    change(folder / "tokenizer.json", edit)
    with pytest.raises(ValueError, match=reason):
        GPT2Tokenizer.from_pretrained(folder)


def test_a_folder_of_another_class(folder: Path) -> None:
    change(folder / "tokenizer_config.json", lambda config: config.update(tokenizer_class="BertTokenizer"))
    with pytest.raises(ValueError, match="holds a BertTokenizer, which is not a GPT2Tokenizer"):
        GPT2Tokenizer.from_pretrained(folder)


def test_missing_and_broken_files(folder: Path) -> None:
    keep_only(folder, "vocab.json", "tokenizer.json")
    (folder / "tokenizer.json").write_text('{"model": ', encoding="utf-8")
    with pytest.raises(ValueError, match="tokenizer.json is not valid JSON"):
        GPT2Tokenizer.from_pretrained(folder)
    keep_only(folder, "vocab.json")
    with pytest.raises(FileNotFoundError, match="vocab.json without a merges.txt"):
        GPT2Tokenizer.from_pretrained(folder)
    (folder / "merges.txt").write_text("#version: 0.2\na b\na b c\n", encoding="utf-8")
    with pytest.raises(ValueError, match="merges.txt, line 3: expected two tokens and one space, got 'a b c'"):
        GPT2Tokenizer.from_pretrained(folder)
    keep_only(folder)
    with pytest.raises(FileNotFoundError, match="lacks tokenizer.json or vocab.json"):
        GPT2Tokenizer.from_pretrained(folder)


def test_a_vocabulary_without_all_bytes_is_refused_when_it_matters(folder: Path) -> None:
    keep_only(folder, "vocab.json", "merges.txt")
    change(folder / "vocab.json", lambda vocab: vocab.pop("~"))
    tokenizer = GPT2Tokenizer.from_pretrained(folder)
    assert tokenizer.encode("abc") == LEARNED.encode("abc")
    with pytest.raises(ValueError, match="no token stands for the character '~'"):
        tokenizer.encode("a~b")


# -------------------------------------------------------------------------------------- CharTokenizer


def test_characters_and_files(tmp_path: Path) -> None:
    tokenizer = CharTokenizer.from_text("hello\n世🙂", unk_token="<unk>", model_max_length=9, padding_side="left")
    tokenizer.add_tokens("<x>")
    tokenizer.save_pretrained(tmp_path)
    read = CharTokenizer.from_pretrained(tmp_path)
    text = "hell世<x>zo🙂\n"
    assert read(text) == tokenizer(text)
    assert read.get_vocab() == tokenizer.get_vocab()
    assert read.special_tokens_map == {"unk_token": "<unk>"}
    assert (read.model_max_length, read.padding_side) == (9, "left")
    assert read.added_tokens_decoder == tokenizer.added_tokens_decoder


def test_the_two_kinds_of_files_are_not_mixed_up(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not hold a CharTokenizer"):
        CharTokenizer.from_pretrained(folder)
    CharTokenizer.from_text("abc").save_pretrained(tmp_path / "characters")
    with pytest.raises(ValueError, match="holds a CharTokenizer, which is not a GPT2Tokenizer"):
        GPT2Tokenizer.from_pretrained(tmp_path / "characters")
