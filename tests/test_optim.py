"""Optimisers: each update against its formula written out by hand, state that continues exactly, errors."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from minilm import nn
from minilm.nn.utils import clip_grad_norm_
from minilm.optim import SGD, Adam, AdamW, Optimizer
from minilm.tensor import Tensor

MAKERS: dict[str, Callable[[Any], Optimizer]] = {
    "sgd": lambda p: SGD(p, lr=0.1),
    "sgd momentum": lambda p: SGD(p, lr=0.05, momentum=0.9, dampening=0.1, weight_decay=0.01),
    "sgd nesterov": lambda p: SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    "adam": lambda p: Adam(p, lr=0.1, weight_decay=0.01),
    "adam amsgrad": lambda p: Adam(p, lr=0.1, amsgrad=True),
    "adamw": lambda p: AdamW(p, lr=0.1, weight_decay=0.1),
}


def param(*values: float) -> nn.Parameter:
    return nn.Parameter(np.array(values))


def give(p: Tensor, *gradient: float) -> None:
    p.grad = Tensor(np.array(gradient))


# ---- formulas by hand --------------------------------------------------------------------------------------------


def test_sgd_by_hand() -> None:
    p = param(1.0, -2.0)
    optimizer = SGD([p], lr=0.1)
    give(p, 3.0, 4.0)
    optimizer.step()
    assert np.allclose(p.numpy(), [1 - 0.3, -2 - 0.4], atol=1e-15)


@pytest.mark.parametrize(("nesterov", "dampening"), [(False, 0.0), (False, 0.3), (True, 0.0)])
def test_momentum_by_hand(nesterov: bool, dampening: float) -> None:
    p = param(1.0)
    optimizer = SGD([p], lr=0.1, momentum=0.9, dampening=dampening, weight_decay=0.5, nesterov=nesterov)
    theta, b = 1.0, None
    for gradient in (3.0, -1.0, 2.0):
        give(p, gradient)
        optimizer.step()
        g = gradient + 0.5 * theta
        b = g if b is None else 0.9 * b + (1 - dampening) * g
        theta -= 0.1 * (g + 0.9 * b if nesterov else b)
        assert p.item() == pytest.approx(theta, abs=1e-15)


@pytest.mark.parametrize("amsgrad", [False, True])
def test_adam_by_hand(amsgrad: bool) -> None:
    p = param(1.0)
    optimizer = Adam([p], lr=0.1, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.5, amsgrad=amsgrad)
    theta, m, v, largest = 1.0, 0.0, 0.0, 0.0
    for t, gradient in enumerate((3.0, -1.0, 0.1, 0.1), start=1):
        give(p, gradient)
        optimizer.step()
        g = gradient + 0.5 * theta
        m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g * g
        largest = max(largest, v)
        v_hat = (largest if amsgrad else v) / (1 - 0.9**t)
        theta -= 0.1 * (m / (1 - 0.8**t)) / (math.sqrt(v_hat) + 1e-3)
        assert p.item() == pytest.approx(theta, abs=1e-15)


def test_adamw_by_hand() -> None:
    p = param(1.0)
    optimizer = AdamW([p], lr=0.1, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.5)
    theta, m, v = 1.0, 0.0, 0.0
    for t, g in enumerate((3.0, -1.0, 0.1), start=1):
        give(p, g)
        optimizer.step()
        theta -= 0.1 * 0.5 * theta
        m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g * g
        theta -= 0.1 * (m / (1 - 0.8**t)) / (math.sqrt(v / (1 - 0.9**t)) + 1e-3)
        assert p.item() == pytest.approx(theta, abs=1e-15)


def test_the_first_adam_step_is_the_learning_rate_whatever_the_gradients_scale() -> None:
    p = param(0.0, 0.0, 0.0)
    optimizer = Adam([p], lr=0.01)
    give(p, 1e-3, -1.0, 1e6)
    optimizer.step()
    assert np.allclose(p.numpy(), [-0.01, 0.01, -0.01], rtol=1e-4)


def test_decoupled_decay_is_not_an_l2_penalty() -> None:
    a, b = param(1.0), param(1.0)
    for p, optimizer in ((a, Adam([a], weight_decay=0.1)), (b, AdamW([b], weight_decay=0.1))):
        give(p, 0.0)
        optimizer.step()
    assert b.item() == pytest.approx(1 - 1e-3 * 0.1, abs=1e-15)  # θ − ηλθ
    assert a.item() == pytest.approx(1 - 1e-3, abs=1e-6)  # the penalty's gradient, scaled to a full step


# ---- what all share ----------------------------------------------------------------------------------------------


def quadratic(p: Tensor) -> Tensor:
    """½ (p − 1)ᵀ D (p − 1), curvatures 1 and 10."""
    difference = p - Tensor(np.ones(2))
    return (difference * difference * Tensor(np.array([0.5, 5.0]))).sum()


@pytest.mark.parametrize(
    "make",
    [
        lambda p: SGD(p, lr=0.1),
        lambda p: SGD(p, lr=0.05, momentum=0.8),
        lambda p: SGD(p, lr=0.05, momentum=0.8, nesterov=True),
        lambda p: Adam(p, lr=0.05),
        lambda p: Adam(p, lr=0.05, amsgrad=True),
        lambda p: AdamW(p, lr=0.05, weight_decay=0.0),
    ],
)
def test_a_quadratic_is_minimised(make: Callable[[Any], Optimizer]) -> None:
    p = param(-3.0, 4.0)
    optimizer = make([p])
    for _ in range(600):
        optimizer.zero_grad()
        quadratic(p).backward()
        optimizer.step()
    assert np.allclose(p.numpy(), 1.0, atol=1e-4)


@pytest.mark.parametrize("name", MAKERS)
def test_updates_are_in_place_noticed_by_the_graph_and_leave_the_gradient_alone(name: str) -> None:
    p = param(1.0, 2.0)
    array, optimizer = p.data, MAKERS[name]([p])
    out = (p * p).sum()
    give(p, 0.5, 0.5)
    gradient = p.grad.data
    optimizer.step()
    optimizer.step()
    assert p.data is array and not np.allclose(array, [1.0, 2.0])
    assert gradient.tolist() == [0.5, 0.5]
    with pytest.raises(RuntimeError, match="changed in place"):
        out.backward()


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_kept(name: str, dtype: Any) -> None:
    p = nn.Parameter(np.ones((2, 3), dtype))
    optimizer = MAKERS[name]([p])
    for _ in range(2):
        p.grad = Tensor(np.ones((2, 3), dtype))
        optimizer.step()
    assert p.dtype == dtype
    for value in optimizer.state[p].values():
        assert not hasattr(value, "dtype") or value.dtype == dtype


def test_parameters_without_a_gradient_are_passed_over() -> None:
    a, b = param(1.0), param(1.0)
    optimizer = AdamW([a, b])
    give(a, 1.0)
    optimizer.step()
    assert a.item() != 1.0 and b.item() == 1.0
    assert b not in optimizer.state


def test_zero_grad() -> None:
    p = param(1.0)
    optimizer = SGD([p], lr=0.1)
    give(p, 1.0)
    optimizer.zero_grad(set_to_none=False)
    assert p.grad.item() == 0.0
    optimizer.zero_grad()
    assert p.grad is None


def test_groups_have_their_own_settings() -> None:
    decayed, plain, extra = param(1.0), param(1.0), param(1.0)
    optimizer = AdamW([{"params": [decayed]}, {"params": plain, "weight_decay": 0.0}], lr=0.1, weight_decay=0.5)
    optimizer.add_param_group({"params": [extra], "lr": 0.2})
    for p in (decayed, plain, extra):
        give(p, 0.0)
    optimizer.step()
    assert decayed.item() == pytest.approx(0.95) and plain.item() == 1.0 and extra.item() == pytest.approx(0.9)
    assert [g["lr"] for g in optimizer.param_groups] == [0.1, 0.1, 0.2]
    assert "group 1: 1 tensors, 1 numbers; lr=0.1" in repr(optimizer)


# ---- state -------------------------------------------------------------------------------------------------------


def through_files(state: dict[str, Any]) -> dict[str, Any]:
    """Arrays through safetensors, everything else through JSON: what a checkpoint does."""
    arrays = {f"{i}/{k}": v for i, s in state["state"].items() for k, v in s.items() if isinstance(v, np.ndarray)}
    plain = {
        "state": {i: {k: v for k, v in s.items() if not isinstance(v, np.ndarray)} for i, s in state["state"].items()},
        "param_groups": state["param_groups"],
    }
    arrays, plain = load(save(arrays)), json.loads(json.dumps(plain))
    for key, array in arrays.items():
        index, name = key.split("/")
        plain["state"][index][name] = array
    return plain


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("files", [False, True])
def test_a_saved_state_continues_to_the_bit(name: str, files: bool) -> None:
    def run(p: Tensor, optimizer: Optimizer, steps: range) -> None:
        for i in steps:
            optimizer.zero_grad()
            (quadratic(p) * (1.0 + 0.1 * i)).backward()
            optimizer.step()

    whole = param(-3.0, 4.0)
    run(whole, MAKERS[name]([whole]), range(20))
    first = param(-3.0, 4.0)
    optimizer = MAKERS[name]([first])
    run(first, optimizer, range(10))
    state = optimizer.state_dict()
    state = through_files(state) if files else state
    second = nn.Parameter(first.numpy().copy())
    again = MAKERS[name]([second])
    again.param_groups[0]["lr"] = 99.0
    again.load_state_dict(state)
    run(first, optimizer, range(10, 12))  # the first one goes on: its state must not be shared
    run(second, again, range(10, 20))
    assert np.array_equal(second.numpy(), whole.numpy())


def test_state_dict_is_plain() -> None:
    p = param(1.0, 2.0)
    optimizer = AdamW([{"params": [p]}], lr=0.1)
    assert optimizer.state_dict()["state"] == {}
    give(p, 1.0, 1.0)
    optimizer.step()
    state = optimizer.state_dict()
    assert sorted(state["state"][0]) == ["exp_avg", "exp_avg_sq", "step"]
    assert state["state"][0]["step"] == 1 and type(state["state"][0]["exp_avg"]) is np.ndarray
    group = state["param_groups"][0]
    assert group == {"lr": 0.1, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01, "params": [0]}


def test_a_state_that_does_not_fit_is_refused_and_changes_nothing() -> None:
    p, q = param(1.0, 2.0), param(1.0)
    optimizer = AdamW([p, q])
    give(p, 1.0, 1.0)
    give(q, 1.0)
    optimizer.step()
    good = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match="groups of"):
        AdamW([p]).load_state_dict(good)
    with pytest.raises(ValueError, match="another optimiser"):
        SGD([p, q]).load_state_dict(good)
    with pytest.raises(ValueError, match="exp_avg has shape"):
        AdamW([q, p]).load_state_dict(good)
    with pytest.raises(ValueError, match="expected a state dictionary"):
        optimizer.load_state_dict({"state": {}})
    bad = copy.deepcopy(good)
    bad["param_groups"][0]["lr"] = -1.0
    with pytest.raises(ValueError, match="lr must be"):
        optimizer.load_state_dict(bad)
    bad = copy.deepcopy(good)
    bad["state"][7] = bad["state"][0]
    with pytest.raises(ValueError, match="unknown to its groups"):
        optimizer.load_state_dict(bad)
    for index, state in optimizer.state_dict()["state"].items():
        assert np.array_equal(state["exp_avg"], good["state"][index]["exp_avg"])
    assert optimizer.param_groups[0]["lr"] == 1e-3


# ---- errors ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [SGD, Adam, AdamW])
def test_bad_parameters_are_refused(cls: type[Optimizer]) -> None:
    p = param(1.0)
    for empty in ([], iter(()), [{"params": []}]):
        with pytest.raises(ValueError, match="parameter"):
            cls(empty)  # type: ignore[call-arg]
    for given, error in (
        ([Tensor(np.ones(1))], "does not require a gradient"),
        ([nn.Parameter(np.ones(1), requires_grad=False)], "does not require a gradient"),
        ([p, p], "given twice"),
        ([{"params": [p]}, {"params": [p]}], "given twice"),
        ([p * 2], "computed from others"),
        ([{"lr": 0.1}], 'needs "params"'),
    ):
        with pytest.raises(ValueError, match=error):
            cls(given)  # type: ignore[call-arg]
    for wrong, error in (
        ([np.ones(1)], "ndarray at place 0"),
        (p, "iterable"),
        ([{"params": [p], "speed": 1}], "speed"),
    ):
        with pytest.raises(TypeError, match=error):
            cls(wrong)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("cls", "options", "error"),
    [
        (SGD, {"lr": -0.1}, "lr"),
        (SGD, {"lr": math.nan}, "lr"),
        (SGD, {"lr": math.inf}, "lr"),
        (SGD, {"momentum": -0.1}, "momentum"),
        (SGD, {"weight_decay": -0.1}, "weight_decay"),
        (SGD, {"nesterov": True}, "nesterov"),
        (SGD, {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, "nesterov"),
        (Adam, {"betas": (1.0, 0.9)}, "betas"),
        (Adam, {"betas": (0.9, -0.1)}, "betas"),
        (Adam, {"betas": (0.9,)}, "pair"),
        (Adam, {"eps": -1e-8}, "eps"),
        (AdamW, {"lr": -1.0}, "lr"),
        (AdamW, {"betas": (0.9, 1.0)}, "betas"),
        (AdamW, {"weight_decay": -1.0}, "weight_decay"),
    ],
)
def test_bad_settings_are_refused_by_the_constructor_and_in_groups(
    cls: Any, options: dict[str, Any], error: str
) -> None:
    with pytest.raises(ValueError, match=error):
        cls([param(1.0)], **options)
    with pytest.raises(ValueError, match=error):
        cls([{"params": [param(1.0)], **options}])


# ---- clipping ----------------------------------------------------------------------------------------------------


def test_clipping_scales_all_gradients_together() -> None:
    a, b, c = param(0.0, 0.0), param(0.0), param(0.0)
    give(a, 3.0, 0.0)
    give(b, 4.0)
    assert clip_grad_norm_([a, b, c], max_norm=10.0) == pytest.approx(5.0)
    assert a.grad.tolist() == [3.0, 0.0] and b.grad.tolist() == [4.0]
    assert clip_grad_norm_(iter([a, b, c]), max_norm=1.0) == pytest.approx(5.0)
    assert np.allclose(a.grad.numpy(), [0.6, 0.0], atol=1e-6) and b.grad.item() == pytest.approx(0.8, abs=1e-6)
    assert c.grad is None
    assert clip_grad_norm_(a, max_norm=0.0) == pytest.approx(0.6, abs=1e-6)
    assert not a.grad.numpy().any()
    assert clip_grad_norm_([c], max_norm=1.0) == 0.0


def test_clipping_does_not_scale_one_array_twice() -> None:
    a, b = param(1.0), param(2.0)
    (a + b).sum().backward()  # both gradients are the same cotangent
    clip_grad_norm_([a, b], max_norm=1.0)
    assert a.grad.item() == pytest.approx(1 / math.sqrt(2), abs=1e-6) == b.grad.item()


def test_clipping_a_gradient_that_is_not_finite() -> None:
    a = param(1.0, 1.0)
    give(a, math.nan, 1.0)
    with pytest.raises(RuntimeError, match="nan"):
        clip_grad_norm_([a], 1.0, error_if_nonfinite=True)
    assert math.isnan(clip_grad_norm_([a], 1.0)) and np.isnan(a.grad.numpy()).all()
    give(a, math.inf, 1.0)
    assert clip_grad_norm_([a], 1.0) == math.inf and a.grad.numpy()[1] == 0.0
    for bad in (-1.0, math.nan):
        with pytest.raises(ValueError, match="max_norm"):
            clip_grad_norm_([a], bad)
