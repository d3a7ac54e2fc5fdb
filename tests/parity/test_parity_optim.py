"""200 steps of every optimiser and schedule beside PyTorch's and Transformers': the same path.

Both descend the same small network's loss, each on its own gradients, so that a difference in any step grows. In
float64 they stay within 1e-12, in float32 within 1e-6, relative to the largest parameter. The learning rates keep the
descent stable. At Adam's edge of stability nothing follows anything: at lr = 0.005 with betas (0.8, 0.95), PyTorch is
2e-8 away from itself after 200 steps when one weight is moved by 1e-15.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from minilm import nn, optim
from minilm.nn import functional as F
from minilm.nn.utils import clip_grad_norm_
from minilm.tensor import Tensor

torch = pytest.importorskip("torch")

STEPS = 200
OPTIMISERS: dict[str, Callable[[Any, Any], Any]] = {
    "SGD": lambda o, p: o.SGD(p, lr=0.1),
    "SGD weight decay": lambda o, p: o.SGD(p, lr=0.1, weight_decay=0.01),
    "SGD momentum": lambda o, p: o.SGD(p, lr=0.05, momentum=0.9),
    "SGD dampening": lambda o, p: o.SGD(p, lr=0.1, momentum=0.9, dampening=0.5, weight_decay=0.01),
    "SGD Nesterov": lambda o, p: o.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    "Adam": lambda o, p: o.Adam(p, lr=0.01),
    "Adam weight decay": lambda o, p: o.Adam(p, lr=0.002, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.01),
    "Adam AMSGrad": lambda o, p: o.Adam(p, lr=0.01, amsgrad=True),
    "AdamW": lambda o, p: o.AdamW(p, lr=0.01),
    "AdamW settings": lambda o, p: o.AdamW(p, lr=0.005, betas=(0.9, 0.95), eps=1e-6, weight_decay=0.1),
}
SCHEDULES: dict[str, dict[str, Any]] = {
    "constant": {},
    "constant_with_warmup": {},
    "linear": {},
    "cosine": {},
    "cosine_with_min_lr": {"min_lr_rate": 0.1},
}

X = np.random.default_rng(0).standard_normal((32, 6))
Y = np.tanh(X @ np.random.default_rng(1).standard_normal((6, 3)))


def networks(dtype: Any) -> tuple[nn.Module, Any]:
    theirs = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for param in theirs.parameters():
            param.copy_(torch.randn(param.shape, generator=generator) * 0.5)
    ours = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    ours.load_state_dict(theirs.state_dict())
    return ours.to(dtype), theirs.to(torch.float64 if dtype == np.float64 else torch.float32)


def farthest(ours: nn.Module, theirs: Any) -> float:
    """The largest difference of any two parameters, relative to the largest parameter of its tensor."""
    worst = 0.0
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        a, b = p.numpy().astype(np.float64), q.detach().double().numpy()
        assert np.isfinite(a).all() and np.isfinite(b).all()
        worst = max(worst, float(np.abs(a - b).max() / np.abs(b).max()))
    return worst


@pytest.mark.parametrize("name", OPTIMISERS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 1e-6)])
def test_optimisers(name: str, dtype: Any, tolerance: float) -> None:
    ours, theirs = networks(dtype)
    start = {k: v.numpy().copy() for k, v in ours.state_dict().items()}
    optimizer, expected = OPTIMISERS[name](optim, ours.parameters()), OPTIMISERS[name](torch.optim, theirs.parameters())
    x, y = (Tensor(a.astype(dtype)) for a in (X, Y))
    tx, ty = (torch.tensor(a.astype(dtype)) for a in (X, Y))
    for step in range(STEPS):
        optimizer.zero_grad()
        F.mse_loss(ours(x), y).backward()
        expected.zero_grad()
        torch.nn.functional.mse_loss(theirs(tx), ty).backward()
        if dtype == np.float32:  # the optimiser is compared here, not the rounding of two libraries' products
            for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
                p.grad = Tensor(q.grad.numpy().copy())
        optimizer.step()
        expected.step()
        assert farthest(ours, theirs) < tolerance, f"step {step}"
    moved = max(np.abs(v.numpy() - start[k]).max() for k, v in ours.state_dict().items())
    assert moved > 0.1  # both went somewhere


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_with_adamw_and_clipping(name: str) -> None:
    """As a training loop has them: two groups, clipping, a schedule from Transformers."""
    transformers = pytest.importorskip("transformers")
    ours, theirs = networks(np.float64)

    def groups(model: Any) -> list[dict[str, Any]]:
        params = list(model.parameters())
        return [
            {"params": [p for p in params if p.ndim == 2], "weight_decay": 0.1},
            {"params": [p for p in params if p.ndim == 1], "weight_decay": 0.0, "lr": 0.02},
        ]

    optimizer, expected = optim.AdamW(groups(ours), lr=0.01), torch.optim.AdamW(groups(theirs), lr=0.01)
    schedule = optim.get_scheduler(name, optimizer, 20, STEPS, SCHEDULES[name])
    theirs_name = transformers.optimization.SchedulerType(name)
    expected_schedule = transformers.get_scheduler(
        theirs_name, expected, num_warmup_steps=20, num_training_steps=STEPS, scheduler_specific_kwargs=SCHEDULES[name]
    )
    x, y, tx, ty = Tensor(X), Tensor(Y), torch.tensor(X), torch.tensor(Y)
    for step in range(STEPS):
        optimizer.zero_grad()
        F.mse_loss(ours(x), y).backward()
        clip_grad_norm_(ours.parameters(), 0.1)
        optimizer.step()
        schedule.step()
        expected.zero_grad()
        torch.nn.functional.mse_loss(theirs(tx), ty).backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.1)
        expected.step()
        expected_schedule.step()
        assert schedule.get_last_lr() == pytest.approx(expected_schedule.get_last_lr(), rel=1e-12, abs=1e-15), step
        assert farthest(ours, theirs) < 1e-12, f"step {step}"


def test_a_minimum_given_as_a_learning_rate() -> None:
    transformers = pytest.importorskip("transformers")
    ours, theirs = networks(np.float64)
    optimizer, expected = optim.SGD(ours.parameters(), lr=0.3), torch.optim.SGD(theirs.parameters(), lr=0.3)
    make = "get_cosine_with_min_lr_schedule_with_warmup"
    schedule = getattr(optim, make)(optimizer, 5, 50, min_lr=0.02)
    expected_schedule = getattr(transformers.optimization, make)(expected, 5, 50, min_lr=0.02)
    for _ in range(50):
        assert schedule.get_last_lr() == pytest.approx(expected_schedule.get_last_lr(), rel=1e-12)
        schedule.step()
        expected.step()
        expected_schedule.step()


def test_lambda_schedule_is_pytorchs() -> None:
    ours, theirs = networks(np.float64)
    optimizer, expected = optim.SGD(ours.parameters(), lr=0.3), torch.optim.SGD(theirs.parameters(), lr=0.3)
    schedule = optim.LambdaLR(optimizer, lambda step: 0.95**step)
    expected_schedule = torch.optim.lr_scheduler.LambdaLR(expected, lambda step: 0.95**step)
    for _ in range(50):
        assert schedule.get_last_lr() == pytest.approx(expected_schedule.get_last_lr(), rel=1e-15)
        schedule.step()
        expected.step()
        expected_schedule.step()
