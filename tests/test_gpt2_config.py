"""GPT2Config: presets, files, refusals."""

from __future__ import annotations

import dataclasses
import json

import pytest

from minilm.models import GPT2Config
from minilm.models.gpt2 import GPT2Block


def test_defaults_and_aliases():
    config = GPT2Config()
    assert config == GPT2Config.gpt2()
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (768, 12, 12)
    assert config.max_position_embeddings == config.n_positions == 1024 and config.inner_width == 3072
    assert config.updated(hidden_size=24).n_embd == 24
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.n_layer = 3
    with pytest.raises(AttributeError, match="no field 'n_heads'; did you mean 'n_head'"):
        config.n_heads  # noqa: B018


@pytest.mark.parametrize(
    "preset, parameters",
    [("gpt2", 124_439_808), ("gpt2_medium", 354_823_168), ("gpt2_large", 774_030_080), ("gpt2_xl", 1_557_611_200)],
)
def test_published_sizes(preset, parameters):
    """Counted from one block, because a whole model would fill the memory."""
    config = getattr(GPT2Config, preset)()
    block = GPT2Block(config, 0).num_parameters()
    tables = (config.vocab_size + config.n_positions) * config.n_embd
    assert tables + config.n_layer * block + 2 * config.n_embd == parameters


def test_presets_take_changes():
    assert GPT2Config.char(vocab_size=80).vocab_size == 80 and GPT2Config.tiny(n_embd=32).n_head == 2
    assert GPT2Config.char().eos_token_id is None and GPT2Config.char().resid_pdrop == 0


def test_a_file_keeps_what_it_holds_beyond_the_fields(tmp_path):
    written = {
        **GPT2Config.tiny().to_dict(),
        "n_ctx": 32,
        "summary_type": "cls_index",
        "task_specific_params": {"a": [1]},
    }
    written["torch_dtype"] = written.pop("dtype")
    (tmp_path / "config.json").write_text(json.dumps(written))
    config = GPT2Config.from_pretrained(tmp_path)
    assert set(config.extra) == {"n_ctx", "summary_type", "task_specific_params"}
    config.save_pretrained(tmp_path / "again")
    again = json.loads((tmp_path / "again" / "config.json").read_text())
    assert again == {**config.to_dict(), "model_type": "gpt2"} and again["task_specific_params"] == {"a": [1]}
    assert GPT2Config.from_pretrained(tmp_path / "again", n_layer=5) == dataclasses.replace(config, n_layer=5)


@pytest.mark.parametrize(
    "field, value, error",
    [
        ("vocab_size", 0, ValueError),
        ("n_layer", 2.0, TypeError),
        ("n_head", 5, ValueError),
        ("resid_pdrop", 1.0, ValueError),
        ("attn_pdrop", -0.1, ValueError),
        ("activation_function", "swiglu", ValueError),
        ("layer_norm_epsilon", 0.0, ValueError),
        ("initializer_range", 0.0, ValueError),
        ("add_cross_attention", True, ValueError),
        ("tie_word_embeddings", "yes", TypeError),
        ("n_inner", 0, ValueError),
    ],
)
def test_wrong_values_are_refused_by_name(field, value, error):
    with pytest.raises(error, match=field):
        GPT2Config(**{field: value})


def test_another_models_configuration(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert", "hidden_size": 16}')
    with pytest.raises(ValueError, match="'bert' model, GPT2Config is for 'gpt2'"):
        GPT2Config.from_pretrained(tmp_path)
    with pytest.raises(TypeError, match="unknown option 'n_layers'.*did you mean 'n_layer'"):
        GPT2Config().updated(n_layers=3)
