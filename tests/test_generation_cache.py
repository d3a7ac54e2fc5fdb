"""KVCache: growth, reordering, cropping, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from minilm.generation import KVCache
from minilm.ops import Tensor


def block(rng, rows=2, length=3, heads=2, width=4, dtype=np.float32):
    return [Tensor(rng.standard_normal((rows, heads, length, width)).astype(dtype)) for _ in range(2)]


def test_it_returns_everything_written_so_far():
    rng = np.random.default_rng(0)
    cache = KVCache(capacity=2)
    written = {0: [], 1: []}
    for length in (3, 1, 1, 7, 1):
        for layer in (0, 1):
            new = block(rng, length=length)
            written[layer].append(new)
            got = cache.update(layer, *new)
            for i in (0, 1):
                expected = np.concatenate([pair[i].numpy() for pair in written[layer]], axis=2)
                assert np.array_equal(got[i].numpy(), expected)
                assert np.array_equal(cache[layer][i].numpy(), expected)
    assert cache.length == cache.get_seq_length(1) == 13 and len(cache) == 2
    assert KVCache().length == KVCache().get_seq_length() == 0 and bool(KVCache())


def test_it_grows_by_doubling():
    """Copying on growth is bounded by twice what is held: 1,000 single steps move the arrays 5 times."""
    rng = np.random.default_rng(0)
    cache, moves, held = KVCache(capacity=32), 0, None
    for _ in range(1000):
        k, _ = cache.update(0, *block(rng, rows=1, length=1, heads=1, width=1))
        moves += held is not None and k.numpy().base is not held
        held = k.numpy().base
    assert cache.length == 1000 and moves == 5


@pytest.mark.parametrize("rows", [[1, 0], [0, 0], [1], [0, 1, 1, 0, 1], [0, 1]])
def test_reorder(rows):
    rng = np.random.default_rng(0)
    cache = KVCache(capacity=4)
    keys, values = block(rng)
    cache.update(0, keys, values)
    cache.reorder(np.array(rows))
    assert np.array_equal(cache[0][0].numpy(), keys.numpy()[rows])
    new = block(rng, rows=len(rows), length=2)
    k, v = cache.update(0, *new)
    assert np.array_equal(k.numpy(), np.concatenate([keys.numpy()[rows], new[0].numpy()], axis=2))
    assert np.array_equal(v.numpy(), np.concatenate([values.numpy()[rows], new[1].numpy()], axis=2))


def test_crop():
    rng = np.random.default_rng(0)
    cache = KVCache()
    keys, values = block(rng, length=5)
    cache.update(0, keys, values)
    cache.crop(-2)
    assert cache.length == 3
    new = block(rng, length=1)
    k, _ = cache.update(0, *new)
    assert np.array_equal(k.numpy(), np.concatenate([keys.numpy()[:, :, :3], new[0].numpy()], axis=2))
    with pytest.raises(ValueError, match="cannot crop"):
        cache.crop(5)


def test_what_does_not_fit_is_refused():
    rng = np.random.default_rng(0)
    cache = KVCache()
    cache.update(0, *block(rng))
    with pytest.raises(ValueError, match="goes on with the rows"):
        cache.update(0, *block(rng, rows=3))
    with pytest.raises(ValueError, match="float64"):
        cache.update(0, *block(rng, dtype=np.float64))
    with pytest.raises(ValueError, match="layers write in order"):
        cache.update(2, *block(rng))
    with pytest.raises(ValueError, match="should be \\(B, H, t, d\\)"):
        cache.update(1, Tensor(np.zeros((2, 3))), Tensor(np.zeros((2, 3))))
    with pytest.raises(ValueError, match="capacity"):
        KVCache(capacity=0)


def test_a_gradient_would_be_lost_and_is_refused():
    keys, values = block(np.random.default_rng(0))
    keys.requires_grad_()
    with pytest.raises(RuntimeError, match="no gradient would flow back"):
        KVCache().update(0, keys, values)
