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
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from minilm import random
from minilm.data import RandomWindows, TextFile, TokenDataset, embedded_documents
from minilm.models import GPT2Config, GPT2LMHeadModel
from minilm.tokenizers import CharTokenizer, GPT2Tokenizer

from .checkpoint import latest_checkpoint, list_checkpoints, read_checkpoint, restore_replaced
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
        ValueError: an unknown preset, a setting out of range, too little text, or a `sample_prompt` that is given
            here and not in the tokenizer. The prompt of a preset gives way to the first token of the text instead,
            with a warning.
    """
    folder = Path(folder)
    chosen = check_start(folder, preset, settings)
    texts = embedded_documents() if documents is None else list(documents)
    if tokenizer is None:
        tokenizer = _learn_tokenizer(texts, chosen.vocab_size, progress)
    dataset = TokenDataset.build(texts, tokenizer, folder / "data", validation_fraction)
    config = _with_known_prompt(chosen.training, tokenizer, dataset, given="sample_prompt" in settings)
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
    """Prepare to go on with a run where a checkpoint left it, or from the start if it stopped before its first one.

    The settings are those of the checkpoint, so what an earlier resumption changed stays changed.

    Args:
        folder: of the run.
        checkpoint: by default the newest.
        progress: whether to show what is going on.
        settings: fields of `TrainingConfig` that may differ from then, such as `steps` for a longer run.

    Returns:
        The loop, ready to `run()`.

    Raises:
        FileNotFoundError: the folder holds no run.
        CheckpointError: the checkpoint is missing or damaged, or does not belong to these settings.
        ValueError: a setting out of range, or a `sample_prompt` that the tokenizer does not know.
    """
    folder = Path(folder)
    if not (folder / RUN_FILE).is_file():
        raise FileNotFoundError(f"{folder} holds no pretraining run (no {RUN_FILE})")
    run = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    tokenizer_class = CharTokenizer if run["tokenizer"] == "char" else GPT2Tokenizer
    tokenizer = tokenizer_class.from_pretrained(folder / "tokenizer")
    restore_replaced(folder)
    if checkpoint is None and list_checkpoints(folder):
        checkpoint = latest_checkpoint(folder)
    saved = run["training"] if checkpoint is None else read_checkpoint(checkpoint)["config"]
    config = TrainingConfig(**{**saved, **settings})
    model_config = GPT2Config.from_dict(run["model"])
    dataset = TokenDataset.load(folder / "data")
    config = _with_known_prompt(config, tokenizer, dataset, given="sample_prompt" in settings)
    loop = _make_loop(folder, tokenizer, dataset, model_config, config, progress)
    if checkpoint is not None:
        loop.resume(checkpoint)
    return loop


def check_start(folder: Path, preset: str | Preset, settings: dict[str, Any]) -> Preset:
    """Return a preset with its settings after finding, before any text is read, all that can be wrong with them."""
    if (folder / RUN_FILE).exists() or list_checkpoints(folder):
        raise FileExistsError(f"{folder} holds a run already; resume it or choose another folder")
    chosen = with_settings(preset, settings)
    GPT2Config(n_positions=chosen.training.block_size, **chosen.model)
    return chosen


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


def _with_known_prompt(
    config: TrainingConfig, tokenizer: GPT2Tokenizer | CharTokenizer, dataset: TokenDataset, given: bool
) -> TrainingConfig:
    """Return the settings with a prompt the tokenizer knows, so that training does not end at its first sample."""
    if not config.sample_interval:
        return config
    prompt = config.sample_prompt
    try:
        if tokenizer.encode(prompt):
            return config
        problem = f"the sample prompt {prompt!r} has no tokens"
    except ValueError as error:
        problem = f"the tokenizer of this text cannot encode the sample prompt {prompt!r}: {error}"
    if given:
        raise ValueError(f"{problem}; choose a sample_prompt of characters that the text has")
    first = tokenizer.decode([int(dataset.train[0])])
    warnings.warn(f"{problem}; samples start with {first!r} instead, the beginning of the text", stacklevel=3)
    return config.replace(sample_prompt=first)


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
