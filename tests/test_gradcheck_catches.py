"""The checker is itself checked: gradients that are wrong in known ways, each of which both modes must catch.

Every operation here is planted through the public `Operation` and `apply`, next to a correct twin that passes.
"""

from __future__ import annotations

import numpy as np
import pytest

import minilm.autograd as engine
from minilm.gradcheck import GradcheckError, gradcheck
from minilm.tensor import Operation, Tensor, apply

MODES = ("exhaustive", "projection")


def arrays(*shapes, seed=7):
    random = np.random.default_rng(seed)
    return tuple(random.standard_normal(shape) for shape in shapes)


def planted(forward, backward, **attributes):
    operation = Operation("planted", forward, backward)
    return lambda *xs: apply(operation, *xs, **attributes)


def assert_right(function, inputs):
    for mode in MODES:
        result = gradcheck(function, inputs, mode=mode)
        assert result.passed and result.relative_error < 1e-6


def assert_caught(function, inputs, words=""):
    for mode in MODES:
        result = gradcheck(function, inputs, mode=mode, raise_exception=False)
        assert not result.passed, f"{mode} let a wrong gradient through:\n{result}"
        with pytest.raises(GradcheckError, match="WRONG"):
            gradcheck(function, inputs, mode=mode)
        if words:
            assert words in str(result)


# --------------------------------------------------------------------------------------------- the forward passes


def mul_forward(a, b):
    return a * b, (a, b)


def softmax_forward(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    y = e / e.sum(axis=-1, keepdims=True)
    return y, (y,)


def softmax_backward(saved, grad):
    (y,) = saved
    return (y * (grad - (grad * y).sum(axis=-1, keepdims=True)),)


def add_forward(a, b):
    return a + b, (a.shape, b.shape)


def matmul_forward(a, b):
    return a @ b, (a, b)


def normalise_forward(x):
    centred = x - x.mean(axis=-1, keepdims=True)
    rstd = 1 / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
    return centred * rstd, (centred * rstd, rstd)


def normalise_backward(saved, grad, mean=True, projection=True):
    y, rstd = saved
    dx = grad
    if mean:
        dx = dx - grad.mean(axis=-1, keepdims=True)
    if projection:
        dx = dx - y * (grad * y).mean(axis=-1, keepdims=True)
    return (dx * rstd,)


# ------------------------------------------------------------------------------------------- off by a little or all


@pytest.mark.parametrize("factor", [1.001, 0.999, 1.00001, -1.0])
def test_a_tenth_of_a_percent_off(factor):
    inputs = arrays((4, 5), (4, 5))
    assert_right(planted(mul_forward, lambda s, g: (g * s[1], g * s[0])), inputs)
    assert_caught(planted(mul_forward, lambda s, g: (factor * g * s[1], g * s[0])), inputs)
    assert_caught(planted(mul_forward, lambda s, g: (g * s[1], factor * g * s[0])), inputs)


def test_one_element_a_tenth_of_a_percent_off():
    def backward(saved, grad):
        da = grad * saved[1]
        da[2, 3] *= 1.001
        return da, grad * saved[0]

    assert_caught(planted(mul_forward, backward), arrays((4, 5), (4, 5)))


def test_a_factor_is_named_in_words():
    result = gradcheck(
        planted(mul_forward, lambda s, g: (1.001 * g * s[1], g * s[0])),
        arrays((3, 3), (3, 3)),
        mode="exhaustive",
        raise_exception=False,
    )
    assert [check.passed for check in result] == [False, True]
    assert "1.001 times what it should be" in result.inputs[0].note
    assert result.inputs[1].note == ""


def test_gradients_of_zeros_and_how_a_cotangent_of_ones_would_have_missed_them():
    (x,) = arrays((4, 6))
    assert_right(planted(softmax_forward, softmax_backward), x)
    assert_caught(planted(softmax_forward, lambda s, g: (np.zeros_like(g),)), x, words="")

    # With ones for a cotangent the true gradient of softmax is zero: the rows of softmax always sum to one.
    y, saved = softmax_forward(x)
    assert np.abs(softmax_backward(saved, np.ones_like(y))[0]).max() < 1e-16
    random = np.random.default_rng(0).standard_normal(y.shape)
    assert np.abs(softmax_backward(saved, random)[0]).max() > 1e-2


def test_softmax_without_its_second_term():
    (x,) = arrays((4, 6))
    assert_caught(planted(softmax_forward, lambda s, g: (s[0] * g,)), x)


# --------------------------------------------------------------------------------------------------- broadcasting


def test_a_forgotten_unbroadcast():
    inputs = arrays((4, 5), (5,))
    assert_right(planted(add_forward, lambda s, g: (g, g.sum(axis=0))), inputs)
    assert_caught(planted(add_forward, lambda s, g: (g, g)), inputs, words="returned a gradient of shape (4, 5)")


def test_an_unbroadcast_that_takes_a_row_or_the_mean():
    inputs = arrays((4, 5), (5,))
    assert_caught(planted(add_forward, lambda s, g: (g, g[0])), inputs)
    assert_caught(planted(add_forward, lambda s, g: (g, g.mean(axis=0))), inputs)


def test_an_unbroadcast_along_the_wrong_axis_of_a_square():
    inputs = arrays((5, 5), (5,))
    assert_caught(planted(add_forward, lambda s, g: (g, g.sum(axis=1))), inputs)


# ------------------------------------------------------------------------------------- assignment for accumulation


def test_repeated_indices_that_overwrite():
    index = np.array([0, 2, 2, 1, 2])

    def forward(x):
        return x[index], (x,)

    def right(saved, grad):
        dx = np.zeros_like(saved[0])
        np.add.at(dx, index, grad)
        return (dx,)

    def wrong(saved, grad):
        dx = np.zeros_like(saved[0])
        dx[index] = grad
        return (dx,)

    inputs = arrays((3, 4))
    assert_right(planted(forward, right), inputs)
    assert_caught(planted(forward, wrong), inputs)


def test_a_diamond_whose_backward_overwrites():
    def forward(x):
        return np.exp(x) * np.sin(x), (np.exp(x), np.sin(x), np.cos(x))

    def right(saved, grad):
        e, s, c = saved
        dx = grad * s * e
        dx += grad * e * c
        return (dx,)

    def wrong(saved, grad):
        e, s, c = saved
        dx = grad * s * e
        dx = grad * e * c
        return (dx,)

    inputs = arrays((3, 4))
    assert_right(planted(forward, right), inputs)
    assert_caught(planted(forward, wrong), inputs)


def test_an_engine_that_overwrites_where_paths_meet(monkeypatch):
    mul = planted(mul_forward, lambda s, g: (g * s[1], g * s[0]))
    inputs = arrays((3, 4))
    assert_right(lambda x: mul(mul(x, x), x), inputs)

    def overwrite(self, key, g, owned, dtype):
        first = key not in self._slots
        self._slots[key] = (g, owned)
        return first

    monkeypatch.setattr(engine._Pending, "add", overwrite)
    assert_caught(lambda x: mul(mul(x, x), x), inputs)


# --------------------------------------------------------------------------------------------------- not finite


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", [(0, 0), (2, 3), ...])
def test_gradients_that_are_not_finite(value, where):
    def backward(saved, grad):
        da = grad * saved[1]
        da[where] = value
        return da, grad * saved[0]

    assert_caught(planted(mul_forward, backward), arrays((3, 4), (3, 4)), words="the gradient is")


def test_outputs_that_are_not_finite():
    function = planted(lambda x: (np.sqrt(x), (x,)), lambda s, g: (g / 2,))
    with np.errstate(invalid="ignore"):
        assert_caught(function, np.array([1.0, -1.0, 2.0]), words="output itself is not finite")


def test_a_nan_gradient_where_the_difference_is_nan_too():
    """`abs(a - n) > tolerance` is false for NaN: a checker that asks that question passes everything here."""
    function = planted(lambda x: (x * np.nan, ()), lambda s, g: (g * np.nan,))
    assert_caught(function, np.ones(3))


# ------------------------------------------------------------------------------- the right numbers, wrongly placed


def test_gradients_handed_to_the_wrong_input():
    assert_caught(planted(mul_forward, lambda s, g: (g * s[0], g * s[1])), arrays((3, 4), (3, 4)))


def test_transposed_gradients():
    inputs = arrays((4, 4), (4, 4))
    assert_right(planted(matmul_forward, lambda s, g: (g @ s[1].T, s[0].T @ g)), inputs)
    assert_caught(planted(matmul_forward, lambda s, g: (g @ s[1], s[0] @ g)), inputs)
    transposed = planted(matmul_forward, lambda s, g: ((g @ s[1].T).T, s[0].T @ g))
    assert_caught(transposed, inputs)
    assert "transposed" in str(gradcheck(transposed, inputs, raise_exception=False))


def test_gradients_in_the_order_of_memory():
    """Right for a contiguous input, wrong for a transposed one: why every case is run in several layouts."""

    def backward(saved, grad):
        a, b = saved
        return (grad * b).ravel(order="K").reshape(grad.shape), grad * a

    function = planted(mul_forward, backward)
    a, b = arrays((3, 4), (3, 4))
    assert_right(function, (a, b))
    assert_caught(function, (np.asfortranarray(a), np.asfortranarray(b)))


# ------------------------------------------------------------------------------------------------- dropped terms


def test_layer_norm_without_one_of_its_terms():
    (x,) = arrays((4, 6))
    assert_right(planted(normalise_forward, normalise_backward), x)
    for dropped in ({"mean": False}, {"projection": False}, {"mean": False, "projection": False}):
        assert_caught(planted(normalise_forward, lambda s, g, d=dropped: normalise_backward(s, g, **d)), x)


def test_a_missing_gradient():
    assert_caught(planted(mul_forward, lambda s, g: (g * s[1], None)), arrays((3, 4), (3, 4)))


def test_an_input_detached_on_the_way():
    mul = planted(mul_forward, lambda s, g: (g * s[1], g * s[0]))
    function = lambda x: mul(x, x.detach())  # noqa: E731
    assert_caught(function, arrays((3, 4)))
    assert_caught(lambda x: x.detach(), arrays((3, 4)))


def test_a_gradient_where_the_function_has_none():
    function = planted(lambda x: (np.sign(x), ()), lambda s, g: (g,))
    assert_caught(function, arrays((3, 4)))


def test_a_backward_that_raises():
    def backward(saved, grad):
        raise ZeroDivisionError("planted")

    assert_caught(planted(mul_forward, backward), arrays((2, 2), (2, 2)), words="planted")


def test_real_sizes_by_projection():
    inputs = arrays((256, 128), (128, 64))
    right = planted(matmul_forward, lambda s, g: (g @ s[1].T, s[0].T @ g))
    result = gradcheck(right, inputs)
    assert result.passed and {check.mode for check in result} == {"projection"}
    off = planted(matmul_forward, lambda s, g: (g @ s[1].T, 1.001 * (s[0].T @ g)))
    result = gradcheck(off, inputs, raise_exception=False)
    assert [check.passed for check in result] == [True, False]


def test_the_exception_carries_the_numbers():
    wrong = planted(mul_forward, lambda s, g: (g * s[0], g * s[1]))
    with pytest.raises(GradcheckError) as caught:
        gradcheck(wrong, arrays((2, 2), (2, 2)), name="swapped")
    assert not caught.value.result.passed
    assert caught.value.result.operation == "swapped"
    assert isinstance(caught.value, AssertionError)


def test_inputs_are_left_as_they_were():
    a, b = arrays((3, 4), (3, 4))
    before = a.copy(), b.copy()
    x = Tensor(a, requires_grad=True)
    gradcheck(planted(mul_forward, lambda s, g: (g * s[1], g * s[0])), (x, b))
    assert x.grad is None
    assert a.tobytes() == before[0].tobytes() and b.tobytes() == before[1].tobytes()
