"""KVCache: the keys and values of the positions that a model has already read.

A causal model's keys and values of position t depend on positions 0..t alone, so while a text grows they need to be
computed once. The cache holds bare arrays (NumPy's, or CuPy's unchanged), so no gradient could flow through it, and
it refuses tensors that ask for one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minilm.tensor import Tensor


class KVCache:
    """Keys and values of every layer, in arrays that double when they are full.

    For each layer two arrays (B, H, capacity, d), of which the first `length` positions are in use. Growing by
    doubling makes T single steps cost O(T) copying in all; growing by one position each would cost O(T^2).

    >>> cache = KVCache()
    >>> k, v = cache.update(0, k_new, v_new)  # (B, H, t, d) -> (B, H, length, d), old and new together
    """

    def __init__(self, capacity: int = 32) -> None:
        if capacity < 1:
            raise ValueError(f"capacity should be at least 1, got {capacity}")
        self._first_capacity = capacity
        self._keys: list[Any] = []
        self._values: list[Any] = []
        self._lengths: list[int] = []

    @property
    def length(self) -> int:
        """The number of positions that every layer has read; 0 when the cache is new."""
        return min(self._lengths, default=0)

    def __len__(self) -> int:
        """The number of layers that have written."""
        return len(self._lengths)

    def __bool__(self) -> bool:
        # Without this an empty cache, which is a cache to be filled, would count as no cache.
        return True

    def __repr__(self) -> str:
        shape = self._keys[0].shape if self._keys else ()
        return f"KVCache(layers={len(self)}, length={self.length}, arrays={shape})"

    def __getitem__(self, layer: int) -> tuple[Tensor, Tensor]:
        """The keys and values (B, H, length, d) of a layer, as views of the cache's own arrays."""
        length = self._lengths[layer]
        return Tensor(self._keys[layer][:, :, :length]), Tensor(self._values[layer][:, :, :length])

    def get_seq_length(self, layer: int = 0) -> int:
        """The number of positions that one layer has read (Transformers' name)."""
        return self._lengths[layer] if layer < len(self) else 0

    def update(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Append keys and values (B, H, t, d) of new positions; return all of them, (B, H, length, d), as views.

        Layers are numbered from 0 and write in order. Raises `ValueError` for arrays that do not fit what is there,
        and `RuntimeError` for tensors that require a gradient.
        """
        if key.requires_grad or value.requires_grad:
            raise RuntimeError(
                "a KV cache keeps bare arrays, through which no gradient would flow back: run the model inside "
                "`with minilm.no_grad():`, or without a cache (use_cache=False)"
            )
        keys, values = key.data, value.data
        if keys.ndim != 4 or values.ndim != 4 or keys.shape[:3] != values.shape[:3]:
            raise ValueError(
                f"keys and values should be (B, H, t, d) with the same B, H and t, got {keys.shape} and {values.shape}"
            )
        if layer == len(self):
            self._keys.append(_allocate(keys, max(self._first_capacity, keys.shape[2])))
            self._values.append(_allocate(values, max(self._first_capacity, keys.shape[2])))
            self._lengths.append(0)
        elif not 0 <= layer < len(self):
            raise ValueError(f"layer {layer} writes to a cache that holds {len(self)} layers: layers write in order")
        self._check_fits(layer, keys, values)

        start, stop = self._lengths[layer], self._lengths[layer] + keys.shape[2]
        if stop > self._keys[layer].shape[2]:
            capacity = max(stop, 2 * self._keys[layer].shape[2])
            self._keys[layer] = _grow(self._keys[layer], start, capacity)
            self._values[layer] = _grow(self._values[layer], start, capacity)
        self._keys[layer][:, :, start:stop] = keys
        self._values[layer][:, :, start:stop] = values
        self._lengths[layer] = stop
        return self[layer]

    def _check_fits(self, layer: int, keys: Any, values: Any) -> None:
        for new, held in ((keys, self._keys[layer]), (values, self._values[layer])):
            if (new.shape[0], new.shape[1], new.shape[3]) != (held.shape[0], held.shape[1], held.shape[3]):
                raise ValueError(
                    f"the cache holds arrays (B, H, T, d) = {held.shape} and got {new.shape}: a cache goes on with "
                    "the rows and the model that it began with"
                )
            if new.dtype != held.dtype:
                raise ValueError(f"the cache holds {held.dtype} and got {new.dtype}: use one dtype throughout")

    def reorder(self, rows: np.ndarray) -> None:
        """Replace row b by the old row `rows[b]`, in every layer.

        Beam search calls it when beams fork and die; `rows` may be longer than the batch (each prompt repeated for
        its beams) or shorter (rows that are finished dropped).
        """
        rows = np.asarray(rows)
        for layer, length in enumerate(self._lengths):
            held = len(self._keys[layer])
            if len(rows) == held and np.array_equal(rows, np.arange(held)):
                continue
            for arrays in (self._keys, self._values):
                # Gathered with an index and a slice in one go, which never copies the unused capacity.
                chosen = arrays[layer][np.asarray(rows, like=arrays[layer]), :, :length]
                if len(rows) != held:
                    arrays[layer] = _allocate(chosen, arrays[layer].shape[2])
                arrays[layer][:, :, :length] = chosen

    def crop(self, length: int) -> None:
        """Forget the positions from `length` on; a negative length counts from the end."""
        target = self.length + length if length < 0 else length
        if not 0 <= target <= self.length:
            raise ValueError(f"cannot crop a cache of {self.length} positions to {length}")
        self._lengths = [target] * len(self)


def _allocate(like: Any, capacity: int) -> Any:
    """An uninitialised array (B, H, capacity, d) of the same kind as `like` (B, H, t, d)."""
    return np.empty_like(like, shape=(*like.shape[:2], capacity, like.shape[3]), order="C")


def _grow(array: Any, length: int, capacity: int) -> Any:
    """A copy of the first `length` positions with room for `capacity`."""
    larger = _allocate(array, capacity)
    larger[:, :, :length] = array[:, :, :length]
    return larger
