"""One source of randomness for initial weights, dropout and sampling: `minilm.seed(n)` makes a run repeatable."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

_generator = np.random.default_rng()


def seed(n: int) -> None:
    """Start the generator again from seed n (a non-negative integer). Same seed, same machine: same bits."""
    global _generator
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 0:
        raise ValueError(f"a seed is a non-negative integer, not {n!r}")
    _generator = np.random.default_rng(int(n))


def generator() -> np.random.Generator:
    """The generator that minilm draws from."""
    return _generator


def get_state() -> dict[str, Any]:
    """The state of the generator, as plain numbers and strings (ready for JSON)."""
    return copy.deepcopy(dict(_generator.bit_generator.state))


def set_state(state: dict[str, Any]) -> None:
    """Continue from a state that `get_state` returned."""
    expected = _generator.bit_generator.state["bit_generator"]
    if not isinstance(state, dict) or state.get("bit_generator") != expected:
        raise ValueError(f"expected a state from minilm.random.get_state() (a {expected} state), got {state!r:.80}")
    _generator.bit_generator.state = copy.deepcopy(state)
