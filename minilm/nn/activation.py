"""Activations and dropout as modules, and the names under which configurations speak of activations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from minilm.nn import functional as F
from minilm.nn.module import Module
from minilm.tensor import Tensor

Activation = Callable[[Tensor], Tensor]

# The names of PyTorch's layers and of Transformers' config.json. BERT's "gelu" is the exact one, GPT-2's "gelu_new"
# the tanh form; mixing them up costs 1e-4 in the outputs and is easily overlooked.
ACTIVATIONS: dict[str, Activation] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "gelu_pytorch_tanh": partial(F.gelu, approximate="tanh"),
    "silu": F.silu,
    "swish": F.silu,
    "tanh": F.tanh,
}


def get_activation(activation: str | Activation) -> Activation:
    """The function for a name in `ACTIVATIONS`; a function is returned as it is."""
    if callable(activation):
        return activation
    if activation not in ACTIVATIONS:
        raise ValueError(f"unknown activation {activation!r}: expected one of {', '.join(ACTIVATIONS)}, or a function.")
    return ACTIVATIONS[activation]


class ReLU(Module):
    """relu(x) = max(x, 0), element by element."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x)


class GELU(Module):
    """The Gaussian error linear unit, element by element: x weighted by the chance that a standard normal is below it.

        gelu(x) = x · Φ(x) = x/2 · (1 + erf(x / √2))                            approximate="none"
        gelu(x) ≈ x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))                  approximate="tanh"

    Hendrycks and Gimpel 2016, "Gaussian Error Linear Units".
    """

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        if approximate not in ("none", "tanh"):
            raise ValueError(f'approximate must be "none" or "tanh", got {approximate!r}.')
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x, approximate=self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class SiLU(Module):
    """silu(x) = x · sigmoid(x), element by element; also called swish. Elfwing, Uchibe and Doya 2017."""

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x)


class Tanh(Module):
    """tanh(x), element by element."""

    def forward(self, x: Tensor) -> Tensor:
        return F.tanh(x)


class Dropout(Module):
    """Inverted dropout: in training each element is set to 0 with chance p and the others are scaled to make up for it.

        y = x · keep / (1 − p),    keep ~ Bernoulli(1 − p)        in training;    y = x in evaluation

    The scale keeps E[y] = x, so that evaluation needs no change. Srivastava et al. 2014, "Dropout". The draws come
    from `minilm.random.generator()`.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = check_dropout(p)

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}"


def check_dropout(p: float) -> float:
    """`p` if it is a probability.

    Raises:
        ValueError: if it is not within [0, 1].
    """
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout needs a probability within [0, 1], got {p}.")
    return p
