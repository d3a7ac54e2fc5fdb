"""The table that turns token ids into vectors."""

from __future__ import annotations

import numpy as np

from minilm.nn import functional as F
from minilm.nn import init
from minilm.nn.module import Module, Parameter
from minilm.tensor import Tensor


class Embedding(Module):
    """A table of vectors, looked up by integer ids.

        y[…] = W[ids[…]]        ids (…) integers in [0, V)   W (V, C)   y (…, C)

    The backward adds each position's gradient into the row that it came from: an id that appears twice gets both.

    Args:
        num_embeddings: V, the number of rows.
        embedding_dim: C, the width.
        padding_idx: a row that starts at zero and whose gradient is zero; negative counts from the end.
        dtype: of the table, float32 if None.
    """

    weight: Parameter

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        dtype: np.dtype | type | None = None,
    ) -> None:
        super().__init__()
        if num_embeddings < 1 or embedding_dim < 1:
            raise ValueError(
                f"Embedding needs at least one row of at least one number, got {num_embeddings} x {embedding_dim}."
            )
        if padding_idx is not None:
            if not -num_embeddings <= padding_idx < num_embeddings:
                raise ValueError(f"padding_idx={padding_idx} is outside the {num_embeddings} rows of the table.")
            padding_idx %= num_embeddings
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = padding_idx
        self.weight = Parameter(np.empty((num_embeddings, embedding_dim), dtype or np.float32))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the table from N(0, 1), the padding row zero."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            self.weight.data[self.padding_idx] = 0.0
            self.weight.bump_version()

    def forward(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"
