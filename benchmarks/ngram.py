"""Interpolated n-grams over the letters of Tiny Shakespeare: what counting alone achieves.

    python -m benchmarks.ngram FOLDER     or with MINILM_DATA=FOLDER

The split is nanoGPT's: the first 90 % of the letters to learn from, the rest to predict. Every letter of the
validation part is scored with all the context an n-gram takes. Two smoothings: absolute discounting with
0.75, the textbook's; and the strongest that a small search found, so that a GPT is not compared with a straw
man.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from benchmarks import record
from minilm.evaluation import NGramModel
from minilm.tokenizers import CharTokenizer

SMOOTHINGS = {
    "absolute discounting, d = 0.75": {"discount": 0.75, "pseudo_count": 0.0},
    "pseudo-count 40": {"discount": 0.0, "pseudo_count": 40.0},
}


def split(text: str) -> tuple[np.ndarray, np.ndarray, CharTokenizer]:
    """Return nanoGPT's train and validation letters as ids, and the tokenizer."""
    tokenizer = CharTokenizer.from_text(text)
    ids = np.array(tokenizer.encode(text))
    cut = int(0.9 * len(ids))
    return ids[:cut], ids[cut:], tokenizer


def scores(text: str, orders: range, **smoothing: float) -> dict[str, float]:
    """Return the validation loss of every order, in nats per letter."""
    train, validation, tokenizer = split(text)
    result = {}
    for order in orders:
        model = NGramModel(order, len(tokenizer), **smoothing).fit(train)
        result[str(order)] = round(float(-model.log_probabilities(validation).mean()), 4)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", help="holds tinyshakespeare/input.txt (default: MINILM_DATA)")
    parser.add_argument("--longest", type=int, default=9, help="the longest n-gram (9)")
    options = parser.parse_args()
    text = record.shakespeare(options.folder)
    if text is None:
        return
    here, started = record.environment(), time.perf_counter()
    table = {name: scores(text, range(1, options.longest + 1), **s) for name, s in SMOOTHINGS.items()}
    print(f"{'n':>3}" + "".join(f"{name:>34}" for name in table))
    for order in range(1, options.longest + 1):
        print(f"{order:>3}" + "".join(f"{column[str(order)]:>34.4f}" for column in table.values()))
    record.write("ngram", {"loss": table, "seconds": round(time.perf_counter() - started, 1)}, here)


if __name__ == "__main__":
    main()
