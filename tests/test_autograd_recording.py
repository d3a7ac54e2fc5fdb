"""What is recorded and what is not: no_grad, detach, threads; and changes in place, noticed where they matter."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import minilm
from minilm import Tensor, no_grad, ops
from minilm.tensor import Operation, apply


def leaf(*values):
    return Tensor(np.array(values, dtype=np.float64), requires_grad=True)


# ------------------------------------------------------------------------------------------------ no_grad


def test_no_grad_as_a_context():
    x = leaf(1.0, 2.0)
    with no_grad():
        assert not minilm.is_grad_enabled()
        y = x * 2.0
        with minilm.enable_grad():
            assert (x * 2.0).requires_grad
        with no_grad():
            pass
        assert not minilm.is_grad_enabled()
    assert minilm.is_grad_enabled()
    assert not y.requires_grad and y.is_leaf
    with minilm.set_grad_enabled(False):
        assert not (x * 2.0).requires_grad


def test_no_grad_ends_when_an_error_leaves_it():
    with pytest.raises(KeyError):
        with no_grad():
            raise KeyError
    assert minilm.is_grad_enabled()

    @no_grad()
    def fails():
        raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert minilm.is_grad_enabled()


@pytest.mark.parametrize("decorator", [no_grad(), no_grad], ids=["called", "bare"])
def test_no_grad_as_a_decorator(decorator):
    @decorator
    def double(x, times=2.0):
        """Twice x."""
        assert not minilm.is_grad_enabled()
        return x * times

    assert double.__name__ == "double" and double.__doc__ == "Twice x."
    assert not double(leaf(1.0)).requires_grad and double(leaf(1.0), times=3.0).tolist() == [3.0]
    assert minilm.is_grad_enabled()


def test_a_decorated_function_may_call_itself():
    @no_grad()
    def countdown(n):
        assert not minilm.is_grad_enabled()
        return n if n == 0 else countdown(n - 1)

    assert countdown(5) == 0 and minilm.is_grad_enabled()


def test_one_no_grad_object_can_be_used_again_and_inside_itself():
    block = no_grad()
    with block:
        with block:
            pass
        assert not minilm.is_grad_enabled()
    assert minilm.is_grad_enabled()


def test_no_grad_on_a_generator_holds_inside_it_only():
    @no_grad()
    def steps(n):
        for i in range(n):
            assert not minilm.is_grad_enabled()
            yield i
        return "done"

    seen = []
    for i in steps(3):
        assert minilm.is_grad_enabled()
        seen.append(i)
    assert seen == [0, 1, 2]

    def outer():
        return (yield from steps(2))

    generator = outer()
    assert [next(generator), next(generator)] == [0, 1]
    with pytest.raises(StopIteration) as stop:
        next(generator)
    assert stop.value.value == "done" and minilm.is_grad_enabled()


def test_a_decorated_generator_takes_send_throw_and_close():
    closed = []

    @no_grad()
    def echo():
        received = None
        try:
            while True:
                assert not minilm.is_grad_enabled()
                try:
                    received = yield received
                except KeyError:
                    received = "caught"
        finally:
            closed.append(minilm.is_grad_enabled())

    generator = echo()
    assert next(generator) is None
    assert generator.send("hello") == "hello"
    assert generator.throw(KeyError) == "caught"
    assert minilm.is_grad_enabled()
    generator.close()
    assert closed == [False]


def test_no_grad_belongs_to_one_thread():
    inside, checked, seen = threading.Event(), threading.Event(), []

    def other():
        inside.wait(5)
        seen.append(minilm.is_grad_enabled())
        with no_grad():
            seen.append((leaf(1.0) * 2.0).requires_grad)
        seen.append((leaf(1.0) * 2.0).requires_grad)
        checked.set()

    thread = threading.Thread(target=other)
    thread.start()
    with no_grad():
        inside.set()
        checked.wait(5)
        seen.append(minilm.is_grad_enabled())
    thread.join()
    assert seen == [True, False, True, False] and minilm.is_grad_enabled()


def test_threads_build_and_use_graphs_side_by_side():
    results, errors = {}, []

    def work(k):
        try:
            x = leaf(float(k))
            for _ in range(50):
                y = x
                for _ in range(20):
                    y = y * 1.0 + x
                y.sum().backward()
            results[k] = x.grad.item()
        except Exception as error:  # reported in the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and results == dict.fromkeys(range(4), 50 * 21.0)


# ------------------------------------------------------------------------------------------------ leaving the graph


def test_detach_shares_the_numbers_and_leaves_the_graph():
    x = leaf(1.0, 2.0)
    y = (x * 2.0).detach()
    assert not y.requires_grad and y.is_leaf and y.tolist() == [2.0, 4.0]
    assert np.shares_memory(x.detach().data, x.data)
    (x * x.detach()).sum().backward()
    assert x.grad.tolist() == [1.0, 2.0]


def test_item_numpy_and_tolist():
    x = leaf(1.5)
    assert (x * 2.0).item() == 3.0 and isinstance((x * 2.0).item(), float)
    assert Tensor(3).item() == 3 and isinstance(Tensor(3).item(), int) and Tensor(True).item() is True
    assert np.shares_memory(x.numpy(), x.data) and x.tolist() == [1.5]
    with pytest.raises(ValueError, match=r"one element, and this one has shape \(2,\)"):
        leaf(1.0, 2.0).item()


def test_requires_grad_is_switched_on_leaves_only():
    x = Tensor([1.0, 2.0])
    assert x.requires_grad_() is x and x.requires_grad
    assert not x.requires_grad_(False).requires_grad
    y = leaf(1.0) * 2.0
    with pytest.raises(RuntimeError, match=r"detach\(\)"):
        y.requires_grad_(False)
    with pytest.raises(TypeError, match="int64"):
        Tensor([1, 2]).requires_grad_()


def test_integer_results_carry_no_gradient():
    x = leaf(1.0, 3.0, 2.0)
    for result in (x.argmax(), x > 1.5, x == 3.0, x.long(), x.max(dim=0).indices, x.isnan()):
        assert not result.requires_grad and result.dtype.kind in "ib"


# ------------------------------------------------------------------------------------------------ changes in place


IN_PLACE = {
    "add_": lambda t: t.add_(1.0),
    "sub_": lambda t: t.sub_(1.0),
    "mul_": lambda t: t.mul_(2.0),
    "div_": lambda t: t.div_(2.0),
    "+=": lambda t: t.__iadd__(1.0),
    "-=": lambda t: t.__isub__(1.0),
    "*=": lambda t: t.__imul__(2.0),
    "/=": lambda t: t.__itruediv__(2.0),
    "zero_": lambda t: t.zero_(),
    "fill_": lambda t: t.fill_(3.0),
    "copy_": lambda t: t.copy_(np.array([5.0, 6.0])),
    "t[0] =": lambda t: t.__setitem__(0, 9.0),
    "a view": lambda t: t[1:].mul_(2.0),
    "a reshaped view": lambda t: t.reshape(1, 2).T.zero_(),
    "a detached view": lambda t: t.detach().zero_(),
    "an expanded row of a view": lambda t: t.reshape(2, 1)[1].add_(1.0),
    "bump_version": lambda t: t.bump_version(),
}


@pytest.mark.parametrize("change", IN_PLACE.values(), ids=IN_PLACE.keys())
@pytest.mark.parametrize("which", ["input", "output"])
def test_changing_a_saved_value_is_an_error_in_backward(change, which):
    x = leaf(1.0, 2.0)
    y = x.log() if which == "input" else x.exp()  # log saves its input, exp its output
    with no_grad():
        change(x if which == "input" else y)
    with pytest.raises(RuntimeError, match=f"'{'log' if which == 'input' else 'exp'}' saved.*changed in place"):
        y.sum().backward()
    assert x.grad is None


@pytest.mark.parametrize("change", IN_PLACE.values(), ids=IN_PLACE.keys())
def test_changing_what_was_not_saved_is_no_error(change):
    x = leaf(1.0, 2.0)
    y = x.exp()  # saves its output
    z = x + 1.0  # saves nothing
    with no_grad():
        change(x)
        change(z)
    y.sum().backward()
    z.sum().backward()
    np.testing.assert_allclose(x.grad.data, np.exp([1.0, 2.0]) + 1.0)


@pytest.mark.parametrize("use", [
    lambda x: x[0], lambda x: x[np.array([0, 0])], lambda x: x.sum(), lambda x: x.reshape(1, 2), lambda x: x.mean(),
    lambda x: x.expand(3, 2), lambda x: ops.cat([x, x]), lambda x: -x, lambda x: x - 1.0, lambda x: x.clone(),
    lambda x: x.transpose(0, -1), lambda x: ops.pad(x, (1, 1)), lambda x: x.gather(0, [1]), lambda x: x.cumsum(0),
    lambda x: x.flip(0), lambda x: ops.where(np.array([True, False]), x, 0.0), lambda x: x.relu(),
    lambda x: x.softmax(dim=0), lambda x: ops.embedding(np.array([1]), x.reshape(2, 1)),
])  # fmt: skip
def test_operations_that_need_only_shapes_or_results_do_not_hold_on_to_their_input(use):
    x = leaf(1.0, 2.0)
    y = use(x).clone()
    y = y if y.ndim == 0 else y.sum()
    with no_grad():
        x.mul_(2.0)
    y.backward()
    assert x.grad is not None


def test_a_change_before_the_value_is_saved_is_fine():
    x = leaf(1.0, 2.0)
    with no_grad():
        x.mul_(2.0)
    x.log().sum().backward()
    assert x.grad.tolist() == [0.5, 0.25]


def test_the_leaf_of_a_graph_is_not_changed_in_place():
    x = leaf(1.0, 2.0)
    for name, change in IN_PLACE.items():
        if name in ("a detached view", "bump_version"):
            continue
        with pytest.raises(RuntimeError, match="in place.*no_grad"):
            change(x)
    assert x.tolist() == [1.0, 2.0]
    with no_grad():
        x -= 0.5
    assert x.tolist() == [0.5, 1.5] and x.requires_grad and x.is_leaf


def test_a_result_of_a_graph_is_replaced_by_operators_and_refused_by_methods():
    x = leaf(1.0, 2.0)
    y = x * 2.0
    before = y
    y += x  # as y = y + x
    assert y is not before and before.tolist() == [2.0, 4.0]
    y.sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]
    with pytest.raises(RuntimeError, match="part of a graph in place"):
        before.add_(1.0)


def test_a_total_that_starts_at_a_constant_keeps_its_gradient():
    x = leaf(1.0, 2.0)
    total = Tensor(np.zeros(2))
    for _ in range(3):
        total += x
    total.sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]


@pytest.mark.parametrize("write", [
    lambda t, y: t.add_(y), lambda t, y: t.copy_(y), lambda t, y: t.mul_(y), lambda t, y: t.__setitem__(0, y[0]),
    lambda t, y: t.__setitem__(slice(None), y),
], ids=["add_", "copy_", "mul_", "t[0] =", "t[:] ="])  # fmt: skip
def test_a_gradient_is_not_lost_by_writing_it_into_a_constant(write):
    x = leaf(1.0, 2.0)
    buffer = Tensor(np.zeros(2))
    with pytest.raises(RuntimeError, match="would lose the gradient"):
        write(buffer, x * 2.0)
    write(buffer, (x * 2.0).detach())
    with no_grad():
        write(buffer, x * 2.0)


def test_constants_are_changed_in_place_freely():
    t = Tensor([1.0, 2.0])
    array = t.data
    t += 1.0
    t *= 2.0
    t[0] = -1.0
    t.sub_(1.0).div_(2.0)
    assert t.data is array and t.tolist() == [-1.0, 2.5]
    t.copy_(Tensor([7.0]))
    assert t.tolist() == [7.0, 7.0]
    t.zero_()
    assert t.tolist() == [0.0, 0.0] and t.data is array


def test_the_memory_of_a_custom_operation_is_watched_too():
    keep = Operation("keeps a view", lambda x: (x.sum(), (x[1:],)), lambda saved, grad: (np.r_[0.0, grad * saved[0]],))
    x = leaf(1.0, 2.0)
    y = apply(keep, x)
    with no_grad():
        x.zero_()
    with pytest.raises(RuntimeError, match="'keeps a view' saved"):
        y.backward()


def test_an_operation_that_returns_its_input_is_a_view_of_it():
    same = Operation("same", lambda x: (x, ()), lambda saved, grad: (grad,))
    x = leaf(1.0, 2.0)
    y = x.log()
    view = apply(same, x)
    with no_grad():
        view.zero_()
    with pytest.raises(RuntimeError, match="changed in place"):
        y.sum().backward()
