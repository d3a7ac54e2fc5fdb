"""The published table of gradient checks: every operation, at the shapes and options where gradients go wrong.

A case is a function `call(o, *inputs)` of a namespace `o` of operations (`minilm.ops`) and of its inputs. All
inputs are differentiated. Written this way the same line can be run on another library that has the same names.

What the table looks for: broadcasting, axes of size one and of size zero, numbers without axes, indices that
repeat, one input used twice, several inputs of which one is float32, options at their edges. Memory layout is
no part of a case: `check_all` runs each of them with inputs in several layouts.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from minilm import ops
from minilm import random as minilm_random
from minilm.gradcheck.points import Points, distinct, inside, normal, positive
from minilm.ops import devices
from minilm.tensor import OPERATIONS, apply


@dataclass(frozen=True)
class Case:
    """One function to check. `operation` is its name in `minilm.tensor.OPERATIONS` or in `minilm.ops`."""

    operation: str
    name: str
    call: Callable[..., Any]
    inputs: tuple[Points, ...]

    @property
    def title(self) -> str:
        return f"{self.operation}: {self.name}"

    def function(self, operations: Any) -> Callable[..., Any]:
        """The case as a function of its inputs alone, which keep their names."""
        return functools.partial(self.call, operations)


def case(operation: str, name: str, call: Callable[..., Any], *inputs: Points) -> Case:
    return Case(operation, name, call, inputs)


def seeded(call: Callable[[], Any]) -> Any:
    """Runs a function that draws random numbers with the same ones every time, and puts the generator back."""
    before = minilm_random.get_state()
    minilm_random.seed(12)
    try:
        return call()
    finally:
        minilm_random.set_state(before)


def all_cases() -> Iterator[Case]:
    """Every case of the table."""
    for group in (ARITHMETIC, ELEMENTWISE, REDUCTIONS, SHAPES, INDEXING, PRODUCTS, NORMS, NETWORK, GRAPHS):
        yield from group


FLOAT32 = np.array([[0.5, -1.25, 2.0], [1.5, 0.75, -0.25]], dtype=np.float32)  # (2, 3)
MASK = np.array([[True, False, True], [False, False, True]])  # (2, 3)

# ------------------------------------------------------------------------------------------------ arithmetic


def _binary(operation: str, call: Callable[..., Any], a: Callable[..., Points], b: Callable[..., Points]) -> list[Case]:
    """Every way in which two shapes can meet."""
    return [
        case(operation, "equal shapes", call, a(2, 3), b(2, 3)),
        case(operation, "a row", call, a(2, 3), b(3)),
        case(operation, "a column, on the left", call, a(2, 1), b(2, 3)),
        case(operation, "both broadcast", call, a(2, 1, 3), b(4, 1)),
        case(operation, "a number", call, a(2, 3), b()),
        case(operation, "two numbers", call, a(), b()),
        case(operation, "size-1 axes that stay", call, a(1, 3), b(1, 1)),
        case(operation, "empty", call, a(0, 3), b(3)),
        case(operation, "empty against size 1", call, a(2, 0), b(2, 1)),
        case(operation, "with float32", lambda o, x: call(o, x, o.tensor(np.abs(FLOAT32))), a(2, 3)),
        case(operation, "float32 broadcast, on the left", lambda o, x: call(o, o.tensor(np.abs(FLOAT32)), x), b(3)),
    ]


ARITHMETIC = [
    *_binary("add", lambda o, x, y: x + y, normal, normal),
    *_binary("sub", lambda o, x, y: x - y, normal, normal),
    *_binary("mul", lambda o, x, y: x * y, normal, normal),
    *_binary("div", lambda o, x, y: x / y, normal, positive),
    *_binary("pow", lambda o, x, y: x**y, positive, normal),
    *_binary("maximum", lambda o, x, y: o.maximum(x, 10 * y), distinct, normal),
    *_binary("minimum", lambda o, x, y: o.minimum(x, 10 * y), distinct, normal),
    case("add", "a Python number", lambda o, x: x + 2.5, normal(2, 3)),
    case("add", "a Python number, on the left", lambda o, x: 2 + x, normal(2, 3)),
    case("add", "itself", lambda o, x: x + x, normal(2, 3)),
    case("sub", "a Python number, on the left", lambda o, x: 1 - x, normal(2, 3)),
    case("sub", "itself", lambda o, x: x - x, normal(2, 3)),
    case("mul", "a Python number", lambda o, x: x * -3, normal(2, 3)),
    case("mul", "itself", lambda o, x: x * x, normal(2, 3)),
    case("mul", "itself transposed", lambda o, x: x * x.transpose(0, 1), normal(3, 3)),
    case("div", "a Python number", lambda o, x: x / 4, normal(2, 3)),
    case("div", "a Python number, on the left", lambda o, x: 1 / x, positive(2, 3)),
    case("div", "itself", lambda o, x: x / (x * x), positive(2, 3)),
    case("neg", "a matrix", lambda o, x: -x, normal(2, 3)),
    case("abs", "both signs", lambda o, x: x.abs(), distinct(3, 4)),
    case("pow", "square of both signs", lambda o, x: x**2, normal(2, 3)),
    case("pow", "cube of both signs", lambda o, x: x**3, normal(2, 3)),
    case("pow", "fourth power of both signs", lambda o, x: x**4, normal(2, 3)),
    case("pow", "a root", lambda o, x: x**0.5, positive(2, 3)),
    case("pow", "a negative power", lambda o, x: x**-1.5, positive(2, 3)),
    case("pow", "the power zero", lambda o, x: x**0 + x, normal(2, 3)),
    case("pow", "the power one", lambda o, x: x**1, normal(2, 3)),
    case("pow", "a Python number to a tensor", lambda o, x: 2.5**x, normal(2, 3)),
    case("pow", "whole powers of both signs", lambda o, x: x ** o.tensor(np.array([0.0, 1.0, 3.0])), normal(2, 3)),
    case("pow", "itself", lambda o, x: x**x, positive(2, 3)),
    case("clone", "a matrix", lambda o, x: x.clone() * x, normal(2, 3)),
    case("cast", "to the same type", lambda o, x: o.cast_anyway(x), normal(2, 3)),
    case("to_device", "from the CPU to the CPU", lambda o, x: o.stay_here(x), normal(2, 3)),
]

# ----------------------------------------------------------------------------------------------- elementwise


def _unary(operation: str, call: Callable[..., Any], points: Callable[..., Points]) -> list[Case]:
    return [
        case(operation, "three axes", call, points(2, 3, 2)),
        case(operation, "a number", call, points()),
        case(operation, "size-1 axes", call, points(1, 3, 1)),
        case(operation, "empty", call, points(2, 0)),
    ]


ELEMENTWISE = [
    *_unary("exp", lambda o, x: x.exp(), normal),
    *_unary("log", lambda o, x: x.log(), positive),
    *_unary("sqrt", lambda o, x: x.sqrt(), positive),
    *_unary("sin", lambda o, x: x.sin(), normal),
    *_unary("cos", lambda o, x: x.cos(), normal),
    *_unary("tanh", lambda o, x: x.tanh(), normal),
    *_unary("sigmoid", lambda o, x: x.sigmoid(), normal),
    *_unary("erf", lambda o, x: x.erf(), normal),
    *_unary("relu", lambda o, x: x.relu(), distinct),
    *_unary("gelu", lambda o, x: o.gelu(x), normal),
    *_unary("silu", lambda o, x: o.silu(x), normal),
    *_unary("clip", lambda o, x: x.clip(-0.4, 0.3), distinct),
    case("sigmoid", "far out", lambda o, x: (20 * x).sigmoid(), normal(2, 3)),
    case("tanh", "far out", lambda o, x: (10 * x).tanh(), inside(2, 3)),
    case("erf", "far out, on both sides", lambda o, x: (3 * x).erf(), normal(4, 5)),
    case("gelu", "exact, far out", lambda o, x: o.gelu(4 * x), normal(4, 5)),
    case("gelu", "tanh form", lambda o, x: o.gelu(x, approximate="tanh"), normal(2, 3)),
    case("gelu", "tanh form, far out", lambda o, x: o.gelu(4 * x, approximate="tanh"), normal(4, 5)),
    case("silu", "far out", lambda o, x: o.silu(8 * x), normal(4, 5)),
    case("clip", "from below", lambda o, x: x.clip(min=-0.2), distinct(3, 4)),
    case("clip", "from above", lambda o, x: x.clamp(max=0.2), distinct(3, 4)),
]

# ------------------------------------------------------------------------------------------------ reductions


def _reduction(operation: str, reduce: Callable[..., Any], points: Callable[..., Points]) -> list[Case]:
    return [
        case(operation, "everything", lambda o, x: reduce(x, dim=(0, 1, 2)), points(2, 3, 4)),
        case(operation, "first axis", lambda o, x: reduce(x, dim=0), points(2, 3, 4)),
        case(operation, "last axis, kept", lambda o, x: reduce(x, dim=-1, keepdim=True), points(2, 3, 4)),
        case(operation, "two axes", lambda o, x: reduce(x, dim=(0, -1)), points(2, 3, 4)),
        case(operation, "two axes, kept", lambda o, x: reduce(x, dim=(1, 2), keepdim=True), points(2, 3, 4)),
        case(operation, "in NumPy's words", lambda o, x: reduce(x, axis=1, keepdims=True), points(2, 3, 4)),
        case(operation, "empty beside it", lambda o, x: reduce(x, dim=1), points(0, 3)),
        case(operation, "used again", lambda o, x: x * reduce(x, dim=0, keepdim=True), points(3, 4)),
    ]


REDUCTIONS = [
    *_reduction("sum", lambda x, **k: x.sum(**k), normal),
    *_reduction("mean", lambda x, **k: x.mean(**k), normal),
    *_reduction("var", lambda x, **k: x.var(**k), normal),
    *_reduction("std", lambda x, **k: x.std(**k), normal),
    *_reduction("amax", lambda x, **k: x.amax(**k), distinct),
    *_reduction("amin", lambda x, **k: x.amin(**k), distinct),
    *_reduction("logsumexp", lambda x, **k: x.logsumexp(**k), normal),
    case("sum", "without words", lambda o, x: x.sum(), normal(2, 3)),
    case("sum", "of a number", lambda o, x: x.sum() * x, normal()),
    case("sum", "over an empty axis", lambda o, x: x.sum(dim=0), normal(0, 3)),
    case("sum", "over a size-1 axis", lambda o, x: x.sum(dim=1), normal(2, 1, 3)),
    case("mean", "without words", lambda o, x: x.mean(), normal(2, 3)),
    case("mean", "over a size-1 axis", lambda o, x: x.mean(dim=1), normal(2, 1, 3)),
    case("var", "without words", lambda o, x: x.var(), normal(2, 3)),
    case("var", "biased", lambda o, x: x.var(dim=1, unbiased=False), normal(2, 3)),
    case("var", "biased, of one", lambda o, x: x.var(dim=1, unbiased=False), normal(2, 1)),
    case("std", "without words", lambda o, x: x.std(), normal(2, 3)),
    case("std", "biased, kept", lambda o, x: x.std(dim=0, unbiased=False, keepdim=True), normal(4, 3)),
    case("amax", "ties share", lambda o, x: o.cat([x, x], dim=1).amax(dim=1), distinct(2, 3)),
    case("amin", "ties share", lambda o, x: o.cat([x, x], dim=1).amin(dim=1), distinct(2, 3)),
    case("max", "of everything", lambda o, x: x.max(), distinct(3, 4)),
    case("max", "along an axis", lambda o, x: x.max(dim=1).values, distinct(3, 4)),
    case("max", "along an axis, kept", lambda o, x: x.max(dim=0, keepdim=True).values, distinct(3, 4)),
    case("min", "of everything", lambda o, x: x.min(), distinct(3, 4)),
    case("min", "along an axis", lambda o, x: x.min(dim=-1).values, distinct(3, 4)),
    case("logsumexp", "large numbers", lambda o, x: (x * 300).logsumexp(dim=1), normal(2, 4)),
    case("cumsum", "first axis", lambda o, x: x.cumsum(0), normal(4, 3)),
    case("cumsum", "last axis", lambda o, x: x.cumsum(dim=-1), normal(2, 1, 5)),
    case("cumsum", "empty", lambda o, x: x.cumsum(dim=0), normal(0, 3)),
]

# ---------------------------------------------------------------------------------------------------- shapes

SHAPES = [
    case("reshape", "joined axes", lambda o, x: x.reshape(2, 6), normal(2, 3, 2)),
    case("reshape", "a size worked out", lambda o, x: x.view(-1, 3), normal(2, 3, 2)),
    case("reshape", "to a number", lambda o, x: x.reshape(()), normal(1, 1)),
    case("reshape", "from a number", lambda o, x: x.reshape(1, 1), normal()),
    case("reshape", "empty", lambda o, x: x.reshape(3, 0), normal(0, 2)),
    case("reshape", "squeeze", lambda o, x: x.squeeze(), normal(1, 3, 1)),
    case("reshape", "squeeze one axis", lambda o, x: x.squeeze(0), normal(1, 3, 1)),
    case("reshape", "unsqueeze", lambda o, x: x.unsqueeze(-1) * x.unsqueeze(0), normal(3)),
    case("reshape", "flatten", lambda o, x: x.flatten(1), normal(2, 3, 2)),
    case("reshape", "of a transpose", lambda o, x: x.transpose(0, 1).reshape(6), normal(2, 3)),
    case("permute", "three axes", lambda o, x: x.permute(2, 0, 1), normal(2, 3, 4)),
    case("permute", "transpose", lambda o, x: x.transpose(-1, -2), normal(2, 3, 4)),
    case("permute", "T", lambda o, x: x.T, normal(2, 3)),
    case("permute", "mT", lambda o, x: x.mT, normal(2, 3, 4)),
    case("permute", "of its own transpose", lambda o, x: x.transpose(0, 1) * x, normal(3, 3)),
    case("permute", "empty", lambda o, x: x.permute(1, 0), normal(0, 3)),
    case("expand", "a size-1 axis", lambda o, x: x.expand(2, 4), normal(2, 1)),
    case("expand", "a new axis", lambda o, x: x.expand(3, -1, -1), normal(2, 1)),
    case("expand", "a number", lambda o, x: x.expand(2, 3), normal()),
    case("expand", "to nothing", lambda o, x: x.expand(0, 3), normal(1, 3)),
    case("pad", "last axis", lambda o, x: o.pad(x, (1, 2)), normal(2, 3)),
    case("pad", "two axes, a value", lambda o, x: o.pad(x, (0, 1, 2, 0), value=3.0), normal(2, 3)),
    case("pad", "nothing", lambda o, x: o.pad(x, (0, 0)), normal(2, 3)),
    case("pad", "empty", lambda o, x: o.pad(x, (1, 1)), normal(2, 0)),
    case("cat", "first axis", lambda o, x, y: o.cat([x, y]), normal(2, 3), normal(1, 3)),
    case("cat", "last axis", lambda o, x, y, z: o.cat([x, y, z], dim=-1), normal(2, 3), normal(2, 1), normal(2, 2)),
    case("cat", "with an empty one", lambda o, x, y: o.cat([x, y], dim=1), normal(2, 0), normal(2, 2)),
    case("cat", "itself", lambda o, x: o.cat([x, 2 * x, x], dim=0), normal(2, 3)),
    case("cat", "with float32", lambda o, x: o.cat([x, o.tensor(FLOAT32)], dim=0), normal(2, 3)),
    case("stack", "first axis", lambda o, x, y: o.stack([x, y]), normal(2, 3), normal(2, 3)),
    case("stack", "last axis", lambda o, x, y: o.stack([x, y], dim=-1), normal(2, 3), normal(2, 3)),
    case("stack", "numbers", lambda o, x, y: o.stack([x, y, x]), normal(), normal()),
    case("split", "equal pieces", lambda o, x: x.split(2, dim=1), normal(3, 4)),
    case("split", "a smaller last piece", lambda o, x: x.split(2, dim=0), normal(3, 4)),
    case("split", "listed sizes, one left out", lambda o, x: x.split([1, 3, 2], dim=1)[1:], normal(2, 6)),
    case("split", "chunk", lambda o, x: x.chunk(3, dim=-1), normal(2, 7)),
    case("split", "unbind", lambda o, x: x.unbind(dim=1), normal(2, 3)),
    case("flip", "one axis", lambda o, x: x.flip(1), normal(2, 3)),
    case("flip", "two axes", lambda o, x: x.flip(0, -1), normal(2, 3, 2)),
]

# -------------------------------------------------------------------------------------------------- indexing

INDEXING = [
    case("getitem", "a row", lambda o, x: x[1], normal(3, 4)),
    case("getitem", "an element", lambda o, x: x[1, -1], normal(3, 4)),
    case("getitem", "slices", lambda o, x: x[1:, ::2], normal(3, 4)),
    case("getitem", "dots and a new axis", lambda o, x: x[..., None, 1], normal(2, 3, 4)),
    case("getitem", "an empty slice", lambda o, x: x[2:2], normal(3, 4)),
    case("getitem", "repeated indices", lambda o, x: x[o.tensor(np.array([0, 2, 2, 0, 2]))], normal(3, 4)),
    case("getitem", "a matrix of indices", lambda o, x: x[o.tensor(np.array([[0, 1], [1, 1]]))], normal(3, 2)),
    case(
        "getitem",
        "pairs of indices, repeated",
        lambda o, x: x[o.tensor(np.array([0, 1, 1, 0])), o.tensor(np.array([2, 0, 0, 2]))],
        normal(3, 4),
    ),
    case("getitem", "negative indices", lambda o, x: x[:, o.tensor(np.array([-1, 0, 3]))], normal(2, 4)),
    case("getitem", "a mask", lambda o, x: x[o.tensor(MASK)], normal(2, 3)),
    case("getitem", "a mask that takes nothing", lambda o, x: x[o.tensor(np.zeros((2, 3), bool))], normal(2, 3)),
    case("getitem", "a mask of rows", lambda o, x: x[o.tensor(np.array([True, False, True]))], normal(3, 2)),
    case("getitem", "no indices", lambda o, x: x[o.tensor(np.zeros(0, np.int64))], normal(3, 2)),
    case("getitem", "used twice", lambda o, x: x[0] * x[1:], normal(3, 4)),
    case("gather", "last axis", lambda o, x: o.gather(x, 1, o.tensor(np.array([[0, 2], [2, 2]]))), normal(2, 3)),
    case("gather", "first axis", lambda o, x: x.gather(0, o.tensor(np.array([[1, 1, 1], [0, 1, 0]]))), normal(3, 3)),
    case("gather", "nothing", lambda o, x: x.gather(1, o.tensor(np.zeros((2, 0), np.int64))), normal(2, 3)),
    case(
        "scatter_add",
        "repeated",
        lambda o, x, y: o.scatter_add(x, 1, o.tensor(np.array([[0, 0, 2], [1, 1, 1]])), y),
        normal(2, 4),
        normal(2, 3),
    ),
    case(
        "scatter_add",
        "first axis, part of the source",
        lambda o, x, y: o.scatter_add(x, 0, o.tensor(np.array([[2, 0]])), y),
        normal(3, 2),
        normal(2, 3),
    ),
    case("where", "equal shapes", lambda o, x, y: o.where(o.tensor(MASK), x, y), normal(2, 3), normal(2, 3)),
    case("where", "broadcast", lambda o, x, y: o.where(o.tensor(MASK), x, y), normal(2, 1), normal(3)),
    case("where", "a number on one side", lambda o, x: o.where(o.tensor(MASK), x, 0.0), normal(2, 3)),
    case("where", "the condition broadcast", lambda o, x, y: o.where(o.tensor(MASK[0]), x, y), normal(2, 3), normal()),
    case("where", "masked fill", lambda o, x: x.masked_fill(o.tensor(MASK), -5.0), normal(2, 3)),
    case("where", "masked fill with -inf, then softmax", lambda o, x: (
        x.masked_fill(o.tensor(MASK), -np.inf).softmax(dim=-1)
    ), normal(2, 3)),
]  # fmt: skip

# -------------------------------------------------------------------------------------------------- products

PRODUCTS = [
    case("matmul", "matrices", lambda o, x, y: x @ y, normal(3, 4), normal(4, 2)),
    case("matmul", "a vector on the right", lambda o, x, y: x @ y, normal(3, 4), normal(4)),
    case("matmul", "a vector on the left", lambda o, x, y: x @ y, normal(4), normal(4, 2)),
    case("matmul", "two vectors", lambda o, x, y: x @ y, normal(4), normal(4)),
    case("matmul", "batches", lambda o, x, y: x @ y, normal(2, 3, 4), normal(2, 4, 2)),
    case("matmul", "a batch and a matrix", lambda o, x, y: x @ y, normal(2, 3, 4), normal(4, 2)),
    case("matmul", "a matrix and a batch", lambda o, x, y: x @ y, normal(3, 4), normal(2, 4, 2)),
    case("matmul", "batches that broadcast", lambda o, x, y: x @ y, normal(2, 1, 3, 2), normal(3, 2, 2)),
    case("matmul", "a batch and a vector", lambda o, x, y: x @ y, normal(2, 3, 4), normal(4)),
    case("matmul", "a vector and a batch", lambda o, x, y: x @ y, normal(3), normal(2, 3, 4)),
    case("matmul", "size-1 axes", lambda o, x, y: x @ y, normal(1, 1), normal(1, 3)),
    case("matmul", "nothing to add up", lambda o, x, y: x @ y, normal(2, 0), normal(0, 3)),
    case("matmul", "no rows", lambda o, x, y: x @ y, normal(0, 3), normal(3, 2)),
    case("matmul", "an empty batch", lambda o, x, y: x @ y, normal(0, 2, 3), normal(3, 2)),
    case("matmul", "with its transpose", lambda o, x: x @ x.transpose(-1, -2), normal(2, 3, 4)),
    case("matmul", "with itself", lambda o, x: x @ x @ x, normal(3, 3)),
    case("matmul", "only the left one counts", lambda o, x: x @ o.tensor(np.eye(4)[:, :2]), normal(3, 4)),
    case("matmul", "only the right one counts", lambda o, x: o.tensor(np.ones((2, 5, 3))) @ x, normal(3, 4)),
    case("linear", "a batch", lambda o, x, w, b: o.linear(x, w, b), normal(2, 3, 4), normal(5, 4), normal(5)),
    case("linear", "without bias", lambda o, x, w: o.linear(x, w), normal(3, 4), normal(2, 4)),
    case("linear", "one vector", lambda o, x, w, b: o.linear(x, w, b), normal(4), normal(2, 4), normal(2)),
    case("linear", "no rows", lambda o, x, w, b: o.linear(x, w, b), normal(0, 4), normal(2, 4), normal(2)),
    case("linear", "one weight twice", lambda o, x, w: o.linear(o.linear(x, w).tanh(), w), normal(2, 3), normal(3, 3)),
    case("affine", "a batch", lambda o, x, w, b: o.affine(x, w, b), normal(2, 3, 4), normal(4, 5), normal(5)),
    case("affine", "without bias", lambda o, x, w: o.affine(x, w), normal(3, 4), normal(4, 2)),
    case("affine", "one vector", lambda o, x, w, b: o.affine(x, w, b), normal(4), normal(4, 2), normal(2)),
    case("einsum", "a product", lambda o, x, y: o.einsum("ij,jk->ik", x, y), normal(2, 3), normal(3, 4)),
    case("einsum", "batched", lambda o, x, y: o.einsum("bij,bkj->bik", x, y), normal(2, 3, 4), normal(2, 2, 4)),
    case("einsum", "a letter of one operand", lambda o, x, y: o.einsum("ij,k->k", x, y), normal(2, 3), normal(4)),
    case("einsum", "outer", lambda o, x, y: o.einsum("i,j->ji", x, y), normal(2), normal(3)),
    case("einsum", "a sum", lambda o, x: o.einsum("ijk->j", x), normal(2, 3, 4)),
    case("einsum", "to a number", lambda o, x, y: o.einsum("i,i->", x, y), normal(4), normal(4)),
    case("einsum", "without an arrow", lambda o, x, y: o.einsum("ij,jk", x, y), normal(2, 3), normal(3, 2)),
    case(
        "einsum",
        "three operands",
        lambda o, x, y, z: o.einsum("ij,jk,kl->il", x, y, z),
        normal(2, 3),
        normal(3, 2),
        normal(2, 4),
    ),
    case("einsum", "itself", lambda o, x: o.einsum("ij,kj->ik", x, x), normal(2, 3)),
    case("einsum", "empty", lambda o, x, y: o.einsum("ij,jk->ik", x, y), normal(2, 0), normal(0, 3)),
]  # fmt: skip

# ----------------------------------------------------------------------------------------------------- norms

NORMS = [
    case("softmax", "last axis", lambda o, x: x.softmax(dim=-1), normal(3, 4)),
    case("softmax", "first axis", lambda o, x: x.softmax(dim=0), normal(3, 4)),
    case("softmax", "a middle axis", lambda o, x: o.softmax(x, dim=1), normal(2, 3, 4)),
    case("softmax", "one element", lambda o, x: x.softmax(dim=1), normal(3, 1)),
    case("softmax", "a number", lambda o, x: x.softmax(dim=0), normal()),
    case("softmax", "empty", lambda o, x: x.softmax(dim=-1), normal(0, 3)),
    case("softmax", "large numbers", lambda o, x: (x + 800).softmax(dim=-1), normal(3, 4)),
    case("log_softmax", "last axis", lambda o, x: x.log_softmax(dim=-1), normal(3, 4)),
    case("log_softmax", "first axis", lambda o, x: x.log_softmax(dim=0), normal(3, 4)),
    case("log_softmax", "one element", lambda o, x: x.log_softmax(dim=1), normal(3, 1)),
    case("log_softmax", "empty", lambda o, x: x.log_softmax(dim=1), normal(0, 3)),
    case("log_softmax", "large numbers", lambda o, x: (x * 300).log_softmax(dim=-1), normal(3, 4)),
    case(
        "layer_norm",
        "with weight and bias",
        lambda o, x, w, b: o.layer_norm(x, (4,), w, b),
        normal(2, 3, 4),
        normal(4),
        normal(4),
    ),
    case("layer_norm", "bare", lambda o, x: o.layer_norm(x, (4,)), normal(3, 4)),
    case("layer_norm", "weight only", lambda o, x, w: o.layer_norm(x, (4,), w), normal(3, 4), normal(4)),
    case("layer_norm", "one row", lambda o, x, w, b: o.layer_norm(x, (4,), w, b), normal(4), normal(4), normal(4)),
    case(
        "layer_norm",
        "two axes, a large eps",
        lambda o, x, w, b: o.layer_norm(x, (3, 2), w, b, eps=0.1),
        normal(4, 3, 2),
        normal(3, 2),
        normal(3, 2),
    ),
    case("layer_norm", "width 1", lambda o, x, w: o.layer_norm(x, (1,), w), normal(3, 1), normal(1)),
    case("layer_norm", "no rows", lambda o, x, w: o.layer_norm(x, (4,), w), normal(0, 4), normal(4)),
    case("rms_norm", "with weight", lambda o, x, w: o.rms_norm(x, (4,), w), normal(2, 3, 4), normal(4)),
    case("rms_norm", "bare, a large eps", lambda o, x: o.rms_norm(x, (4,), eps=0.1), normal(3, 4)),
    case("rms_norm", "two axes", lambda o, x, w: o.rms_norm(x, (3, 2), w), normal(4, 3, 2), normal(3, 2)),
    case("rms_norm", "no rows", lambda o, x, w: o.rms_norm(x, (4,), w), normal(0, 4), normal(4)),
]  # fmt: skip

# --------------------------------------------------------------------------------------------------- network

IDS = np.array([[0, 3, 3], [1, 3, 0]])
TARGETS = np.array([2, 0, 2, -100])
CAUSAL = np.tril(np.ones((3, 3), bool))
PADDING = np.array([[True, True, False, False], [True, True, True, True]])  # (B, Tk)
SOME = np.array([[True, False, True, True], [False, False, False, False], [True, True, True, False]])  # (Tq, Tk)


def _attention(name: str, *shapes: tuple[int, ...], **options: Any) -> Case:
    """softmax(Q Kᵀ/√d) V; a fourth shape is an additive mask that is differentiated as well."""

    def call(o: Any, q: Any, k: Any, v: Any, *bias: Any) -> Any:
        given = {key: o.tensor(x) if isinstance(x, np.ndarray) else x for key, x in options.items()}
        if bias:
            given["attn_mask"] = bias[0]
        return o.scaled_dot_product_attention(q, k, v, **given)

    return case("scaled_dot_product_attention", name, call, *(normal(*shape) for shape in shapes))


NETWORK = [
    case("embedding", "repeated ids", lambda o, w: o.embedding(o.tensor(IDS), w), normal(5, 3)),
    case("embedding", "one id", lambda o, w: o.embedding(o.tensor(np.array(2)), w), normal(5, 3)),
    case("embedding", "no ids", lambda o, w: o.embedding(o.tensor(np.zeros((2, 0), np.int64)), w), normal(5, 3)),
    case("embedding", "tied", lambda o, w: o.linear(o.embedding(o.tensor(IDS), w).tanh(), w), normal(5, 3)),
    case("dropout", "while training", lambda o, x: seeded(lambda: o.dropout(x, 0.4, training=True)), normal(4, 5)),
    case("dropout", "of everything", lambda o, x: o.dropout(x, 1.0) + x, normal(2, 3)),
    case("dropout", "not while evaluating", lambda o, x: o.dropout(x, 0.4, training=False) * x, normal(4, 5)),
    case("cross_entropy", "mean", lambda o, x: o.cross_entropy(x, o.tensor(TARGETS[:3])), normal(3, 4)),
    case("cross_entropy", "some ignored", lambda o, x: o.cross_entropy(x, o.tensor(TARGETS)), normal(4, 3)),
    case("cross_entropy", "sum", lambda o, x: o.cross_entropy(x, o.tensor(TARGETS), reduction="sum"), normal(4, 3)),
    case("cross_entropy", "each", lambda o, x: o.cross_entropy(x, o.tensor(TARGETS), reduction="none"), normal(4, 3)),
    case(
        "cross_entropy",
        "label smoothing",
        lambda o, x: o.cross_entropy(x, o.tensor(TARGETS[:3]), label_smoothing=0.1),
        normal(3, 4),
    ),
    case(
        "cross_entropy",
        "another ignore_index",
        lambda o, x: o.cross_entropy(x, o.tensor(TARGETS[:3]), ignore_index=2, reduction="sum"),
        normal(3, 4),
    ),
    case(
        "cross_entropy",
        "classes second of three axes",
        lambda o, x: o.cross_entropy(x, o.tensor(IDS), reduction="none"),
        normal(2, 4, 3),
    ),
    case("cross_entropy", "one row", lambda o, x: o.cross_entropy(x, o.tensor(np.array(1))), normal(4)),
    case("cross_entropy", "large logits", lambda o, x: o.cross_entropy(300 * x, o.tensor(TARGETS)), normal(4, 3)),
    case("cross_entropy", "used again", lambda o, x: o.cross_entropy(x, o.tensor(TARGETS)) * x, normal(4, 3)),
    _attention("plain", (2, 2, 3, 4), (2, 2, 5, 4), (2, 2, 5, 3)),
    _attention("causal", (2, 2, 3, 4), (2, 2, 3, 4), (2, 2, 3, 4), is_causal=True),
    _attention("causal, more keys than queries", (1, 2, 3, 4), (1, 2, 5, 4), (1, 2, 5, 4), is_causal=True),
    _attention("causal, more queries than keys", (1, 1, 4, 2), (1, 1, 2, 2), (1, 1, 2, 2), is_causal=True),
    _attention("a scale", (1, 2, 3, 4), (1, 2, 3, 4), (1, 2, 3, 4), scale=0.7),
    _attention("a boolean mask, one row full", (2, 1, 3, 2), (2, 1, 4, 2), (2, 1, 4, 2), attn_mask=SOME),
    _attention("an additive mask", (2, 2, 3, 2), (2, 2, 3, 2), (2, 2, 3, 2), (3, 3)),
    _attention("an additive mask of every head", (2, 2, 3, 2), (2, 2, 3, 2), (2, 2, 3, 2), (2, 2, 3, 3)),
    _attention("an additive mask that broadcasts", (2, 2, 3, 2), (2, 2, 3, 2), (2, 2, 3, 2), (2, 1, 1, 3)),
    _attention("additive and causal", (2, 2, 3, 2), (2, 2, 3, 2), (2, 2, 3, 2), (2, 3, 3), is_causal=True),
    _attention("padding", (2, 2, 3, 2), (2, 2, 4, 2), (2, 2, 4, 2), key_padding_mask=PADDING),
    _attention("padding and causal", *[(2, 2, 4, 2)] * 3, key_padding_mask=PADDING, is_causal=True),
    _attention("grouped heads", (2, 4, 3, 2), (2, 2, 3, 2), (2, 2, 3, 2), enable_gqa=True),
    _attention("one key head, causal", (1, 3, 3, 2), (1, 1, 3, 2), (1, 1, 3, 2), enable_gqa=True, is_causal=True),
    _attention("without a head axis", (2, 3, 4), (2, 3, 4), (2, 3, 4), is_causal=True),
    _attention("without batch and head", (3, 4), (5, 4), (5, 2)),
    _attention("five axes", (2, 1, 2, 3, 2), (2, 1, 2, 3, 2), (2, 1, 2, 3, 2)),
    _attention("one position", (2, 2, 1, 2), (2, 2, 1, 2), (2, 2, 1, 2), is_causal=True),
    _attention("no queries", (1, 1, 0, 2), (1, 1, 3, 2), (1, 1, 3, 2)),
    case(
        "scaled_dot_product_attention",
        "with dropout",
        lambda o, q, k, v: seeded(lambda: o.scaled_dot_product_attention(q, k, v, dropout_p=0.3, is_causal=True)),
        normal(2, 2, 3, 2),
        normal(2, 2, 3, 2),
        normal(2, 2, 3, 2),
    ),
    case(
        "scaled_dot_product_attention",
        "of itself",
        lambda o, x: o.scaled_dot_product_attention(x, x, x, is_causal=True),
        normal(1, 2, 3, 4),
    ),
]  # fmt: skip

# ---------------------------------------------------------------------------------------------------- graphs


def _two_layers(o: Any, x: Any, w1: Any, b1: Any, w2: Any) -> Any:
    return ((x @ w1 + b1).tanh() @ w2).log_softmax(dim=-1)


def _chain(o: Any, x: Any) -> Any:
    for _ in range(30):
        x = x + 0.1 * x.tanh()
    return x


GRAPHS = [
    case("graph", "a diamond", lambda o, x: x * x.exp() + x.sin() * x, normal(2, 3)),
    case("graph", "a diamond of diamonds", lambda o, x: (lambda y: y * y + y)(x * x + x), normal(2, 3)),
    case("graph", "a number everywhere", lambda o, a, x: (a * x + a).sum() * a - a / (2 + a * a), normal(), normal(3)),
    case("graph", "broadcast, then itself", lambda o, x: (x.unsqueeze(0) - x.unsqueeze(1)) ** 2, normal(3)),
    case("graph", "several outputs", lambda o, x: (x.exp(), x * 2, x.sum()), normal(2, 3)),
    case("graph", "one output unused", lambda o, x: x.split(2, dim=1)[0] * 3, normal(2, 4)),
    case("graph", "two layers", _two_layers, normal(3, 2), normal(2, 4), normal(4), normal(4, 3)),
    case("graph", "a residual chain", _chain, normal(2, 3)),
    case("graph", "a row scaled by its norm", lambda o, x: x / (x * x).sum(dim=-1, keepdim=True).sqrt(), normal(2, 3)),
]  # fmt: skip


class Operations:
    """`minilm.ops`, with the two operations that their public functions leave out where there is nothing to do."""

    def __getattr__(self, name: str) -> Any:
        return getattr(ops, name)

    @staticmethod
    def cast_anyway(x: Any) -> Any:
        return apply(OPERATIONS["cast"], x, dtype=x.dtype)

    @staticmethod
    def stay_here(x: Any) -> Any:
        return apply(devices.TO_DEVICE, x, device="cpu", home="cpu")
