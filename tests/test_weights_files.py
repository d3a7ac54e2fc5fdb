"""Weights on disk: what is written can be read, and what cannot be read says why."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import minilm
from minilm.models import GPT2Config, GPT2LMHeadModel, GPT2Model
from minilm.models.weights import read_weights, write_weights

IDS = np.arange(12).reshape(2, 6)


@pytest.fixture()
def model():
    minilm.random.seed(0)
    return GPT2LMHeadModel(GPT2Config.tiny()).eval()


def logits(model):
    return model(IDS).logits.numpy()


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(np.array_equal(a[name].numpy(), b[name].numpy()) for name in a)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", ["5GB", 4000, "3.5 KB"])
def test_round_trip(tmp_path, model, size, dtype):
    model.to(dtype).save_pretrained(tmp_path / "deep" / "er", max_shard_size=size)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = GPT2LMHeadModel.from_pretrained(tmp_path / "deep" / "er", strict=True)
    assert same(model, again) and not again.training and again.lm_head.weight is again.transformer.wte.weight
    assert {str(p.dtype) for p in again.parameters()} == {dtype}
    assert again.config == GPT2Config.tiny(architectures=["GPT2LMHeadModel"], dtype=dtype)


def test_files_of_a_sharded_model(tmp_path, model):
    model.save_pretrained(tmp_path, max_shard_size=5000)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    files = sorted(set(index["weight_map"].values()))
    assert files == [f"model-{i:05d}-of-{len(files):05d}.safetensors" for i in range(1, len(files) + 1)]
    assert len(files) > 3 and not (tmp_path / "model.safetensors").exists()
    assert "lm_head.weight" not in index["weight_map"]  # tied: once, under its first name
    sizes = {f: sum(a.nbytes for a in load_file(tmp_path / f).values()) for f in files}
    assert index["metadata"]["total_size"] == sum(sizes.values()) == 4 * model.num_parameters()
    assert all(sizes[f] <= 5000 or len(load_file(tmp_path / f)) == 1 for f in files)
    # Saved again as one file, nothing of the shards remains to be read by mistake.
    model.save_pretrained(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "generation_config.json", "model.safetensors"]


def test_an_array_that_is_a_transposed_view_is_saved_as_it_looks(tmp_path, model):
    weight = model.transformer.h[0].attn.c_attn.weight
    weight.data = np.ascontiguousarray(weight.data.T).T
    assert not weight.data.flags.c_contiguous
    model.save_pretrained(tmp_path)
    assert same(model, GPT2LMHeadModel.from_pretrained(tmp_path))
    strided = np.arange(24.0).reshape(4, 6)[::2, ::3]
    write_weights(tmp_path, {"x": strided, "n": np.array(3.5)})
    read = read_weights(tmp_path)
    assert np.array_equal(read["x"], strided) and read["n"].shape == () and read["n"] == 3.5


@pytest.mark.parametrize("dtype", ["float16", np.float16, np.dtype(np.float16)])
def test_half_width_on_disk(tmp_path, model, dtype):
    model.save_pretrained(tmp_path, dtype=dtype)
    assert load_file(tmp_path / "model.safetensors")["transformer.wte.weight"].dtype == np.float16
    again = GPT2LMHeadModel.from_pretrained(tmp_path)
    for a, b in zip(model.parameters(), again.parameters(), strict=True):
        assert b.dtype == np.float32 and np.array_equal(b.numpy(), a.numpy().astype(np.float16).astype(np.float32))


def test_what_does_not_fit_into_half_width(tmp_path, model):
    model.transformer.wpe.weight.data[3, 3] = 1e6
    with pytest.raises(ValueError, match="wpe.weight holds numbers up to 1e\\+06, too large for float16"):
        model.save_pretrained(tmp_path, dtype="float16")
    with pytest.raises(ValueError, match="weights are saved as"):
        model.save_pretrained(tmp_path, dtype="int8")
    assert not list(tmp_path.iterdir())


def test_bfloat16_is_widened_by_hand(tmp_path):
    values = np.array([[1.0, -2.5], [3.140625, 1e30], [np.inf, -0.0]], dtype=np.float32)
    upper = (values.view(np.uint32) >> 16).astype("<u2")
    other = np.arange(3, dtype="<f4")
    header = json.dumps(
        {
            "__metadata__": {"format": "pt"},
            "b": {"dtype": "F32", "shape": [3], "data_offsets": [12, 24]},
            "a": {"dtype": "BF16", "shape": [3, 2], "data_offsets": [0, 12]},
        }
    ).encode()
    (tmp_path / "model.safetensors").write_bytes(
        len(header).to_bytes(8, "little") + header + upper.tobytes() + other.tobytes()
    )
    read = read_weights(tmp_path)
    expected = (upper.astype(np.uint32) << 16).view(np.float32)
    assert read["a"].dtype == np.float32 and np.array_equal(read["a"], expected) and np.array_equal(read["b"], other)
    assert np.abs(read["a"][:2] / values[:2] - 1).max() < 2**-7


def test_dtype_on_request(tmp_path, model):
    model.save_pretrained(tmp_path)
    for dtype in ("float64", np.float64, np.dtype("float64")):
        again = GPT2LMHeadModel.from_pretrained(tmp_path, dtype=dtype)
        assert {p.dtype for p in again.parameters()} == {np.dtype(np.float64)}
    assert np.abs(logits(again) - logits(model)).max() < 1e-5
    for dtype in ("float16", "int32", "bfloat16", 3):
        with pytest.raises(ValueError, match="dtype should be float32 or float64"):
            GPT2LMHeadModel.from_pretrained(tmp_path, dtype=dtype)


def test_names_with_and_without_the_prefix(tmp_path, model):
    model.save_pretrained(tmp_path / "head")
    model.transformer.save_pretrained(tmp_path / "body")
    assert all(name.startswith("transformer.") for name in load_file(tmp_path / "head" / "model.safetensors"))
    assert not any(name.startswith("transformer.") for name in load_file(tmp_path / "body" / "model.safetensors"))
    assert not (tmp_path / "body" / "generation_config.json").exists()
    for folder in ("head", "body"):
        assert same(GPT2LMHeadModel.from_pretrained(tmp_path / folder, strict=True), model)
        assert same(GPT2Model.from_pretrained(tmp_path / folder, strict=True), model.transformer)


def rewrite(folder, change):
    arrays = load_file(folder / "model.safetensors")
    change(arrays)
    save_file(arrays, folder / "model.safetensors", metadata={"format": "pt"})


def test_old_buffers_are_ignored(tmp_path, model):
    model.save_pretrained(tmp_path)
    rewrite(
        tmp_path,
        lambda arrays: arrays.update(
            {
                "transformer.h.0.attn.bias": np.ones((1, 1, 32, 32), dtype=np.uint8),
                "h.1.attn.masked_bias": np.array(-1e4, dtype=np.float32),
            }
        ),
    )
    assert same(GPT2LMHeadModel.from_pretrained(tmp_path, strict=True), model)


def test_a_redundant_head_that_equals_the_table_stays_tied(tmp_path, model):
    model.save_pretrained(tmp_path)
    rewrite(tmp_path, lambda arrays: arrays.update({"lm_head.weight": arrays["transformer.wte.weight"].copy()}))
    again = GPT2LMHeadModel.from_pretrained(tmp_path, strict=True)
    assert again.lm_head.weight is again.transformer.wte.weight and same(again, model)


def test_a_head_that_differs_is_kept_apart(tmp_path, model):
    model.save_pretrained(tmp_path)
    head = np.random.default_rng(0).standard_normal((64, 16)).astype(np.float32)
    rewrite(tmp_path, lambda arrays: arrays.update({"lm_head.weight": head}))
    again = GPT2LMHeadModel.from_pretrained(tmp_path, strict=True)
    assert again.config.tie_word_embeddings is again.transformer.config.tie_word_embeddings is False
    assert np.array_equal(again.lm_head.weight.numpy(), head)
    assert np.array_equal(again.transformer.wte.weight.numpy(), model.transformer.wte.weight.numpy())
    again.save_pretrained(tmp_path / "again")
    assert same(GPT2LMHeadModel.from_pretrained(tmp_path / "again", strict=True), again)


def test_missing_and_unexpected_weights_are_reported(tmp_path, model):
    model.save_pretrained(tmp_path)

    def change(arrays):
        del arrays["transformer.h.1.mlp.c_fc.weight"], arrays["transformer.ln_f.weight"]
        arrays["score.weight"] = np.zeros((2, 16), dtype=np.float32)

    rewrite(tmp_path, change)
    minilm.random.seed(1)
    with pytest.warns(UserWarning, match="freshly initialised.*score.weight in the file"):
        again, info = GPT2LMHeadModel.from_pretrained(tmp_path, output_loading_info=True)
    assert sorted(info.missing_keys) == ["transformer.h.1.mlp.c_fc.weight", "transformer.ln_f.weight"]
    assert info.unexpected_keys == ["score.weight"]
    assert (again.transformer.ln_f.weight.numpy() == 1).all()
    assert again.transformer.h[1].mlp.c_fc.weight.numpy().std() == pytest.approx(0.02, rel=0.1)
    with pytest.raises(ValueError, match="c_fc.weight.*not in the file"):
        GPT2LMHeadModel.from_pretrained(tmp_path, strict=True)


def test_reading_draws_no_random_numbers(tmp_path, model):
    model.save_pretrained(tmp_path)
    before = minilm.random.get_state()
    GPT2LMHeadModel.from_pretrained(tmp_path)
    assert minilm.random.get_state() == before


def test_changes_to_the_configuration(tmp_path, model):
    model.save_pretrained(tmp_path)
    again = GPT2LMHeadModel.from_pretrained(tmp_path, attn_pdrop=0.3, layer_norm_epsilon=1e-3)
    assert again.transformer.h[0].attn.attn_pdrop == 0.3 and again.config.layer_norm_epsilon == 1e-3
    given = GPT2LMHeadModel.from_pretrained(tmp_path, config=GPT2Config.tiny(layer_norm_epsilon=1e-3))
    assert np.array_equal(logits(given), logits(again))
    with pytest.raises(TypeError, match="unknown option 'atn_pdrop'.*'attn_pdrop'"):
        GPT2LMHeadModel.from_pretrained(tmp_path, atn_pdrop=0.3)


def test_the_generation_configuration_comes_along(tmp_path):
    model = GPT2LMHeadModel(GPT2Config.tiny(eos_token_id=5))
    assert model.generation_config.eos_token_id == 5
    model.generation_config = model.generation_config.updated(max_new_tokens=3, top_k=7)
    model.save_pretrained(tmp_path)
    again = GPT2LMHeadModel.from_pretrained(tmp_path)
    assert again.generation_config == model.generation_config and again.generate([[1]]).shape[1] <= 4
    (tmp_path / "generation_config.json").unlink()
    assert GPT2LMHeadModel.from_pretrained(tmp_path).generation_config.eos_token_id == 5


# --- what is refused ------------------------------------------------------------------------------------------------


def test_shapes_that_do_not_fit(tmp_path, model):
    model.save_pretrained(tmp_path)
    rewrite(tmp_path, lambda arrays: arrays.update({"transformer.wpe.weight": np.zeros((8, 16), dtype=np.float32)}))
    with pytest.raises(ValueError, match="do not fit their config.json[\\s\\S]*wpe.weight.*\\(32, 16\\).*\\(8, 16\\)"):
        GPT2LMHeadModel.from_pretrained(tmp_path)


def test_weights_of_something_else(tmp_path, model):
    model.save_pretrained(tmp_path)
    save_file({"a": np.zeros(3), "b": np.zeros(3)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="no weight in .* belongs to GPT2LMHeadModel: it holds a, b"):
        GPT2LMHeadModel.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b[:100], lambda b: b[:3], lambda b: b"", lambda b: b"x" * 500]
)
def test_a_damaged_file(tmp_path, model, damage):
    model.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match="model.safetensors is damaged"):
        GPT2LMHeadModel.from_pretrained(tmp_path)


def test_a_missing_shard_and_a_wrong_index(tmp_path, model):
    model.save_pretrained(tmp_path, max_shard_size=5000)
    index_path = tmp_path / "model.safetensors.index.json"
    index = json.loads(index_path.read_text())
    index["weight_map"]["ghost"] = index["weight_map"]["transformer.wte.weight"]
    index_path.write_text(json.dumps(index))
    with pytest.raises(ValueError, match="no shard holds: ghost"):
        read_weights(tmp_path)
    index["weight_map"] = {"x": "../elsewhere.safetensors"}
    index_path.write_text(json.dumps(index))
    with pytest.raises(ValueError, match="lies beside its index"):
        read_weights(tmp_path)
    index_path.write_text("{}")
    with pytest.raises(ValueError, match="weight_map"):
        read_weights(tmp_path)
    model.save_pretrained(tmp_path, max_shard_size=5000)
    sorted(tmp_path.glob("model-*"))[1].unlink()
    with pytest.raises(FileNotFoundError, match="the shard model-00002-of-.*is missing"):
        GPT2LMHeadModel.from_pretrained(tmp_path)


def test_pickled_weights_are_refused_without_being_opened(tmp_path, model):
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="opening a pickle can run any code: refused[\\s\\S]*save_pretrained"):
        GPT2LMHeadModel.from_pretrained(tmp_path)


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        GPT2LMHeadModel.from_pretrained(tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match="config.json"):
        GPT2LMHeadModel.from_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match="no weights in"):
        read_weights(tmp_path)


def test_saving_into_a_file_and_strange_shard_sizes(tmp_path, model):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="is a file"):
        model.save_pretrained(tmp_path / "file")
    for size in (0, -5, "5 apples", "GB", 2.5, True):
        with pytest.raises(ValueError, match="max_shard_size"):
            model.save_pretrained(tmp_path, max_shard_size=size)


def test_an_interrupted_save_leaves_the_old_file(tmp_path, model, monkeypatch):
    model.save_pretrained(tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()

    def fail(arrays, path, metadata):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("safetensors.numpy.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == before
    assert not list(tmp_path.glob("*.partial"))
