"""Named sizes of a pretraining run: a model, how its text is cut into tokens, and settings that suit both."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .config import TrainingConfig

__all__ = ["PRESETS", "Preset"]


@dataclass(frozen=True)
class Preset:
    """A size of GPT with the settings to train it.

    Attributes:
        about: what it is for, in a line.
        vocab_size: tokens of the byte-level BPE that is learnt from the text; 0 takes characters as tokens.
        model: fields of `GPT2Config`; the vocabulary and the number of positions come from the rest.
        training: the settings of the run.
    """

    about: str
    vocab_size: int
    model: dict[str, Any]
    training: TrainingConfig = field(default_factory=TrainingConfig)


def _shape(layers: int, heads: int, width: int, dropout: float, **more: Any) -> dict[str, Any]:
    rates = {name: dropout for name in ("resid_pdrop", "embd_pdrop", "attn_pdrop")}
    return {"n_layer": layers, "n_head": heads, "n_embd": width, **rates, **more}


PRESETS = {
    "tiny": Preset(
        about="1 M parameters; some minutes on two cores",
        vocab_size=2048,
        model=_shape(4, 4, 128, dropout=0.0),
        training=TrainingConfig(
            steps=600,
            batch_size=16,
            block_size=128,
            learning_rate=3e-3,
            min_learning_rate=3e-4,
            warmup_steps=50,
            eval_interval=100,
            sample_interval=100,
            checkpoint_interval=100,
        ),
    ),
    "small": Preset(
        about="6 M parameters; some hours on two cores",
        vocab_size=4096,
        model=_shape(6, 8, 256, dropout=0.1),
        training=TrainingConfig(
            steps=4000,
            batch_size=16,
            block_size=256,
            learning_rate=1.5e-3,
            min_learning_rate=1.5e-4,
            warmup_steps=100,
            eval_interval=200,
            sample_interval=200,
            checkpoint_interval=200,
        ),
    ),
    "char": Preset(
        about="0.8 M parameters over characters: nanoGPT's setting for a CPU",
        vocab_size=0,
        model=_shape(4, 4, 128, dropout=0.0, bias=False, activation_function="gelu"),
        training=TrainingConfig(
            steps=2000,
            batch_size=12,
            block_size=64,
            learning_rate=1e-3,
            min_learning_rate=1e-4,
            warmup_steps=100,
            weight_decay=0.1,
            betas=(0.9, 0.99),
            eval_interval=250,
            eval_batches=20,
            sample_interval=250,
            sample_prompt="\n",
            sample_tokens=200,
            checkpoint_interval=500,
        ),
    ),
}
