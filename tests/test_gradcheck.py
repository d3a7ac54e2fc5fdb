"""What the gradient checker promises: which inputs it takes, what it refuses, what it returns and prints."""

from __future__ import annotations

import numpy as np
import pytest

import minilm
from minilm import Tensor, nn, ops
from minilm.gradcheck import GradcheckError, check_all, check_case, gradcheck, gradcheck_module
from minilm.gradcheck.cases import Case, all_cases
from minilm.gradcheck.points import LAYOUTS, distinct, inside, lay_out, normal, positive
from minilm.gradcheck.report import worst
from minilm.tensor import Operation, apply


def numbers(*shape, seed=3):
    return np.random.default_rng(seed).standard_normal(shape)


# ------------------------------------------------------------------------------------------------ inputs


def test_arrays_tensors_and_tuples_of_them_are_inputs():
    x, y = numbers(2, 3), numbers(3)
    for inputs in (x, Tensor(x, requires_grad=True), (x,), [x]):
        assert gradcheck(lambda x: x.exp(), inputs)
    assert gradcheck(lambda x, y: x * y, (x, Tensor(y, requires_grad=True)))
    assert gradcheck(lambda x: x[0], numbers(3, 1))
    assert gradcheck(ops.sum, np.array(2.0))


def test_only_what_requires_a_gradient_is_checked_and_it_keeps_its_name():
    constant = Tensor(numbers(3))
    result = gradcheck(lambda weight, data, ids: (weight * data)[ids], (numbers(2, 3), constant, np.array([0, 0])))
    assert [check.input for check in result] == ["weight"]
    result = gradcheck(lambda *xs: xs[0] * xs[1], (numbers(2), numbers(2)))
    assert [check.input for check in result] == ["input 0", "input 1"]


@pytest.mark.parametrize("mode", ["exhaustive", "projection"])
def test_integers_masks_words_and_none_are_passed_on(mode):
    def function(x, ids, mask, word, nothing):
        assert ids.dtype.kind == "i" and mask.dtype == bool and word == "mean" and nothing is None
        return x[ids] * Tensor(mask)

    inputs = (numbers(4), np.array([1, 1, 3]), np.array([True, False, True]), "mean", None)
    assert gradcheck(function, inputs, mode=mode)


def test_float32_is_refused_with_the_word_to_use():
    for x in (numbers(3).astype(np.float32), Tensor(np.ones(3, np.float32), requires_grad=True)):
        with pytest.raises(TypeError, match="float32.*float64"):
            gradcheck(lambda x: x.exp(), x)
    with pytest.raises(TypeError, match="returned float32.*float64"):
        gradcheck(lambda x: x.float(), numbers(3))
    assert gradcheck(lambda x, y: x * y, (numbers(3), Tensor(np.ones(3, np.float32))))  # not differentiated


def test_inputs_that_cannot_be_checked_say_why():
    with pytest.raises(ValueError, match="nothing to check"):
        gradcheck(lambda x: x * 2.0, np.arange(3))
    with pytest.raises(ValueError, match="nothing to check"):
        gradcheck(lambda x: x, Tensor(numbers(3)))
    with pytest.raises(ValueError, match="read-only"):
        gradcheck(lambda x: x.exp(), np.broadcast_to(np.ones(1), (3,)))
    with pytest.raises(TypeError, match="must return a Tensor"):
        gradcheck(lambda x: x.numpy(), numbers(3))
    with pytest.raises(TypeError, match="nothing to differentiate"):
        gradcheck(lambda x: x.argmax(), numbers(3))
    with pytest.raises(ValueError, match="mode must be one of auto, exhaustive, projection"):
        gradcheck(lambda x: x.exp(), numbers(3), mode="fast")
    for bad in ({"step": 0.0}, {"tolerance": -1.0}, {"directions": 0}, {"step": float("nan")}):
        with pytest.raises(ValueError, match="must be positive"):
            gradcheck(lambda x: x.exp(), numbers(3), **bad)


def test_functions_that_draw_random_numbers_are_refused():
    with pytest.raises(ValueError, match=r"different outputs.*eval\(\)"):
        gradcheck(lambda x: ops.dropout(x, 0.5), numbers(20))


def test_outputs_may_be_several_and_integer_ones_are_left_out():
    assert gradcheck(lambda x: (x.exp(), x * 2.0, x.sum()), numbers(2, 3))
    assert gradcheck(lambda x: x.max(dim=1), numbers(2, 3))
    assert gradcheck(lambda x: (x * 3.0, Tensor(np.ones(2))), numbers(2))
    wrong = Operation("wrong", lambda x: (x * 2, ()), lambda saved, grad: (grad,))
    assert not gradcheck(lambda x: (x.exp(), apply(wrong, x)), numbers(3), raise_exception=False)


def test_a_tensor_from_a_graph_is_checked_without_touching_that_graph():
    leaf = Tensor(numbers(3), requires_grad=True)
    middle = leaf * 2.0
    assert gradcheck(lambda x: x.exp(), middle)
    middle.sum().backward()
    assert leaf.grad.tolist() == [2.0, 2.0, 2.0]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nothing_is_changed(layout):
    x = lay_out(numbers(3, 4), layout)
    before, strides = x.copy(), x.strides
    leaf = Tensor(x, requires_grad=True)
    minilm.seed(5)
    state = minilm.random.get_state()
    for mode in ("exhaustive", "projection"):
        seen = []
        assert gradcheck(lambda t, seen=seen: seen.append(t.data.strides) or t.exp(), leaf, mode=mode)
        assert set(seen) == {strides}  # the function sees the layout that it was given
    assert leaf.grad is None
    assert x.tobytes() == before.tobytes()
    assert minilm.random.get_state() == state


def test_inputs_are_restored_when_the_function_raises():
    x = numbers(3)
    before = x.copy()

    def fussy(t):
        if not np.array_equal(t.data, before):
            raise ArithmeticError("moved")
        return t.exp()

    with pytest.raises(ArithmeticError, match="moved"):
        gradcheck(fussy, x)
    assert x.tobytes() == before.tobytes()


# ------------------------------------------------------------------------------------------------ the two modes


def test_auto_takes_every_element_of_small_inputs_and_directions_of_large_ones():
    small = gradcheck(lambda x: x.exp(), numbers(16, 16))
    assert (small.inputs[0].mode, small.inputs[0].probes) == ("exhaustive", 256)
    large = gradcheck(lambda x: x.exp(), numbers(257), directions=5)
    assert (large.inputs[0].mode, large.inputs[0].probes) == ("projection", 5)
    assert gradcheck(lambda x: x.exp(), numbers(4), mode="projection").inputs[0].mode == "projection"


def test_projection_at_real_sizes():
    """A layer of a small language model: one direction costs two forward passes, however many numbers move."""
    result = gradcheck(
        lambda x, w, b: ops.layer_norm(ops.linear(x, w, b), (256,)).softmax(dim=-1),
        (numbers(8, 32, 128), 0.1 * numbers(256, 128), numbers(256)),
    )
    assert {check.mode for check in result} == {"projection"}
    assert result.relative_error < 1e-7


def test_the_same_seed_gives_the_same_numbers():
    first, again, other = (gradcheck(lambda x: x.exp(), numbers(300), seed=seed) for seed in (1, 1, 2))
    assert first == again and first != other


def test_the_cotangent_is_not_the_input_that_the_same_seed_would_draw():
    """x/‖x‖ has no gradient in the direction of x: with c = x a wrong factor would go unseen."""
    x = np.random.default_rng(0).standard_normal((2, 3))
    seen = []
    spy = Operation("spy", lambda x: (x.copy(), ()), lambda saved, grad: (seen.append(grad.copy()) or grad,))
    gradcheck(lambda t: apply(spy, t), x, seed=0)
    assert not np.allclose(seen[0], x)


def test_tiny_and_huge_scales_are_judged_relatively():
    for scale in (1e-12, 1e-6, 1e6, 1e12):
        assert gradcheck(lambda x, s=scale: x.exp() * s, numbers(3, 4))
        wrong = Operation("wrong", lambda x, s=scale: (s * x, ()), lambda saved, grad, s=scale: (1.001 * s * grad,))
        for mode in ("exhaustive", "projection"):
            assert not gradcheck(lambda x, op=wrong: apply(op, x), numbers(3, 4), mode=mode, raise_exception=False)


def test_a_gradient_that_is_zero_passes():
    assert gradcheck(lambda x: x.softmax(dim=-1), numbers(4, 1)).relative_error == 0
    assert gradcheck(lambda x: x.softmax(dim=-1).sum(dim=-1) + 1.0, numbers(4, 5))  # zero up to rounding
    assert gradcheck(lambda x, y: x * 1.0, (numbers(3), numbers(3)))  # y is not used


def test_empty_inputs_pass_with_nothing_to_move():
    for mode in ("exhaustive", "projection"):
        result = gradcheck(lambda x: x.exp(), numbers(0, 3), mode=mode)
        assert result and result.inputs[0].probes == 0 and result.relative_error == 0


@pytest.mark.parametrize("at", [0.0, 1e-6])
def test_a_kink_is_called_a_kink(at):
    for mode in ("exhaustive", "projection"):
        result = gradcheck(lambda x: x.relu(), np.array([at, 1.0, -1.0]), mode=mode, raise_exception=False)
        assert not result and "kink" in str(result)
    wrong = Operation("wrong", lambda x: (x * x, (x,)), lambda saved, grad: (1.9 * grad * saved[0],))
    assert "kink" not in str(gradcheck(lambda x: apply(wrong, x), numbers(3), raise_exception=False))


def test_the_worst_element_is_named():
    def backward(saved, grad):
        dx = 2 * grad
        dx[1, 2] += 1
        return (dx,)

    off = Operation("off", lambda x: (2 * x, ()), backward)
    result = gradcheck(lambda x: apply(off, x), numbers(3, 4), raise_exception=False)
    assert "1 of 12 elements are wrong" in str(result)
    assert "at [1, 2] backward says" in str(result)


# ------------------------------------------------------------------------------------------------ modules


def test_modules_are_checked_with_all_their_parameters():
    layer = nn.Linear(3, 2).double()
    result = gradcheck_module(layer, numbers(4, 3))
    assert [check.input for check in result][1:] == ["weight", "bias"]
    assert result.operation == "Linear"
    assert all(p.grad is None for p in layer.parameters())
    embedding = nn.Embedding(5, 3).double()
    assert [check.input for check in gradcheck_module(embedding, np.array([[0, 3], [3, 1]]))] == ["weight"]


def test_a_module_in_float32_is_refused():
    with pytest.raises(TypeError, match=r"weight of Linear is float32.*module\.double\(\)"):
        gradcheck_module(nn.Linear(3, 2), numbers(4, 3))


def test_a_module_with_a_wrong_gradient_is_caught():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.factor = nn.Parameter(np.array(1.5))

        def forward(self, x):
            return x * self.factor.detach()

    result = gradcheck_module(Scale(), numbers(3), raise_exception=False)
    assert [(check.input, check.passed) for check in result] == [("x", True), ("factor", False)]


def test_a_transformer_block_by_projection():
    block = nn.TransformerBlock(16, 4).double().eval()
    result = gradcheck_module(block, numbers(2, 6, 16))
    assert {check.mode for check in result} == {"projection"}
    assert len(result.inputs) > 10 and result.relative_error < 1e-6


# ------------------------------------------------------------------------------------------------ the report


def test_the_table_is_readable():
    result = gradcheck(lambda x, y: x * y, (numbers(2, 3), numbers(3)), name="product")
    lines = str(result).split("\n")
    assert lines[0].split() == ["operation", "input", "shape", "mode", "max", "abs", "relative", "verdict"]
    assert len(lines) == 4 and lines[2].startswith("product") and lines[2].endswith("ok")
    assert len({line.index("(") for line in lines[2:]}) == 1  # columns are aligned


def test_results_say_yes_or_no():
    good = gradcheck(lambda x: x.exp(), numbers(3))
    assert good and good.passed and good.max_abs_error < 1e-6
    wrong = Operation("wrong", lambda x: (x * x, (x,)), lambda saved, grad: (grad * saved[0],))
    bad = gradcheck(lambda x: apply(wrong, x), numbers(3), raise_exception=False)
    assert not bad and not bad.passed and "WRONG" in str(bad)
    with pytest.raises(GradcheckError, match="gradient of .* is wrong"):
        gradcheck(lambda x: apply(wrong, x), numbers(3))


def test_the_worst_error_is_nan_if_one_is():
    assert worst([]) == 0
    assert worst([0.0, 2.0, 1.0]) == 2.0
    assert np.isnan(worst([0.0, np.nan, 1.0])) and np.isnan(worst([np.nan, np.inf]))


def test_check_all_runs_the_table_and_can_be_told_which_part():
    seen = []
    report = check_all(["exp", "softmax"], layouts=["contiguous", "sliced"], on_result=seen.append)
    assert report and len(report) == len(seen) == sum(case.operation in ("exp", "softmax") for case in all_cases())
    assert report.relative_error < 1e-6 and not report.failures
    assert "every gradient is right" in str(report) and "softmax: one element" in str(report)
    with pytest.raises(ValueError, match="no cases for nothing_such; the table has .*softmax"):
        check_all(["nothing_such"])


def test_check_all_reports_what_is_wrong(monkeypatch):
    from minilm.tensor import OPERATIONS

    broken = Operation("exp", OPERATIONS["exp"].forward, lambda saved, grad: (1.001 * grad * saved[0],))
    monkeypatch.setattr("minilm.ops.elementwise.EXP", broken)
    report = check_all(["exp", "log"], layouts=["contiguous"])
    assert not report and {result.operation.split(":")[0] for result in report.failures} == {"exp"}
    assert "WRONG" in report.summary()


def test_cases_have_titles_of_their_own():
    titles = [case.title for case in all_cases()]
    assert len(titles) == len(set(titles))
    assert isinstance(next(all_cases()), Case)
    assert check_case(next(all_cases()))


# ------------------------------------------------------------------------------------------------ points and layouts


def test_points_keep_off_kinks_and_poles():
    random = np.random.default_rng(0)
    for _ in range(20):
        values = distinct(4, 5).draw(random)
        gaps = np.abs(values.reshape(-1, 1) - values.reshape(1, -1))[~np.eye(20, dtype=bool)]
        assert gaps.min() > 0.09
        assert np.abs(values - np.round(values, 1)).min() > 0.04  # never on a multiple of 0.1, nor on 0
        assert positive(4, 5).draw(random).min() >= 0.5
        assert np.abs(inside(4, 5).draw(random)).max() <= 0.9
    assert distinct().draw(random).shape == () and normal(0, 3).draw(random).shape == (0, 3)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(), (3,), (1, 4), (2, 3, 4), (0, 3), (2, 0)])
def test_layouts_hold_the_same_values(layout, shape):
    values = numbers(*shape)
    laid = lay_out(values, layout)
    assert np.array_equal(laid, values) and laid.shape == shape and laid.flags.writeable
    assert isinstance(laid, np.ndarray) and not np.shares_memory(laid, values)
    if shape == (2, 3, 4):
        assert laid.flags.c_contiguous == (layout == "contiguous")
    with pytest.raises(ValueError, match="layout must be one of"):
        lay_out(numbers(2, 2), "diagonal")
