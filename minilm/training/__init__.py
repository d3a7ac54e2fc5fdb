"""Training: the loop, its settings, checkpoints, log and picture."""

from .checkpoint import CheckpointError, latest_checkpoint, list_checkpoints, read_checkpoint
from .config import TrainingConfig
from .log import read_log
from .loop import TrainingDiverged, TrainingLoop, TrainingResult, parameter_groups
from .objectives import model_loss, next_token_loss
from .plots import plot_training
from .presets import PRESETS, Preset
from .pretrain import resume_pretraining, start_pretraining

__all__ = [
    "PRESETS",
    "CheckpointError",
    "Preset",
    "TrainingConfig",
    "TrainingDiverged",
    "TrainingLoop",
    "TrainingResult",
    "latest_checkpoint",
    "list_checkpoints",
    "model_loss",
    "next_token_loss",
    "parameter_groups",
    "plot_training",
    "read_checkpoint",
    "read_log",
    "resume_pretraining",
    "start_pretraining",
]
