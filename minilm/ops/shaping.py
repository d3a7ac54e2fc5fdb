"""The same numbers in another arrangement: reshape, transpose, expand, pad, concatenate, split."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minilm.ops.arithmetic import cast, unbroadcast
from minilm.ops.axes import normalise, normalise_all
from minilm.tensor import Array, Tensor, apply, define


def reshape_forward(x: Array, *, shape: tuple[int, ...]) -> tuple[Array, tuple[Any, ...]]:
    return x.reshape(shape), (x.shape,)


def reshape_backward(saved: tuple[Any, ...], grad: Array) -> tuple[Array]:
    (shape,) = saved
    return (grad.reshape(shape),)


def permute_forward(x: Array, *, dims: tuple[int, ...]) -> tuple[Array, tuple[Any, ...]]:
    return np.transpose(x, dims), (dims,)


def permute_backward(saved: tuple[Any, ...], grad: Array) -> tuple[Array]:
    (dims,) = saved
    back = [0] * len(dims)
    for i, d in enumerate(dims):
        back[d] = i
    return (np.transpose(grad, back),)


def expand_forward(x: Array, *, shape: tuple[int, ...]) -> tuple[Array, tuple[Any, ...]]:
    return np.broadcast_to(x, shape), (x.shape,)


def expand_backward(saved: tuple[Any, ...], grad: Array) -> tuple[Array]:
    (shape,) = saved
    return (unbroadcast(grad, shape),)


def pad_forward(x: Array, *, widths: tuple[tuple[int, int], ...], value: float) -> tuple[Array, tuple[Any, ...]]:
    inside = tuple(slice(before, before + n) for (before, _), n in zip(widths, x.shape, strict=True))
    return np.pad(x, widths, constant_values=value), (inside,)


def pad_backward(saved: tuple[Any, ...], grad: Array) -> tuple[Array]:
    (inside,) = saved
    return (grad[inside],)


def cat_forward(*arrays: Array, dim: int) -> tuple[Array, tuple[Any, ...]]:
    ends = np.cumsum([a.shape[dim] for a in arrays])[:-1]
    return np.concatenate(arrays, axis=dim), (dim, ends.tolist())


def cat_backward(saved: tuple[Any, ...], grad: Array) -> tuple[Array, ...]:
    dim, ends = saved
    return tuple(np.split(grad, ends, axis=dim))


def stack_forward(*arrays: Array, dim: int) -> tuple[Array, tuple[Any, ...]]:
    return np.stack(arrays, axis=dim), (dim,)


def stack_backward(saved: tuple[Any, ...], grad: Array) -> tuple[Array, ...]:
    (dim,) = saved
    return tuple(np.moveaxis(grad, dim, 0))


def flip_forward(x: Array, *, dims: tuple[int, ...]) -> tuple[Array, tuple[Any, ...]]:
    return np.flip(x, dims), (dims,)


def flip_backward(saved: tuple[Any, ...], grad: Array) -> tuple[Array]:
    (dims,) = saved
    return (np.flip(grad, dims),)


RESHAPE = define("reshape", reshape_forward, reshape_backward)
PERMUTE = define("permute", permute_forward, permute_backward)
EXPAND = define("expand", expand_forward, expand_backward)
PAD = define("pad", pad_forward, pad_backward)
CAT = define("cat", cat_forward, cat_backward)
STACK = define("stack", stack_forward, stack_backward)
FLIP = define("flip", flip_forward, flip_backward)


def _sizes(sizes: tuple[Any, ...]) -> tuple[int, ...]:
    """`f(2, 3)` and `f((2, 3))` mean the same."""
    if len(sizes) == 1 and not isinstance(sizes[0], (int, np.integer)):
        return tuple(int(n) for n in sizes[0])
    return tuple(int(n) for n in sizes)


def reshape(x: Tensor, *shape: Any) -> Tensor:
    """The same elements in another shape; one size may be −1 and is worked out. A view where NumPy can make one."""
    sizes = _sizes(shape)
    try:
        return apply(RESHAPE, x, shape=sizes)
    except ValueError:
        raise ValueError(f"{x.numel()} elements of shape {x.shape} do not fit the shape {sizes}") from None


def view(x: Tensor, *shape: Any) -> Tensor:
    """`reshape`, under PyTorch's other name."""
    return reshape(x, *shape)


def flatten(x: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Join the axes from start_dim to end_dim into one."""
    if x.ndim == 0:
        return reshape(x, 1)
    first, last = normalise(start_dim, x.ndim), normalise(end_dim, x.ndim)
    if first > last:
        raise ValueError(f"start_dim {start_dim} comes after end_dim {end_dim}")
    joined = math.prod(x.shape[first : last + 1])
    return reshape(x, *x.shape[:first], joined, *x.shape[last + 1 :])


def permute(x: Tensor, *dims: Any) -> Tensor:
    """The axes in another order."""
    order = normalise_all(_sizes(dims), x.ndim)
    if len(order) != x.ndim:
        raise ValueError(f"permute needs each of the {x.ndim} dims once, got {order}")
    return apply(PERMUTE, x, dims=order)


def transpose(x: Tensor, dim0: int, dim1: int) -> Tensor:
    """Swap two axes."""
    order = list(range(x.ndim))
    a, b = normalise(dim0, x.ndim), normalise(dim1, x.ndim)
    if x.ndim:
        order[a], order[b] = order[b], order[a]
    return apply(PERMUTE, x, dims=tuple(order))


def expand(x: Tensor, *sizes: Any) -> Tensor:
    """Repeat size-1 axes (and new leading ones) without copying; −1 keeps a size."""
    wanted = _sizes(sizes)
    missing = len(wanted) - x.ndim
    if missing < 0:
        raise ValueError(f"cannot expand a tensor of shape {x.shape} to fewer dimensions: {wanted}")
    known = (None,) * missing + x.shape
    shape = []
    for size, now in zip(wanted, known, strict=True):
        if size == -1 and now is None:
            raise ValueError(f"−1 in {wanted} stands for an axis that the tensor of shape {x.shape} does not have")
        if size != -1 and now not in (None, 1, size):
            raise ValueError(f"cannot expand shape {x.shape} to {wanted}: only axes of size 1 can be repeated")
        shape.append(now if size == -1 else size)
    return apply(EXPAND, x, shape=tuple(shape))


def squeeze(x: Tensor, dim: int | Sequence[int] | None = None) -> Tensor:
    """Leave out axes of size 1: all of them, or those named (a named one of another size stays)."""
    drop = {i for i in normalise_all(dim, x.ndim) if x.shape[i] == 1}
    return reshape(x, tuple(n for i, n in enumerate(x.shape) if i not in drop))


def unsqueeze(x: Tensor, dim: int) -> Tensor:
    """Add an axis of size 1 at this position."""
    position = normalise(dim, x.ndim + 1)
    return reshape(x, (*x.shape[:position], 1, *x.shape[position:]))


def contiguous(x: Tensor) -> Tensor:
    """The tensor itself if its memory is in order, otherwise an ordered copy."""
    return x if x.data.flags.c_contiguous else x.clone()


def pad(x: Tensor, pad: Sequence[int], mode: str = "constant", value: float = 0.0) -> Tensor:
    """Add `value` around the tensor, as torch.nn.functional.pad: (last axis before, after, the one before it …)."""
    if mode != "constant":
        raise ValueError(f"pad knows the mode 'constant', not {mode!r}")
    if len(pad) % 2 or len(pad) > 2 * x.ndim:
        raise ValueError(f"pad takes pairs (before, after) from the last axis on, at most {x.ndim}; got {tuple(pad)}")
    if any(n < 0 for n in pad):
        raise ValueError(f"pad widths must not be negative (cut with a slice instead); got {tuple(pad)}")
    widths = [(0, 0)] * x.ndim
    for i in range(len(pad) // 2):
        widths[x.ndim - 1 - i] = (int(pad[2 * i]), int(pad[2 * i + 1]))
    return apply(PAD, x, widths=tuple(widths), value=value)


def _together(tensors: Sequence[Tensor], what: str) -> list[Tensor]:
    """The tensors in one common type."""
    listed = [t if isinstance(t, Tensor) else Tensor(t) for t in tensors]
    if not listed:
        raise ValueError(f"{what} needs at least one tensor")
    dtype = np.result_type(*(t.dtype for t in listed))
    floats = [t.dtype for t in listed if t.dtype.kind == "f"]
    if floats:  # integers beside floats take the floats' type
        dtype = np.result_type(*floats)
    return [cast(t, dtype) for t in listed]


def cat(tensors: Sequence[Tensor], dim: int = 0, *, axis: int | None = None) -> Tensor:
    """Join tensors along an axis; all other sizes must agree."""
    listed = _together(tensors, "cat")
    where = normalise(dim if axis is None else axis, listed[0].ndim)
    shapes = {t.shape[:where] + t.shape[where + 1 :] for t in listed}
    if listed[0].ndim == 0 or len(shapes) > 1 or len({t.ndim for t in listed}) > 1:
        raise ValueError(f"cat along dim {where} needs equal sizes elsewhere, got {[t.shape for t in listed]}")
    return apply(CAT, *listed, dim=where)


def stack(tensors: Sequence[Tensor], dim: int = 0, *, axis: int | None = None) -> Tensor:
    """Join tensors of one shape along a new axis."""
    listed = _together(tensors, "stack")
    if len({t.shape for t in listed}) > 1:
        raise ValueError(f"stack needs tensors of one shape, got {[t.shape for t in listed]}")
    return apply(STACK, *listed, dim=normalise(dim if axis is None else axis, listed[0].ndim + 1))


def split(x: Tensor, split_size: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Pieces of split_size along an axis (the last may be smaller), or of the listed sizes."""
    where = normalise(dim, x.ndim)
    total = x.shape[where]
    if isinstance(split_size, int):
        if split_size < 1:
            raise ValueError(f"split_size must be at least 1, not {split_size}")
        sizes = [min(split_size, total - start) for start in range(0, total, split_size)] or [0]
    else:
        sizes = list(split_size)
        if sum(sizes) != total:
            raise ValueError(f"the sizes {sizes} add up to {sum(sizes)}, but dim {dim} has size {total}")
    pieces, start = [], 0
    for size in sizes:
        pieces.append(x[(slice(None),) * where + (slice(start, start + size),)])
        start += size
    return tuple(pieces)


def chunk(x: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most `chunks` pieces of equal size along an axis (the last may be smaller)."""
    if chunks < 1:
        raise ValueError(f"chunks must be at least 1, not {chunks}")
    return split(x, max(1, -(-x.shape[normalise(dim, x.ndim)] // chunks)), dim)


def unbind(x: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """The slices along an axis, without that axis."""
    where = normalise(dim, x.ndim)
    return tuple(x[(slice(None),) * where + (i,)] for i in range(x.shape[where]))


def flip(x: Tensor, *dims: Any) -> Tensor:
    """The elements in reverse order along the given axes."""
    return apply(FLIP, x, dims=normalise_all(_sizes(dims), x.ndim))
