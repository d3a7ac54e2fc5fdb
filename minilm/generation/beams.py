"""Beam search: the bookkeeping of one prompt's hypotheses, apart from any model.

Which hypotheses live, which are finished and when to stop is decided here from log-probabilities alone, so it can be
tested against enumerating every text over a tiny vocabulary. The rules are Transformers': candidates are ranked by
the sum of their log-probabilities, only the best `num_beams` candidates of a step may finish, and finished texts are
ranked by sum / length ** length_penalty, where length counts the generated tokens, the end token included.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """A finished text: its token ids with the prompt, its score, and the row each generated token came from."""

    score: float
    tokens: np.ndarray
    beam_indices: np.ndarray


class BeamSearch:
    """The open and finished hypotheses of one prompt.

    Each step `advance` takes the log-probabilities (num_beams, V) of the next token for every open beam, ranks the
    num_beams * V continuations by

        score(y_1..y_t) = sum_i log p(y_i | y_<i)

    and keeps max(2, 1 + number of end tokens) * num_beams of them, so that `num_beams` can go on even if every end
    token is among them. Beams that do not exist (at the first step there is one text, not num_beams) have score -inf.

    Sources: Freitag and Al-Onaizan (2017) for the search; Wu et al. (2016), section 7, for the length penalty.
    """

    def __init__(
        self,
        prompt: np.ndarray,
        num_beams: int,
        *,
        max_length: int,
        length_penalty: float = 1.0,
        early_stopping: bool | Literal["never"] = False,
        num_end_tokens: int = 0,
    ) -> None:
        self.num_beams = num_beams
        self.prompt_length = len(prompt)
        self.max_length = max_length
        self.length_penalty = length_penalty
        self.early_stopping = early_stopping
        self.candidates = max(2, 1 + num_end_tokens) * num_beams
        self.tokens = np.tile(prompt, (num_beams, 1))  # (num_beams, T)
        self.beam_indices = np.zeros((num_beams, 0), dtype=np.int64)
        self.scores = np.full(num_beams, -np.inf)
        self.scores[0] = 0.0
        self.finished: list[Hypothesis] = []  # best first, at most num_beams
        self.done = False

    def advance(
        self,
        log_probs: np.ndarray,
        ends: Callable[[np.ndarray], np.ndarray],
        rng: np.random.Generator | None = None,
        first_row: int = 0,
    ) -> np.ndarray:
        """Take one step and return which beam each new beam continues, (num_beams,).

        `ends(tokens (n, T + 1)) -> (n,) bool` says which candidates are complete. With `rng` the candidates are
        drawn without replacement, in proportion to their probability, in place of the best ones. `first_row` is the
        batch row of this prompt's first beam, for `beam_indices`.
        """
        if self.done:
            # Other prompts of the batch are still searching: these rows only keep their place among them.
            self.tokens = np.concatenate([self.tokens, self.tokens[:, -1:]], axis=1)
            return np.arange(self.num_beams)
        vocab_size = log_probs.shape[-1]
        ranking = (self.scores[:, None] + log_probs).reshape(-1)  # (num_beams * V,)
        chosen = _draw(ranking, self.candidates, rng) if rng is not None else _best(ranking, self.candidates)
        scores = ranking[chosen]
        parents, next_tokens = np.divmod(chosen, vocab_size)
        tokens = np.concatenate([self.tokens[parents], next_tokens[:, None]], axis=1)  # (candidates, T + 1)
        trace = np.concatenate([self.beam_indices[parents], (parents + first_row)[:, None]], axis=1)
        possible = np.isfinite(scores)
        complete = ends(tokens)

        for rank in np.nonzero(possible & complete)[0]:
            if rank < self.num_beams:
                self._finish(scores[rank], tokens[rank], trace[rank])

        # Candidates that cannot go on rank last, and stay only to keep the number of rows.
        open_scores = np.where(possible & ~complete, scores, -np.inf)
        survivors = np.argsort(-open_scores, kind="stable")[: self.num_beams]
        self.scores, self.tokens, self.beam_indices = open_scores[survivors], tokens[survivors], trace[survivors]
        self.done = self._is_done()
        return parents[survivors]

    def _finish(self, score: float, tokens: np.ndarray, trace: np.ndarray) -> None:
        """Add a finished text and keep the best `num_beams`; of equals the earlier one stays first."""
        worth = float(score) / (len(tokens) - self.prompt_length) ** self.length_penalty
        self.finished.append(Hypothesis(worth, tokens, trace))
        self.finished.sort(key=lambda hypothesis: -hypothesis.score)
        del self.finished[self.num_beams :]

    def _is_done(self) -> bool:
        """Whether no open beam can, by the chosen rule, still become one of the best `num_beams` texts."""
        best_open = self.scores.max()
        if np.isneginf(best_open):
            return True
        if len(self.finished) < self.num_beams:
            return False
        if self.early_stopping is True:
            return True
        # A sum of log-probabilities only falls, so the score that the best open beam can still reach is bounded by
        # its present sum over the length that flatters it most. False takes the present length, which is a guess.
        length = self.tokens.shape[1] - self.prompt_length
        if self.early_stopping == "never" and self.length_penalty > 0:
            length = self.max_length - self.prompt_length
        return bool(best_open / length**self.length_penalty <= self.finished[-1].score)

    def best(self, count: int) -> list[Hypothesis]:
        """The `count` best finished texts. Raises `ValueError` where the search found fewer."""
        if len(self.finished) < count:
            raise ValueError(
                f"{count} texts were asked for and only {len(self.finished)} exist within max_length="
                f"{self.max_length} and the tokens that are allowed: lower num_return_sequences"
            )
        return self.finished[:count]


def _best(ranking: np.ndarray, count: int) -> np.ndarray:
    """Indices of the `count` highest values, highest first; of equals the first."""
    count = min(count, len(ranking))
    if count < len(ranking):
        # Everything that reaches the count-th value, so that ties at the edge are cut by index, not at random.
        edge = np.partition(ranking, len(ranking) - count)[len(ranking) - count]
        candidates = np.nonzero(ranking >= edge)[0]
    else:
        candidates = np.arange(len(ranking))
    return candidates[np.argsort(-ranking[candidates], kind="stable")][:count]


def _draw(ranking: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Indices drawn without replacement with probabilities softmax(ranking), in the order drawn.

    The Gumbel top-k trick: the k highest of log p_i + g_i, with independent g_i = -log(-log u_i), are distributed
    exactly so. Source: Kool, van Hoof and Welling (2019), section 2.
    """
    return _best(ranking + rng.gumbel(size=len(ranking)), count)
