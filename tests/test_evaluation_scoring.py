"""Scores against a model whose probabilities are known, and windows against scoring one token at a time."""

import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import minilm
from minilm import nn
from minilm.evaluation import (
    TextScore,
    perplexity,
    score_text,
    sequence_log_probability,
    token_log_probabilities,
)
from minilm.evaluation.scoring import _windows
from minilm.models import GPT2Config, GPT2LMHeadModel

V = 7


@dataclass
class Output:
    logits: Any


class ContextSum(nn.Module):
    """Knows its whole context: logits depend on the sum of the ids in the window so far."""

    def __init__(self, n_positions=8):
        super().__init__()
        self.config = SimpleNamespace(n_positions=n_positions)
        self.table = np.random.default_rng(0).standard_normal((V, V))
        self.lengths = []

    def forward(self, input_ids, use_cache=None):
        assert use_cache is False and not self.training
        assert input_ids.shape[1] <= self.config.n_positions
        self.lengths.append(input_ids.shape)
        return Output(minilm.Tensor(self.table[np.cumsum(input_ids, axis=1) % V]))

    def log_p(self, context, token):
        row = self.table[sum(context) % V]
        return row[token] - math.log(np.exp(row).sum())


def test_token_and_sequence_log_probabilities():
    model, ids = ContextSum(), [3, 1, 4, 1, 5]
    expected = [model.log_p(ids[:t], ids[t]) for t in range(1, 5)]
    np.testing.assert_allclose(token_log_probabilities(model, ids), expected, rtol=1e-12)
    assert sequence_log_probability(model, ids) == pytest.approx(sum(expected), rel=1e-12)
    batch = np.array([ids, ids[::-1]])
    assert token_log_probabilities(model, batch).shape == (2, 4)
    np.testing.assert_allclose(
        sequence_log_probability(model, minilm.Tensor(batch))[0], sum(expected), rtol=1e-12
    )


def test_probabilities_of_all_continuations_sum_to_one():
    minilm.seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=4, n_positions=8, n_embd=8, n_layer=1, n_head=2)).double()
    every = np.array([[2, a, b] for a in range(4) for b in range(4)])
    assert np.exp(sequence_log_probability(model, every)).sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("length", "stride"),
    [(1, 1), (1, None), (2, 1), (2, 2), (5, 1), (5, 3), (5, 5), (5, None), (8, 3), (8, 8), (8, None)],
)
@pytest.mark.parametrize("size", [2, 3, 8, 9, 10, 33])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_windows_score_each_token_once_with_its_context(length, stride, size, batch_size):
    model = ContextSum()
    ids = np.random.default_rng(size).integers(0, V, size)
    score = perplexity(model, ids, context_length=length, stride=stride, batch_size=batch_size)
    assert score.tokens == size - 1
    used = min(length, size - 1)
    step = stride or max(1, length // 2)
    expected = sum(model.log_p(ids[:t], ids[t]) for t in range(1, used + 1))
    counted = used
    while counted < size - 1:
        end = min(counted + step, size - 1)
        expected += sum(model.log_p(ids[end - used : t], ids[t]) for t in range(counted + 1, end + 1))
        counted = end
    assert score.log_probability == pytest.approx(expected, rel=1e-10)


def test_windows_cover_everything_once():
    for targets in range(1, 40):
        for length in range(1, targets + 1):
            for stride in range(1, length + 1):
                counted = []
                for start, new in _windows(targets, length, stride):
                    assert 0 <= start and start + length <= targets
                    counted.extend(range(start + length - new, start + length))
                assert counted == list(range(targets))


def test_more_context_helps_a_model_that_uses_it():
    """A real model: with stride 1 the score is that of scoring each token by itself with all its context."""
    minilm.seed(0)
    config = GPT2Config(vocab_size=V, n_positions=6, n_embd=8, n_layer=1, n_head=2)
    model = GPT2LMHeadModel(config).double().train()
    ids = np.random.default_rng(0).integers(0, V, 20)
    expected = sum(token_log_probabilities(model, ids[max(0, t - 6) : t + 1])[-1] for t in range(1, 20))
    assert perplexity(model, ids, stride=1).log_probability == pytest.approx(expected, rel=1e-12)
    assert model.training


def test_measures():
    score = TextScore(log_probability=-10 * math.log(8), tokens=10, characters=15, bytes=30)
    assert score.loss == pytest.approx(math.log(8))
    assert score.perplexity == pytest.approx(8)
    assert score.bits_per_byte == pytest.approx(1)
    assert score.bits_per_character == pytest.approx(2)
    both = score + TextScore(-2.0, 1, 2, 3)
    assert (both.tokens, both.characters, both.bytes) == (11, 17, 33)
    assert both.log_probability == score.log_probability - 2.0
    assert TextScore(-1e6, 10).perplexity == math.inf
    assert math.isnan(TextScore(-1, 1).bits_per_byte)


class Letters:
    """a–g are 0–6; € is the pair 0 1."""

    def __init__(self, eos=None):
        self.eos_token_id = eos

    def encode(self, text):
        return [token for letter in text for token in ([0, 1] if letter == "€" else [ord(letter) - 97])]

    def decode(self, ids):
        return "".join(chr(97 + token) for token in ids)


def test_score_text_counts_what_it_scores():
    model = ContextSum(n_positions=32)
    score = score_text(model, Letters(), "abc")
    assert (score.tokens, score.characters, score.bytes) == (2, 2, 2)
    assert score.log_probability == pytest.approx(model.log_p([0], 1) + model.log_p([0, 1], 2))
    score = score_text(model, Letters(eos=6), "a€")
    assert (score.tokens, score.characters, score.bytes) == (3, 2, 4)
    expected = model.log_p([6], 0) + model.log_p([6, 0], 0) + model.log_p([6, 0, 0], 1)
    assert score.log_probability == pytest.approx(expected)


def test_bad_input():
    model = ContextSum()
    with pytest.raises(ValueError, match="at least 2 tokens"):
        token_log_probabilities(model, [1])
    with pytest.raises(ValueError, match="at least 2 tokens"):
        perplexity(model, np.zeros((2, 5), dtype=int))
    with pytest.raises(ValueError, match="context_length is from 1 to the model's 8, got 9"):
        perplexity(model, [1, 2, 3], context_length=9)
    with pytest.raises(ValueError, match="stride is from 1 to the context length 8, got 9"):
        perplexity(model, [1, 2, 3], stride=9)
    with pytest.raises(ValueError, match="gives 1 token"):
        score_text(model, Letters(), "a")
