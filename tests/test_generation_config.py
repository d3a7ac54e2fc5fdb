"""GenerationConfig: defaults, files, refusals, and the length that a call may reach."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle

import numpy as np
import pytest

from minilm.generation import GenerationConfig


def test_defaults():
    config = GenerationConfig()
    assert (config.temperature, config.top_k, config.top_p, config.num_beams) == (1.0, 50, 1.0, 1)
    assert config.do_sample is None and not config.sampling and config.eos_token_ids == ()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.top_k = 5


def test_a_file_keeps_what_it_holds_beyond_the_fields(tmp_path):
    written = {"top_k": 7, "eos_token_id": [3, 4], "transformers_version": "4.1", "_from_model_config": True}
    (tmp_path / "generation_config.json").write_text(json.dumps(written))
    config = GenerationConfig.from_pretrained(tmp_path)
    assert config.top_k == 7 and config.eos_token_ids == (3, 4)
    config.save_pretrained(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "generation_config.json").read_text()) == written
    assert GenerationConfig.from_pretrained(tmp_path / "again") == config


def test_copies_and_pickles():
    config = GenerationConfig.from_dict({"top_k": 7, "something": [1]})
    assert copy.deepcopy(config) == pickle.loads(pickle.dumps(config)) == config
    assert dict(dataclasses.replace(config, top_k=8).extra) == {"something": [1]}


def test_numpy_values_and_lists_are_taken():
    config = GenerationConfig(top_k=np.int64(3), eos_token_id=[np.int64(1), 2], forced_eos_token_id=5, stop_strings="a")
    assert (config.top_k, config.eos_token_id, config.forced_eos_token_id) == (3, (1, 2), (5,))
    assert config.stop_strings == ("a",) and type(config.top_k) is int


@pytest.mark.parametrize(
    "field, value, error",
    [
        ("temperature", 0.0, ValueError),
        ("temperature", float("nan"), ValueError),
        ("temperature", "hot", TypeError),
        ("top_k", -1, ValueError),
        ("top_k", 2.5, TypeError),
        ("top_k", True, TypeError),
        ("top_p", 1.5, ValueError),
        ("min_p", -0.1, ValueError),
        ("typical_p", 0.0, ValueError),
        ("repetition_penalty", 0.0, ValueError),
        ("num_beams", 0, ValueError),
        ("max_new_tokens", 0, ValueError),
        ("early_stopping", "always", TypeError),
        ("bad_words_ids", [], ValueError),
        ("bad_words_ids", [[1], []], ValueError),
        ("bad_words_ids", [1, 2], TypeError),
        ("do_sample", 1, TypeError),
        ("stop_strings", ["a", ""], ValueError),
        ("length_penalty", float("inf"), ValueError),
    ],
)
def test_wrong_values_are_refused_by_name(field, value, error):
    with pytest.raises(error, match=field):
        GenerationConfig(**{field: value})


def test_an_unknown_option_names_the_nearest():
    with pytest.raises(TypeError, match="'temprature'.*did you mean 'temperature'"):
        GenerationConfig().updated(temprature=0.5)
    with pytest.raises(TypeError, match="penalty_alpha.*Transformers has it, minilm does not"):
        GenerationConfig().updated(penalty_alpha=0.6)


def test_a_file_that_asks_for_what_is_not_here_is_refused():
    GenerationConfig.from_dict(
        {"num_beam_groups": 1, "diversity_penalty": 0.0, "guidance_scale": None}
    ).check_supported()
    with pytest.raises(ValueError, match="num_beam_groups=2"):
        GenerationConfig.from_dict({"num_beam_groups": 2}).check_supported()


def test_several_texts_need_sampling_or_beams():
    assert GenerationConfig(num_return_sequences=3).sampling
    assert not GenerationConfig(num_return_sequences=3, num_beams=3).sampling
    with pytest.raises(ValueError, match="same text again and again"):
        GenerationConfig(num_return_sequences=3, do_sample=False)
    with pytest.raises(ValueError, match="at most num_beams = 2"):
        GenerationConfig(num_return_sequences=3, num_beams=2)


def test_lengths():
    assert GenerationConfig().resolve_max_length(5, None) == 25  # 20 new tokens
    assert GenerationConfig().resolve_max_length(5, 16) == 16  # or as many as there are positions
    assert GenerationConfig(max_length=9).resolve_max_length(5, 16) == 9
    assert GenerationConfig(max_new_tokens=9).resolve_max_length(5, 16) == 14
    assert GenerationConfig(max_length=6, max_new_tokens=9).resolve_max_length(5, 16) == 14
    with pytest.raises(ValueError, match="max_length=5"):
        GenerationConfig(max_length=5).resolve_max_length(5, None)
    with pytest.raises(ValueError, match="16 positions"):
        GenerationConfig().resolve_max_length(16, 16)
    with pytest.raises(ValueError, match="need 17 positions.*the model has 16"):
        GenerationConfig(max_new_tokens=12).resolve_max_length(5, 16)


def test_a_length_given_now_replaces_the_files():
    stored = GenerationConfig(max_new_tokens=100)
    assert stored.updated(max_length=9).resolve_max_length(5, None) == 9


@pytest.mark.parametrize("text, message", [("{", "not a JSON file"), ("[1]", "should hold a JSON object")])
def test_a_broken_file(tmp_path, text, message):
    (tmp_path / "generation_config.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        GenerationConfig.from_pretrained(tmp_path)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="generation_config.json"):
        GenerationConfig.from_pretrained(tmp_path)
