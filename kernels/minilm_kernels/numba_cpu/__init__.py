"""The implementation `numba`: the contract compiled for the CPU, one pass over memory where NumPy needs ten.

What makes it fast, in the order of what it brings:

* one pass: a row is normalised, exponentiated, summed and written while it is in the cache;
* polynomial exp and tanh (`special`), which the compiler turns into vector instructions; libm's calls are not;
* attention in tiles (`attention`), without the T × T matrix and without the tiles that a causal mask removes;
* one pool of threads: the products call BLAS with one thread from inside Numba's parallel loop (`blas`). Two pools,
  Numba's and the BLAS library's, wait for each other and end up slower than one thread.

float32 and float64 compute in their own precision; float16 is widened to float32 and narrowed at the end.
The first call of each function compiles it (seconds); the result is cached on disk.
"""

from minilm_kernels.numba_cpu.activations import erf, gelu_backward, gelu_forward
from minilm_kernels.numba_cpu.attention import attention_backward, attention_forward
from minilm_kernels.numba_cpu.embedding import embedding_backward
from minilm_kernels.numba_cpu.losses import cross_entropy
from minilm_kernels.numba_cpu.matmul import matmul
from minilm_kernels.numba_cpu.normalisation import (
    layer_norm_backward,
    layer_norm_forward,
    rms_norm_backward,
    rms_norm_forward,
)
from minilm_kernels.numba_cpu.optimisers import adamw, global_norm
from minilm_kernels.numba_cpu.softmax import softmax_backward, softmax_forward

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
