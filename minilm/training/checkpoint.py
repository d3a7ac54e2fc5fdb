"""Checkpoints: folders that are written whole or not at all, and that say when they are damaged.

A checkpoint `step-000500` holds

    model.safetensors, config.json, tokenizer files   what `from_pretrained` reads
    optimizer.safetensors                              the optimiser's arrays
    trainer_state.json                                 everything else, and a checksum of every other file

It is written under a temporary name, flushed to the disk and then renamed, so that a crash, a full disk or a power cut
leaves the previous checkpoint as it was. Nothing is ever pickled: reading a checkpoint cannot run code.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

__all__ = [
    "CheckpointError",
    "checkpoint_folder",
    "latest_checkpoint",
    "list_checkpoints",
    "prune_checkpoints",
    "read_arrays",
    "read_checkpoint",
    "restore_replaced",
    "write_arrays",
    "write_checkpoint",
]

FORMAT = "minilm training checkpoint"
FORMAT_VERSION = 1
STATE_FILE = "trainer_state.json"
NAME = re.compile(r"step-(\d{6,})")


class CheckpointError(RuntimeError):
    """A checkpoint is missing, damaged, or not one of ours; the message says which and what to do."""


def checkpoint_folder(run: Path, step: int) -> Path:
    """Return where the checkpoint of `step` stands in the folder of a run."""
    return run / "checkpoints" / f"step-{step:06d}"


def list_checkpoints(run: str | Path) -> list[Path]:
    """Return the checkpoints of a run, oldest first; no look is taken inside them."""
    folder = Path(run) / "checkpoints"
    found = [path for path in folder.iterdir() if NAME.fullmatch(path.name)] if folder.is_dir() else []
    return sorted(found, key=_step_of)


def restore_replaced(run: str | Path) -> None:
    """Give checkpoints back their names that a crash caught between the two renames of a replacement.

    The old checkpoint then stands under `.step-….replaced`, whole, and there is none under its own name.
    """
    for replaced in (Path(run) / "checkpoints").glob(".step-*.replaced"):
        folder = replaced.with_name(replaced.name.removeprefix(".").removesuffix(".replaced"))
        if not folder.exists():
            replaced.rename(folder)


def write_checkpoint(folder: Path, write_files: Callable[[Path], None], state: dict[str, Any]) -> None:
    """Write a checkpoint whole or not at all.

    Args:
        folder: where it will stand; a checkpoint already there is replaced.
        write_files: writes the files of the checkpoint into the empty folder it is given.
        state: what goes into `trainer_state.json`, plain values that JSON can hold.

    Raises:
        OSError: the disk is full or the folder cannot be written; earlier checkpoints are untouched.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    restore_replaced(folder.parent.parent)
    for stale in folder.parent.glob(".step-*"):  # left by a process that was killed while it wrote
        shutil.rmtree(stale, ignore_errors=True)
    partial = folder.with_name(f".{folder.name}.partial")
    partial.mkdir()
    try:
        write_files(partial)
        files = {
            path.relative_to(partial).as_posix(): {"bytes": path.stat().st_size, "sha256": _sha256(path)}
            for path in sorted(partial.rglob("*"))
            if path.is_file()
        }
        document = {"format": FORMAT, "format_version": FORMAT_VERSION, "files": files, **state}
        text = json.dumps(document, indent=1, allow_nan=False) + "\n"
        (partial / STATE_FILE).write_text(text, encoding="utf-8")
        for path in partial.rglob("*"):
            _flush(path)
        _flush(partial)
        if folder.exists():
            replaced = folder.with_name(f".{folder.name}.replaced")
            folder.rename(replaced)
            partial.rename(folder)
            shutil.rmtree(replaced, ignore_errors=True)
        else:
            partial.rename(folder)
        _flush(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def read_checkpoint(folder: str | Path) -> dict[str, Any]:
    """Return the state in a checkpoint after checking every file of it.

    Raises:
        CheckpointError: it is missing, truncated, changed, or was not written by `write_checkpoint`; where
            its run has an earlier good checkpoint, the message names it.
    """
    folder = Path(folder)
    problem = _problem(folder)
    if problem is None:
        return json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
    others = [path for path in list_checkpoints(folder.parent.parent) if path.name != folder.name]
    good = next((path for path in reversed(others) if _problem(path) is None), None)
    advice = (
        f"the good checkpoint before it is {good}; resume from that" if good else "no good one is beside it"
    )
    raise CheckpointError(f"{folder} {problem}; {advice}")


def latest_checkpoint(run: str | Path) -> Path:
    """Return the newest checkpoint of a run.

    Raises:
        CheckpointError: the run has none.
    """
    found = list_checkpoints(run)
    if not found:
        raise CheckpointError(f"{run} holds no checkpoint (expected {Path(run) / 'checkpoints' / 'step-…'})")
    return found[-1]


def prune_checkpoints(run: Path, keep_last: int, best: int | None) -> None:
    """Delete all checkpoints of a run but the newest `keep_last` and the one of step `best`."""
    for path in list_checkpoints(run)[:-keep_last]:
        if _step_of(path) != best:
            shutil.rmtree(path)


def write_arrays(tree: Any, path: Path) -> Any:
    """Write the arrays of nested dicts and lists to a safetensors file; return the tree with their names instead.

    What is returned is plain and goes into JSON; `read_arrays` puts the arrays back. Tensors count as arrays.
    """
    from safetensors.numpy import save_file

    arrays: dict[str, np.ndarray] = {}

    def walk(value: Any, name: str) -> Any:
        if isinstance(value, dict):
            return {str(key): walk(item, f"{name}.{key}") for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [walk(item, f"{name}.{index}") for index, item in enumerate(value)]
        if hasattr(value, "numpy"):
            value = value.numpy()
        if isinstance(value, np.ndarray):
            arrays[name[1:]] = value.copy(order="C")  # safetensors writes wrong data for a view
            return {"__array__": name[1:]}
        return value.item() if isinstance(value, np.generic) else value

    plain = walk(tree, "")
    save_file(arrays, path)
    return plain


def read_arrays(plain: Any, path: Path) -> Any:
    """Return the tree that `write_arrays` took apart; keys that are numbers are numbers again."""
    from safetensors.numpy import load_file

    arrays = load_file(path)

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            if set(value) == {"__array__"}:
                return arrays[value["__array__"]]
            return {int(key) if key.isdigit() else key: walk(item) for key, item in value.items()}
        return [walk(item) for item in value] if isinstance(value, list) else value

    return walk(plain)


def _problem(folder: Path) -> str | None:
    """Say what is wrong with a checkpoint, or return None."""
    if not folder.is_dir():
        return "is no folder"
    state_path = folder / STATE_FILE
    if not state_path.is_file():
        return f"is no training checkpoint (it has no {STATE_FILE})"
    try:
        state = json.loads(state_path.read_text(encoding="utf-8"))
    except ValueError as error:
        return f"is damaged ({STATE_FILE} is not JSON: {error})"
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        return f"is no checkpoint of minilm ({STATE_FILE} was written by another program)"
    if state.get("format_version") != FORMAT_VERSION:
        version = state.get("format_version")
        return f"has checkpoint format {version!r}, and this version of minilm reads format {FORMAT_VERSION}"
    for name, expected in state["files"].items():
        path = folder / name
        if not path.is_file():
            return f"is damaged ({name} is missing)"
        if path.stat().st_size != expected["bytes"]:
            return f"is damaged ({name} has {path.stat().st_size} bytes, expected {expected['bytes']})"
        if _sha256(path) != expected["sha256"]:
            return f"is damaged ({name} does not match its checksum)"
    return None


def _step_of(path: Path) -> int:
    match = NAME.fullmatch(path.name)
    return int(match[1]) if match else -1


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    """Wait until a file or the entries of a folder are on the disk; Windows cannot flush a folder."""
    if os.name == "nt":
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
