"""From the name of a model to the folder that holds its files.

`resolve("gpt2")` looks, in this order, at a folder of that name, at the models bundled with minilm, at the
Hugging Face cache on this disk, and at the Hub itself if `huggingface_hub` is installed. It returns a folder
or raises an error that says what to do; it never returns a folder from which a needed file is missing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

BUNDLED_PREFIX = "minilm/"
ASSETS = Path(__file__).parent / "assets"

# The Hub moved these early models under an organisation and redirects the old names; a cache does not.
MOVED = {
    "gpt2": "openai-community/gpt2",
    "gpt2-medium": "openai-community/gpt2-medium",
    "gpt2-large": "openai-community/gpt2-large",
    "gpt2-xl": "openai-community/gpt2-xl",
    "distilgpt2": "distilbert/distilgpt2",
    "bert-base-uncased": "google-bert/bert-base-uncased",
    "bert-base-cased": "google-bert/bert-base-cased",
    "bert-base-chinese": "google-bert/bert-base-chinese",
    "roberta-base": "FacebookAI/roberta-base",
    "t5-small": "google-t5/t5-small",
    "t5-base": "google-t5/t5-base",
}

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_TRUE = {"1", "on", "yes", "true"}

# One file name, or several of which any one will do.
Requirement = str | tuple[str, ...]


def resolve(name_or_path: str | Path, *, files: Sequence[Requirement] = (), revision: str = "main") -> Path:
    """Return the folder that holds the files of a model or tokenizer.

    `files` lists what the folder must contain; an entry is a file name, or a tuple of names of which one is
    enough: `files=("config.json", ("model.safetensors", "model.safetensors.index.json"))`. It also decides
    what is fetched from the Hub: json and txt files, and weights only if a weight file is asked for.
    `revision` is the branch, tag or commit to take on the Hub; folders and bundled models have only one.

    Raises FileNotFoundError when there is no such folder, with what was tried and what to do next.
    """
    name = os.fspath(name_or_path)
    if not name:
        raise ValueError("an empty name was given; pass a folder or a model name such as 'gpt2'")
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _complete(folder, files)
    if folder.is_file():
        raise NotADirectoryError(f"{name} is a file; pass the folder that contains it: {folder.parent}")
    if name.startswith(BUNDLED_PREFIX):
        return _bundled_folder(name, files)
    if isinstance(name_or_path, Path) or not _HUB_NAME.fullmatch(name):
        raise FileNotFoundError(f"there is no folder {name} (looked from {Path.cwd()}); {_wanted(files)}")
    cached = _cached_folder(name, files, revision)
    return cached if cached is not None else _download(name, files, revision)


def bundled() -> list[str]:
    """Return the names of the models that are part of this installation of minilm."""
    if not ASSETS.is_dir():
        return []
    folders = [path.parent for path in ASSETS.glob("*/config.json")]
    return sorted(BUNDLED_PREFIX + folder.name for folder in folders)


def cache_folder() -> Path:
    """Return the folder in which Hugging Face's libraries keep what they download (HF_HOME and kin count)."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return Path(os.environ[variable]).expanduser()
    if os.environ.get("HF_HOME"):
        return Path(os.environ["HF_HOME"]).expanduser() / "hub"
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "huggingface" / "hub"


def missing_files(folder: Path, files: Sequence[Requirement]) -> list[str]:
    """Return the entries of `files` that `folder` does not satisfy, as readable text."""
    missing = []
    for entry in files:
        if not any((folder / name).is_file() for name in _alternatives(entry)):
            missing.append(_spell([entry]))
    return missing


def _alternatives(entry: Requirement) -> tuple[str, ...]:
    return (entry,) if isinstance(entry, str) else entry


def _spell(files: Sequence[Requirement]) -> str:
    return ", ".join(" or ".join(_alternatives(entry)) for entry in files)


def _complete(folder: Path, files: Sequence[Requirement]) -> Path:
    missing = missing_files(folder, files)
    if missing:
        found = ", ".join(sorted(path.name for path in folder.iterdir())[:12]) or "nothing"
        raise FileNotFoundError(f"the folder {folder} lacks {', '.join(missing)}; it contains: {found}")
    return folder


def _bundled_folder(name: str, files: Sequence[Requirement]) -> Path:
    folder = ASSETS / name.removeprefix(BUNDLED_PREFIX)
    if name not in bundled():
        known = ", ".join(bundled()) or "none"
        raise FileNotFoundError(f"no model {name} comes with this installation; bundled models: {known}")
    return _complete(folder, files)


def _cached_folder(name: str, files: Sequence[Requirement], revision: str) -> Path | None:
    """Return the cached snapshot of a Hub model if it is there and has every needed file."""
    for alias in (name, MOVED.get(name)):
        if alias is None:
            continue
        repository = cache_folder() / ("models--" + alias.replace("/", "--"))
        reference = repository / "refs" / revision
        commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else revision
        snapshot = repository / "snapshots" / commit
        if snapshot.is_dir() and not missing_files(snapshot, files):
            return snapshot
    return None


def _download(name: str, files: Sequence[Requirement], revision: str) -> Path:
    if any(os.environ.get(flag, "").lower() in _TRUE for flag in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")):
        raise FileNotFoundError(_advice(name, files, "downloads are switched off (HF_HUB_OFFLINE)"))
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise FileNotFoundError(_advice(name, files, "huggingface_hub is not installed")) from error
    patterns = ["*.json", "*.txt"]
    if ".safetensors" in _spell(files):
        patterns.append("*.safetensors")
    try:
        # Sub-folders of a repository hold the same weights for other programs.
        folder = snapshot_download(name, revision=revision, allow_patterns=patterns, ignore_patterns=["*/*"])
    except Exception as error:
        first_line = (str(error).splitlines() or [""])[0]
        cause = f"the download failed ({type(error).__name__}: {first_line})"
        raise FileNotFoundError(_advice(name, files, cause)) from error
    return _complete(Path(folder), files)


def _wanted(files: Sequence[Requirement]) -> str:
    return f"it should contain {_spell(files)}" if files else "check the spelling"


def _advice(name: str, files: Sequence[Requirement], cause: str) -> str:
    lines = [
        f"'{name}' is neither a folder here ({Path.cwd()}) nor in the Hugging Face cache ({cache_folder()}), "
        f"and {cause}. One of these will do:",
        f"  - get {_spell(files) or 'its files'} from the page of {MOVED.get(name, name)} on the Hugging Face Hub, "
        "put them into one folder and pass its path;",
        '  - with a network: pip install "minilm[hub]", unset HF_HUB_OFFLINE, and run this again;',
    ]
    if bundled():
        lines.append(f"  - use a model that comes with minilm: {', '.join(bundled())}.")
    else:
        lines.append("  - copy the Hugging Face cache of a machine that has it, and set HF_HOME to it.")
    return "\n".join(lines)
