"""A pretraining run holds all of itself: tokenizer, tokens, settings; and what it writes is read by its name."""

import json

import numpy as np
import pytest

from minilm.data import TextFile, TokenDataset
from minilm.evaluation import perplexity
from minilm.models import GPT2LMHeadModel
from minilm.tokenizers import CharTokenizer, GPT2Tokenizer
from minilm.training import PRESETS, Preset, TrainingConfig, resume_pretraining, start_pretraining
from minilm.training.build_tiny_gpt import TINY_GPT, build
from minilm.training.pretrain import with_settings

DOCUMENTS = [f"The number {n} is followed by {n + 1}. After {n + 1} comes {n + 2}.\n" for n in range(120)]
SMALL = {
    "n_layer": 1, "n_head": 2, "n_embd": 8, "batch_size": 4, "block_size": 16, "steps": 8, "warmup_steps": 1,
    "eval_interval": 4, "checkpoint_interval": 4, "sample_interval": 4, "sample_tokens": 5, "vocab_size": 280,
}  # fmt: skip


def start(folder, **settings):
    return start_pretraining(folder, DOCUMENTS, progress=False, **{**SMALL, **settings})


def test_a_run_from_text_to_model(tmp_path):
    loop = start(tmp_path)
    result = loop.run()
    assert result.records[0]["validation_loss"] == pytest.approx(np.log(280), rel=0.1)
    assert result.best_loss < result.records[0]["validation_loss"]
    samples = [record["sample"] for record in result.records if "sample" in record]
    assert len(samples) == 2 and all(sample.startswith("The") for sample in samples)

    tokenizer = GPT2Tokenizer.from_pretrained(result.checkpoint)
    model = GPT2LMHeadModel.from_pretrained(result.checkpoint)
    dataset = TokenDataset.load(tmp_path / "data")
    together = [*dataset.train, *dataset.validation]
    whole = "".join(text + "<|endoftext|>" for text in DOCUMENTS)
    assert tokenizer.decode(together) == whole
    assert dataset.train[-1] == tokenizer.eos_token_id == model.config.eos_token_id
    ours = perplexity(loop.model, dataset.validation).loss
    assert perplexity(model, dataset.validation).loss == ours


def test_resume_takes_everything_from_the_folder(tmp_path):
    """In letters, with dropout: eight steps are four and four, and the files say so byte by byte."""
    settings = {"preset": "char", "vocab_size": 0, "resid_pdrop": 0.2, "attn_pdrop": 0.2}
    start(tmp_path / "whole", **settings).run()
    start(tmp_path / "parts", **settings).run()
    parts = tmp_path / "parts" / "checkpoints"
    again = resume_pretraining(tmp_path / "parts", parts / "step-000004", progress=False)
    assert again.step == 4
    assert isinstance(again.tokenizer, CharTokenizer)
    first = (parts / "step-000008" / "model.safetensors").read_bytes()
    again.run()
    for name in ("model.safetensors", "optimizer.safetensors"):
        whole = (tmp_path / "whole" / "checkpoints" / "step-000008" / name).read_bytes()
        assert (parts / "step-000008" / name).read_bytes() == whole
    assert first == (parts / "step-000008" / "model.safetensors").read_bytes()


def test_a_longer_run(tmp_path):
    start(tmp_path).run()
    assert resume_pretraining(tmp_path, progress=False, steps=10, eval_interval=5).run().step == 10
    again = resume_pretraining(tmp_path, progress=False)  # the settings are those of the run as it went on
    assert (again.step, again.config.steps, again.config.eval_interval) == (10, 10, 5)


def test_a_run_that_stopped_before_its_first_checkpoint(tmp_path):
    start(tmp_path / "whole").run()
    start(tmp_path / "parts")  # stopped before its first step
    loop = resume_pretraining(tmp_path / "parts", progress=False)
    assert loop.step == 0
    assert loop.run().step == 8
    name = "checkpoints/step-000008/model.safetensors"
    assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_the_prompt_is_tried_before_training(tmp_path):
    with pytest.raises(ValueError, match="cannot encode the sample prompt 'Q'"):
        start(tmp_path / "a", preset="char", vocab_size=0, sample_prompt="Q")
    start(tmp_path / "a", preset="char", vocab_size=0)  # nothing was left behind that refuses it
    with pytest.raises(ValueError, match="sample prompt '' has no tokens"):
        start(tmp_path / "b", sample_prompt="")
    start(tmp_path / "b", sample_prompt="", sample_interval=0)  # without samples it does not matter
    with pytest.raises(ValueError, match="cannot encode the sample prompt 'Q'"):
        resume_pretraining(tmp_path / "a", progress=False, sample_prompt="Q")


def test_a_tokenizer_that_is_there_already(tmp_path):
    tokenizer = CharTokenizer.from_text("".join(DOCUMENTS))
    loop = start(tmp_path, tokenizer=tokenizer)
    assert loop.model.config.vocab_size == len(tokenizer)
    assert loop.model.config.eos_token_id is None


def test_pieces_of_a_file_give_the_tokens_of_the_whole(tmp_path):
    """Cuts before white space are boundaries of GPT-2's words, whatever stands around them."""
    generator = np.random.default_rng(0)
    alphabet = list("ab1'., \n\t\r  ") + [
        "'s",
        "é",
        "日本",
        "\u00a0",
        "\u2003",
        "\x1c",
        "\x85",
        "½",
        "😀",
        "<|endoftext|>",
    ]
    tokenizer = GPT2Tokenizer.train(DOCUMENTS, 300)
    for number in range(40):
        text = "".join(generator.choice(alphabet, 400))
        path = tmp_path / f"{number}.txt"
        path.write_text(text, encoding="utf-8", newline="")
        whole = tokenizer.encode(TextFile(path).read())
        for size in (5, 50):  # a stretch of 16 sizes without white space would be cut anywhere
            pieces = [tokenizer.encode(piece) for piece in TextFile(path).pieces(size)]
            assert [token for piece in pieces for token in piece] == whole, (number, size)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_whole(name):
    preset = PRESETS[name]
    assert preset.model["n_embd"] % preset.model["n_head"] == 0
    assert preset.training.warmup_steps < preset.training.steps
    assert preset.about


def test_settings_go_where_they_belong():
    changed = with_settings("tiny", {"n_layer": 2, "steps": 70, "vocab_size": 500})
    assert (changed.model["n_layer"], changed.training.steps, changed.vocab_size) == (2, 70, 500)
    assert PRESETS["tiny"].training.steps != 70
    own = Preset("own", 300, {"n_layer": 1}, TrainingConfig(steps=90))
    assert with_settings(own, {}).training.steps == 90
    with pytest.raises(TypeError, match="no setting n_layers"):
        with_settings("tiny", {"n_layers": 2})
    with pytest.raises(ValueError, match="no preset 'nano'"):
        with_settings("nano", {})


def test_refusals(tmp_path):
    start(tmp_path / "run").run()
    with pytest.raises(FileExistsError, match="holds a run already"):
        start(tmp_path / "run")
    with pytest.raises(FileNotFoundError, match="holds no pretraining run"):
        resume_pretraining(tmp_path)
    with pytest.raises(ValueError, match="n_head"):
        start(tmp_path / "a", n_head=3)
    assert not (tmp_path / "a").exists()
    with pytest.raises(ValueError, match="give more text"):
        start_pretraining(tmp_path / "b", ["short\n"], "char", progress=False)


def test_the_build_of_the_tiny_gpt(tmp_path, monkeypatch):
    """A few steps of the real build: what it writes is small, is read by name, and says its loss."""
    small = Preset(
        "small",
        280,
        {**TINY_GPT.model, "n_layer": 1, "n_head": 1, "n_embd": 8},
        TINY_GPT.training.replace(
            steps=4, warmup_steps=1, eval_interval=2, eval_batches=2, sample_interval=0
        ),
    )
    monkeypatch.setattr("minilm.training.build_tiny_gpt.TINY_GPT", small)
    monkeypatch.setattr("minilm.training.pretrain.embedded_documents", lambda: tuple(DOCUMENTS * 8))
    report = build(tmp_path / "run", tmp_path / "model", progress=False)
    assert json.loads((tmp_path / "model" / "training.json").read_text()) == report
    assert report["validation_loss"] == pytest.approx(np.log(280), rel=0.2)
    assert set(report["counting_on_the_same_tokens"]) == {"1-gram", "2-gram", "3-gram"}
    assert str(tmp_path) not in "".join(
        path.read_text() for path in (tmp_path / "model").iterdir() if path.suffix in (".json", ".txt")
    )
    model = GPT2LMHeadModel.from_pretrained(tmp_path / "model")
    assert model.transformer.wte.weight.dtype == np.float32  # stored in 16 bits, widened on reading
    tokenizer = GPT2Tokenizer.from_pretrained(tmp_path / "model")
    ids = model.generate(np.array([tokenizer.encode("The")]), max_new_tokens=3, do_sample=False)
    assert tokenizer.decode(ids[0]).startswith("The")
    with monkeypatch.context() as patch:
        patch.setattr("minilm.training.build_tiny_gpt.LARGEST", 1000)
        with pytest.raises(ValueError, match="more than the 1,000"):
            build(tmp_path / "run", tmp_path / "model", progress=False)
    assert (tmp_path / "model" / "config.json").is_file()  # the one before is still there
