"""Frozen configurations that live in JSON files: the base of `GenerationConfig` and of every model's configuration.

A configuration is a frozen dataclass: its types are checked when it is made, a slip in a name is an error, and a
model never changes it (`dataclasses.replace` makes a new one). What a file holds beyond the known fields is kept in
`extra` and written back, so that reading and saving a file of another library loses nothing. What this refuses to do:
guess. A value of the wrong type or outside its range is an error that names the field.
"""

from __future__ import annotations

import difflib
import json
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np

from minilm import hub


@dataclass(frozen=True, kw_only=True)
class JsonConfig:
    """A frozen dataclass that reads and writes one JSON file.

    Subclasses name their `file_name` and add fields; `aliases` maps other names of a field (in files and as
    attributes) to the field, for example `hidden_size` to `n_embd`.

    Raises `TypeError` for a field of the wrong type and `ValueError` for one out of its range.
    """

    file_name: ClassVar[str]
    aliases: ClassVar[Mapping[str, str]] = {}

    extra: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for name in self.field_names():
            value = _plain(getattr(self, name))
            if not _accepts(value, hints[name]):
                raise TypeError(
                    f"{type(self).__name__}.{name} should be {_describe(hints[name])}, got {value!r} "
                    f"({type(value).__name__})"
                )
            object.__setattr__(self, name, value)
        object.__setattr__(self, "extra", types.MappingProxyType(dict(self.extra)))
        self.validate()

    def validate(self) -> None:
        """Refuse values out of range; subclasses extend it. Types are already right when it runs."""

    def __getattr__(self, name: str) -> Any:
        # Only reached when the normal lookup has failed.
        known_as = type(self).aliases.get(name)
        if known_as is None:
            raise AttributeError(f"{type(self).__name__} has no field '{name}'{self._nearest(name)}")
        return getattr(self, known_as)

    def __getstate__(self) -> dict[str, Any]:
        # A mappingproxy cannot be pickled or deep-copied.
        return {**{name: getattr(self, name) for name in self.field_names()}, "extra": dict(self.extra)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value if name != "extra" else types.MappingProxyType(value))

    @classmethod
    def field_names(cls) -> list[str]:
        """The names of the fields, in order, without `extra`."""
        return [f.name for f in fields(cls) if f.name != "extra"]

    @classmethod
    def _nearest(cls, name: str) -> str:
        close = difflib.get_close_matches(name, [*cls.field_names(), *cls.aliases], n=1)
        return f"; did you mean '{close[0]}'?" if close else ""

    def updated(self, **changes: Any) -> Self:
        """A copy with some fields changed. Raises `TypeError` for an unknown name, with the nearest known one."""
        for name in changes:
            if name not in self.field_names() and name not in self.aliases:
                raise TypeError(f"unknown option '{name}' for {type(self).__name__}{self._nearest(name)}")
        return replace(self, **{self.aliases.get(name, name): value for name, value in changes.items()})

    # --- dictionaries and files ------------------------------------------------------------------------------------

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make a configuration from a dictionary; keys that are no field are kept in `extra`."""
        known = {cls.aliases.get(key, key): value for key, value in values.items()}
        names = set(cls.field_names())
        return cls(
            **{key: value for key, value in known.items() if key in names},
            extra={key: value for key, value in known.items() if key not in names},
        )

    def to_dict(self) -> dict[str, Any]:
        """Every field and everything in `extra`, with lists for tuples: what the JSON file holds."""
        known = {name: _listed(getattr(self, name)) for name in self.field_names()}
        return {**dict(self.extra), **known}

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, *, revision: str = "main", **changes: Any) -> Self:
        """Read the configuration of a model folder, or of a model known by name; `changes` replace some fields.

        Raises `FileNotFoundError` where the folder has no such file and `ValueError` where it is not a JSON object.
        """
        return cls.from_folder(hub.resolve(name_or_path, files=(cls.file_name,), revision=revision), **changes)

    @classmethod
    def from_folder(cls, folder: Path, **changes: Any) -> Self:
        """Read `file_name` in a folder."""
        path = folder / cls.file_name
        if not path.is_file():
            raise FileNotFoundError(
                f"no {cls.file_name} in {folder}: the folder of a model holds {cls.file_name} beside its weights"
            )
        return cls.from_dict(read_json(path)).updated(**changes)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `file_name` into a folder, which is made if it is missing."""
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self._to_write(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        (target / self.file_name).write_text(text, encoding="utf-8")

    def _to_write(self) -> dict[str, Any]:
        return self.to_dict()

    # --- ranges ----------------------------------------------------------------------------------------------------

    def require(self, condition: bool, name: str, expected: str) -> None:
        """Raise a `ValueError` that names the field unless the condition holds."""
        if not condition:
            raise ValueError(f"{type(self).__name__}.{name} should be {expected}, got {getattr(self, name)!r}")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises `ValueError` that names the file where it is not one."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a JSON file: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} should hold a JSON object, got a {type(values).__name__}")
    return values


def _plain(value: Any) -> Any:
    """Lists as tuples and NumPy's numbers as Python's: a frozen value that JSON can hold."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple):
        return tuple(_plain(item) for item in value)
    return value


def _listed(value: Any) -> Any:
    return [_listed(item) for item in value] if isinstance(value, tuple) else value


def _accepts(value: Any, hint: Any) -> bool:
    """Whether a value has a field's declared type; a whole number will do for a float, a bool never for a number."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_accepts(value, argument) for argument in arguments)
    if origin is Literal:
        return value in arguments
    if origin is tuple:
        return isinstance(value, tuple) and all(_accepts(item, arguments[0]) for item in value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, hint)


def _describe(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _alternatives(_describe(argument) for argument in arguments)
    if origin is Literal:
        return _alternatives(repr(argument) for argument in arguments)
    if origin is tuple:
        return f"a list of {_describe(arguments[0])}"
    return {int: "an int", float: "a float", bool: "a bool", str: "a str", type(None): "None"}.get(hint, str(hint))


def _alternatives(words: Iterable[str]) -> str:
    return " or ".join(words)
