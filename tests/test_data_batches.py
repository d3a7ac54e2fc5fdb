"""Batches: targets are the next tokens, epochs visit every window once, and a saved order goes on to the
bit."""

import json

import numpy as np
import pytest

from minilm.data import RandomWindows, SequentialWindows

TOKENS = np.arange(1000, dtype=np.uint16)


@pytest.mark.parametrize("order", [RandomWindows, SequentialWindows])
def test_targets_are_the_next_tokens(order):
    batch = next(order(TOKENS, 5, 8, seed=0))
    assert batch["input_ids"].shape == batch["targets"].shape == (5, 8)
    assert batch["input_ids"].dtype == np.int64
    assert np.array_equal(batch["targets"], batch["input_ids"] + 1)


def test_random_windows_reach_both_ends():
    batches = RandomWindows(TOKENS[:12], 64, 8, seed=0)
    starts = np.concatenate([next(batches)["input_ids"][:, 0] for _ in range(5)])
    assert set(starts) == {0, 1, 2, 3}  # the window at 3 has targets up to the last token


@pytest.mark.parametrize("order", [RandomWindows, SequentialWindows])
@pytest.mark.parametrize("steps", [0, 1, 7, 24, 25, 60])
def test_a_saved_order_goes_on_to_the_bit(order, steps):
    batches = order(TOKENS, 5, 8, seed=3)
    for _ in range(steps):
        next(batches)
    state = json.loads(json.dumps(batches.state_dict()))
    expected = [next(batches)["input_ids"] for _ in range(60)]
    again = order(TOKENS, 5, 8, seed=99)
    next(again)
    again.load_state_dict(state)
    for wanted in expected:
        assert np.array_equal(next(again)["input_ids"], wanted)


@pytest.mark.parametrize("order", [RandomWindows, SequentialWindows])
def test_the_seed_decides_the_order(order):
    first, same, other = (order(TOKENS, 5, 8, seed=seed) for seed in (1, 1, 2))
    a, b, c = next(first)["input_ids"], next(same)["input_ids"], next(other)["input_ids"]
    assert np.array_equal(a, b) and not np.array_equal(a, c)


def test_the_global_generators_are_left_alone():
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    next(RandomWindows(TOKENS, 5, 8, seed=0))
    assert np.array_equal(before, np.random.get_state()[1])


def test_an_epoch_visits_every_window_once():
    batches = SequentialWindows(TOKENS, 5, 8, seed=0)
    seen = []
    for _ in range(batches.batches_per_epoch):
        seen.extend(next(batches)["input_ids"].ravel())
    assert len(seen) == len(set(seen)) >= 24 * 5 * 8
    assert batches.epoch == 0
    second = next(batches)["input_ids"]
    assert batches.epoch == 1
    assert second[0, 0] != seen[0]


def test_without_shuffling_the_windows_come_in_order():
    batches = SequentialWindows(TOKENS, 2, 10, seed=0, shuffle=False)
    read = np.concatenate([next(batches)["input_ids"].ravel() for _ in range(batches.batches_per_epoch)])
    assert np.array_equal(read, np.arange(len(read)))
    assert len(read) == 980  # 99 windows fit; the last makes no whole batch
    assert next(batches)["input_ids"][0, 0] == 0


def test_bad_sizes():
    with pytest.raises(ValueError, match="at least 1"):
        RandomWindows(TOKENS, 0, 8, seed=0)
    with pytest.raises(ValueError, match="need 9 tokens, and there are 8"):
        RandomWindows(TOKENS[:8], 1, 8, seed=0)
    with pytest.raises(ValueError, match="do not fill one batch"):
        SequentialWindows(TOKENS[:30], 4, 8, seed=0)


def test_a_state_of_other_data_is_refused():
    state = RandomWindows(TOKENS, 5, 8, seed=0).state_dict()
    for other in (
        RandomWindows(TOKENS[:500], 5, 8, seed=0),
        RandomWindows(TOKENS, 4, 8, seed=0),
        SequentialWindows(TOKENS, 5, 8, seed=0),
    ):
        with pytest.raises(ValueError, match="resume with the data"):
            other.load_state_dict(state)
    ordered = SequentialWindows(TOKENS, 5, 8, seed=0, shuffle=False)
    with pytest.raises(ValueError, match="shuffle"):
        ordered.load_state_dict(SequentialWindows(TOKENS, 5, 8, seed=0).state_dict())
