"""Initial values, written into a parameter in place; the numbers come from `minilm.random.generator()`.

Why scale at all: a layer y = Wx with n inputs of variance 1 has Var(y) = n·Var(W), so weights of variance 1 would
make the signal grow by √n at each layer. Xavier and Kaiming choose Var(W) to keep it level.

Fans, for a weight of shape (out, in, …): fan_in = in · (the product of the rest), fan_out = out · (the same).

PyTorch's names, arguments and defaults (torch.nn.init). Each function returns the tensor that it has filled.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from minilm.random import generator
from minilm.tensor import Tensor

_drawing = True


@contextmanager
def skip_draws() -> Iterator[None]:
    """Inside, nothing is drawn and tensors stay as they are: for a model whose weights are about to be read.

    Drawing 124M numbers only to overwrite them takes longer than reading them, and moves the generator on.
    """
    global _drawing
    before, _drawing = _drawing, False
    try:
        yield
    finally:
        _drawing = before


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0) -> Tensor:
    """Fill with draws from the uniform distribution U(a, b)."""
    if not a <= b:
        raise ValueError(f"uniform_ needs a <= b, got a={a}, b={b}.")
    if not _drawing:
        return tensor
    draws = generator().random(tensor.shape, dtype=_draw_dtype(tensor))
    draws *= b - a
    draws += a
    return _fill(tensor, draws)


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Fill with draws from the normal distribution N(mean, std²)."""
    if std < 0:
        raise ValueError(f"normal_ needs std >= 0, got {std}.")
    if not _drawing:
        return tensor
    draws = generator().standard_normal(tensor.shape, dtype=_draw_dtype(tensor))
    draws *= std
    draws += mean
    return _fill(tensor, draws)


def trunc_normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0) -> Tensor:
    """Fill with draws from N(mean, std²) kept within [a, b]: whatever falls outside is drawn again.

    The bounds are values, not standard deviations, as in PyTorch.
    """
    if not a < b or std <= 0:
        raise ValueError(f"trunc_normal_ needs a < b and std > 0, got a={a}, b={b}, std={std}.")
    low, high = (a - mean) / std, (b - mean) / std
    if _normal_cdf(high) - _normal_cdf(low) < 0.01:
        raise ValueError(
            f"[{a}, {b}] holds less than 1 % of N({mean}, {std}²), so drawing again would hardly end; widen the bounds."
        )
    if not _drawing:
        return tensor
    rng, dtype = generator(), _draw_dtype(tensor)
    draws = rng.standard_normal(tensor.shape, dtype=dtype)
    outside = (draws < low) | (draws > high)
    while outside.any():
        draws[outside] = rng.standard_normal(int(outside.sum()), dtype=dtype)
        outside = (draws < low) | (draws > high)
    draws *= std
    draws += mean
    return _fill(tensor, np.clip(draws, a, b, out=draws))  # the scaling may round past a bound


def constant_(tensor: Tensor, val: float) -> Tensor:
    """Fill with one value."""
    tensor.data[...] = val
    tensor.bump_version()
    return tensor


def zeros_(tensor: Tensor) -> Tensor:
    """Fill with zeros."""
    return constant_(tensor, 0.0)


def ones_(tensor: Tensor) -> Tensor:
    """Fill with ones."""
    return constant_(tensor, 1.0)


def xavier_uniform_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """Fill from U(−a, a), a = gain · √(6 / (fan_in + fan_out)): Glorot and Bengio 2010, equation 16."""
    fan_in, fan_out = _fans(tensor)
    bound = gain * math.sqrt(6.0 / (fan_in + fan_out))
    return uniform_(tensor, -bound, bound)


def xavier_normal_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """Fill from N(0, σ²), σ = gain · √(2 / (fan_in + fan_out)): Glorot and Bengio 2010, section 4.2.1."""
    fan_in, fan_out = _fans(tensor)
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / (fan_in + fan_out)))


def kaiming_uniform_(tensor: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Tensor:
    """Fill from U(−c, c), c = gain · √(3 / fan): He et al. 2015, section 2.2.

    Args:
        a: the negative slope of the leaky ReLU that follows; only used with `nonlinearity="leaky_relu"`.
        mode: "fan_in" keeps the variance of the forward signal, "fan_out" that of the backward one.
        nonlinearity: what follows the layer, see `calculate_gain`.
    """
    bound = calculate_gain(nonlinearity, a) * math.sqrt(3.0 / _fan(tensor, mode))
    return uniform_(tensor, -bound, bound)


def kaiming_normal_(tensor: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Tensor:
    """Fill from N(0, σ²), σ = gain / √fan: He et al. 2015, section 2.2; arguments as in `kaiming_uniform_`."""
    return normal_(tensor, 0.0, calculate_gain(nonlinearity, a) / math.sqrt(_fan(tensor, mode)))


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor by which a nonlinearity shrinks a signal's standard deviation, to be multiplied back.

    1 for "linear" and "sigmoid", 5/3 for "tanh", √2 for "relu", √(2 / (1 + slope²)) for "leaky_relu" with
    slope = `param` (0.01 if None).
    """
    gains: dict[str, float] = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5.0 / 3.0, "relu": math.sqrt(2.0)}
    if nonlinearity == "leaky_relu":
        return math.sqrt(2.0 / (1.0 + (0.01 if param is None else param) ** 2))
    if nonlinearity not in gains:
        raise ValueError(f"unknown nonlinearity {nonlinearity!r}: expected leaky_relu, {', '.join(gains)}.")
    return gains[nonlinearity]


def _fans(tensor: Tensor) -> tuple[int, int]:
    if tensor.ndim < 2:
        raise ValueError(
            f"fan-in and fan-out need a weight of at least 2 dimensions (out, in), got shape {tensor.shape}."
        )
    rest = math.prod(tensor.shape[2:])
    return tensor.shape[1] * rest, tensor.shape[0] * rest


def _fan(tensor: Tensor, mode: str) -> int:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f'mode must be "fan_in" or "fan_out", got {mode!r}.')
    return _fans(tensor)[0 if mode == "fan_in" else 1]


def _normal_cdf(x: float) -> float:
    return 0.5 * (1.0 + math.erf(x / math.sqrt(2.0)))


def _draw_dtype(tensor: Tensor) -> Any:
    """Draw in float32 for float32 (half the memory and time of float64 at 124M parameters), else in float64."""
    return np.float32 if tensor.dtype == np.float32 else np.float64


def _fill(tensor: Tensor, draws: np.ndarray) -> Tensor:
    tensor.data[...] = np.asarray(draws, like=tensor.data)  # the draws are made on the CPU
    tensor.bump_version()
    return tensor
