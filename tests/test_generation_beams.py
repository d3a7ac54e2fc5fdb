"""Beam search against enumerating every text, and its rules one by one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from minilm.generation.beams import BeamSearch, _best, _draw
from minilm.generation.processors import log_softmax

VOCAB, EOS = 3, 2


def markov(seed):
    """log p(next | length, last two tokens), a table (15, V, V, V); without the length many texts would tie."""
    return log_softmax(2 * np.random.default_rng(seed).standard_normal((15, VOCAB, VOCAB, VOCAB)))


def search(table, prompt, num_beams, max_new, rng=None, **options):
    state = BeamSearch(np.array(prompt), num_beams, max_length=len(prompt) + max_new, num_end_tokens=1, **options)
    while not state.done:
        log_probs = table[state.tokens.shape[1], state.tokens[:, -2], state.tokens[:, -1]]  # (num_beams, V)
        state.advance(log_probs, lambda ids: (ids[:, -1] == EOS) | (ids.shape[1] >= len(prompt) + max_new), rng)
    return state


def every_text(table, prompt, max_new, length_penalty):
    """(score, continuation) of every text that ends with the end token or at the full length, best first."""
    found = []
    for length in range(1, max_new + 1):
        for tokens in itertools.product(range(VOCAB), repeat=length):
            ends_here = tokens[-1] == EOS or length == max_new
            if EOS in tokens[:-1] or not ends_here:
                continue
            text = [*prompt, *tokens]
            total = sum(table[i, text[i - 2], text[i - 1], text[i]] for i in range(len(prompt), len(text)))
            found.append((total / length**length_penalty, tokens))
    return sorted(found, key=lambda pair: -pair[0])


@pytest.mark.parametrize("length_penalty", [-1.0, 0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("seed", range(4))
def test_with_enough_beams_it_finds_the_best_texts_there_are(seed, length_penalty):
    table, prompt, max_new = markov(seed), [0, 1], 4
    expected = every_text(table, prompt, max_new, length_penalty)
    assert len(expected) == 1 + 2 + 4 + 8 * 3
    state = search(table, prompt, 24, max_new, length_penalty=length_penalty, early_stopping="never")
    for hypothesis, (score, tokens) in zip(state.best(24), expected, strict=False):
        assert hypothesis.score == pytest.approx(score, rel=1e-12)
        assert tuple(hypothesis.tokens[2:]) == tokens


@pytest.mark.parametrize("num_beams", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(6))
def test_a_narrow_search_returns_real_texts_with_their_scores(seed, num_beams):
    table, prompt, max_new = markov(seed), [1, 0], 5
    worth = {tokens: score for score, tokens in every_text(table, prompt, max_new, 1.0)}
    state = search(table, prompt, num_beams, max_new)
    scores = [h.score for h in state.finished]
    texts = [tuple(h.tokens[2:]) for h in state.finished]
    assert len(set(texts)) == len(texts) == num_beams and scores == sorted(scores, reverse=True)
    assert scores == pytest.approx([worth[text] for text in texts], rel=1e-12)


def test_one_beam_is_greedy_where_no_text_ends():
    table = markov(0)
    table[..., EOS] = -np.inf
    state = search(table, [0, 1], 1, 6)
    tokens = [0, 1]
    for _ in range(6):
        tokens.append(int(table[len(tokens), tokens[-2], tokens[-1]].argmax()))
    assert state.best(1)[0].tokens.tolist() == tokens


def test_early_stopping_stops_with_the_first_texts():
    """Two texts have ended after two steps, and a better one, all zeros, is still open."""
    table = np.full((15, VOCAB, VOCAB, VOCAB), -np.inf)
    table[2, :, :] = np.log([0.5, 0.1, 0.4])
    table[3:, :, 0] = np.log([0.9, 0.02, 0.08])
    table[3:, :, 1, EOS] = 0.0
    texts = {
        mode: [h.tokens[2:].tolist() for h in search(table, [1, 1], 2, 12, early_stopping=mode).best(2)]
        for mode in (True, False, "never")
    }
    assert texts[True] == [[EOS], [1, EOS]]
    assert texts[False][0] == texts["never"][0] == [0] * 12


def test_a_candidate_below_the_first_beams_may_not_finish():
    """One beam: the end token ranks second, so the text goes on although it could have ended."""
    log_probs = np.log(np.array([[0.6, 0.0001, 0.3999]]))
    state = BeamSearch(np.array([0]), 1, max_length=5, num_end_tokens=1)
    parents = state.advance(log_probs, lambda ids: ids[:, -1] == EOS)
    assert state.finished == [] and state.tokens.tolist() == [[0, 0]] and parents.tolist() == [0]


def test_beam_indices_lead_back_to_the_rows():
    state = BeamSearch(np.array([0]), 2, max_length=3)
    never = lambda ids: np.full(len(ids), ids.shape[1] >= 3)  # noqa: E731
    assert state.advance(np.log([[0.6, 0.4], [0.5, 0.5]]), never, first_row=10).tolist() == [0, 0]
    # Both of the best continuations come from beam 1.
    assert state.advance(np.log([[1e-9, 1e-9], [0.5, 0.5]]), never, first_row=10).tolist() == [1, 1]
    assert [h.beam_indices.tolist() for h in state.finished] == [[10, 11], [10, 11]]


def test_where_everything_is_forbidden_the_search_ends():
    state = BeamSearch(np.array([0]), 2, max_length=9)
    state.advance(np.full((2, 3), -np.inf), lambda ids: np.zeros(len(ids), dtype=bool))
    assert state.done
    with pytest.raises(ValueError, match="only 0 exist"):
        state.best(1)


def test_best_is_a_sort_that_cuts_ties_by_index():
    rng = np.random.default_rng(0)
    for _ in range(50):
        values = rng.integers(0, 6, 30).astype(float)
        values[rng.integers(0, 30, 8)] = -np.inf
        count = int(rng.integers(1, 33))
        expected = sorted(range(30), key=lambda i: (-values[i], i))[:count]
        assert _best(values, count).tolist() == expected


def test_drawn_candidates_are_distributed_as_without_replacement():
    p = np.array([0.5, 0.3, 0.2])
    rng = np.random.default_rng(0)
    n = 20_000
    pairs = np.zeros((3, 3))
    for _ in range(n):
        first, second = _draw(np.log(p) - 7.0, 2, rng)
        pairs[first, second] += 1
    expected = np.array([[0 if i == j else p[i] * p[j] / (1 - p[i]) for j in range(3)] for i in range(3)])
    # Five standard deviations of a frequency.
    assert (np.abs(pairs / n - expected) <= 5 * np.sqrt(expected * (1 - expected) / n)).all()
