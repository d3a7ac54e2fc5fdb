"""Transformer blocks and stacks: pre- and post-norm, causality, masks, the cache, gradients, a model that learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minilm.random
from minilm import nn
from minilm.gradcheck import gradcheck_module
from minilm.nn import functional as F
from minilm.optim import AdamW
from minilm.tensor import Tensor, no_grad

PADDING = Tensor(np.array([[1, 1, 0], [0, 1, 1]], bool))
SOURCE_PADDING = Tensor(np.array([[1, 1, 1, 0], [1, 1, 0, 0]], bool))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    minilm.random.seed(0)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return Tensor(np.random.default_rng(seed).standard_normal(shape), requires_grad=True)


class With(nn.Module):
    """A module with keyword arguments fixed, for the gradient checks."""

    def __init__(self, module: nn.Module, **options: Any) -> None:
        super().__init__()
        self.module = module.double()
        for param in self.parameters():
            param.data += 0.1 * np.random.default_rng(1).standard_normal(param.shape)  # no bias stays 0
        self._options = options

    def forward(self, *inputs: Tensor) -> Any:
        return self.module(*inputs, **self._options)


# ---- the block of GPT and LLaMA ----------------------------------------------------------------------------------


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("norm", ["layer", "rms"])
@pytest.mark.parametrize("activation", ["gelu", "swiglu"])
def test_block_gradients(norm_first: bool, norm: str, activation: str) -> None:
    block = nn.TransformerBlock(
        8, 2, 6, norm=norm, norm_first=norm_first, activation=activation, num_kv_heads=1, rotary=nn.RotaryEmbedding(4)
    )
    gradcheck_module(With(block, is_causal=True, key_padding_mask=PADDING), (randn(2, 3, 8),))


def test_block_is_its_formula_pre_and_post_norm() -> None:
    x = randn(2, 3, 8)
    for norm_first in (True, False):
        block = nn.TransformerBlock(8, 2, norm_first=norm_first).double()
        n1, n2, attention, mlp = block.norm1, block.norm2, block.self_attn, block.feed_forward
        if norm_first:
            y = x + attention(n1(x), is_causal=True)
            expected = y + mlp(n2(y))
        else:
            y = n1(x + attention(x, is_causal=True))
            expected = n2(y + mlp(y))
        assert np.array_equal(block(x, is_causal=True).numpy(), expected.numpy())
    # post-norm ends in a norm: each position has mean 0 and variance 1; pre-norm does not
    assert np.allclose(block(x).numpy().mean(-1), 0, atol=1e-12) and np.allclose(block(x).numpy().std(-1), 1, atol=1e-4)
    assert not np.allclose(nn.TransformerBlock(8, 2).double()(x).numpy().std(-1), 1, atol=1e-2)


def test_no_bias_means_none_anywhere() -> None:
    names = [name for name, _ in nn.TransformerBlock(8, 2, bias=False, activation="swiglu").named_parameters()]
    assert names and not any("bias" in name for name in names)
    for layer in (nn.TransformerEncoderLayer(8, 2, 16, bias=False), nn.TransformerDecoderLayer(8, 2, 16, bias=False)):
        assert not any("bias" in name for name, _ in layer.named_parameters())


@pytest.mark.parametrize("norm_first", [True, False])
def test_the_future_does_not_leak_through_a_stack(norm_first: bool) -> None:
    rotary = nn.RotaryEmbedding(4)
    blocks = [nn.TransformerBlock(16, 4, norm_first=norm_first, rotary=rotary) for _ in range(3)]
    x = np.random.default_rng(0).standard_normal((2, 7, 16)).astype(np.float32)

    def run(x: np.ndarray) -> np.ndarray:
        y = Tensor(x)
        for block in blocks:
            y = block(y, is_causal=True)
        return y.numpy()

    before = run(x)
    for t in range(7):
        changed = x.copy()
        changed[:, t] = 50.0
        after = run(changed)
        assert np.array_equal(after[:, :t], before[:, :t])
        assert not np.array_equal(after[:, t:], before[:, t:])


def test_blocks_with_the_cache_of_generation() -> None:
    from minilm.generation.cache import KVCache

    blocks = [nn.TransformerBlock(8, 4, num_kv_heads=2, rotary=nn.RotaryEmbedding(2)).double() for _ in range(2)]
    x = randn(2, 6, 8).detach()
    whole, cached, cache = x, [], KVCache()
    with no_grad():
        for block in blocks:
            whole = block(whole, is_causal=True)
        for piece in (x[:, :3], x[:, 3:4], x[:, 4:]):
            for layer, block in enumerate(blocks):
                piece = block(piece, is_causal=True, cache=cache, layer=layer)
            cached.append(piece.numpy())
    assert np.allclose(np.concatenate(cached, axis=1), whole.numpy(), atol=1e-13)
    assert cache.get_seq_length(1) == 6


# ---- encoder and decoder -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_encoder_layer_gradients(norm_first: bool, activation: str) -> None:
    layer = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, activation=activation, norm_first=norm_first)
    gradcheck_module(With(layer, key_padding_mask=PADDING), (randn(2, 3, 4),))


@pytest.mark.parametrize("norm_first", [True, False])
def test_decoder_layer_gradients(norm_first: bool) -> None:
    layer = nn.TransformerDecoderLayer(4, 2, 6, dropout=0.0, norm_first=norm_first)
    masked = With(layer, key_padding_mask=PADDING, memory_key_padding_mask=SOURCE_PADDING)
    gradcheck_module(masked, (randn(2, 3, 4), randn(2, 4, 4, seed=1)))


def test_encoder_and_decoder_stack_gradients() -> None:
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 6, 0.0, norm_first=True), 2, nn.LayerNorm(4))
    gradcheck_module(With(encoder, key_padding_mask=PADDING), (randn(2, 3, 4),))
    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(4, 2, 6, 0.0, norm_first=True), 2, nn.LayerNorm(4))
    gradcheck_module(With(decoder, memory_key_padding_mask=SOURCE_PADDING), (randn(2, 3, 4), randn(2, 4, 4, seed=1)))


def test_encoder_sees_both_ways_but_not_padding() -> None:
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2).double().eval()
    x = randn(2, 3, 8).numpy()
    before = encoder(Tensor(x), key_padding_mask=PADDING).numpy()
    changed = x.copy()
    changed[0, 1] += 1.0  # a real token in the middle: everyone notices
    assert not np.isclose(encoder(Tensor(changed), key_padding_mask=PADDING).numpy()[0], before[0]).all(axis=-1).any()
    changed = np.where(PADDING.numpy()[..., None], x, 9.0)
    after = encoder(Tensor(changed), key_padding_mask=PADDING).numpy()
    assert np.array_equal(after[PADDING.numpy()], before[PADDING.numpy()])


def test_decoder_is_causal_unless_told_otherwise() -> None:
    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16), 2).double().eval()
    x, memory = randn(1, 5, 8).numpy(), randn(1, 4, 8, seed=1)
    changed = x.copy()
    changed[:, 3] += 1.0
    before, after = (decoder(Tensor(a), memory).numpy() for a in (x, changed))
    assert np.array_equal(before[:, :3], after[:, :3]) and not np.allclose(before[:, 3:], after[:, 3:])
    before, after = (decoder(Tensor(a), memory, is_causal=False).numpy() for a in (x, changed))
    assert not np.allclose(before[:, :3], after[:, :3])


def test_decoder_ignores_padded_source_and_masked_memory() -> None:
    layer = nn.TransformerDecoderLayer(8, 2, 16).double().eval()
    x, memory = randn(2, 3, 8), randn(2, 4, 8, seed=1).numpy()
    changed = Tensor(np.where(SOURCE_PADDING.numpy()[..., None], memory, 5.0))
    masked = layer(x, Tensor(memory), memory_key_padding_mask=SOURCE_PADDING).numpy()
    assert np.array_equal(masked, layer(x, changed, memory_key_padding_mask=SOURCE_PADDING).numpy())
    mask = Tensor(np.broadcast_to(SOURCE_PADDING.numpy()[:, None, None, :], (2, 1, 3, 4)))
    assert np.allclose(masked, layer(x, Tensor(memory), memory_mask=mask).numpy(), atol=1e-15)


def test_decoder_with_a_cache() -> None:
    from minilm.generation.cache import KVCache

    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16), 2).double().eval()
    x, memory = randn(2, 5, 8).detach(), randn(2, 4, 8, seed=1)
    whole, cache = decoder(x, memory).numpy(), KVCache()
    with no_grad():
        steps = [decoder(x[:, t : t + 1], memory, cache=cache).numpy() for t in range(5)]
    assert np.allclose(np.concatenate(steps, axis=1), whole, atol=1e-13)


def test_copies_in_a_stack_draw_their_own_numbers() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16)
    encoder = nn.TransformerEncoder(layer, 3)
    assert encoder.layers[0] is layer and len(encoder.layers) == 3
    a, b, c = (encoder.layers[i].linear1.weight.numpy() for i in range(3))
    assert not np.array_equal(a, b) and not np.array_equal(b, c)
    assert encoder.num_parameters() == 3 * layer.num_parameters()
    assert [n for n, _ in encoder.named_parameters()][0] == "layers.0.self_attn.in_proj_weight"

    class Foreign(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(np.ones(1))

    with pytest.raises(TypeError, match="reset_parameters"):
        nn.TransformerEncoder(Foreign(), 2)
    with pytest.raises(ValueError, match="at least one layer"):
        nn.TransformerEncoder(layer, 0)


def test_dropout_is_off_in_evaluation() -> None:
    x, memory = randn(1, 3, 8), randn(1, 3, 8, seed=1)
    for layer, inputs in (
        (nn.TransformerEncoderLayer(8, 2, 16), (x,)),
        (nn.TransformerDecoderLayer(8, 2, 16), (x, memory)),
        (nn.TransformerBlock(8, 2, dropout=0.1), (x,)),
    ):
        layer.double()
        assert not np.array_equal(layer(*inputs).numpy(), layer(*inputs).numpy())
        layer.eval()
        assert np.array_equal(layer(*inputs).numpy(), layer(*inputs).numpy())


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match='"layer" or "rms"'):
        nn.TransformerBlock(8, 2, norm="batch")
    with pytest.raises(ValueError, match="unknown activation"):
        nn.TransformerEncoderLayer(8, 2, activation="swiglu2")
    with pytest.raises(ValueError, match="multiple of num_heads"):
        nn.TransformerDecoderLayer(8, 3)


# ---- it learns ---------------------------------------------------------------------------------------------------


def test_a_decoder_learns_to_reverse() -> None:
    """Encoder and decoder together: reverse five digits, which needs cross-attention and positions."""

    class Reverser(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(11, 32)
            self.positions = nn.SinusoidalPositionalEmbedding(32)
            self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64, 0.0, norm_first=True), 1)
            self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(32, 4, 64, 0.0, norm_first=True), 1)
            self.norm = nn.LayerNorm(32)
            self.head = nn.Linear(32, 11)

        def forward(self, source: Tensor, target: Tensor) -> Tensor:
            memory = self.encoder(self.positions(self.embed(source)))
            return self.head(self.norm(self.decoder(self.positions(self.embed(target)), memory)))

    model = Reverser()
    optimizer = AdamW(model.parameters(), lr=1e-2)
    rng = np.random.default_rng(0)

    def batch(n: int) -> tuple[Tensor, Tensor, np.ndarray]:
        source = rng.integers(0, 10, (n, 5))
        answer = source[:, ::-1].copy()
        shifted = np.concatenate([np.full((n, 1), 10), answer[:, :-1]], axis=1)
        return Tensor(source), Tensor(shifted), answer

    for _ in range(100):
        source, shifted, answer = batch(64)
        loss = F.cross_entropy(model(source, shifted).reshape(-1, 11), Tensor(answer.reshape(-1)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    source, shifted, answer = batch(200)
    with no_grad():
        accuracy = (model.eval()(source, shifted).numpy().argmax(-1) == answer).mean()
    assert accuracy > 0.95
