"""New tensors: constants, ranges and random numbers. Shapes are given as `zeros(2, 3)` or `zeros((2, 3))`."""

from __future__ import annotations

from typing import Any

import numpy as np

from minilm import random
from minilm.ops.indexing import where
from minilm.ops.shaping import _sizes
from minilm.tensor import DEFAULT_DTYPE, Tensor


def zeros(*size: Any, dtype: Any = DEFAULT_DTYPE, requires_grad: bool = False) -> Tensor:
    """A tensor of zeros."""
    return Tensor(np.zeros(_sizes(size), dtype=dtype), requires_grad=requires_grad)


def ones(*size: Any, dtype: Any = DEFAULT_DTYPE, requires_grad: bool = False) -> Tensor:
    """A tensor of ones."""
    return Tensor(np.ones(_sizes(size), dtype=dtype), requires_grad=requires_grad)


def full(size: Any, fill_value: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor with one value everywhere (float32 for a Python float, int64 for an integer)."""
    chosen = Tensor(fill_value).dtype if dtype is None else dtype
    shape = (size,) if isinstance(size, int) else tuple(size)
    return Tensor(np.full(shape, fill_value, dtype=chosen), requires_grad=requires_grad)


def zeros_like(x: Tensor, dtype: Any = None) -> Tensor:
    """Zeros of the shape, type and place of x."""
    return Tensor(np.zeros_like(x.data, dtype=dtype))


def ones_like(x: Tensor, dtype: Any = None) -> Tensor:
    """Ones of the shape, type and place of x."""
    return Tensor(np.ones_like(x.data, dtype=dtype))


def full_like(x: Tensor, fill_value: float, dtype: Any = None) -> Tensor:
    """One value everywhere, in the shape, type and place of x."""
    return Tensor(np.full_like(x.data, fill_value, dtype=dtype))


def arange(start: float, end: float | None = None, step: float = 1, dtype: Any = None) -> Tensor:
    """start, start + step, … up to but without end; `arange(n)` counts from 0. Integers give int64."""
    if end is None:
        start, end = 0, start
    if dtype is None:
        dtype = np.int64 if all(isinstance(n, (int, np.integer)) for n in (start, end, step)) else DEFAULT_DTYPE
    return Tensor(np.arange(start, end, step, dtype=dtype))


def linspace(start: float, end: float, steps: int, dtype: Any = DEFAULT_DTYPE) -> Tensor:
    """`steps` evenly spaced numbers from start to end, both included."""
    return Tensor(np.linspace(start, end, steps, dtype=dtype))


def eye(n: int, m: int | None = None, dtype: Any = DEFAULT_DTYPE) -> Tensor:
    """Ones on the diagonal of an n × m matrix (m = n if left out)."""
    return Tensor(np.eye(n, m, dtype=dtype))


def tril(x: Tensor, diagonal: int = 0) -> Tensor:
    """The lower triangle of a matrix; zeros above the diagonal."""
    return where(np.tril(np.ones_like(x.data, dtype=bool), diagonal), x, 0)  # not a product: ∞ · 0 is NaN


def triu(x: Tensor, diagonal: int = 0) -> Tensor:
    """The upper triangle of a matrix; zeros below the diagonal."""
    return where(np.triu(np.ones_like(x.data, dtype=bool), diagonal), x, 0)


def randn(*size: Any, dtype: Any = DEFAULT_DTYPE, requires_grad: bool = False) -> Tensor:
    """Normal random numbers, mean 0 and variance 1, from `minilm.random`."""
    values = random.generator().standard_normal(_sizes(size), dtype=np.float64)
    return Tensor(np.asarray(values, dtype=dtype), requires_grad=requires_grad)


def rand(*size: Any, dtype: Any = DEFAULT_DTYPE, requires_grad: bool = False) -> Tensor:
    """Uniform random numbers in 0 … 1, from `minilm.random`."""
    return Tensor(np.asarray(random.generator().random(_sizes(size)), dtype=dtype), requires_grad=requires_grad)


def randint(low: int, high: int | None = None, size: Any = (), dtype: Any = np.int64) -> Tensor:
    """Random integers low … high − 1 (0 … low − 1 if high is left out), from `minilm.random`."""
    if high is None:
        low, high = 0, low
    return Tensor(np.asarray(random.generator().integers(low, high, size=tuple(size), dtype=dtype)))


def randperm(n: int) -> Tensor:
    """The numbers 0 … n − 1 in random order, from `minilm.random`."""
    return Tensor(random.generator().permutation(n))
