"""Language models measured: probabilities of sequences, perplexity over long texts, and an n-gram
yardstick."""

from .ngram import NGramModel

__all__ = ["NGramModel"]
