"""The NumPy reference: each operation of the contract, written to be read. It defines what is correct.

The functions use only NumPy's dispatched functions (`np.exp(x)`, `np.zeros_like(x)`), so they also run on arrays
that honour NumPy's protocols, such as CuPy's.
"""

from minilm_kernels.reference.activations import gelu_backward, gelu_forward
from minilm_kernels.reference.attention import attention_backward, attention_forward
from minilm_kernels.reference.embedding import embedding_backward
from minilm_kernels.reference.losses import cross_entropy
from minilm_kernels.reference.matmul import matmul
from minilm_kernels.reference.normalisation import (
    layer_norm_backward,
    layer_norm_forward,
    rms_norm_backward,
    rms_norm_forward,
)
from minilm_kernels.reference.optimisers import adamw, global_norm
from minilm_kernels.reference.softmax import softmax_backward, softmax_forward
from minilm_kernels.reference.special import erf

__all__ = [
    "adamw",
    "attention_backward",
    "attention_forward",
    "cross_entropy",
    "embedding_backward",
    "erf",
    "gelu_backward",
    "gelu_forward",
    "global_norm",
    "layer_norm_backward",
    "layer_norm_forward",
    "matmul",
    "rms_norm_backward",
    "rms_norm_forward",
    "softmax_backward",
    "softmax_forward",
]
