"""The n-gram model against counting by hand, and its probabilities against the laws of probability."""

from collections import Counter

import numpy as np
import pytest

from minilm.evaluation import NGramModel


def by_hand(train, context, token, order, vocab_size, discount, pseudo_count):
    """p(token | context) from the formula, with dictionaries."""
    p = 1 / vocab_size
    for length in range(min(order, len(context) + 1)):
        history = tuple(context[len(context) - length :])
        counts = Counter(
            train[i + length] for i in range(len(train) - length) if tuple(train[i : i + length]) == history
        )
        total = sum(counts.values())
        if total == 0:
            break
        p = max(counts[token] - discount, 0) + (discount * len(counts) + pseudo_count) * p
        p /= total + pseudo_count
    return p


SETTINGS = [(1, 0.75, 0.0), (2, 0.75, 0.0), (4, 0.5, 0.0), (3, 0.0, 2.0), (5, 0.4, 1.5)]


@pytest.mark.parametrize(("order", "discount", "pseudo_count"), SETTINGS)
def test_against_counting_by_hand(order, discount, pseudo_count):
    generator = np.random.default_rng(0)
    train, test = generator.integers(0, 4, 60), generator.integers(0, 5, 30)  # token 4 is never seen
    model = NGramModel(order, 5, discount, pseudo_count).fit(train)
    log_p = model.log_probabilities(test)
    for i, token in enumerate(test):
        context = list(test[max(0, i - order + 1) : i])
        expected = by_hand(list(train), context, token, order, 5, discount, pseudo_count)
        assert np.exp(log_p[i]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("order", "discount", "pseudo_count"), SETTINGS)
def test_distributions_sum_to_one_and_agree_with_scoring(order, discount, pseudo_count):
    generator = np.random.default_rng(1)
    train, test = generator.integers(0, 6, 200), generator.integers(0, 7, 40)
    model = NGramModel(order, 7, discount, pseudo_count).fit(train)
    log_p = model.log_probabilities(test)
    for i in range(len(test)):
        p = model.next_distribution(test[:i])
        assert p.sum() == pytest.approx(1, abs=1e-12)
        assert p.min() > 0
        assert np.log(p[test[i]]) == pytest.approx(log_p[i], rel=1e-12)


def test_a_large_vocabulary_and_order_do_not_overflow():
    tokens = np.random.default_rng(0).integers(0, 50_257, 2_000)
    model = NGramModel(12, 50_257).fit(np.concatenate([tokens, tokens]))
    assert np.exp(model.log_probabilities(tokens)[20:]).min() > 0.2  # 50257**12 is far beyond 64 bits


def test_samples_follow_the_distribution():
    model = NGramModel(2, 3).fit(np.array([0, 1, 0, 1, 0, 2] * 50))
    drawn = model.sample(np.array([0]), 4_000, np.random.default_rng(0))
    after_zero = drawn[1:][drawn[:-1] == 0]
    observed = np.bincount(after_zero, minlength=3) / len(after_zero)
    np.testing.assert_allclose(observed, model.next_distribution(np.array([0])), atol=0.04)
    again = model.sample(np.array([0]), 4_000, np.random.default_rng(0))
    assert np.array_equal(drawn, again)


def test_short_and_empty_texts():
    model = NGramModel(5, 3).fit(np.array([1, 2]))
    assert model.log_probabilities(np.array([], dtype=int)).shape == (0,)
    assert model.next_distribution(np.array([], dtype=int)).sum() == pytest.approx(1)
    with pytest.raises(RuntimeError, match="call fit"):
        NGramModel(2, 3).log_probabilities(np.array([1]))


def test_bad_input():
    with pytest.raises(ValueError, match="at least 1"):
        NGramModel(0, 5)
    for discount, pseudo_count in ((1.5, 0), (-0.1, 0), (0, 0), (0.5, float("nan")), (0.5, -1)):
        with pytest.raises(ValueError, match="not both 0"):
            NGramModel(2, 5, discount, pseudo_count)
    with pytest.raises(ValueError, match="from 0 to 4, got 1 to 5"):
        NGramModel(2, 5).fit(np.array([1, 5]))
    with pytest.raises(ValueError, match="integers of shape"):
        NGramModel(2, 5).fit(np.array([[1.0]]))
