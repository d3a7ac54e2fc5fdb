"""How operations read their axes: PyTorch's `dim`/`keepdim` and NumPy's `axis`/`keepdims` mean the same."""

from __future__ import annotations

import operator
from collections.abc import Sequence

Axes = int | Sequence[int] | None


def one_name(dim: Axes, axis: Axes) -> Axes:
    """`dim` or `axis`, whichever was given; both is an error."""
    if dim is not None and axis is not None:
        raise TypeError("give dim or axis, not both: they mean the same")
    chosen = dim if dim is not None else axis
    return chosen if chosen is None or isinstance(chosen, Sequence) else operator.index(chosen)  # NumPy's integers too


def normalise(dim: int, ndim: int) -> int:
    """A negative axis counted from the front; raises IndexError outside −ndim … ndim − 1."""
    dim = operator.index(dim)
    if not -ndim <= dim < max(ndim, 1):
        raise IndexError(f"dim {dim} does not exist in a tensor with {ndim} dimensions ({-ndim} … {ndim - 1})")
    return dim % ndim if ndim else 0


def normalise_all(dims: Axes, ndim: int) -> tuple[int, ...]:
    """A tuple of axes counted from the front; None means all. Raises ValueError for one named twice."""
    if dims is None:
        return tuple(range(ndim))
    listed = tuple(dims) if isinstance(dims, Sequence) else (operator.index(dims),)
    axes = tuple(normalise(d, ndim) for d in listed)
    if len(set(axes)) != len(axes):
        raise ValueError(f"a dim is named twice in {tuple(listed)}")
    return axes if ndim else ()
