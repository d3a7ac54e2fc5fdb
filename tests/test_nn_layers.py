"""Linear, norms, embeddings, activations, dropout, positions, losses: values, shapes, gradients, errors."""

from __future__ import annotations

import math

import numpy as np
import pytest

import minilm.random
from minilm import nn
from minilm.gradcheck import gradcheck, gradcheck_module
from minilm.nn import functional as F
from minilm.tensor import Tensor


@pytest.fixture(autouse=True)
def _seeded() -> None:
    minilm.random.seed(0)


def randn(*shape: int) -> Tensor:
    return Tensor(np.random.default_rng(len(shape)).standard_normal(shape), requires_grad=True)


# ---- linear ------------------------------------------------------------------------------------------------------


def test_linear_is_its_formula() -> None:
    layer = nn.Linear(3, 2).double()
    x = randn(4, 5, 3)
    assert np.allclose(layer(x).numpy(), x.numpy() @ layer.weight.numpy().T + layer.bias.numpy(), atol=1e-15)
    assert layer.weight.shape == (2, 3) and layer.bias.shape == (2,)
    no_bias = nn.Linear(3, 2, bias=False)
    assert no_bias.bias is None and list(no_bias.state_dict()) == ["weight"]


@pytest.mark.parametrize("shape", [(3,), (4, 3), (2, 4, 3), (0, 3), (1, 1, 1, 3)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_gradients(shape: tuple[int, ...], bias: bool) -> None:
    gradcheck_module(nn.Linear(3, 2, bias=bias).double(), (randn(*shape),))


def test_linear_default_initialisation_is_within_its_bound() -> None:
    layer = nn.Linear(400, 300)
    bound = 1 / math.sqrt(400)
    for values in (layer.weight.numpy(), layer.bias.numpy()):
        assert np.abs(values).max() <= bound and np.abs(values).max() > 0.95 * bound
    assert layer.weight.numpy().std() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    with pytest.raises(ValueError, match="at least 1"):
        nn.Linear(0, 3)


def test_dtype_argument() -> None:
    for layer in (
        nn.Linear(2, 2, dtype=np.float64),
        nn.LayerNorm(2, dtype=np.float64),
        nn.Embedding(2, 2, dtype=np.float64),
    ):
        assert all(p.dtype == np.float64 for p in layer.parameters())
    assert all(p.dtype == np.float32 for p in nn.TransformerBlock(4, 2).parameters())
    block = nn.TransformerBlock(4, 2, activation="swiglu", norm="rms", dtype=np.float64)
    assert all(p.dtype == np.float64 for p in block.parameters())


# ---- norms -------------------------------------------------------------------------------------------------------


def test_layer_norm_is_its_formula() -> None:
    layer = nn.LayerNorm(5).double()
    layer.weight.data[...] = np.arange(5.0)
    layer.bias.data[...] = 0.5
    x = randn(3, 5)
    a = x.numpy()
    expected = (a - a.mean(-1, keepdims=True)) / np.sqrt(a.var(-1, keepdims=True) + 1e-5) * np.arange(5) + 0.5
    assert np.allclose(layer(x).numpy(), expected, atol=1e-14)


def test_rms_norm_is_its_formula() -> None:
    layer = nn.RMSNorm(5).double()
    layer.weight.data[...] = np.arange(5.0)
    x = randn(3, 5)
    a = x.numpy()
    expected = a / np.sqrt((a * a).mean(-1, keepdims=True) + np.finfo(np.float64).eps) * np.arange(5)
    assert np.allclose(layer(x).numpy(), expected, atol=1e-14)
    assert layer.weight.numpy().tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "layer",
    [
        nn.LayerNorm(4),
        nn.LayerNorm((3, 4)),
        nn.LayerNorm(4, bias=False),
        nn.LayerNorm(4, elementwise_affine=False),
        nn.RMSNorm(4, eps=1e-6),
        nn.RMSNorm((3, 4)),
        nn.RMSNorm(4, elementwise_affine=False),
    ],
    ids=repr,
)
def test_norm_gradients(layer: nn.Module) -> None:
    gradcheck_module(layer.double(), (randn(2, 3, 4),))


def test_norm_parameters_and_errors() -> None:
    assert [n for n, _ in nn.LayerNorm(4).named_parameters()] == ["weight", "bias"]
    assert [n for n, _ in nn.LayerNorm(4, bias=False).named_parameters()] == ["weight"]
    assert list(nn.LayerNorm(4, elementwise_affine=False).parameters()) == []
    assert nn.LayerNorm(4).weight.numpy().tolist() == [1] * 4 and nn.LayerNorm(4).bias.numpy().tolist() == [0] * 4
    with pytest.raises(ValueError, match="normalized_shape"):
        nn.LayerNorm(())
    with pytest.raises(ValueError, match="shape"):
        nn.LayerNorm(4)(randn(2, 5))
    with pytest.raises(ValueError, match="shape"):
        nn.RMSNorm(4)(randn(2, 5))


# ---- embedding ---------------------------------------------------------------------------------------------------


def test_embedding_looks_up_and_adds_gradients_of_repeated_ids() -> None:
    table = nn.Embedding(5, 3).double()
    ids = Tensor(np.array([[1, 4], [1, 1]]))
    out = table(ids)
    assert np.array_equal(out.numpy(), table.weight.numpy()[ids.numpy()])
    out.sum().backward()
    assert table.weight.grad.numpy()[:, 0].tolist() == [0, 3, 0, 0, 1]


@pytest.mark.parametrize("padding_idx", [0, 4, -1])
def test_padding_row_starts_at_zero_and_gets_no_gradient(padding_idx: int) -> None:
    table = nn.Embedding(5, 3, padding_idx=padding_idx)
    row = padding_idx % 5
    assert table.padding_idx == row and not table.weight.numpy()[row].any()
    assert table.weight.numpy().any(axis=1).sum() == 4
    table(Tensor(np.array([row, 1, row, 2]))).sum().backward()
    assert [bool(r.any()) for r in table.weight.grad.numpy()] == [i in (1, 2) for i in range(5)]


def test_embedding_errors() -> None:
    with pytest.raises(ValueError, match="padding_idx"):
        nn.Embedding(5, 3, padding_idx=5)
    with pytest.raises(ValueError, match="at least one row"):
        nn.Embedding(0, 3)
    for bad in (5, -1):
        with pytest.raises((IndexError, ValueError), match=str(bad)):
            nn.Embedding(5, 3)(Tensor(np.array([0, bad])))


# ---- activations, dropout ----------------------------------------------------------------------------------------


def test_activations_are_their_formulas() -> None:
    x = randn(3, 7)
    a = x.numpy()
    phi = np.vectorize(math.erf)(a / math.sqrt(2))
    expected = {
        nn.ReLU(): np.maximum(a, 0),
        nn.GELU(): a / 2 * (1 + phi),
        nn.GELU(approximate="tanh"): a / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (a + 0.044715 * a**3))),
        nn.SiLU(): a / (1 + np.exp(-a)),
        nn.Tanh(): np.tanh(a),
    }
    for module, value in expected.items():
        assert np.allclose(module(x).numpy(), value, atol=1e-14), module
        gradcheck_module(module, (x,))


def test_activation_names() -> None:
    x = randn(4)
    assert np.array_equal(nn.get_activation("gelu_new")(x).numpy(), F.gelu(x, approximate="tanh").numpy())
    assert np.array_equal(nn.get_activation("swish")(x).numpy(), F.silu(x).numpy())
    assert nn.get_activation(F.tanh) is F.tanh
    with pytest.raises(ValueError, match="unknown activation 'glu'"):
        nn.get_activation("glu")
    with pytest.raises(ValueError, match="approximate"):
        nn.GELU("erf")


def test_dropout_drops_scales_and_repeats_with_the_seed() -> None:
    layer = nn.Dropout(0.25)
    x = Tensor(np.ones((200, 200), np.float32), requires_grad=True)
    minilm.random.seed(1)
    y = layer(x)
    kept = y.numpy() != 0
    assert kept.mean() == pytest.approx(0.75, abs=0.01)
    assert np.allclose(y.numpy()[kept], 1 / 0.75)
    y.sum().backward()
    assert np.array_equal(x.grad.numpy(), y.numpy())
    minilm.random.seed(1)
    assert np.array_equal(layer(x).numpy(), y.numpy())
    assert not nn.Dropout(1.0)(x).numpy().any()
    assert np.array_equal(nn.Dropout(0.0)(x).numpy(), x.numpy())
    for p in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="probability"):
            nn.Dropout(p)


# ---- positions ---------------------------------------------------------------------------------------------------


def test_sinusoidal_table_is_the_formula_of_the_paper() -> None:
    table = nn.sinusoidal_table(50, 6)
    for p in (0, 1, 17, 49):
        for i in range(3):
            angle = p / 10000 ** (2 * i / 6)
            assert table[p, 2 * i] == pytest.approx(math.sin(angle), abs=1e-15)
            assert table[p, 2 * i + 1] == pytest.approx(math.cos(angle), abs=1e-15)
    halves = nn.sinusoidal_table(50, 6, interleaved=False)
    assert np.array_equal(halves[:, :3], table[:, 0::2]) and np.array_equal(halves[:, 3:], table[:, 1::2])


@pytest.mark.parametrize(
    "make", [nn.SinusoidalPositionalEmbedding, lambda width: nn.LearnedPositionalEmbedding(300, width)]
)
def test_added_positions_take_an_offset_or_explicit_positions(make) -> None:  # noqa: ANN001
    layer = make(6).double()
    x = randn(2, 10, 6)
    whole = layer(x).numpy()
    table = (layer(Tensor(np.zeros((1, 300, 6))))).numpy()[0]
    assert np.allclose(whole - x.numpy(), table[:10], atol=1e-14)
    assert np.allclose(layer(x, offset=200).numpy() - x.numpy(), table[200:210], atol=1e-14)
    positions = np.array([[0, 0, 0, 1, 2, 3, 4, 5, 6, 7], list(range(10, 20))])
    for given in (positions, Tensor(positions)):
        assert np.allclose(layer(x, positions=given).numpy() - x.numpy(), table[positions], atol=1e-14)
    gradcheck_module(make(6).double(), (x,))


def test_learned_positions_end_and_fixed_ones_do_not() -> None:
    x = Tensor(np.zeros((1, 4, 6), np.float32))
    learned = nn.LearnedPositionalEmbedding(8, 6)
    assert learned(x, offset=4).shape == (1, 4, 6)
    with pytest.raises(ValueError, match="past the last of 8"):
        learned(x, offset=5)
    with pytest.raises(ValueError, match="past the last of 8"):
        learned(x, positions=np.array([0, 1, 2, 8]))
    assert nn.SinusoidalPositionalEmbedding(6)(x, offset=100_000).shape == (1, 4, 6)
    for layer in (learned, nn.SinusoidalPositionalEmbedding(6)):
        with pytest.raises(ValueError, match="negative"):
            layer(x, offset=-1)
        with pytest.raises(ValueError, match="negative"):
            layer(x, positions=np.array([0, -1, 2, 3]))
        with pytest.raises(ValueError, match=r"shape \(4,\) or \(1, 4\)"):
            layer(x, positions=np.array([0, 1]))


@pytest.mark.parametrize("interleaved", [False, True])
def test_rotary_turns_each_pair_by_its_angle(interleaved: bool) -> None:
    layer = nn.RotaryEmbedding(6, interleaved=interleaved)
    x = randn(2, 3, 5, 6)
    a, y = x.numpy(), layer(x, offset=11).numpy()
    for t in range(5):
        for i in range(3):
            angle = (11 + t) * 10000 ** (-2 * i / 6)
            first, second = (2 * i, 2 * i + 1) if interleaved else (i, i + 3)
            p, q = a[:, :, t, first], a[:, :, t, second]
            assert np.allclose(y[:, :, t, first], p * math.cos(angle) - q * math.sin(angle), atol=1e-14)
            assert np.allclose(y[:, :, t, second], p * math.sin(angle) + q * math.cos(angle), atol=1e-14)


@pytest.mark.parametrize("interleaved", [False, True])
def test_rotary_scores_depend_on_the_distance_only(interleaved: bool) -> None:
    layer = nn.RotaryEmbedding(8, interleaved=interleaved)
    q, k = randn(1, 1, 4, 8), randn(1, 1, 4, 8) * 0.5 + 1.0
    here = layer(q, 3).numpy() @ layer(k, 5).numpy().swapaxes(-1, -2)
    there = layer(q, 103).numpy() @ layer(k, 105).numpy().swapaxes(-1, -2)
    other = layer(q, 103).numpy() @ layer(k, 106).numpy().swapaxes(-1, -2)
    assert np.allclose(here, there, atol=1e-12)
    assert not np.allclose(here, other, atol=1e-3)
    lengths = (np.linalg.norm(layer(q, 9).numpy(), axis=-1), np.linalg.norm(q.numpy(), axis=-1))
    assert np.allclose(*lengths, atol=1e-14)


@pytest.mark.parametrize("interleaved", [False, True])
def test_rotary_gradients_and_explicit_positions(interleaved: bool) -> None:
    layer = nn.RotaryEmbedding(4, interleaved=interleaved)
    x = randn(2, 2, 3, 4)
    gradcheck(lambda x: layer(x, offset=7), (x,))
    positions = np.array([[5, 6, 7], [0, 100, 2]])
    gradcheck(lambda x: layer(x, positions=positions), (x,))
    y = layer(x, positions=positions).numpy()
    assert np.allclose(y[0], layer(x, offset=5).numpy()[0], atol=1e-15)
    assert np.allclose(y[1, :, 1], layer(x, offset=99).numpy()[1, :, 1], atol=1e-15)
    assert np.allclose(layer(x, positions=np.array([5, 6, 7])).numpy(), layer(x, offset=5).numpy(), atol=1e-15)


def test_rotary_keeps_dtype_and_float64_precision() -> None:
    layer = nn.RotaryEmbedding(4)
    x32 = Tensor(np.ones((1, 1, 2, 4), np.float32))
    assert layer(x32).dtype == np.float32
    x64 = Tensor(np.ones((1, 1, 2, 4)))
    assert layer(x64, offset=5000).numpy()[0, 0, 0, 0] == pytest.approx(math.cos(5000) - math.sin(5000), abs=1e-12)


def test_position_errors() -> None:
    for make in (nn.RotaryEmbedding, nn.SinusoidalPositionalEmbedding):
        with pytest.raises(ValueError, match="even"):
            make(5)
    with pytest.raises(ValueError, match="width 4"):
        nn.RotaryEmbedding(4)(randn(1, 1, 2, 6))


# ---- feed-forward ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["gelu", "relu", "swiglu", "gelu_new", F.tanh])
@pytest.mark.parametrize("bias", [True, False])
def test_feed_forward_gradients(activation, bias: bool) -> None:  # noqa: ANN001
    gradcheck_module(nn.FeedForward(4, 6, activation, bias=bias).double(), (randn(2, 3, 4),))


def test_feed_forward_is_its_formula() -> None:
    x = randn(2, 3, 4)
    plain = nn.FeedForward(4, 6, "relu").double()
    hidden = np.maximum(x.numpy() @ plain.linear1.weight.numpy().T + plain.linear1.bias.numpy(), 0)
    assert np.allclose(
        plain(x).numpy(), hidden @ plain.linear2.weight.numpy().T + plain.linear2.bias.numpy(), atol=1e-14
    )
    gated = nn.FeedForward(4, 6, "swiglu", bias=False).double()
    gate = x.numpy() @ gated.gate.weight.numpy().T
    hidden = gate / (1 + np.exp(-gate)) * (x.numpy() @ gated.linear1.weight.numpy().T)
    assert np.allclose(gated(x).numpy(), hidden @ gated.linear2.weight.numpy().T, atol=1e-14)


def test_feed_forward_default_widths_cost_about_the_same() -> None:
    assert nn.FeedForward(96).linear1.out_features == 384
    assert nn.FeedForward(96, activation="swiglu").linear1.out_features == 256
    plain, gated = nn.FeedForward(96, bias=False), nn.FeedForward(96, activation="swiglu", bias=False)
    assert plain.num_parameters() == gated.num_parameters()
    assert nn.FeedForward(100, activation="swiglu").linear1.out_features == 272  # 266.7 rounded up to 8


# ---- losses ------------------------------------------------------------------------------------------------------


def test_cross_entropy_by_hand() -> None:
    logits = np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0], [5.0, 1.0, 1.0]])
    target = np.array([2, 0, -100])
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    nll = np.array([-log_p[0, 2], -log_p[1, 0], 0.0])
    z, y = Tensor(logits), Tensor(target)
    assert nn.CrossEntropyLoss()(z, y).item() == pytest.approx(nll.sum() / 2, abs=1e-14)
    assert nn.CrossEntropyLoss(reduction="sum")(z, y).item() == pytest.approx(nll.sum(), abs=1e-14)
    assert np.allclose(nn.CrossEntropyLoss(reduction="none")(z, y).numpy(), nll, atol=1e-14)
    smoothed = 0.9 * nll[:2] + 0.1 * -log_p[:2].mean(-1)
    assert nn.CrossEntropyLoss(label_smoothing=0.1)(z, y).item() == pytest.approx(smoothed.mean(), abs=1e-14)
    last = nn.CrossEntropyLoss(ignore_index=2, reduction="sum")(z, Tensor(np.array([2, 0, 2])))
    assert last.item() == pytest.approx(nll[1], abs=1e-14)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.3])
def test_loss_gradients(reduction: str, label_smoothing: float) -> None:
    target = Tensor(np.array([0, 3, -100, 2]))
    loss = nn.CrossEntropyLoss(reduction=reduction, label_smoothing=label_smoothing)
    gradcheck(lambda z: loss(z, target), (randn(4, 5),))
    gradcheck(nn.MSELoss(reduction), (randn(4, 5), Tensor(np.ones((4, 5)), requires_grad=True)))


def test_mse_loss_by_hand_and_errors() -> None:
    x, y = Tensor(np.array([1.0, 2.0])), Tensor(np.array([3.0, 5.0]))
    assert nn.MSELoss()(x, y).item() == 6.5
    assert nn.MSELoss("sum")(x, y).item() == 13.0
    assert nn.MSELoss("none")(x, y).tolist() == [4.0, 9.0]
    with pytest.raises(ValueError, match="shape"):
        nn.MSELoss()(x, Tensor(np.ones((2, 1))))
    for loss in (nn.MSELoss, nn.CrossEntropyLoss):
        with pytest.raises(ValueError, match="reduction"):
            loss(reduction="average")
    with pytest.raises(ValueError, match="reduction"):
        F.mse_loss(x, y, reduction="average")
    with pytest.raises(ValueError, match="label_smoothing"):
        nn.CrossEntropyLoss(label_smoothing=1.5)
