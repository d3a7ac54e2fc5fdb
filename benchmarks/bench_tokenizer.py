"""Byte-pair encoding beside `tokenizers` and `tiktoken`: learning a vocabulary, then encoding with it.

    python -m benchmarks.bench_tokenizer
    python -m benchmarks.bench_tokenizer --text book.txt --output tokenizer.json

Before encoding is timed, the merges and the ids are checked to be equal; other ids stop the benchmark. Everything
runs on one thread. The contestants take turns in every round, so that a busy machine slows all of them, and what
is counted is processor time, so that waiting for it does not matter. Packages that are not installed are left out,
with the reason in the result.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from minilm.tokenizers import GPT2Tokenizer
from minilm.tokenizers.byte_level import GPT2_PATTERN, to_bytes

# One thread each: both packages read these when they start their pools.
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

Ids = list[list[int]]


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the benchmark, print a table and return (and with --output write) the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, help="a text file in UTF-8 (default: the embedded corpus)")
    parser.add_argument("--vocab-size", type=int, default=8192, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="how often each contestant runs (default: %(default)s)")
    parser.add_argument("--output", type=Path, help="write the result to this file as JSON")
    options = parser.parse_args(arguments)

    text = read_text(options.text)
    versions, skipped = installed("tokenizers", "tiktoken")
    learned, train_seconds = time_learning(text, options.vocab_size, versions, options.rounds)
    ours: GPT2Tokenizer = learned["minilm"]

    encoders: dict[str, Callable[[list[str]], Ids]] = {
        "minilm, empty cache": lambda texts: encode_ours(ours, texts, forget=True),
        "minilm, warm cache": lambda texts: encode_ours(ours, texts),
    }
    if "tokenizers" in versions:
        encoders["tokenizers"] = lambda texts: encode_tokenizers(learned["tokenizers"], texts)
    if "tiktoken" in versions:
        encoding = build_tiktoken(ours)
        encoders["tiktoken"] = lambda texts: encoding.encode_ordinary_batch(texts, num_threads=1)
    shapes = {"one text": [text], "paragraphs": text.split("\n\n")}

    result = {
        "benchmark": "tokenizer",
        "text": str(options.text or "embedded corpus"),
        "megabytes": round(len(text.encode()) / 1e6, 3),
        "paragraphs": len(shapes["paragraphs"]),
        "vocab_size": len(ours),
        "rounds": options.rounds,
        "train_seconds": {name: summary(seconds) for name, seconds in train_seconds.items()},
        "encode_megabytes_per_second": {
            shape: time_encoding(encoders, texts, ours, options.rounds) for shape, texts in shapes.items()
        },
        "skipped": skipped,
        "machine": machine() | versions,
    }
    print_table(result)
    if options.output:
        options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return result


def time_learning(
    text: str, vocab_size: int, versions: Mapping[str, str], rounds: int
) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """Return the learned tokenizers and the seconds they took, after checking that their merges are equal."""
    trainers: dict[str, Callable[[], Any]] = {"minilm": lambda: train_ours(text, vocab_size)}
    if "tokenizers" in versions:
        trainers["tokenizers"] = lambda: train_tokenizers(text, vocab_size)
    learned = {name: train() for name, train in trainers.items()}
    if "tokenizers" in learned:
        check(learned["minilm"].merges == merges_of(learned["tokenizers"]), "tokenizers learns other merges")
    return learned, alternate(trainers, max(rounds // 2, 1))


def time_encoding(
    encoders: Mapping[str, Callable[[list[str]], Ids]], texts: list[str], ours: GPT2Tokenizer, rounds: int
) -> dict[str, dict[str, float]]:
    """Return the speed of each encoder in MB/s, after checking that their ids are equal."""
    expected = [ours.encode(text) for text in texts]
    for name, encode in encoders.items():
        check(encode(texts) == expected, f"{name} gives other ids")
    seconds = alternate({name: partial(encode, texts) for name, encode in encoders.items()}, rounds)
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    return {name: summary(megabytes / run for run in runs) for name, runs in seconds.items()}


def read_text(path: Path | None) -> str:
    """Return the text to learn and encode."""
    if path is not None:
        return path.read_text(encoding="utf-8")
    from minilm.data.corpus import embedded_text

    return embedded_text()


def installed(*packages: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return the versions of the packages that are installed, and for the others why they are skipped."""
    versions, skipped = {}, {}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            skipped[package] = f"not installed: pip install {package}"
    return versions, skipped


def check(equal: bool, complaint: str) -> None:
    """Stop the benchmark when a contestant does not do the same work."""
    if not equal:
        raise SystemExit(f"not timed: {complaint}")


def alternate(contestants: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Return the processor seconds of every run of every contestant; who is first changes from round to round."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    names = list(contestants)
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            start = time.process_time()
            contestants[name]()
            seconds[name].append(time.process_time() - start)
    return seconds


def summary(values: Iterable[float]) -> dict[str, float]:
    """Return the median, the least and the greatest of the values."""
    values = list(values)
    return {"median": round(median(values), 3), "min": round(min(values), 3), "max": round(max(values), 3)}


# ---------------------------------------------------------------------------------------- contestants


def train_ours(text: str, vocab_size: int) -> GPT2Tokenizer:
    """Learn a vocabulary with minilm."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a short text cannot fill the vocabulary; the result says its size
        return GPT2Tokenizer.train(text, vocab_size)


def encode_ours(tokenizer: GPT2Tokenizer, texts: list[str], forget: bool = False) -> Ids:
    """Encode every text with minilm, as a batch; `forget` empties its cache of words first."""
    if forget:
        tokenizer.clear_cache()
    return tokenizer(texts, return_attention_mask=False).input_ids


def train_tokenizers(text: str, vocab_size: int) -> Any:
    """Learn a vocabulary with the `tokenizers` package, by the same rules."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text], trainer)
    return tokenizer


def merges_of(tokenizer: Any) -> list[tuple[str, str]]:
    """Return the merges of a tokenizer of the `tokenizers` package."""
    return [(left, right) for left, right in json.loads(tokenizer.to_str())["model"]["merges"]]


def encode_tokenizers(tokenizer: Any, texts: list[str]) -> Ids:
    """Encode every text with the `tokenizers` package, in its fastest form."""
    encode = getattr(tokenizer, "encode_batch_fast", tokenizer.encode_batch)
    return [encoding.ids for encoding in encode(texts)]


def build_tiktoken(ours: GPT2Tokenizer) -> Any:
    """Return a tiktoken encoding with the vocabulary of our tokenizer."""
    import tiktoken

    special = ours.get_added_vocab()
    ranks = {to_bytes(token): i for token, i in ours.vocab.items() if token not in special}
    return tiktoken.Encoding("ours", pat_str=GPT2_PATTERN, mergeable_ranks=ranks, special_tokens=special)


# --------------------------------------------------------------------------------------------- result


def machine() -> dict[str, str]:
    """Return what ran, and on what."""
    return {
        "python": platform.python_version(),
        "processor": platform.processor() or platform.machine(),
        "regex": importlib.metadata.version("regex"),
    }


def print_table(result: dict[str, Any]) -> None:
    """Print the result for a reader."""
    print(f"{result['text']}: {result['megabytes']} MB in {result['paragraphs']} paragraphs; one thread, equal ids")
    for name, seconds in result["train_seconds"].items():
        print(f"  learn {result['vocab_size']} tokens    {name:22} {seconds['median']:8.2f} s")
    for shape, speeds in result["encode_megabytes_per_second"].items():
        for name, speed in speeds.items():
            print(f"  encode {shape:14} {name:22} {speed['median']:8.2f} MB/s")
    for name, reason in result["skipped"].items():
        print(f"  skipped               {name:22} {reason}")


if __name__ == "__main__":
    main(sys.argv[1:])
