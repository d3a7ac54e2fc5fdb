"""Where the gradients are checked: random inputs that keep off kinks and poles, in awkward memory layouts.

A difference quotient is only as good as the point it is taken at. `distinct` keeps every value away from every
other and from the corners of relu, abs, clip, max and sort; `positive` keeps away from the poles of log and 1/x.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LAYOUTS = ("contiguous", "transposed", "sliced", "reversed")


@dataclass(frozen=True)
class Points:
    """A random float64 input of one shape: drawn anew for every check, from that check's own generator."""

    shape: tuple[int, ...]
    kind: str

    def draw(self, random: np.random.Generator, layout: str = "contiguous") -> np.ndarray:
        return lay_out(self._values(random), layout)

    def _values(self, random: np.random.Generator) -> np.ndarray:
        if self.kind == "normal":
            return random.standard_normal(self.shape)
        if self.kind == "positive":
            return random.uniform(0.5, 2.0, self.shape)
        if self.kind == "inside":
            return random.uniform(-0.9, 0.9, self.shape)
        size = int(np.prod(self.shape))
        # 0.05, ±0.1 … apart: never closer than 0.1 to each other nor than 0.05 to a multiple of 0.1
        return (0.1 * (random.permutation(size) - size // 2) + 0.05).reshape(self.shape)


def normal(*shape: int) -> Points:
    """Standard normal numbers."""
    return Points(shape, "normal")


def positive(*shape: int) -> Points:
    """Uniform in [0.5, 2]."""
    return Points(shape, "positive")


def inside(*shape: int) -> Points:
    """Uniform in [-0.9, 0.9]."""
    return Points(shape, "inside")


def distinct(*shape: int) -> Points:
    """Odd multiples of 0.05, each once, in random order: no ties, none on a corner at a multiple of 0.1."""
    return Points(shape, "distinct")


def lay_out(values: np.ndarray, layout: str) -> np.ndarray:
    """The same values as a writable view whose memory is in another order.

    transposed: the axes are in reverse order in memory; sliced: every second element of a larger array, in every
    axis; reversed: negative strides in every axis.
    """
    values = np.asarray(values)
    if layout == "contiguous" or values.ndim == 0:
        return values.copy()
    if layout == "transposed":
        return values.T.copy(order="C").T
    if layout == "sliced":
        room = np.full([2 * n + 1 for n in values.shape], np.nan)  # whoever reads between the elements reads NaN
        view = room[tuple(slice(1, None, 2) for _ in values.shape)]
        view[...] = values
        return view
    if layout == "reversed":
        backwards = (slice(None, None, -1),) * values.ndim
        return values[backwards].copy(order="C")[backwards]
    raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
