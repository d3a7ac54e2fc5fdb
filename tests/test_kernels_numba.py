"""The polynomial exp, tanh and erf of the numba implementation: the errors that its documentation states."""

from __future__ import annotations

import math

import numpy as np
import pytest

numba = pytest.importorskip("numba")
pytest.importorskip("scipy")
pytest.importorskip("threadpoolctl")

from minilm_kernels.numba_cpu import special  # noqa: E402


@numba.njit
def apply_to_all(function, x, y):
    for i in range(x.size):
        y[i] = function(x[i])


def values(function, x):
    y = np.empty_like(x)
    apply_to_all(function, x, y)
    return y


def test_exp_is_right_to_the_last_bits_over_its_whole_range():
    x = np.linspace(-87, 88.7, 400_001).astype(np.float32)
    assert np.max(np.abs(values(special._exp32, x) / np.exp(x.astype(np.float64)) - 1)) < 2e-7


def test_exp_at_the_ends():
    x = np.array([-np.inf, -88, 0, 89, np.inf, np.nan], np.float32)
    np.testing.assert_array_equal(values(special._exp32, x), np.array([0, 0, 1, np.inf, np.inf, np.nan], np.float32))


def test_tanh_and_erf():
    x = np.linspace(-10, 10, 100_001).astype(np.float32)
    assert np.max(np.abs(values(special._tanh32, x) - np.tanh(x.astype(np.float64)))) < 2e-7
    assert np.max(np.abs(values(special._erf32, x) - [math.erf(t) for t in x])) < 6e-7
    edges = np.array([-np.inf, np.inf, np.nan], np.float32)
    np.testing.assert_array_equal(values(special._tanh32, edges), np.array([-1, 1, np.nan], np.float32))
