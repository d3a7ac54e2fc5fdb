"""Integers, mixed types and values changed in place: what an operation makes of them, or says about them."""

from __future__ import annotations

import numpy as np
import pytest

import minilm
from minilm import Tensor, ops


@pytest.mark.parametrize("name", ["exp", "log", "sqrt", "sin", "cos", "tanh", "sigmoid", "erf", "gelu", "silu"])
def test_functions_of_integers_give_the_default_floats(name):
    out = getattr(ops, name)(Tensor([1, 2]))
    assert out.dtype == np.float32
    np.testing.assert_allclose(out.numpy(), getattr(ops, name)(Tensor([1.0, 2.0])).numpy())


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x.mean(),
        lambda x: x.var(),
        lambda x: x.std(),
        lambda x: ops.layer_norm(x),
        lambda x: ops.rms_norm(x),
        lambda x: ops.cross_entropy(x, [0, 1]),
        lambda x: ops.scaled_dot_product_attention(x, x, x),
    ],
)
def test_what_needs_floats_says_so(call):
    with pytest.raises(TypeError, match="needs floats, and this tensor holds int64: convert it with x.float"):
        call(Tensor([[1, 2], [3, 4]]))


def test_numbers_do_not_widen():
    assert ops.where(Tensor([True, False]), 1, 2.5).dtype == np.float32
    assert Tensor([1, 5]).clip(0.5, 2.5).tolist() == [1.0, 2.5]
    out = ops.scatter_add(Tensor([1, 2]), 0, [0, 0], Tensor([1.5, 1.0]))
    assert out.dtype == np.float32 and out.tolist() == [3.5, 2.0]


@pytest.mark.parametrize(
    "use",
    [
        lambda w, ids: ops.embedding(ids, w),
        lambda w, ids: w[ids],
        lambda w, ids: ops.gather(w.sum(1), 0, ids),
        lambda w, ids: ops.scatter_add(ops.zeros(3), 0, ids, w.sum(1)),
        lambda w, ids: ops.where(ids == 1, 0.0, w.sum(1)),
    ],
)
def test_an_index_changed_in_place_never_gives_a_wrong_gradient(use):
    w, ids = minilm.randn(3, 2, requires_grad=True), Tensor([0, 2, 1])
    use(w, ids).sum().backward()
    wanted = w.grad.numpy()
    w.grad = None
    out = use(w, ids).sum()
    ids.fill_(2)
    try:
        out.backward()
    except RuntimeError as error:
        assert "changed in place" in str(error)
    else:
        np.testing.assert_array_equal(w.grad.numpy(), wanted)


def test_numpy_words_work_everywhere():
    x = Tensor([[1.0, 3.0, 2.0], [4.0, 0.0, 1.0]])
    assert x.sum(np.int64(1)).tolist() == [6.0, 5.0]
    assert x.softmax(np.int64(1)).shape == (2, 3)
    assert x.argmax(axis=1, keepdims=True).tolist() == [[1], [0]]
    assert x.cumsum(axis=1).tolist() == [[1, 4, 6], [4, 4, 5]]
    assert (x > 0).all(dim=1).tolist() == [True, False]
    assert (x > 3).any(axis=0, keepdims=True).tolist() == [[True, False, False]]
    assert f"{x.sum():.1f}" == "11.0"
