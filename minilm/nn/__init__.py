"""Layers, losses and initialisation, with PyTorch's names, arguments, defaults and parameter names.

    from minilm import nn
    from minilm.nn import functional as F

Every layer's docstring holds its formula and its shapes; the gradients are in `minilm.ops`.
"""

from minilm.nn import functional, init, utils
from minilm.nn.activation import ACTIVATIONS, GELU, Dropout, ReLU, SiLU, Tanh, get_activation
from minilm.nn.attention import KeyValueCache, MultiHeadAttention, attention_weights
from minilm.nn.containers import ModuleDict, ModuleList, Sequential
from minilm.nn.embedding import Embedding
from minilm.nn.feedforward import FeedForward
from minilm.nn.linear import Linear
from minilm.nn.losses import CrossEntropyLoss, MSELoss
from minilm.nn.module import Module, Parameter
from minilm.nn.norm import LayerNorm, RMSNorm
from minilm.nn.positions import (
    LearnedPositionalEmbedding,
    RotaryEmbedding,
    SinusoidalPositionalEmbedding,
    sinusoidal_table,
)
from minilm.nn.transformer import (
    TransformerBlock,
    TransformerDecoder,
    TransformerDecoderLayer,
    TransformerEncoder,
    TransformerEncoderLayer,
)

__all__ = [
    "ACTIVATIONS",
    "GELU",
    "CrossEntropyLoss",
    "Dropout",
    "Embedding",
    "FeedForward",
    "KeyValueCache",
    "LayerNorm",
    "LearnedPositionalEmbedding",
    "Linear",
    "MSELoss",
    "Module",
    "ModuleDict",
    "ModuleList",
    "MultiHeadAttention",
    "Parameter",
    "RMSNorm",
    "ReLU",
    "RotaryEmbedding",
    "Sequential",
    "SiLU",
    "SinusoidalPositionalEmbedding",
    "Tanh",
    "TransformerBlock",
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "TransformerEncoder",
    "TransformerEncoderLayer",
    "attention_weights",
    "functional",
    "get_activation",
    "init",
    "sinusoidal_table",
    "utils",
]
