"""The backward pass: where gradients end up, what they share memory with, and what it says when it cannot run."""

from __future__ import annotations

import numpy as np
import pytest

import minilm
from minilm import Tensor
from minilm.tensor import Operation, apply


def leaf(*values):
    return Tensor(np.array(values, dtype=np.float64), requires_grad=True)


def values(tensor):
    return None if tensor is None else tensor.tolist()


# ------------------------------------------------------------------------------------------------ .grad


def test_gradients_add_up_in_leaves():
    x = leaf(1.0, 2.0)
    for times in (1, 2, 3):
        (x * 3.0).sum().backward()
        assert values(x.grad) == [3.0 * times] * 2
    x.grad = None
    (x * x).sum().backward()
    assert values(x.grad) == [2.0, 4.0]


def test_only_leaves_that_require_a_gradient_get_one():
    x, y = leaf(1.0, 2.0), Tensor(np.array([3.0, 4.0]))
    middle = x * y
    middle.sum().backward()
    assert values(x.grad) == [3.0, 4.0] and y.grad is None and middle.grad is None
    assert x.is_leaf and y.is_leaf and not middle.is_leaf
    assert middle.requires_grad and not (y * 2.0).requires_grad


def test_the_gradient_of_a_leaf_itself():
    x = leaf(1.0, 2.0)
    x.backward(np.array([5.0, 6.0]))
    assert values(x.grad) == [5.0, 6.0]


def test_backward_takes_a_cotangent():
    x = leaf(1.0, 2.0)
    for cotangent in ([10.0, 100.0], np.array([10.0, 100.0]), Tensor([10.0, 100.0])):
        x.grad = None
        (x * x).backward(cotangent)
        assert values(x.grad) == [20.0, 400.0]
    with pytest.raises(ValueError, match=r"gradient has shape \(3,\), the tensor \(2,\)"):
        (x * x).backward(np.ones(3))
    with pytest.raises(ValueError, match="they must agree"):
        (x * x).sum().backward(np.ones(1))


def test_one_element_needs_no_cotangent_and_more_do():
    x = leaf(1.0, 2.0)
    (x * x)[:1].backward()
    assert values(x.grad) == [2.0, 0.0]
    with pytest.raises(RuntimeError, match=r"single number, and this tensor has shape \(2,\)"):
        (x * x).backward()


def test_nothing_to_go_back_to():
    with pytest.raises(RuntimeError, match="requires_grad=True"):
        Tensor(1.0).backward()
    x = leaf(1.0)
    with pytest.raises(RuntimeError, match="no_grad"):
        with minilm.no_grad():
            y = x * 2.0
        y.backward()
    with pytest.raises(RuntimeError, match="nothing to go back to"):
        x.detach().backward()


def test_gradients_have_the_type_of_their_tensor():
    x = Tensor([1.0, 2.0], requires_grad=True)  # Python floats are float32
    assert x.dtype == np.float32
    (x * np.array([1.0, 2.0])).sum().backward()  # an array keeps its type: float64
    assert x.grad.dtype == np.float32
    with pytest.raises(ValueError, match=r"must be None or a Tensor of shape \(2,\)"):
        x.grad = Tensor([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="must be None or a Tensor"):
        x.grad = np.ones(2)


@pytest.mark.parametrize("data", [3, [1, 2], True, [True, False], np.arange(3), np.zeros(2, dtype=bool)])
def test_only_floats_can_require_a_gradient(data):
    with pytest.raises(TypeError, match="only float tensors can require a gradient"):
        Tensor(data, requires_grad=True)
    assert Tensor(data).dtype.kind in "ib"


# ------------------------------------------------------------------------------------------------ graphs


def test_diamonds_and_many_uses():
    x = leaf(2.0)
    a = x * x
    (a * a + a * 3.0 + x).backward(np.ones(1))  # x⁴ + 3x² + x
    assert values(x.grad) == [4 * 8 + 6 * 2 + 1]
    y = leaf(1.0, 1.0)
    total = y
    for _ in range(99):
        total = total + y
    total.sum().backward()
    assert values(y.grad) == [100.0, 100.0]
    z = leaf(3.0)
    (z * z * z).backward(np.ones(1))
    assert values(z.grad) == [27.0]


def test_numbers_without_axes_add_up_too():
    """0-d NumPy arithmetic gives scalars, which += does not change: both uses must be counted."""
    x = Tensor(np.array(3.0), requires_grad=True)
    (x * x * x).backward()
    assert x.grad.item() == 27.0 and isinstance(x.grad.data, np.ndarray)
    x.grad = None
    for _ in range(3):
        ((x + x) * x + x).backward()
    assert x.grad.item() == 3 * (4 * 3 + 1) and isinstance(x.grad.data, np.ndarray)
    x.grad = Tensor(np.array(1.0))
    (x * 1.0).backward()
    assert x.grad.item() == 2.0 and isinstance(x.grad.data, np.ndarray)


def test_the_order_of_the_backward_pass_waits_for_every_consumer():
    """A short path and a long one meet: the node must run once, after both have arrived."""
    calls = []

    def backward(saved, grad):
        calls.append(grad.copy())
        return (grad,)

    watched = Operation("watched", lambda x: (x * 1, ()), backward)
    x = leaf(1.0)
    a = apply(watched, x)
    b = a
    for _ in range(5):
        b = b * 2.0
    (a + b).sum().backward()
    assert len(calls) == 1 and calls[0].tolist() == [33.0] and values(x.grad) == [33.0]


def test_backward_is_asked_only_for_what_is_needed():
    asked = []

    def backward(saved, grad, needs):
        asked.append(needs)
        return grad, None

    operation = Operation("asks", lambda a, b: (a + b, ()), backward)
    x = leaf(1.0)
    apply(operation, x, Tensor(np.array([2.0]))).sum().backward()
    apply(operation, x, np.array([2.0])).sum().backward()
    assert asked == [(True, False), (True, False)] and values(x.grad) == [2.0]


def test_an_operation_that_answers_wrongly_is_told_so():
    x = leaf(1.0, 2.0)
    for backward, words in (
        (lambda saved, grad: grad, "must return a tuple of 1 gradients"),
        (lambda saved, grad: (grad, grad), "must return a tuple of 1 gradients .* got 2"),
        (lambda saved, grad: (grad[:1],), r"returned a gradient of shape \(1,\) for an input of shape \(2,\)"),
    ):
        with pytest.raises(RuntimeError, match=words):
            apply(Operation("sloppy", lambda x: (x * 2, ()), backward), x).sum().backward()


# ------------------------------------------------------------------------------------------------ twice


def test_a_second_backward_says_what_to_do():
    x = leaf(1.0, 2.0)
    y = x.exp().sum()
    y.backward()
    with pytest.raises(RuntimeError, match="backward a second time.*retain_graph=True"):
        y.backward()


def test_retain_graph_allows_a_second_backward():
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward(retain_graph=True)
    y.backward()
    assert values(x.grad) == [6.0, 12.0]
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()


def test_two_losses_over_one_graph_need_retain_graph():
    x = leaf(1.0, 2.0)
    shared = x.exp()
    first, second = shared.sum(), (shared * 2.0).sum()
    first.backward(retain_graph=True)
    second.backward()
    np.testing.assert_allclose(x.grad.data, 3 * np.exp([1.0, 2.0]))
    first, second = (shared := x.exp()).sum(), (shared * 2.0).sum()
    first.backward()
    with pytest.raises(RuntimeError, match="second time through 'exp'"):
        second.backward()


# ------------------------------------------------------------------------------------------------ not only leaves


def test_retain_grad_keeps_the_gradient_of_a_result():
    x = leaf(1.0, 2.0)
    h = x * 3.0
    h.retain_grad()
    (h * h).sum().backward()
    assert values(h.grad) == [6.0, 12.0] and values(x.grad) == [18.0, 36.0]
    x.retain_grad()  # a leaf keeps its own anyway
    with pytest.raises(RuntimeError, match="requires no gradient"):
        Tensor([1.0]).retain_grad()


def test_grad_with_respect_to_anything_stores_nothing():
    x, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    h = x * w
    loss = (h * h).sum()
    dh, dx, dw = minilm.grad(loss, [h, x, w], retain_graph=True)
    assert values(dh) == [6.0, 16.0] and values(dx) == [18.0, 64.0] and values(dw) == [6.0, 32.0]
    assert x.grad is None and w.grad is None and h.grad is None
    assert not dx.requires_grad and isinstance(dx, Tensor)
    (only,) = minilm.grad(loss, h)
    assert values(only) == [6.0, 16.0]
    with pytest.raises(RuntimeError, match="second time"):
        minilm.grad(loss, x)


def test_grad_of_the_output_itself_and_of_several_outputs():
    x = leaf(1.0, 2.0)
    y = x * 2.0
    assert values(minilm.grad(y, y, grad_outputs=np.array([5.0, 7.0]))[0]) == [5.0, 7.0]
    y, z = x * 2.0, x.sum()
    (dx,) = minilm.grad([y, z], x, grad_outputs=[np.array([1.0, 10.0]), None])
    assert values(dx) == [3.0, 21.0]
    with pytest.raises(ValueError, match="2 outputs need 2 grad_outputs, got 1"):
        minilm.grad([x * 2.0, x.sum()], x, grad_outputs=[None])


def test_grad_says_which_input_is_unused():
    x, y = leaf(1.0), leaf(2.0)
    with pytest.raises(RuntimeError, match="do not depend on input 1.*allow_unused=True"):
        minilm.grad((x * 2.0).sum(), [x, y])
    dx, dy = minilm.grad((x * 2.0).sum(), [x, y], allow_unused=True)
    assert values(dx) == [2.0] and dy is None
    with pytest.raises(RuntimeError, match="input 0 does not require a gradient"):
        minilm.grad((x * 2.0).sum(), Tensor([1.0]))


def test_grad_of_one_input_named_twice():
    x = leaf(1.0, 2.0)
    first, second = minilm.grad((x * x).sum(), [x, x])
    assert values(first) == values(second) == [2.0, 4.0]


# ------------------------------------------------------------------------------------------------ memory of gradients


def every_gradient(use):
    x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
    cotangent = np.array([10.0, 20.0])
    z = use(x, y)
    z.retain_grad()
    z.backward(cotangent)
    arrays = [x.data, y.data, z.data, cotangent] + [t.grad.data for t in (x, y, z) if t.grad is not None]
    return cotangent, arrays


@pytest.mark.parametrize("use", [
    lambda x, y: x + y, lambda x, y: x - y, lambda x, y: x + y + x, lambda x, y: x.reshape(2) + y.reshape(1, 2)[0],
    lambda x, y: minilm.stack([x, y])[1] + x, lambda x, y: (x + y).clone(), lambda x, y: x.expand(3, 2)[0] + y,
    lambda x, y: minilm.cat([x, y])[:2] + minilm.cat([y, x])[:2], lambda x, y: x.T + y.flip(0),
    lambda x, y: minilm.where(np.array([True, False]), x, y), lambda x, y: x.scatter_add(0, [0, 1], y),
])  # fmt: skip
def test_gradients_share_memory_with_nothing(use):
    cotangent, arrays = every_gradient(use)
    assert cotangent.tolist() == [10.0, 20.0], "the caller's array was written to"
    for i, array in enumerate(arrays):
        assert not any(np.shares_memory(array, other) for other in arrays[:i])


def test_changing_one_gradient_leaves_the_others():
    x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
    cotangent = np.array([1.0, 1.0])
    (x + y).backward(cotangent)
    x.grad.data[...] = 99.0
    assert values(y.grad) == [1.0, 1.0] and cotangent.tolist() == [1.0, 1.0]
    y.grad.mul_(7.0)
    assert values(x.grad) == [99.0, 99.0]


def test_a_gradient_that_the_user_put_there_is_not_written_to():
    x = leaf(1.0, 2.0)
    mine = np.array([1.0, 1.0])
    x.grad = Tensor(mine)
    (x * 2.0).sum().backward()
    assert values(x.grad) == [3.0, 3.0] and mine.tolist() == [1.0, 1.0]


def test_read_only_cotangents_are_enough():
    x = leaf(1.0, 2.0)
    cotangent = np.ones(2)
    cotangent.flags.writeable = False
    ((x + x) * x).backward(cotangent)
    assert values(x.grad) == [4.0, 8.0]


def test_a_failing_backward_leaves_leaves_alone():
    def backward(saved, grad):
        raise ZeroDivisionError

    x = leaf(1.0, 2.0)
    bad = apply(Operation("bad", lambda x: (x * 2, ()), backward), x)
    with pytest.raises(ZeroDivisionError):
        ((x * 3.0) + bad).sum().backward()
    assert x.grad is None
