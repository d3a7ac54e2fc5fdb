"""`minilm pretrain`: a GPT learns to write from a text."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from .arguments import add_verb, at_least, number_above, share

EXAMPLES = """\
  minilm pretrain
      a small GPT learns from the English text that comes with every Python; some minutes on two cores
  minilm pretrain book.txt --output runs/book
      ... from a text file of yours; a folder of .txt, .md and .rst files works too
  minilm pretrain book.txt --preset char --steps 500
      ... letter by letter
  minilm pretrain --resume runs/book
      goes on where Ctrl-C or a power cut stopped it, to the bit
  minilm generate --model runs/book --prompt "Once upon a time"
      lets it write
"""

# Options that are passed on as settings when they are given: their name there, type and help.
SETTINGS: dict[str, tuple[str, Any, str]] = {
    "--steps": ("steps", at_least(1), "optimiser steps"),
    "--batch-size": ("batch_size", at_least(1), "windows of text in one forward pass"),
    "--block-size": ("block_size", at_least(1), "tokens in a window, the context of the model"),
    "--learning-rate": ("learning_rate", number_above(0), "its peak"),
    "--min-learning-rate": ("min_learning_rate", number_above(0), "where the schedule ends"),
    "--warmup-steps": ("warmup_steps", at_least(0), "steps over which the learning rate rises"),
    "--weight-decay": ("weight_decay", share, "of AdamW, on matrices only"),
    "--accumulate": ("gradient_accumulation_steps", at_least(1), "forward passes in one step"),
    "--layers": ("n_layer", at_least(1), "Transformer blocks"),
    "--heads": ("n_head", at_least(1), "attention heads, a divisor of the width"),
    "--width": ("n_embd", at_least(1), "numbers in the vector of a token"),
    "--vocab-size": ("vocab_size", at_least(0), "tokens to learn from the text; 0 takes letters as tokens"),
    "--eval-interval": ("eval_interval", at_least(0), "steps between evaluations; 0 for none"),
    "--sample-interval": ("sample_interval", at_least(0), "steps between samples of text; 0 for none"),
    "--checkpoint-interval": ("checkpoint_interval", at_least(0), "steps between checkpoints"),
    "--prompt": ("sample_prompt", str, "what the samples go on from"),
    "--seed": ("seed", at_least(0), "of weights, dropout and the order of the text"),
}
RESUMABLE = {"steps", "eval_interval", "sample_interval", "checkpoint_interval", "sample_prompt"}


def add_parser(verbs: Any) -> None:
    parser = add_verb(verbs, "pretrain", run, "train a GPT on a text", EXAMPLES)
    parser.add_argument(
        "text", nargs="?", help="a text file or a folder of them; by default the embedded corpus"
    )
    parser.add_argument("--output", metavar="FOLDER", help="of the run (default runs/PRESET)")
    parser.add_argument("--resume", metavar="FOLDER", help="go on with the run in this folder")
    parser.add_argument("--checkpoint", metavar="FOLDER", help="with --resume: from this one, not the newest")
    parser.add_argument("--preset", default=None, help="tiny (default), small or char")
    parser.add_argument("--dropout", type=share, help="chance of dropout, everywhere in the model")
    parser.add_argument("--validation", type=share, metavar="SHARE", help="of the text (0.1)")
    parser.add_argument("--encoding", help="of the text files (utf-8)")
    parser.add_argument("--pattern", help="which files of a folder, such as '*.py'")
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no samples")
    for option, (name, kind, text) in SETTINGS.items():
        metavar = "TEXT" if kind is str else "N"
        parser.add_argument(option, dest=name, type=kind, metavar=metavar, help=text)


def run(options: argparse.Namespace) -> int:
    given = {name: getattr(options, name) for name, _, _ in SETTINGS.values()}
    settings = {name: value for name, value in given.items() if value is not None}
    if options.dropout is not None:
        settings |= {name: options.dropout for name in ("resid_pdrop", "embd_pdrop", "attn_pdrop")}
    loop = _resume(options, settings) if options.resume else _start(options, settings)
    folder = loop.folder
    if not options.quiet:
        print(f"{loop.model.num_parameters():,} parameters, {loop.config.steps} steps, run in {folder}")
    if options.quiet and options.sample_interval is None:
        loop.sample = None  # not a changed setting, which the run would remember when it is resumed
    result = loop.run()

    if result.best_loss is not None:
        print(f"best validation loss {result.best_loss:.4f} nats per token, at step {result.best_step}")
    print(f"checkpoint {result.checkpoint}")
    if result.interrupted:
        print(f"stopped after step {result.step}; to go on: minilm pretrain --resume {folder}")
        return 130
    print(f"picture    {folder}/training.png\nto write:  minilm generate --model {folder} --prompt ...")
    return 0


def _start(options: argparse.Namespace, settings: dict[str, Any]) -> Any:
    if options.checkpoint:
        raise ValueError("--checkpoint goes with --resume")
    # Before the heavy imports, so that a wrong name is told at once.
    from minilm.data import text_files

    documents = None
    if options.text is not None:
        documents = text_files(options.text, options.pattern, options.encoding or "utf-8")
    from minilm.training import start_pretraining
    from minilm.training.pretrain import check_start

    preset = options.preset or "tiny"
    folder = Path(options.output or Path("runs") / preset)
    settings = _scaled(preset, settings)
    check_start(folder, preset, settings)  # also before it says that it reads
    if not options.quiet:
        print(f"reading {options.text or 'the embedded corpus'}", file=sys.stderr)
    return start_pretraining(
        folder,
        documents,
        preset,
        validation_fraction=0.1 if options.validation is None else options.validation,
        progress=not options.quiet,
        **settings,
    )


def _scaled(preset: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Shorten the warm-up and the end of the schedule with the run, where they were not given themselves."""
    from minilm.training import PRESETS

    if preset in PRESETS:
        usual = PRESETS[preset].training
        settings = dict(settings)
        if "steps" in settings:
            share = settings["steps"] / usual.steps
            settings.setdefault("warmup_steps", min(usual.warmup_steps, int(usual.warmup_steps * share)))
        if "learning_rate" in settings:
            settings.setdefault("min_learning_rate", settings["learning_rate"] / 10)
    return settings


def _resume(options: argparse.Namespace, settings: dict[str, Any]) -> Any:
    from minilm.training import resume_pretraining

    of_the_run = ("text", "output", "preset", "validation", "encoding", "pattern")
    given = [name if name == "text" else f"--{name}" for name in of_the_run if getattr(options, name) is not None]
    if given:
        raise ValueError(f"--resume takes {', '.join(given)} from the run; leave them out")
    fixed = sorted(set(settings) - RESUMABLE)
    if fixed:
        raise ValueError(f"a resumed run keeps its {', '.join(fixed)}; leave them out or start a new run")
    loop = resume_pretraining(options.resume, options.checkpoint, progress=not options.quiet, **settings)
    if loop.step >= loop.config.steps:
        raise ValueError(
            f"{options.resume} is already finished at step {loop.step} of {loop.config.steps}; "
            f"pass --steps with more than {loop.step} to go further"
        )
    return loop
