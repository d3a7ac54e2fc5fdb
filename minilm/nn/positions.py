"""How a model knows the order of its tokens: learned, sinusoidal and rotary positions.

Attention itself is blind to order: permute the keys and values together and nothing changes. Learned and sinusoidal
positions are added to the embeddings at the bottom of a model; rotary ones turn queries and keys inside each
attention layer, so that a score depends on the distance of two positions and not on where they stand.

All three take `offset`, the position of the first element of x (the length of the KV cache when generating), or
`positions`, explicit integer positions (T,) or (B, T) (for batches padded on the left).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from minilm.nn import functional as F
from minilm.nn import init
from minilm.nn.module import Module, Parameter
from minilm.nn.state import as_array
from minilm.tensor import Operation, Tensor, apply


class LearnedPositionalEmbedding(Module):
    """A trained vector for each position, added to x.

        y[b, t] = x[b, t] + W[offset + t]        x, y (B, T, C)   W (max_positions, C)

    Gehring et al. 2017, "Convolutional Sequence to Sequence Learning", section 3.1; GPT-2 and BERT use it. W starts
    from N(0, 1), as `Embedding`.

    Raises:
        ValueError: at a position past the table's end.
    """

    weight: Parameter

    def __init__(self, max_positions: int, embedding_dim: int, *, dtype: np.dtype | type | None = None) -> None:
        super().__init__()
        self.max_positions = max_positions
        self.embedding_dim = embedding_dim
        self.weight = Parameter(np.empty((max_positions, embedding_dim), dtype or np.float32))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the table from N(0, 1)."""
        init.normal_(self.weight)

    def forward(self, x: Tensor, offset: int = 0, positions: Any = None) -> Tensor:
        wanted, last = _resolve(x, offset, positions)
        if last > self.max_positions:
            raise ValueError(
                f"position {last - 1} is past the last of {self.max_positions} learned positions: shorten the input, "
                "or build the model with more."
            )
        return x + (self.weight[offset:last] if wanted is None else F.embedding(wanted, self.weight))

    def extra_repr(self) -> str:
        return f"{self.max_positions}, {self.embedding_dim}"


class SinusoidalPositionalEmbedding(Module):
    """Fixed waves of many lengths, added to x: nothing to train, any number of positions.

        P[p, 2i]     = sin(p / 10000^(2i/C))
        P[p, 2i + 1] = cos(p / 10000^(2i/C))        y[b, t] = x[b, t] + P[offset + t]        x, y (B, T, C)

    Wave lengths run from 2π to 10000 · 2π. P[p + k] is a fixed rotation of P[p], so attention can learn to look k
    positions back. Vaswani et al. 2017, "Attention Is All You Need", section 3.5.

    Args:
        embedding_dim: C, even.
        interleaved: True is the formula above; False puts all sines into the first half of the C columns and all
            cosines into the second (tensor2tensor, fairseq and Marian have them so).
        base: 10000 in the formula.

    Raises:
        ValueError: for an odd width.
    """

    def __init__(self, embedding_dim: int, *, interleaved: bool = True, base: float = 10000.0) -> None:
        super().__init__()
        self.embedding_dim = embedding_dim
        self.interleaved = interleaved
        self.base = base
        _frequencies(embedding_dim, base)  # refuses an odd width now rather than in forward
        self._table = _Table(partial(sinusoidal_table, dim=embedding_dim, interleaved=interleaved, base=base))

    def forward(self, x: Tensor, offset: int = 0, positions: Any = None) -> Tensor:
        return x + Tensor(self._table.rows(x, offset, positions))

    def extra_repr(self) -> str:
        return f"{self.embedding_dim}, interleaved={self.interleaved}, base={self.base:g}"


def sinusoidal_table(num_positions: int, dim: int, *, interleaved: bool = True, base: float = 10000.0) -> np.ndarray:
    """The table P (num_positions, dim) of `SinusoidalPositionalEmbedding`, float64: for pictures and checks."""
    angles = np.arange(num_positions)[:, None] * _frequencies(dim, base)  # (P, C/2)
    waves = np.stack([np.sin(angles), np.cos(angles)], axis=-1 if interleaved else 1)
    return waves.reshape(num_positions, dim)


# ---- rotary --------------------------------------------------------------------------------------------------------


def rotate_forward(x: Any, cos: Any, sin: Any, interleaved: bool) -> tuple[Any, tuple[Any, ...]]:
    """Turn each pair (a, b) of features by its angle: (a cos − b sin, a sin + b cos).

    x (…, T, d); cos and sin (…, T, d/2), broadcast over the leading axes.
    """
    return _rotate(x, cos, sin, interleaved), (cos, sin, interleaved)


def rotate_backward(saved: tuple[Any, ...], grad: Any) -> tuple[Any, None, None]:
    """A rotation's transpose is the rotation back, by the negative angle."""
    cos, sin, interleaved = saved
    return _rotate(grad, cos, -sin, interleaved), None, None


def _rotate(x: Any, cos: Any, sin: Any, interleaved: bool) -> Any:
    half = x.shape[-1] // 2
    first, second = (np.s_[..., 0::2], np.s_[..., 1::2]) if interleaved else (np.s_[..., :half], np.s_[..., half:])
    out = np.empty_like(x)
    out[first] = x[first] * cos - x[second] * sin
    out[second] = x[first] * sin + x[second] * cos
    return out


class RotaryEmbedding(Module):
    """Rotary positions: pairs of features of a query or key are turned by an angle that grows with the position.

        θ_i = base^(−2i/d),  i = 0 … d/2 − 1
        (a_i, b_i) at position p  →  (a_i cos pθ_i − b_i sin pθ_i,  a_i sin pθ_i + b_i cos pθ_i)

    Turning q by pθ and k by rθ makes their product depend on p − r only: ⟨R_p q, R_r k⟩ = ⟨q, R_{r−p} k⟩. Values are
    not turned. Su et al. 2021, "RoFormer", equations 14, 15 and 34.

    Which features make a pair is a convention, and weights trained with one do not work with the other:

    - `interleaved=False`, half rotation (LLaMA in Transformers, GPT-NeoX): (a_i, b_i) = (x[i], x[i + d/2])
    - `interleaved=True`, as the paper writes it (GPT-J): (a_i, b_i) = (x[2i], x[2i + 1])

    Args:
        dim: d, the head width, even.
        base: 10000 in the paper; larger for long contexts.
        interleaved: which features make a pair, see above.

    There are no parameters. Angles are computed in float64, whatever x is.

    Raises:
        ValueError: for an odd width, and for x of another width than d.
    """

    def __init__(self, dim: int, base: float = 10000.0, *, interleaved: bool = False) -> None:
        super().__init__()
        self.dim = dim
        self.base = base
        self.interleaved = interleaved
        _frequencies(dim, base)  # refuses an odd width now rather than in forward
        # all sines, then all cosines: (P, d)
        self._table = _Table(partial(sinusoidal_table, dim=dim, interleaved=False, base=base))

    def forward(self, x: Tensor, offset: int = 0, positions: Any = None) -> Tensor:
        """Turn x (B, H, T, d); T positions start at `offset`, or are `positions` (T,) or (B, T)."""
        if x.shape[-1] != self.dim:
            raise ValueError(f"RotaryEmbedding was built for heads of width {self.dim}, got x of shape {x.shape}.")
        rows = self._table.rows(x, offset, positions)  # (T, d) or (B, T, d)
        if rows.ndim == 3:
            rows = rows[:, None]  # (B, 1, T, d): the same for every head
        half = self.dim // 2
        sin, cos = rows[..., :half], rows[..., half:]
        return apply(_ROTATE, x, cos, sin, interleaved=self.interleaved)

    def extra_repr(self) -> str:
        return f"{self.dim}, base={self.base:g}, interleaved={self.interleaved}"


_ROTATE = Operation("rotary", rotate_forward, rotate_backward)


def _frequencies(dim: int, base: float) -> np.ndarray:
    """base^(−2i/dim) for i = 0 … dim/2 − 1."""
    if dim < 2 or dim % 2:
        raise ValueError(f"these positions work on pairs of features: expected an even width, got {dim}.")
    return base ** (-np.arange(0, dim, 2) / dim)


class _Table:
    """A fixed function of the position, computed in float64 and kept in every dtype and place it is asked for."""

    def __init__(self, function: Callable[[int], np.ndarray]) -> None:
        self._function = function  # n → (n, width), the rows of positions 0 … n − 1
        self._kept: dict[tuple[Any, str], Any] = {}

    def rows(self, x: Tensor, offset: int, positions: Any) -> Any:
        """The rows for x (…, T, width), in its dtype: (T, width), or (B, T, width) for positions (B, T)."""
        wanted, length = _resolve(x, offset, positions)
        table = self._kept.get((x.dtype, x.device))
        if table is None or len(table) < length:
            grown = max(64, 1 << (length - 1).bit_length())  # doubling, so that generation does not rebuild each step
            table = np.asarray(self._function(grown).astype(x.dtype), like=x.data)
            self._kept[x.dtype, x.device] = table
        return table[offset:length] if wanted is None else table[wanted]


def _resolve(x: Tensor, offset: int, positions: Any) -> tuple[Any, int]:
    """The explicit positions of x (B, …, T, width) as an array, or None for offset + t; and one more than the last.

    Raises:
        ValueError: for negative positions, and for explicit ones that are neither (T,) nor (B, T).
    """
    if positions is None:
        if offset < 0:
            raise ValueError(f"positions cannot be negative, got offset={offset}.")
        return None, offset + x.shape[-2]
    wanted = as_array(positions, like=x)
    batch, length = x.shape[0], x.shape[-2]
    if wanted.shape not in ((length,), (batch, length)):
        raise ValueError(f"positions must have shape ({length},) or ({batch}, {length}), got {wanted.shape}.")
    if wanted.size and int(wanted.min()) < 0:
        raise ValueError(f"positions cannot be negative, got {int(wanted.min())}.")
    return wanted, int(wanted.max()) + 1 if wanted.size else 0
