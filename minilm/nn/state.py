"""Loading a state dictionary: find everything that is wrong, say it in one message, and only then change anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from minilm.tensor import Tensor

_SHOWN = 20  # a wrong architecture gives hundreds of keys; the first ones tell which


class LoadResult(NamedTuple):
    """What `load_state_dict` returns: the keys the module wanted and did not get, and those it got and did not want."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def load_into(owner: str, targets: Mapping[str, Tensor], values: Mapping[str, Any], strict: bool) -> LoadResult:
    """Copy `values` into the arrays of `targets`, in place, casting to their dtypes.

    Names whose targets share one array are tied: one of them is enough, and several must agree.

    Raises:
        TypeError: when `values` is not a mapping.
        RuntimeError: listing all missing and unexpected keys (when `strict`), shape mismatches, values that are not
            numbers of the right kind, and tied names with different values. Nothing has been written then.
    """
    if not isinstance(values, Mapping):
        raise TypeError(f"expected a state dictionary (name → array), got {type(values).__name__}.")
    arrays = {name: as_array(value, like=targets[name]) for name, value in values.items() if name in targets}
    ties: dict[int, list[str]] = {}
    for name, target in targets.items():
        ties.setdefault(id(target.data), []).append(name)

    missing = [name for names in ties.values() if not any(n in arrays for n in names) for name in names]
    unexpected = [name for name in values if name not in targets]
    unusable = [
        problem for name, array in arrays.items() if (problem := _why_unusable(name, targets[name].data, array))
    ]
    disagreeing = [problem for names in ties.values() for problem in _disagreements(names, arrays)]
    problems = [("cannot be loaded", unusable), ("tied weights disagree", disagreeing)]
    if strict:
        problems = [("missing keys", missing), ("unexpected keys", unexpected), *problems]
    if any(items for _, items in problems):
        raise RuntimeError(_message(owner, problems))

    for names in ties.values():
        given = [name for name in names if name in arrays]
        if given:
            targets[given[0]].copy_(arrays[given[0]])
    return LoadResult(missing, unexpected)


def as_array(value: Any, like: Tensor | None = None) -> Any:
    """The array of a Tensor, array or sequence; with `like`, one that lives where that tensor does."""
    if isinstance(value, Tensor):
        value = value.numpy() if like is not None and like.device == "cpu" else value.data
    if like is not None:
        return np.asarray(value, like=like.data)
    return value if hasattr(value, "__array_function__") else np.asarray(value)


def _why_unusable(name: str, target: Any, array: Any) -> str | None:
    if array.shape != target.shape:
        return f"{name}: expected shape {target.shape}, got {array.shape}"
    # float64 into float32 is fine, float into int, complex into float or strings into anything are not
    if not np.can_cast(array.dtype, target.dtype, casting="same_kind"):
        return f"{name}: expected {target.dtype}, got {array.dtype}"
    return None


def _disagreements(names: list[str], arrays: Mapping[str, Any]) -> list[str]:
    """Of several names of one array: those given with other values than the first one given."""
    given = [name for name in names if name in arrays]
    return [
        f"{given[0]} and {other} are one tied array, but their values differ"
        for other in given[1:]
        if not np.array_equal(arrays[given[0]], arrays[other], equal_nan=True)
    ]


def _message(owner: str, problems: list[tuple[str, list[str]]]) -> str:
    lines = [f"cannot load this state dictionary into {owner}; nothing was changed."]
    for title, items in problems:
        if items:
            lines.append(f"  {title} ({len(items)}):")
            lines.extend(f"    {item}" for item in items[:_SHOWN])
            if len(items) > _SHOWN:
                lines.append(f"    … and {len(items) - _SHOWN} more")
    return "\n".join(lines)
