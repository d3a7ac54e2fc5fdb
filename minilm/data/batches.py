"""Batches of token windows: random ones, as nanoGPT draws them, and epochs that visit every window once.

Both are endless iterators over `{"input_ids": (B, T), "targets": (B, T)}`, where `targets` is the window one position
later: `targets[b, t]` is the token that follows `input_ids[b, : t + 1]`. Each has a random generator of its own, and
`state_dict` holds all it takes to go on with exactly the batch that would have come next.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

__all__ = ["RandomWindows", "SequentialWindows"]

Batch = dict[str, np.ndarray]


class _Windows:
    """What both orders share: the tokens, the shape of a batch, and the state of the generator."""

    def __init__(self, tokens: np.ndarray, batch_size: int, block_size: int, seed: int) -> None:
        if batch_size < 1 or block_size < 1:
            raise ValueError(f"batch_size and block_size are at least 1, got {batch_size} and {block_size}")
        if len(tokens) < block_size + 1:
            raise ValueError(
                f"a window of {block_size} tokens and the one that follows need {block_size + 1} tokens, and "
                f"there are {len(tokens)}; give more text or a smaller block_size"
            )
        self.tokens = tokens
        self.batch_size = batch_size
        self.block_size = block_size
        self.generator = np.random.Generator(np.random.PCG64(seed))

    def __iter__(self) -> _Windows:
        return self

    def __next__(self) -> Batch:
        starts = self._next_starts()
        windows = self.tokens[starts[:, None] + np.arange(self.block_size + 1)].astype(np.int64)  # (B, T + 1)
        return {"input_ids": windows[:, :-1], "targets": windows[:, 1:]}  # (B, T) each

    def _next_starts(self) -> np.ndarray:
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """Return where the iterator stands, as plain values that JSON can hold."""
        return {
            "order": type(self).__name__,
            "tokens": len(self.tokens),
            "batch_size": self.batch_size,
            "block_size": self.block_size,
            "generator": copy.deepcopy(self.generator.bit_generator.state),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state`; `ValueError` if it belongs to other tokens or another shape of batch."""
        for name, mine in self.state_dict().items():
            if name in ("order", "tokens", "batch_size", "block_size") and state.get(name) != mine:
                raise ValueError(
                    f"the saved data order has {name} = {state.get(name)!r} and this one {mine!r}; resume "
                    "with the data, tokenizer and batch shape of the first run"
                )
        self.generator.bit_generator.state = copy.deepcopy(state["generator"])


class RandomWindows(_Windows):
    """Windows that start at uniformly random positions, with replacement.

    Args:
        tokens: ids, (N,) of any integer type, N ≥ block_size + 1; may be memory-mapped.
        batch_size: windows in a batch, B.
        block_size: tokens in a window, T.
        seed: of this iterator's own generator.

    Raises:
        ValueError: too few tokens for one window.
    """

    def _next_starts(self) -> np.ndarray:
        return self.generator.integers(0, len(self.tokens) - self.block_size, self.batch_size)


class SequentialWindows(_Windows):
    """Epochs over windows that lie side by side, each visited once an epoch in a shuffled order.

    Every epoch begins at a random offset below T, so that the cuts between windows differ from epoch to
    epoch. With `shuffle=False` the offset is 0 and the windows come in the order of the text. The tokens
    after the last whole window, and the windows after the last whole batch, wait for another epoch.

    Args:
        tokens, batch_size, block_size, seed: as for `RandomWindows`.
        shuffle: whether to change the order and the offset in every epoch.

    Raises:
        ValueError: too few tokens for one batch.
    """

    def __init__(
        self, tokens: np.ndarray, batch_size: int, block_size: int, seed: int, shuffle: bool = True
    ) -> None:
        super().__init__(tokens, batch_size, block_size, seed)
        self.shuffle = shuffle
        slack = block_size - 1 if shuffle else 0
        if (len(tokens) - 1 - slack) // block_size < batch_size:
            raise ValueError(
                f"{len(tokens)} tokens do not fill one batch of {batch_size} windows of {block_size}; give "
                "more text, or a smaller batch_size or block_size"
            )
        self.epoch = 0
        self.batch_in_epoch = 0
        self._epoch_start = copy.deepcopy(self.generator.bit_generator.state)
        self._starts = self._epoch_starts()

    @property
    def batches_per_epoch(self) -> int:
        """The number of whole batches in the present epoch."""
        return len(self._starts) // self.batch_size

    def _epoch_starts(self) -> np.ndarray:
        self._epoch_start = copy.deepcopy(self.generator.bit_generator.state)
        offset = int(self.generator.integers(self.block_size)) if self.shuffle else 0
        starts = np.arange(offset, len(self.tokens) - self.block_size, self.block_size)
        return self.generator.permutation(starts) if self.shuffle else starts

    def _next_starts(self) -> np.ndarray:
        if self.batch_in_epoch == self.batches_per_epoch:
            self.epoch += 1
            self.batch_in_epoch = 0
            self._starts = self._epoch_starts()
        first = self.batch_in_epoch * self.batch_size
        self.batch_in_epoch += 1
        return self._starts[first : first + self.batch_size]

    def state_dict(self) -> dict[str, Any]:
        """Return where the iterator stands: the generator at the start of this epoch, and the batch within it."""
        state = super().state_dict()
        state.update(
            shuffle=self.shuffle,
            epoch=self.epoch,
            batch_in_epoch=self.batch_in_epoch,
            generator=copy.deepcopy(self._epoch_start),
        )
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state`; `ValueError` if it belongs to other tokens or another shape of batch."""
        super().load_state_dict(state)
        if state["shuffle"] != self.shuffle:
            raise ValueError(
                f"the saved data order has shuffle = {state['shuffle']} and this one {self.shuffle}"
            )
        self.epoch, self.batch_in_epoch = state["epoch"], state["batch_in_epoch"]
        self._starts = self._epoch_starts()
