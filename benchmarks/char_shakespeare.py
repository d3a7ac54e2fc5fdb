"""A GPT over the letters of Tiny Shakespeare, beside published and counted numbers.

    python -m benchmarks.char_shakespeare FOLDER                  nanoGPT's setting for a CPU
    python -m benchmarks.char_shakespeare FOLDER --setting best      a setting of ours

Three losses, in nats per letter. `sampled` is nanoGPT's: the mean over 20 random batches of the validation
part. `blocks` covers that part whole, in windows side by side: every letter once, with 0 to T - 1 letters of
context before it, as in training. `sliding` gives every letter at least T / 2 letters, once the text is that
long.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import minilm
from benchmarks import ngram, record
from minilm.data import RandomWindows
from minilm.evaluation import perplexity
from minilm.models import GPT2Config, GPT2LMHeadModel
from minilm.training import (
    PRESETS,
    Preset,
    TrainingConfig,
    TrainingLoop,
    list_checkpoints,
    next_token_loss,
)

# nanoGPT's README gives 1.88; its code, run with PyTorch on a CPU, gave 1.886.
PUBLISHED = {"nanoGPT, README": 1.88, "nanoGPT's setting in PyTorch": 1.886}

SETTINGS = {
    "nanogpt": PRESETS["char"],
    "best": Preset(
        about="the same width and depth, twice the context, a higher learning rate, eight times the letters",
        vocab_size=0,
        model={**PRESETS["char"].model, "activation_function": "gelu_new"},
        training=TrainingConfig(
            steps=6000,
            batch_size=16,
            block_size=128,
            learning_rate=3e-3,
            min_learning_rate=1.5e-4,
            warmup_steps=100,
            weight_decay=0.1,
            betas=(0.9, 0.99),
            eval_interval=500,
            eval_batches=20,
            log_interval=50,
            checkpoint_interval=500,
        ),
    ),
}


def train(text: str, setting: Preset, seed: int, folder: str | None) -> dict[str, Any]:
    """Train once and return what was measured."""
    train_ids, validation_ids, tokenizer = ngram.split(text)
    config = setting.training.replace(seed=seed, sample_interval=0)
    shape = config.batch_size, config.block_size
    minilm.seed(seed)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer), n_positions=config.block_size, bos_token_id=None, eos_token_id=None,
            **setting.model,
        )
    )  # fmt: skip
    sampled = RandomWindows(validation_ids, *shape, seed=seed + 1)
    loop = TrainingLoop(
        model,
        RandomWindows(train_ids, *shape, seed=seed),
        config,
        validation=[next(sampled) for _ in range(config.eval_batches)],
        loss_function=next_token_loss,
        tokenizer=tokenizer,
        folder=folder,
    )
    if folder is not None and list_checkpoints(folder):
        loop.resume()
    resumed_at, processor = loop.step, time.process_time()
    result = loop.run()
    processor = time.process_time() - processor
    length = config.block_size
    evaluations = [record for record in result.records if "validation_loss" in record]
    return {
        "seed": seed,
        "steps": result.step,
        "letters": loop.tokens,
        "seconds": round(loop.seconds, 1),
        # Another measure than the clock where other programs run beside; evaluations included.
        "processor_seconds": None if resumed_at else round(processor, 1),
        "sampled_by_step": {str(r["step"]): round(r["validation_loss"], 4) for r in evaluations},
        "sampled": round(evaluations[-1]["validation_loss"], 4),
        "blocks": round(perplexity(model, validation_ids, stride=length, batch_size=16).loss, 4),
        "sliding": round(perplexity(model, validation_ids, stride=length // 2, batch_size=16).loss, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", help="holds tinyshakespeare/input.txt (default: MINILM_DATA)")
    parser.add_argument("--setting", choices=SETTINGS, default="nanogpt")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--run", help="a folder for log, picture and checkpoints, resumed if it has any (one seed)"
    )
    options = parser.parse_args()
    if options.run and len(options.seeds) > 1:
        parser.error("--run keeps one run; give one seed")
    text = record.shakespeare(options.folder)
    if text is None:
        return
    here, setting = record.environment(), SETTINGS[options.setting]
    runs = [train(text, setting, seed, options.run) for seed in options.seeds]
    grams = {
        f"{order}-gram": loss
        for order, loss in ngram.scores(text, range(2, 6), discount=0.75, pseudo_count=0.0).items()
    } | {
        "strongest n-gram found (9, pseudo-count 40)": ngram.scores(
            text, range(9, 10), discount=0.0, pseudo_count=40.0
        )["9"]
    }
    beside = {**PUBLISHED, **grams}
    means = {
        name: round(statistics.mean(run[name] for run in runs), 4)
        for name in ("sampled", "blocks", "sliding")
    }
    spread = {name: round(max(r[name] for r in runs) - min(r[name] for r in runs), 4) for name in means}
    if len(runs) == 1:
        spread = {}  # one run says nothing about the next
    for name, loss in means.items():
        print(f"{'minilm, ' + options.setting + ', ' + name:<50}{loss:>8.4f}")
    for name, loss in beside.items():
        print(f"{name:<50}{loss:>8.4f}")
    record.write(
        f"char_shakespeare_{options.setting}",
        {
            "setting": {"model": setting.model, "training": setting.training.to_dict()},
            "mean": means,
            "spread": spread,
            "runs": runs,
            "beside": beside,
        },
        here,
    )


if __name__ == "__main__":
    main()
