"""An interpolated n-gram language model: the yardstick that a neural language model has to beat.

It counts, and nothing else: no gradient, no vectors. That makes its validation loss the honest question to any small
GPT: has it learnt more than which tokens follow which?
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["NGramModel"]


@dataclass(frozen=True)
class _Level:
    """Counts of the n-grams of one length: contexts h of length n - 1, each with the tokens w seen after it."""

    # (G,) sorted: number of the context h times V, plus w; its index is the n-gram's own number
    codes: np.ndarray
    counts: np.ndarray  # (G,) c(hw)
    totals: np.ndarray  # (contexts,) c(h·), the number of tokens seen after h
    kinds: np.ndarray  # (contexts,) N(h·), the number of different tokens seen after h


class NGramModel:
    """Probabilities from counts of n-grams, each length interpolated with the next shorter one.

    For a token w after the context h, and h' the context without its first token,

        p(w | h) = (max(c(hw) − d, 0) + (d · N(h·) + a) · p(w | h')) / (c(h·) + a),    p(w | ) from p₀ = 1 / V

    where c counts occurrences and N(h·) different successors. With a = 0 this is interpolated absolute
    discounting (Ney, Essen and Kneser 1994); with d = 0 the hierarchical Dirichlet model (MacKay and Peto 1995);
    with both the one-table form of the Pitman-Yor model (Teh 2006). A context never seen gives p(w | h').

    Args:
        order: the longest n-gram, n ≥ 1 (1 ignores the context).
        vocab_size: V.
        discount: d, taken off every count, 0 ≤ d ≤ 1.
        pseudo_count: a, the weight of the shorter context in observations, a ≥ 0; d and a are not both 0.

    Raises:
        ValueError: a parameter out of its range.

    >>> model = NGramModel(order=3, vocab_size=65).fit(train_ids)
    >>> -model.log_probabilities(validation_ids).mean()   # cross-entropy, nats per token
    """

    def __init__(
        self, order: int, vocab_size: int, discount: float = 0.75, pseudo_count: float = 0.0
    ) -> None:
        if order < 1 or vocab_size < 1:
            raise ValueError(f"order and vocab_size are at least 1, got {order} and {vocab_size}")
        if not 0 <= discount <= 1 or not pseudo_count >= 0 or discount + pseudo_count == 0:
            raise ValueError(
                f"expected 0 ≤ discount ≤ 1 and pseudo_count ≥ 0, not both 0; got {discount}, {pseudo_count}"
            )
        self.order = order
        self.vocab_size = vocab_size
        self.discount = discount
        self.pseudo_count = pseudo_count
        self._levels: list[_Level] = []

    def fit(self, tokens: np.ndarray) -> NGramModel:
        """Count the n-grams of `tokens`, (N,) integers below V, and return the model itself."""
        tokens = self._checked(tokens)
        V = self.vocab_size
        self._levels = []
        contexts, context = 1, np.zeros(len(tokens), dtype=np.int64)  # one empty context before every token
        for length in range(1, min(self.order, len(tokens)) + 1):
            # A context is named by its number among those of its length, so a code never outgrows 64 bits.
            codes, inverse, counts = np.unique(
                context * V + tokens[length - 1 :], return_inverse=True, return_counts=True
            )
            totals = np.bincount(codes // V, weights=counts, minlength=contexts)
            kinds = np.bincount(codes // V, minlength=contexts)
            self._levels.append(_Level(codes, counts, totals, kinds))
            contexts, context = len(codes), inverse[:-1]
        return self

    def log_probabilities(self, tokens: np.ndarray) -> np.ndarray:
        """Return log p of each token given the tokens before it, (N,) in nats; the first has no context."""
        tokens = self._checked(tokens)
        p = np.full(len(tokens), 1 / self.vocab_size)
        context = np.zeros(len(tokens), dtype=np.int64)  # -1 where the context was never seen
        for length, level in enumerate(self._fitted()[: len(tokens)], start=1):
            codes = np.where(context >= 0, context * self.vocab_size + tokens[length - 1 :], -1)
            found = np.minimum(np.searchsorted(level.codes, codes), len(level.codes) - 1)
            seen = level.codes[found] == codes
            count = np.where(seen, level.counts[found], 0)
            p[length - 1 :] = self._interpolate(
                count, _at(level.totals, context), _at(level.kinds, context), p[length - 1 :]
            )
            context = np.where(seen, found, -1)[:-1]
        return np.log(p)

    def next_distribution(self, context: np.ndarray) -> np.ndarray:
        """Return the probability of every token after `context`, (V,); only its last n − 1 tokens matter."""
        context = self._checked(context)
        p = np.full(self.vocab_size, 1 / self.vocab_size)
        for length, level in enumerate(self._fitted()[: len(context) + 1], start=1):
            number = self._context_number(context[len(context) - length + 1 :])
            if number < 0:
                break
            first, last = np.searchsorted(
                level.codes, [number * self.vocab_size, (number + 1) * self.vocab_size]
            )
            count = np.zeros(self.vocab_size)
            count[level.codes[first:last] - number * self.vocab_size] = level.counts[first:last]
            p = self._interpolate(count, _at(level.totals, number), _at(level.kinds, number), p)
        return p

    def sample(self, context: np.ndarray, max_new_tokens: int, generator: np.random.Generator) -> np.ndarray:
        """Continue `context` by `max_new_tokens` random tokens; return those, (max_new_tokens,)."""
        tokens = list(self._checked(context))
        for _ in range(max_new_tokens):
            cumulative = np.cumsum(self.next_distribution(np.array(tokens[-self.order :], dtype=np.int64)))
            tokens.append(int(np.searchsorted(cumulative, generator.random() * cumulative[-1], side="right")))
        return np.array(tokens[len(tokens) - max_new_tokens :], dtype=np.int64)

    def _interpolate(
        self, count: np.ndarray, total: np.ndarray, kinds: np.ndarray, shorter: np.ndarray
    ) -> np.ndarray:
        d, a = self.discount, self.pseudo_count
        numerator = np.maximum(count - d, 0) + (d * kinds + a) * shorter
        return np.where(total > 0, numerator / np.where(total > 0, total + a, 1), shorter)

    def _context_number(self, context: np.ndarray) -> int:
        """Return the number of a context among those of its length, or -1 if it was never seen."""
        number = 0
        for token, level in zip(context, self._levels, strict=False):
            code = number * self.vocab_size + int(token)
            number = int(np.searchsorted(level.codes, code))
            if number == len(level.codes) or level.codes[number] != code:
                return -1
        return number

    def _fitted(self) -> list[_Level]:
        if not self._levels:
            raise RuntimeError("the n-gram model has counted nothing yet; call fit(tokens) first")
        return self._levels

    def _checked(self, tokens: np.ndarray) -> np.ndarray:
        tokens = np.asarray(tokens)
        if tokens.ndim != 1 or (tokens.size and tokens.dtype.kind not in "iu"):
            raise ValueError(f"expected tokens as integers of shape (N,), got {tokens.dtype} {tokens.shape}")
        if tokens.size and not 0 <= tokens.min() <= tokens.max() < self.vocab_size:
            raise ValueError(
                f"expected tokens from 0 to {self.vocab_size - 1}, got {tokens.min()} to {tokens.max()}"
            )
        return tokens.astype(np.int64)


def _at(values: np.ndarray, context: np.ndarray | int) -> np.ndarray:
    """Return `values[context]`, and 0 for a context that was never seen or was only seen at the very end."""
    context = np.asarray(context)
    return np.where((context >= 0) & (context < len(values)), values[np.clip(context, 0, len(values) - 1)], 0)
