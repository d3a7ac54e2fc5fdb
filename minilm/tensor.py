"""Tensor and the autograd engine. The engine knows no operation: `minilm.ops` defines them and attaches the methods.

An operation is two pure functions on arrays:

    forward(*arrays, **attributes)  -> (out, saved)      saved: a tuple, what the backward pass needs
    backward(saved, grad)           -> one gradient per input array (None where there is none)

`apply` runs the forward function and, where a gradient may be wanted, leaves a `Node` that remembers `saved` and
where the inputs came from. `backward` visits the nodes from the newest to the oldest. A node is always newer than
the nodes it depends on, so this order is a valid one for any graph, and nothing recurses.

The engine never writes into an array that it did not make, and a gradient that it hands out is nobody else's memory.
"""

from __future__ import annotations

import functools
import heapq
import inspect
import itertools
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # the methods that minilm.ops attaches, for editors and type checkers
    from minilm.ops.methods import TensorMethods
else:
    TensorMethods = object

Array = Any  # a NumPy array, or one that follows NumPy's dispatch protocols (CuPy)

DEFAULT_DTYPE = np.dtype(np.float32)


# ---------------------------------------------------------------------------------------------- recording or not


class _Mode(threading.local):
    enabled = True


_mode = _Mode()


def is_grad_enabled() -> bool:
    """Whether operations in this thread are being recorded for a backward pass."""
    return _mode.enabled


class set_grad_enabled:
    """Record operations or not, inside a `with` block or a decorated function. Each thread has its own setting."""

    def __init__(self, mode: bool) -> None:
        self._wanted = bool(mode)
        self._before: list[bool] = []

    def __enter__(self) -> set_grad_enabled:
        self._before.append(_mode.enabled)
        _mode.enabled = self._wanted
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _mode.enabled = self._before.pop()

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        wanted = self._wanted
        if inspect.isgeneratorfunction(function):  # the setting holds while the body runs, not between two items

            @functools.wraps(function)
            def generate(*args: Any, **kwargs: Any) -> Any:
                iterator = function(*args, **kwargs)
                while True:
                    with set_grad_enabled(wanted):
                        try:
                            item = next(iterator)
                        except StopIteration as stop:
                            return stop.value
                    yield item

            return generate

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with set_grad_enabled(wanted):
                return function(*args, **kwargs)

        return call


class no_grad(set_grad_enabled):
    """Nothing inside is recorded: `with no_grad():` or `@no_grad()` (or `@no_grad`)."""

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        if function is not None:
            return no_grad()(function)
        return super().__new__(cls)

    def __init__(self, function: None = None) -> None:
        super().__init__(False)


class enable_grad(set_grad_enabled):
    """Operations inside are recorded again, within a `no_grad` block."""

    def __init__(self) -> None:
        super().__init__(True)


# --------------------------------------------------------------------------------------------------- operations


@dataclass(frozen=True)
class Operation:
    """A named pair of pure functions on arrays. A backward function that can save real work by leaving gradients out
    takes a third argument, `needs`: one bool per input array."""

    name: str
    forward: Callable[..., tuple[Array, tuple[Any, ...]]]
    backward: Callable[..., tuple[Array | None, ...]]
    takes_needs: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "takes_needs", len(inspect.signature(self.backward).parameters) >= 3)


OPERATIONS: dict[str, Operation] = {}


def define(name: str, forward: Callable[..., Any], backward: Callable[..., Any]) -> Operation:
    """Make an operation and list it in `OPERATIONS` (the gradient checks run over this list)."""
    if name in OPERATIONS:
        raise ValueError(f"an operation named {name!r} is defined already")
    OPERATIONS[name] = Operation(name, forward, backward)
    return OPERATIONS[name]


_FREED: Any = object()  # stands in for `saved` once a backward pass has used it
_sequence = itertools.count()


class Node:
    """One recorded operation: what it saved, where its inputs came from, and how often they had been changed."""

    __slots__ = ("operation", "saved", "inputs", "versions", "sequence", "shape", "dtype", "output", "__weakref__")

    def __init__(
        self,
        operation: Operation,
        saved: tuple[Any, ...],
        inputs: tuple[Node | Tensor | None, ...],
        versions: tuple[tuple[list[int], int], ...],
        output: Tensor,
    ) -> None:
        self.operation = operation
        self.saved = saved
        self.inputs = inputs  # per input: the node that made it, the leaf tensor itself, or None (no gradient wanted)
        self.versions = versions
        self.sequence = next(_sequence)
        self.shape = output.data.shape
        self.dtype = output.data.dtype
        self.output = weakref.ref(output)

    def __repr__(self) -> str:
        return f"<Node {self.operation.name} {tuple(self.shape)}>"

    def gradients(self, grad: Array) -> tuple[Array | None, ...]:
        """Run the operation's backward function on what was saved."""
        name = self.operation.name
        if self.saved is _FREED:
            raise RuntimeError(
                f"backward a second time through {name!r}: what it had saved was freed by the first backward pass. "
                "Call backward(retain_graph=True) the first time if you need both, or run the forward pass again."
            )
        for box, version in self.versions:
            if box[0] != version:
                raise RuntimeError(
                    f"a value that {name!r} saved for its backward pass was changed in place afterwards (it is at "
                    f"version {box[0]}, and was saved at version {version}). Change a copy instead: x = x.clone(), "
                    "or write x = x + y rather than x.add_(y)."
                )
        if self.operation.takes_needs:
            grads = self.operation.backward(self.saved, grad, tuple(i is not None for i in self.inputs))
        else:
            grads = self.operation.backward(self.saved, grad)
        if not isinstance(grads, tuple) or len(grads) != len(self.inputs):
            raise RuntimeError(
                f"the backward function of {name!r} must return a tuple of {len(self.inputs)} gradients "
                f"(one per input array), got {type(grads).__name__ if not isinstance(grads, tuple) else len(grads)}"
            )
        return grads


def apply(operation: Operation, *inputs: Any, **attributes: Any) -> Tensor:
    """Run an operation on tensors (or bare arrays and numbers) and record it where a gradient may be wanted."""
    arrays = [x.data if isinstance(x, Tensor) else x for x in inputs]
    out, saved = operation.forward(*arrays, **attributes)
    if not hasattr(out, "__array_function__") or isinstance(out, np.generic):
        out = np.asarray(out)  # a NumPy scalar becomes a 0-d array
    result = Tensor._wrap(out)
    tensors = [x for x in inputs if isinstance(x, Tensor)]
    if getattr(out, "base", None) is not None or any(out is x.data for x in tensors):
        for x in tensors:
            if _owner(out) is _owner(x.data):
                result._version = x._version  # a view: changing one changes the other
                break
    if _mode.enabled and any(x.requires_grad for x in tensors):
        edges = tuple(
            (x._node if x._node is not None else x) if isinstance(x, Tensor) and x.requires_grad else None
            for x in inputs
        )
        owners = {id(_owner(s)) for s in saved if hasattr(s, "dtype") and not isinstance(s, np.generic)}
        versions = tuple(
            (x._version, x._version[0]) for x in (*tensors, result) if id(_owner(x.data)) in owners
        )
        result.requires_grad = True
        result._node = Node(operation, saved, edges, versions, result)
    return result


def _owner(array: Array) -> Any:
    """The array that owns the memory `array` looks at."""
    base = getattr(array, "base", None)
    while base is not None and hasattr(base, "dtype"):
        array, base = base, getattr(base, "base", None)
    return array


# ------------------------------------------------------------------------------------------------ backward pass


def _fresh(node: Node, grad: Array, grads: tuple[Array | None, ...], g: Array) -> bool:
    """Whether g is memory that only this gradient uses: newly made by the backward function, and made once."""
    return (
        getattr(g, "base", g) is None
        and g is not grad
        and not any(g is s for s in node.saved)
        and sum(g is other for other in grads) == 1
    )


class _Pending:
    """Gradients on their way: per node or leaf, an array and whether the engine may write into it."""

    def __init__(self) -> None:
        self._slots: dict[int, tuple[Array, bool]] = {}

    def add(self, key: int, g: Array, owned: bool) -> bool:
        """Add g; returns True where it is the first."""
        if key not in self._slots:
            self._slots[key] = (g, owned)
            return True
        total, ours = self._slots[key]
        if ours:
            total += g
        else:
            self._slots[key] = (total + g, True)
        return False

    def pop(self, key: int) -> tuple[Array, bool]:
        return self._slots.pop(key)


def _run_backward(
    roots: Sequence[tuple[Tensor, Array]], retain_graph: bool, wanted: Sequence[Tensor] | None = None
) -> list[Array | None]:
    """Visit the graph from the roots. Without `wanted`, leaves collect their gradient in `.grad`; with it, nothing
    is stored and the gradients with respect to those tensors are returned (None for one that was not reached)."""
    pending = _Pending()
    leaves: dict[int, Tensor] = {}
    heap: list[tuple[int, Node]] = []
    results: dict[int, Array] = {}
    wanted_nodes = {id(t._node): id(t) for t in wanted or () if t._node is not None}

    def deliver(target: Node | Tensor, g: Array, owned: bool) -> None:
        first = pending.add(id(target), g, owned)
        if first and isinstance(target, Node):
            heapq.heappush(heap, (-target.sequence, target))
        elif first:
            leaves[id(target)] = target  # type: ignore[assignment]

    for tensor, gradient in roots:
        deliver(tensor._node if tensor._node is not None else tensor, gradient, False)

    while heap:
        _, node = heapq.heappop(heap)
        grad, owned = pending.pop(id(node))
        output = node.output()
        if id(node) in wanted_nodes:
            results[wanted_nodes[id(node)]] = grad.copy()
        if output is not None and output._retains_grad and wanted is None:
            output._accumulate(grad, owned=False)
        grads = node.gradients(grad)
        for target, g in zip(node.inputs, grads, strict=True):
            if target is None or g is None:
                continue
            shape, dtype = target.shape, target.dtype
            if isinstance(g, np.generic):
                g = np.asarray(g)
            if tuple(g.shape) != tuple(shape):
                raise RuntimeError(
                    f"the backward function of {node.operation.name!r} returned a gradient of shape {tuple(g.shape)} "
                    f"for an input of shape {tuple(shape)}"
                )
            if isinstance(g, np.generic):  # 0-d arithmetic gives NumPy scalars, which `+=` would not change in place
                g, fresh = np.asarray(g), True
            else:
                fresh = _fresh(node, grad, grads, g)
            if g.dtype != dtype:
                g, fresh = g.astype(dtype), True
            deliver(target, g, fresh)
        if not retain_graph:
            node.saved = _FREED

    for key, leaf in leaves.items():
        grad, owned = pending.pop(key)
        if wanted is None:
            leaf._accumulate(grad, owned)
        else:
            results[key] = grad if owned else grad.copy()
    return [results.get(id(t)) for t in wanted or ()]


def _check_gradient(tensor: Tensor, gradient: Any) -> Array:
    """The gradient to start from: 1 for a single number, otherwise what the caller gives, in the tensor's type."""
    if not tensor.requires_grad:
        raise RuntimeError(
            "this tensor does not depend on anything that requires a gradient (or was made under no_grad): "
            "there is nothing to go back to. Make an input with requires_grad=True."
        )
    if gradient is None:
        if tensor.data.size != 1:
            raise RuntimeError(
                f"backward() without a gradient needs a single number, and this tensor has shape {tensor.shape}. "
                "Reduce it first (y.sum().backward()) or pass a gradient of that shape."
            )
        return np.ones_like(tensor.data)
    array = gradient.data if isinstance(gradient, Tensor) else np.asarray(gradient, like=tensor.data)
    if tuple(array.shape) != tensor.shape:
        raise ValueError(f"the gradient has shape {tuple(array.shape)}, the tensor {tensor.shape}: they must agree")
    return array if array.dtype == tensor.dtype else array.astype(tensor.dtype)


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Any = None,
    retain_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:
    """The gradients of `outputs` with respect to `inputs`, which need not be leaves; nothing is stored in `.grad`.

    grad_outputs: the cotangent of each output (may be left out for single numbers).
    Raises RuntimeError for an input that the outputs do not depend on, unless allow_unused (then None).
    """
    outs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    ins = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    if grad_outputs is None:
        cotangents: list[Any] = [None] * len(outs)
    elif isinstance(grad_outputs, (list, tuple)):
        cotangents = list(grad_outputs)
    else:
        cotangents = [grad_outputs]
    if len(cotangents) != len(outs):
        raise ValueError(f"{len(outs)} outputs need {len(outs)} grad_outputs, got {len(cotangents)}")
    for i, x in enumerate(ins):
        if not x.requires_grad:
            raise RuntimeError(f"input {i} does not require a gradient: make it with requires_grad=True")
    roots = [(o, _check_gradient(o, g)) for o, g in zip(outs, cotangents, strict=True)]
    found = _run_backward(roots, retain_graph, ins)
    for i, g in enumerate(found):
        if g is None and not allow_unused:
            raise RuntimeError(
                f"the outputs do not depend on input {i}; pass allow_unused=True to get None for such inputs"
            )
    return tuple(None if g is None else Tensor._wrap(g) for g in found)


# ------------------------------------------------------------------------------------------------------- Tensor


class Tensor(TensorMethods):
    """An array that remembers how it was computed.

    data           numbers, nested lists, a NumPy array (kept without a copy, in its dtype) or another Tensor.
                   Python floats become float32, Python integers int64, booleans bool
    dtype          convert to this NumPy dtype
    requires_grad  ask for `.grad` after a backward pass; float dtypes only

    `.data` is the array. Methods and defaults follow PyTorch (`x.sum(dim=-1, keepdim=True)`); NumPy's `axis` and
    `keepdims` work as well.
    """

    __slots__ = ("data", "requires_grad", "name", "_grad", "_owns_grad", "_node", "_version", "_retains_grad",
                 "__weakref__")  # fmt: skip
    __array_ufunc__ = None  # np_array + tensor asks Tensor.__radd__, so that no graph is lost on the way

    data: Array
    requires_grad: bool
    name: str | None  # a label for pictures of the graph

    def __init__(self, data: Any, dtype: Any = None, requires_grad: bool = False) -> None:
        if isinstance(data, Tensor):
            data = data.data
        if not hasattr(data, "__array_function__"):
            data = _from_python(data)
        if dtype is not None:
            data = data.astype(np.dtype(dtype), copy=False)
        if isinstance(data, np.generic):
            data = np.asarray(data)
        if data.dtype.kind not in "fiub":
            raise TypeError(f"a Tensor holds floats, integers or booleans, not {data.dtype}")
        self._fill(data)
        if requires_grad:
            self.requires_grad_()

    def _fill(self, data: Array) -> None:
        self.data = data
        self.requires_grad = False
        self.name = None
        self._grad: Tensor | None = None
        self._owns_grad = False  # whether the engine made the array in _grad, and may add to it in place
        self._node: Node | None = None
        self._version = [0]  # shared by all views of the same memory
        self._retains_grad = False

    @staticmethod
    def _wrap(data: Array) -> Tensor:
        """A plain Tensor around an array, without any checks or copies."""
        tensor = Tensor.__new__(Tensor)
        tensor._fill(data)
        return tensor

    # --- what it is

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.data.shape)

    @property
    def ndim(self) -> int:
        return self.data.ndim

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.data.dtype

    @property
    def device(self) -> str:
        """Where the array lives: "cpu", or "cuda:0" and so on."""
        device = getattr(self.data, "device", "cpu")
        return "cpu" if isinstance(device, str) else f"cuda:{device.id}"

    @property
    def is_leaf(self) -> bool:
        """True for a tensor that no recorded operation made."""
        return self._node is None

    @property
    def grad_fn(self) -> Node | None:
        """The recorded operation that made this tensor (None for a leaf)."""
        return self._node

    def is_floating_point(self) -> bool:
        return self.data.dtype.kind == "f"

    def size(self, dim: int | None = None) -> Any:
        """The shape, or one of its entries."""
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        return self.data.ndim

    def numel(self) -> int:
        return int(self.data.size)

    def element_size(self) -> int:
        return int(self.data.dtype.itemsize)

    def __len__(self) -> int:
        if self.ndim == 0:
            raise TypeError("a 0-d tensor has no length")
        return self.shape[0]

    def __repr__(self) -> str:
        array = self.numpy()
        body = np.array2string(array, separator=", ", precision=4, suppress_small=False, prefix="tensor(")
        tail = "" if self.dtype in (DEFAULT_DTYPE, np.dtype(np.int64), np.dtype(bool)) else f", dtype={self.dtype}"
        if self._node is not None:
            tail += f", grad_fn=<{self._node.operation.name}>"
        elif self.requires_grad:
            tail += ", requires_grad=True"
        return f"tensor({body}{tail})"

    # --- out of the tensor

    def numpy(self) -> np.ndarray[Any, Any]:
        """The values as a NumPy array: the same memory for a tensor on the CPU, a copy of one on a GPU."""
        return self.data if isinstance(self.data, np.ndarray) else self.data.get()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def item(self) -> Any:
        """The value of a tensor with one element, as a Python number."""
        if self.data.size != 1:
            raise ValueError(f"item() needs a tensor with one element, and this one has shape {self.shape}")
        return self.data.item()

    def tolist(self) -> Any:
        return self.data.tolist()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.data.size != 1 or self.data.dtype.kind not in "iub":
            raise TypeError(f"only an integer tensor with one element can be an index, not {self.dtype} {self.shape}")
        return int(self.data.item())

    def __bool__(self) -> bool:
        if self.data.size != 1:
            raise ValueError(f"the truth of a tensor of shape {self.shape} is ambiguous: use .any() or .all()")
        return bool(self.data.item())

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    __hash__ = object.__hash__

    def detach(self) -> Tensor:
        """The same values, outside any graph; shares memory with this tensor."""
        tensor = Tensor._wrap(self.data)
        tensor._version = self._version
        return tensor

    # --- gradients

    @property
    def grad(self) -> Tensor | None:
        """What backward passes have added up so far, or None."""
        return self._grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None and (not isinstance(value, Tensor) or value.shape != self.shape):
            raise ValueError(f".grad must be None or a Tensor of shape {self.shape}, got {value!r:.80}")
        self._grad = value
        self._owns_grad = False

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Ask for the gradient of this leaf (in place)."""
        if requires_grad and self.data.dtype.kind != "f":
            raise TypeError(f"only float tensors can require a gradient, and this one is {self.dtype}")
        if not requires_grad and self._node is not None:
            raise RuntimeError("this tensor was computed from others; use detach() to leave the graph")
        self.requires_grad = requires_grad
        return self

    def retain_grad(self) -> None:
        """Keep `.grad` of this tensor too, though it is not a leaf."""
        if not self.requires_grad:
            raise RuntimeError("a tensor that requires no gradient has none to keep")
        if self._node is not None:
            self._retains_grad = True

    def backward(self, gradient: Any = None, retain_graph: bool = False) -> None:
        """Add d(self)/d(leaf), weighted by `gradient`, to `.grad` of every leaf that this tensor depends on.

        gradient      the cotangent, of this tensor's shape; may be left out for a single number
        retain_graph  keep what the graph saved, so that backward can run again
        """
        _run_backward([(self, _check_gradient(self, gradient))], retain_graph)

    def _accumulate(self, g: Array, owned: bool) -> None:
        """Add g to `.grad`. `owned`: nobody else uses the memory of g."""
        if self._grad is None:
            self._grad = Tensor._wrap(g if owned else g.copy())
            self._owns_grad = True
        elif self._owns_grad:
            self._grad.data += g
            self._grad.bump_version()
        else:  # a gradient that the user put there: not ours to write into
            self._grad = Tensor._wrap(self._grad.data + g)
            self._owns_grad = True

    # --- changes in place

    def bump_version(self) -> None:
        """Say that `.data` was written to, so that a graph that saved the old values notices."""
        self._version[0] += 1

    def _write(self, what: str) -> Array:
        """The array, to be changed in place; refused where that would falsify a gradient."""
        if _mode.enabled and self.requires_grad:
            kind = "a leaf that requires a gradient" if self._node is None else "a tensor that is part of a graph"
            raise RuntimeError(
                f"{what} would change {kind} in place, which is not recorded. Write x = x + y instead of an in-place "
                "change, or do it inside `with minilm.no_grad():` if the graph need not know."
            )
        self.bump_version()
        return self.data

    def zero_(self) -> Tensor:
        self._write("zero_()")[...] = 0
        return self

    def fill_(self, value: float) -> Tensor:
        self._write("fill_()")[...] = value
        return self

    def copy_(self, source: Any) -> Tensor:
        """Take over the values of `source`, which broadcasts."""
        values = source.data if isinstance(source, Tensor) else source
        self._write("copy_()")[...] = values
        return self

    def __setitem__(self, index: Any, value: Any) -> None:
        array = self._write("x[...] = value")
        array[_plain_index(index)] = value.data if isinstance(value, Tensor) else value


def _plain_index(index: Any) -> Any:
    """An index with the tensors in it replaced by their arrays."""
    if isinstance(index, tuple):
        return tuple(_plain_index(i) for i in index)
    return index.data if isinstance(index, Tensor) else index


def _from_python(data: Any) -> np.ndarray[Any, Any]:
    """Numbers and nested lists as an array: floats in float32, integers in int64. Tensors inside lists are allowed."""
    try:
        array = np.asarray(_without_tensors(data))
    except ValueError as error:
        raise ValueError(f"cannot make a tensor from nested sequences of unequal lengths: {error}") from None
    if array.dtype.kind not in "fiub":
        raise TypeError(f"cannot make a tensor from {type(data).__name__} holding {array.dtype}: expected numbers")
    if array.dtype.kind == "f" and not _has_numpy_floats(data):
        array = array.astype(DEFAULT_DTYPE)
    return array


def _without_tensors(data: Any) -> Any:
    if isinstance(data, Tensor):
        return data.numpy()
    if isinstance(data, (list, tuple)):
        return [_without_tensors(item) for item in data]
    return data


def _has_numpy_floats(data: Any) -> bool:
    if isinstance(data, (list, tuple)):
        return bool(data) and _has_numpy_floats(data[0])
    return hasattr(data, "dtype")


def tensor(data: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A new tensor with its own memory (see `Tensor`, which keeps the memory of an array it is given)."""
    made = Tensor(data, dtype=dtype)
    source = data.data if isinstance(data, Tensor) else data
    if hasattr(source, "dtype") and _owner(made.data) is _owner(source):
        made.data = made.data.copy()
    return made.requires_grad_() if requires_grad else made
