"""The files of a byte-level BPE tokenizer: reading every form in use, writing what every reader understands.

    vocab.json + merges.txt     tokens with their ids, and merges a line each: GPT-2's original form
    tokenizer.json              all of it in one file: the form of the `tokenizers` package
    tokenizer_config.json       settings and special tokens
    special_tokens_map.json     special tokens by role, for readers before Transformers 5
    added_tokens.json           (read only) tokens beyond vocab.json with their ids

A file that asks for something GPT-2's algorithm does not do, such as a normaliser, is refused, never half obeyed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from minilm.tokenizers.added_tokens import AddedToken
from minilm.tokenizers.vocabulary import ROLELESS, ROLES

Pair = tuple[str, str]

# Names in Transformers under which a tokenizer_config.json describes exactly this algorithm.
CLASSES = ("GPT2Tokenizer", "GPT2TokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend", "PreTrainedTokenizer")
SETTINGS = (
    "errors",
    "add_prefix_space",
    "add_bos_token",
    "add_eos_token",
    "model_max_length",
    "padding_side",
    "truncation_side",
)


def read_folder(folder: Path) -> dict[str, Any]:
    """Return the arguments of `GPT2Tokenizer` that the files of a folder hold.

    `tokenizer.json` is read where it exists, else `vocab.json` and `merges.txt`. Raises ValueError for files of
    another kind of tokenizer, FileNotFoundError for half a pair.
    """
    config = _read_json(folder / "tokenizer_config.json", required=False)
    if config.get("tokenizer_class") not in (None, *CLASSES):
        raise ValueError(f"{folder} holds a {config['tokenizer_class']}, which is not a GPT2Tokenizer")
    arguments = {name: config[name] for name in SETTINGS if config.get(name) is not None}
    arguments |= _special_tokens(_read_json(folder / "special_tokens_map.json", required=False), config)
    if (folder / "tokenizer.json").is_file():
        content = _read_json(folder / "tokenizer.json")
        _refuse_other_algorithms(content, folder / "tokenizer.json")
        arguments |= _from_tokenizer_json(content)
        _read_template(content, arguments, folder / "tokenizer.json")
    else:
        arguments |= _from_vocab_and_merges(folder)
    for i, token in config.get("added_tokens_decoder", {}).items():
        arguments["added_tokens"][int(i)] = _added_token(token)
    return arguments


def write_folder(
    folder: Path,
    vocab: Mapping[str, int],
    merges: Sequence[Pair],
    added_tokens: Mapping[int, AddedToken],
    special_tokens: Mapping[str, str],
    settings: Mapping[str, Any],
) -> list[Path]:
    """Write a tokenizer in all its forms and return the paths.

    Transformers 5 reads `tokenizer.json` and the configuration; 4 reads these or the older files; other programs
    read `vocab.json` and `merges.txt`.
    """
    vocab = dict(sorted(vocab.items(), key=lambda item: item[1]))
    roleless = [token.content for token in added_tokens.values() if token.special]
    roleless = [token for token in roleless if token not in special_tokens.values()]
    config = {
        "tokenizer_class": "GPT2Tokenizer",
        # A role that nothing has is written too: left out, it would mean GPT-2's <|endoftext|>.
        **{role: special_tokens.get(role) for role in ("bos_token", "eos_token", "unk_token", "pad_token")},
        **special_tokens,
        **({ROLELESS[0]: roleless} if roleless else {}),
        **settings,
        "added_tokens_decoder": {str(i): vars(token) for i, token in added_tokens.items()},
        "clean_up_tokenization_spaces": False,
    }
    special_map = {**special_tokens, **({ROLELESS[0]: roleless} if roleless else {})}
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, **vars(token)} for i, token in added_tokens.items()],
        "normalizer": None,
        "pre_tokenizer": _byte_level(settings["add_prefix_space"]),
        "post_processor": _template(vocab, added_tokens, special_tokens, settings),
        "decoder": _byte_level(True),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": [[left, right] for left, right in merges],
        },
    }
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges)]
    return [
        _write(folder / "vocab.json", json.dumps(vocab, ensure_ascii=False)),
        _write(folder / "merges.txt", "\n".join(lines)),
        _write_json(folder / "tokenizer.json", content),
        _write_json(folder / "tokenizer_config.json", config),
        _write_json(folder / "special_tokens_map.json", special_map),
    ]


# ------------------------------------------------------------------------------------------- reading


def _from_vocab_and_merges(folder: Path) -> dict[str, Any]:
    if not (folder / "merges.txt").is_file():
        raise FileNotFoundError(f"{folder} has a vocab.json without a merges.txt; a BPE tokenizer needs both")
    lines = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
    merges = []
    for number, line in enumerate(lines, 1):
        if line.startswith("#version") or not line.strip("\r"):
            continue
        parts = line.rstrip("\r").split(" ")
        if len(parts) != 2:
            raise ValueError(f"{folder / 'merges.txt'}, line {number}: expected two tokens and one space, got {line!r}")
        merges.append((parts[0], parts[1]))
    extra = _read_json(folder / "added_tokens.json", required=False)
    return {
        "vocab": _read_json(folder / "vocab.json"),
        "merges": merges,
        "added_tokens": {i: AddedToken(content) for content, i in extra.items()},
    }


def _from_tokenizer_json(content: Mapping[str, Any]) -> dict[str, Any]:
    merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in content["model"]["merges"]]
    return {
        "vocab": content["model"]["vocab"],
        "merges": [(left, right) for left, right in merges],
        "added_tokens": {token["id"]: _added_token(token) for token in content.get("added_tokens") or []},
        "add_prefix_space": content["pre_tokenizer"].get("add_prefix_space", False),
    }


def _refuse_other_algorithms(content: Mapping[str, Any], path: Path) -> None:
    model = content.get("model") or {}
    pre_tokenizer = content.get("pre_tokenizer") or {}
    refusals = {
        f"its model is {model.get('type')}, not BPE": model.get("type", "BPE") != "BPE" or "merges" not in model,
        "its model keeps whole words that are tokens (ignore_merges)": model.get("ignore_merges"),
        "its model drops merges at random (dropout)": model.get("dropout"),
        "its model marks parts of words": model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"),
        "it normalises text": content.get("normalizer"),
        f"it cuts words by {pre_tokenizer.get('type')}": pre_tokenizer.get("type") != "ByteLevel",
        "it cuts words without GPT-2's pattern": pre_tokenizer.get("use_regex") is False,
    }
    reasons = [reason for reason, applies in refusals.items() if applies]
    if reasons:
        raise ValueError(f"{path} is not GPT-2's tokenizer: {'; '.join(reasons)}")


def _read_template(content: Mapping[str, Any], arguments: dict[str, Any], path: Path) -> None:
    """Read from the post-processor whether a beginning and an end token are put around every text."""
    processor = content.get("post_processor") or {"type": "ByteLevel"}
    for step in processor.get("processors", [processor]):
        if step["type"] == "ByteLevel":  # concerns offsets only
            continue
        if step["type"] != "TemplateProcessing":
            raise ValueError(f"{path} puts special tokens around texts by {step['type']}, which GPT-2 does not")
        slots = [slot.get("SpecialToken", {}).get("id") for slot in step["single"]]
        place = slots.index(None)
        for role, found in [("bos_token", slots[:place]), ("eos_token", slots[place + 1 :])]:
            if found and found != [str(arguments.setdefault(role, found[0]))]:
                raise ValueError(f"{path} puts {found} where GPT2Tokenizer can put only the {role}")
            if found:
                arguments[f"add_{role}"] = True


def _special_tokens(special_map: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return special tokens by role; the configuration wins over the older special_tokens_map.json."""
    found: dict[str, Any] = {}
    roleless: list[Any] = []
    for source in (special_map, config):
        for role in ROLES:
            if role in source:
                found[role] = _special_token(source[role]) or found.get(role)
        for name in ROLELESS:
            listed = source.get(name) or []
            roleless += listed.values() if isinstance(listed, Mapping) else listed
    return found | {ROLELESS[0]: [_special_token(token) for token in roleless]}


def _special_token(value: str | Mapping[str, Any] | None) -> str | AddedToken | None:
    """Return a special token of a file; one given as bare text may have its settings elsewhere."""
    return value if value is None or isinstance(value, str) else _added_token({**value, "special": True})


def _added_token(value: Mapping[str, Any]) -> AddedToken:
    names = ("single_word", "lstrip", "rstrip", "normalized", "special")
    return AddedToken(value["content"], **{name: value[name] for name in names if name in value})


def _read_json(path: Path, required: bool = True) -> Any:
    if not required and not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error


# ------------------------------------------------------------------------------------------- writing


def _byte_level(add_prefix_space: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": True, "use_regex": True}


def _template(
    vocab: Mapping[str, int],
    added_tokens: Mapping[int, AddedToken],
    special_tokens: Mapping[str, str],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the post-processor: the text, or a text and its pair, with the tokens that are put around each."""
    ids = dict(vocab) | {token.content: i for i, token in added_tokens.items()}
    before = [special_tokens["bos_token"]] if settings["add_bos_token"] else []
    after = [special_tokens["eos_token"]] if settings["add_eos_token"] else []

    def around(name: str, type_id: int) -> list[dict[str, Any]]:
        def slot(token: str) -> dict[str, Any]:
            return {"SpecialToken": {"id": token, "type_id": type_id}}

        return [*map(slot, before), {"Sequence": {"id": name, "type_id": type_id}}, *map(slot, after)]

    return {
        "type": "TemplateProcessing",
        "single": around("A", 0),
        "pair": around("A", 0) + around("B", 1),
        "special_tokens": {token: {"id": token, "ids": [ids[token]], "tokens": [token]} for token in before + after},
    }


def _write_json(path: Path, content: Mapping[str, Any]) -> Path:
    return _write(path, json.dumps(content, ensure_ascii=False, indent=2))


def _write(path: Path, text: str) -> Path:
    path.write_text(text + "\n", encoding="utf-8", newline="\n")
    return path
