"""Long graphs do not recurse, and a graph gives its memory back: after backward, and when it is dropped unused."""

from __future__ import annotations

import copy
import gc
import sys
import threading
import tracemalloc
import weakref

import numpy as np
import pytest

import minilm
from minilm import Tensor
from minilm.tensor import Operation, apply


def chain(x, n):
    y = x
    for _ in range(n):
        y = y + 1.0
    return y


@pytest.mark.parametrize("n", [10_000, 100_000])
def test_a_long_chain_runs_backward_and_is_freed(n):
    x = Tensor(np.ones(2), requires_grad=True)
    y = chain(x, n)
    assert n > sys.getrecursionlimit()
    y.backward(np.ones(2))
    assert x.grad.tolist() == [1.0, 1.0]
    first = weakref.ref(y._node)
    del y
    gc.collect()
    assert first() is None


def test_a_long_chain_that_is_never_used_is_freed():
    x = Tensor(np.ones(2), requires_grad=True)
    y = chain(x, 20_000)
    node = weakref.ref(y._node)
    del y
    gc.collect()
    assert node() is None


def test_a_long_chain_is_freed_in_a_thread_with_a_small_stack():
    """Freeing recurses in C unless the interpreter defers it; a small stack would not survive that."""
    before = threading.stack_size(256 * 1024)
    try:
        done = []

        def work():
            x = Tensor(np.ones(2), requires_grad=True)
            y = chain(x, 20_000)
            y.sum().backward()
            del y
            done.append(x.grad.tolist())

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    assert done == [[1.0, 1.0]]


def test_wide_and_deep_diamonds_take_linear_time():
    """Every step doubles the number of paths; the backward pass must visit nodes, not paths."""
    x = Tensor(np.ones(1), requires_grad=True)
    y = x
    for _ in range(1000):
        y = (y + y) * 0.5
    y.sum().backward()
    assert x.grad.tolist() == [1.0]


def watched(kept):
    """exp, with a weak reference to the array that it saves."""

    def forward(x):
        out = np.exp(x)
        token = np.ones(1000)
        kept.append(weakref.ref(token))
        return out, (out, token)

    return Operation("watched", forward, lambda saved, grad: (grad * saved[0],))


def test_what_was_saved_is_released_by_backward_though_the_loss_lives_on():
    kept = []
    x = Tensor(np.ones(3), requires_grad=True)
    loss = apply(watched(kept), apply(watched(kept), x)).sum()
    assert all(reference() is not None for reference in kept)
    loss.backward()
    assert all(reference() is None for reference in kept)
    assert loss.item() > 0 and x.grad is not None


def test_what_was_saved_is_released_when_the_loss_goes_without_a_collector():
    kept = []
    gc.disable()
    try:
        x = Tensor(np.ones(3), requires_grad=True)
        loss = apply(watched(kept), x).sum()
        del loss
        assert kept[0]() is None  # no cycles: counting references is enough
    finally:
        gc.enable()


def test_retain_graph_keeps_it():
    kept = []
    x = Tensor(np.ones(3), requires_grad=True)
    loss = apply(watched(kept), x).sum()
    loss.backward(retain_graph=True)
    assert kept[0]() is not None
    loss.backward()
    assert kept[0]() is None


def test_intermediate_results_are_not_kept_alive_by_the_graph():
    """y + 1 needs nothing of y to go back."""
    x = Tensor(np.ones(1000), requires_grad=True)
    y = x * 2.0
    middle = weakref.ref(y.data)
    loss = (y + 1.0).sum()
    del y
    assert middle() is None
    loss.backward()
    assert x.grad.data[0] == 2.0


def test_constants_are_not_kept_alive_by_the_graph():
    x = Tensor(np.ones(1000), requires_grad=True)
    constant = Tensor(np.ones(1000))
    reference = weakref.ref(constant)
    loss = (x + constant).sum()
    del constant
    assert reference() is None
    loss.backward()


def test_training_does_not_grow():
    """The memory after many steps is that after a few: no step leaves anything behind."""
    random = np.random.default_rng(0)
    w1 = Tensor(random.standard_normal((50, 50)), requires_grad=True)
    w2 = Tensor(random.standard_normal((50, 50)), requires_grad=True)
    data = Tensor(random.standard_normal((20, 50)))

    def step():
        w1.grad = w2.grad = None
        loss = (((data @ w1).tanh() @ w2).log_softmax(dim=-1) ** 2).mean()
        loss.backward()
        with minilm.no_grad():
            for w in (w1, w2):
                w -= 0.1 * w.grad

    tracemalloc.start()
    try:
        for _ in range(5):
            step()
        gc.collect()
        early = tracemalloc.get_traced_memory()[0]
        for _ in range(50):
            step()
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - early < 20_000  # less than one 50 × 50 matrix
    finally:
        tracemalloc.stop()


def test_the_peak_of_backward_is_not_the_sum_of_all_gradients():
    """Gradients of results are let go as soon as they have been passed on."""
    size = 100_000
    x = Tensor(np.ones(size), requires_grad=True)
    y = chain(x, 100)
    total = y.sum()
    tracemalloc.start()
    try:
        total.backward()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10 * size * 8


def test_tensors_can_be_copied_deeply():
    x = Tensor(np.array([1.0, 2.0]), requires_grad=True)
    (x * 2.0).sum().backward()
    twin = copy.deepcopy(x)
    assert twin is not x and twin.requires_grad and twin.is_leaf
    assert twin.tolist() == x.tolist() and twin.grad.tolist() == x.grad.tolist()
    assert not np.shares_memory(twin.data, x.data) and not np.shares_memory(twin.grad.data, x.grad.data)
    (twin * 5.0).sum().backward()
    assert x.grad.tolist() == [2.0, 2.0] and twin.grad.tolist() == [7.0, 7.0]
