"""Logits processors: small pure functions that bend the next-token distribution before a token is chosen.

Each is a frozen dataclass called as `processor(input_ids, scores) -> scores`, with `input_ids` (B, T) everything read
so far and `scores` (B, V) the logits (or, in beam search, the log-probabilities) of the next token. Nothing is
changed in place, and a forbidden token gets the score -inf. Names and arithmetic are those of Transformers; the
order in which they run is in `build_processors`. What is not here: anything that looks inside the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from minilm import ops
from minilm.generation.config import GenerationConfig
from minilm.tensor import Tensor

LogitsProcessor = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""What a processor is: `(input_ids (B, T), scores (B, V)) -> scores (B, V)`; any function of that form will do."""


def softmax(scores: np.ndarray) -> np.ndarray:
    """The probabilities of scores (B, V); a score of -inf gets 0."""
    return ops.softmax(Tensor(scores), dim=-1).numpy()


def log_softmax(scores: np.ndarray) -> np.ndarray:
    """The log-probabilities of scores (B, V); a score of -inf stays."""
    return ops.log_softmax(Tensor(scores), dim=-1).numpy()


def _forbid(scores: np.ndarray, forbidden: np.ndarray) -> np.ndarray:
    """The scores with -inf where `forbidden` (broadcast against them) is true."""
    return np.where(forbidden, scores.dtype.type(-np.inf), scores)


def _forbid_tokens(scores: np.ndarray, tokens: Sequence[int], name: str) -> np.ndarray:
    """The scores with the columns of the given tokens set to -inf."""
    check_tokens(tokens, scores.shape[-1], name)
    forbidden = np.zeros(scores.shape[-1], dtype=bool)
    forbidden[list(tokens)] = True
    return _forbid(scores, forbidden)


def _only(scores: np.ndarray, tokens: Sequence[int], name: str) -> np.ndarray:
    """Score 0 for the given tokens and -inf for every other: one of them is certain to be chosen."""
    check_tokens(tokens, scores.shape[-1], name)
    forced = np.full_like(scores, -np.inf)
    forced[:, list(tokens)] = 0
    return forced


def check_tokens(tokens: Sequence[int], vocab_size: int, name: str) -> None:
    """Refuse token ids outside the vocabulary, which NumPy's indexing would take from the end or not at all."""
    outside = [token for token in tokens if not 0 <= token < vocab_size]
    if outside:
        raise ValueError(f"{name} holds token ids {outside}, but the model's vocabulary ends at {vocab_size - 1}")


# --- what has been said before ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class RepetitionPenaltyLogitsProcessor:
    """Makes the tokens that already occur less likely (penalty > 1) or more (< 1).

    s_i <- s_i / penalty if s_i > 0, else s_i * penalty, for each token i in the row's ids, the prompt included.
    `padding` (B,) counts the padding tokens on the left of each row, which are not part of its text.
    Source: Keskar et al., CTRL (2019), section 4.1.
    """

    penalty: float
    padding: np.ndarray | None = None

    def __call__(self, input_ids: np.ndarray, scores: np.ndarray) -> np.ndarray:
        rows = np.broadcast_to(np.arange(len(input_ids))[:, None], input_ids.shape)
        real = _real_positions(input_ids, self.padding)
        seen = np.zeros(scores.shape, dtype=bool)
        seen[rows[real], input_ids[real]] = True
        return np.where(seen, np.where(scores < 0, scores * self.penalty, scores / self.penalty), scores)


@dataclass(frozen=True, eq=False)
class NoRepeatNGramLogitsProcessor:
    """Forbids every token that would complete an n-gram which the row already contains.

    With the last n - 1 tokens as prefix, each earlier window of n tokens that begins with this prefix forbids its
    own last token. `padding` as in `RepetitionPenaltyLogitsProcessor`. Source: Paulus et al. (2017), section 2.5.
    """

    ngram_size: int
    padding: np.ndarray | None = None

    def __call__(self, input_ids: np.ndarray, scores: np.ndarray) -> np.ndarray:
        n, length = self.ngram_size, input_ids.shape[1]
        if length < n:
            return scores
        windows = np.lib.stride_tricks.sliding_window_view(input_ids, n, axis=1)  # (B, T - n + 1, n)
        prefix = input_ids[:, length - n + 1 :]  # (B, n - 1)
        repeats = (windows[:, :, :-1] == prefix[:, None, :]).all(axis=-1)  # (B, T - n + 1)
        repeats &= _real_positions(input_ids, self.padding)[:, : length - n + 1]
        forbidden = np.zeros(scores.shape, dtype=bool)
        rows, starts = np.nonzero(repeats)
        forbidden[rows, windows[rows, starts, -1]] = True
        return _forbid(scores, forbidden)


def _real_positions(input_ids: np.ndarray, padding: np.ndarray | None) -> np.ndarray:
    """(B, T) bool, False on the `padding[b]` leftmost positions of row b."""
    if padding is None:
        return np.ones(input_ids.shape, dtype=bool)
    return np.arange(input_ids.shape[1]) >= padding[:, None]


@dataclass(frozen=True)
class NoBadWordsLogitsProcessor:
    """Forbids the last token of each sequence in `bad_words_ids` where the row ends with the tokens before it.

    A sequence of one token is forbidden everywhere.
    """

    bad_words_ids: tuple[tuple[int, ...], ...]

    def __call__(self, input_ids: np.ndarray, scores: np.ndarray) -> np.ndarray:
        forbidden = np.zeros(scores.shape, dtype=bool)
        for word in self.bad_words_ids:
            check_tokens(word, scores.shape[-1], "bad_words_ids")
            *prefix, last = word
            if len(prefix) <= input_ids.shape[1]:
                ending = input_ids[:, input_ids.shape[1] - len(prefix) :]
                forbidden[:, last] |= (ending == np.array(prefix, dtype=input_ids.dtype)).all(axis=1)
        return _forbid(scores, forbidden)


# --- how long the text may be --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MinLengthLogitsProcessor:
    """Forbids the end tokens while the row, prompt and padding included, is shorter than `min_length`."""

    min_length: int
    eos_token_id: tuple[int, ...]

    def __call__(self, input_ids: np.ndarray, scores: np.ndarray) -> np.ndarray:
        if input_ids.shape[1] >= self.min_length:
            return scores
        return _forbid_tokens(scores, self.eos_token_id, "eos_token_id")


@dataclass(frozen=True)
class MinNewTokensLengthLogitsProcessor:
    """Forbids the end tokens until `min_new_tokens` tokens follow the prompt."""

    prompt_length: int
    min_new_tokens: int
    eos_token_id: tuple[int, ...]

    def __call__(self, input_ids: np.ndarray, scores: np.ndarray) -> np.ndarray:
        if input_ids.shape[1] - self.prompt_length >= self.min_new_tokens:
            return scores
        return _forbid_tokens(scores, self.eos_token_id, "eos_token_id")


# --- forced and suppressed tokens ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class ForcedBOSTokenLogitsProcessor:
    """Forces the token right after the decoder's start token, that is where the row holds one token."""

    bos_token_id: int

    def __call__(self, input_ids: np.ndarray, scores: np.ndarray) -> np.ndarray:
        return _only(scores, (self.bos_token_id,), "forced_bos_token_id") if input_ids.shape[1] == 1 else scores


@dataclass(frozen=True)
class ForcedEOSTokenLogitsProcessor:
    """Forces an end token at the last position that `max_length` allows."""

    max_length: int
    eos_token_id: tuple[int, ...]

    def __call__(self, input_ids: np.ndarray, scores: np.ndarray) -> np.ndarray:
        if input_ids.shape[1] != self.max_length - 1:
            return scores
        return _only(scores, self.eos_token_id, "forced_eos_token_id")


@dataclass(frozen=True)
class SuppressTokensLogitsProcessor:
    """Forbids the given tokens everywhere."""

    suppress_tokens: tuple[int, ...]

    def __call__(self, input_ids: np.ndarray, scores: np.ndarray) -> np.ndarray:
        return _forbid_tokens(scores, self.suppress_tokens, "suppress_tokens")


@dataclass(frozen=True)
class SuppressTokensAtBeginLogitsProcessor:
    """Forbids the given tokens where the row has exactly `begin_index` tokens: at the first step after the prompt."""

    begin_suppress_tokens: tuple[int, ...]
    begin_index: int

    def __call__(self, input_ids: np.ndarray, scores: np.ndarray) -> np.ndarray:
        if input_ids.shape[1] != self.begin_index:
            return scores
        return _forbid_tokens(scores, self.begin_suppress_tokens, "begin_suppress_tokens")


# --- only when sampling --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TemperatureLogitsWarper:
    """s <- s / temperature: below 1 sharpens the distribution, above 1 flattens it."""

    temperature: float

    def __call__(self, input_ids: np.ndarray, scores: np.ndarray) -> np.ndarray:
        return scores / scores.dtype.type(self.temperature)


@dataclass(frozen=True)
class TopKLogitsWarper:
    """Keeps the k highest scores, and with them whatever ties with the k-th.

    Source: Fan, Lewis and Dauphin (2018), section 5.4.
    """

    top_k: int
    min_tokens_to_keep: int = 1

    def __call__(self, input_ids: np.ndarray, scores: np.ndarray) -> np.ndarray:
        k = min(max(self.top_k, self.min_tokens_to_keep), scores.shape[-1])
        kth = np.partition(scores, -k, axis=-1)[:, -k, None]
        return _forbid(scores, scores < kth)


@dataclass(frozen=True)
class TopPLogitsWarper:
    """Keeps the smallest set of most likely tokens whose probability reaches p (the nucleus).

    Seen from the other end: with the probabilities in ascending order, a token goes where the running sum up to and
    including it is at most 1 - p. Source: Holtzman et al. (2019), section 3.1.
    """

    top_p: float
    min_tokens_to_keep: int = 1

    def __call__(self, input_ids: np.ndarray, scores: np.ndarray) -> np.ndarray:
        order = np.argsort(scores, axis=-1, kind="stable")
        ascending = softmax(np.take_along_axis(scores, order, axis=-1))
        drop = np.cumsum(ascending, axis=-1) <= 1 - self.top_p
        drop[:, -self.min_tokens_to_keep :] = False
        return _forbid(scores, _back_in_place(drop, order))


@dataclass(frozen=True)
class MinPLogitsWarper:
    """Keeps the tokens at least `min_p` times as likely as the most likely one.

    Keep i where p_i >= min_p * max_j p_j. Source: Nguyen et al. (2024), section 3.
    """

    min_p: float
    min_tokens_to_keep: int = 1

    def __call__(self, input_ids: np.ndarray, scores: np.ndarray) -> np.ndarray:
        probabilities = softmax(scores)
        drop = probabilities < self.min_p * probabilities.max(axis=-1, keepdims=True)
        keep = min(self.min_tokens_to_keep, scores.shape[-1])
        best = np.argpartition(probabilities, -keep, axis=-1)[:, -keep:]
        np.put_along_axis(drop, best, False, axis=-1)
        return _forbid(scores, drop)


@dataclass(frozen=True)
class TypicalLogitsWarper:
    """Keeps the tokens whose surprise is closest to the entropy, until their probability reaches `mass`.

    Order the tokens by | -log p_i - H |, with H = -sum_j p_j log p_j, and keep the first ones that together reach
    the mass. Source: Meister et al. (2022), section 5.
    """

    mass: float
    min_tokens_to_keep: int = 1

    def __call__(self, input_ids: np.ndarray, scores: np.ndarray) -> np.ndarray:
        log_p = log_softmax(scores)
        p = np.exp(log_p)
        surprise = -np.where(np.isneginf(log_p), 0, log_p)
        entropy = (p * surprise).sum(axis=-1, keepdims=True)
        distance = np.where(np.isneginf(log_p), np.inf, np.abs(surprise - entropy))
        order = np.argsort(distance, axis=-1, kind="stable")
        near_first = np.take_along_axis(distance, order, axis=-1)
        mass = np.cumsum(np.take_along_axis(p, order, axis=-1), axis=-1)
        last = np.minimum((mass < self.mass).sum(axis=-1), scores.shape[-1] - 1)
        drop = near_first > np.take_along_axis(near_first, last[:, None], axis=-1)
        drop[:, : self.min_tokens_to_keep] = False
        return _forbid(scores, _back_in_place(drop, order))


def _back_in_place(sorted_flags: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Undo a sort: flags given in the order `order`, returned in the order of the vocabulary."""
    flags = np.empty_like(sorted_flags)
    np.put_along_axis(flags, order, sorted_flags, axis=-1)
    return flags


@dataclass(frozen=True)
class LogitNormalization:
    """s <- log softmax(s), so that the scores are log-probabilities again after the others have changed them."""

    def __call__(self, input_ids: np.ndarray, scores: np.ndarray) -> np.ndarray:
        return log_softmax(scores)


class LogitsProcessorList(list[LogitsProcessor]):
    """Processors that run one after another, itself a processor."""

    def __call__(self, input_ids: np.ndarray, scores: np.ndarray) -> np.ndarray:
        for processor in self:
            scores = processor(input_ids, scores)
        return scores


def build_processors(
    config: GenerationConfig,
    *,
    prompt_length: int,
    max_length: int,
    sampling: bool,
    padding: np.ndarray | None = None,
    custom: Sequence[LogitsProcessor] = (),
) -> LogitsProcessorList:
    """The processors that a `GenerationConfig` asks for, in Transformers' order.

    Repetition penalty, no-repeat n-gram, bad words, minimum lengths, forced tokens, suppression, the user's own; then,
    only when sampling, temperature, top-k, top-p, min-p, typical; last the renormalisation.

    Beam sampling keeps one token more than there are end tokens, so that a beam can always go on.
    """
    eos = config.eos_token_ids
    chain = LogitsProcessorList()
    if config.repetition_penalty != 1.0:
        chain.append(RepetitionPenaltyLogitsProcessor(config.repetition_penalty, padding))
    if config.no_repeat_ngram_size > 0:
        chain.append(NoRepeatNGramLogitsProcessor(config.no_repeat_ngram_size, padding))
    if config.bad_words_ids is not None:
        # An end token among the bad words would make every text run to its full length; Transformers drops it too.
        words = tuple(word for word in config.bad_words_ids if not (len(word) == 1 and word[0] in eos))
        chain.append(NoBadWordsLogitsProcessor(words))
    if config.min_length > 0 and eos:
        chain.append(MinLengthLogitsProcessor(config.min_length, eos))
    if config.min_new_tokens and eos:
        chain.append(MinNewTokensLengthLogitsProcessor(prompt_length, config.min_new_tokens, eos))
    if config.forced_bos_token_id is not None:
        chain.append(ForcedBOSTokenLogitsProcessor(config.forced_bos_token_id))
    if config.forced_eos_token_id is not None:
        chain.append(ForcedEOSTokenLogitsProcessor(max_length, config.forced_eos_token_id))
    if config.suppress_tokens is not None:
        chain.append(SuppressTokensLogitsProcessor(config.suppress_tokens))
    if config.begin_suppress_tokens is not None:
        # After a lone start token the forced first token comes first, and the suppression applies one step later.
        shift = int(prompt_length == 1 and config.forced_bos_token_id is not None)
        chain.append(SuppressTokensAtBeginLogitsProcessor(config.begin_suppress_tokens, prompt_length + shift))
    chain.extend(custom)
    if sampling:
        keep = 1 if config.num_beams == 1 else max(2, 1 + len(eos))
        if config.temperature != 1.0:
            chain.append(TemperatureLogitsWarper(config.temperature))
        if config.top_k:
            chain.append(TopKLogitsWarper(config.top_k, keep))
        if config.top_p < 1.0:
            chain.append(TopPLogitsWarper(config.top_p, keep))
        if config.min_p is not None:
            chain.append(MinPLogitsWarper(config.min_p, keep))
        if config.typical_p < 1.0:
            chain.append(TypicalLogitsWarper(config.typical_p, keep))
    if config.renormalize_logits:
        chain.append(LogitNormalization())
    return chain
