"""The contract: what every implementation of the hot operations computes, written down once.

Each function below is both the documentation of an operation and its entry point: calling it runs the
implementation that `registry.use` has chosen. An implementation is a module that defines functions with these
names and signatures. What holds for all of them:

* Arrays are C-ordered views or not: any strides are accepted, results are freshly allocated and contiguous, inputs
  are never written (only `adamw` works in place, on what it is told to).
* Sizes are ragged: no dimension has to divide anything, and empty ones are legal.
* float32 and float64 compute in their own precision. 16-bit floats are accumulated in float32 and returned in
  their own type. Reduced precision (tf32, bf16, fp16) happens only where the caller passes such arrays.
* A NaN or infinity in the input reaches the output; nothing hides it.
* The arrays of one call live in one place (all NumPy, or all on one GPU).

Symbols: B batch, H heads, T positions, d head width, C model width, V vocabulary, N rows.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from minilm_kernels import registry

Array = Any
OPERATIONS: dict[str, Callable[..., Any]] = {}
F = TypeVar("F", bound=Callable[..., Any])

# The bodies below are empty: a signature states the contract, and `operation` puts the dispatch in its place.
# mypy: disable-error-code="empty-body"


def operation(signature: F) -> F:
    """Enter a signature into the contract; calling it runs the chosen implementation."""
    name = signature.__name__

    @functools.wraps(signature)
    def dispatch(*args: Any, **kwargs: Any) -> Any:
        return registry.resolve(name)(*args, **kwargs)

    OPERATIONS[name] = dispatch
    return dispatch  # type: ignore[return-value]


@operation
def matmul(
    a: Array, b: Array, *, transpose_a: bool = False, transpose_b: bool = False, bias: Array | None = None
) -> Array:
    """Matrix product `op(a) @ op(b) + bias`, where op transposes the last two axes if asked.

    a     (..., M, K), or (..., K, M) with transpose_a
    b     (..., K, N), or (..., N, K) with transpose_b; leading axes broadcast
    bias  (N,) or None
    out   (..., M, N)

    K = 0 gives zeros (plus the bias).
    """
    ...


@operation
def softmax_forward(x: Array) -> Array:
    """`y_i = exp(x_i − max x) / Σ_j exp(x_j − max x)` over the last axis. A row of −inf alone gives zeros.

    x (..., N) → y (..., N)
    """
    ...


@operation
def softmax_backward(dy: Array, y: Array) -> Array:
    """`dx = y ⊙ (dy − Σ_j dy_j y_j)` over the last axis: the Jacobian diag(y) − y yᵀ applied to dy."""
    ...


@operation
def layer_norm_forward(
    x: Array, weight: Array | None, bias: Array | None, *, eps: float = 1e-5
) -> tuple[Array, Array, Array]:
    """`y = (x − μ) / sqrt(σ² + eps) ⊙ weight + bias` over the last axis (Ba et al. 2016, eq. 4).

    x (..., C), weight and bias (C,) or None → y (..., C), mean (..., 1), rstd (..., 1) = 1/sqrt(σ² + eps).
    σ² is the biased variance (divided by C).
    """
    ...


@operation
def layer_norm_backward(
    dy: Array, x: Array, weight: Array | None, mean: Array, rstd: Array
) -> tuple[Array, Array, Array]:
    """Gradients of `layer_norm_forward` → dx (..., C), dweight (C,), dbias (C,).

    With x̂ = (x − μ)·rstd and g = dy ⊙ weight:  dx = rstd · (g − mean(g) − x̂ · mean(g ⊙ x̂)).
    """
    ...


@operation
def rms_norm_forward(x: Array, weight: Array | None, *, eps: float = 1e-6) -> tuple[Array, Array]:
    """`y = x / sqrt(mean(x²) + eps) ⊙ weight` over the last axis (Zhang & Sennrich 2019) → y, rstd (..., 1)."""
    ...


@operation
def rms_norm_backward(dy: Array, x: Array, weight: Array | None, rstd: Array) -> tuple[Array, Array]:
    """Gradients of `rms_norm_forward` → dx (..., C), dweight (C,).  dx = rstd · (g − x̂ · mean(g ⊙ x̂))."""
    ...


@operation
def erf(x: Array) -> Array:
    """The error function `2/√π ∫₀ˣ exp(−t²) dt`, elementwise; to 1e-15 in float64 and 6e-7 in float32."""
    ...


@operation
def gelu_forward(x: Array, *, approximate: str = "none") -> Array:
    """The Gaussian error linear unit (Hendrycks & Gimpel 2016), elementwise.

    "none":  x · Φ(x) = x/2 · (1 + erf(x/√2))
    "tanh":  x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³))), the form of GPT-2
    """
    ...


@operation
def gelu_backward(dy: Array, x: Array, *, approximate: str = "none") -> Array:
    """`dx = dy ⊙ gelu'(x)`."""
    ...


@operation
def cross_entropy(
    logits: Array,
    targets: Array,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    need_grad: bool = True,
) -> tuple[Array, Array | None]:
    """The loss of each row and its gradient, in one pass over the logits.

    loss_n = −Σ_v t_nv log softmax(logits_n)_v,   dlogits_n = softmax(logits_n) − t_n,
    where t_n is one-hot at targets_n, or with label smoothing ε: (1 − ε)·one-hot + ε/V (Szegedy et al. 2016, §7).

    logits   (N, V) float
    targets  (N,) integer: ignore_index (that row gets loss 0 and gradient 0), or 0 … V − 1 (the caller checks)
    → losses (N,), dlogits (N, V) or None without need_grad
    """
    ...


@operation
def embedding_backward(dout: Array, ids: Array, num_embeddings: int) -> Array:
    """The gradient of `table[ids]`: row i collects the sum of dout over all places where ids == i.

    dout (..., C), ids (...) integer in 0 … num_embeddings − 1 → dtable (num_embeddings, C)
    """
    ...


@operation
def attention_forward(
    q: Array,
    k: Array,
    v: Array,
    *,
    causal: bool = False,
    key_padding_mask: Array | None = None,
    bias: Array | None = None,
    scale: float | None = None,
    dropout_p: float = 0.0,
    seed: int = 0,
) -> tuple[Array, Array]:
    """Scaled dot-product attention, `softmax(Q Kᵀ · scale + bias + mask) V` (Vaswani et al. 2017, eq. 1).

    q                 (B, Hq, Tq, d)
    k, v              (B, Hkv, Tk, d) and (B, Hkv, Tk, dv); Hq % Hkv == 0, head h reads group h // (Hq / Hkv)
    causal            query i sees key j when j ≤ i + Tk − Tq: aligned bottom-right, so that the last query sees all
    key_padding_mask  (B, Tk) bool, True for a real key
    bias              float, added to the scores; broadcasts to (B, Hq, Tq, Tk); −inf removes a place
    scale             default 1/√d
    dropout_p, seed   each probability is zeroed with chance dropout_p and the rest scaled by 1/(1 − dropout_p).
                      The bits come from Philox4x32-10 at (column // 4, row, b·Hq + h) under the key `seed`,
                      word column % 4, and are the same in every implementation (`philox.keep_mask`)
    → out (B, Hq, Tq, dv), lse (B, Hq, Tq): the log-sum-exp of each row of scores, saved for the backward pass

    A row in which nothing may be seen gives out = 0, lse = −inf and zero gradients, never NaN. Tq, Tk or B may be 0.
    """
    ...


@operation
def attention_backward(
    dout: Array,
    q: Array,
    k: Array,
    v: Array,
    out: Array,
    lse: Array,
    *,
    causal: bool = False,
    key_padding_mask: Array | None = None,
    bias: Array | None = None,
    scale: float | None = None,
    dropout_p: float = 0.0,
    seed: int = 0,
    need_dbias: bool = False,
) -> tuple[Array, Array, Array, Array | None]:
    """Gradients of `attention_forward` with the same options → dq, dk, dv, dbias (None unless need_dbias).

    The probabilities are recomputed from lse: P = exp(S − lse). With δ = Σ(dout ⊙ out) over the head width:
    dv = Pᵀ dout,  dS = P ⊙ (dout vᵀ − δ),  dq = scale · dS k,  dk = scale · dSᵀ q,  dbias = dS (summed where it was
    broadcast)
    (Dao et al. 2022, appendix B).
    """
    ...


@operation
def adamw(
    param: Array,
    grad: Array,
    m: Array,
    v: Array,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    step: int,
) -> None:
    """One AdamW update in place (Loshchilov & Hutter 2019, algorithm 2); step counts from 1. Writes param, m, v.

    param ← param − lr·weight_decay·param
    m ← β₁ m + (1 − β₁) grad;   v ← β₂ v + (1 − β₂) grad²
    param ← param − lr · m/(1 − β₁ᵗ) / (√(v/(1 − β₂ᵗ)) + eps)

    float32 and float64 only: 16 bits cannot hold the small changes. weight_decay = 0 makes it Adam (Kingma & Ba 2015,
    algorithm 1).
    """
    ...


@operation
def global_norm(arrays: Sequence[Array]) -> float:
    """The Euclidean norm of all elements of all arrays together, accumulated in float64. No arrays: 0.0."""
    ...
