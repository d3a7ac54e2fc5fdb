"""GPT-2's forward pass: formulas, causality, cache, padding, gradients, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest

import minilm
from minilm.gradcheck import gradcheck_module
from minilm.models import GPT2Config, GPT2LMHeadModel, GPT2Model
from minilm.nn import functional as F
from minilm.ops import Tensor
from minilm.tensor import no_grad


def make(seed=0, double=True, **changes):
    minilm.random.seed(seed)
    model = GPT2LMHeadModel(GPT2Config.tiny(**{"initializer_range": 0.3, **changes})).eval()
    rng = np.random.default_rng(seed)
    for parameter in model.parameters():  # biases and norms away from 0 and 1, so that all of them matter
        if parameter.ndim == 1:
            parameter.data += 0.1 * rng.standard_normal(parameter.shape).astype(np.float32)
    return model.double() if double else model


def random_ids(rows=2, length=9, seed=0):
    return np.random.default_rng(seed).integers(0, 64, (rows, length))


def test_against_the_formulas_in_plain_numpy():
    model = make()
    p = {name: value.numpy() for name, value in model.named_parameters()}
    ids = random_ids()

    def norm(x, name):
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = (centred**2).mean(axis=-1, keepdims=True)
        return centred / np.sqrt(variance + 1e-5) * p[f"{name}.weight"] + p[f"{name}.bias"]

    def affine(x, name):
        return x @ p[f"{name}.weight"] + p[f"{name}.bias"]

    x = p["transformer.wte.weight"][ids] + p["transformer.wpe.weight"][:9]
    for layer in range(2):
        h = f"transformer.h.{layer}"
        qkv = affine(norm(x, f"{h}.ln_1"), f"{h}.attn.c_attn")
        heads = []
        for start in (0, 8):
            q, k, v = (qkv[..., offset + start : offset + start + 8] for offset in (0, 16, 32))
            scores = q @ k.swapaxes(-1, -2) / math.sqrt(8)
            scores[:, np.triu(np.ones((9, 9), dtype=bool), 1)] = -np.inf
            weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
            heads.append(weights / weights.sum(axis=-1, keepdims=True) @ v)
        x = x + affine(np.concatenate(heads, axis=-1), f"{h}.attn.c_proj")
        inner = affine(norm(x, f"{h}.ln_2"), f"{h}.mlp.c_fc")
        inner = inner / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (inner + 0.044715 * inner**3)))
        x = x + affine(inner, f"{h}.mlp.c_proj")
    logits = norm(x, "transformer.ln_f") @ p["transformer.wte.weight"].T
    assert np.abs(model(ids).logits.numpy() - logits).max() <= 1e-12


def test_the_future_does_not_leak():
    model, ids = make(), random_ids()
    before = model(ids).logits.numpy()
    for t in range(1, 9):
        changed = ids.copy()
        changed[:, t] = (changed[:, t] + 7) % 64
        after = model(changed).logits.numpy()
        assert np.abs(after[:, :t] - before[:, :t]).max() <= 1e-13
        assert (np.abs(after[:, t:] - before[:, t:]).max(axis=(0, 2)) > 1e-4).all()


@pytest.mark.parametrize("pieces", [(9,), (1,) * 9, (4, 5), (1, 7, 1)])
@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("float64", 1e-12)])
@no_grad()
def test_cached_and_uncached_logits_are_equal(pieces, dtype, tolerance):
    model, ids = make().to(dtype), random_ids()
    mask = np.ones_like(ids)
    mask[1, :2] = 0
    positions = np.maximum(mask.cumsum(axis=1) - 1, 0)
    whole = model(ids, mask, positions).logits.numpy()
    cache, start, logits = None, 0, []
    for length in pieces:
        stop = start + length
        output = model(ids[:, start:stop], mask[:, :stop], positions[:, start:stop], past_key_values=cache)
        cache, start = output.past_key_values, stop
        assert cache.length == stop
        logits.append(output.logits.numpy())
    real = mask.astype(bool)
    assert np.abs(np.concatenate(logits, axis=1)[real] - whole[real]).max() <= tolerance


def test_padding_on_the_left_changes_nothing():
    model, ids = make(), random_ids(rows=1)
    alone = model(ids).logits.numpy()
    padded = np.concatenate([[[5, 60, 2]], ids], axis=1)
    mask = np.array([[0] * 3 + [1] * 9])
    got = model(padded, mask, np.maximum(mask.cumsum(axis=1) - 1, 0)).logits.numpy()[:, 3:]
    assert np.abs(got - alone).max() <= 1e-12


def test_the_loss_shifts_the_labels_and_ignores_minus_100():
    model, ids = make(), random_ids()
    labels = ids.copy()
    labels[0, :4] = -100
    output = model(ids, labels=labels)
    log_p = output.logits.log_softmax(dim=-1).numpy()
    terms = [-log_p[b, t, labels[b, t + 1]] for b in range(2) for t in range(8) if labels[b, t + 1] != -100]
    assert len(terms) == 13 and output.loss.item() == pytest.approx(np.mean(terms), rel=1e-13)


def test_a_new_model_knows_nothing():
    """At initialisation the loss is that of guessing among V tokens."""
    minilm.random.seed(0)
    model = GPT2LMHeadModel(GPT2Config.char())
    ids = np.random.default_rng(0).integers(0, 65, (8, 64))
    assert model(ids, labels=ids).loss.item() == pytest.approx(math.log(65), abs=0.05)


def test_initial_weights():
    minilm.random.seed(0)
    model = GPT2LMHeadModel(GPT2Config.char(n_layer=8, vocab_size=500))
    spread = {name: float(p.numpy().std()) for name, p in model.named_parameters() if p.ndim == 2}
    for name, std in spread.items():
        expected = 0.02 / math.sqrt(2 * 8) if name.endswith("c_proj.weight") else 0.02
        assert std == pytest.approx(expected, rel=0.03), name
    for name, p in model.named_parameters():
        if p.ndim == 1:
            assert (p.numpy() == (0 if name.endswith("bias") else 1)).all(), name
    before = model.transformer.h[0].mlp.c_fc.weight.numpy().copy()
    model.init_weights()
    assert not np.array_equal(model.transformer.h[0].mlp.c_fc.weight.numpy(), before)
    minilm.random.seed(3)
    a = GPT2Model(GPT2Config.tiny()).state_dict()
    minilm.random.seed(3)
    b = GPT2Model(GPT2Config.tiny()).state_dict()
    assert all(np.array_equal(a[name].numpy(), b[name].numpy()) for name in a)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"activation_function": "gelu", "tie_word_embeddings": False},
        {"scale_attn_by_inverse_layer_idx": True, "n_inner": 24, "activation_function": "silu"},
        {"scale_attn_weights": False, "bias": False, "activation_function": "tanh"},
    ],
)
@pytest.mark.parametrize("attentions", [False, True])
def test_every_gradient_by_finite_differences(changes, attentions):
    model, ids = make(**changes), random_ids(length=6)
    mask = np.ones_like(ids)
    mask[0, -2:] = 0

    class Loss(minilm.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, ids):
            output = self.model(ids, mask, labels=np.where(mask == 1, ids, -100), output_attentions=attentions)
            return (output.loss, *output.attentions) if attentions else output.loss

    assert gradcheck_module(Loss(), ids, mode="projection")


def test_attentions_are_the_weights_that_were_used():
    model, ids = make(), random_ids()
    plain, shown = model(ids), model(ids, output_attentions=True, output_hidden_states=True)
    assert np.abs(plain.logits.numpy() - shown.logits.numpy()).max() <= 1e-12
    assert plain.attentions is None and len(shown.attentions) == 2 and len(shown.hidden_states) == 3
    for weights in shown.attentions:
        array = weights.numpy()
        assert array.shape == (2, 2, 9, 9) and np.allclose(array.sum(axis=-1), 1, rtol=0, atol=1e-14)
        assert (array[:, :, np.triu(np.ones((9, 9), dtype=bool), 1)] == 0).all()
    x = shown.hidden_states[0]
    expected = model.transformer.wte(ids).numpy() + model.transformer.wpe.weight.numpy()[:9]
    assert np.array_equal(x.numpy(), expected)
    assert np.array_equal((shown.hidden_states[-1] @ model.lm_head.weight.T).numpy(), shown.logits.numpy())


@pytest.mark.parametrize("keep", [1, 3, 9, 20])
def test_logits_to_keep(keep):
    model, ids = make(), random_ids()
    got = model(ids, logits_to_keep=keep).logits.numpy()
    whole = model(ids).logits.numpy()
    assert got.shape[1] == min(keep, 9) and np.abs(got - whole[:, -keep:]).max() <= 1e-13


def test_outputs_by_attribute_name_index_and_as_a_tuple():
    model, ids = make(), random_ids()
    output = model(ids, labels=ids)
    assert output[0] is output.loss is output["loss"] and output[1] is output.logits
    loss, logits = output
    assert (loss, logits) == output[:2] == output.to_tuple() and len(output) == 2
    assert "loss" in output and "attentions" not in output and dict(output).keys() == {"loss", "logits"}
    with pytest.raises(KeyError, match="holds \\['loss', 'logits'\\]"):
        output["attentions"]
    assert model(ids)[0].shape == (2, 9, 64)  # without labels the logits come first


def test_shapes_of_the_input():
    model, ids = make(), random_ids(rows=1)
    expected = model(ids).logits.numpy()
    for given in (ids[0], ids.tolist(), ids[0].tolist(), Tensor(ids), ids.astype(np.uint8)):
        assert np.array_equal(model(given).logits.numpy(), expected)
    assert np.array_equal(model(ids, attention_mask=Tensor(np.ones((1, 9)))).logits.numpy(), expected)


def test_when_a_cache_is_returned():
    model, ids = make(), random_ids()
    assert model(ids).past_key_values is None  # recording gradients: a cache could not
    with no_grad():
        assert model(ids).past_key_values.length == 9
        assert model(ids, use_cache=False).past_key_values is None
        assert model(ids, labels=ids).past_key_values is None
    with pytest.raises(RuntimeError, match="no gradient would flow back"):
        model(ids, use_cache=True)
    uncached = make(use_cache=False)
    with no_grad():
        assert uncached(ids).past_key_values is None


def test_dropout_only_while_training():
    model, ids = make(resid_pdrop=0.3, embd_pdrop=0.3, attn_pdrop=0.3), random_ids()
    assert np.array_equal(model(ids).logits.numpy(), model(ids).logits.numpy())
    model.train()
    a, b = model(ids).logits.numpy(), model(ids).logits.numpy()
    assert np.abs(a - b).max() > 0.1
    for only in ("resid_pdrop", "embd_pdrop", "attn_pdrop"):
        model = make(**{only: 0.3}).train()
        for attentions in (False, True):
            outputs = [model(ids, output_attentions=attentions).logits.numpy() for _ in range(2)]
            assert not np.array_equal(*outputs), only


def test_tied_and_untied_heads():
    tied, untied = make(), make(tie_word_embeddings=False)
    assert tied.lm_head.weight is tied.transformer.wte.weight
    assert untied.num_parameters() == tied.num_parameters() + 64 * 16
    assert tied.num_parameters(exclude_embeddings=True) == tied.num_parameters() - (64 + 32) * 16
    ids = random_ids()
    tied(ids, labels=ids).loss.backward()
    table = tied.transformer.wte.weight
    hidden = tied.transformer(ids).last_hidden_state
    separate = Tensor(table.numpy().copy(), requires_grad=True)
    logits = F.linear(hidden.detach(), separate)
    F.cross_entropy(logits[:, :-1].reshape(-1, 64), ids[:, 1:].reshape(-1)).backward()
    # The head's share of the gradient is in the table's, beside the share of the embedding.
    unused = np.setdiff1d(np.arange(64), ids)
    assert np.abs(table.grad.numpy()[unused] - separate.grad.numpy()[unused]).max() <= 1e-13
    used = np.intersect1d(np.arange(64), ids[:, :-1])
    assert np.abs(table.grad.numpy()[used] - separate.grad.numpy()[used]).max(axis=1).min() > 1e-6


@pytest.mark.parametrize("tied", [True, False])
def test_resizing_the_vocabulary(tied):
    model, ids = make(tie_word_embeddings=tied), random_ids()
    before, table = model(ids).logits.numpy(), model.transformer.wte.weight.numpy().copy()
    assert model.resize_token_embeddings(70) is model.transformer.wte
    assert model.config.vocab_size == model.transformer.config.vocab_size == 70
    assert (model.lm_head.weight is model.transformer.wte.weight) == tied
    after = model(ids).logits.numpy()
    assert after.shape == (2, 9, 70) and np.abs(after[..., :64] - before).max() <= 1e-12
    new = model.transformer.wte.weight.numpy()[64:]
    assert np.abs(new - table.mean(axis=0)).max() < 6 * 0.3 and new.std(axis=0).min() > 0
    model(np.full((1, 3), 69), labels=np.full((1, 3), 69)).loss.backward()
    model.resize_token_embeddings(10)
    assert np.array_equal(model.transformer.wte.weight.numpy(), table[:10])
    with pytest.raises(ValueError, match="between 0 and 9"):
        model(ids)
    with pytest.raises(ValueError, match="new_num_tokens"):
        model.resize_token_embeddings(0)


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"input_ids": [[64]]}, ValueError, "between 0 and 63.*belong together"),
        ({"input_ids": [[-1]]}, ValueError, "between 0 and 63"),
        ({"input_ids": [[1.5]]}, TypeError, "should be integers, got float64"),
        ({"input_ids": [[True]]}, TypeError, "should be integers, got bool"),
        ({"input_ids": np.zeros((1, 0), dtype=int)}, ValueError, "at least one token"),
        ({"input_ids": [[1, 2], [3]]}, ValueError, "different lengths"),
        ({"input_ids": np.zeros((1, 33), dtype=int)}, ValueError, "33 tokens are more than the model's 32 positions"),
        ({"attention_mask": [[1, 1]]}, ValueError, "attention_mask should be \\(B, T\\) = \\(1, 3\\)"),
        ({"attention_mask": [[1, 2, 1]]}, ValueError, "got other values"),
        ({"position_ids": [[0, 1]]}, ValueError, "position_ids should have the shape"),
        ({"position_ids": [[0, 1, 32]]}, ValueError, "between 0 and 31"),
        ({"labels": [[1, 2]]}, ValueError, "labels should have the shape"),
        ({"labels": [[1, 2, 64]]}, ValueError, "labels should lie between 0 and 63"),
        ({"labels": [[1, 2, -1]]}, ValueError, "labels should lie between 0 and 63"),
        ({"labels": [[1, 2, 3]], "logits_to_keep": 1}, ValueError, "every position"),
        ({"logits_to_keep": -1}, ValueError, "logits_to_keep"),
        ({"past_key_values": ()}, TypeError, "should be a KVCache"),
    ],
)
def test_refused_inputs(arguments, error, message):
    with pytest.raises(error, match=message):
        make()(**{"input_ids": [[1, 2, 3]], **arguments})


def test_the_cache_counts_towards_the_positions():
    model = make()
    with no_grad():
        cache = model(np.zeros((1, 30), dtype=int)).past_key_values
        with pytest.raises(ValueError, match="3 tokens after 30 cached ones are more than the model's 32"):
            model([[1, 2, 3]], past_key_values=cache)
        with pytest.raises(ValueError, match="the 30 cached positions included"):
            model([[1]], attention_mask=[[1]], past_key_values=cache)
        with pytest.raises(ValueError, match="leave one of them out"):
            model([[1]], past_key_values=cache, use_cache=False)


def test_a_model_is_built_from_a_configuration():
    with pytest.raises(TypeError, match="from_pretrained"):
        GPT2LMHeadModel("gpt2")
