"""Logits processors against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from minilm import generation as g
from minilm.generation.processors import build_processors, log_softmax, softmax

NO_IDS = np.zeros((1, 1), dtype=np.int64)


def log_probs(*probabilities):
    """Logits (1, V) whose softmax is these probabilities."""
    return np.log(np.array([probabilities]))


def kept(scores):
    return [np.flatnonzero(np.isfinite(row)).tolist() for row in scores]


def test_softmax_and_log_softmax():
    scores = np.array([[0.0, np.log(3.0), -np.inf], [1000.0, 1000.0, 999.0]])
    e = np.exp(-1.0)
    expected = [[0.25, 0.75, 0.0], [1 / (2 + e), 1 / (2 + e), e / (2 + e)]]
    assert np.allclose(softmax(scores), expected, rtol=1e-15)
    finite = np.isfinite(scores)
    assert np.allclose(log_softmax(scores)[finite], np.log(np.array(expected)[finite]), rtol=1e-14)
    assert np.isneginf(log_softmax(scores)[0, 2])


def test_temperature():
    # p^(1/T), normalised: (0.8, 0.2) at T = 0.5 is (0.64, 0.04) / 0.68
    got = softmax(g.TemperatureLogitsWarper(0.5)(NO_IDS, log_probs(0.8, 0.2)))
    assert np.allclose(got, [[16 / 17, 1 / 17]], rtol=1e-14)


def test_top_k_keeps_ties():
    scores = np.array([[3.0, 1.0, 2.0, 2.0, 0.0], [5.0, 4.0, 3.0, 2.0, 1.0]])
    assert kept(g.TopKLogitsWarper(2)(NO_IDS, scores)) == [[0, 2, 3], [0, 1]]
    assert kept(g.TopKLogitsWarper(1)(NO_IDS, scores)) == [[0], [0]]
    assert kept(g.TopKLogitsWarper(9)(NO_IDS, scores)) == [[0, 1, 2, 3, 4]] * 2
    assert kept(g.TopKLogitsWarper(1, min_tokens_to_keep=2)(NO_IDS, scores)) == [[0, 2, 3], [0, 1]]


def test_top_p():
    # Descending 0.5, 0.3, 0.15, 0.05: 0.5 and 0.3 reach 0.6; from below 0.05, 0.20, 0.50, 1.0 against 1 - p.
    scores = log_probs(0.15, 0.5, 0.05, 0.3)
    assert kept(g.TopPLogitsWarper(0.6)(NO_IDS, scores)) == [[1, 3]]
    assert kept(g.TopPLogitsWarper(0.9)(NO_IDS, scores)) == [[0, 1, 3]]
    assert kept(g.TopPLogitsWarper(0.0)(NO_IDS, scores)) == [[1]]
    assert kept(g.TopPLogitsWarper(1.0)(NO_IDS, scores)) == [[0, 1, 2, 3]]
    assert kept(g.TopPLogitsWarper(0.1, min_tokens_to_keep=3)(NO_IDS, scores)) == [[0, 1, 3]]


def test_min_p():
    scores = log_probs(0.15, 0.5, 0.05, 0.3)
    assert kept(g.MinPLogitsWarper(0.5)(NO_IDS, scores)) == [[1, 3]]  # 0.3 >= 0.25 > 0.15
    assert kept(g.MinPLogitsWarper(0.2)(NO_IDS, scores)) == [[0, 1, 3]]  # 0.15 >= 0.1 > 0.05
    assert kept(g.MinPLogitsWarper(0.9, min_tokens_to_keep=2)(NO_IDS, scores)) == [[1, 3]]


def test_typical():
    # H = 0.5 ln 2 + 0.25 ln 4 + 2 * 0.125 ln 8 = 1.75 ln 2; surprises ln 2 * (1, 2, 3, 3): distances 0.75, 0.25, 1.25
    scores = log_probs(0.5, 0.25, 0.125, 0.125)
    assert kept(g.TypicalLogitsWarper(0.2)(NO_IDS, scores)) == [[1]]
    assert kept(g.TypicalLogitsWarper(0.7)(NO_IDS, scores)) == [[0, 1]]
    # The last two are equally far, so they come together.
    assert kept(g.TypicalLogitsWarper(0.8)(NO_IDS, scores)) == [[0, 1, 2, 3]]
    with_hole = np.concatenate([scores, [[-np.inf]]], axis=1)
    assert kept(g.TypicalLogitsWarper(0.7)(NO_IDS, with_hole)) == [[0, 1]]


def test_repetition_penalty():
    ids = np.array([[0, 2, 2], [9, 9, 1]])
    scores = np.array([[4.0, 3.0, -2.0, 1.0] + [1.0] * 6] * 2)
    got = g.RepetitionPenaltyLogitsProcessor(2.0)(ids, scores)
    assert got[0, :4].tolist() == [2.0, 3.0, -4.0, 1.0]  # once, however often a token occurs
    assert got[1, [1, 9]].tolist() == [1.5, 0.5]
    padded = g.RepetitionPenaltyLogitsProcessor(2.0, padding=np.array([0, 2]))(ids, scores)
    assert padded[1, [1, 9]].tolist() == [1.5, 1.0]


def test_no_repeat_ngram():
    ids = np.array([[1, 2, 3, 1, 2], [4, 4, 4, 4, 0]])
    scores = np.zeros((2, 6))
    assert kept(g.NoRepeatNGramLogitsProcessor(3)(ids, scores)) == [[0, 1, 2, 4, 5], [0, 1, 2, 3, 4, 5]]
    assert kept(g.NoRepeatNGramLogitsProcessor(2)(ids, scores)) == [[0, 1, 2, 4, 5], [0, 1, 2, 3, 4, 5]]
    assert kept(g.NoRepeatNGramLogitsProcessor(1)(ids, scores)) == [[0, 4, 5], [1, 2, 3, 5]]
    assert kept(g.NoRepeatNGramLogitsProcessor(6)(ids, scores)) == [[0, 1, 2, 3, 4, 5]] * 2
    # In row 1 the text is "4 4": what stands before it is padding.
    tail = np.array([[1, 2, 1, 2], [4, 4, 4, 4]])
    padded = g.NoRepeatNGramLogitsProcessor(2, padding=np.array([0, 3]))(tail, scores)
    assert kept(padded) == [[0, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5]]


def test_bad_words():
    ids = np.array([[5, 1], [5, 2]])
    scores = np.zeros((2, 6))
    got = g.NoBadWordsLogitsProcessor(((0,), (1, 3), (5, 2, 4), (1, 2, 3, 4, 5)))(ids, scores)
    assert kept(got) == [[1, 2, 4, 5], [1, 2, 3, 5]]


def test_lengths():
    scores = np.zeros((1, 4))
    at = {t: np.zeros((1, t), dtype=np.int64) for t in range(1, 9)}
    minimum = g.MinLengthLogitsProcessor(4, (1, 3))
    assert kept(minimum(at[3], scores)) == [[0, 2]] and kept(minimum(at[4], scores)) == [[0, 1, 2, 3]]
    new = g.MinNewTokensLengthLogitsProcessor(2, 4, (1,))
    assert kept(new(at[5], scores)) == [[0, 2, 3]] and kept(new(at[6], scores)) == [[0, 1, 2, 3]]


def test_forced_and_suppressed():
    scores = np.array([[0.5, 2.0, 1.0, 3.0]])
    at = {t: np.zeros((1, t), dtype=np.int64) for t in range(1, 9)}
    begin = g.ForcedBOSTokenLogitsProcessor(2)
    assert begin(at[1], scores).tolist() == [[-np.inf, -np.inf, 0.0, -np.inf]]
    assert begin(at[2], scores) is scores
    end = g.ForcedEOSTokenLogitsProcessor(6, (1,))
    assert end(at[5], scores).tolist() == [[-np.inf, 0.0, -np.inf, -np.inf]] and end(at[4], scores) is scores
    assert kept(g.SuppressTokensLogitsProcessor((0, 3))(at[1], scores)) == [[1, 2]]
    at_begin = g.SuppressTokensAtBeginLogitsProcessor((1,), 3)
    assert kept(at_begin(at[3], scores)) == [[0, 2, 3]] and at_begin(at[4], scores) is scores


def test_nothing_is_changed_in_place():
    rng = np.random.default_rng(0)
    ids, scores = rng.integers(0, 9, (3, 7)), rng.standard_normal((3, 9))
    ids_before, before = ids.copy(), scores.copy()
    config = g.GenerationConfig(
        repetition_penalty=1.5, no_repeat_ngram_size=1, bad_words_ids=[[3]], min_length=20, min_new_tokens=20,
        eos_token_id=1, suppress_tokens=[2], begin_suppress_tokens=[4], temperature=0.5, top_k=4, top_p=0.8, min_p=0.1,
        typical_p=0.9, renormalize_logits=True,
    )  # fmt: skip
    chain = build_processors(config, prompt_length=7, max_length=30, sampling=True)
    assert len(chain) == 13
    chain(ids, scores)
    assert np.array_equal(ids, ids_before) and np.array_equal(scores, before)


def test_the_order_of_the_chain():
    config = g.GenerationConfig(
        temperature=0.5, top_k=4, top_p=0.8, min_p=0.1, typical_p=0.9, repetition_penalty=1.5, no_repeat_ngram_size=2,
        bad_words_ids=[[3]], min_length=9, min_new_tokens=3, eos_token_id=1, forced_bos_token_id=5,
        forced_eos_token_id=1, suppress_tokens=[2], begin_suppress_tokens=[4], renormalize_logits=True,
    )  # fmt: skip
    chain = build_processors(config, prompt_length=2, max_length=12, sampling=True, custom=[np.add])
    names = [getattr(p, "__name__", type(p).__name__) for p in chain]
    assert names == [
        "RepetitionPenaltyLogitsProcessor",
        "NoRepeatNGramLogitsProcessor",
        "NoBadWordsLogitsProcessor",
        "MinLengthLogitsProcessor",
        "MinNewTokensLengthLogitsProcessor",
        "ForcedBOSTokenLogitsProcessor",
        "ForcedEOSTokenLogitsProcessor",
        "SuppressTokensLogitsProcessor",
        "SuppressTokensAtBeginLogitsProcessor",
        "add",
        "TemperatureLogitsWarper",
        "TopKLogitsWarper",
        "TopPLogitsWarper",
        "MinPLogitsWarper",
        "TypicalLogitsWarper",
        "LogitNormalization",
    ]
    greedy = build_processors(config, prompt_length=2, max_length=12, sampling=False)
    assert len(greedy) == 10 and isinstance(greedy[-1], g.LogitNormalization)


def test_a_chain_by_hand():
    """Penalty 2 on token 0, temperature 0.5, then the two best: logits 4, 3, 2, 1 become 4, 6, 4, 2."""
    config = g.GenerationConfig(repetition_penalty=2.0, temperature=0.5, top_k=2)
    chain = build_processors(config, prompt_length=1, max_length=9, sampling=True)
    got = chain(np.array([[0]]), np.array([[4.0, 3.0, 2.0, 1.0]]))
    assert got.tolist() == [[4.0, 6.0, 4.0, -np.inf]]  # the tie with the second stays


@pytest.mark.parametrize(
    "processor",
    [
        g.SuppressTokensLogitsProcessor((7,)),
        g.NoBadWordsLogitsProcessor(((1, -2),)),
        g.MinLengthLogitsProcessor(9, (50256,)),
        g.ForcedBOSTokenLogitsProcessor(4),
    ],
)
def test_tokens_outside_the_vocabulary_are_refused(processor):
    with pytest.raises(ValueError, match="vocabulary ends at 3"):
        processor(NO_IDS, np.zeros((1, 4)))
