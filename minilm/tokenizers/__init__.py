"""Tokenizers: from text to token ids and back.

    GPT2Tokenizer       byte-level byte-pair encoding, as GPT-2's; learns vocabularies too
    CharTokenizer       one token for each character, for first lessons
    BytePairEncoder, learn_merges       the algorithm by itself
"""

from minilm.tokenizers.added_tokens import AddedToken
from minilm.tokenizers.base import PreTrainedTokenizer
from minilm.tokenizers.batching import BatchEncoding
from minilm.tokenizers.bpe import BytePairEncoder, learn_merges
from minilm.tokenizers.char import CharTokenizer
from minilm.tokenizers.gpt2 import GPT2Tokenizer

__all__ = [
    "AddedToken",
    "BatchEncoding",
    "BytePairEncoder",
    "CharTokenizer",
    "GPT2Tokenizer",
    "PreTrainedTokenizer",
    "learn_merges",
]
