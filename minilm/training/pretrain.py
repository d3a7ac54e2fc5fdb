"""Pretraining a GPT on text: causal language modelling from a corpus to a model that writes.

A run is a folder that holds all of itself, so that it can be resumed without its arguments:

    run.json                  what was asked for
    tokenizer/                learnt from the text
    data/                     the text as tokens
    log.jsonl, training.png   how it went
    checkpoints/step-…        the model, as `from_pretrained` reads it, and the state of the training
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from minilm import random
from minilm.data import RandomWindows, TextFile, TokenDataset, embedded_documents
from minilm.models import GPT2Config, GPT2LMHeadModel
from minilm.tokenizers import CharTokenizer, GPT2Tokenizer

from .checkpoint import list_checkpoints
from .config import TrainingConfig
from .loop import TrainingLoop
from .objectives import next_token_loss
from .presets import PRESETS, Preset

__all__ = ["start_pretraining", "resume_pretraining"]

RUN_FILE = "run.json"


def start_pretraining(
    folder: str | Path,
    documents: Iterable[str | TextFile] | None = None,
    preset: str | Preset = "tiny",
    *,
    validation_fraction: float = 0.1,
    tokenizer: GPT2Tokenizer | CharTokenizer | None = None,
    progress: bool = True,
    **settings: Any,
) -> TrainingLoop:
    """Prepare a run in a new folder: learn the tokenizer, cut the text into tokens, make the model.

    Args:
        folder: of the run; made if it is missing, and refused if it holds a run already.
        documents: texts or files; by default the embedded corpus.
        preset: a name in `PRESETS`, or a preset of your own.
        validation_fraction: the share of the text, at its end, that is kept for validation.
        tokenizer: one that is there already, in place of learning one.
        progress: whether to show what is going on.
        settings: changes to the preset, by name: fields of `TrainingConfig` (`steps=…`), of `GPT2Config`
            (`n_layer=…`), or `vocab_size`.

    Returns:
        The loop, ready to `run()`.

    Raises:
        FileExistsError: the folder holds a run.
        TypeError: there is no setting of this name.
        ValueError: an unknown preset, a setting out of range, or too little text.
    """
    folder = Path(folder)
    if (folder / RUN_FILE).exists() or list_checkpoints(folder):
        raise FileExistsError(f"{folder} holds a run already; resume it or choose another folder")
    chosen = with_settings(preset, settings)
    config = chosen.training
    GPT2Config(n_positions=config.block_size, **chosen.model)  # a wrong shape is told before the text is read
    texts = embedded_documents() if documents is None else list(documents)
    if tokenizer is None:
        tokenizer = _learn_tokenizer(texts, chosen.vocab_size, progress)
    dataset = TokenDataset.build(texts, tokenizer, folder / "data", validation_fraction)
    end = getattr(tokenizer, "eos_token_id", None)
    model_config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=config.block_size,
        bos_token_id=end,
        eos_token_id=end,
        **chosen.model,
    )
    tokenizer.save_pretrained(folder / "tokenizer")
    run = {
        "tokenizer": "char" if isinstance(tokenizer, CharTokenizer) else "bpe",
        "model": model_config.to_dict(),
        "training": config.to_dict(),
    }
    (folder / RUN_FILE).write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")
    return _make_loop(folder, tokenizer, dataset, model_config, config, progress)


def resume_pretraining(
    folder: str | Path, checkpoint: str | Path | None = None, *, progress: bool = True, **settings: Any
) -> TrainingLoop:
    """Prepare to go on with a run where a checkpoint left it.

    Args:
        folder: of the run.
        checkpoint: by default the newest.
        progress: whether to show what is going on.
        settings: fields of `TrainingConfig` that may differ from then, such as `steps` for a longer run.

    Returns:
        The loop, ready to `run()`.

    Raises:
        FileNotFoundError: the folder holds no run.
        CheckpointError: there is no checkpoint, or it is damaged, or does not belong to these settings.
    """
    folder = Path(folder)
    if not (folder / RUN_FILE).is_file():
        raise FileNotFoundError(f"{folder} holds no pretraining run (no {RUN_FILE})")
    run = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    tokenizer_class = CharTokenizer if run["tokenizer"] == "char" else GPT2Tokenizer
    tokenizer = tokenizer_class.from_pretrained(folder / "tokenizer")
    config = TrainingConfig(**{**run["training"], **settings})
    model_config = GPT2Config.from_dict(run["model"])
    loop = _make_loop(folder, tokenizer, TokenDataset.load(folder / "data"), model_config, config, progress)
    loop.resume(checkpoint)
    return loop


def with_settings(preset: str | Preset, settings: dict[str, Any]) -> Preset:
    """Return a preset with some settings changed, each by its own name."""
    if isinstance(preset, str):
        if preset not in PRESETS:
            raise ValueError(f"there is no preset {preset!r}; choose one of {', '.join(PRESETS)}")
        preset = PRESETS[preset]
    training = {field.name for field in dataclasses.fields(TrainingConfig)}
    model = {field.name for field in dataclasses.fields(GPT2Config)} - {"vocab_size", "n_positions"}
    unknown = [name for name in settings if name not in training | model | {"vocab_size"}]
    if unknown:
        raise TypeError(f"there is no setting {', '.join(unknown)} of TrainingConfig, GPT2Config or Preset")
    return dataclasses.replace(
        preset,
        vocab_size=settings.get("vocab_size", preset.vocab_size),
        model={**preset.model, **{name: value for name, value in settings.items() if name in model}},
        training=preset.training.replace(
            **{name: value for name, value in settings.items() if name in training}
        ),
    )


def _learn_tokenizer(
    texts: Iterable[str | TextFile], vocab_size: int, progress: bool
) -> GPT2Tokenizer | CharTokenizer:
    pieces = (piece for text in texts for piece in ([text] if isinstance(text, str) else text.pieces()))
    if vocab_size == 0:
        return CharTokenizer.from_text(pieces)
    return GPT2Tokenizer.train(pieces, vocab_size, progress=progress)


def _make_loop(
    folder: Path,
    tokenizer: GPT2Tokenizer | CharTokenizer,
    dataset: TokenDataset,
    model_config: GPT2Config,
    config: TrainingConfig,
    progress: bool,
) -> TrainingLoop:
    random.seed(config.seed)
    model = GPT2LMHeadModel(model_config)
    shape = config.batch_size, config.block_size
    # Other random windows than those of training, and the same ones in every evaluation.
    validation = RandomWindows(dataset.validation, *shape, seed=config.seed + 1)
    return TrainingLoop(
        model,
        RandomWindows(dataset.train, *shape, seed=config.seed),
        config,
        validation=[next(validation) for _ in range(config.eval_batches)],
        loss_function=next_token_loss,
        sample=_sampler(model, tokenizer, config),
        tokenizer=tokenizer,
        folder=folder,
        progress=progress,
    )


def _sampler(
    model: GPT2LMHeadModel, tokenizer: GPT2Tokenizer | CharTokenizer, config: TrainingConfig
) -> Callable[[], str]:
    def sample() -> str:
        prompt = np.array([tokenizer.encode(config.sample_prompt)])
        ids = model.generate(
            prompt,
            max_new_tokens=config.sample_tokens,
            do_sample=True,
            temperature=0.8,
            top_k=50,
            seed=config.seed,
            sliding_window=True,
        )
        return tokenizer.decode(ids[0], skip_special_tokens=True)

    return sample
