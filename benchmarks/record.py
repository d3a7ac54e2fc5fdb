"""What the benchmarks share: where the data is, and what a result says about the machine it was measured
on."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

import minilm

RESULTS = Path(__file__).parent / "results"
SHAKESPEARE = "tinyshakespeare/input.txt"
WHERE_FROM = "https://github.com/karpathy/char-rnn, data/tinyshakespeare/input.txt (1,115,394 bytes)"


def shakespeare(folder: str | None) -> str | None:
    """Return the text of Tiny Shakespeare, or None after saying why there is none and where to get it."""
    root = folder or os.environ.get("MINILM_DATA")
    if root is None:
        reason = "no data folder was given (an argument, or MINILM_DATA)"
    elif not (Path(root) / SHAKESPEARE).is_file():
        reason = f"{root} holds no {SHAKESPEARE}"
    else:
        return (Path(root) / SHAKESPEARE).read_text(encoding="utf-8")
    print(f"skipped: {reason}. The text comes from {WHERE_FROM}; put it at <folder>/{SHAKESPEARE}")
    return None


def environment() -> dict[str, Any]:
    """Return machine, versions, threads and commit; nothing in it names a person or a place."""
    return {
        "date": datetime.date.today().isoformat(),
        "commit": _git("rev-parse", "--short=12", "HEAD"),
        "changed_files": len(_git("status", "--porcelain", "--untracked-files=no").splitlines()),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "minilm": minilm.__version__,
        "kernels": sorted(set(minilm.kernels.active().values())),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": {name: os.environ[name] for name in sorted(os.environ) if name.endswith("_NUM_THREADS")},
    }


def write(name: str, result: dict[str, Any], measured_in: dict[str, Any]) -> Path:
    """Write a result to `benchmarks/results/<name>.json` and return its path.

    `measured_in` is the `environment()` taken when the program began: by the end of a long run the files may
    have changed under it, and another commit may stand there.
    """
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    text = json.dumps({"environment": measured_in, **result}, indent=1) + "\n"
    path.write_text(text, encoding="utf-8", newline="\n")
    print(f"written {path.relative_to(Path(__file__).parents[1])}", file=sys.stderr)
    return path


def _git(*arguments: str) -> str:
    root = Path(__file__).parent
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    return done.stdout.rstrip("\n") if done.returncode == 0 else "unknown"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
