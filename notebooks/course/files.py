"""Where the notebooks are, and the one form in which they are stored.

Two writes of the same notebook give the same bytes: no execution times, no random cell ids, no trace of the
machine. A reader on the web wants the outputs, so outputs stay.
"""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"

FILE_NAME = re.compile(r"\d\d_[a-z0-9_]+\.ipynb")
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"file_extension": ".py", "mimetype": "text/x-python", "name": "python"},
}
PROGRESS_BAR = re.compile(r"\d+%\||\d+(it|[a-zA-Z]+)? \[\d\d:\d\d")  # what tqdm draws, with and without a total


def find(folder: Path = NOTEBOOKS, only: Sequence[str] = ()) -> list[Path]:
    """The notebooks of the course in reading order, then their solutions.

    `only` keeps those whose file name starts with one of its entries ("03", "07_pretraining"). Raises
    `FileNotFoundError` where nothing is left.
    """
    paths = sorted(folder.glob("[0-9][0-9]_*.ipynb")) + sorted(folder.glob("solutions/[0-9][0-9]_*.ipynb"))
    chosen = [path for path in paths if not only or path.name.startswith(tuple(only))]
    if not chosen:
        wanted = f"starts with {' or '.join(only)}" if only else "is called NN_name.ipynb"
        raise FileNotFoundError(f"no notebook in {folder} {wanted}")
    return chosen


def key(path: Path) -> str:
    """The short name of a notebook: "03_attention", or "solutions/03_attention"."""
    return f"solutions/{path.stem}" if path.parent.name == "solutions" else path.stem


def title(notebook: NotebookNode) -> str:
    """The text of the first heading, without its marks."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and (match := re.search(r"^# +(.+)$", cell.source, re.MULTILINE)):
            return match[1].strip()
    raise ValueError("the notebook has no heading: its first cell starts with '# Title'")


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def write(path: Path, notebook: NotebookNode) -> None:
    """Write `notebook` in the stored form, through a temporary file so that Ctrl-C cannot leave half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(text(notebook), encoding="utf-8", newline="\n")
    partial.replace(path)


def text(notebook: NotebookNode) -> str:
    """The stored form of `notebook` as text, ending in one newline."""
    return nbformat.writes(normalise(notebook)).rstrip("\n") + "\n"


def normalise(notebook: NotebookNode) -> NotebookNode:
    """A copy of `notebook` that holds nothing which differs from one run to the next by itself."""
    notebook = copy.deepcopy(notebook)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    notebook.metadata = nbformat.from_dict(METADATA)
    seen: dict[str, int] = {}
    count = 0
    for cell in notebook.cells:
        cell.source = "\n".join(line.rstrip() for line in cell.source.strip("\n").split("\n"))
        cell.metadata = nbformat.from_dict({"tags": cell.metadata.tags} if cell.metadata.get("tags") else {})
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:8]
        seen[digest] = seen.get(digest, 0) + 1
        cell.id = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
        if cell.cell_type == "code":
            executed = cell.execution_count is not None
            count += executed
            cell.execution_count = count if executed else None
            cell.outputs = _normalise_outputs(cell.outputs, cell.execution_count)
    return notebook


def _normalise_outputs(outputs: list[NotebookNode], execution_count: int | None) -> list[NotebookNode]:
    kept: list[NotebookNode] = []
    for output in outputs:
        if output.output_type == "stream":
            if kept and kept[-1].output_type == "stream" and kept[-1].name == output.name:
                kept[-1].text += output.text
            else:
                kept.append(output)
            continue
        if output.output_type == "execute_result":
            output.execution_count = execution_count
        if output.output_type == "error":  # a traceback shows the machine's folders
            output.traceback = [f"{output.ename}: {output.evalue}"]
        if "metadata" in output:
            output.metadata = nbformat.from_dict({})
        kept.append(output)
    for output in kept:
        if output.output_type == "stream":
            output.text = _final_text(output.text)
    return [output for output in kept if output.output_type != "stream" or output.text]


def _final_text(text: str) -> str:
    """What a terminal would show in the end, without the progress bars, whose times are never the same twice."""
    lines = [line.rstrip("\r").rsplit("\r", 1)[-1] for line in text.split("\n")]
    lines = [line.rstrip() for line in lines if not PROGRESS_BAR.search(line)]
    return "\n".join(lines) if any(lines) else ""
