"""Language models measured: probabilities of sequences, perplexity over long texts, and an n-gram yardstick."""

from .ngram import NGramModel
from .scoring import TextScore, perplexity, score_text, sequence_log_probability, token_log_probabilities

__all__ = [
    "NGramModel",
    "TextScore",
    "perplexity",
    "score_text",
    "sequence_log_probability",
    "token_log_probabilities",
]
