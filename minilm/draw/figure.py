"""Paints a collected graph with matplotlib: boxes, arrows and a legend, in colours that survive colour blindness."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from io import BytesIO
from itertools import pairwise
from typing import Any

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyBboxPatch, PathPatch, Rectangle
from matplotlib.path import Path
from matplotlib.textpath import TextToPath

from minilm.draw.graph import Box, Graph
from minilm.draw.layout import place

# Okabe and Ito's palette (2008): told apart with every common colour blindness; the fills are its light tints.
# The kinds differ in lightness as well, and each says in words what it is, so nothing rests on hue alone.
EDGES = {"operation": "#3f4a54", "parameter": "#0072b2", "input": "#7a7a7a", "more": "#7a7a7a", "output": "#b04a00"}
FILLS = {"operation": "#ffffff", "parameter": "#d6eaf8", "input": "#eeeeee", "more": "#ffffff", "output": "#fde3cf"}
LEGEND = {
    "parameter": "leaf that requires a gradient",
    "input": "leaf that does not",
    "operation": "operation and its result",
    "output": "the Tensor drawn",
    "more": "left out",
}
GRADIENT = "#b04a00"
INK = "#1a1a1a"
QUIET = "#5a5a5a"

POINT = 1 / 72  # inches
TITLE_SIZE, LINE_SIZE, LEGEND_SIZE = 10.0, 8.5, 8.5
PAD_X, PAD_Y, LINE_STEP = 0.11, 0.08, 0.165  # inches
LAYER_GAP, BOX_GAP, MARGIN = 0.36, 0.22, 0.2


class GraphFigure(Figure):
    """A Figure that a notebook shows even if pyplot was never imported, and that pyplot does not keep alive."""

    def _repr_png_(self) -> bytes:
        file = BytesIO()
        self.savefig(file, format="png", dpi=110)
        return file.getvalue()


def paint(graph: Graph, direction: str) -> Figure:
    """A Figure just large enough; direction "down" stacks the layers, "right" puts them side by side."""
    down = direction == "down"
    sizes = [_box_size(box) for box in graph.boxes]
    layout = place(
        [box.parents for box in graph.boxes],
        [(height, width) if down else (width, height) for width, height in sizes],
        layer_gap=LAYER_GAP if down else LAYER_GAP + 0.1,
        box_gap=BOX_GAP if down else BOX_GAP - 0.06,
    )
    along, across = layout.size
    width, height = (across, along) if down else (along, across)
    kinds = [kind for kind in LEGEND if any(box.kind == kind for box in graph.boxes)]
    legend = _legend_rows(kinds, graph.has_gradients, max(width, 3.2))
    captions = len(legend) + bool(graph.note)
    full_width = max(width, _legend_width(legend), _text_width(graph.note, LEGEND_SIZE)) + 2 * MARGIN
    full_height = height + 2 * MARGIN + 0.24 * captions + 0.06

    figure = GraphFigure(figsize=(full_width, full_height), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, full_width)
    axes.set_ylim(full_height, 0)  # y grows downwards, as the layers do
    axes.axis("off")

    shift = (full_width - width) / 2
    def spot(point: tuple[float, float]) -> tuple[float, float]:
        return (point[1] + shift, point[0] + MARGIN) if down else (point[0] + shift, point[1] + MARGIN)

    for (parent, child), route in layout.routes.items():
        uses = graph.boxes[child].parents.count(parent)
        for k in range(uses):  # x · x is two arrows, side by side
            aside = 0.2 * (k - (uses - 1) / 2)
            _arrow(axes, [spot(p) for p in route], sizes[parent], sizes[child], down, aside)
    for box, centre, size in zip(graph.boxes, layout.centres, sizes, strict=True):
        _box(axes, box, spot(centre), size)
    _draw_legend(axes, legend, graph.note, height + 2 * MARGIN + 0.06)
    return figure


# ------------------------------------------------------------------------------------------------------ boxes


def _box_size(box: Box) -> tuple[float, float]:
    widths = [_text_width(box.title, TITLE_SIZE, bold=True)]
    widths += [_text_width(line.text, LINE_SIZE, mono=line.mono) for line in box.lines]
    return max(0.5, max(widths) + 2 * PAD_X), 2 * PAD_Y + 0.17 + LINE_STEP * len(box.lines)


def _box(axes: Any, box: Box, centre: tuple[float, float], size: tuple[float, float]) -> None:
    (x, y), (width, height) = centre, size
    rounding = min(height / 2, 0.16) if box.kind in ("operation", "output", "more") else 0.03
    axes.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - height / 2), width, height,
            boxstyle=f"round,pad=0,rounding_size={rounding}",
            facecolor=FILLS[box.kind], edgecolor=EDGES[box.kind], linewidth=1.3,
            linestyle=(0, (3, 2)) if box.kind == "more" else "solid", zorder=3,
        )  # fmt: skip
    )
    top = y - height / 2 + PAD_Y
    axes.text(
        x, top + 0.085, box.title, ha="center", va="center", fontsize=TITLE_SIZE, color=INK,
        fontproperties=_font(TITLE_SIZE, bold=True), zorder=4, parse_math=False,
    )  # fmt: skip
    for i, line in enumerate(box.lines):
        axes.text(
            x, top + 0.17 + LINE_STEP * (i + 0.5), line.text, ha="center", va="center",
            color=GRADIENT if line.gradient else QUIET if not line.mono else INK,
            fontproperties=_font(LINE_SIZE, mono=line.mono), zorder=4, parse_math=False,
        )  # fmt: skip


# ------------------------------------------------------------------------------------------------------ edges


def _arrow(
    axes: Any,
    route: Sequence[tuple[float, float]],
    parent: tuple[float, float],
    child: tuple[float, float],
    down: bool,
    aside: float,
) -> None:
    """A smooth line from the border of one box to the border of the other, leaving and arriving straight."""
    main, side = (1, 0) if down else (0, 1)
    points = [list(p) for p in route]
    points[0][main] += parent[main] / 2
    points[-1][main] -= child[main] / 2
    towards_child, towards_parent = points[2][side], points[-3][side]  # beyond the straight piece within the layer
    points[0][side] = points[1][side] = _port(points[0][side], towards_child, parent[side])
    points[-1][side] = points[-2][side] = _port(points[-1][side], towards_parent, child[side])
    for point in points:
        point[side] += aside
    tip = list(points[-1])
    points[-1][main] -= 0.075  # the line ends where the arrow head begins

    vertices, codes = [tuple(points[0])], [Path.MOVETO]
    for a, b in pairwise(points):
        bend = (b[main] - a[main]) / 2
        first, second = list(a), list(b)
        first[main] += bend
        second[main] -= bend
        vertices += [tuple(first), tuple(second), tuple(b)]
        codes += [Path.CURVE4] * 3
    axes.add_patch(
        PathPatch(Path(vertices, codes), fill=False, edgecolor="#6b7680", linewidth=1.15, capstyle="round", zorder=1)
    )
    base = [list(tip), list(tip)]
    for end, sign in zip(base, (-1, 1), strict=True):
        end[main] -= 0.095
        end[side] += sign * 0.042
    axes.add_patch(PathPatch(Path([tip, *base, tip], closed=True), facecolor="#6b7680", linewidth=0, zorder=2))


def _port(at: float, towards: float, width: float) -> float:
    """Where an edge meets a box: a little towards the other end, so that several edges do not share one point."""
    reach = max(0.0, width / 2 - 0.14)
    return at + max(-reach, min(reach, 0.35 * (towards - at)))


# ----------------------------------------------------------------------------------------------------- legend

SWATCH, GAP = 0.2, 0.22


def _legend_rows(kinds: Iterable[str], gradients: bool, width: float) -> list[list[tuple[str, str]]]:
    entries = [(kind, LEGEND[kind]) for kind in kinds] + ([("", "∇ gradient")] if gradients else [])
    rows: list[list[tuple[str, str]]] = [[]]
    for entry in entries:
        if rows[-1] and _legend_width([[*rows[-1], entry]]) > width:
            rows.append([])
        rows[-1].append(entry)
    return rows


def _legend_width(rows: Iterable[Sequence[tuple[str, str]]]) -> float:
    return max(
        sum(_text_width(text, LEGEND_SIZE) + (SWATCH + 0.06 if kind else 0) for kind, text in row)
        + GAP * (len(row) - 1)
        for row in rows
    )


def _draw_legend(axes: Any, rows: Sequence[Sequence[tuple[str, str]]], note: str, top: float) -> None:
    for i, row in enumerate(rows):
        x, y = MARGIN, top + 0.24 * i
        for kind, text in row:
            if kind:
                axes.add_patch(
                    Rectangle(
                        (x, y - 0.06), SWATCH, 0.12, facecolor=FILLS[kind], edgecolor=EDGES[kind], linewidth=1.1,
                        linestyle=(0, (3, 2)) if kind == "more" else "solid",
                    )  # fmt: skip
                )
                x += SWATCH + 0.06
            axes.text(
                x, y, text, va="center", color=QUIET if kind else GRADIENT,
                fontproperties=_font(LEGEND_SIZE), parse_math=False,
            )  # fmt: skip
            x += _text_width(text, LEGEND_SIZE) + GAP
    if note:
        axes.text(
            MARGIN, top + 0.24 * len(rows), note, va="center", color=INK,
            fontproperties=_font(LEGEND_SIZE), parse_math=False,
        )  # fmt: skip


# ------------------------------------------------------------------------------------------------------- text


@lru_cache
def _font(size: float, bold: bool = False, mono: bool = False) -> FontProperties:
    return FontProperties(
        family="DejaVu Sans Mono" if mono else "DejaVu Sans",  # both come with matplotlib: the same widths everywhere
        weight="bold" if bold else "normal",
        size=size,
    )


@lru_cache(maxsize=4096)
def _text_width(text: str, size: float, bold: bool = False, mono: bool = False) -> float:
    if not text:
        return 0.0
    width = TextToPath().get_text_width_height_descent(text, _font(size, bold, mono), ismath=False)[0] * POINT
    return 1.04 * width  # on screen, glyphs are moved to whole pixels
