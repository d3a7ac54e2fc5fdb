"""Products of matrices: matmul, linear, einsum."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minilm import kernels
from minilm.ops.arithmetic import one_type, operands, unbroadcast
from minilm.tensor import Array, Tensor, apply, define


def _as_rows(x: Array) -> Array:
    """(…, n) as one matrix; the number of rows is counted, because −1 has no meaning where n is 0."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


# --- matmul


def matmul_forward(a: Array, b: Array) -> tuple[Array, tuple[Any, ...]]:
    # A vector is a one-row matrix on the left and a one-column matrix on the right.
    rows = a[None, :] if a.ndim == 1 else a
    columns = b[:, None] if b.ndim == 1 else b
    out = kernels.matmul(rows, columns)
    if a.ndim == 1:
        out = out[..., 0, :]
    if b.ndim == 1:
        out = out[..., 0]
    return out, (a, b)


def matmul_backward(
    saved: tuple[Any, ...], grad: Array, needs: tuple[bool, ...]
) -> tuple[Array | None, Array | None]:
    """With C = A B:  dA = dC Bᵀ,  dB = Aᵀ dC."""
    a, b = saved
    rows = a[None, :] if a.ndim == 1 else a
    columns = b[:, None] if b.ndim == 1 else b
    if b.ndim == 1:
        grad = grad[..., None]
    if a.ndim == 1:
        grad = grad[..., None, :]
    da = db = None
    if needs[0]:
        da = unbroadcast(kernels.matmul(grad, columns, transpose_b=True), rows.shape).reshape(a.shape)
    if needs[1]:
        if columns.ndim == 2:  # one product over all rows of all batches
            db = kernels.matmul(_as_rows(rows), _as_rows(grad), transpose_a=True).reshape(b.shape)
        else:
            db = unbroadcast(kernels.matmul(rows, grad, transpose_a=True), columns.shape).reshape(b.shape)
    return da, db


# --- linear: x Wᵀ + bias


def linear_forward(x: Array, weight: Array, bias: Array | None) -> tuple[Array, tuple[Any, ...]]:
    return kernels.matmul(x, weight, transpose_b=True, bias=bias), (x, weight)


def linear_backward(
    saved: tuple[Any, ...], grad: Array, needs: tuple[bool, ...]
) -> tuple[Array | None, Array | None, Array | None]:
    """With Y = X Wᵀ + b:  dX = dY W,  dW = dYᵀ X,  db = Σ_rows dY."""
    x, weight = saved
    rows, row_grads = _as_rows(x), _as_rows(grad)
    dx = kernels.matmul(grad, weight) if needs[0] else None
    dweight = kernels.matmul(row_grads, rows, transpose_a=True) if needs[1] else None
    dbias = np.sum(row_grads, axis=0) if needs[2] else None
    return dx, dweight, dbias


# --- conv1d of GPT-2: x W + bias, with W (in, out)


def affine_forward(x: Array, weight: Array, bias: Array | None) -> tuple[Array, tuple[Any, ...]]:
    return kernels.matmul(x, weight, bias=bias), (x, weight)


def affine_backward(
    saved: tuple[Any, ...], grad: Array, needs: tuple[bool, ...]
) -> tuple[Array | None, Array | None, Array | None]:
    """With Y = X W + b:  dX = dY Wᵀ,  dW = Xᵀ dY,  db = Σ_rows dY."""
    x, weight = saved
    rows, row_grads = _as_rows(x), _as_rows(grad)
    dx = kernels.matmul(grad, weight, transpose_b=True) if needs[0] else None
    dweight = kernels.matmul(rows, row_grads, transpose_a=True) if needs[1] else None
    dbias = np.sum(row_grads, axis=0) if needs[2] else None
    return dx, dweight, dbias


# --- einsum


def einsum_forward(*arrays: Array, terms: tuple[str, ...], output: str) -> tuple[Array, tuple[Any, ...]]:
    out = np.einsum(f"{','.join(terms)}->{output}", *arrays, optimize=len(arrays) > 1)
    return out, (terms, output, *arrays)


def einsum_backward(saved: tuple[Any, ...], grad: Array, needs: tuple[bool, ...]) -> tuple[Array | None, ...]:
    """The gradient of one operand is an einsum of the output's gradient with all other operands.

    A letter that appears in this operand alone was summed away: its gradient is the same all along that axis.
    """
    terms, output, *arrays = saved
    grads: list[Array | None] = []
    for i, (term, array) in enumerate(zip(terms, arrays, strict=True)):
        if not needs[i]:
            grads.append(None)
            continue
        others = [t for j, t in enumerate(terms) if j != i]
        present = set(output).union(*others)
        reachable = "".join(letter for letter in term if letter in present)
        g = np.einsum(
            f"{','.join([output, *others])}->{reachable}",
            grad,
            *(a for j, a in enumerate(arrays) if j != i),
            optimize=len(arrays) > 1,
        )
        shape = [n if letter in present else 1 for letter, n in zip(term, array.shape, strict=True)]
        grads.append(np.broadcast_to(g.reshape(shape), array.shape))
    return tuple(grads)


MATMUL = define("matmul", matmul_forward, matmul_backward)
LINEAR = define("linear", linear_forward, linear_backward)
AFFINE = define("affine", affine_forward, affine_backward)
EINSUM = define("einsum", einsum_forward, einsum_backward)


def matmul(a: Any, b: Any) -> Tensor:
    """a @ b as in NumPy and PyTorch: (…, M, K) @ (…, K, N) with broadcast leading axes; 1-D operands are vectors."""
    a, b = operands(a, b)
    if not isinstance(a, Tensor) or not isinstance(b, Tensor) or a.ndim == 0 or b.ndim == 0:
        raise ValueError("matmul needs tensors with at least one dimension; multiply by a number with *")
    inner = b.shape[0] if b.ndim == 1 else b.shape[-2]
    if a.shape[-1] != inner:
        raise ValueError(f"matmul: {a.shape} @ {b.shape} do not fit: {a.shape[-1]} columns meet {inner} rows")
    return apply(MATMUL, *one_type(a, b))


def _check_affine(x: Tensor, weight: Tensor, bias: Tensor | None, inner: int, outer: int, what: str) -> None:
    if x.ndim == 0 or weight.ndim != 2 or x.shape[-1] != inner:
        raise ValueError(f"{what}: the last axis of x {x.shape} must have the {inner} inputs of weight {weight.shape}")
    if bias is not None and bias.shape != (outer,):
        raise ValueError(f"{what}: the bias must have shape ({outer},), got {bias.shape}")


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x Wᵀ + b with x (…, in), weight (out, in), bias (out,) → (…, out)."""
    _check_affine(x, weight, bias, weight.shape[-1], weight.shape[0], "linear")
    if x.ndim == 1:
        return linear(x.unsqueeze(0), weight, bias).squeeze(0)
    return apply(LINEAR, *one_type(x, weight, bias))


def affine(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W + b with x (…, in), weight (in, out), bias (out,) → (…, out): GPT-2's layout of a linear layer."""
    _check_affine(x, weight, bias, weight.shape[0], weight.shape[-1], "affine")
    if x.ndim == 1:
        return affine(x.unsqueeze(0), weight, bias).squeeze(0)
    return apply(AFFINE, *one_type(x, weight, bias))


def einsum(equation: str, *tensors: Any) -> Tensor:
    """Sums of products by named axes: einsum("bij,bjk->bik", a, b) is a batched matrix product.

    Each operand names its axes by letters, none of them twice; letters that the output leaves out are summed over.
    "..." is not supported: name the axes.
    """
    listed = [t if isinstance(t, Tensor) else Tensor(t) for t in tensors]
    left, arrow, output = equation.replace(" ", "").partition("->")
    terms = tuple(left.split(","))
    if "." in equation:
        raise ValueError(f"einsum: name every axis by a letter instead of '...', in {equation!r}")
    if len(terms) != len(listed):
        raise ValueError(f"einsum: {equation!r} names {len(terms)} operands, got {len(listed)}")
    if not arrow:  # as in NumPy: the letters that appear once, in alphabetical order
        letters = "".join(terms)
        output = "".join(sorted(letter for letter in set(letters) if letters.count(letter) == 1))
    sizes: dict[str, int] = {}
    for term, t in zip(terms, listed, strict=True):
        if len(term) != t.ndim or len(set(term)) != len(term):
            raise ValueError(f"einsum: {term!r} must name each of the {t.ndim} axes of shape {t.shape} once")
        for letter, n in zip(term, t.shape, strict=True):
            if sizes.setdefault(letter, n) != n:
                raise ValueError(f"einsum: axis {letter!r} has sizes {sizes[letter]} and {n} in {equation!r}")
    if len(set(output)) != len(output) or not set(output) <= set(sizes):
        raise ValueError(f"einsum: the output {output!r} must name axes of the operands, each once")
    return apply(EINSUM, *listed, terms=terms, output=output)
