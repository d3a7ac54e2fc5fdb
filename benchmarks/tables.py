"""Put the numbers of the result files into the documents, between their markers.

    python -m benchmarks.tables             rewrite README.md and benchmarks/RESULTS.md
    python -m benchmarks.tables --check     fail where a document does not say what the result files say

No number in these tables is typed by hand.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
MARKED = re.compile(r"(<!-- results:begin -->\n).*?(<!-- results:end -->)", re.DOTALL)
Result = dict[str, Any]


def shakespeare() -> str:
    """Characters of Tiny Shakespeare: ours beside what nanoGPT and counting reach."""
    runs = {name: _load(f"char_shakespeare_{name}") for name in ("nanogpt", "best")}
    known = next(result for result in runs.values() if result)
    rows = [(name, f"{loss:.3f}") for name, loss in known["beside"].items()]
    labels = {"nanogpt": "**minilm**, nanoGPT's setting", "best": "**minilm**, a setting of ours"}
    for name, result in runs.items():
        if result:
            rows.append((labels[name], _mean_and_spread(result)))
    # Both measures of the validation text: nanoGPT's own, random batches; and every letter once.
    lines = ["| Tiny Shakespeare, validation loss (nats per character) | loss |", "| --- | --- |"]
    lines += [f"| {label} | {loss} |" for label, loss in sorted(rows, key=lambda row: -_number(row[1]))]
    notes = [_run_note(labels[name], result) for name, result in runs.items() if result]
    return "\n".join([*lines, "", *notes])


def tiny_gpt() -> str:
    """The model that ships."""
    about = json.loads((ROOT / "minilm" / "assets" / "tiny-gpt" / "training.json").read_text(encoding="utf-8"))
    lines = ["| the GPT that ships, validation loss (nats per token) | loss |", "| --- | --- |"]
    lines += [f"| {name} | {loss:.2f} |" for name, loss in about["counting_on_the_same_tokens"].items()]
    size, loss = about["parameters"] / 1e6, about["validation_loss"]
    lines.append(f"| **minilm/tiny-gpt**, {size:.1f} M parameters | {loss:.2f} |")
    note = f"Trained on Python {about['python']}'s documentation, {about['tokens_seen'] / 1e6:.1f} M tokens; " \
           f"rebuild it with `{about['rebuild']}`."  # fmt: skip
    return "\n".join([*lines, "", note])


def tokenizer() -> str:
    """Byte-level BPE beside the compiled libraries."""
    result = _load("tokenizer")
    if not result:
        return ""
    lines = [
        f"| byte-level BPE, {result['megabytes']:.1f} MB of text, vocabulary {result['vocab_size']:,} "
        "| learning (s) | encoding one text (MB/s) | paragraphs (MB/s) |",
        "| --- | --- | --- | --- |",
    ]
    rates = result["encode_megabytes_per_second"]
    for name in rates["one text"]:
        learned = result["train_seconds"].get(name.split(",")[0])
        cells = [_median(learned) if learned else "", *(_median(rates[shape].get(name)) for shape in rates)]
        lines.append(f"| {'**' + name + '**' if name.startswith('minilm') else name} | {' | '.join(cells)} |")
    machine = result["machine"]
    versions = ", ".join(f"{key} {machine[key]}" for key in ("python", "tokenizers", "tiktoken") if key in machine)
    note = f"Median of {result['rounds']} alternating rounds in one process, one thread, equal ids first ({versions})."
    return "\n".join([*lines, "", note])


SECTIONS: list[tuple[str, Callable[[], str]]] = [
    ("Language models", shakespeare),
    ("The model that ships", tiny_gpt),
    ("Tokenizers", tokenizer),
]


def _load(name: str) -> Result | None:
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _number(text: str) -> float:
    return float(re.search(r"\d+\.\d+", text)[0])  # type: ignore[index]


def _mean_and_spread(result: Result) -> str:
    runs = len(result["runs"])
    spread = f" (spread {result['spread']['sampled']:.3f} over {runs} seeds)" if runs > 1 else ""
    return f"{result['mean']['sampled']:.3f}{spread}; every letter once: {result['mean']['blocks']:.3f}"


def _run_note(label: str, result: Result) -> str:
    here, training = result["environment"], result["setting"]["training"]
    processor = sum(run["processor_seconds"] for run in result["runs"]) / len(result["runs"])
    return (
        f"{label}: {training['steps']:,} steps of {training['batch_size']} × {training['block_size']}, "
        f"{processor / 60:.0f} minutes of one core ({here['processor']}, Python {here['python']}, "
        f"NumPy {here['numpy']}, kernels: {', '.join(here['kernels'])}; commit {here['commit']}).\n"
    )


def _median(summary: Any) -> str:
    if summary is None:
        return ""
    value = summary["median"] if isinstance(summary, dict) else summary
    return f"{value:.2f}"


def document() -> str:
    """All tables, in the order of `SECTIONS`."""
    parts = [(title, table()) for title, table in SECTIONS]
    return "\n\n".join(f"### {title}\n\n{table.rstrip()}" for title, table in parts if table) + "\n"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; fail where a document is out of date")
    options = parser.parse_args(argv)
    stale = []
    for path in (ROOT / "README.md", ROOT / "benchmarks" / "RESULTS.md"):
        before = path.read_text(encoding="utf-8")
        after, found = MARKED.subn(lambda match: match[1] + document() + match[2], before)
        if found != 1:
            print(f"{path.name}: expected one pair of results markers, found {found}", file=sys.stderr)
            return 1
        if after != before:
            stale.append(path.name)
            if not options.check:
                path.write_text(after, encoding="utf-8", newline="\n")
    if options.check and stale:
        print(f"out of date: {', '.join(stale)}; run python -m benchmarks.tables", file=sys.stderr)
        return 1
    print("tables are up to date" if not stale else f"rewritten: {', '.join(stale)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
