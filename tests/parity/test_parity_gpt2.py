"""GPT-2 against Transformers: files both ways, logits, loss and every gradient."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from minilm.models import GPT2Config, GPT2LMHeadModel, GPT2Model  # noqa: E402
from minilm.tensor import no_grad  # noqa: E402

transformers.logging.set_verbosity_error()

SHAPE = {"vocab_size": 61, "n_positions": 24, "n_embd": 24, "n_layer": 3, "n_head": 4}
NO_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
VARIANTS = {
    "plain": {},
    "erf gelu": {"activation_function": "gelu"},
    "relu, wide": {"activation_function": "relu", "n_inner": 40},
    "silu": {"activation_function": "silu"},
    "unscaled": {"scale_attn_weights": False},
    "by layer": {"scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": True},
    "untied": {"tie_word_embeddings": False},
    "eps": {"layer_norm_epsilon": 1e-3},
}
TOLERANCE = {"float32": 1e-4, "float64": 1e-9}


def theirs(seed=0, dtype="float32", **changes):
    """A random model of Transformers; weights larger than at initialisation, so that every path matters."""
    torch.manual_seed(seed)
    config = transformers.GPT2Config(
        **{**SHAPE, **NO_DROPOUT, "bos_token_id": None, "eos_token_id": None, "initializer_range": 0.2, **changes}
    )
    model = transformers.GPT2LMHeadModel(config).to(getattr(torch, dtype)).eval()
    with torch.no_grad():  # at initialisation the biases are 0 and the norms 1, which would hide a mix-up
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def ids_and_mask(seed=0, rows=3, length=11, vocab=61):
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, vocab, (rows, length))
    mask = np.ones((rows, length), dtype=np.int64)
    mask[1, :3] = 0
    mask[2, -4:] = 0
    return ids, mask


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_we_read_theirs(tmp_path, variant, dtype):
    reference = theirs(dtype=dtype, **VARIANTS[variant])
    reference.save_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model, info = GPT2LMHeadModel.from_pretrained(tmp_path, output_loading_info=True, strict=True)
    assert info.missing_keys == info.unexpected_keys == []
    assert model.num_parameters() == reference.num_parameters()
    assert {str(p.dtype) for p in model.parameters()} == {dtype}
    ids, mask = ids_and_mask()
    positions = np.maximum(mask.cumsum(axis=1) - 1, 0)
    with torch.no_grad():
        plain = reference(torch.tensor(ids)).logits.numpy()
        masked = reference(
            torch.tensor(ids), attention_mask=torch.tensor(mask), position_ids=torch.tensor(positions)
        ).logits.numpy()
    assert np.abs(model(ids).logits.numpy() - plain).max() <= TOLERANCE[dtype]
    ours = model(ids, attention_mask=mask, position_ids=positions).logits.numpy()
    real = mask.astype(bool)  # what a padding position computes is nobody's business
    assert np.abs(ours[real] - masked[real]).max() <= TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shards", ["5GB", "12KB"])
@pytest.mark.parametrize("variant", ["plain", "untied"])
def test_they_read_ours(tmp_path, variant, dtype, shards):
    config = GPT2Config(**{**SHAPE, **NO_DROPOUT, "eos_token_id": 7, "bos_token_id": None, **VARIANTS[variant]})
    model = GPT2LMHeadModel(config).to(dtype).eval()
    model.save_pretrained(tmp_path, max_shard_size=shards)
    assert (tmp_path / "model.safetensors.index.json").exists() == (shards == "12KB")
    reference, info = transformers.GPT2LMHeadModel.from_pretrained(
        tmp_path, dtype=getattr(torch, dtype), output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    assert reference.config.eos_token_id == reference.generation_config.eos_token_id == 7
    ids, _ = ids_and_mask()
    with torch.no_grad():
        theirs_logits = reference.eval()(torch.tensor(ids)).logits.numpy()
    assert np.abs(model(ids).logits.numpy() - theirs_logits).max() <= TOLERANCE[dtype]


def test_we_read_their_shards_and_their_headless_files(tmp_path):
    reference = theirs()
    reference.save_pretrained(tmp_path / "shards", max_shard_size="10KB")
    assert (tmp_path / "shards" / "model.safetensors.index.json").exists()
    ids, _ = ids_and_mask()
    with torch.no_grad():
        logits = reference(torch.tensor(ids)).logits.numpy()
        hidden = reference.transformer(torch.tensor(ids)).last_hidden_state.numpy()
    sharded = GPT2LMHeadModel.from_pretrained(tmp_path / "shards", strict=True)
    assert np.abs(sharded(ids).logits.numpy() - logits).max() <= 1e-4
    # The published files have no prefix: they were saved from the headless model.
    reference.transformer.save_pretrained(tmp_path / "headless")
    for cls in (GPT2LMHeadModel, GPT2Model):
        for folder in ("headless", "shards"):
            model = cls.from_pretrained(tmp_path / folder, strict=True)
            body = model.transformer if cls is GPT2LMHeadModel else model
            assert np.abs(body(ids).last_hidden_state.numpy() - hidden).max() <= 1e-4


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_half_precision_is_widened(tmp_path, half):
    reference = theirs().to(getattr(torch, half))
    reference.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == half
    model = GPT2LMHeadModel.from_pretrained(tmp_path, strict=True)
    for name, parameter in model.named_parameters():
        assert parameter.dtype == np.float32
        assert np.array_equal(parameter.numpy(), reference.get_parameter(name).detach().float().numpy())


@pytest.mark.parametrize("variant", VARIANTS)
def test_loss_and_every_gradient(tmp_path, variant):
    reference = theirs(dtype="float64", **VARIANTS[variant]).train()
    reference.save_pretrained(tmp_path)
    model = GPT2LMHeadModel.from_pretrained(tmp_path).train()
    ids, mask = ids_and_mask(seed=1)
    labels = np.where(mask == 1, ids, -100)
    logits = reference(torch.tensor(ids), attention_mask=torch.tensor(mask)).logits
    # Its own `loss` casts the logits to float32 first, which alone costs 2e-7.
    expected = torch.nn.functional.cross_entropy(
        logits[:, :-1].reshape(-1, logits.shape[-1]), torch.tensor(labels[:, 1:].reshape(-1))
    )
    expected.backward()
    output = model(ids, attention_mask=mask, labels=labels)
    output.loss.backward()
    assert abs(output.loss.item() - expected.item()) <= 1e-9
    theirs_by_name = dict(reference.named_parameters())
    names = [name for name, _ in model.named_parameters()]
    assert names == list(theirs_by_name)
    for name, parameter in model.named_parameters():
        difference = np.abs(parameter.grad.numpy() - theirs_by_name[name].grad.numpy()).max()
        assert difference <= 1e-8, name


def test_hidden_states_and_attentions(tmp_path):
    reference = theirs(dtype="float64")
    reference.set_attn_implementation("eager")
    reference.save_pretrained(tmp_path)
    model = GPT2LMHeadModel.from_pretrained(tmp_path)
    ids, mask = ids_and_mask()
    mask[1:] = 1
    with torch.no_grad():
        expected = reference(torch.tensor(ids), output_attentions=True, output_hidden_states=True)
    ours = model(ids, output_attentions=True, output_hidden_states=True)
    for name in ("hidden_states", "attentions"):
        assert len(ours[name]) == len(expected[name])
        for a, b in zip(ours[name], expected[name], strict=True):
            assert a.shape == tuple(b.shape)
            assert np.abs(a.numpy() - b.numpy()).max() <= 1e-12


def test_a_step_with_the_cache(tmp_path):
    reference = theirs(dtype="float64")
    reference.save_pretrained(tmp_path)
    model = GPT2LMHeadModel.from_pretrained(tmp_path)
    ids, _ = ids_and_mask()
    with torch.no_grad(), no_grad():
        first = reference(torch.tensor(ids[:, :6]), use_cache=True)
        expected = reference(torch.tensor(ids[:, 6:]), past_key_values=first.past_key_values).logits.numpy()
        ours = model(ids[:, 6:], past_key_values=model(ids[:, :6]).past_key_values).logits.numpy()
    assert np.abs(ours - expected).max() <= 1e-11


def test_without_biases_they_compute_the_same(tmp_path):
    model = GPT2LMHeadModel(GPT2Config(**{**SHAPE, **NO_DROPOUT, "bias": False})).double().eval()
    model.save_pretrained(tmp_path)
    reference = transformers.GPT2LMHeadModel.from_pretrained(tmp_path, dtype=torch.float64).eval()
    ids, _ = ids_and_mask()
    with torch.no_grad():
        expected = reference(torch.tensor(ids)).logits.numpy()
    assert np.abs(model(ids).logits.numpy() - expected).max() <= 1e-9


def test_defaults_of_the_configuration():
    reference = transformers.GPT2Config()
    ours = GPT2Config()
    for name in ours.field_names():
        if name not in ("bias", "dtype", "architectures"):  # ours; not yet known before saving
            assert getattr(ours, name) == getattr(reference, name), name
    for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings"):
        assert getattr(ours, name) == getattr(reference, name)
