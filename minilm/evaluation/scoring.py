"""How likely a causal language model finds a text: log-probabilities, perplexity, bits per byte.

A text longer than the model's context is read through a sliding window: every token is scored once, with as
much context as the stride leaves it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from minilm.nn import functional as F
from minilm.nn.module import Module
from minilm.tensor import Tensor, no_grad

__all__ = ["TextScore", "perplexity", "score_text", "sequence_log_probability", "token_log_probabilities"]


@dataclass(frozen=True)
class TextScore:
    """How well a model predicts a text.

    Attributes:
        log_probability: of the scored tokens, their sum, in nats.
        tokens: how many were scored.
        characters, bytes: of the scored tokens as text, in UTF-8; 0 where the text is not known.
    """

    log_probability: float
    tokens: int
    characters: int = 0
    bytes: int = 0

    def __add__(self, other: TextScore) -> TextScore:
        """Return the score of both texts together."""
        return TextScore(
            self.log_probability + other.log_probability,
            self.tokens + other.tokens,
            self.characters + other.characters,
            self.bytes + other.bytes,
        )

    @property
    def loss(self) -> float:
        """The cross-entropy, −log p / N, in nats per token."""
        return -self.log_probability / self.tokens

    @property
    def perplexity(self) -> float:
        """exp(loss): as unsure as if so many tokens were equally likely each time; inf where that overflows."""
        return math.exp(self.loss) if self.loss < 700 else math.inf

    @property
    def bits_per_byte(self) -> float:
        """−log₂ p / bytes: comparable between tokenizers, unlike the loss per token."""
        return -self.log_probability / math.log(2) / self.bytes if self.bytes else math.nan

    @property
    def bits_per_character(self) -> float:
        """−log₂ p / characters."""
        return -self.log_probability / math.log(2) / self.characters if self.characters else math.nan


def token_log_probabilities(model: Module, input_ids: Any) -> np.ndarray:
    """Return log p(x_t | x_<t) for every token but the first, in nats.

    Args:
        model: a causal language model, called as `model(input_ids, use_cache=False).logits`.
        input_ids: (T,) or (B, T) integers, 2 ≤ T, no longer than the model's context.

    Returns:
        (T − 1,) or (B, T − 1) float64.

    Raises:
        ValueError: fewer than two tokens.
    """
    ids = np.asarray(input_ids.numpy() if isinstance(input_ids, Tensor) else input_ids)
    if ids.ndim not in (1, 2) or ids.shape[-1] < 2:
        raise ValueError(f"expected at least 2 tokens, (T,) or (B, T), got shape {ids.shape}")
    rows = ids[None] if ids.ndim == 1 else ids
    log_p = _score(model, rows[:, :-1], rows[:, 1:])  # (B, T - 1)
    return log_p[0] if ids.ndim == 1 else log_p


def sequence_log_probability(model: Module, input_ids: Any) -> float | np.ndarray:
    """Return log p(x_2 … x_T | x_1) = Σ_t log p(x_t | x_<t), in nats: a number for (T,), (B,) for (B, T)."""
    log_p = token_log_probabilities(model, input_ids).sum(axis=-1)
    return float(log_p) if log_p.ndim == 0 else log_p


def perplexity(
    model: Module,
    tokens: Any,
    context_length: int | None = None,
    stride: int | None = None,
    batch_size: int = 8,
    progress: bool = False,
) -> TextScore:
    """Score a text of any length through a sliding window.

    The first window predicts T tokens from T inputs. Each later one moves on by `stride` and counts only the
    tokens not counted before, so those have at least T − stride tokens of context. The last one ends with the
    text. `stride = T` reads side-by-side blocks, as training does: fast, and pessimistic. `stride = 1` gives
    every token all the context there is room for, at T times the cost.

    Args:
        model: a causal language model, called as `model(input_ids, use_cache=False).logits`.
        tokens: (N,) integers, N ≥ 2. The first is context only.
        context_length: T; by default the model's own, `model.config.n_positions`.
        stride: from 1 to T; by default half of T.
        batch_size: windows in one forward pass.
        progress: whether to show a progress bar.

    Raises:
        ValueError: a text, stride or context length out of range.
    """
    ids = np.asarray(tokens.numpy() if isinstance(tokens, Tensor) else tokens)
    if ids.ndim != 1 or len(ids) < 2:
        raise ValueError(f"expected a text of at least 2 tokens, (N,), got shape {ids.shape}")
    longest = getattr(getattr(model, "config", None), "n_positions", None)
    length = context_length or longest
    if length is None or length < 1 or (longest is not None and length > longest):
        raise ValueError(f"context_length is from 1 to the model's {longest}, got {context_length}")
    stride = max(1, length // 2) if stride is None else stride
    if not 1 <= stride <= length:
        raise ValueError(f"stride is from 1 to the context length {length}, got {stride}")
    if batch_size < 1:
        raise ValueError(f"batch_size is at least 1, got {batch_size}")

    length = min(length, len(ids) - 1)
    windows = list(_windows(len(ids) - 1, length, stride))
    total = 0.0
    for batch in _with_progress(range(0, len(windows), batch_size), progress):
        starts = np.array([start for start, _ in windows[batch : batch + batch_size]])
        rows = ids[starts[:, None] + np.arange(length + 1)]  # (B, T + 1)
        log_p = _score(model, rows[:, :-1], rows[:, 1:])  # (B, T)
        for row, (_, new) in zip(log_p, windows[batch : batch + batch_size], strict=True):
            total += float(row[length - new :].sum())
    return TextScore(total, len(ids) - 1)


def score_text(
    model: Module,
    tokenizer: Any,
    text: str,
    stride: int | None = None,
    batch_size: int = 8,
    progress: bool = False,
) -> TextScore:
    """Tokenise a text and score it, with its length in characters and bytes.

    Where the tokenizer has an end-of-text token, the text is read as the start of a document: that token goes
    before it and all its tokens are scored. Otherwise the first token is context only, and not counted.

    Raises:
        ValueError: the text has too few tokens.
    """
    ids = list(tokenizer.encode(text))
    start = getattr(tokenizer, "eos_token_id", None)
    if start is not None:
        ids, scored = [start, *ids], text
    else:
        scored = tokenizer.decode(ids[1:])
    if len(ids) < 2:
        raise ValueError(f"the text {text[:40]!r} gives {len(ids)} token(s); at least 2 are needed")
    score = perplexity(model, np.array(ids), stride=stride, batch_size=batch_size, progress=progress)
    return TextScore(score.log_probability, score.tokens, len(scored), len(scored.encode()))


def _windows(targets: int, length: int, stride: int) -> Iterator[tuple[int, int]]:
    """Yield where each window starts and how many of its last targets are new; there are `targets` in all."""
    yield 0, length
    counted = length
    while counted < targets:
        end = min(counted + stride, targets)
        yield end - length, end - counted
        counted = end


def _score(model: Module, input_ids: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the log-probability of each target, (B, T) float64; the model is left in the mode it was in."""
    was_training = model.training
    model.eval()
    try:
        with no_grad():
            logits = model(
                np.ascontiguousarray(input_ids, dtype=np.int64), use_cache=False
            ).logits  # (B, T, V)
            flat = np.ascontiguousarray(targets, dtype=np.int64).reshape(-1)
            losses = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), Tensor(flat), reduction="none")
    finally:
        model.train(was_training)
    return -losses.numpy().astype(np.float64).reshape(targets.shape)


def _with_progress(batches: range, progress: bool) -> Any:
    if not progress:
        return batches
    from tqdm import tqdm

    return tqdm(batches, unit="batch")
