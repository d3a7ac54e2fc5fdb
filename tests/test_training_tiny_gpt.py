"""The GPT that comes with minilm: small, whole, better than counting, and it prefers sentences to shuffled
words."""

import json

import numpy as np
import pytest

from minilm import hub
from minilm.evaluation import score_text
from minilm.models import GPT2LMHeadModel
from minilm.tokenizers import GPT2Tokenizer
from minilm.training.build_tiny_gpt import LARGEST, TINY_GPT

NAME = "minilm/tiny-gpt"
SENTENCE = "Return the value of the option as a string. If the option is not found, an exception is raised."


@pytest.fixture(scope="module")
def model():
    return GPT2LMHeadModel.from_pretrained(NAME, strict=True)


@pytest.fixture(scope="module")
def tokenizer():
    return GPT2Tokenizer.from_pretrained(NAME)


def test_its_files():
    folder = hub.resolve(NAME)
    assert sum(path.stat().st_size for path in folder.iterdir()) <= LARGEST
    report = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    assert report["validation_loss"] < min(report["counting_on_the_same_tokens"].values())
    assert (
        report["training"] == TINY_GPT.training.to_dict()
    )  # the build that is described is the one that shipped


def test_its_shape(model, tokenizer):
    config = model.config
    assert (config.vocab_size, config.n_positions) == (len(tokenizer), TINY_GPT.training.block_size)
    assert {name: getattr(config, name) for name in TINY_GPT.model} == TINY_GPT.model
    assert all(np.isfinite(parameter.numpy()).all() for parameter in model.parameters())


def test_it_prefers_sentences_to_shuffled_words(model, tokenizer):
    words = SENTENCE.split()
    shuffled = " ".join(np.random.default_rng(0).permutation(words))
    score, other = (score_text(model, tokenizer, text) for text in (SENTENCE, shuffled))
    assert score.bits_per_byte < 0.7 * other.bits_per_byte


def test_it_writes(model, tokenizer):
    prompt = np.array([tokenizer.encode("The value of")])
    texts = [
        tokenizer.decode(model.generate(prompt, max_new_tokens=20, do_sample=True, seed=seed)[0])
        for seed in (1, 1, 2)
    ]
    assert texts[0] == texts[1] != texts[2]
    assert texts[0].startswith("The value of")
