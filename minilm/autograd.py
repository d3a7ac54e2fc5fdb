"""The autograd engine: recording operations and going back through them. It knows no operation, and no Tensor method.

An operation is two pure functions on arrays:

    forward(*arrays, **attributes)  -> (out, saved)      saved: a tuple, what the backward pass needs
    backward(saved, grad)           -> one gradient per input array (None where there is none, or a `Placed` one)

Running one leaves a `Node` that remembers `saved` and where the inputs came from. The backward pass visits the nodes
from the newest to the oldest. A node is always newer than the nodes it depends on, so this order is a valid one for
any graph, and nothing recurses.

The engine never writes into an array that it did not make, and a gradient that it hands out is nobody else's memory.
"""

from __future__ import annotations

import functools
import heapq
import inspect
import itertools
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from minilm.tensor import Tensor

Array = Any  # a NumPy array, or one that follows NumPy's dispatch protocols (CuPy)


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
                generator = function(*args, **kwargs)
                resume, value = generator.send, None
                while True:
                    try:
                        with set_grad_enabled(wanted):
                            item = resume(value)
                    except StopIteration as stop:
                        return stop.value
                    try:
                        resume, value = generator.send, (yield item)
                    except GeneratorExit:
                        with set_grad_enabled(wanted):
                            generator.close()
                        raise
                    except BaseException as error:  # what the caller throws in
                        resume, value = generator.throw, error

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

    __slots__ = ("operation", "saved", "inputs", "constants", "versions", "sequence", "shape", "dtype", "output",
                 "__weakref__")  # fmt: skip

    def __init__(
        self,
        operation: Operation,
        saved: tuple[Any, ...],
        inputs: tuple[Node | Tensor | None, ...],
        constants: dict[int, Any],
        versions: tuple[tuple[list[int], int], ...],
        output: Tensor,
    ) -> None:
        self.operation = operation
        self.saved = saved
        self.inputs = inputs  # per input: the node that made it, the leaf tensor itself, or None (no gradient wanted)
        self.constants = constants  # the other inputs, for pictures of the graph: numbers, and weak references
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


def sum_of(a: Array, b: Array) -> Array:
    """a + b as an array, also where NumPy makes a scalar of two 0-d arrays."""
    total = a + b
    return np.asarray(total) if isinstance(total, np.generic) else total


def memory_owner(array: Array) -> Any:
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


@dataclass(frozen=True)
class Placed:
    """A gradient that is zero outside `index`: what a slice gives back to the array it was cut from.

    A backward function may return one in place of an array. The pieces of a split then meet in one buffer, instead of
    each filling an array of zeros that has to be added to the others.
    """

    shape: tuple[int, ...]
    index: Any
    values: Array

    @property
    def dtype(self) -> Any:
        return self.values.dtype

    def add_to(self, total: Array) -> None:
        total[self.index] += self.values

    def dense(self, dtype: Any) -> Array:
        """The whole gradient, zeros included."""
        total = np.zeros_like(self.values, shape=self.shape, dtype=dtype)
        total[self.index] = self.values
        return total


class _Pending:
    """Gradients on their way: per node or leaf, an array and whether the engine may write into it."""

    def __init__(self) -> None:
        self._slots: dict[int, tuple[Array, bool]] = {}

    def add(self, key: int, g: Array | Placed, owned: bool, dtype: Any) -> bool:
        """Add g, in this type; returns True where it is the first."""
        if key not in self._slots:
            self._slots[key] = (g.dense(dtype), True) if isinstance(g, Placed) else (g, owned)
            return True
        total, ours = self._slots[key]
        if isinstance(g, Placed):
            if not ours:
                self._slots[key] = (total := total.copy(), True)
            g.add_to(total)
        elif ours:
            total += g
        else:
            self._slots[key] = (sum_of(total, g), True)
        return False

    def pop(self, key: int) -> tuple[Array, bool]:
        return self._slots.pop(key)


def run_backward(
    roots: Sequence[tuple[Tensor, Array]], retain_graph: bool, wanted: Sequence[Tensor] | None = None
) -> list[Array | None]:
    """Visit the graph from the roots. Without `wanted`, leaves collect their gradient in `.grad`; with it, nothing
    is stored and the gradients with respect to those tensors are returned (None for one that was not reached)."""
    pending = _Pending()
    leaves: dict[int, Tensor] = {}
    heap: list[tuple[int, Node]] = []
    results: dict[int, Array] = {}
    wanted_nodes = {id(t._node): id(t) for t in wanted or () if t._node is not None}

    def deliver(target: Node | Tensor, g: Array | Placed, owned: bool) -> None:
        first = pending.add(id(target), g, owned, target.dtype)
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
            if scalar := isinstance(g, np.generic):  # 0-d arithmetic gives NumPy scalars, which += does not change
                g = np.asarray(g)
            if tuple(g.shape) != tuple(shape):
                raise RuntimeError(
                    f"the backward function of {node.operation.name!r} returned a gradient of shape {tuple(g.shape)} "
                    f"for an input of shape {tuple(shape)}"
                )
            fresh = scalar or (not isinstance(g, Placed) and _fresh(node, grad, grads, g))
            if g.dtype != dtype and not isinstance(g, Placed):
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
