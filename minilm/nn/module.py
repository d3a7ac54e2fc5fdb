"""`Module`: the tree of layers that owns the parameters of a model, and `Parameter`, a leaf of that tree.

A module keeps three dictionaries, filled by plain attribute assignment: parameters (trained), buffers (state that is
not trained, such as a table of positions) and child modules. Everything else here is a walk over that tree: names,
state dictionaries, train/eval, casts, the printed form. It computes nothing itself: a layer's formula is its `forward`.

PyTorch's names and behaviour (torch.nn.Module), with three differences that help a reader: `repr` shows parameter
counts, `load_state_dict` reports every problem at once and changes nothing when it raises, and a plain list of
modules as an attribute is refused, because its parameters would silently never be trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from minilm.nn.state import LoadResult, load_into
from minilm.ops.devices import is_device
from minilm.tensor import Tensor

ForwardHook = Callable[["Module", tuple[Any, ...], Any], Any]


class Parameter(Tensor):
    """A tensor that a module owns and an optimiser changes: assigned to a module's attribute, it is registered there.

    Args:
        data: an array or a Tensor; the array is shared, not copied. Its dtype is kept.
        requires_grad: True unless the parameter is frozen.
    """

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        super().__init__(data.data if isinstance(data, Tensor) else data, requires_grad=requires_grad)

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"


class HookHandle:
    """What `register_forward_hook` returns: `remove()` takes the hook off again; also a context manager."""

    def __init__(self, hooks: dict[int, ForwardHook], key: int) -> None:
        self._hooks = hooks
        self._key = key

    def remove(self) -> None:
        self._hooks.pop(self._key, None)

    def __enter__(self) -> HookHandle:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()


class Module:
    """A layer or a whole model: parameters, buffers, children, and a `forward` that a subclass writes.

        class Classifier(nn.Module):
            def __init__(self, width, classes):
                super().__init__()
                self.norm = nn.LayerNorm(width)
                self.head = nn.Linear(width, classes)

            def forward(self, x):
                return self.head(self.norm(x))

    Calling the module runs `forward` and then the forward hooks.
    """

    training: bool
    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Tensor | None]
    _modules: dict[str, Module | None]

    def __init__(self) -> None:
        # object.__setattr__, because Module.__setattr__ needs these dictionaries to exist.
        for name, value in (
            ("training", True),
            ("_parameters", {}),
            ("_buffers", {}),
            ("_non_persistent", set()),
            ("_modules", {}),
            ("_forward_hooks", {}),
        ):
            object.__setattr__(self, name, value)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The computation. A subclass defines it."""
        raise NotImplementedError(f"{type(self).__name__} has no forward(); define it in the class.")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        output = self.forward(*args, **kwargs)
        for hook in list(self._forward_hooks.values()):
            replaced = hook(self, args, output)
            if replaced is not None:
                output = replaced
        return output

    def register_forward_hook(self, hook: ForwardHook) -> HookHandle:
        """Call `hook(module, args, output)` after each forward; what it returns, unless None, replaces the output.

        This is how activations are looked at, or patched, without touching a model's code.
        """
        key = max(self._forward_hooks, default=-1) + 1
        self._forward_hooks[key] = hook
        return HookHandle(self._forward_hooks, key)

    # ---- registration by attribute assignment ------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        if "_parameters" not in self.__dict__:
            raise AttributeError(
                f"cannot assign {name!r} before Module.__init__(): call super().__init__() first in "
                f"{type(self).__name__}.__init__."
            )
        if isinstance(value, Parameter):
            self._forget(name)
            self._parameters[name] = value
        elif isinstance(value, Module):
            self._forget(name)
            self._modules[name] = value
        elif name in self._parameters or name in self._modules:
            if value is not None:
                kind = "parameter" if name in self._parameters else "child module"
                raise TypeError(
                    f"{type(self).__name__}.{name} is a {kind}; got {type(value).__name__}. Assign a "
                    f"{'Parameter' if kind == 'parameter' else 'Module'} or None (to change the numbers, write "
                    f"into .data)."
                )
            registry: dict[str, Any] = self._parameters if name in self._parameters else self._modules
            registry[name] = None
        elif name in self._buffers:
            if value is not None and not isinstance(value, Tensor):
                raise TypeError(
                    f"{type(self).__name__}.{name} is a buffer: expected a Tensor, got {type(value).__name__}."
                )
            self._buffers[name] = value
        else:
            if isinstance(value, list) and any(isinstance(item, (Module, Parameter)) for item in value):
                raise TypeError(
                    f"{type(self).__name__}.{name} is a plain list of modules or parameters, which would not be "
                    "trained, saved or moved. Use nn.ModuleList (or a tuple, to keep them out on purpose)."
                )
            object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        # Reached only when ordinary lookup fails. __dict__ is asked directly, so a half-built copy cannot recurse.
        for registry in ("_parameters", "_buffers", "_modules"):
            entries = self.__dict__.get(registry)
            if entries is not None and name in entries:
                return entries[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __delattr__(self, name: str) -> None:
        if name in self._parameters or name in self._buffers or name in self._modules:
            self._forget(name)
        else:
            object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._parameters, *self._buffers, *self._modules})

    def _forget(self, name: str) -> None:
        for registry in (self._parameters, self._buffers, self._modules, self.__dict__):
            registry.pop(name, None)
        self._non_persistent.discard(name)

    def _check_new_name(self, kind: str, name: str) -> None:
        if not isinstance(name, str) or not name or "." in name:
            raise ValueError(f"the name of a {kind} must be a non-empty string without a dot, got {name!r}.")
        if hasattr(self, name) and not any(name in r for r in (self._parameters, self._buffers, self._modules)):
            raise ValueError(
                f"{type(self).__name__} already has an attribute {name!r}: choose another name for the {kind}."
            )

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Register a parameter under `name`. None keeps the place: such a parameter is absent (`bias=False`)."""
        self._check_new_name("parameter", name)
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(f"expected a Parameter or None for {name!r}, got {type(param).__name__}.")
        self._forget(name)
        self._parameters[name] = param

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Register state that is not trained. `persistent=False` keeps it out of the state dictionary."""
        self._check_new_name("buffer", name)
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(f"expected a Tensor or None for the buffer {name!r}, got {type(tensor).__name__}.")
        self._forget(name)
        self._buffers[name] = tensor
        if not persistent:
            self._non_persistent.add(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Register a child module under `name`, as `self.name = module` does."""
        self._check_new_name("child module", name)
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"expected a Module or None for {name!r}, got {type(module).__name__}.")
        self._forget(name)
        self._modules[name] = module

    # ---- walks over the tree -----------------------------------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The direct children with their names, each module once."""
        seen: set[int] = set()
        for name, module in self._modules.items():
            if module is not None and id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def children(self) -> Iterator[Module]:
        """The direct children."""
        return (module for _, module in self.named_children())

    def named_modules(self, prefix: str = "", remove_duplicate: bool = True) -> Iterator[tuple[str, Module]]:
        """This module and everything below it, parents first; a module used twice appears once."""
        return self._walk(prefix, set() if remove_duplicate else None)

    def _walk(self, prefix: str, seen: set[int] | None) -> Iterator[tuple[str, Module]]:
        if seen is not None:
            if id(self) in seen:
                return
            seen.add(id(self))
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                yield from module._walk(f"{prefix}.{name}" if prefix else name, seen)

    def modules(self) -> Iterator[Module]:
        """This module and everything below it."""
        return (module for _, module in self.named_modules())

    def _named_members(
        self, registry: str, prefix: str, recurse: bool, remove_duplicate: bool
    ) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        modules = self.named_modules(prefix, remove_duplicate) if recurse else [(prefix, self)]
        for module_name, module in modules:
            for name, member in getattr(module, registry).items():
                if member is None or (remove_duplicate and id(member) in seen):
                    continue
                seen.add(id(member))
                yield (f"{module_name}.{name}" if module_name else name), member

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Parameters with their dotted names. A shared (tied) parameter appears once, under its first name."""
        return self._named_members("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """Parameters, each once: what an optimiser is given."""
        return (param for _, param in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """Buffers with their dotted names, each once."""
        return self._named_members("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """Buffers, each once."""
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def get_submodule(self, target: str) -> Module:
        """The module at a dotted path such as "blocks.3.attn"; "" is this module.

        Raises:
            AttributeError: when a part of the path does not exist; it names the part and the children there are.
        """
        module: Module = self
        for part in target.split(".") if target else []:
            child = module._modules.get(part)
            if child is None:
                raise AttributeError(
                    f"no module {target!r}: {type(module).__name__} has no child {part!r} "
                    f"(it has: {', '.join(module._modules) or 'none'})."
                )
            module = child
        return module

    def num_parameters(self, only_trainable: bool = False) -> int:
        """The number of scalars in the parameters, a tied parameter counted once."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad or not only_trainable)

    # ---- state dictionary --------------------------------------------------------------------------------------

    def state_dict(self, prefix: str = "") -> dict[str, Tensor]:
        """Name → detached tensor for every parameter and persistent buffer; the arrays are shared, not copied.

        A tied parameter appears under each of its names, as in PyTorch.
        """
        state: dict[str, Tensor] = {}
        for module_name, module in self.named_modules(remove_duplicate=False):
            members = {**module._parameters, **module._buffers}
            for name, member in members.items():
                if member is not None and name not in module._non_persistent:
                    state[prefix + (f"{module_name}.{name}" if module_name else name)] = member.detach()
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> LoadResult:
        """Copy values (Tensors or arrays) into the parameters and persistent buffers, keeping this module's dtypes.

        A tied parameter may be given under any one of its names; given under several, the values must be equal.

        Returns:
            (missing_keys, unexpected_keys), both empty when `strict`.

        Raises:
            RuntimeError: one message with every missing key, unexpected key and shape mismatch (with `strict=False`
                only what cannot be loaded: shapes, dtypes, ties that disagree). Nothing has been changed then.
        """
        return load_into(type(self).__name__, self.state_dict(), state_dict, strict)

    # ---- modes, casts ------------------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Module:
        """Training mode for this module and all below it: dropout drops. Returns self."""
        if not isinstance(mode, bool):
            raise TypeError(f"train() expects True or False, got {mode!r}.")
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        """Evaluation mode: dropout is the identity. Returns self."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Module:
        """Freeze (False) or unfreeze every parameter below. Returns self."""
        for param in self.parameters():
            param.requires_grad = requires_grad
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all parameters, or fill them with zeros."""
        for param in self.parameters():
            if set_to_none:
                param.grad = None
            elif param.grad is not None:
                param.grad.zero_()

    def apply(self, function: Callable[[Module], Any]) -> Module:
        """Call `function` on every module below, children first, then on this one: for initialisation. Returns self."""
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    def to(self, target: Any) -> Module:
        """Cast or move all parameters, their gradients, and buffers, in place. Returns self.

        Args:
            target: a floating dtype (only floating-point members are cast; integer buffers stay) or a device name
                as `Tensor.to` takes it.
        """
        if target is None:  # which np.dtype would take for float64
            raise TypeError("to() expects a floating-point dtype or a device, got None.")
        dtype = None if is_device(target) else np.dtype(target)
        if dtype is not None and not np.issubdtype(dtype, np.floating):
            raise TypeError(f"a module can be cast to a floating-point dtype only, got {dtype}.")
        for member in (*self.parameters(), *self.buffers()):
            if dtype is not None and not np.issubdtype(member.dtype, np.floating):
                continue
            if member.grad is not None:
                member.grad = member.grad.to(target)
            member.data = member.detach().to(target).data
            member.bump_version()
        return self

    def float(self) -> Module:
        """Cast to float32."""
        return self.to(np.float32)

    def double(self) -> Module:
        """Cast to float64, as gradient checks want it."""
        return self.to(np.float64)

    # ---- printed form ------------------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """What stands in the parentheses of a layer's printed form. A subclass may define it."""
        return ""

    def __repr__(self) -> str:
        count = self.num_parameters()
        note = f"  # {count:,} parameter{'' if count == 1 else 's'}" if count else ""
        lines = self._repr_lines()
        return "\n".join([lines[0] + note, *lines[1:]])

    def _repr_lines(self) -> list[str]:
        """The printed tree, one line each; runs of equal children are written once, as in "(0-11): 12 x Block("."""
        name, extra = type(self).__name__, self.extra_repr()
        groups: list[tuple[list[str], list[str], int]] = []  # names in the run, printed lines, parameters of each
        for child_name, child in self._modules.items():
            if child is None:
                continue
            lines, count = child._repr_lines(), child.num_parameters()
            if groups and child_name.isdigit() and groups[-1][1:] == (lines, count) and groups[-1][0][-1].isdigit():
                groups[-1][0].append(child_name)
            else:
                groups.append(([child_name], lines, count))
        if not groups:
            return [f"{name}({extra})"]
        body = [f"{name}({extra}"]
        for names, lines, count in groups:
            label = names[0] if len(names) == 1 else f"{names[0]}-{names[-1]}"
            times = "" if len(names) == 1 else f"{len(names)} x "
            note = f"  # {count:,}{' each' if len(names) > 1 else ''}" if count else ""
            body.append(f"  ({label}): {times}{lines[0]}{note}")
            body.extend("  " + line for line in lines[1:])
        return [*body, ")"]
