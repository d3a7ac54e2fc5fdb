"""Multi-head attention: the formula, masks, causality, grouped heads, rotary positions, the cache, gradients."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import minilm.random
from minilm import nn
from minilm.gradcheck import gradcheck, gradcheck_module
from minilm.nn import functional as F
from minilm.tensor import Tensor, no_grad


@pytest.fixture(autouse=True)
def _seeded() -> None:
    minilm.random.seed(0)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return Tensor(np.random.default_rng(seed).standard_normal(shape), requires_grad=True)


def make(width: int = 6, heads: int = 2, **options: Any) -> nn.MultiHeadAttention:
    attention = nn.MultiHeadAttention(width, heads, dtype=np.float64, **options)
    for param in attention.parameters():  # biases too, so that they are seen to matter
        nn.init.normal_(param, std=0.5)
    return attention


def by_hand(attention: nn.MultiHeadAttention, x: np.ndarray, y: np.ndarray, allowed: np.ndarray) -> tuple:
    """The formula, head by head in plain loops: x (B, Tq, C), y (B, Tk, C), allowed (B, Tq, Tk)."""
    width, d = attention.embed_dim, attention.head_dim
    group = attention.num_heads // attention.num_kv_heads
    weight, bias = attention.in_proj_weight.numpy(), attention.in_proj_bias.numpy()
    kv = attention.num_kv_heads * d
    w_q, w_k, w_v = np.split(weight, [width, width + kv])
    b_q, b_k, b_v = np.split(bias, [width, width + kv])
    out = np.zeros_like(x)
    weights = np.zeros((len(x), attention.num_heads, x.shape[1], y.shape[1]))
    for b in range(len(x)):
        heads = []
        for h in range(attention.num_heads):
            rows, kv_rows = slice(h * d, (h + 1) * d), slice(h // group * d, (h // group + 1) * d)
            q = x[b] @ w_q[rows].T + b_q[rows]
            k = y[b] @ w_k[kv_rows].T + b_k[kv_rows]
            v = y[b] @ w_v[kv_rows].T + b_v[kv_rows]
            e = np.where(allowed[b], np.exp(q @ k.T / math.sqrt(d)), 0)
            total = e.sum(-1, keepdims=True)
            weights[b, h] = e / np.where(total == 0, 1, total)
            heads.append(weights[b, h] @ v)
        out[b] = np.concatenate(heads, -1) @ attention.out_proj.weight.numpy().T + attention.out_proj.bias.numpy()
    return out, weights


PADDING = np.array([[1, 1, 1, 0, 0], [0, 1, 1, 1, 1], [1, 1, 1, 1, 1]], bool)  # right, left, none
HIDDEN_ROW = np.array([[1, 0, 1, 1, 1], [0, 0, 0, 0, 0], [1, 1, 1, 0, 0], [1, 0, 0, 0, 1], [1, 1, 1, 1, 1]], bool)


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("masked", [None, "bool", "float"])
def test_self_attention_is_its_formula(kv_heads: int, causal: bool, padded: bool, masked: str | None) -> None:
    attention = make(8, 4, num_kv_heads=kv_heads)
    x = randn(3, 5, 8)
    allowed = np.ones((3, 5, 5), bool)
    mask = None
    if causal:
        allowed &= np.tril(np.ones((5, 5), bool))
    if padded:
        allowed &= PADDING[:, None, :]
    if masked:
        allowed &= HIDDEN_ROW
        mask = Tensor(HIDDEN_ROW if masked == "bool" else np.where(HIDDEN_ROW, 0.0, -np.inf))
    options: dict[str, Any] = {
        "attn_mask": mask,
        "key_padding_mask": Tensor(PADDING) if padded else None,
        "is_causal": causal,
    }
    expected, expected_weights = by_hand(attention, x.numpy(), x.numpy(), allowed)
    assert np.allclose(attention(x, **options).numpy(), expected, atol=1e-13)
    out, weights = attention(x, **options, need_weights=True)
    assert np.allclose(out.numpy(), expected, atol=1e-13)
    assert np.allclose(weights.numpy(), expected_weights, atol=1e-14)


def test_cross_attention_is_its_formula() -> None:
    attention = make(8, 4, num_kv_heads=2)
    x, y = randn(3, 2, 8), randn(3, 5, 8, seed=1)
    allowed = np.broadcast_to(PADDING[:, None, :], (3, 2, 5))
    expected, _ = by_hand(attention, x.numpy(), y.numpy(), allowed)
    assert np.allclose(attention(x, y, key_padding_mask=Tensor(PADDING)).numpy(), expected, atol=1e-13)
    # one product or three: the same numbers for the same input
    copy = Tensor(x.numpy().copy())
    assert np.allclose(attention(x).numpy(), attention(x, copy, copy).numpy(), atol=1e-14)


def test_values_may_differ_from_keys() -> None:
    attention = make()
    x, k, v = randn(1, 2, 6), randn(1, 3, 6, seed=1), randn(1, 3, 6, seed=2)
    _, weights = attention(x, k, need_weights=True)
    out, same = attention(x, k, v, need_weights=True)
    assert np.array_equal(weights.numpy(), same.numpy())
    assert not np.allclose(out.numpy(), attention(x, k).numpy())


def test_a_query_that_sees_nothing_gets_the_output_bias_and_no_gradient() -> None:
    attention = make()
    x = randn(1, 3, 6)
    nothing = Tensor(np.zeros((1, 3), bool))
    for need_weights in (False, True):
        out = attention(x, key_padding_mask=nothing, need_weights=need_weights)
        out = out[0] if need_weights else out
        assert np.array_equal(out.numpy(), np.broadcast_to(attention.out_proj.bias.numpy(), (1, 3, 6)))
        x.grad = None
        out.sum().backward()
        assert not x.grad.numpy().any()


# ---- gradients ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"is_causal": True},
        {"key_padding_mask": Tensor(PADDING)},
        {"attn_mask": Tensor(HIDDEN_ROW)},
        {"attn_mask": Tensor(HIDDEN_ROW), "is_causal": True, "key_padding_mask": Tensor(PADDING)},
    ],
    ids=["plain", "causal", "padded", "masked", "all"],
)
@pytest.mark.parametrize("need_weights", [False, True])
def test_gradients_with_masks(options: dict[str, Any], need_weights: bool) -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = make(4, 2, num_kv_heads=1)

        def forward(self, x: Tensor) -> Any:
            return self.attention(x, **options, need_weights=need_weights)

    gradcheck_module(Masked(), (randn(3, 5, 4),), mode="projection")


@pytest.mark.parametrize("shape", [(1, 1, 4), (2, 3, 4), (0, 3, 4), (2, 0, 4)])
@pytest.mark.parametrize("bias", [True, False])
def test_gradients_over_shapes(shape: tuple[int, ...], bias: bool) -> None:
    gradcheck_module(make(4, 2, bias=bias), (randn(*shape),))


def test_gradients_of_cross_attention_and_of_a_float_mask() -> None:
    attention = make(4, 2)
    gradcheck_module(attention, (randn(2, 3, 4), randn(2, 2, 4, seed=1), randn(2, 2, 4, seed=2)))
    x = randn(2, 3, 4)
    gradcheck(lambda mask: attention(x, attn_mask=mask), (randn(2, 3, 3),))
    gradcheck(lambda q, k, m: nn.attention_weights(q, k, m, True), (randn(1, 2, 3, 4), randn(1, 1, 3, 4), randn(3, 3)))


@pytest.mark.parametrize("interleaved", [False, True])
def test_gradients_with_rotary(interleaved: bool) -> None:
    gradcheck_module(
        make(8, 2, num_kv_heads=1, rotary=nn.RotaryEmbedding(4, interleaved=interleaved)), (randn(2, 3, 8),)
    )


# ---- causality, grouped heads, rotary ----------------------------------------------------------------------------


@pytest.mark.parametrize("need_weights", [False, True])
def test_the_future_does_not_leak(need_weights: bool) -> None:
    attention = make(8, 4, num_kv_heads=2, rotary=nn.RotaryEmbedding(2)).float()
    x = Tensor(np.random.default_rng(0).standard_normal((2, 9, 8)).astype(np.float32))

    def run(x: Tensor) -> np.ndarray:
        out = attention(x, is_causal=True, need_weights=need_weights)
        return (out[0] if need_weights else out).numpy()

    before = run(x)
    for t in range(9):
        changed = x.numpy().copy()
        changed[:, t] += 100.0
        after = run(Tensor(changed))
        assert np.array_equal(after[:, :t], before[:, :t])
        assert not np.array_equal(after[:, t], before[:, t])


def test_padding_keys_do_not_matter() -> None:
    attention = make()
    x = randn(3, 5, 6).numpy()
    changed = np.where(PADDING[..., None], x, 1e3)
    a = attention(Tensor(x), key_padding_mask=Tensor(PADDING)).numpy()
    b = attention(Tensor(changed), key_padding_mask=Tensor(PADDING)).numpy()
    assert np.array_equal(a[PADDING], b[PADDING])


@pytest.mark.parametrize("kv_heads", [1, 2])
def test_grouped_heads_equal_full_heads_with_repeated_weights(kv_heads: int) -> None:
    grouped, full = make(8, 4, num_kv_heads=kv_heads), make(8, 4)
    width = kv_heads * 2

    def repeated(rows: np.ndarray) -> np.ndarray:
        return rows.reshape(kv_heads, 2, *rows.shape[1:]).repeat(4 // kv_heads, axis=0).reshape(8, *rows.shape[1:])

    state = {name: value.numpy() for name, value in grouped.state_dict().items()}
    for name in ("in_proj_weight", "in_proj_bias"):
        q, k, v = np.split(state[name], [8, 8 + width])
        state[name] = np.concatenate([q, repeated(k), repeated(v)])
    full.load_state_dict(state)
    x = randn(2, 5, 8)
    assert np.allclose(grouped(x, is_causal=True).numpy(), full(x, is_causal=True).numpy(), atol=1e-14)
    out, weights = grouped(x, is_causal=True, need_weights=True)
    out_full, weights_full = full(x, is_causal=True, need_weights=True)
    assert np.allclose(out.numpy(), out_full.numpy(), atol=1e-14)
    assert np.allclose(weights.numpy(), weights_full.numpy(), atol=1e-15)
    assert grouped.num_parameters() < full.num_parameters()


def test_rotary_attention_sees_distances_only() -> None:
    attention = make(8, 2, rotary=nn.RotaryEmbedding(4))
    x = randn(2, 5, 8)
    here = attention(x).numpy()
    assert np.allclose(here, attention(x, positions=np.arange(40, 45)).numpy(), atol=1e-12)
    assert not np.allclose(here, attention(x, positions=np.arange(0, 10, 2)).numpy(), atol=1e-4)
    attention.rotary = None
    assert not np.allclose(here, attention(x).numpy(), atol=1e-4)


def test_left_padding_with_positions_gives_what_no_padding_gives() -> None:
    attention = make(8, 2, rotary=nn.RotaryEmbedding(4))
    x = randn(1, 3, 8)
    alone = attention(x, is_causal=True).numpy()
    padded = Tensor(np.concatenate([np.full((1, 2, 8), 7.0), x.numpy()], axis=1))
    mask = Tensor(np.array([[False, False, True, True, True]]))
    out = attention(padded, is_causal=True, key_padding_mask=mask, positions=np.array([[0, 0, 0, 1, 2]])).numpy()
    assert np.allclose(out[:, 2:], alone, atol=1e-13)


# ---- the cache ---------------------------------------------------------------------------------------------------


class ListCache:
    """The smallest cache: concatenation."""

    def __init__(self) -> None:
        self.kept: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def update(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        new = (key.numpy(), value.numpy())
        if layer in self.kept:
            new = tuple(np.concatenate([old, n], axis=2) for old, n in zip(self.kept[layer], new, strict=True))
        self.kept[layer] = new
        return Tensor(new[0]), Tensor(new[1])

    def get_seq_length(self, layer: int = 0) -> int:
        return self.kept[layer][0].shape[2] if layer in self.kept else 0


@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize("cuts", [[1, 1, 1, 1, 1, 1], [4, 1, 1], [3, 3]])
def test_a_cache_gives_what_one_pass_gives(rotary: bool, cuts: list[int]) -> None:
    attention = make(8, 4, num_kv_heads=2, rotary=nn.RotaryEmbedding(2) if rotary else None)
    x = randn(2, 6, 8).detach()
    whole = attention(x, is_causal=True).numpy()
    cache = ListCache()
    pieces, start = [], 0
    with no_grad():
        for cut in cuts:
            pieces.append(attention(x[:, start : start + cut], is_causal=True, cache=cache, layer=3).numpy())
            start += cut
    assert np.allclose(np.concatenate(pieces, axis=1), whole, atol=1e-13)
    assert cache.get_seq_length(3) == 6 and cache.kept[3][0].shape == (2, 2, 6, 2)


# ---- dropout, initialisation, errors -----------------------------------------------------------------------------


@pytest.mark.parametrize("need_weights", [False, True])
def test_dropout_acts_on_the_weights_in_training_only(need_weights: bool) -> None:
    attention = make(8, 2, dropout=0.5)
    x = randn(1, 5, 8).numpy()

    def run(copies: int = 1) -> np.ndarray:
        out = attention(Tensor(x.repeat(copies, axis=0)), need_weights=need_weights)
        return (out[0] if need_weights else out).numpy()

    trained = run()
    assert not np.array_equal(trained, run())
    attention.eval()
    whole = run()
    assert np.array_equal(whole, run())
    attention.train()
    mean = run(10_000).mean(axis=0)  # dropout keeps the expectation
    assert np.abs(mean - whole).max() < 0.05 * np.abs(whole).max()
    minilm.random.seed(5)
    first = run()
    minilm.random.seed(5)
    assert np.array_equal(first, run())


def test_default_initialisation() -> None:
    attention = nn.MultiHeadAttention(64, 4)
    bound = math.sqrt(6 / (64 + 3 * 64))
    assert 0.95 * bound < np.abs(attention.in_proj_weight.numpy()).max() <= bound
    assert not attention.in_proj_bias.numpy().any() and not attention.out_proj.bias.numpy().any()
    assert {k: v.shape for k, v in attention.state_dict().items()} == {
        "in_proj_weight": (192, 64),
        "in_proj_bias": (192,),
        "out_proj.weight": (64, 64),
        "out_proj.bias": (64,),
    }
    assert nn.MultiHeadAttention(64, 4, bias=False).in_proj_bias is None


def test_weights_function_agrees_with_the_fused_operation() -> None:
    q, k, v = randn(2, 4, 3, 5), randn(2, 2, 7, 5, seed=1), randn(2, 2, 7, 5, seed=2)
    weights = nn.attention_weights(q, k, is_causal=True, scale=0.3)
    fused = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3, enable_gqa=True)
    assert np.allclose(weights.numpy() @ v.numpy().repeat(2, axis=1), fused.numpy(), atol=1e-14)
    assert np.allclose(weights.numpy().sum(-1), 1.0)


@pytest.mark.parametrize("need_weights", [False, True])
def test_masks_may_be_arrays_of_numbers_and_the_dtype_is_kept(need_weights: bool) -> None:
    attention = make(8, 4).float()
    x = Tensor(randn(2, 5, 8).numpy().astype(np.float32))
    ones = PADDING[:2].astype(np.int64)  # a tokenizer's attention_mask

    def run(**masks: Any) -> Tensor:
        out = attention(x, need_weights=need_weights, **masks)
        return out[0] if need_weights else out

    expected = run(key_padding_mask=Tensor(PADDING[:2]), attn_mask=Tensor(HIDDEN_ROW))
    for pair in ((ones, HIDDEN_ROW), (ones, np.where(HIDDEN_ROW, 0.0, -np.inf))):
        out = run(key_padding_mask=pair[0], attn_mask=pair[1])
        assert out.dtype == np.float32
        assert np.allclose(out.numpy(), expected.numpy(), atol=1e-6)


def test_errors_say_what_was_expected() -> None:
    for arguments in ((6, 4), (0, 1), (6, 0)):
        with pytest.raises(ValueError, match="multiple of num_heads"):
            nn.MultiHeadAttention(*arguments)
    with pytest.raises(ValueError, match="multiple of num_kv_heads"):
        nn.MultiHeadAttention(8, 4, num_kv_heads=3)
    with pytest.raises(ValueError, match="heads of width 4"):
        nn.MultiHeadAttention(16, 2, rotary=nn.RotaryEmbedding(4))
    with pytest.raises(ValueError, match="probability"):
        nn.MultiHeadAttention(8, 2, dropout=2.0)
    attention = make()
    with pytest.raises(ValueError, match=r"query must have shape \(B, T, 6\)"):
        attention(randn(3, 6))
    with pytest.raises(ValueError, match=r"key must have shape \(B, T, 6\)"):
        attention(randn(1, 3, 6), randn(1, 3, 5))
    with pytest.raises(ValueError, match="must share"):
        attention(randn(2, 3, 6), randn(1, 3, 6))
    with pytest.raises(ValueError, match="KV cache"):
        attention(randn(1, 3, 6), randn(1, 3, 6), cache=ListCache())
    with pytest.raises(ValueError, match="rotary positions"):
        make(8, 2, rotary=nn.RotaryEmbedding(4))(randn(1, 3, 8), randn(1, 3, 8))


def test_repr() -> None:
    assert repr(nn.MultiHeadAttention(8, 4, 0.1, num_kv_heads=2)).splitlines()[0] == (
        "MultiHeadAttention(embed_dim=8, num_heads=4, num_kv_heads=2, dropout=0.1  # 216 parameters"
    )
