"""The settings of a run are checked when they are made, and the schedule is nanoGPT's."""

import dataclasses
import json
import math

import pytest

from minilm.training import TrainingConfig


def nanogpt_rate(step, config):
    """The formula as nanoGPT's train.py states it."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / (config.warmup_steps + 1)
    if step > config.steps:
        return config.min_learning_rate
    ratio = (step - config.warmup_steps) / (config.steps - config.warmup_steps)
    weight = 0.5 * (1.0 + math.cos(math.pi * ratio))
    return config.min_learning_rate + weight * (config.learning_rate - config.min_learning_rate)


@pytest.mark.parametrize("warmup", [0, 1, 100])
def test_cosine_is_nanogpts_schedule(warmup):
    config = TrainingConfig(steps=2000, warmup_steps=warmup, learning_rate=1e-3, min_learning_rate=1e-4)
    for step in (0, 1, 50, 99, 100, 101, 1000, 1999, 2000, 2001):
        assert config.learning_rate_at(step) == pytest.approx(nanogpt_rate(step, config), rel=1e-12)


def test_linear_and_constant():
    linear = TrainingConfig(
        steps=110, warmup_steps=10, schedule="linear", learning_rate=2.0, min_learning_rate=1.0
    )
    assert [linear.learning_rate_at(step) for step in (10, 60, 110, 500)] == pytest.approx([2, 1.5, 1, 1])
    assert linear.learning_rate_at(0) == pytest.approx(2 / 11)
    constant = linear.replace(schedule="constant")
    assert [constant.learning_rate_at(step) for step in (10, 60, 500)] == [2, 2, 2]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0), ("steps", 1.5), ("steps", True), ("batch_size", 0), ("block_size", -1), ("seed", -1),
        ("learning_rate", 0.0), ("learning_rate", math.nan), ("min_learning_rate", -1e-4),
        ("weight_decay", math.inf), ("weight_decay", -0.1), ("max_grad_norm", 0.0), ("schedule", "sine"),
        ("betas", (0.9, 1.0)), ("betas", (0.9,)), ("eval_interval", -1), ("keep_checkpoints", 0),
        ("gradient_accumulation_steps", 0), ("warmup_steps", 2000),
    ],
)  # fmt: skip
def test_bad_settings_are_named(name, value):
    with pytest.raises(ValueError, match=name):
        TrainingConfig(**{name: value})


def test_minimum_above_peak():
    with pytest.raises(ValueError, match="min_learning_rate 0.1 is above learning_rate 0.01"):
        TrainingConfig(learning_rate=0.01, min_learning_rate=0.1)


def test_it_is_frozen_and_survives_json():
    config = TrainingConfig(betas=(0.8, 0.99))
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.steps = 5
    assert TrainingConfig(**json.loads(json.dumps(config.to_dict()))) == config
    assert config.replace(steps=7, warmup_steps=1).steps == 7
