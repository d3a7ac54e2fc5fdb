"""Values and gradients of every case of the table against PyTorch in float64, within 1e-10."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
F = torch.nn.functional

from minilm import Tensor  # noqa: E402
from minilm.gradcheck.cases import Operations, all_cases  # noqa: E402

DRAWS = {"dropout: while training", "scaled_dot_product_attention: with dropout"}  # with a generator of its own
CASES = [case for case in all_cases() if case.title not in DRAWS]


class TorchOperations:
    """PyTorch's functions under the names of minilm.ops; most are the same names."""

    def __getattr__(self, name):
        return getattr(F, name, None) or getattr(torch, name)

    @staticmethod
    def tensor(data):
        return torch.from_numpy(np.array(data))

    @staticmethod
    def affine(x, weight, bias=None):
        return x @ weight if bias is None else x @ weight + bias

    @staticmethod
    def scatter_add(x, dim, index, src):
        """PyTorch's gradient of it needs a source of the size of the index."""
        return x.scatter_add(dim, index, src[tuple(slice(n) for n in index.shape)])

    @staticmethod
    def cast_anyway(x):
        return x.clone()

    stay_here = cast_anyway

    @staticmethod
    def scaled_dot_product_attention(
        query, key, value, attn_mask=None, is_causal=False, key_padding_mask=None, scale=None, enable_gqa=False
    ):
        """PyTorch aligns its causal mask top-left and knows no padding mask: it is given one explicit mask instead."""
        tq, tk = query.shape[-2], key.shape[-2]
        bias = torch.zeros(tq, tk, dtype=query.dtype)
        if attn_mask is not None:
            bias = bias.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else bias + attn_mask
        if is_causal:
            bias = bias.masked_fill(torch.ones(tq, tk, dtype=torch.bool).triu(1 + tk - tq), -torch.inf)
        if key_padding_mask is not None:
            bias = bias.masked_fill(~key_padding_mask[:, None, None, :], -torch.inf)
        if bias.ndim > 2:
            bias = bias.expand(*query.shape[:-1], tk)
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            return F.scaled_dot_product_attention(query, key, value, bias, scale=scale, enable_gqa=enable_gqa)


def run(case, make, operations, array):
    """Values and gradients as NumPy arrays; a gradient that nobody asked for counts as zeros."""
    random = np.random.default_rng(11)
    leaves = [make(points.draw(random)) for points in case.inputs]
    returned = case.function(operations)(*leaves)
    outputs = list(returned) if isinstance(returned, (tuple, list)) else [returned]
    for out in outputs:
        if out.requires_grad:
            out.backward(make(random.standard_normal(tuple(out.shape))), retain_graph=True)
    gradients = [array(x.grad) if x.grad is not None else np.zeros(tuple(x.shape)) for x in leaves]
    return [array(out) for out in outputs], gradients


def assert_close(found, expected, what):
    assert found.shape == expected.shape and found.dtype == expected.dtype, what
    assert np.isfinite(found).all() and np.isfinite(expected).all(), what
    scale = np.abs(expected).max(initial=1e-4)  # where the exact answer is zero, either side may round to 1e-15
    error = np.abs(found - expected).max(initial=0)
    assert error <= 1e-10 * scale, f"{what}: relative error {error / scale:.1e}"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_values_and_gradients(case):
    ours, our_gradients = run(case, lambda a: Tensor(a, requires_grad=True), Operations(), lambda t: t.numpy())
    theirs, their_gradients = run(
        case, lambda a: torch.tensor(a, requires_grad=True), TorchOperations(), lambda t: t.detach().numpy()
    )
    for i, (found, expected) in enumerate(zip(ours, theirs, strict=True)):
        assert_close(found, expected, f"output {i}")
    for i, (found, expected) in enumerate(zip(our_gradients, their_gradients, strict=True)):
        assert_close(found, expected, f"gradient of input {i}")


EDGES = {
    "relu at 0": (lambda o, x: x.relu(), [0.0, -0.0, 1.0]),
    "abs at 0": (lambda o, x: x.abs(), [0.0, -0.0, -1.0]),
    "clip on its bounds": (lambda o, x: x.clip(-1.0, 1.0), [-1.0, 1.0, 1.5, -2.0]),
    "ties of amax": (lambda o, x: x.amax(dim=0), [2.0, 2.0, 1.0]),
    "ties of max": (lambda o, x: x.max(), [2.0, 2.0, 1.0]),
    "ties of max along an axis": (lambda o, x: x.max(dim=0).values, [2.0, 2.0, 1.0]),
    "ties of maximum": (lambda o, x: o.maximum(x, o.tensor(np.array([1.0, 1.0]))), [1.0, 2.0]),
    "infinite ties of maximum": (lambda o, x: o.maximum(x, o.tensor(np.array([np.inf, -np.inf]))), [np.inf, -np.inf]),
    "square of 0": (lambda o, x: x**2, [0.0, -0.0]),
    "power 0 of 0": (lambda o, x: x**0, [0.0, 2.0]),
    "power 1 of 0": (lambda o, x: x**1, [0.0, 2.0]),
    "root of 0": (lambda o, x: x**0.5, [0.0, 4.0]),
    "sqrt of 0": (lambda o, x: x.sqrt(), [0.0, 4.0]),
    "0 to a power": (lambda o, x: o.tensor(np.array([0.0, 0.0, 2.0])) ** x, [2.0, 0.0, 3.0]),
    "log of 0": (lambda o, x: x.log(), [0.0, 1.0]),
    "1/0": (lambda o, x: 1.0 / x, [0.0, 2.0]),
    "sigmoid far out": (lambda o, x: x.sigmoid(), [800.0, -800.0, 0.0]),
    "tanh far out": (lambda o, x: x.tanh(), [800.0, -800.0]),
    "gelu far out": (lambda o, x: o.gelu(x), [40.0, -40.0]),
    "gelu, tanh form, far out": (lambda o, x: o.gelu(x, approximate="tanh"), [40.0, -40.0]),
    "silu far out": (lambda o, x: o.silu(x), [800.0, -800.0]),
    "softmax with -inf": (lambda o, x: x.softmax(dim=0), [-np.inf, 1.0, 2.0]),
    "softmax of huge numbers": (lambda o, x: x.softmax(dim=0), [1e4, 1e4 + 1.0, -1e4]),
    "log_softmax of huge numbers": (lambda o, x: x.log_softmax(dim=0), [1e4, 1e4 + 1.0, -1e4]),
    "logsumexp with -inf": (lambda o, x: x.logsumexp(dim=0), [-np.inf, 1.0, 2.0]),
    "logsumexp with inf": (lambda o, x: x.logsumexp(dim=0), [np.inf, 1.0]),
    "std of equal numbers": (lambda o, x: x.std(), [2.0, 2.0, 2.0]),
    "var of one number": (lambda o, x: x.var(), [2.0]),
    "mean of nothing": (lambda o, x: x.mean(), []),
    "sum of nothing": (lambda o, x: x.sum(), []),
    "nan in a sum": (lambda o, x: x.sum() + x.amax(dim=0), [np.nan, 1.0]),
    "cross-entropy, all ignored": (
        lambda o, x: o.cross_entropy(x.reshape(2, 2), o.tensor(np.array([-100, -100]))), [1.0, 2.0, 3.0, 4.0],
    ),
    "cross-entropy of huge logits": (
        lambda o, x: o.cross_entropy(x.reshape(2, 2), o.tensor(np.array([0, 1]))), [1e4, -1e4, 1e4, 0.0],
    ),
    "layer norm of equal numbers": (lambda o, x: o.layer_norm(x, (3,)), [2.0, 2.0, 2.0]),
    "masked fill of nan": (lambda o, x: x.masked_fill(o.tensor(np.array([True, False])), 0.0), [np.nan, 1.0]),
    "where of nan": (lambda o, x: o.where(o.tensor(np.array([True, False])), 0.0, x), [np.nan, 1.0]),
    "triu of inf": (lambda o, x: o.triu(x.reshape(2, 2)), [np.inf, 1.0, -np.inf, np.nan]),
    "tril of inf": (lambda o, x: o.tril(x.reshape(2, 2)), [np.inf, -np.inf, 1.0, np.nan]),
}  # fmt: skip


@pytest.mark.parametrize("name", EDGES)
@pytest.mark.filterwarnings("ignore")
def test_edges(name):
    """On kinks, at infinity and at NaN the choice is PyTorch's; the next test holds what differs on purpose."""
    call, numbers = EDGES[name]
    x, theirs = Tensor(np.array(numbers), requires_grad=True), torch.tensor(numbers, dtype=torch.float64)
    theirs.requires_grad_()
    with np.errstate(all="ignore"):
        ours, expected = call(Operations(), x), call(TorchOperations(), theirs)
        np.testing.assert_allclose(ours.numpy(), expected.detach().numpy(), rtol=1e-10, atol=1e-14)
        ours.backward(np.ones(ours.shape))
    expected.backward(torch.ones_like(expected))
    np.testing.assert_allclose(x.grad.numpy(), theirs.grad.numpy(), rtol=1e-10, atol=1e-14)


def test_where_nothing_may_be_seen_there_are_zeros_and_no_nan():
    """A row of -inf alone: softmax gives zeros here and NaN in PyTorch; logsumexp has gradient zero, not NaN."""
    nothing = np.full(3, -np.inf)
    for name in ("softmax", "logsumexp"):
        x, theirs = Tensor(nothing, requires_grad=True), torch.tensor(nothing, requires_grad=True)
        ours, expected = getattr(x, name)(dim=0), getattr(theirs, name)(dim=0)
        ours.backward(np.ones(ours.shape))
        expected.backward(torch.ones_like(expected))
        assert x.grad.tolist() == [0.0, 0.0, 0.0] and theirs.grad.isnan().all()
