"""Every layer against torch.nn: outputs and gradients in float64, to 1e-10 of the largest element."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from minilm import nn, ops
from minilm.nn.utils import clip_grad_norm_
from minilm.tensor import Tensor

torch = pytest.importorskip("torch")

TOLERANCE = 1e-10


def close(ours: Any, theirs: Any, what: str) -> None:
    a, b = np.asarray(ours), theirs.detach().numpy()
    assert a.shape == b.shape, what
    assert np.isfinite(a).all() and np.isfinite(b).all(), what
    scale = max(np.abs(b).max(initial=0.0), 1e-300)
    assert np.abs(a - b).max(initial=0.0) <= TOLERANCE * scale, what


def randn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def compare(
    ours: nn.Module, theirs: Any, inputs: list[np.ndarray], our_call: Callable[..., Any], their_call: Callable[..., Any]
) -> None:
    """Copy the weights (drawn anew, so that no bias is 0), run both, and compare output and all gradients."""
    ours.double()
    theirs.double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for param in theirs.parameters():
            param.copy_(torch.randn(param.shape, generator=generator, dtype=torch.float64) * 0.5)
    ours.load_state_dict(theirs.state_dict())
    mine = [Tensor(x.copy(), requires_grad=True) if x.dtype.kind == "f" else Tensor(x) for x in inputs]
    other = [torch.tensor(x, requires_grad=x.dtype.kind == "f") for x in inputs]
    out, expected = our_call(ours, *mine), their_call(theirs, *other)
    close(out.numpy(), expected, "output")
    cotangent = randn(*out.shape, seed=99)
    out.backward(Tensor(cotangent))
    expected.backward(torch.tensor(cotangent))
    for i, (x, y) in enumerate(zip(mine, other, strict=True)):
        if x.requires_grad:
            close(x.grad.numpy(), y.grad, f"gradient of input {i}")
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    for name, p in ours.named_parameters():
        close(p.grad.numpy(), gradients.pop(name), f"gradient of {name}")
    assert not gradients


def call(module: Any, *inputs: Any) -> Any:
    return module(*inputs)


# ---- simple layers -----------------------------------------------------------------------------------------------

LAYERS: dict[str, tuple[Callable[[Any], Any], tuple[int, ...]]] = {
    "Linear": (lambda nn: nn.Linear(5, 3), (2, 4, 5)),
    "Linear no bias": (lambda nn: nn.Linear(5, 3, bias=False), (2, 5)),
    "LayerNorm": (lambda nn: nn.LayerNorm(5), (2, 4, 5)),
    "LayerNorm two axes": (lambda nn: nn.LayerNorm((4, 5), eps=1e-3), (2, 4, 5)),
    "LayerNorm no bias": (lambda nn: nn.LayerNorm(5, bias=False), (2, 4, 5)),
    "LayerNorm plain": (lambda nn: nn.LayerNorm(5, elementwise_affine=False), (2, 4, 5)),
    "RMSNorm": (lambda nn: nn.RMSNorm(5), (2, 4, 5)),
    "RMSNorm two axes": (lambda nn: nn.RMSNorm((4, 5), eps=1e-6), (2, 4, 5)),
    "RMSNorm plain": (lambda nn: nn.RMSNorm(5, elementwise_affine=False), (2, 4, 5)),
    "GELU": (lambda nn: nn.GELU(), (3, 7)),
    "GELU tanh": (lambda nn: nn.GELU(approximate="tanh"), (3, 7)),
    "ReLU": (lambda nn: nn.ReLU(), (3, 7)),
    "SiLU": (lambda nn: nn.SiLU(), (3, 7)),
    "Tanh": (lambda nn: nn.Tanh(), (3, 7)),
    "Sequential": (lambda nn: nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2)), (3, 5)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str) -> None:
    make, shape = LAYERS[name]
    compare(make(nn), make(torch.nn), [randn(*shape)], call, call)


@pytest.mark.parametrize("padding_idx", [None, 0, -2])
def test_embedding(padding_idx: int | None) -> None:
    ids = np.array([[0, 3, 5, 3], [5, 5, 1, 0]])
    compare(nn.Embedding(7, 3, padding_idx), torch.nn.Embedding(7, 3, padding_idx), [ids], call, call)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
@pytest.mark.parametrize("ignore_index", [-100, 2])
@pytest.mark.parametrize("axes", [(), (3,)])
def test_cross_entropy(reduction: str, label_smoothing: float, ignore_index: int, axes: tuple[int, ...]) -> None:
    target = np.random.default_rng(0).integers(0, 5, (6, *axes))
    target[0] = ignore_index
    options = {"reduction": reduction, "label_smoothing": label_smoothing, "ignore_index": ignore_index}
    ours, theirs = nn.CrossEntropyLoss(**options), torch.nn.CrossEntropyLoss(**options)
    compare(ours, theirs, [randn(6, 5, *axes) * 3, target], call, call)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_mse(reduction: str) -> None:
    inputs = [randn(4, 5), randn(4, 5, seed=1)]
    compare(nn.MSELoss(reduction), torch.nn.MSELoss(reduction=reduction), inputs, call, call)


def test_state_dict_names_are_pytorchs() -> None:
    for ours, theirs in (
        (nn.MultiHeadAttention(8, 2), torch.nn.MultiheadAttention(8, 2)),
        (nn.MultiHeadAttention(8, 2, bias=False), torch.nn.MultiheadAttention(8, 2, bias=False)),
        (nn.TransformerEncoderLayer(8, 2), torch.nn.TransformerEncoderLayer(8, 2)),
        (nn.TransformerDecoderLayer(8, 2, 16, bias=False), torch.nn.TransformerDecoderLayer(8, 2, 16, bias=False)),
        (
            nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2), 2, nn.LayerNorm(8)),
            torch.nn.TransformerEncoder(
                torch.nn.TransformerEncoderLayer(8, 2), 2, torch.nn.LayerNorm(8), enable_nested_tensor=False
            ),
        ),
    ):
        expected = {name: tuple(value.shape) for name, value in theirs.state_dict().items()}
        assert {name: value.shape for name, value in ours.state_dict().items()} == expected
        assert ours.num_parameters() == sum(p.numel() for p in theirs.parameters())


# ---- default initialisation: the same distributions ---------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda nn: nn.Linear(300, 200),
        lambda nn: nn.Embedding(300, 200),
        lambda nn: nn.LayerNorm(64),
        lambda nn: (nn.MultiHeadAttention if hasattr(nn, "MultiHeadAttention") else nn.MultiheadAttention)(128, 4),
    ],
    ids=["Linear", "Embedding", "LayerNorm", "MultiHeadAttention"],
)
def test_default_initialisation(make: Callable[[Any], Any]) -> None:
    ours, theirs = make(nn).state_dict(), make(torch.nn).state_dict()
    for name, value in ours.items():
        a, b = value.numpy().astype(np.float64), theirs[name].numpy().astype(np.float64)
        assert a.std() == pytest.approx(b.std(), rel=0.05 if a.size > 2000 else 0.3, abs=1e-12), name
        assert np.abs(a).max() == pytest.approx(np.abs(b).max(), rel=0.25), name


# ---- attention ---------------------------------------------------------------------------------------------------

PADDING = np.array([[1, 1, 1, 0, 0], [0, 1, 1, 1, 1]], bool)
MASK = np.array([[1, 0, 1, 1, 1], [0, 1, 1, 0, 1], [1, 1, 1, 0, 0], [1, 1, 0, 0, 1], [1, 1, 1, 1, 1]], bool)
CAUSAL = np.tril(np.ones((5, 5), bool))
# ours → PyTorch's arguments: torch.nn's modules mean True = hidden
ATTENTION_OPTIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "padding": ({"key_padding_mask": Tensor(PADDING)}, {"key_padding_mask": torch.tensor(~PADDING)}),
    "mask": ({"attn_mask": Tensor(MASK)}, {"attn_mask": torch.tensor(~MASK)}),
    "float mask": ({"attn_mask": Tensor(randn(5, 5))}, {"attn_mask": torch.tensor(randn(5, 5))}),
    "causal": ({"is_causal": True}, {"attn_mask": torch.tensor(~CAUSAL)}),
    "causal, mask": ({"is_causal": True, "attn_mask": Tensor(MASK | np.eye(5, dtype=bool))},
                     {"attn_mask": torch.tensor(~(CAUSAL & (MASK | np.eye(5, dtype=bool))))}),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTENTION_OPTIONS)
@pytest.mark.parametrize("bias", [True, False])
def test_self_attention(name: str, bias: bool) -> None:
    ours_options, theirs_options = ATTENTION_OPTIONS[name]
    compare(
        nn.MultiHeadAttention(8, 4, bias=bias),
        torch.nn.MultiheadAttention(8, 4, bias=bias, batch_first=True),
        [randn(2, 5, 8)],
        lambda m, x: m(x, **ours_options),
        lambda m, x: m(x, x, x, need_weights=False, **theirs_options)[0],
    )


@pytest.mark.parametrize("padded", [False, True])
def test_cross_attention_and_its_weights(padded: bool) -> None:
    inputs = [randn(2, 3, 8), randn(2, 5, 8, seed=1), randn(2, 5, 8, seed=2)]
    ours_options = {"key_padding_mask": Tensor(PADDING)} if padded else {}
    theirs_options = {"key_padding_mask": torch.tensor(~PADDING)} if padded else {}

    def both(cat: Callable[..., Any], out: Any, weights: Any) -> Any:
        return cat([out.reshape(2, -1), weights.reshape(2, -1)], 1)

    compare(
        nn.MultiHeadAttention(8, 4),
        torch.nn.MultiheadAttention(8, 4, batch_first=True),
        inputs,
        lambda m, *x: both(ops.cat, *m(*x, need_weights=True, **ours_options)),
        lambda m, *x: both(torch.cat, *m(*x, average_attn_weights=False, **theirs_options)),
    )


@pytest.mark.parametrize("kv_heads", [1, 2])
@pytest.mark.parametrize("causal", [False, True])
def test_grouped_heads(kv_heads: int, causal: bool) -> None:
    """Against PyTorch's own grouped attention, on projections made from our weights."""
    attention = nn.MultiHeadAttention(8, 4, num_kv_heads=kv_heads).double()
    x = Tensor(randn(2, 5, 8), requires_grad=True)
    out = attention(x, is_causal=causal)
    w, b = (torch.tensor(t.numpy()) for t in (attention.in_proj_weight, attention.in_proj_bias))
    y = torch.tensor(x.numpy(), requires_grad=True)
    q, k, v = torch.nn.functional.linear(y, w, b).split([8, 2 * kv_heads, 2 * kv_heads], dim=-1)
    q, k, v = (t.unflatten(-1, (-1, 2)).transpose(1, 2) for t in (q, k, v))
    heads = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True)
    projection = (torch.tensor(t.numpy()) for t in (attention.out_proj.weight, attention.out_proj.bias))
    expected = torch.nn.functional.linear(heads.transpose(1, 2).flatten(2), *projection)
    close(out.numpy(), expected, "output")
    cotangent = randn(2, 5, 8, seed=3)
    out.backward(Tensor(cotangent))
    expected.backward(torch.tensor(cotangent))
    close(x.grad.numpy(), y.grad, "gradient")


# ---- Transformer layers ------------------------------------------------------------------------------------------

ENCODER_OPTIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "padding": ({"key_padding_mask": Tensor(PADDING)}, {"src_key_padding_mask": torch.tensor(~PADDING)}),
    "causal": ({"is_causal": True}, {"src_mask": torch.tensor(~CAUSAL)}),
}


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("name", ENCODER_OPTIONS)
def test_encoder_layer(norm_first: bool, activation: str, name: str) -> None:
    ours_options, theirs_options = ENCODER_OPTIONS[name]
    arguments: dict[str, Any] = {"activation": activation, "norm_first": norm_first, "layer_norm_eps": 1e-3}
    compare(
        nn.TransformerEncoderLayer(8, 2, 16, 0.0, **arguments),
        torch.nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True, **arguments),
        [randn(2, 5, 8)],
        lambda m, x: m(x, **ours_options),
        lambda m, x: m(x, **theirs_options),
    )


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("padded", [False, True])
def test_decoder_layer(norm_first: bool, bias: bool, padded: bool) -> None:
    arguments: dict[str, Any] = {"norm_first": norm_first, "bias": bias}
    ours_options = {"memory_key_padding_mask": Tensor(PADDING)} if padded else {}
    theirs_options = {"memory_key_padding_mask": torch.tensor(~PADDING)} if padded else {}
    compare(
        nn.TransformerDecoderLayer(8, 2, 16, 0.0, **arguments),
        torch.nn.TransformerDecoderLayer(8, 2, 16, 0.0, batch_first=True, **arguments),
        [randn(2, 3, 8), randn(2, 5, 8, seed=1)],
        lambda m, x, memory: m(x, memory, **ours_options),
        lambda m, x, memory: m(x, memory, tgt_mask=torch.tensor(~CAUSAL[:3, :3]), **theirs_options),
    )


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("norm_first", [False, True])
def test_encoder_and_decoder_stacks(norm_first: bool) -> None:
    class Both(nn.Module):
        def __init__(self, nn: Any, **more: Any) -> None:
            super().__init__()
            options = {"dim_feedforward": 16, "dropout": 0.0, "norm_first": norm_first, **more}
            self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, **options), 2, nn.LayerNorm(8))
            self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, **options), 2, nn.LayerNorm(8))

    theirs = torch.nn.Transformer(8, 2, 2, 2, dim_feedforward=16, dropout=0.0, norm_first=norm_first, batch_first=True)
    compare(
        Both(nn),
        theirs,
        [randn(2, 5, 8), randn(2, 3, 8, seed=1)],
        lambda m, source, target: m.decoder(target, m.encoder(source)),
        lambda m, source, target: m(source, target, tgt_mask=torch.tensor(~CAUSAL[:3, :3])),
    )


# ---- rotary, clipping --------------------------------------------------------------------------------------------


def test_half_rotation_is_that_of_llama() -> None:
    llama = pytest.importorskip("transformers.models.llama.modeling_llama")
    x = randn(2, 3, 5, 8)
    angles = torch.arange(7, 12, dtype=torch.float64)[:, None] * 10000.0 ** (-torch.arange(0, 8, 2) / 8).double()
    angles = torch.cat([angles, angles], dim=-1)[None]
    expected, _ = llama.apply_rotary_pos_emb(torch.tensor(x), torch.tensor(x), angles.cos(), angles.sin())
    close(nn.RotaryEmbedding(8)(Tensor(x), offset=7).numpy(), expected, "half rotation")


def test_interleaved_rotation_is_a_complex_product() -> None:
    x = randn(2, 3, 5, 8)
    angles = torch.arange(7, 12, dtype=torch.float64)[:, None] * 10000.0 ** (-torch.arange(0, 8, 2) / 8).double()
    pairs = torch.view_as_complex(torch.tensor(x).reshape(2, 3, 5, 4, 2))
    turned = pairs * torch.polar(torch.ones_like(angles), angles)
    expected = torch.view_as_real(turned).reshape(2, 3, 5, 8)
    close(nn.RotaryEmbedding(8, interleaved=True)(Tensor(x), offset=7).numpy(), expected, "interleaved rotation")


@pytest.mark.parametrize("max_norm", [0.1, 3.0, 1000.0])
def test_clip_grad_norm(max_norm: float) -> None:
    arrays = [randn(3, 4), randn(5, seed=1), randn(2, 2, 2, seed=2)]
    ours = [nn.Parameter(np.zeros(a.shape)) for a in arrays]
    theirs = [torch.nn.Parameter(torch.zeros(a.shape, dtype=torch.float64)) for a in arrays]
    for a, p, q in zip(arrays, ours, theirs, strict=True):
        p.grad, q.grad = Tensor(a.copy()), torch.tensor(a)
    norm, expected = clip_grad_norm_(ours, max_norm), torch.nn.utils.clip_grad_norm_(theirs, max_norm)
    assert norm == pytest.approx(expected.item(), rel=1e-14)
    for p, q in zip(ours, theirs, strict=True):
        close(p.grad.numpy(), q.grad, "clipped gradient")


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "tanh", "linear", "sigmoid"])
def test_gains(name: str) -> None:
    assert nn.init.calculate_gain(name) == pytest.approx(torch.nn.init.calculate_gain(name), rel=1e-15)
    assert nn.init.calculate_gain("leaky_relu", math.sqrt(5)) == torch.nn.init.calculate_gain(
        "leaky_relu", math.sqrt(5)
    )
