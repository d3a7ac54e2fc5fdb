"""Adam, and AdamW, which takes the weight decay out of the gradient."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from minilm import kernels
from minilm.optim.optimizer import Group, Optimizer, State, check_range
from minilm.tensor import Tensor


class Adam(Optimizer):
    """Adam: steps of about η per element, whatever the gradient's scale.

        g ← ∇L(θ) + λ θ
        m ← β₁ m + (1 − β₁) g,        m̂ = m / (1 − β₁ᵗ)
        v ← β₂ v + (1 − β₂) g²,       v̂ = v / (1 − β₂ᵗ)
        θ ← θ − η m̂ / (√v̂ + ε)

    t counts from 1; m and v start at 0, and the division by 1 − βᵗ makes up for that. Kingma and Ba 2015, "Adam",
    algorithm 1. λ is an L2 penalty here, scaled by 1/√v̂ like every gradient; usually AdamW is what is wanted. With
    `amsgrad`, v̂ is computed from the largest v so far (Reddi et al. 2018, algorithm 2).

    Args:
        params: parameters, or parameter groups.
        lr: η, at least 0.
        betas: (β₁, β₂), each within [0, 1).
        eps: ε, at least 0.
        weight_decay: λ, at least 0.
        amsgrad: see above.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[Group],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad}
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        _check_adam(group)

    def update(self, param: Tensor, grad: Any, group: Group, state: State) -> None:
        theta, eta, (beta1, beta2) = param.data, group["lr"], group["betas"]
        t, m, v = _next_step(theta, state)
        if group["weight_decay"]:
            grad = grad + group["weight_decay"] * theta
        m *= beta1
        m += (1 - beta1) * grad
        v *= beta2
        v += (1 - beta2) * (grad * grad)
        if group["amsgrad"]:
            v = np.maximum(state.setdefault("max_exp_avg_sq", np.zeros_like(v)), v)
            state["max_exp_avg_sq"] = v
        denominator = np.sqrt(v)
        denominator /= (1 - beta2**t) ** 0.5  # √v̂
        denominator += group["eps"]
        theta -= eta / (1 - beta1**t) * (m / denominator)


class AdamW(Optimizer):
    """Adam with decoupled weight decay: θ shrinks by ηλ a step, and the decay does not pass through m and v.

        θ ← θ − η λ θ
        m ← β₁ m + (1 − β₁) g,        m̂ = m / (1 − β₁ᵗ)
        v ← β₂ v + (1 − β₂) g²,       v̂ = v / (1 − β₂ᵗ)
        θ ← θ − η m̂ / (√v̂ + ε)

    Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization", algorithm 2. The update itself is the kernel
    `minilm.kernels.adamw`, one pass over the four arrays.

    Args:
        params: parameters, or parameter groups.
        lr: η, at least 0.
        betas: (β₁, β₂), each within [0, 1).
        eps: ε, at least 0.
        weight_decay: λ, at least 0.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[Group],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def check(self, group: Group) -> None:
        _check_adam(group)

    def update(self, param: Tensor, grad: Any, group: Group, state: State) -> None:
        t, m, v = _next_step(param.data, state)
        kernels.adamw(
            param.data,
            grad,
            m,
            v,
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            eps=group["eps"],
            weight_decay=group["weight_decay"],
            step=t,
        )


def _check_adam(group: Group) -> None:
    for name in ("lr", "eps", "weight_decay"):
        check_range(name, group[name], 0.0)
    if len(group["betas"]) != 2:
        raise ValueError(f"betas must be a pair (β₁, β₂), got {group['betas']}.")
    for beta in group["betas"]:
        check_range("each of betas", beta, 0.0, 1.0)


def _next_step(theta: Any, state: State) -> tuple[int, Any, Any]:
    """t (counted up), m and v of one parameter, under PyTorch's names for them."""
    if not state:
        state.update(step=0, exp_avg=np.zeros_like(theta), exp_avg_sq=np.zeros_like(theta))
    state["step"] += 1
    return state["step"], state["exp_avg"], state["exp_avg_sq"]
