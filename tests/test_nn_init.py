"""Initialisation: bounds, moments, fans, in place, repeatable, errors."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

import minilm.random
from minilm import nn
from minilm.nn import init
from minilm.tensor import Tensor


@pytest.fixture(autouse=True)
def _seeded() -> None:
    minilm.random.seed(0)


def weight(*shape: int, dtype: type = np.float32) -> nn.Parameter:
    return nn.Parameter(np.full(shape, np.nan, dtype))


# fill, mean, standard deviation, bound (None: unbounded); the weight is (500, 400): fan_out 500, fan_in 400
FILLS: list[tuple[Callable[[nn.Parameter], Tensor], float, float, float | None]] = [
    (lambda w: init.uniform_(w, -1.0, 3.0), 1.0, 4 / math.sqrt(12), 2.0),
    (lambda w: init.normal_(w, 2.0, 0.5), 2.0, 0.5, None),
    (lambda w: init.xavier_uniform_(w, gain=2.0), 0.0, 2 * math.sqrt(2 / 900), 2 * math.sqrt(6 / 900)),
    (lambda w: init.xavier_normal_(w), 0.0, math.sqrt(2 / 900), None),
    (lambda w: init.kaiming_uniform_(w), 0.0, math.sqrt(2 / 400), math.sqrt(6 / 400)),
    (lambda w: init.kaiming_uniform_(w, mode="fan_out"), 0.0, math.sqrt(2 / 500), math.sqrt(6 / 500)),
    (lambda w: init.kaiming_normal_(w, nonlinearity="relu"), 0.0, math.sqrt(2 / 400), None),
    (lambda w: init.kaiming_normal_(w, a=math.sqrt(5)), 0.0, math.sqrt(1 / 1200), None),
    (lambda w: init.trunc_normal_(w, 1.0, 1.0, -1.0, 3.0), 1.0, 0.87963, 2.0),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("fill", "mean", "std", "bound"), FILLS)
def test_moments_and_bounds(
    fill: Callable[[nn.Parameter], Tensor], mean: float, std: float, bound: float | None, dtype: type
) -> None:
    w = weight(500, 400, dtype=dtype)
    array = w.data
    assert fill(w) is w and w.data is array and w.dtype == dtype
    values = w.numpy().astype(np.float64)
    assert values.mean() == pytest.approx(mean, abs=0.02 * std)
    assert values.std() == pytest.approx(std, rel=0.02)
    farthest = np.abs(values - mean).max()
    assert farthest > 4 * std if bound is None else 0.99 * bound < farthest <= bound * (1 + 1e-7)


def test_constants() -> None:
    assert init.zeros_(weight(2)).tolist() == [0.0, 0.0]
    assert init.ones_(weight(2)).tolist() == [1.0, 1.0]
    assert init.constant_(weight(2), 2.5).tolist() == [2.5, 2.5]


def test_truncated_normal_of_one_sided_bounds() -> None:
    values = init.trunc_normal_(weight(1000), mean=0.5, std=0.1, a=0.5, b=0.7).numpy()
    assert values.min() >= 0.5 and values.max() <= np.float32(0.7) and values.std() > 0.03


def test_kaiming_keeps_the_signal_level_through_relu_layers() -> None:
    x = np.random.default_rng(0).standard_normal((64, 256))
    for _ in range(20):
        x = np.maximum(x @ init.kaiming_normal_(weight(256, 256), nonlinearity="relu").numpy().T, 0)
    assert 0.2 < (x * x).mean() < 5.0  # without the scale: 128²⁰


def test_seeds_repeat_and_graphs_notice() -> None:
    w = weight(3, 3)
    minilm.random.seed(4)
    first = init.normal_(w).numpy().copy()
    out = (w * w).sum()
    minilm.random.seed(4)
    assert np.array_equal(init.normal_(w).numpy(), first)
    with pytest.raises(RuntimeError, match="changed in place"):
        out.backward()


def test_gains() -> None:
    assert init.calculate_gain("relu") == math.sqrt(2)
    assert init.calculate_gain("leaky_relu", 0.0) == math.sqrt(2)
    assert init.calculate_gain("tanh") == 5 / 3 and init.calculate_gain("linear") == 1.0


def test_errors() -> None:
    with pytest.raises(ValueError, match="at least 2 dimensions"):
        init.xavier_uniform_(weight(3))
    with pytest.raises(ValueError, match="fan_in"):
        init.kaiming_uniform_(weight(3, 3), mode="fan")
    with pytest.raises(ValueError, match="unknown nonlinearity"):
        init.calculate_gain("gelu")
    with pytest.raises(ValueError, match="std >= 0"):
        init.normal_(weight(3), std=-1.0)
    with pytest.raises(ValueError, match="a <= b"):
        init.uniform_(weight(3), 1.0, 0.0)
    with pytest.raises(ValueError, match="a < b"):
        init.trunc_normal_(weight(3), a=1.0, b=0.0)
    with pytest.raises(ValueError, match="less than 1 %"):
        init.trunc_normal_(weight(3), a=5.0, b=6.0)
