"""Choosing elements: indexing, gather, scatter-add, where, masked fill."""

from __future__ import annotations

from typing import Any

import numpy as np

from minilm.autograd import Placed
from minilm.ops.arithmetic import Operand, one_type, operands, unbroadcast
from minilm.ops.axes import normalise
from minilm.tensor import Array, Tensor, _plain_index, apply, define, is_grad_enabled


def getitem_forward(x: Array, *, index: Any) -> tuple[Array, tuple[Any, ...]]:
    return x[index], (x.shape, index)


def getitem_backward(saved: tuple[Any, ...], grad: Array) -> tuple[Array | Placed]:
    shape, index = saved
    if _is_basic(index):
        return (Placed(shape, index, grad),)
    dx = np.zeros_like(grad, shape=shape)
    np.add.at(dx, index, grad)  # an element chosen twice collects twice
    return (dx,)


def _is_basic(index: Any) -> bool:
    """Slices, integers, None and … name each element at most once."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(p is None or p is Ellipsis or isinstance(p, (int, np.integer, slice)) for p in parts)


def gather_forward(x: Array, index: Array, *, dim: int) -> tuple[Array, tuple[Any, ...]]:
    return x[_positions(index, dim)], (x.shape, index, dim)


def gather_backward(saved: tuple[Any, ...], grad: Array) -> tuple[Array, None]:
    shape, index, dim = saved
    dx = np.zeros_like(grad, shape=shape)
    np.add.at(dx, _positions(index, dim), grad)
    return dx, None


def scatter_add_forward(x: Array, index: Array, source: Array, *, dim: int) -> tuple[Array, tuple[Any, ...]]:
    out = x.copy()
    np.add.at(out, _positions(index, dim), _cut(source, index.shape))
    return out, (index, source.shape, dim)


def scatter_add_backward(saved: tuple[Any, ...], grad: Array) -> tuple[Array, None, Array]:
    index, shape, dim = saved
    chosen = grad[_positions(index, dim)]
    dsource = np.zeros_like(grad, shape=shape)
    dsource[tuple(slice(n) for n in index.shape)] = chosen
    return grad, None, dsource


def _cut(source: Array, shape: tuple[int, ...]) -> Array:
    return source[tuple(slice(n) for n in shape)]


def _positions(index: Array, dim: int) -> tuple[Array, ...]:
    """An index tuple that keeps every axis in place except `dim`, where `index` says the position."""
    grid = []
    for axis, size in enumerate(index.shape):
        line = np.arange(size, like=index).reshape([-1 if a == axis else 1 for a in range(index.ndim)])
        grid.append(index if axis == dim else line)
    return tuple(grid)


def where_forward(condition: Array, a: Array, b: Array) -> tuple[Array, tuple[Any, ...]]:
    return np.where(condition, a, b), (condition, getattr(a, "shape", ()), getattr(b, "shape", ()))


def where_backward(
    saved: tuple[Any, ...], grad: Array, needs: tuple[bool, ...]
) -> tuple[None, Array | None, Array | None]:
    condition, shape_a, shape_b = saved
    da = unbroadcast(np.where(condition, grad, 0), shape_a) if needs[1] else None
    db = unbroadcast(np.where(condition, 0, grad), shape_b) if needs[2] else None
    return None, da, db


GETITEM = define("getitem", getitem_forward, getitem_backward)
GATHER = define("gather", gather_forward, gather_backward)
SCATTER_ADD = define("scatter_add", scatter_add_forward, scatter_add_backward)
WHERE = define("where", where_forward, where_backward)


def getitem(x: Tensor, index: Any) -> Tensor:
    """x[index] as in NumPy: integers, slices, None, …, integer arrays (repeats allowed) and boolean masks."""
    plain = _checked_index(index)
    if x.requires_grad and is_grad_enabled():  # the index is needed again: a copy, so that nobody changes it meanwhile
        plain = tuple(_own(p) for p in plain) if isinstance(plain, tuple) else _own(plain)
    return apply(GETITEM, x, index=plain)


def _own(part: Any) -> Any:
    return part.copy() if hasattr(part, "dtype") and part.ndim else part


def _checked_index(index: Any) -> Any:
    plain = _plain_index(index)
    parts = plain if isinstance(plain, tuple) else (plain,)
    cleaned = tuple(np.asarray(p) if isinstance(p, list) else p for p in parts)
    for p in cleaned:
        if hasattr(p, "dtype") and p.dtype.kind not in "iub":
            raise TypeError(f"an index holds integers or booleans, not {p.dtype}")
        if isinstance(p, float):
            raise TypeError(f"an index is an integer, a slice or an array of them, not {p!r}")
    return cleaned if isinstance(plain, tuple) else cleaned[0]


def as_given(given: Any, array: Array) -> Any:
    """The Tensor that the array is the data of, so that the graph notices if it is changed in place; else the array."""
    return given if isinstance(given, Tensor) and given.data is array else array


def _index_array(index: Any, like: Tensor) -> Array:
    array = index.data if isinstance(index, Tensor) else np.asarray(index, like=like.data)
    if array.dtype.kind not in "iu":
        raise TypeError(f"the index holds integers, not {array.dtype}")
    return array


def _check_index(x: Tensor, index: Array, dim: int, what: str) -> None:
    if index.ndim != x.ndim:
        raise ValueError(f"{what}: the index has {index.ndim} dimensions, the tensor {x.ndim}; they must agree")
    for axis in range(x.ndim):
        if axis != dim and index.shape[axis] > x.shape[axis]:
            raise ValueError(f"{what}: the index {tuple(index.shape)} exceeds the tensor {x.shape} in dim {axis}")
    if index.size and (int(index.min()) < 0 or int(index.max()) >= x.shape[dim]):
        raise IndexError(f"{what}: an index lies outside 0 … {x.shape[dim] - 1} (dim {dim} of shape {x.shape})")


def gather(x: Tensor, dim: int, index: Any) -> Tensor:
    """out[i, j] = x[i, index[i, j]] for dim 1, and so on: one position along `dim` for each element of the index."""
    where, array = normalise(dim, x.ndim), _index_array(index, x)
    _check_index(x, array, where, "gather")
    return apply(GATHER, x, as_given(index, array), dim=where)


def scatter_add(x: Tensor, dim: int, index: Any, src: Tensor) -> Tensor:
    """A copy of x with out[i, index[i, j]] += src[i, j] for dim 1, and so on; repeated positions add up."""
    where, array = normalise(dim, x.ndim), _index_array(index, x)
    x, src = one_type(x, src)
    _check_index(x, array, where, "scatter_add")
    if src.ndim != array.ndim or any(n > m for n, m in zip(array.shape, src.shape, strict=True)):
        raise ValueError(f"scatter_add: the index {tuple(array.shape)} does not fit into src {src.shape}")
    return apply(SCATTER_ADD, x, as_given(index, array), src, dim=where)


def _condition(condition: Any, like: Any) -> Array:
    array = condition.data if isinstance(condition, Tensor) else np.asarray(condition, like=getattr(like, "data", None))
    if array.dtype.kind != "b":
        raise TypeError(f"the condition must be boolean, not {array.dtype}: compare first, as in x > 0")
    return array


def where(condition: Any, a: Operand, b: Operand) -> Tensor:
    """a where the condition holds, b elsewhere, with broadcasting."""
    a, b = operands(a, b)
    if not isinstance(a, Tensor) and not isinstance(b, Tensor):
        a, b = Tensor([a, b]).unbind()  # two numbers: in the one type that holds both
    elif not isinstance(a, Tensor):  # keep a Python number from widening the result
        a = Tensor(np.full_like(b.data, a, shape=()))
    elif not isinstance(b, Tensor):
        b = Tensor(np.full_like(a.data, b, shape=()))
    return apply(WHERE, as_given(condition, _condition(condition, a)), a, b)


def masked_fill(x: Tensor, mask: Any, value: float) -> Tensor:
    """x with `value` wherever the mask is True."""
    return where(as_given(mask, _condition(mask, x)), value, x)
