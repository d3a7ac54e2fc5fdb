"""PyTorch's names, arguments and defaults, NumPy's beside them, and errors that say what was expected."""

from __future__ import annotations

import numpy as np
import pytest

import minilm
from minilm import Tensor, ops


def t(*shape, dtype=np.float32):
    return Tensor(np.arange(1, 1 + int(np.prod(shape)), dtype=dtype).reshape(shape))


# ------------------------------------------------------------------------------------------------ types


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (1.5, np.float32), ([1.0, 2.0], np.float32), ([[1, 2.5]], np.float32), (3, np.int64), ([1, 2], np.int64),
        (True, np.bool_), ([True, False], np.bool_), (np.ones(2), np.float64), (np.float64(1.0), np.float64),
        (np.ones(2, np.float16), np.float16), (np.arange(3, dtype=np.int32), np.int32), ([], np.float32),
    ],
)  # fmt: skip
def test_types_of_new_tensors(data, dtype):
    for make in (Tensor, minilm.tensor):
        assert make(data).dtype == dtype
        assert make(data, dtype=np.float64).dtype == np.float64


def test_tensor_keeps_memory_and_minilm_tensor_copies():
    array = np.ones(2)
    assert np.shares_memory(Tensor(array).data, array)
    assert not np.shares_memory(minilm.tensor(array).data, array)
    assert not np.shares_memory(minilm.tensor(Tensor(array)).data, array)
    assert isinstance(Tensor(np.float64(2.0)).data, np.ndarray)


@pytest.mark.parametrize("data", [None, "text", [1.0, None], np.array([1j]), np.array(["a"]), {"a": 1}])
def test_what_holds_no_numbers_is_refused(data):
    with pytest.raises(TypeError, match="numbers|holds floats, integers or booleans"):
        Tensor(data)


def test_ragged_lists_are_refused():
    with pytest.raises(ValueError, match="unequal lengths"):
        Tensor([[1.0, 2.0], [3.0]])


def test_python_numbers_do_not_widen():
    x = t(2)
    for y in (x + 1, x * 2.0, 2.0 - x, x / 3, x**2, 2.0**x, x + np.float64(1.0), x.clip(0.0, 1.0), x * True,
              x.maximum(0.0), ops.where(x > 1, x, 0.0), x.masked_fill(x > 1, -np.inf), x.mean(), x.var(), x.std(),
              x.softmax(dim=0), x.gelu(), x.erf(), x.sigmoid(), x.logsumexp(dim=0)):  # fmt: skip
        assert y.dtype == np.float32
    assert (t(2, dtype=np.int64) + 1).dtype == np.int64
    assert (t(2, dtype=np.int64) + 1.0).dtype == np.float32
    assert (t(2, dtype=np.int64) / 2).dtype == np.float32
    assert (t(2) + t(2, dtype=np.int64)).dtype == np.float32
    assert (t(2, dtype=np.float64) * t(2)).dtype == np.float64
    assert t(2, dtype=np.int64).sum().dtype == np.int64


def test_conversions():
    x = Tensor([1.5, 0.0])
    assert x.double().dtype == np.float64 and x.long().dtype == np.int64 and x.bool().tolist() == [True, False]
    assert x.half().dtype == np.float16 and x.double().float().dtype == np.float32
    assert x.to(np.float64).dtype == np.float64 and x.to("float64").dtype == np.float64 and x.to("cpu") is x
    assert x.float() is x
    leaf = Tensor([1.5], requires_grad=True)
    (leaf.double() * 2.0).sum().backward()
    assert leaf.grad.dtype == np.float32 and leaf.grad.tolist() == [2.0]


def test_numpy_arrays_on_the_left_do_not_lose_the_graph():
    x = Tensor(np.ones(2), requires_grad=True)
    for y in (np.ones(2) + x, np.ones(2) - x, np.ones(2) * x, np.ones(2) / x, np.ones((2, 2)) @ x, np.float64(2) * x):
        assert isinstance(y, Tensor) and y.requires_grad


# ------------------------------------------------------------------------------------------------ defaults


def test_var_and_std_are_unbiased_unless_asked():
    x = Tensor([1.0, 2.0, 4.0])
    assert x.var().item() == pytest.approx(7 / 3) and x.var(unbiased=False).item() == pytest.approx(14 / 9)
    assert x.var(correction=0).item() == pytest.approx(14 / 9) and x.var(0, False).item() == pytest.approx(14 / 9)
    assert x.std().item() == pytest.approx((7 / 3) ** 0.5)
    assert x.std(dim=0, unbiased=False, keepdim=True).shape == (1,)


@pytest.mark.parametrize("name", ["sum", "mean", "var", "std", "amax", "amin", "logsumexp"])
def test_reductions_take_dim_and_axis(name):
    x = t(2, 3, 4)
    reduce = getattr(x, name)
    assert reduce().shape == ()
    assert reduce(dim=1).shape == reduce(axis=1).shape == reduce(1).shape == reduce(-2).shape == (2, 4)
    assert reduce(dim=(0, 2)).shape == reduce(axis=(0, -1)).shape == (3,)
    assert reduce(dim=1, keepdim=True).shape == reduce(axis=1, keepdims=True).shape == (2, 1, 4)
    assert reduce(dim=1).tolist() == getattr(ops, name)(x, axis=1).tolist()
    with pytest.raises(TypeError, match="dim or axis, not both"):
        reduce(dim=1, axis=1)
    with pytest.raises(IndexError, match=r"dim 3 does not exist in a tensor with 3 dimensions"):
        reduce(dim=3)
    with pytest.raises(ValueError, match="named twice"):
        reduce(dim=(0, -3))


@pytest.mark.parametrize("name", ["max", "min"])
def test_max_and_min_along_a_dim_give_values_and_indices(name):
    x = Tensor([[3.0, 1.0, 3.0], [0.0, 5.0, -1.0]])
    values, indices = getattr(x, name)(dim=1)
    assert values.tolist() == ([3.0, 5.0] if name == "max" else [1.0, -1.0])
    assert indices.tolist() == ([0, 1] if name == "max" else [1, 2])
    result = getattr(x, name)(axis=0, keepdims=True)
    assert result.values.shape == result.indices.shape == (1, 3)
    assert getattr(x, name)().item() == (5.0 if name == "max" else -1.0)
    with pytest.raises(ValueError, match="empty"):
        getattr(Tensor(np.zeros((0, 3))), name)()
    with pytest.raises(TypeError, match="amax and amin take several"):
        getattr(x, name)(dim=(0, 1))


def test_argmax():
    x = Tensor([[3.0, 1.0], [0.0, 5.0]])
    assert x.argmax().item() == 3 and x.argmax(dim=0).tolist() == [0, 1] and x.argmax(axis=1).tolist() == [0, 1]
    assert x.argmax(dim=1, keepdim=True).shape == (2, 1) and x.argmin(dim=-1).tolist() == [1, 0]
    assert x.argmax(dim=1).dtype == np.int64


def test_shapes_are_given_as_numbers_or_as_a_tuple():
    x = t(2, 6)
    for y in (x.reshape(3, 4), x.reshape((3, 4)), x.view(3, -1), x.reshape([3, 4]), ops.reshape(x, 3, 4)):
        assert y.shape == (3, 4)
    assert x.permute(1, 0).shape == x.permute((1, 0)).shape == x.T.shape == x.transpose(-1, -2).shape == (6, 2)
    assert x.unsqueeze(0).expand(5, -1, 6).shape == (5, 2, 6)
    assert minilm.zeros(2, 3).shape == minilm.ones((2, 3)).shape == (2, 3)
    assert x.flatten().shape == (12,) and t(2, 3, 4).flatten(1).shape == (2, 12)
    assert t(2, 3, 4).flatten(0, 1).shape == (6, 4)
    assert x.size() == (2, 6) and x.size(-1) == 6 and x.numel() == 12 and x.dim() == x.ndim == 2 and len(x) == 2
    assert t(1, 3, 1).squeeze().shape == (3,) and t(1, 3, 1).squeeze(1).shape == (1, 3, 1)
    assert x.device == "cpu"


def test_split_and_chunk_cut_as_pytorch_does():
    x = t(7)
    assert [p.shape[0] for p in x.split(3)] == [3, 3, 1] and [p.shape[0] for p in x.split([1, 6])] == [1, 6]
    assert [p.shape[0] for p in x.chunk(3)] == [3, 3, 1] and [p.shape[0] for p in x.chunk(5)] == [2, 2, 2, 1]
    assert len(t(3, 2).unbind()) == 3 and len(t(3, 2).unbind(dim=1)) == 2


def test_a_matrix_can_be_walked_through():
    rows = list(t(3, 2))
    assert [row.tolist() for row in rows] == [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    with pytest.raises(TypeError, match="0-d tensor has no length"):
        len(Tensor(1.0))


def test_truth_and_numbers():
    assert bool(Tensor(1.0)) and not bool(Tensor([0]))
    assert float(Tensor([2.5])) == 2.5 and int(Tensor(3)) == 3 and [10, 20, 30][Tensor(1)] == 20
    with pytest.raises(ValueError, match="ambiguous"):
        bool(Tensor([1.0, 2.0]))
    with pytest.raises(TypeError, match="only an integer tensor with one element"):
        [1, 2][Tensor(1.0)]
    assert (Tensor([1.0]) == None) is False and (Tensor([1.0]) != None) is True  # noqa: E711


def test_triangles_keep_infinities_apart():
    """The usual way to a causal mask: no 0 · ∞ may appear."""
    mask = minilm.triu(minilm.full((3, 3), -np.inf), 1)
    assert mask.tolist() == [[0.0, -np.inf, -np.inf], [0.0, 0.0, -np.inf], [0.0, 0.0, 0.0]]
    assert minilm.tril(minilm.ones(2, 2, dtype=bool)).tolist() == [[True, False], [True, True]]
    assert minilm.tril(t(2, 2), -1).tolist() == [[0.0, 0.0], [3.0, 0.0]]


def test_dropout_scales_what_it_keeps():
    minilm.seed(0)
    x = minilm.ones(10_000)
    y = ops.dropout(x, 0.25).numpy()
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs((y == 0).mean() - 0.25) < 0.02
    assert ops.dropout(x, 0.25, training=False) is x and ops.dropout(x, 0.0) is x
    assert not ops.dropout(x, 1.0).data.any()
    with pytest.raises(ValueError, match="0 … 1, not 1.5"):
        ops.dropout(x, 1.5)


def test_attention_that_may_see_nothing_is_zero():
    q = Tensor(np.ones((1, 1, 2, 4), np.float32), requires_grad=True)
    mask = np.array([[True, True], [False, False]])
    out = ops.scaled_dot_product_attention(q, q, q, attn_mask=mask)
    out.sum().backward()
    assert out.data[0, 0, 1].tolist() == [0.0] * 4 and np.isfinite(q.grad.data).all()


# ------------------------------------------------------------------------------------------------ errors


X = Tensor(np.ones((2, 3), np.float32))

ERRORS = {
    "matmul": (lambda: X @ X, ValueError, r"\(2, 3\) @ \(2, 3\) do not fit: 3 columns meet 2 rows"),
    "matmul of a number": (lambda: X @ Tensor(2.0), ValueError, r"multiply by a number with \*"),
    "linear": (lambda: ops.linear(X, Tensor(np.ones((4, 2)))), ValueError, "must have the 2 inputs of weight"),
    "linear bias": (lambda: ops.linear(X, X, X), ValueError, r"bias must have shape \(2,\)"),
    "einsum operands": (lambda: ops.einsum("ij,jk->ik", X), ValueError, "names 2 operands, got 1"),
    "einsum axes": (lambda: ops.einsum("ijk->i", X), ValueError, "must name each of the 2 axes"),
    "einsum sizes": (lambda: ops.einsum("ij,ij->i", X, X.T), ValueError, "axis 'i' has sizes 2 and 3"),
    "einsum dots": (lambda: ops.einsum("...i->i", X), ValueError, r"instead of '...'"),
    "reshape": (lambda: X.reshape(4, 2), ValueError, r"6 elements of shape \(2, 3\) do not fit the shape \(4, 2\)"),
    "permute": (lambda: X.permute(0), ValueError, "each of the 2 dims once"),
    "transpose": (lambda: X.transpose(0, 2), IndexError, "dim 2 does not exist"),
    "expand": (lambda: X.expand(4, 3), ValueError, "only axes of size 1 can be repeated"),
    "expand, fewer": (lambda: X.expand(3), ValueError, "fewer dimensions"),
    "unsqueeze": (lambda: X.unsqueeze(4), IndexError, "dim 4 does not exist"),
    "cat shapes": (lambda: ops.cat([X, X.T]), ValueError, "equal sizes elsewhere"),
    "cat nothing": (lambda: ops.cat([]), ValueError, "at least one tensor"),
    "stack shapes": (lambda: ops.stack([X, X.T]), ValueError, "tensors of one shape"),
    "split sizes": (lambda: X.split([1, 1], dim=1), ValueError, "add up to 2, but dim 1 has size 3"),
    "split by nothing": (lambda: X.split(0), ValueError, "at least 1, not 0"),
    "chunks": (lambda: X.chunk(0), ValueError, "at least 1, not 0"),
    "pad": (lambda: ops.pad(X, (1,)), ValueError, "pairs"),
    "pad mode": (lambda: ops.pad(X, (1, 1), mode="reflect"), ValueError, "'constant', not 'reflect'"),
    "softmax": (lambda: X.softmax(), TypeError, "dim=-1"),
    "softmax dim": (lambda: X.softmax(dim=2), IndexError, "dim 2 does not exist"),
    "gelu": (lambda: ops.gelu(X, approximate="fast"), ValueError, "'none' .* or 'tanh'.* not 'fast'"),
    "clip": (lambda: X.clip(), ValueError, "min, max or both"),
    "layer_norm": (lambda: ops.layer_norm(X, (2,)), ValueError, r"last axes of the input, whose shape is \(2, 3\)"),
    "layer_norm weight": (lambda: ops.layer_norm(X, (3,), X), ValueError, r"must have shape \(3,\), got \(2, 3\)"),
    "float index": (lambda: X[1.0], TypeError, "an index is an integer, a slice or an array"),
    "float index array": (lambda: X[np.array([0.0])], TypeError, "integers or booleans, not float64"),
    "index too large": (lambda: X[5], IndexError, "out of bounds"),
    "gather axes": (lambda: X.gather(0, np.array([0])), ValueError, "index has 1 dimensions, the tensor 2"),
    "gather index": (lambda: X.gather(0, np.array([[2]])), IndexError, r"outside 0 … 1 \(dim 0"),
    "gather type": (lambda: X.gather(0, np.array([[0.5]])), TypeError, "integers, not float64"),
    "scatter_add": (lambda: X.scatter_add(0, np.array([[0, 0]]), Tensor([[1.0]])), ValueError, "does not fit into src"),
    "where": (lambda: ops.where(X, X, X), TypeError, "must be boolean, not float32"),
    "masked_fill": (lambda: X.masked_fill(np.ones((2, 3)), 0.0), TypeError, "must be boolean"),
    "embedding id": (lambda: ops.embedding([2], X), IndexError, r"id 2 lies outside the table of 2 rows"),
    "embedding negative": (lambda: ops.embedding([-1], X), IndexError, "id -1 lies outside"),
    "embedding type": (lambda: ops.embedding([0.5], X), TypeError, "ids must be integers"),
    "cross_entropy class": (lambda: ops.cross_entropy(X, [0, 3]), IndexError, r"class 3 lies outside 0 … 2"),
    "cross_entropy shape": (lambda: ops.cross_entropy(X, [0]), ValueError, r"need targets of shape \(2,\), got \(1,\)"),
    "cross_entropy type": (lambda: ops.cross_entropy(X, [0.0, 1.0]), TypeError, "class indices"),
    "cross_entropy reduction": (lambda: ops.cross_entropy(X, [0, 1], reduction="max"), ValueError, "'mean', 'sum' or"),
    "cross_entropy smoothing": (lambda: ops.cross_entropy(X, [0, 1], label_smoothing=2), ValueError, "0 … 1, not 2"),
    "mean of integers": (lambda: Tensor([1, 2]).mean(), TypeError, r"x\.float\(\)"),
    "broadcast": (lambda: X + Tensor([1.0, 2.0]), ValueError, r"\(2,3\).*\(2,\)"),
    "attention axes": (
        lambda: ops.scaled_dot_product_attention(X, X.unsqueeze(0), X), ValueError, "equal numbers of axes",
    ),
    "attention heads": (
        lambda: ops.scaled_dot_product_attention(*(minilm.ones(1, h, 2, 4) for h in (4, 2, 2))),
        ValueError, "4 query heads and 2 key heads: pass enable_gqa=True",
    ),
    "attention mask": (
        lambda: ops.scaled_dot_product_attention(X, X, X, attn_mask=np.ones((3, 3), bool)),
        ValueError, "does not broadcast",
    ),
    "attention mask type": (
        lambda: ops.scaled_dot_product_attention(X, X, X, attn_mask=np.ones((2, 2), int)),
        TypeError, "boolean .* or float",
    ),
    "attention padding": (
        lambda: ops.scaled_dot_product_attention(X, X, X, key_padding_mask=np.ones((2, 2), bool)),
        ValueError, r"shape \(B, Tk\) = \(1, 2\), got \(2, 2\)",
    ),
    "attention dropout": (lambda: ops.scaled_dot_product_attention(X, X, X, dropout_p=1.0), ValueError, "1 excluded"),
    "device": (lambda: X.to("cuda:x"), (ValueError, RuntimeError), "cuda|CuPy"),
    "seed": (lambda: minilm.seed(-1), ValueError, "non-negative integer"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_errors_name_what_was_expected(name):
    call, kind, words = ERRORS[name]
    with pytest.raises(kind, match=words):
        call()
