"""Containers of modules: `Sequential` runs its children in turn; `ModuleList` and `ModuleDict` only hold them.

A plain Python list or dict would hide the children from `parameters()`, `state_dict()` and `to()`.
"""

from __future__ import annotations

import operator
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from typing import Any, TypeVar, overload

from minilm.nn.module import Module

Listed = TypeVar("Listed", bound="_IndexedModules")


class _IndexedModules(Module):
    """Children named "0", "1", …: what `Sequential` and `ModuleList` share. Slices and deletions renumber."""

    def _append(self, module: Any) -> None:
        if not isinstance(module, Module):
            raise TypeError(f"{type(self).__name__} holds modules, got {type(module).__name__}: {module!r}.")
        name = str(len(self._modules))
        if name in self._modules:
            raise ValueError(f"{type(self).__name__} already has a module named {name!r}: add this one by name.")
        self._modules[name] = module

    def _key(self, index: int) -> str:
        position = operator.index(index)
        if not -len(self) <= position < len(self):
            raise IndexError(f"index {position} is out of range for {type(self).__name__} of {len(self)} modules.")
        return list(self._modules)[position]

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._modules.values())

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self: Listed, index: slice) -> Listed: ...

    def __getitem__(self, index: Any) -> Any:
        if not isinstance(index, slice):
            return self._modules[self._key(index)]
        part = type(self)()
        for module in list(self._modules.values())[index]:
            part._append(module)
        return part

    def __setitem__(self, index: int, module: Module) -> None:
        if not isinstance(module, Module):
            raise TypeError(f"{type(self).__name__} holds modules, got {type(module).__name__}: {module!r}.")
        self._modules[self._key(index)] = module

    def __delitem__(self, index: int | slice) -> None:
        modules = list(self._modules.values())
        del modules[index]
        self._modules.clear()
        for module in modules:
            self._append(module)

    def append(self: Listed, module: Module) -> Listed:
        """Add a module at the end. Returns self."""
        self._append(module)
        return self

    def extend(self: Listed, modules: Iterable[Module]) -> Listed:
        """Add modules at the end. Returns self."""
        for module in modules:
            self._append(module)
        return self

    def insert(self: Listed, index: int, module: Module) -> Listed:
        """Put a module before `index`, as `list.insert`; those after it are renamed. Returns self."""
        modules = list(self)
        modules.insert(index, module)
        self._modules.clear()
        return self.extend(modules)


class Sequential(_IndexedModules):
    """Runs its children in turn: Sequential(f, g, h)(x) = h(g(f(x))).

    Given one mapping, the children take its keys as names.
    """

    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            for name, child in modules[0].items():
                self.add_module(name, child)
        else:
            for module in modules:
                self._append(module)

    def forward(self, x: Any) -> Any:
        for module in self:
            x = module(x)
        return x


class ModuleList(_IndexedModules):
    """A list of modules that registers them: index, slice, iterate, append, insert, extend."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__()
        self.extend(modules)


class ModuleDict(Module):
    """A dictionary of modules that registers them."""

    def __init__(self, modules: Mapping[str, Module] | None = None) -> None:
        super().__init__()
        self.update(modules or {})

    def update(self, modules: Mapping[str, Module]) -> None:
        """Add or replace the modules of a mapping."""
        for name, module in modules.items():
            self[name] = module

    def __getitem__(self, name: str) -> Any:
        if name not in self._modules:
            raise KeyError(f"no module {name!r}; there are: {', '.join(self._modules) or 'none'}")
        return self._modules[name]

    def __setitem__(self, name: str, module: Module) -> None:
        self.add_module(name, module)

    def __delitem__(self, name: str) -> None:
        del self._modules[name]

    def pop(self, name: str) -> Module:
        """Remove and return a module."""
        module = self[name]
        del self[name]
        return module

    def __contains__(self, name: object) -> bool:
        return name in self._modules

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def keys(self) -> KeysView[str]:
        return self._modules.keys()

    def values(self) -> ValuesView[Any]:
        return self._modules.values()

    def items(self) -> ItemsView[str, Any]:
        return self._modules.items()
