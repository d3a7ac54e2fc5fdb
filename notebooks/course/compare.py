"""Compare the outputs that a notebook stores with those of a fresh run.

Text has to be the same but for its numbers, and numbers but for rounding: processors and versions of NumPy differ
in the last digits. A cell may ask for more room by a tag, because a training run amplifies those last digits:

    tolerance=0.05    numbers may differ by 5 %
    varies            only the kinds of outputs are compared (text sampled from a model that was just trained)
"""

from __future__ import annotations

import base64
import io
import math
import re
from html.parser import HTMLParser

from nbformat import NotebookNode
from PIL import Image

RELATIVE_TOLERANCE = 1e-4
NOISE = 1e-6  # differences of float32 results that should be zero
NUMBER = re.compile(r"(?<![\w.])([-+]?(?:\d+\.\d*|\.\d+|\d+)(?:[eE][-+]?\d+)?)(?![\w])")


def differences(stored: NotebookNode, fresh: NotebookNode) -> list[str]:
    """One sentence for each cell whose outputs are not those of the fresh run; empty when all agree."""
    if len(stored.cells) != len(fresh.cells):
        return [f"{len(stored.cells)} cells are stored, {len(fresh.cells)} came out of the run"]
    found = []
    for number, (old, new) in enumerate(zip(stored.cells, fresh.cells, strict=True), start=1):
        if old.cell_type == "code" and (reason := _compare_cell(old, new)):
            found.append(f"cell {number}: {reason}")
    return found


def _compare_cell(old: NotebookNode, new: NotebookNode) -> str | None:
    tags = old.metadata.get("tags", [])
    kinds_old, kinds_new = ([_kind(output) for output in cell.outputs] for cell in (old, new))
    if kinds_old != kinds_new:
        return f"stored outputs are {_listed(kinds_old)}, the run gives {_listed(kinds_new)}"
    for before, after in zip(old.outputs, new.outputs, strict=True):
        if (reason := _compare_pictures(before, after)) is not None:
            return reason
        if "varies" not in tags:
            reason = compare_text(_text(before), _text(after), tolerance(tags))
            if reason is not None:
                return reason
    return None


def tolerance(tags: list[str]) -> float:
    """The relative tolerance that a cell's tags ask for."""
    for tag in tags:
        if tag.startswith("tolerance="):
            return float(tag.removeprefix("tolerance="))
    return RELATIVE_TOLERANCE


def compare_text(old: str, new: str, relative: float = RELATIVE_TOLERANCE) -> str | None:
    """The first place where two texts differ by more than `relative` and rounding allow, or None."""
    # Spaces move when a sign or the number of digits changes, so they do not count.
    parts_old, parts_new = (NUMBER.split(re.sub(r"(?<=[\[(])\s+|\s+(?=[\])])", "", text)) for text in (old, new))
    for place, (a, b) in enumerate(zip(parts_old, parts_new, strict=False)):
        if place % 2 == 0 and a.split() == b.split():
            continue
        if place % 2 == 1 and _close(a, b, relative):
            continue
        return f"stored {_shown(parts_old, place)!r}, the run gives {_shown(parts_new, place)!r}"
    if len(parts_old) != len(parts_new):
        shorter = min(len(parts_old), len(parts_new))
        return f"stored {_shown(parts_old, shorter)!r}, the run gives {_shown(parts_new, shorter)!r}"
    return None


def _close(a: str, b: str, relative: float) -> bool:
    x, y = float(a), float(b)
    whole = not re.search(r"[.eE]", a + b)
    if x == y or whole and relative <= RELATIVE_TOLERANCE:  # a count is a count
        return x == y
    # One unit of the last printed digit: 0.1235 may become 0.1234 by rounding alone.
    unit = 0.0 if whole else min(_last_digit(a), _last_digit(b))
    return math.isclose(x, y, rel_tol=relative, abs_tol=max(1.01 * unit, NOISE))


def _last_digit(number: str) -> float:
    """The value of one unit in the last printed place: 0.001 for "2.718", 1e-7 for "1.2e-06"."""
    mantissa, _, exponent = number.lower().partition("e")
    return 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))


def _compare_pictures(old: NotebookNode, new: NotebookNode) -> str | None:
    data_old, data_new = old.get("data", {}).get("image/png"), new.get("data", {}).get("image/png")
    if data_old is None or data_new is None:
        return None
    with (
        Image.open(io.BytesIO(base64.b64decode(data_old))) as before,
        Image.open(io.BytesIO(base64.b64decode(data_new))) as after,
    ):
        if any(abs(p - q) > max(4, 0.05 * p) for p, q in zip(before.size, after.size, strict=True)):
            return f"the stored picture has {before.size} pixels, the new one {after.size}"
        low, high = after.convert("L").getextrema()
        if low == high:
            return "the new picture is one flat colour"
    return None


def _kind(output: NotebookNode) -> str:
    if output.output_type == "stream":
        return str(output.name)
    if output.output_type == "error":
        return f"error {output.ename}"
    return "+".join(sorted(output.data))


def _text(output: NotebookNode) -> str:
    if output.output_type == "stream":
        return str(output.text)
    if output.output_type == "error":
        return f"{output.ename}: {output.evalue}"
    if "text/html" in output.data:
        return _visible(output.data["text/html"])
    return str(output.data.get("text/markdown") or output.data.get("text/plain", ""))


class _Visible(HTMLParser):
    """Collects the text that a page shows."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []

    def handle_data(self, data: str) -> None:
        self.pieces.append(data)


def _visible(html: str) -> str:
    parser = _Visible()
    parser.feed(html)
    return " ".join(parser.pieces)


def _shown(parts: list[str], place: int) -> str:
    """The surroundings of one part, short enough for a message."""
    before, after = "".join(parts[max(0, place - 2) : place]), "".join(parts[place : place + 2])
    return " ".join(f"{before[-30:]}{after[:40]}".split())


def _listed(kinds: list[str]) -> str:
    return ", ".join(kinds) if kinds else "none"
