"""Stochastic gradient descent, with momentum."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from minilm.optim.optimizer import Group, Optimizer, State, check_range
from minilm.tensor import Tensor


class SGD(Optimizer):
    """Stochastic gradient descent with optional momentum.

        g ← ∇L(θ) + λ θ
        b ← μ b + (1 − τ) g             (b = g at the first step)
        θ ← θ − η b                     Nesterov: θ ← θ − η (g + μ b)

    η = lr, μ = momentum, τ = dampening, λ = weight_decay; without momentum θ ← θ − η g. Sutskever et al. 2013, "On the
    importance of initialization and momentum in deep learning", in PyTorch's form (η outside of b).

    Args:
        params: parameters, or parameter groups.
        lr, momentum, dampening, weight_decay: η, μ, τ, λ, all at least 0.
        nesterov: needs a momentum above 0 and no dampening.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[Group],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
        }
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        for name in ("lr", "momentum", "weight_decay"):
            check_range(name, group[name], 0.0)
        if group["nesterov"] and (group["momentum"] == 0 or group["dampening"] != 0):
            raise ValueError(
                f"nesterov needs a momentum above 0 and dampening 0, got momentum={group['momentum']}, "
                f"dampening={group['dampening']}."
            )

    def update(self, param: Tensor, grad: Any, group: Group, state: State) -> None:
        theta, eta, mu = param.data, group["lr"], group["momentum"]
        if group["weight_decay"]:
            grad = grad + group["weight_decay"] * theta
        if mu:
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = grad.copy()
            else:
                state["momentum_buffer"] *= mu
                state["momentum_buffer"] += (1 - group["dampening"]) * grad
            b = state["momentum_buffer"]
            grad = grad + mu * b if group["nesterov"] else b
        theta -= eta * grad
