"""The settings of a training run, checked when they are made and never changed afterwards."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

__all__ = ["SCHEDULES", "TrainingConfig"]

SCHEDULES = ("cosine", "linear", "constant")


@dataclass(frozen=True)
class TrainingConfig:
    """Everything a training run depends on besides its model and its data.

    Args:
        steps: optimiser steps.
        batch_size: sequences in one forward pass, B.
        block_size: tokens in a sequence, T.
        learning_rate: the peak, reached after the warm-up.
        min_learning_rate: where the schedule ends (not used by `constant`).
        warmup_steps: steps over which the learning rate rises in a straight line.
        schedule: `cosine`, `linear` or `constant`.
        weight_decay: of AdamW, on matrices only: never on biases, norms or other vectors.
        betas: of AdamW, the decay of the mean and of the mean square of the gradient.
        epsilon: of AdamW.
        max_grad_norm: gradients are scaled down to this global norm; `inf` never scales.
        gradient_accumulation_steps: forward passes whose gradients are averaged into one step.
        log_interval: steps between two records of the training loss, each the mean over those steps.
        eval_interval: steps between two evaluations; 0 never evaluates.
        eval_batches: batches in an evaluation, the same ones every time.
        sample_interval: steps between two samples of text; 0 never samples.
        sample_prompt: what a sample goes on from.
        sample_tokens: tokens in a sample.
        checkpoint_interval: steps between two checkpoints; 0 leaves one at the end and the best only.
        keep_checkpoints: the newest that are kept; the one with the best validation loss is kept as well.
        seed: of the weights, dropout and the order of the data.

    Raises:
        ValueError: a setting out of its range; the message names it.
    """

    steps: int = 1000
    batch_size: int = 16
    block_size: int = 128
    learning_rate: float = 1e-3
    min_learning_rate: float = 1e-4
    warmup_steps: int = 50
    schedule: str = "cosine"
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    epsilon: float = 1e-8
    max_grad_norm: float = 1.0
    gradient_accumulation_steps: int = 1
    log_interval: int = 10
    eval_interval: int = 100
    eval_batches: int = 10
    sample_interval: int = 0
    sample_prompt: str = "The"
    sample_tokens: int = 64
    checkpoint_interval: int = 200
    keep_checkpoints: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        positive = (
            "steps", "batch_size", "block_size", "gradient_accumulation_steps", "log_interval",
            "eval_batches", "sample_tokens", "keep_checkpoints",
        )  # fmt: skip
        not_negative = ("warmup_steps", "eval_interval", "sample_interval", "checkpoint_interval", "seed")
        for name in positive + not_negative:
            value, least = getattr(self, name), int(name in positive)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} is a whole number of at least {least}, got {value!r}")
        for name in ("learning_rate", "epsilon", "max_grad_norm"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is a number above 0, got {getattr(self, name)!r}")
        for name in ("min_learning_rate", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is a number of at least 0, got {getattr(self, name)!r}")
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule is one of {', '.join(SCHEDULES)}, got {self.schedule!r}")
        if self.schedule != "constant" and self.min_learning_rate > self.learning_rate:
            raise ValueError(
                f"min_learning_rate {self.min_learning_rate} is above learning_rate {self.learning_rate}"
            )
        if self.warmup_steps > self.steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} is more than all {self.steps} steps")
        object.__setattr__(self, "betas", tuple(self.betas))  # JSON gives a list
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas are two numbers from 0 to below 1, got {self.betas!r}")

    def replace(self, **changes: Any) -> TrainingConfig:
        """Return a copy with some settings changed."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values that JSON can hold."""
        return dataclasses.asdict(self) | {"betas": list(self.betas)}

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of step `step`, counted from 0.

        In the warm-up of W steps it is lr · (step + 1) / (W + 1). Afterwards, with r the share of the remaining steps
        that has passed,

            cosine:  lr_min + (lr − lr_min) · (1 + cos πr) / 2
            linear:  lr_min + (lr − lr_min) · (1 − r)

        The cosine is nanoGPT's, to the step: those of `minilm.optim` one step further on, so that the first step is
        not one of learning rate 0.
        """
        # Imported here, so that a configuration can be read without loading the tensors.
        from minilm.optim.schedules import constant_factor, cosine_factor, linear_factor

        step, warmup, steps = step + 1, self.warmup_steps + 1, self.steps + 1
        if step < warmup or self.schedule == "constant":
            factor = constant_factor(step, num_warmup_steps=warmup)
        elif self.schedule == "cosine":
            factor = cosine_factor(step, num_warmup_steps=warmup, num_training_steps=steps)
        else:
            factor = linear_factor(step, num_warmup_steps=warmup, num_training_steps=steps)
        if step < warmup or self.schedule == "constant":
            return self.learning_rate * factor
        return self.min_learning_rate + (self.learning_rate - self.min_learning_rate) * factor
