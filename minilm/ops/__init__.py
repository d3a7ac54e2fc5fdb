"""Every differentiable operation, as a function of tensors; most are methods of Tensor as well.

Each is defined by a forward and a backward function on bare arrays that stand side by side in the files below:
arithmetic, elementwise, reductions, shaping, indexing, products, normalise, network.
"""

from minilm.ops import methods as methods  # attaches the methods to Tensor
from minilm.ops.arithmetic import abs, add, cast, clone, div, maximum, minimum, mul, neg, pow, sub
from minilm.ops.creation import (
    arange,
    eye,
    full,
    full_like,
    linspace,
    ones,
    ones_like,
    rand,
    randint,
    randn,
    randperm,
    tril,
    triu,
    zeros,
    zeros_like,
)
from minilm.ops.elementwise import clip, cos, erf, exp, gelu, log, relu, sigmoid, silu, sin, sqrt, tanh
from minilm.ops.elementwise import clip as clamp
from minilm.ops.indexing import gather, getitem, masked_fill, scatter_add, where
from minilm.ops.network import cross_entropy, dropout, embedding, scaled_dot_product_attention
from minilm.ops.normalise import layer_norm, log_softmax, rms_norm, softmax
from minilm.ops.products import affine, einsum, linear, matmul
from minilm.ops.reductions import amax, amin, argmax, argmin, cumsum, logsumexp, max, mean, min, std, sum, var
from minilm.ops.shaping import (
    cat,
    chunk,
    contiguous,
    expand,
    flatten,
    flip,
    pad,
    permute,
    reshape,
    split,
    squeeze,
    stack,
    transpose,
    unbind,
    unsqueeze,
    view,
)
from minilm.tensor import OPERATIONS, Operation, Tensor, apply, define, tensor

__all__ = [
    "OPERATIONS", "Operation", "Tensor", "abs", "add", "affine", "amax", "amin", "apply", "arange", "argmax", "argmin",
    "cast", "cat", "chunk", "clamp", "clip", "clone", "contiguous", "cos", "cross_entropy", "cumsum", "define", "div",
    "dropout", "einsum", "embedding", "erf", "exp", "expand", "eye", "flatten", "flip", "full", "full_like", "gather",
    "gelu", "getitem", "layer_norm", "linear", "linspace", "log", "log_softmax", "logsumexp", "masked_fill", "matmul",
    "max", "maximum", "mean", "min", "minimum", "mul", "neg", "ones", "ones_like", "pad", "permute", "pow", "rand",
    "randint", "randn", "randperm", "relu", "reshape", "rms_norm", "scaled_dot_product_attention", "scatter_add",
    "sigmoid", "silu", "sin", "softmax", "split", "sqrt", "squeeze", "stack", "std", "sub", "sum", "tanh", "tensor",
    "transpose", "tril", "triu", "unbind", "unsqueeze", "var", "view", "where", "zeros", "zeros_like",
]  # fmt: skip
