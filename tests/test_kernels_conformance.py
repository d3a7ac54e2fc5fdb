"""Every implementation that runs here against formulas written a second time, in float64, with explicit loops where
that is the clearest. Shapes are awkward on purpose: T = 1, primes, Tq ≠ Tk, masked rows, large logits, planted NaN,
non-contiguous and empty arrays. Finiteness is checked before closeness, so that a NaN cannot pass."""

from __future__ import annotations

import importlib
import math

import numpy as np
import pytest

import minilm.kernels as kernels
from minilm_kernels import registry
from minilm_kernels.philox import keep_mask, philox4x32

IMPLEMENTATIONS = [row.name for row in kernels.available() if row.runs]
TOLERANCE = {np.float64: 1e-11, np.float32: 2e-5, np.float16: 4e-3}


@pytest.fixture(params=IMPLEMENTATIONS, autouse=True)
def implementation(request):
    with kernels.use(request.param):
        yield request.param


def close(got, wanted, dtype=np.float64, scale=None):
    got, wanted = np.asarray(got, dtype=np.float64), np.asarray(wanted, dtype=np.float64)
    assert got.shape == wanted.shape
    assert np.array_equal(np.isfinite(got), np.isfinite(wanted)), "finite where it should not be, or the other way"
    finite = np.isfinite(wanted)
    assert np.array_equal(got[~finite], wanted[~finite], equal_nan=True)
    size = max(1.0, float(np.max(np.abs(wanted[finite]), initial=0))) if scale is None else scale
    assert np.max(np.abs(got[finite] - wanted[finite]), initial=0) <= TOLERANCE[dtype] * size


def taken(operation, dtype=np.float64):
    """The type, if the implementation in use takes it for this operation; otherwise the test is skipped.

    An implementation without a table of types takes them all. What it does not take it refuses with a TypeError.
    """
    implementation = kernels.active()[operation]
    module = importlib.import_module(registry.IMPLEMENTATIONS[implementation].module)
    dtypes = getattr(module, "DTYPES", {}).get(operation, (np.dtype(dtype).name,))
    if np.dtype(dtype).name not in dtypes:
        pytest.skip(f"{operation} of {implementation!r} takes {', '.join(dtypes)}")
    return dtype


def widest(operation):
    """float64 where the implementation in use takes it for this operation, otherwise float32."""
    try:
        return taken(operation)
    except pytest.skip.Exception:
        return taken(operation, np.float32)


def randn(rng, *shape, dtype=np.float64):
    return rng.standard_normal(shape).astype(dtype)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


# ---------------------------------------------------------------------------------------------------- matmul

MATMULS = [
    ((1, 1), (1, 1)),
    ((5, 7), (7, 3)),
    ((31, 33), (33, 65)),
    ((2, 3, 5, 7), (2, 3, 7, 4)),
    ((2, 3, 5, 7), (7, 4)),
    ((3, 1, 5, 7), (2, 7, 4)),
    ((0, 7), (7, 3)),
    ((5, 0), (0, 3)),
    ((2, 0, 7), (7, 3)),
]


@pytest.mark.parametrize("shape_a, shape_b", MATMULS)
@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_matmul(rng, shape_a, shape_b, transpose_a, transpose_b, dtype):
    taken("matmul", dtype)
    a, b = randn(rng, *shape_a, dtype=dtype), randn(rng, *shape_b, dtype=dtype)
    wanted = np.einsum("...mk,...kn->...mn", a.astype(np.float64), b.astype(np.float64))
    if transpose_a:
        a = a.swapaxes(-1, -2)  # a non-contiguous view, stored the other way round
    if transpose_b:
        b = b.swapaxes(-1, -2)
    bias = randn(rng, shape_b[-1], dtype=dtype)
    got = kernels.matmul(a, b, transpose_a=transpose_a, transpose_b=transpose_b, bias=bias)
    assert got.dtype == dtype
    close(got, wanted + bias.astype(np.float64), dtype)


def test_matmul_takes_strided_views(rng):
    dtype = widest("matmul")
    a, b = randn(rng, 10, 12, dtype=dtype)[::2, ::-3], randn(rng, 8, 9, dtype=dtype)[1:8:2, :4]
    close(kernels.matmul(a, b), np.einsum("mk,kn->mn", a, b), dtype)


def test_matmul_lets_nan_through(rng):
    dtype = widest("matmul")
    a, b = randn(rng, 3, 4, dtype=dtype), randn(rng, 4, 5, dtype=dtype)
    a[1, 2] = np.nan
    out = kernels.matmul(a, b)
    assert np.isnan(out[1]).all() and np.isfinite(out[[0, 2]]).all()


# ------------------------------------------------------------------------------------ softmax, norms, gelu, erf

ROWS = [(1, 1), (3, 7), (2, 3, 33), (4, 1), (0, 5), (257, 64)]


@pytest.mark.parametrize("shape", ROWS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_softmax(rng, shape, dtype):
    x, dy = randn(rng, *shape, dtype=dtype) * 3, randn(rng, *shape, dtype=dtype)
    wide = np.exp(x.astype(np.float64))
    y = wide / wide.sum(-1, keepdims=True)
    close(kernels.softmax_forward(x), y, dtype)
    wanted = np.zeros(shape)
    for index in np.ndindex(shape[:-1]):
        wanted[index] = (np.diag(y[index]) - np.outer(y[index], y[index])) @ dy[index].astype(np.float64)
    close(kernels.softmax_backward(dy, y.astype(dtype)), wanted, dtype)


def test_softmax_extremes():
    y = kernels.softmax_forward(np.array([[1e4, -1e4, 1e4], [-np.inf, 0.0, -np.inf], [-np.inf] * 3, [0, np.nan, 0]]))
    close(y[:3], [[0.5, 0, 0.5], [0, 1, 0], [0, 0, 0]])
    assert np.isnan(y[3]).all()


@pytest.mark.parametrize("shape", [s for s in ROWS if s[-1] > 1])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_layer_norm_and_rms_norm(rng, shape, affine, dtype):
    x, dy = randn(rng, *shape, dtype=dtype), randn(rng, *shape, dtype=dtype)
    weight, bias = (randn(rng, shape[-1], dtype=dtype), randn(rng, shape[-1], dtype=dtype)) if affine else (None, None)
    w = np.ones(shape[-1]) if weight is None else weight.astype(np.float64)
    wide, wide_dy, n = x.astype(np.float64), dy.astype(np.float64), shape[-1]

    y, mean, rstd = kernels.layer_norm_forward(x, weight, bias, eps=1e-5)
    sigma = np.sqrt(wide.var(-1, keepdims=True) + 1e-5)
    normed = (wide - wide.mean(-1, keepdims=True)) / sigma
    close(y, normed * w + (0 if bias is None else bias), dtype)
    dx, dweight, dbias = kernels.layer_norm_backward(dy, x, weight, mean, rstd)
    wanted = np.zeros(shape)
    for index in np.ndindex(shape[:-1]):  # the Jacobian of one row, as a matrix
        jacobian = (np.eye(n) - 1 / n - np.outer(normed[index], normed[index]) / n) / sigma[index]
        wanted[index] = jacobian @ (wide_dy[index] * w)
    close(dx, wanted, dtype)
    close(dweight, (wide_dy * normed).reshape(-1, n).sum(0), dtype)
    close(dbias, wide_dy.reshape(-1, n).sum(0), dtype)

    y, rstd = kernels.rms_norm_forward(x, weight, eps=1e-6)
    root = np.sqrt((wide**2).mean(-1, keepdims=True) + 1e-6)
    close(y, wide / root * w, dtype)
    dx, dweight = kernels.rms_norm_backward(dy, x, weight, rstd)
    for index in np.ndindex(shape[:-1]):
        scaled = wide[index] / root[index]
        wanted[index] = (np.eye(n) - np.outer(scaled, scaled) / n) / root[index] @ (wide_dy[index] * w)
    close(dx, wanted, dtype)
    close(dweight, (wide_dy * wide / root).reshape(-1, n).sum(0), dtype)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_erf_and_gelu(dtype):
    x = np.concatenate([np.linspace(-9, 9, 2003), [0.0, 1e4, -1e4]]).astype(dtype)
    exact = np.array([math.erf(float(t)) for t in x])
    assert np.max(np.abs(kernels.erf(x) - exact)) < (1e-15 if dtype == np.float64 else 6e-7)
    cdf = np.array([0.5 * math.erfc(-float(t) / math.sqrt(2)) for t in x])
    density = np.exp(-0.5 * x.astype(np.float64) ** 2) / math.sqrt(2 * math.pi)
    close(kernels.gelu_forward(x, approximate="none"), x * cdf, dtype, scale=1e4 if dtype == np.float32 else 1)
    close(kernels.gelu_backward(np.ones_like(x), x, approximate="none"), cdf + x * density, dtype)
    inner = [math.tanh(math.sqrt(2 / math.pi) * (t + 0.044715 * t**3)) for t in x.astype(np.float64)]
    close(kernels.gelu_forward(x, approximate="tanh"), 0.5 * x * (1 + np.array(inner)), dtype, scale=1)
    step = 1e-5
    wide = x[:-2].astype(np.float64)
    slope = (
        kernels.gelu_forward(wide + step, approximate="tanh") - kernels.gelu_forward(wide - step, approximate="tanh")
    ) / (2 * step)
    assert np.max(np.abs(kernels.gelu_backward(np.ones_like(x[:-2]), x[:-2], approximate="tanh") - slope)) < (
        1e-9 if dtype == np.float64 else 2e-6
    )
    assert np.isnan(kernels.gelu_forward(np.array([np.nan], dtype=dtype), approximate="none")).all()
    with pytest.raises(ValueError, match="'none' .* or 'tanh'"):
        kernels.gelu_forward(x, approximate="fast")


# ------------------------------------------------------------------------------------------------ cross-entropy


@pytest.mark.parametrize("n, classes", [(1, 1), (1, 2), (7, 5), (64, 257), (0, 5)])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_cross_entropy(rng, n, classes, smoothing, dtype):
    logits = randn(rng, n, classes, dtype=dtype) * 4
    targets = rng.integers(0, classes, n)
    targets[::3] = -100
    kept = logits.copy()
    losses, dlogits = kernels.cross_entropy(logits, targets, label_smoothing=smoothing)
    assert np.array_equal(logits, kept), "the input was written to"
    wide = logits.astype(np.float64)
    log_p = wide - np.log(np.exp(wide).sum(-1, keepdims=True))
    goal = (1 - smoothing) * np.eye(classes)[np.where(targets < 0, 0, targets)] + smoothing / classes
    counted = (targets != -100)[:, None]
    close(losses, (-(goal * log_p) * counted).sum(-1), dtype)
    close(dlogits, (np.exp(log_p) - goal) * counted, dtype)
    assert kernels.cross_entropy(logits, targets, label_smoothing=smoothing, need_grad=False)[1] is None


def test_cross_entropy_survives_large_logits_and_shows_nan():
    logits = np.array([[1e4, -1e4, 0.0], [0.0, np.nan, 1.0]])
    losses, dlogits = kernels.cross_entropy(logits, np.array([1, 0]))
    assert losses[0] == 2e4 and np.isnan(losses[1]) and np.isnan(dlogits[1]).all()
    close(dlogits[0], [1, -1, 0])


# ---------------------------------------------------------------------------- embedding, AdamW, the global norm


@pytest.mark.parametrize("shape", [(1,), (7,), (3, 5), (0,), (2, 0, 3)])
@pytest.mark.parametrize("width", [1, 6])
def test_embedding_backward(rng, shape, width):
    ids, dout = rng.integers(0, 4, shape), randn(rng, *shape, width)  # few rows, so that ids repeat
    wanted = np.zeros((9, width))
    for index in np.ndindex(shape):
        wanted[ids[index]] += dout[index]
    close(kernels.embedding_backward(dout, ids, 9), wanted)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adamw_follows_the_paper_number_by_number(rng, weight_decay):
    param, m, v = randn(rng, 5), np.zeros(5), np.zeros(5)
    theta, first, second = param.tolist(), [0.0] * 5, [0.0] * 5
    for step in range(1, 6):
        grad = randn(rng, 5)
        kernels.adamw(param, grad, m, v, lr=0.01, beta1=0.9, beta2=0.99, eps=1e-8, weight_decay=weight_decay, step=step)
        for i, g in enumerate(grad):
            first[i] = 0.9 * first[i] + 0.1 * g
            second[i] = 0.99 * second[i] + 0.01 * g * g
            ratio = first[i] / (1 - 0.9**step) / (math.sqrt(second[i] / (1 - 0.99**step)) + 1e-8)
            theta[i] -= 0.01 * weight_decay * theta[i] + 0.01 * ratio
    close(param, theta)
    close(m, first)
    close(v, second)


def test_global_norm(rng):
    arrays = [randn(rng, 3, 4), randn(rng, 0), randn(rng, 2, 3, dtype=np.float32).T, np.array(2.0)]
    wanted = math.sqrt(math.fsum(float(x) ** 2 for a in arrays for x in a.ravel()))
    assert kernels.global_norm(arrays) == pytest.approx(wanted, rel=1e-7)
    assert kernels.global_norm([]) == 0.0
    assert math.isnan(kernels.global_norm([np.array([np.nan, 1.0])]))


# ---------------------------------------------------------------------------------------------------- attention


def attention_by_loops(q, k, v, *, causal=False, key_padding_mask=None, bias=None, scale=None, keep=None, p=0.0):
    """softmax(Q Kᵀ·scale + bias) V, one query at a time: (out, lse)."""
    b, heads, tq, d = q.shape
    tk, group = k.shape[2], heads // k.shape[1]
    scale = 1 / math.sqrt(d) if scale is None else scale
    bias = np.zeros((1, 1, 1, 1)) if bias is None else bias
    bias = np.broadcast_to(bias, (b, heads, tq, tk))
    out, lse = np.zeros((b, heads, tq, v.shape[-1])), np.full((b, heads, tq), -np.inf)
    for n, h, i in np.ndindex(b, heads, tq):
        seen = [
            j
            for j in range(tk)
            if (not causal or j <= i + tk - tq)
            and (key_padding_mask is None or key_padding_mask[n, j])
            and bias[n, h, i, j] > -np.inf
        ]
        if not seen:
            continue
        scores = np.array([q[n, h, i] @ k[n, h // group, j] * scale + bias[n, h, i, j] for j in seen])
        top = scores.max()
        weights = np.exp(scores - top)
        lse[n, h, i] = top + np.log(weights.sum())
        weights /= weights.sum()
        if keep is not None:
            weights = weights * keep[n * heads + h, i, seen] / (1 - p)
        out[n, h, i] = weights @ v[n, h // group, seen]
    return out, lse


CASES = {
    "one position": dict(shape=(1, 1, 1, 1, 1, 1, 1)),
    "plain": dict(shape=(2, 3, 3, 5, 5, 4, 4)),
    "causal": dict(shape=(2, 2, 2, 7, 7, 4, 4), causal=True),
    "causal, a cache of 6": dict(shape=(1, 2, 2, 3, 9, 4, 4), causal=True),
    "causal, more queries than keys": dict(shape=(1, 2, 2, 9, 3, 4, 4), causal=True),
    "one query": dict(shape=(2, 2, 2, 1, 13, 8, 8), causal=True),
    "grouped heads": dict(shape=(2, 6, 2, 5, 7, 4, 4)),
    "grouped heads, causal": dict(shape=(2, 4, 1, 17, 17, 3, 3), causal=True),
    "other value width": dict(shape=(2, 2, 2, 5, 6, 4, 9)),
    "padding": dict(shape=(3, 2, 2, 5, 6, 4, 4), padding=True),
    "padding, causal": dict(shape=(3, 2, 2, 6, 6, 4, 4), padding=True, causal=True),
    "bias": dict(shape=(2, 2, 2, 5, 6, 4, 4), bias=(2, 2, 5, 6)),
    "bias per head": dict(shape=(2, 3, 3, 5, 6, 4, 4), bias=(1, 3, 1, 6)),
    "bias with holes and masked rows": dict(shape=(2, 2, 2, 5, 6, 4, 4), bias=(1, 1, 5, 6), holes=True),
    "scale": dict(shape=(1, 2, 2, 5, 5, 4, 4), scale=0.3),
    "tile + 1": dict(shape=(1, 1, 1, 65, 65, 8, 8), causal=True),
    "prime": dict(shape=(1, 1, 1, 37, 31, 5, 5)),
    "no batch": dict(shape=(0, 2, 2, 5, 5, 4, 4)),
    "no queries": dict(shape=(2, 2, 2, 0, 5, 4, 4)),
    "no keys": dict(shape=(2, 2, 2, 5, 0, 4, 4)),
    "dropout": dict(shape=(2, 2, 2, 5, 7, 4, 4), dropout=0.4),
    "dropout, causal, grouped": dict(shape=(2, 4, 2, 6, 6, 4, 4), dropout=0.2, causal=True),
}


def make(rng, dtype, shape, causal=False, padding=False, bias=None, holes=False, scale=None, dropout=0.0):
    b, heads, kv_heads, tq, tk, d, dv = shape
    q, k, v = (randn(rng, *s, dtype=dtype) for s in ((b, heads, tq, d), (b, kv_heads, tk, d), (b, kv_heads, tk, dv)))
    options = dict(causal=causal, scale=scale)
    if padding:
        mask = np.arange(tk) < np.array([tk, tk - 2, 0])[:b, None]  # the last row has no real key at all
        options["key_padding_mask"] = mask
    if bias is not None:
        options["bias"] = randn(rng, *bias, dtype=dtype)
        if holes:
            options["bias"][..., 1, :] = -np.inf
            options["bias"][..., 3, ::2] = -np.inf
    return q, k, v, options


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_attention_forward(rng, name, dtype):
    case = CASES[name]
    q, k, v, options = make(rng, dtype, **case)
    p = case.get("dropout", 0.0)
    extra = dict(dropout_p=p, seed=2**40 + 3) if p else {}
    keep = keep_mask(q.shape[0] * q.shape[1], q.shape[2], k.shape[2], p, 2**40 + 3) if p else None
    out, lse = kernels.attention_forward(q, k, v, **options, **extra)
    wide = [a.astype(np.float64) for a in (q, k, v)]
    wanted, wanted_lse = attention_by_loops(*wide, **options, keep=keep, p=p)
    assert out.dtype == dtype
    close(out, wanted, dtype)
    close(lse, wanted_lse, dtype)


@pytest.mark.parametrize("name", CASES)
def test_attention_backward_is_the_derivative_of_forward(rng, name):
    """A random direction in every input at once: ⟨dout, Jacobian · direction⟩ by central differences."""
    case = CASES[name]
    q, k, v, options = make(rng, np.float64, **case)
    p = case.get("dropout", 0.0)
    extra = dict(dropout_p=p, seed=11) if p else {}
    bias = options.pop("bias", None)
    out, lse = kernels.attention_forward(q, k, v, bias=bias, **options, **extra)
    dout = randn(rng, *out.shape)
    grads = kernels.attention_backward(
        dout, q, k, v, out, lse, bias=bias, need_dbias=bias is not None, **options, **extra
    )
    assert (grads[3] is None) == (bias is None)
    inputs = [q, k, v] + ([bias] if bias is not None else [])
    step = 1e-6
    for which, (x, g) in enumerate(zip(inputs, grads, strict=False)):
        assert g.shape == x.shape and np.isfinite(g).all()
        direction = randn(rng, *x.shape)

        def moved(sign, which=which, x=x, direction=direction):
            changed = list(inputs)
            changed[which] = x + sign * step * direction
            b = changed[3] if bias is not None else None
            return kernels.attention_forward(*changed[:3], bias=b, **options, **extra)[0]

        numeric = np.sum(dout * (moved(1) - moved(-1))) / (2 * step)
        analytic = np.sum(g * direction)
        assert abs(numeric - analytic) <= 1e-7 * max(1.0, abs(numeric)), (name, which)


def test_attention_of_large_scores_stays_finite(rng):
    q, k, v = randn(rng, 1, 1, 5, 4) * 1e4, randn(rng, 1, 1, 5, 4), randn(rng, 1, 1, 5, 4)
    out, lse = kernels.attention_forward(q, k, v)
    close(out, attention_by_loops(q, k, v)[0])
    for g in kernels.attention_backward(out, q, k, v, out, lse)[:3]:
        assert np.isfinite(g).all()


def test_a_planted_nan_reaches_the_rows_that_see_it(rng):
    q, k, v = randn(rng, 1, 1, 5, 4), randn(rng, 1, 1, 5, 4), randn(rng, 1, 1, 5, 4)
    q[0, 0, 2, 1] = np.nan
    out, lse = kernels.attention_forward(q, k, v, causal=True)
    assert np.isnan(out[0, 0, 2]).all() and np.isnan(lse[0, 0, 2])
    assert np.isfinite(out[0, 0, [0, 1, 3, 4]]).all()


def test_attention_takes_transposed_views(rng):
    packed = randn(rng, 2, 5, 3, 3, 4)  # (B, T, three, H, d), as one product for Q, K and V leaves them
    q, k, v = (packed[:, :, i].transpose(0, 2, 1, 3) for i in range(3))
    out, lse = kernels.attention_forward(q, k, v, causal=True)
    close(out, attention_by_loops(q, k, v, causal=True)[0])
    grads = kernels.attention_backward(out, q, k, v, out, lse, causal=True)
    copies = [np.ascontiguousarray(a) for a in (q, k, v)]
    for got, wanted in zip(grads[:3], kernels.attention_backward(out, *copies, out, lse, causal=True)[:3], strict=True):
        close(got, wanted)


def test_attention_refuses_what_does_not_fit(rng):
    q, k = randn(rng, 1, 3, 5, 4), randn(rng, 1, 2, 5, 4)
    with pytest.raises(ValueError, match="3 query heads cannot be shared out over 2 key heads"):
        kernels.attention_forward(q, k, k)
    with pytest.raises(ValueError, match="do not fit"):
        kernels.attention_forward(q, randn(rng, 1, 3, 5, 6), randn(rng, 1, 3, 5, 6))


# ------------------------------------------------------------------------------------------------------- philox


def test_philox_known_answers():
    """The vectors that the authors' Random123 library publishes (kat_vectors, philox4x32 10)."""
    zero = philox4x32((0, 0, 0, 0), (0, 0))
    ones = philox4x32((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2)
    assert [int(w) for w in zero] == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert [int(w) for w in ones] == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]


def test_keep_mask_depends_on_the_place_alone():
    whole = keep_mask(6, 9, 21, 0.3, seed=5)
    assert np.array_equal(keep_mask(2, 4, 10, 0.3, seed=5), whole[:2, :4, :10])
    assert not np.array_equal(keep_mask(6, 9, 21, 0.3, seed=6), whole)
    share = keep_mask(8, 64, 64, 0.3, seed=1).mean()
    assert abs(share - 0.7) < 4 * math.sqrt(0.3 * 0.7 / (8 * 64 * 64))  # four standard deviations


# ------------------------------------------------------------------------------------------ types and odd shapes


def test_attention_computes_mixed_types_in_the_wider_one(rng):
    q, k, v = randn(rng, 1, 2, 5, 4, dtype=np.float32), randn(rng, 1, 2, 5, 4), randn(rng, 1, 2, 5, 4)
    out, lse = kernels.attention_forward(q, k, v)
    close(out, attention_by_loops(q.astype(np.float64), k, v)[0], np.float32)
    for got, like in zip(kernels.attention_backward(out, q, k, v, out, lse)[:3], (q, k, v), strict=True):
        assert got.dtype == like.dtype and np.isfinite(got).all()


def test_matmul_of_many_empty_rows_is_zero(rng):
    a, b = randn(rng, 2, 3, 0, dtype=np.float32), randn(rng, 0, 4, dtype=np.float32)
    close(kernels.matmul(a, b), np.zeros((2, 3, 4)))


@pytest.mark.parametrize("function", ["erf", "gelu_forward"])
def test_a_single_number_keeps_its_shape(function):
    assert getattr(kernels, function)(np.array(0.5)).shape == ()


def test_global_norm_of_what_overflows_when_squared():
    assert kernels.global_norm([np.full(4, 1e20, np.float32)]) == pytest.approx(2e20)


def test_adamw_refuses_sixteen_bits():
    half = [np.ones(3, np.float16) for _ in range(4)]
    with pytest.raises(TypeError, match="float32 copy"):
        kernels.adamw(*half, lr=0.1, beta1=0.9, beta2=0.9, eps=1e-8, weight_decay=0.0, step=1)
