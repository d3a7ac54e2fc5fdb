"""Optimisers (`SGD`, `Adam`, `AdamW`) and learning-rate schedules, with PyTorch's and Transformers' names."""

from minilm.optim.adam import Adam, AdamW
from minilm.optim.optimizer import Optimizer
from minilm.optim.schedules import (
    SCHEDULES,
    LambdaLR,
    LRScheduler,
    get_constant_schedule,
    get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup,
    get_cosine_with_min_lr_schedule_with_warmup,
    get_linear_schedule_with_warmup,
    get_scheduler,
)
from minilm.optim.sgd import SGD

__all__ = [
    "SCHEDULES",
    "SGD",
    "Adam",
    "AdamW",
    "LRScheduler",
    "LambdaLR",
    "Optimizer",
    "get_constant_schedule",
    "get_constant_schedule_with_warmup",
    "get_cosine_schedule_with_warmup",
    "get_cosine_with_min_lr_schedule_with_warmup",
    "get_linear_schedule_with_warmup",
    "get_scheduler",
]
