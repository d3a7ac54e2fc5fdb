"""Learning-rate schedules: a factor for each step, which multiplies every group's learning rate.

Each starts with a linear warm-up, 0 at step 0 and 1 at step `num_warmup_steps` (W); N = `num_training_steps`:

    constant    1
    linear      (N − s) / (N − W)
    cosine      ½ (1 + cos(π p)),                       p = (s − W) / (N − W)
    cosine with minimum r:   r + (1 − r) · ½ (1 + cos(π p)),  held at r from step N on

The order is the usual one: loss.backward(), optimizer.step(), scheduler.step(). Names, arguments and values are those
of Transformers' `optimization.py` up to step N; from there each holds its last value. Cosine is from Loshchilov and
Hutter 2017, "SGDR", equation 5; the minimum as in nanoGPT (whose warm-up, (s + 1) / (W + 1), starts one step further).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from minilm.optim.optimizer import Group, Optimizer


class LRScheduler:
    """Sets lr = initial lr · factor(step) in every parameter group, for step = 0 at once and 1, 2, … at each `step()`.

    Args:
        optimizer: the optimiser whose groups are set; a group's "initial_lr" is kept in it, and is used instead of
            its "lr" if there already, so that a schedule can be made again after the optimiser's state is loaded.
        factor: step → factor, or a list with one function for each group.

    Raises:
        ValueError: for a list of another length than there are groups.
    """

    def __init__(self, optimizer: Optimizer, factor: Callable[[int], float] | list[Callable[[int], float]]) -> None:
        groups: list[Group] = optimizer.param_groups
        self.factors = list(factor) if isinstance(factor, list) else [factor] * len(groups)
        if len(self.factors) != len(groups):
            raise ValueError(f"{len(groups)} parameter groups need as many schedules, got {len(self.factors)}.")
        self.optimizer = optimizer
        for group in groups:
            group.setdefault("initial_lr", group["lr"])
        self.base_lrs: list[float] = [group["initial_lr"] for group in groups]
        self.last_epoch = 0  # the count of steps; PyTorch's name
        self._set()

    def step(self) -> None:
        """Go on to the next step's learning rate."""
        self.last_epoch += 1
        self._set()

    def get_last_lr(self) -> list[float]:
        """The learning rate of each group, as it is set now."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers: the step and the initial learning rates. The schedule itself is code and is made anew."""
        return {"last_epoch": self.last_epoch, "base_lrs": list(self.base_lrs)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue at a saved step; sets the learning rates.

        Raises:
            ValueError: if it is not such a state, or had another number of groups.
        """
        if not isinstance(state_dict, Mapping) or not {"last_epoch", "base_lrs"} <= state_dict.keys():
            raise ValueError('expected a state dictionary with "last_epoch" and "base_lrs", as state_dict() gives it.')
        if len(state_dict["base_lrs"]) != len(self.base_lrs):
            raise ValueError(
                f"this schedule has {len(self.base_lrs)} parameter groups, the saved one {len(state_dict['base_lrs'])}."
            )
        self.last_epoch = int(state_dict["last_epoch"])
        self.base_lrs = [float(lr) for lr in state_dict["base_lrs"]]
        for group, lr in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["initial_lr"] = lr
        self._set()

    def _set(self) -> None:
        for group, lr, factor in zip(self.optimizer.param_groups, self.base_lrs, self.factors, strict=True):
            group["lr"] = lr * factor(self.last_epoch)


LambdaLR = LRScheduler  # PyTorch's name for a schedule given as a function


def constant_factor(step: int, *, num_warmup_steps: int = 0) -> float:
    """1, after the warm-up."""
    return step / num_warmup_steps if step < num_warmup_steps else 1.0


def linear_factor(step: int, *, num_warmup_steps: int, num_training_steps: int) -> float:
    """Down from 1 to 0 at `num_training_steps`, after the warm-up; 0 from then on."""
    if step < num_warmup_steps:
        return step / num_warmup_steps
    return max(0.0, (num_training_steps - step) / max(1, num_training_steps - num_warmup_steps))


def cosine_factor(
    step: int, *, num_warmup_steps: int, num_training_steps: int, num_cycles: float = 0.5, min_lr_rate: float = 0.0
) -> float:
    """Down from 1 to `min_lr_rate` along a cosine, after the warm-up.

    `num_cycles` counts the waves until `num_training_steps`; from then on the last value is held.
    """
    if step < num_warmup_steps:
        return step / num_warmup_steps
    progress = (step - num_warmup_steps) / max(1, num_training_steps - num_warmup_steps)
    progress = min(progress, 1.0)  # or the wave would rise again, as it does in Transformers
    wave = 0.5 * (1.0 + math.cos(2.0 * math.pi * num_cycles * progress))
    return min_lr_rate + (1.0 - min_lr_rate) * wave


def get_constant_schedule(optimizer: Optimizer) -> LRScheduler:
    """The learning rate as it is."""
    return LRScheduler(optimizer, constant_factor)


def get_constant_schedule_with_warmup(optimizer: Optimizer, num_warmup_steps: int) -> LRScheduler:
    """A linear warm-up over `num_warmup_steps`, then constant."""
    _check_steps(num_warmup_steps, None)
    return LRScheduler(optimizer, partial(constant_factor, num_warmup_steps=num_warmup_steps))


def get_linear_schedule_with_warmup(
    optimizer: Optimizer, num_warmup_steps: int, num_training_steps: int
) -> LRScheduler:
    """A linear warm-up over `num_warmup_steps`, then linearly down to 0 at `num_training_steps`."""
    _check_steps(num_warmup_steps, num_training_steps)
    return LRScheduler(
        optimizer,
        partial(linear_factor, num_warmup_steps=num_warmup_steps, num_training_steps=num_training_steps),
    )


def get_cosine_schedule_with_warmup(
    optimizer: Optimizer, num_warmup_steps: int, num_training_steps: int, num_cycles: float = 0.5
) -> LRScheduler:
    """A linear warm-up over `num_warmup_steps`, then along a cosine down to 0 at `num_training_steps`."""
    return get_cosine_with_min_lr_schedule_with_warmup(
        optimizer, num_warmup_steps, num_training_steps, num_cycles, min_lr_rate=0.0
    )


def get_cosine_with_min_lr_schedule_with_warmup(
    optimizer: Optimizer,
    num_warmup_steps: int,
    num_training_steps: int,
    num_cycles: float = 0.5,
    *,
    min_lr: float | None = None,
    min_lr_rate: float | None = None,
) -> LRScheduler:
    """As `get_cosine_schedule_with_warmup`, down to a minimum, given in one of two ways.

    Args:
        min_lr: the minimum itself, the same for every group. (Transformers divides it by the optimiser's default
            learning rate, so that there a group with another one gets another minimum.)
        min_lr_rate: the minimum divided by the initial learning rate, within [0, 1].
    """
    _check_steps(num_warmup_steps, num_training_steps)
    if (min_lr is None) == (min_lr_rate is None):
        raise ValueError("give either min_lr or min_lr_rate.")
    factors: list[Callable[[int], float]] = []
    for group in optimizer.param_groups:
        initial = group.get("initial_lr", group["lr"])
        rate = min_lr_rate if min_lr is None else (min_lr / initial if initial else math.inf)
        if rate is None or not 0.0 <= rate <= 1.0:
            raise ValueError(
                f"the minimum learning rate must be within [0, initial lr = {initial}], got min_lr={min_lr}, "
                f"min_lr_rate={min_lr_rate}."
            )
        factors.append(
            partial(
                cosine_factor,
                num_warmup_steps=num_warmup_steps,
                num_training_steps=num_training_steps,
                num_cycles=num_cycles,
                min_lr_rate=rate,
            )
        )
    return LRScheduler(optimizer, factors)


SCHEDULES: dict[str, Callable[..., LRScheduler]] = {
    "constant": get_constant_schedule,
    "constant_with_warmup": get_constant_schedule_with_warmup,
    "linear": get_linear_schedule_with_warmup,
    "cosine": get_cosine_schedule_with_warmup,
    "cosine_with_min_lr": get_cosine_with_min_lr_schedule_with_warmup,
}


def get_scheduler(
    name: str,
    optimizer: Optimizer,
    num_warmup_steps: int | None = None,
    num_training_steps: int | None = None,
    scheduler_specific_kwargs: Mapping[str, Any] | None = None,
) -> LRScheduler:
    """The schedule of that name: "constant", "constant_with_warmup", "linear", "cosine" or "cosine_with_min_lr".

    Args:
        optimizer: whose learning rates are set.
        num_warmup_steps: needed by all but "constant".
        num_training_steps: needed by "linear" and the cosines.
        scheduler_specific_kwargs: such as {"min_lr": 1e-5} or {"num_cycles": 2}.

    Raises:
        ValueError: for another name, and for a number of steps that is needed and missing.
    """
    if name not in SCHEDULES:
        raise ValueError(f"unknown schedule {name!r}: expected one of {', '.join(SCHEDULES)}.")
    needed = {"num_warmup_steps": num_warmup_steps, "num_training_steps": num_training_steps}
    if name == "constant":
        needed = {}
    elif name == "constant_with_warmup":
        del needed["num_training_steps"]
    missing = [argument for argument, value in needed.items() if value is None]
    if missing:
        raise ValueError(f"the schedule {name!r} needs {' and '.join(missing)}.")
    return SCHEDULES[name](optimizer, **needed, **(scheduler_specific_kwargs or {}))


def _check_steps(num_warmup_steps: int, num_training_steps: int | None) -> None:
    if num_warmup_steps < 0:
        raise ValueError(f"num_warmup_steps must be at least 0, got {num_warmup_steps}.")
    if num_training_steps is not None and num_training_steps < 1:
        raise ValueError(f"num_training_steps must be at least 1, got {num_training_steps}.")
