"""Matrices as pictures: any numbers (`heatmap`), attention weights by head (`attention`), masks (`mask`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from minilm.viz.style import DIVERGING, SEQUENTIAL, subplots

MOST_NUMBERS = 10  # columns up to which every cell can hold its number
HEADROOM = 1.5  # a scale ends that much beyond the largest value: less ink, and numbers are easy to read
HIDDEN: dict[str, Any] = {"facecolor": "#eeeeee", "edgecolor": "#a8a8a8", "hatch": "////", "linewidth": 0}


def heatmap(
    matrix: Any,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    *,
    title: str = "",
    xlabel: str = "",
    ylabel: str = "",
    hidden: Any = None,
    limits: tuple[float, float] | None = None,
    numbers: str | bool | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw a matrix as coloured cells, with names on its axes and, if it is small, each number in its cell.

    matrix   (M, N) numbers, array or Tensor; −inf counts as hidden
    rows     M names, from the top; columns: N names. None leaves the axis without names
    hidden   (M, N) bool: these cells are hatched and carry no number
    limits   the values at the ends of the colour scale. By default 0 … 1 for shares, otherwise somewhat beyond the
             largest |x|. White is 0; what is negative is red, what is positive blue
    numbers  a format such as ".2f"; False for none. By default whole numbers as they are and others with two
             decimals, up to 10 columns
    ax       where to draw; None makes a figure

    Raises ValueError when the shapes do not fit.
    """
    values = _two_axes(matrix, "matrix")
    height, width = values.shape
    covered = np.isneginf(values)
    if hidden is not None:
        covered = covered | _same_shape(hidden, values.shape, "hidden")
    low, high = limits or _limits(values[~covered])
    colours = DIVERGING if low < 0 else SEQUENTIAL
    scale = Normalize(low, high)

    if ax is None:
        _, ax = subplots(width=min(9.0, 1.6 + 0.62 * width), height=min(9.0, 1.2 + 0.5 * height))
    ax.imshow(np.where(covered, 0.0, values), cmap=colours, norm=scale, aspect="auto")
    for i, j in np.argwhere(covered):
        ax.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, **HIDDEN))
    if numbers is not False and (width <= MOST_NUMBERS or numbers):
        _write_numbers(ax, values, covered, numbers if isinstance(numbers, str) else None, colours, scale)
    _name_axes(ax, rows, columns, values.shape)
    _rule(ax, values.shape)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.set_title(title)
    return _figure_of(ax)


def attention(
    weights: Any,
    queries: Sequence[str],
    keys: Sequence[str] | None = None,
    *,
    titles: str | Sequence[str] = "",
    hidden: Any = None,
    numbers: str | bool | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw attention weights with tokens on both axes: one row for each query, one panel for each head.

    weights  (Tq, Tk), or (H, Tq, Tk) for H heads side by side; every row sums to 1
    queries  Tq tokens; keys: Tk tokens, None for self-attention
    titles   one for each head
    hidden   (Tq, Tk) bool, what the mask removed; hatched
    numbers  as for `heatmap`; by default ".2f" while there is room
    ax       where to draw a single head; None makes a figure

    Raises ValueError when tokens, titles and weights do not fit together.
    """
    heads = _array(weights)
    heads = heads[None] if heads.ndim == 2 else heads
    if heads.ndim != 3:
        raise ValueError(f"weights must have shape (Tq, Tk) or (H, Tq, Tk), got {heads.shape}")
    count, tq, tk = heads.shape
    names = [titles] * count if isinstance(titles, str) else list(titles)
    if len(names) != count:
        raise ValueError(f"{count} heads need {count} titles, got {len(names)}")
    if ax is not None and count > 1:
        raise ValueError(f"{count} heads do not fit into one `ax`: leave it out, or pass one head")
    if ax is None:
        longest = max(len(token) for token in queries) * 0.085
        panel = 0.62 * tk if count == 1 else max(2.2, min(0.5 * tk, 8.0 / count))
        size = min(9.0, longest + 0.7 + count * panel), min(9.0, 1.3 + min(0.42 * tq, panel * tq / tk * 1.1))
        _, axes = subplots(1, count, width=size[0], height=size[1], sharey=True, squeeze=False)
    else:
        axes = np.array([[ax]])
    if numbers is None:
        numbers = ".2f" if tk * count <= MOST_NUMBERS else False
    for number, (panel_axes, head, name) in enumerate(zip(axes[0], heads, names, strict=True)):
        heatmap(
            head, queries, queries if keys is None else keys, title=name, xlabel="key: looked at",
            ylabel="query: looking" if number == 0 else "", hidden=hidden, limits=(0, 1), numbers=numbers,
            ax=panel_axes,
        )  # fmt: skip
    figure = _figure_of(axes[0, 0])
    if numbers is False:
        bar = figure.colorbar(axes[0, 0].images[0], ax=list(axes[0]), shrink=0.85, aspect=15)
        bar.set_label("attention weight")
        bar.outline.set_visible(False)
    return figure


def mask(
    allowed: Any,
    queries: Sequence[str] | None = None,
    keys: Sequence[str] | None = None,
    *,
    title: str = "",
    ax: Axes | None = None,
) -> Figure:
    """Draw who may look where: a filled cell may be seen, a hatched one is hidden.

    allowed  (Tq, Tk) bool, True where query i may see key j
    queries  Tq tokens; keys: Tk tokens, None for the same
    """
    seen = _two_axes(allowed, "allowed")
    if seen.dtype != bool:
        raise ValueError(f"allowed must be boolean (True: may be seen), got {seen.dtype}")
    if keys is None and queries is not None and seen.shape[0] == seen.shape[1]:
        keys = queries
    if ax is None:
        _, ax = subplots(width=min(9.0, 1.2 + 0.4 * seen.shape[1]), height=min(9.0, 1.0 + 0.4 * seen.shape[0]))
    place = ax.get_subplotspec()
    first = place is None or place.is_first_col()
    figure = heatmap(
        seen / HEADROOM, queries, keys, title=title, xlabel="key", ylabel="query" if first else "", hidden=~seen,
        limits=(0, 1), numbers=False, ax=ax,
    )  # fmt: skip
    ax.set_aspect("equal")
    return figure


def _array(values: Any) -> np.ndarray:
    if hasattr(values, "detach"):
        values = values.detach()
    return np.asarray(values.numpy() if hasattr(values, "numpy") else values)


def _two_axes(values: Any, name: str) -> np.ndarray:
    array = _array(values)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{name} must have two axes of at least one entry, got shape {array.shape}")
    return array


def _same_shape(values: Any, shape: tuple[int, ...], name: str) -> np.ndarray:
    array = _array(values).astype(bool)
    if array.shape != shape:
        raise ValueError(f"{name} must have the shape of the matrix, {shape}, got {array.shape}")
    return array


def _limits(values: np.ndarray) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    if finite.size == 0 or not finite.any():
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    if 0 <= low and high < 1:
        return 0.0, 1.0
    end = HEADROOM * max(-low, high)
    return (-end if low < 0 else 0.0), end


def _write_numbers(
    ax: Axes, values: np.ndarray, covered: np.ndarray, form: str | None, colours: Colormap, scale: Normalize
) -> None:
    for i, j in np.ndindex(*values.shape):
        if covered[i, j]:
            continue
        text = _shortest(values[i, j]) if form is None else format(values[i, j], form)
        # Black and white differ equally from a luminance of 0.18: either is then 4.6 times as dark or as bright.
        ink = "white" if _luminance(colours(scale(values[i, j]))) < 0.18 else "black"
        ax.text(j, i, text.replace("-", "−"), ha="center", va="center", color=ink, fontsize=10)


def _shortest(value: Any) -> str:
    """A whole number as it is, anything else with two decimals, or in two digits where those would show nothing."""
    number = float(value)
    if number == round(number) and abs(number) < 1e6:
        return str(round(number))
    return f"{number:.2f}" if 0.005 <= abs(number) < 1000 else f"{number:.1e}"


def _luminance(colour: tuple[float, ...]) -> float:
    """Relative luminance as in WCAG 2.2, 0 for black and 1 for white."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _name_axes(ax: Axes, rows: Sequence[str] | None, columns: Sequence[str] | None, shape: tuple[int, ...]) -> None:
    for names, size, what in ((rows, shape[0], "rows"), (columns, shape[1], "columns")):
        if names is not None and len(names) != size:
            raise ValueError(f"the matrix has {size} {what}, but there are {len(names)} names for them")
    ax.set_yticks(range(shape[0]) if rows is not None else [], [_visible(n) for n in rows or ()])
    steep = columns is not None and max(map(len, columns)) > 4
    ax.set_xticks(range(shape[1]) if columns is not None else [], [_visible(n) for n in columns or ()])
    if steep:
        for label in ax.get_xticklabels():
            label.set(rotation=45, ha="right", rotation_mode="anchor")


def _visible(token: str) -> str:
    """A token with its white space made visible, and nothing that matplotlib would read as a formula."""
    return token.replace("\n", "↵").replace(" ", "␣").replace("$", r"\$")


def _rule(ax: Axes, shape: tuple[int, ...]) -> None:
    """Thin white lines between the cells and no frame."""
    ax.grid(False)
    ax.tick_params(length=0)
    ax.set_xticks(np.arange(0.5, shape[1] - 0.5), minor=True)
    ax.set_yticks(np.arange(0.5, shape[0] - 0.5), minor=True)
    ax.grid(True, which="minor", color="white", linewidth=1.5, alpha=1)
    ax.tick_params(which="minor", length=0)
    for side in ax.spines.values():
        side.set(visible=True, color="#a8a8a8", linewidth=0.8)


def _figure_of(ax: Axes) -> Figure:
    figure = ax.figure
    assert isinstance(figure, Figure), "subfigures cannot be shown by themselves"
    return figure
