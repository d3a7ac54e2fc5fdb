"""The line at the top of each notebook that says how long it runs, kept equal to what was measured.

Measurements are in `notebooks/timings.json`, one entry a notebook, with the machine and the versions they were taken
on. `build.py --stamp` measures and rewrites both.
"""

from __future__ import annotations

import json
import math
import os
import platform
import re
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from nbformat import NotebookNode

from . import files

BUDGET_SECONDS = 180
LINE = re.compile(r"Runs in about [^;\n]*; offline")
TEMPLATE = "Runs in about ? s, ? MB, on 2 cores; offline"


@dataclass(frozen=True)
class Timing:
    """One measured run: wall time in seconds, peak memory of the kernel in MB (2**20 bytes), and where."""

    seconds: float
    megabytes: float
    cores: int
    machine: str
    python: str
    numpy: str

    def line(self) -> str:
        """The sentence for readers, rounded up: nobody minds a notebook that is done a little early."""
        return (
            f"Runs in about {_rounded_time(self.seconds)}, {_up(self.megabytes, 50)} MB, "
            f"on {self.cores} cores; offline"
        )


def measured(seconds: float, megabytes: float) -> Timing:
    """A `Timing` of this machine."""
    return Timing(
        seconds=round(seconds, 1),
        megabytes=round(megabytes),
        cores=usable_cores(),
        machine=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        numpy=version("numpy"),
    )


def usable_cores() -> int:
    """The cores that this process may use, which can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load(folder: Path = files.NOTEBOOKS) -> dict[str, Timing]:
    """The stored measurements by notebook, empty where none was taken yet."""
    path = folder / "timings.json"
    if not path.exists():
        return {}
    return {name: Timing(**entry) for name, entry in json.loads(path.read_text(encoding="utf-8")).items()}


def save(timings: dict[str, Timing], folder: Path = files.NOTEBOOKS) -> None:
    entries = {name: asdict(timings[name]) for name in sorted(timings)}
    (folder / "timings.json").write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")


def stamp(notebook: NotebookNode, timing: Timing) -> None:
    """Put `timing` into the notebook's run-time line. Raises `ValueError` unless there is exactly one."""
    places = [cell for cell in notebook.cells if cell.cell_type == "markdown" and LINE.search(cell.source)]
    if len(places) != 1 or len(LINE.findall(places[0].source)) != 1:
        raise ValueError(f"the notebook needs exactly one line of the form {TEMPLATE!r} near its top")
    places[0].source = LINE.sub(timing.line(), places[0].source)


def _rounded_time(seconds: float) -> str:
    if seconds <= 10:
        return f"{_up(seconds, 1)} s"
    if seconds <= 60:
        return f"{_up(seconds, 5)} s"
    if seconds <= 120:
        return f"{_up(seconds, 10)} s"
    return f"{_up(seconds / 60, 1)} minutes"


def _up(value: float, step: int) -> int:
    return max(step, math.ceil(value / step) * step)
