"""Builds the small GPT that comes with minilm: `python -m minilm.training.build_tiny_gpt`.

It learns from the embedded corpus, about half an hour on one core, and is written to `minilm/assets/tiny-gpt`
in half precision, with `training.json` beside it: how it was trained, its validation loss as it ships, and
what counting n-grams over the same tokens achieves. The corpus is the documentation of the Python that runs
this, so another version of Python gives another model and another loss.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from minilm import __version__, hub
from minilm.data import TokenDataset
from minilm.evaluation import NGramModel, perplexity
from minilm.models import GPT2LMHeadModel
from minilm.tokenizers import GPT2Tokenizer

from .checkpoint import checkpoint_folder
from .config import TrainingConfig
from .loop import TrainingLoop
from .presets import Preset
from .pretrain import RUN_FILE, resume_pretraining, start_pretraining

__all__ = ["TINY_GPT", "build", "export", "main"]

LARGEST = 4_000_000  # bytes of all files together

TINY_GPT = Preset(
    about="the GPT that comes with minilm",
    vocab_size=2048,
    model={
        "n_layer": 4,
        "n_head": 5,
        "n_embd": 160,
        "resid_pdrop": 0.1,
        "embd_pdrop": 0.1,
        "attn_pdrop": 0.0,
    },
    training=TrainingConfig(
        steps=2400,
        batch_size=16,
        block_size=128,
        learning_rate=3e-3,
        min_learning_rate=1.5e-4,
        warmup_steps=100,
        betas=(0.9, 0.99),
        eval_interval=200,
        eval_batches=20,
        sample_interval=400,
        sample_prompt="The value of",
        checkpoint_interval=200,
    ),
)


def build(
    run: str | Path, target: str | Path, steps: int | None = None, progress: bool = True
) -> dict[str, Any]:
    """Train in the folder `run`, going on where an earlier attempt stopped, and export to `target`.

    Raises:
        KeyboardInterrupt: training was interrupted; calling this again goes on.
    """
    settings: dict[str, Any] = (
        {} if steps is None else {"steps": steps, "warmup_steps": min(100, steps // 10)}
    )
    if (Path(run) / RUN_FILE).exists():
        loop = resume_pretraining(run, progress=progress)
    else:
        loop = start_pretraining(run, preset=TINY_GPT, progress=progress, **settings)
    if loop.run().interrupted:
        raise KeyboardInterrupt
    return export(loop, target)


def export(loop: TrainingLoop, target: str | Path) -> dict[str, Any]:
    """Write the best checkpoint of a finished run to `target`, replacing what is there; return
    `training.json`.

    Raises:
        ValueError: the files are too large to ship.
    """
    assert loop.folder is not None
    step = loop.step if loop.best is None else loop.best[0]
    best = checkpoint_folder(loop.folder, step)
    target = Path(target)
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    tokenizer = GPT2Tokenizer.from_pretrained(best)
    GPT2LMHeadModel.from_pretrained(best).save_pretrained(partial, dtype="float16")
    tokenizer.save_pretrained(partial)
    dataset = TokenDataset.load(loop.folder / "data")
    report = _report(loop, step, GPT2LMHeadModel.from_pretrained(partial), dataset, tokenizer)
    (partial / "training.json").write_text(
        json.dumps(report, indent=1) + "\n", encoding="utf-8", newline="\n"
    )
    size = sum(path.stat().st_size for path in partial.iterdir())
    if size > LARGEST:
        raise ValueError(f"the files have {size:,} bytes together, more than the {LARGEST:,} that may ship")
    for path in partial.iterdir():
        path.chmod(0o644)  # safetensors writes for the owner's eyes only; an installed package is read by all
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    return report


def _report(
    loop: TrainingLoop, step: int, model: GPT2LMHeadModel, dataset: TokenDataset, tokenizer: GPT2Tokenizer
) -> dict[str, Any]:
    validation = np.asarray(dataset.validation)
    score = perplexity(model, validation, batch_size=16)
    scored_bytes = len(tokenizer.decode(validation[1:], skip_special_tokens=True).encode())
    grams = {f"{order}-gram": round(_ngram_loss(order, dataset, len(tokenizer)), 4) for order in (1, 2, 3)}
    return {
        "about": "a GPT-2 of minilm's own, trained on the embedded corpus; see minilm.data.embedded_text",
        "rebuild": "python -m minilm.training.build_tiny_gpt",
        "python": platform.python_version(),
        "minilm": __version__,
        "parameters": model.num_parameters(),
        "steps": step,
        "tokens_seen": step * loop.tokens // loop.step,
        "seconds": round(loop.seconds * step / loop.step),
        "train_tokens": len(dataset.train),
        "validation_tokens": len(dataset.validation),
        "validation_loss": round(score.loss, 4),
        "validation_perplexity": round(score.perplexity, 2),
        "validation_bits_per_byte": round(-score.log_probability / np.log(2) / scored_bytes, 4),
        "counting_on_the_same_tokens": grams,
        "training": loop.config.to_dict(),
    }


def _ngram_loss(order: int, dataset: TokenDataset, vocab_size: int) -> float:
    model = NGramModel(order, vocab_size).fit(np.asarray(dataset.train))
    return float(-model.log_probabilities(np.asarray(dataset.validation)).mean())


def main(arguments: list[str] | None = None) -> None:
    """Build from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", default="runs/tiny-gpt", help="folder of the training run (runs/tiny-gpt)")
    parser.add_argument(
        "--output", default=hub.ASSETS / "tiny-gpt", help="where the model goes (the package)"
    )
    parser.add_argument("--steps", type=int, help=f"optimiser steps ({TINY_GPT.training.steps})")
    parser.add_argument("--quiet", action="store_true", help="no progress bar, nothing printed on the way")
    options = parser.parse_args(arguments)
    report = build(options.run, options.output, options.steps, progress=not options.quiet)
    print(json.dumps({name: value for name, value in report.items() if name != "training"}, indent=1))


if __name__ == "__main__":
    main()
