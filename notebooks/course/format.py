"""What every notebook of the course has to look like, as a list of faults in plain words."""

from __future__ import annotations

import re
from pathlib import Path

from nbformat import NotebookNode

from . import files, timings

TAGS = {"exercise", "varies", "raises-exception"}  # and tolerance=NUMBER
NOT_FOR_STORAGE = {
    "a memory address (it changes with every run)": re.compile(r"\bat 0x[0-9a-f]{6,}"),
    "a folder of this machine": re.compile(r"(?<![\w.])(/(home|Users|root|work|tmp)/\w|[A-Z]:\\Users\\)"),
    "wall-clock text (it changes with every run)": re.compile(r"\b\d+(\.\d+)? ?(it/s|s/it|tok(ens)?/s)\b|CPU times:"),
}


def faults(path: Path, notebook: NotebookNode | None = None) -> list[str]:
    """Everything about the stored notebook that breaks the course's form; an empty list when it is right."""
    stored = path.read_text(encoding="utf-8")
    notebook = files.read(path) if notebook is None else notebook
    found = []
    if not files.FILE_NAME.fullmatch(path.name):
        found.append(f"{path.name}: notebooks are called NN_small_letters.ipynb")
    if files.text(notebook) != stored:
        found.append("not in the stored form: run `python notebooks/build.py --write` for it")
    if not notebook.cells or not notebook.cells[0].source.startswith("# "):
        found.append("the first cell is not a '# Title'")
    found += _run_time_faults(path, notebook)
    numbered = list(enumerate(notebook.cells, start=1))
    idle = [number for number, cell in numbered if cell.cell_type == "code" and cell.execution_count is None]
    if idle:
        found.append(f"{len(idle)} cells were never executed, the first is cell {idle[0]}")
    return found + [f"cell {number}: {fault}" for number, cell in numbered for fault in _cell_faults(cell)]


def _run_time_faults(path: Path, notebook: NotebookNode) -> list[str]:
    if path.parent.name == "solutions":
        return []
    lines = [match for cell in notebook.cells[:3] for match in timings.LINE.findall(cell.source)]
    if len(lines) != 1:
        return [f"its first cells need exactly one line {timings.TEMPLATE!r}; {len(lines)} found"]
    timing = timings.load(path.parent).get(files.key(path))
    if timing is None:
        return ["no measured run time: run `python notebooks/build.py --stamp` for it"]
    if timing.line() != lines[0]:
        return [f"says {lines[0]!r}, measured was {timing.line()!r}: run build.py --stamp"]
    if timing.seconds > timings.BUDGET_SECONDS:
        return [f"takes {timing.seconds:.0f} s; the budget of a notebook is {timings.BUDGET_SECONDS} s"]
    return []


def _cell_faults(cell: NotebookNode) -> list[str]:
    found = [f"unknown tag {tag!r}" for tag in cell.metadata.get("tags", []) if not _known(tag)]
    if cell.cell_type != "code":
        return found
    for output in cell.outputs:
        if output.output_type == "error" and "raises-exception" not in cell.metadata.get("tags", []):
            found.append(f"stores an error: {output.ename}")
        if output.output_type == "stream" and output.name == "stderr":
            found.append(f"writes to stderr: {output.text.strip()[:80]!r}")
        found += [f"prints {what}" for what, pattern in NOT_FOR_STORAGE.items() if pattern.search(_text(output))]
    return found


def _known(tag: str) -> bool:
    return tag in TAGS or re.fullmatch(r"tolerance=0?\.\d+", tag) is not None


def _text(output: NotebookNode) -> str:
    if output.output_type == "stream":
        return str(output.text)
    data = output.get("data", {})
    return "\n".join(str(data[kind]) for kind in data if kind.startswith("text/"))
