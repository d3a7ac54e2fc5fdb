"""Stopping criteria: when a text is complete, besides reaching its end token or its full length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

StoppingCriterion = Callable[[np.ndarray, Any], np.ndarray]
"""What a criterion is: `(input_ids (B, T), scores) -> (B,) bool`, true where the row is complete (or one bool)."""


@dataclass(frozen=True)
class EosTokenCriteria:
    """Complete where the last token is an end token."""

    eos_token_id: tuple[int, ...]

    def __call__(self, input_ids: np.ndarray, scores: Any = None) -> np.ndarray:
        return np.isin(input_ids[:, -1], self.eos_token_id)


@dataclass(frozen=True)
class MaxLengthCriteria:
    """Complete where the row, prompt included, has `max_length` tokens."""

    max_length: int

    def __call__(self, input_ids: np.ndarray, scores: Any = None) -> np.ndarray:
        return np.full(len(input_ids), input_ids.shape[1] >= self.max_length)


@dataclass(frozen=True)
class StopStringCriteria:
    """Complete where the text generated so far, decoded, contains one of the strings.

    Only what was generated is searched: a string in the prompt does not stop its own continuation.
    """

    tokenizer: Any
    stop_strings: tuple[str, ...]
    prompt_length: int

    def __call__(self, input_ids: np.ndarray, scores: Any = None) -> np.ndarray:
        texts = (self.tokenizer.decode(row.tolist()) for row in input_ids[:, self.prompt_length :])
        return np.array([any(stop in text for stop in self.stop_strings) for text in texts])


class StoppingCriteriaList(list[StoppingCriterion]):
    """Criteria of which any one completes a row, itself a criterion."""

    def __call__(self, input_ids: np.ndarray, scores: Any = None) -> np.ndarray:
        complete = np.zeros(len(input_ids), dtype=bool)
        for criterion in self:
            complete = complete | np.asarray(criterion(input_ids, scores), dtype=bool)
        return complete


def build_criteria(
    *,
    eos_token_ids: tuple[int, ...],
    max_length: int,
    stop_strings: Sequence[str] | None,
    tokenizer: Any,
    prompt_length: int,
    custom: Sequence[StoppingCriterion] = (),
) -> StoppingCriteriaList:
    """The criteria of one call of `generate`. Raises `ValueError` for stop strings without a tokenizer."""
    criteria = StoppingCriteriaList([MaxLengthCriteria(max_length)])
    if eos_token_ids:
        criteria.append(EosTokenCriteria(eos_token_ids))
    if stop_strings:
        if tokenizer is None:
            raise ValueError(
                "stop_strings are compared with decoded text: pass generate(..., tokenizer=tokenizer) as well"
            )
        criteria.append(StopStringCriteria(tokenizer, tuple(stop_strings), prompt_length))
    criteria.extend(custom)
    return criteria
