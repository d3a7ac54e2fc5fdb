"""One look for all pictures: colours that survive colour blindness and a black-and-white printer, figures of 80 dpi."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import matplotlib.figure
from matplotlib import rc_context
from matplotlib.colors import LinearSegmentedColormap

DPI = 80  # 9 inches are then 720 pixels, the width of a page's column, and a notebook stays small

# Okabe and Ito's palette (2008), in an order in which neighbours differ in lightness too.
COLOURS = {
    "blue": "#0072b2",
    "orange": "#e69f00",
    "green": "#009e73",
    "red": "#d55e00",
    "sky": "#56b4e9",
    "purple": "#cc79a7",
    "black": "#1a1a1a",
    "grey": "#7a7a7a",
}

# Both get darker steadily away from their white, so that grey print keeps the order.
SEQUENTIAL = LinearSegmentedColormap.from_list("minilm", ["#ffffff", "#9ecae8", COLOURS["blue"], "#00304d"])
DIVERGING = LinearSegmentedColormap.from_list(
    "minilm diverging", ["#5a2600", COLOURS["red"], "#f6c9a4", "#ffffff", "#9ecae8", COLOURS["blue"], "#00304d"]
)

STYLE: Any = {
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.labelsize": 11,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.axisbelow": True,
}


class Figure(matplotlib.figure.Figure):
    """A matplotlib Figure that a notebook shows even if pyplot was never imported, and that pyplot does not keep."""

    def _repr_png_(self) -> bytes:
        file = BytesIO()
        self.savefig(file, format="png", dpi=DPI)
        return file.getvalue()


def subplots(
    rows: int = 1, columns: int = 1, *, width: float | None = None, height: float | None = None, **options: Any
) -> tuple[Figure, Any]:
    """Return a figure of this look and its axes, as `pyplot.subplots` does, but for pyplot.

    width, height  in inches; by default 4.5 a column up to 9, and 3.2 a row
    options        of `Figure.subplots`: width_ratios, sharey, …
    """
    from cycler import cycler

    size = (width or min(9.0, 4.5 * columns), height or 3.2 * rows)
    lines = cycler(color=[COLOURS[name] for name in ("blue", "red", "green", "purple", "orange", "black")])
    with rc_context(STYLE | {"axes.prop_cycle": lines}):
        figure = Figure(figsize=size, dpi=DPI, layout="constrained", facecolor="white")
        axes = figure.subplots(rows, columns, **options)
    return figure, axes
