"""The hot operations of a language model: one contract, interchangeable implementations.

Arrays in, arrays out. Nothing here knows what a Tensor is, and nothing here imports minilm.

>>> import numpy as np, minilm_kernels as kernels
>>> q = k = v = np.eye(3, dtype=np.float32)[None, None]          # (B, H, T, d) = (1, 1, 3, 3)
>>> out, lse = kernels.attention_forward(q, k, v, causal=True)
>>> print(kernels.available())                                   # what can run here, and why the rest cannot

`contract` says what each operation computes; `registry` chooses who computes it; `reference` is the NumPy
definition against which every other implementation is checked.
"""

from minilm_kernels.contract import (
    OPERATIONS,
    adamw,
    attention_backward,
    attention_forward,
    cross_entropy,
    embedding_backward,
    erf,
    gelu_backward,
    gelu_forward,
    global_norm,
    layer_norm_backward,
    layer_norm_forward,
    matmul,
    rms_norm_backward,
    rms_norm_forward,
    softmax_backward,
    softmax_forward,
)
from minilm_kernels.registry import Implementation, active, available, register, use

__all__ = [
    "OPERATIONS",
    "Implementation",
    "active",
    "adamw",
    "attention_backward",
    "attention_forward",
    "available",
    "cross_entropy",
    "embedding_backward",
    "erf",
    "gelu_backward",
    "gelu_forward",
    "global_norm",
    "layer_norm_backward",
    "layer_norm_forward",
    "matmul",
    "register",
    "rms_norm_backward",
    "rms_norm_forward",
    "softmax_backward",
    "softmax_forward",
    "use",
]
