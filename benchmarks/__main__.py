"""Run the benchmarks, each in a fresh process, and refresh the tables in the documents.

    python -m benchmarks                    all of them; what a machine lacks is skipped with a reason
    python -m benchmarks tokenizer ngram    only these
    python -m benchmarks --list
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent

# name -> (module, what it measures, roughly how long it takes on two cores)
BENCHMARKS = {
    "tokenizer": ("bench_tokenizer", "training and encoding of byte-level BPE beside tokenizers and tiktoken", "2 min"),
    "ngram": ("ngram", "what counting alone reaches on the letters of Tiny Shakespeare", "1 min"),
    "char": ("char_shakespeare", "a GPT over those letters in nanoGPT's setting for a CPU", "5 min"),
}

# What a benchmark has to be told to leave its result where the tables look for it.
MORE = {"tokenizer": ("--output", str(HERE / "results" / "tokenizer.json"))}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(BENCHMARKS)}; by default all")
    parser.add_argument("--list", action="store_true", help="say what there is, and run nothing")
    options = parser.parse_args(argv)
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"there is no benchmark {', '.join(unknown)}; choose from {', '.join(BENCHMARKS)}")
    if options.list:
        for name, (_, about, duration) in BENCHMARKS.items():
            print(f"{name:<10} {about} (about {duration})")
        return 0
    failed = []
    for name in options.names or BENCHMARKS:
        module, about, duration = BENCHMARKS[name]
        print(f"\n=== {name}: {about} (about {duration})", flush=True)
        command = [sys.executable, "-m", f"benchmarks.{module}", *MORE.get(name, ())]
        if subprocess.run(command, cwd=HERE.parent, check=False).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
        return 1
    return subprocess.run([sys.executable, "-m", "benchmarks.tables"], cwd=HERE.parent, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
