"""Learning-rate schedules: values by hand at the corners, state, errors."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from minilm import nn
from minilm.optim import (
    SCHEDULES,
    SGD,
    LambdaLR,
    LRScheduler,
    Optimizer,
    get_constant_schedule,
    get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup,
    get_cosine_with_min_lr_schedule_with_warmup,
    get_linear_schedule_with_warmup,
    get_scheduler,
)


def make(*lrs: float) -> Optimizer:
    return SGD([{"params": [nn.Parameter(np.ones(1))], "lr": lr} for lr in lrs or (2.0,)])


def curve(scheduler: LRScheduler, steps: int) -> list[float]:
    rates = []
    for _ in range(steps):
        rates.append(scheduler.get_last_lr()[0])
        scheduler.step()
    return rates


def test_constant() -> None:
    assert curve(get_constant_schedule(make()), 5) == [2.0] * 5
    assert curve(get_constant_schedule_with_warmup(make(), 4), 7) == [0.0, 0.5, 1.0, 1.5, 2.0, 2.0, 2.0]


def test_linear() -> None:
    assert curve(get_linear_schedule_with_warmup(make(), 2, 6), 9) == [0.0, 1.0, 2.0, 1.5, 1.0, 0.5, 0.0, 0.0, 0.0]
    assert curve(get_linear_schedule_with_warmup(make(), 0, 4), 5) == [2.0, 1.5, 1.0, 0.5, 0.0]


def test_cosine() -> None:
    rates = curve(get_cosine_schedule_with_warmup(make(), 2, 6), 9)
    expected = [0.0, 1.0, 2.0, 1 + math.cos(math.pi / 4), 1.0, 1 + math.cos(3 * math.pi / 4), 0.0, 0.0, 0.0]
    assert rates == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("how", [{"min_lr": 0.2}, {"min_lr_rate": 0.1}])
def test_cosine_with_a_minimum_is_nanogpts(how: dict[str, float]) -> None:
    rates = curve(get_cosine_with_min_lr_schedule_with_warmup(make(), 2, 6, **how), 9)
    for step in range(2, 9):
        ratio = min(1.0, (step - 2) / 4)
        assert rates[step] == pytest.approx(0.2 + 0.5 * (1 + math.cos(math.pi * ratio)) * (2.0 - 0.2), abs=1e-15)
    assert rates[:2] == [0.0, 1.0] and rates[-1] == pytest.approx(0.2, abs=1e-15)


def test_more_waves() -> None:
    rates = curve(get_cosine_schedule_with_warmup(make(), 0, 8, num_cycles=1.0), 12)
    assert rates[0] == rates[8] == rates[11] == 2.0 and rates[4] == pytest.approx(0.0, abs=1e-15)


def test_each_group_keeps_its_own_rate() -> None:
    scheduler = get_linear_schedule_with_warmup(make(1.0, 3.0), 2, 4)
    scheduler.step()
    assert scheduler.get_last_lr() == [0.5, 1.5]
    scheduler = get_cosine_with_min_lr_schedule_with_warmup(make(1.0, 4.0), 0, 2, min_lr=0.5)
    scheduler.step()
    scheduler.step()
    assert scheduler.get_last_lr() == pytest.approx([0.5, 0.5], abs=1e-15)


def test_functions_of_the_step() -> None:
    scheduler = LambdaLR(make(1.0, 1.0), [lambda s: 0.5**s, lambda s: 1.0 + s])
    scheduler.step()
    scheduler.step()
    assert scheduler.get_last_lr() == [0.25, 3.0]
    with pytest.raises(ValueError, match="2 parameter groups"):
        LRScheduler(make(1.0, 1.0), [lambda s: 1.0])


OPTIONS: dict[str, dict[str, Any]] = {"cosine_with_min_lr": {"min_lr_rate": 0.1}}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_saved_state_continues(name: str) -> None:
    def build(optimizer: Optimizer) -> LRScheduler:
        return get_scheduler(name, optimizer, 3, 10, OPTIONS.get(name))

    whole = curve(build(make()), 12)
    optimizer = make()
    scheduler = build(optimizer)
    first = curve(scheduler, 5)
    states = json.loads(json.dumps([optimizer.state_dict(), scheduler.state_dict()]))
    # in either order: the scheduler made before or after the optimiser's state is loaded
    for made_before in (True, False):
        again = make(7.0)
        resumed = build(again) if made_before else None
        again.load_state_dict(states[0])
        resumed = build(again) if resumed is None else resumed
        resumed.load_state_dict(states[1])
        assert first + curve(resumed, 7) == whole


def test_errors() -> None:
    optimizer = make()
    with pytest.raises(ValueError, match="unknown schedule 'step'"):
        get_scheduler("step", optimizer)
    with pytest.raises(ValueError, match="num_warmup_steps and num_training_steps"):
        get_scheduler("linear", optimizer)
    with pytest.raises(ValueError, match="needs num_training_steps"):
        get_scheduler("cosine", optimizer, 10)
    with pytest.raises(ValueError, match="needs num_warmup_steps"):
        get_scheduler("constant_with_warmup", optimizer)
    with pytest.raises(ValueError, match="num_warmup_steps must be"):
        get_linear_schedule_with_warmup(optimizer, -1, 10)
    with pytest.raises(ValueError, match="num_training_steps must be"):
        get_linear_schedule_with_warmup(optimizer, 0, 0)
    for how in ({}, {"min_lr": 0.1, "min_lr_rate": 0.1}):
        with pytest.raises(ValueError, match="either"):
            get_cosine_with_min_lr_schedule_with_warmup(optimizer, 0, 10, **how)
    for how in ({"min_lr": 3.0}, {"min_lr": -1.0}, {"min_lr_rate": 1.5}):
        with pytest.raises(ValueError, match="minimum learning rate"):
            get_cosine_with_min_lr_schedule_with_warmup(optimizer, 0, 10, **how)
    scheduler = get_constant_schedule(optimizer)
    with pytest.raises(ValueError, match="expected a state dictionary"):
        scheduler.load_state_dict({})
    with pytest.raises(ValueError, match="parameter groups"):
        scheduler.load_state_dict({"last_epoch": 1, "base_lrs": [1.0, 2.0]})
