"""Weights on disk: one safetensors file, or shards with an index, as Transformers names them.

Reading widens bfloat16, which NumPy does not have, to float32; all else is left as it is stored. Writing makes every
array contiguous first, because safetensors' NumPy writer stores the wrong numbers for a transposed view without a
word. Pickled weights (`pytorch_model.bin`) are refused: unpickling runs whatever code the file contains.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minilm.generation.jsonconfig import read_json

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")

_SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def read_weights(folder: Path) -> dict[str, np.ndarray]:
    """Name -> array for every tensor that a model folder holds.

    Raises `FileNotFoundError` where there are none or a shard is missing, `ValueError` where a file is damaged or the
    weights are pickled.
    """
    if (folder / SINGLE).is_file():
        return _read_file(folder / SINGLE)
    if (folder / INDEX).is_file():
        return _read_shards(folder)
    if any((folder / name).is_file() for name in PICKLED):
        raise ValueError(
            f"{folder} holds its weights as a pickle ({PICKLED[0]}), and opening a pickle can run any code: refused. "
            "Convert it once, where PyTorch and Transformers are installed and the file is trusted:\n"
            f"    AutoModel.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r})\n"
            f"which writes {SINGLE}"
        )
    raise FileNotFoundError(f"no weights in {folder}: expected {SINGLE}, or shards with {INDEX}")


def _read_shards(folder: Path) -> dict[str, np.ndarray]:
    weight_map = read_json(folder / INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(f"{folder / INDEX} should hold a weight_map of names to files")
    arrays: dict[str, np.ndarray] = {}
    for name in sorted(set(weight_map.values())):
        if Path(name).name != name:
            raise ValueError(f"{folder / INDEX} names the shard {name!r}: a shard lies beside its index")
        if not (folder / name).is_file():
            raise FileNotFoundError(f"the shard {name}, which {INDEX} lists, is missing in {folder}")
        arrays.update(_read_file(folder / name))
    lost = sorted(set(weight_map) - set(arrays))
    if lost:
        raise ValueError(f"{INDEX} in {folder} lists tensors that no shard holds: {some(lost)}")
    return arrays


def _read_file(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            types = {name: file.get_slice(name).get_dtype() for name in file.keys()}
            strange = sorted({kind for kind in types.values() if kind.startswith("F8") or kind.startswith("F4")})
            if strange:
                raise ValueError(f"{path} holds {', '.join(strange)} tensors, a type that cannot be read here")
            arrays = {name: file.get_tensor(name) for name, kind in types.items() if kind != "BF16"}
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or no safetensors file ({error}): copy or download it again") from error
    if "BF16" in types.values():
        arrays.update(_read_bfloat16(path))
    return arrays


def _read_bfloat16(path: Path) -> dict[str, np.ndarray]:
    """The bfloat16 tensors of a file, as float32; the file has been checked.

    A safetensors file is the length of its header (8 bytes, little-endian), a JSON header that gives each tensor's
    type, shape and place, and then the numbers. A bfloat16 is the upper half of a float32.
    """
    with path.open("rb") as file:
        header_length = int.from_bytes(file.read(8), "little")
        header: dict[str, Any] = json.loads(file.read(header_length))
        arrays = {}
        for name, entry in header.items():
            if name != "__metadata__" and entry["dtype"] == "BF16":
                start, stop = entry["data_offsets"]
                file.seek(8 + header_length + start)
                upper = np.frombuffer(file.read(stop - start), dtype="<u2")
                arrays[name] = (upper.astype(np.uint32) << 16).view(np.float32).reshape(entry["shape"])
    return arrays


def write_weights(folder: Path, arrays: Mapping[str, np.ndarray], max_shard_size: int | str = "5GB") -> None:
    """Write tensors as one file, or as shards with an index where they exceed `max_shard_size` (bytes, or "200MB").

    Files appear whole or not at all, and older weight files of the folder that no longer belong are removed last.
    """
    limit = _bytes(max_shard_size)
    # A transposed view must become an array of its own: the writer takes the memory as it lies.
    # (np.ascontiguousarray would give a single number an axis.)
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    shards = _split(contiguous, limit)
    files = (
        [SINGLE]
        if len(shards) == 1
        else [f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i in range(len(shards))]
    )
    for name, shard in zip(files, shards, strict=True):
        _write_file(folder / name, shard)
    if len(shards) > 1:
        index = {
            "metadata": {"total_size": sum(array.nbytes for array in contiguous.values())},
            "weight_map": {key: name for name, shard in zip(files, shards, strict=True) for key in shard},
        }
        text = json.dumps(index, indent=2, sort_keys=True) + "\n"
        _replace(folder / INDEX, lambda path: path.write_text(text, encoding="utf-8"))
    keep = {*files, INDEX} if len(shards) > 1 else set(files)
    for path in folder.iterdir():
        if path.name not in keep and (path.name in (SINGLE, INDEX) or _SHARD.fullmatch(path.name)):
            path.unlink()


def _write_file(path: Path, arrays: dict[str, np.ndarray]) -> None:
    from safetensors.numpy import save_file

    # Transformers refuses a file that does not name the framework whose layout it has.
    _replace(path, lambda temporary: save_file(arrays, temporary, metadata={"format": "pt"}))


def _replace(path: Path, write: Any) -> None:
    """Write to a temporary name and rename, so that an interruption never leaves half a file under the real name."""
    temporary = path.with_name(path.name + ".partial")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _split(arrays: dict[str, np.ndarray], limit: int) -> list[dict[str, np.ndarray]]:
    """Fill one shard after another, in order; a tensor larger than the limit has a shard of its own."""
    shards: list[dict[str, np.ndarray]] = [{}]
    size = 0
    for name, array in arrays.items():
        if shards[-1] and size + array.nbytes > limit:
            shards.append({})
            size = 0
        shards[-1][name] = array
        size += array.nbytes
    return shards


def _bytes(size: int | str) -> int:
    if isinstance(size, int) and not isinstance(size, bool) and size > 0:
        return size
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*", size) if isinstance(size, str) else None
    if match is None or match[2].upper() not in _UNITS or float(match[1]) <= 0:
        raise ValueError(f'max_shard_size should be a number of bytes or a text such as "200MB", got {size!r}')
    return int(float(match[1]) * _UNITS[match[2].upper()])


def some(names: list[str], shown: int = 5) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
