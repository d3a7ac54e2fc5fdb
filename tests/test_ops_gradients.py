"""Every gradient is right: the whole table of cases, in every memory layout, by both kinds of differences."""

from __future__ import annotations

import numpy as np
import pytest

from minilm import Tensor, ops
from minilm.gradcheck import check_case
from minilm.gradcheck.cases import Case, Operations, all_cases, seeded
from minilm.gradcheck.points import LAYOUTS
from minilm.tensor import OPERATIONS, Node

CASES = list(all_cases())
ONE_TYPE = [case for case in CASES if "float32" not in case.name]  # the others have a constant of another type


def built(case: Case, layout: str = "contiguous", seed: int = 0):
    """The inputs of a case as leaves, and what it computes from them, as a list."""
    random = np.random.default_rng(seed)
    leaves = [Tensor(points.draw(random, layout), requires_grad=True) for points in case.inputs]
    returned = case.function(Operations())(*leaves)
    outputs = list(returned) if isinstance(returned, tuple) else [returned]
    return leaves, [out for out in outputs if out.dtype.kind == "f"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_gradient(case):
    for layout in LAYOUTS:
        for mode in ("exhaustive", "projection"):
            result = check_case(case, layout=layout, mode=mode)
            assert result.passed and result.relative_error < 1e-6, f"{layout}:\n{result}"


def inputs_reached(case: Case) -> set[tuple[str, int]]:
    """(operation, input) for each gradient that the backward pass of a case goes through."""
    _, outputs = built(case)
    waiting = [out._node for out in outputs if out._node is not None]
    seen, reached = set(waiting), set()
    while waiting:
        node = waiting.pop()
        reached |= {(node.operation.name, i) for i, source in enumerate(node.inputs) if source is not None}
        new = {source for source in node.inputs if isinstance(source, Node)} - seen
        seen |= new
        waiting.extend(new)
    return reached


def test_the_table_covers_every_operation():
    """An operation that no case goes through is an operation whose gradient nobody checked."""
    reached = {operation for case in CASES for operation, _ in inputs_reached(case)}
    missing = set(OPERATIONS) - reached
    assert not missing, f"add cases to minilm/gradcheck/cases.py for: {', '.join(sorted(missing))}"


def test_an_error_of_a_thousandth_in_any_operation_is_caught():
    """Each gradient of each operation in turn is made 0.1 % too large: the table must notice every time."""
    through: dict[tuple[str, int], list[Case]] = {}
    for case in CASES:
        for place in inputs_reached(case):
            through.setdefault(place, []).append(case)
    assert len(through) > len(OPERATIONS)
    for (name, i), cases in through.items():
        operation = OPERATIONS[name]
        honest = operation.backward

        def wrong(*arguments, honest=honest, i=i):
            grads = honest(*arguments)
            return (*grads[:i], None if grads[i] is None else 1.001 * grads[i], *grads[i + 1 :])

        object.__setattr__(operation, "backward", wrong)
        try:
            own_first = sorted(cases, key=lambda case: case.operation != name)
            assert not all(check_case(case).passed for case in own_first), f"gradient {i} of {name}"
        finally:
            object.__setattr__(operation, "backward", honest)


def test_the_table_looks_where_gradients_go_wrong():
    shapes = {points.shape for case in CASES for points in case.inputs}
    assert () in shapes and any(0 in shape for shape in shapes) and any(1 in shape for shape in shapes)
    words = " ".join(case.title for case in CASES)
    for word in ("broadcast", "repeated", "empty", "float32", "diamond", "vector", "itself", "size-1"):
        assert word in words


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_nothing_that_was_given_is_written_to_and_nothing_handed_out_is_shared(case):
    """Inputs and cotangents are read-only arrays here, so an operation that writes into one raises."""
    random = np.random.default_rng(1)
    arrays = [points.draw(random) for points in case.inputs]
    for array in arrays:
        array.flags.writeable = False
    leaves = [Tensor(array, requires_grad=True) for array in arrays]
    returned = case.function(Operations())(*leaves)
    for out in returned if isinstance(returned, tuple) else [returned]:
        if not out.requires_grad:
            continue
        cotangent = random.standard_normal(out.shape)
        cotangent.flags.writeable = False
        for _ in range(2):
            out.backward(cotangent, retain_graph=True)
    gradients = [leaf.grad.data for leaf in leaves if leaf.grad is not None]
    for i, gradient in enumerate(gradients):
        assert isinstance(gradient, np.ndarray) and gradient.flags.writeable
        assert gradient.shape == leaves[i].shape and gradient.dtype == np.float64
        assert not any(np.shares_memory(gradient, other) for other in arrays + gradients[:i])


@pytest.mark.parametrize("case", ONE_TYPE, ids=lambda case: case.title)
def test_float32_stays_float32(case):
    """No hidden float64: a float32 model would silently run at half the speed."""
    random = np.random.default_rng(0)
    _, exact = built(case)
    leaves = [Tensor(points.draw(random).astype(np.float32), requires_grad=True) for points in case.inputs]
    returned = case.function(_Float32())(*leaves)
    outputs = [out for out in (returned if isinstance(returned, tuple) else [returned]) if out.dtype.kind == "f"]
    for out, reference in zip(outputs, exact, strict=True):
        assert out.dtype == np.float32
        scale = np.abs(reference.data).max(initial=1e-3)
        assert np.abs(out.data - reference.data).max(initial=0) <= 2e-5 * scale
    for out in outputs:
        if out.requires_grad:
            out.backward(np.ones(out.shape, np.float32), retain_graph=True)
    assert all(leaf.grad is None or leaf.grad.dtype == np.float32 for leaf in leaves)


class _Float32(Operations):
    """The operations, with the table's float64 constants in float32."""

    @staticmethod
    def tensor(data):
        return ops.tensor(data.astype(np.float32) if data.dtype.kind == "f" else data)


@pytest.mark.parametrize("call", [
    lambda x, y: x + y, lambda x, y: x - y, lambda x, y: x * y, lambda x, y: x / y, lambda x, y: x**y, ops.maximum,
    lambda x, y: x @ y.T, lambda x, y: ops.linear(x, y), lambda x, y: ops.affine(x, y.T),
    lambda x, y: ops.cat([x, y]), lambda x, y: ops.stack([x, y]), lambda x, y: ops.where(x > 1, x, y),
    lambda x, y: ops.einsum("ij,kj->ik", x, y),
])  # fmt: skip
@pytest.mark.parametrize("swap", [False, True])
def test_mixed_float_types_meet_in_the_wider_and_gradients_come_back_in_their_own(call, swap):
    random = np.random.default_rng(0)
    narrow, wide = random.uniform(0.5, 2, (2, 3)).astype(np.float32), random.uniform(0.5, 2, (2, 3))
    pairs = [(narrow, wide), (narrow.astype(np.float64), wide)]
    found = []
    for a, b in pairs:
        a, b = Tensor(a, requires_grad=True), Tensor(b, requires_grad=True)
        out = call(b, a) if swap else call(a, b)
        assert out.dtype == np.float64
        out.backward(np.random.default_rng(1).standard_normal(out.shape))
        found.append((out, a.grad, b.grad))
    (out, da, db), (exact, exact_da, exact_db) = found
    assert np.abs(out.data - exact.data).max() < 1e-12
    assert da.dtype == np.float32 and db.dtype == np.float64
    assert np.abs(db.data - exact_db.data).max() < 1e-12
    assert np.abs(da.data - exact_da.data).max() < 1e-6  # rounded once, at the end


def test_seeded_gives_the_same_numbers_and_leaves_no_trace():
    import minilm

    state = minilm.random.get_state()
    first, second = (seeded(lambda: ops.randn(5)).tolist() for _ in range(2))
    assert first == second and minilm.random.get_state() == state
