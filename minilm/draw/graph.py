"""Collects the graph behind a Tensor into plain boxes, ready to be painted or printed.

An operation and the Tensor it made are one box: the name of the operation, the shape, the value if it is small, the
gradient if there is one. The engine keeps no Tensor alive that nobody else holds, so the values of intermediate
results show only for those that a variable still refers to.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minilm.tensor import DEFAULT_DTYPE, Node, Tensor

SMALL = 12  # elements; a larger array shows its shape alone


@dataclass(frozen=True)
class Line:
    text: str
    mono: bool = False
    gradient: bool = False


@dataclass
class Box:
    """One node of the picture. kind: "operation", "output", "parameter", "input" or "more"."""

    kind: str
    title: str
    lines: list[Line] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Graph:
    """Boxes with parents before children; the last one is the Tensor that was asked about."""

    boxes: list[Box]
    note: str = ""  # what was left out

    @property
    def has_gradients(self) -> bool:
        return any(line.gradient for box in self.boxes for line in box.lines)


def collect(tensor: Tensor, names: Any = None, values: bool = True, max_nodes: int = 40) -> Graph:
    """The graph behind `tensor`; of one with more operations than max_nodes, the newest."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"expected the Tensor whose graph to draw, such as a loss, got {type(tensor).__name__}")
    if max_nodes < 1:
        raise ValueError(f"max_nodes must be at least 1, got {max_nodes}")
    called = _names(names)
    root = tensor._node
    if root is None:
        return Graph([_leaf_box(tensor, called, values)])

    total = _nodes(root)
    kept = dict.fromkeys(total[:max_nodes])
    boxes: list[Box] = []
    places: dict[Any, int] = {}

    def put(key: Any, box: Box) -> int:
        if key not in places:
            places[key] = len(boxes)
            boxes.append(box)
        return places[key]

    for node in reversed(kept):  # oldest first
        parents = []
        for i, source in enumerate(node.inputs):
            if source is None and i in node.constants:
                parents.append(put(*_constant(node, i, called, values)))
            elif source is None:
                continue  # an input that was left out, such as the bias of a linear layer
            elif isinstance(source, Tensor):
                parents.append(put(id(source), _leaf_box(source, called, values)))
            elif source in kept:
                parents.append(places[source])
            else:
                parents.append(put(source, Box("more", f"{source.operation.name} …", [_shape_line(source)])))
        box = _operation_box(node, called, values)
        box.parents = parents
        put(node, box)
    boxes[-1].kind = "output"

    note = ""
    if len(total) > len(kept):
        note = f"the last {len(kept)} of {len(total)} operations; the dashed boxes stand for what came before"
    return Graph(boxes, note)


def _nodes(root: Node) -> list[Node]:
    """Every node behind the root, newest first."""
    heap, seen, found = [(-root.sequence, root)], {root}, []
    while heap:
        _, node = heapq.heappop(heap)
        found.append(node)
        for source in node.inputs:
            if isinstance(source, Node) and source not in seen:
                seen.add(source)
                heapq.heappush(heap, (-source.sequence, source))
    return found


def _names(names: Any) -> dict[int, str]:
    """id of a Tensor → its name, from a module's parameters or from a dict such as locals()."""
    if names is None:
        return {}
    if hasattr(names, "named_parameters"):
        names = dict(names.named_parameters())
    if not isinstance(names, Mapping):
        raise TypeError(f"names must be a dict of Tensors by name, or a module, got {type(names).__name__}")
    found: dict[int, str] = {}
    for name, value in names.items():
        if isinstance(value, Tensor) and not name.startswith("_"):  # IPython's _ and _12 are no names
            found.setdefault(id(value), name)
    return found


def _leaf_box(tensor: Tensor, called: dict[int, str], values: bool) -> Box:
    name = called.get(id(tensor)) or tensor.name or ("leaf" if tensor.requires_grad else "constant")
    kind = "parameter" if tensor.requires_grad else "input"
    return Box(kind, name, [_shape_line(tensor), *_value_lines(tensor, values)])


def _constant(node: Node, i: int, called: dict[int, str], values: bool) -> tuple[Any, Box]:
    """Key and box of an input that gets no gradient: a number, or a Tensor if somebody still holds it."""
    constant = node.constants[i]
    if isinstance(constant, (int, float)):
        return (node, i), Box("input", f"{constant:g}")
    tensor = constant() if constant is not None else None
    return ((node, i), Box("input", "constant")) if tensor is None else (id(tensor), _leaf_box(tensor, called, values))


def _operation_box(node: Node, called: dict[int, str], values: bool) -> Box:
    output = node.output()
    name = called.get(id(output)) or output.name if output is not None else None
    title = f"{name} = {node.operation.name}" if name else node.operation.name
    lines = [_shape_line(node)]
    if output is not None:
        lines += _value_lines(output, values)
    return Box("operation", title, lines)


def _shape_line(thing: Node | Tensor) -> Line:
    shape = tuple(thing.shape)
    text = str(shape) if shape else "scalar"
    return Line(text if thing.dtype == DEFAULT_DTYPE else f"{text} {thing.dtype}")


def _value_lines(tensor: Tensor, values: bool) -> list[Line]:
    if not values:
        return []
    value = _array_lines(tensor.numpy(), "")
    gradient: list[str] = []
    if tensor.grad is not None:
        gradient = _array_lines(tensor.grad.numpy(), "∇ ") or [f"∇ {tuple(tensor.grad.shape)}"]
    width = max(map(len, value + gradient), default=0) if tensor.numel() > 1 else 0  # columns end below each other
    return [Line(text.rjust(width), mono=True) for text in value] + [
        Line(text.rjust(width), mono=True, gradient=True) for text in gradient
    ]


def _array_lines(array: np.ndarray, mark: str) -> list[str]:
    """A small array as aligned lines of numbers; nothing for a large or empty one."""
    if not 0 < array.size <= SMALL or array.ndim > 2:
        return []
    if array.shape[-1:] > (6,):
        return []
    form = _number_format(array)
    texts = np.array([format(x, form) for x in array.ravel().tolist()])
    width = max(len(text) for text in texts)
    rows = texts.reshape(array.shape if array.ndim == 2 else (1, -1))
    lines = ["  ".join(text.rjust(width) for text in row) for row in rows]
    return [(mark if i == 0 else " " * len(mark)) + line for i, line in enumerate(lines)]


def _number_format(array: np.ndarray) -> str:
    """One format for all elements, so that their points stand below each other: three digits of the largest."""
    if array.dtype.kind != "f":
        return ""
    if array.size == 1:
        return ".4g"
    finite = array[np.isfinite(array)]
    largest = float(np.abs(finite).max(initial=0))
    if largest < 1e5 and (finite == np.rint(finite)).all():
        return ".0f"
    if not 1e-3 <= largest < 1e5:
        return ".2e"
    return f".{max(1, 2 - math.floor(math.log10(largest)))}f"
