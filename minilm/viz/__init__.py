"""Pictures for notebooks: matrices with tokens on their axes, attention heads side by side, masks.

Every function draws into axes that it is given, or makes a figure, and returns the figure: shown where it is the last
line of a cell, written to a file by `figure.savefig(path)`. Nothing touches pyplot or its settings.
"""

from __future__ import annotations

from minilm.viz.matrices import attention, heatmap, mask
from minilm.viz.style import COLOURS, DIVERGING, SEQUENTIAL, Figure, subplots

__all__ = ["COLOURS", "DIVERGING", "SEQUENTIAL", "Figure", "attention", "heatmap", "mask", "subplots"]
