"""The operators and methods of Tensor, attached to it from above: `x + y`, `x.sum(dim=-1)`, `x.add_(y)`.

Each method is the operation of the same name; see there for what it does.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from minilm.ops import arithmetic, elementwise, indexing, normalise, products, reductions, shaping
from minilm.ops.axes import Axes, normalise_all, one_name
from minilm.tensor import DEFAULT_DTYPE, Tensor

Self = Any  # in the class below, `self` is a Tensor; a mixin cannot say so to a type checker


def _raw(x: Any) -> Any:
    return x.data if isinstance(x, Tensor) else x


def _bool_result(function: Callable[[Any, Any], Any], a: Tensor, b: Any) -> Tensor:
    return Tensor._wrap(np.asarray(function(a.data, _raw(b)), like=a.data))


def _truth(function: Callable[..., Any], x: Tensor, dim: Axes, keepdim: Any) -> Tensor:
    found = function(x.data, axis=normalise_all(dim, x.ndim), keepdims=bool(keepdim))
    return Tensor._wrap(np.asarray(found, like=x.data))


class TensorMethods:
    """What `minilm.ops` adds to Tensor."""

    __slots__ = ()

    # --- operators

    def __add__(self: Self, other: Any) -> Tensor:
        return arithmetic.add(self, other)

    def __radd__(self: Self, other: Any) -> Tensor:
        return arithmetic.add(other, self)

    def __sub__(self: Self, other: Any) -> Tensor:
        return arithmetic.sub(self, other)

    def __rsub__(self: Self, other: Any) -> Tensor:
        return arithmetic.sub(other, self)

    def __mul__(self: Self, other: Any) -> Tensor:
        return arithmetic.mul(self, other)

    def __rmul__(self: Self, other: Any) -> Tensor:
        return arithmetic.mul(other, self)

    def __truediv__(self: Self, other: Any) -> Tensor:
        return arithmetic.div(self, other)

    def __rtruediv__(self: Self, other: Any) -> Tensor:
        return arithmetic.div(other, self)

    def __pow__(self: Self, other: Any) -> Tensor:
        return arithmetic.pow(self, other)

    def __rpow__(self: Self, other: Any) -> Tensor:
        return arithmetic.pow(other, self)

    def __matmul__(self: Self, other: Any) -> Tensor:
        return products.matmul(self, other)

    def __rmatmul__(self: Self, other: Any) -> Tensor:
        return products.matmul(other, self)

    def __neg__(self: Self) -> Tensor:
        return arithmetic.neg(self)

    def __abs__(self: Self) -> Tensor:
        return arithmetic.abs(self)

    def __getitem__(self: Self, index: Any) -> Tensor:
        return indexing.getitem(self, index)

    # --- comparisons and whole-number operators: no gradient

    def __lt__(self: Self, other: Any) -> Tensor:
        return _bool_result(operator.lt, self, other)

    def __le__(self: Self, other: Any) -> Tensor:
        return _bool_result(operator.le, self, other)

    def __gt__(self: Self, other: Any) -> Tensor:
        return _bool_result(operator.gt, self, other)

    def __ge__(self: Self, other: Any) -> Tensor:
        return _bool_result(operator.ge, self, other)

    def __eq__(self: Self, other: Any) -> Any:
        if other is None:
            return False
        return _bool_result(operator.eq, self, other)

    def __ne__(self: Self, other: Any) -> Any:
        if other is None:
            return True
        return _bool_result(operator.ne, self, other)

    def __and__(self: Self, other: Any) -> Tensor:
        return _bool_result(operator.and_, self, other)

    def __or__(self: Self, other: Any) -> Tensor:
        return _bool_result(operator.or_, self, other)

    def __xor__(self: Self, other: Any) -> Tensor:
        return _bool_result(operator.xor, self, other)

    def __invert__(self: Self) -> Tensor:
        return Tensor._wrap(~self.data)

    def __floordiv__(self: Self, other: Any) -> Tensor:
        return _bool_result(operator.floordiv, self, other)

    def __mod__(self: Self, other: Any) -> Tensor:
        return _bool_result(operator.mod, self, other)

    def all(self: Self, dim: Axes = None, keepdim: Any = False, *, axis: Axes = None, keepdims: Any = False) -> Tensor:
        return _truth(np.all, self, one_name(dim, axis), keepdim or keepdims)

    def any(self: Self, dim: Axes = None, keepdim: Any = False, *, axis: Axes = None, keepdims: Any = False) -> Tensor:
        return _truth(np.any, self, one_name(dim, axis), keepdim or keepdims)

    def isnan(self: Self) -> Tensor:
        return Tensor._wrap(np.isnan(self.data))

    # --- in place (see Tensor: refused on what is part of a graph)

    def _update(self: Self, function: Callable[..., Any], other: Any, name: str) -> Tensor:
        array, value = self._write(name, other), _raw(other)
        function(array, value, out=array, casting="same_kind")
        return self

    def add_(self: Self, other: Any) -> Tensor:
        return TensorMethods._update(self, np.add, other, "add_()")

    def sub_(self: Self, other: Any) -> Tensor:
        return TensorMethods._update(self, np.subtract, other, "sub_()")

    def mul_(self: Self, other: Any) -> Tensor:
        return TensorMethods._update(self, np.multiply, other, "mul_()")

    def div_(self: Self, other: Any) -> Tensor:
        return TensorMethods._update(self, np.true_divide, other, "div_()")

    # --- types and places

    def to(self: Self, target: Any) -> Tensor:
        """In another dtype (`x.to(np.float64)`), or on another device (`x.to("cuda")`, which needs CuPy)."""
        from minilm.ops.devices import is_device, move

        return move(self, target) if is_device(target) else arithmetic.cast(self, target)

    def cpu(self: Self) -> Tensor:
        return TensorMethods.to(self, "cpu")

    def float(self: Self) -> Tensor:
        return arithmetic.cast(self, DEFAULT_DTYPE)

    def double(self: Self) -> Tensor:
        return arithmetic.cast(self, np.float64)

    def half(self: Self) -> Tensor:
        return arithmetic.cast(self, np.float16)

    def long(self: Self) -> Tensor:
        return arithmetic.cast(self, np.int64)

    def bool(self: Self) -> Tensor:
        return arithmetic.cast(self, np.bool_)

    # --- the transposed matrix

    @property
    def T(self: Self) -> Tensor:
        """The axes in reverse order: the transpose of a matrix."""
        return shaping.permute(self, *reversed(range(self.ndim)))

    @property
    def mT(self: Self) -> Tensor:
        """The last two axes swapped."""
        return shaping.transpose(self, -1, -2)

    # --- operations under their own names

    add = arithmetic.add
    sub = arithmetic.sub
    mul = arithmetic.mul
    div = arithmetic.div
    neg = arithmetic.neg
    abs = arithmetic.abs
    pow = arithmetic.pow
    maximum = arithmetic.maximum
    minimum = arithmetic.minimum
    clone = arithmetic.clone

    exp = elementwise.exp
    log = elementwise.log
    sqrt = elementwise.sqrt
    sin = elementwise.sin
    cos = elementwise.cos
    tanh = elementwise.tanh
    sigmoid = elementwise.sigmoid
    erf = elementwise.erf
    relu = elementwise.relu
    gelu = elementwise.gelu
    silu = elementwise.silu
    clip = elementwise.clip
    clamp = elementwise.clip

    sum = reductions.sum
    mean = reductions.mean
    var = reductions.var
    std = reductions.std
    amax = reductions.amax
    amin = reductions.amin
    max = reductions.max
    min = reductions.min
    argmax = reductions.argmax
    argmin = reductions.argmin
    logsumexp = reductions.logsumexp
    cumsum = reductions.cumsum

    softmax = normalise.softmax
    log_softmax = normalise.log_softmax

    reshape = shaping.reshape
    view = shaping.view
    flatten = shaping.flatten
    permute = shaping.permute
    transpose = shaping.transpose
    expand = shaping.expand
    squeeze = shaping.squeeze
    unsqueeze = shaping.unsqueeze
    contiguous = shaping.contiguous
    split = shaping.split
    chunk = shaping.chunk
    unbind = shaping.unbind
    flip = shaping.flip

    matmul = products.matmul

    gather = indexing.gather
    scatter_add = indexing.scatter_add
    masked_fill = indexing.masked_fill

    # In-place operators: in place where no gradient is at stake, otherwise x += y makes a new tensor, x + y.

    def __iadd__(self: Self, other: Any) -> Tensor:
        return TensorMethods.add_(self, other) if _in_place(self, other) else arithmetic.add(self, other)

    def __isub__(self: Self, other: Any) -> Tensor:
        return TensorMethods.sub_(self, other) if _in_place(self, other) else arithmetic.sub(self, other)

    def __imul__(self: Self, other: Any) -> Tensor:
        return TensorMethods.mul_(self, other) if _in_place(self, other) else arithmetic.mul(self, other)

    def __itruediv__(self: Self, other: Any) -> Tensor:
        return TensorMethods.div_(self, other) if _in_place(self, other) else arithmetic.div(self, other)


def _in_place(x: Tensor, other: Any) -> Any:
    """Whether x op= other may write into x. A leaf that requires a gradient is left to `_write`, which refuses."""
    from minilm.tensor import is_grad_enabled

    if not is_grad_enabled():
        return True
    part_of_graph = x.requires_grad and not x.is_leaf
    return not part_of_graph and not (isinstance(other, Tensor) and other.requires_grad and not x.requires_grad)


def attach() -> None:
    """Give Tensor the methods of `TensorMethods`."""
    for name, value in vars(TensorMethods).items():
        if name not in ("__module__", "__dict__", "__weakref__", "__doc__", "__slots__", "__qualname__", "__hash__"):
            setattr(Tensor, name, value)


attach()
