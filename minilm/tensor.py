"""Tensor: an array that remembers how it was computed, and the functions that apply operations to it.

The recording and the backward pass are in `minilm.autograd`; the operations, and the methods that bear their names,
are in `minilm.ops`, which attaches them to Tensor from above.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from minilm.autograd import (
    OPERATIONS,
    Array,
    Node,
    Operation,
    define,
    enable_grad,
    is_grad_enabled,
    memory_owner,
    no_grad,
    run_backward,
    set_grad_enabled,
    sum_of,
)

if TYPE_CHECKING:  # the methods that minilm.ops attaches, for editors and type checkers
    from minilm.ops.methods import TensorMethods
else:
    TensorMethods = object

__all__ = [
    "DEFAULT_DTYPE", "OPERATIONS", "Array", "Node", "Operation", "Tensor", "apply", "define", "enable_grad", "grad",
    "is_grad_enabled", "no_grad", "set_grad_enabled", "tensor",
]  # fmt: skip

DEFAULT_DTYPE = np.dtype(np.float32)


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
            if memory_owner(out) is memory_owner(x.data):
                result._version = x._version  # a view: changing one changes the other
                break
    if is_grad_enabled() and any(x.requires_grad for x in tensors):
        edges = tuple(
            (x._node if x._node is not None else x) if isinstance(x, Tensor) and x.requires_grad else None
            for x in inputs
        )
        owners = {id(memory_owner(s)) for s in saved if hasattr(s, "dtype") and not isinstance(s, np.generic)}
        versions = tuple(
            (x._version, x._version[0]) for x in (*tensors, result) if id(memory_owner(x.data)) in owners
        )
        constants = {
            i: weakref.ref(x) if isinstance(x, Tensor) else x if isinstance(x, (int, float)) else None
            for i, x in enumerate(inputs)
            if edges[i] is None and x is not None
        }
        result.requires_grad = True
        result._node = Node(operation, saved, edges, constants, versions, result)
    return result


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
    found = run_backward(roots, retain_graph, ins)
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

    def __format__(self, spec: str) -> str:
        """`f"{loss:.3f}"` of a tensor with one element."""
        return format(self.item(), spec) if spec else str(self)

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
        run_backward([(self, _check_gradient(self, gradient))], retain_graph)

    def _accumulate(self, g: Array, owned: bool) -> None:
        """Add g to `.grad`. `owned`: nobody else uses the memory of g."""
        if self._grad is None:
            self._grad = Tensor._wrap(g if owned else g.copy())
            self._owns_grad = True
        elif self._owns_grad:
            self._grad.data += g
            self._grad.bump_version()
        else:  # a gradient that the user put there: not ours to write into
            self._grad = Tensor._wrap(sum_of(self._grad.data, g))
            self._owns_grad = True

    # --- changes in place

    def bump_version(self) -> None:
        """Say that `.data` was written to, so that a graph that saved the old values notices."""
        self._version[0] += 1

    def _write(self, what: str, value: Any = None) -> Array:
        """The array, to be changed in place (with `value`); refused where that would falsify a gradient."""
        if is_grad_enabled() and isinstance(value, Tensor) and value.requires_grad:
            raise RuntimeError(
                f"{what} would lose the gradient of the value that is written: changes in place are not recorded. "
                "Build the result with where, cat, stack or scatter_add, or write value.detach()."
            )
        if is_grad_enabled() and self.requires_grad:
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
        self._write("fill_()", value)[...] = value
        return self

    def copy_(self, source: Any) -> Tensor:
        """Take over the values of `source`, which broadcasts."""
        values = source.data if isinstance(source, Tensor) else source
        self._write("copy_()", source)[...] = values
        return self

    def __setitem__(self, index: Any, value: Any) -> None:
        array = self._write("x[...] = value", value)
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
    if hasattr(source, "dtype") and memory_owner(made.data) is memory_owner(source):
        made.data = made.data.copy()
    return made.requires_grad_() if requires_grad else made
