"""Pictures of the graph behind a Tensor: `draw` with matplotlib, `draw_text` for terminals."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any

from minilm.draw.graph import collect
from minilm.draw.text import tree
from minilm.tensor import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw", "draw_text"]


def draw(
    tensor: Tensor,
    path: str | PathLike[str] | None = None,
    *,
    names: Any = None,
    values: bool = True,
    max_nodes: int = 40,
    direction: str = "down",
) -> Figure:
    """Draws the operations that led to `tensor`, as a matplotlib Figure; a notebook shows it.

    A box shows an operation, the shape of its result, the value if it is small and alive, and ∇, the gradient, if
    there is one (leaves after `backward()`, others after `retain_grad()`). Draw after `backward()` to see them:
    the graph itself stays until the Tensor goes.

    path       also writes the picture there (.png, .svg, .pdf)
    names      what to call the Tensors: a dict by name (`names=locals()` works), or a module for its parameters
    values     whether to show values and gradients
    max_nodes  of a longer graph only the newest operations are drawn, and the picture says how many there are
    direction  "down": from the inputs at the top; "right": from the inputs at the left
    """
    if direction not in ("down", "right"):
        raise ValueError(f'direction must be "down" or "right", got {direction!r}')
    graph = collect(tensor, names, values, max_nodes)
    from minilm.draw.figure import paint  # matplotlib takes a second to import

    figure = paint(graph, direction)
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure


def draw_text(tensor: Tensor, *, names: Any = None, values: bool = True, max_nodes: int = 200) -> str:
    """The same graph as a tree of lines, the result first. Arguments as for `draw`."""
    return tree(collect(tensor, names, values, max_nodes))
