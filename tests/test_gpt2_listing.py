"""A user's first program: five texts from a model folder, as written for Transformers with its imports changed."""

from __future__ import annotations

import pytest

import minilm
from minilm import GPT2LMHeadModel, GPT2Tokenizer
from minilm.models import GPT2Config

TEXT = "Once upon a time there was a small model, and once upon a time it told a story. " * 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "tiny"
    minilm.random.seed(0)
    tokenizer = GPT2Tokenizer.train(TEXT, vocab_size=300)
    tokenizer.save_pretrained(path)
    end = tokenizer.eos_token_id
    config = GPT2Config.tiny(vocab_size=len(tokenizer), n_positions=64, bos_token_id=end, eos_token_id=end)
    GPT2LMHeadModel(config).save_pretrained(path)
    return str(path)


def test_five_texts(folder, capsys):
    model = GPT2LMHeadModel.from_pretrained(folder)
    tokenizer = GPT2Tokenizer.from_pretrained(folder)

    input_text = "Once upon a time"
    input_ids = tokenizer.encode(input_text, return_tensors="np")

    with pytest.warns(UserWarning, match="sampling"):
        output = model.generate(input_ids, max_length=50, num_return_sequences=5)

    for i, sequence in enumerate(output):
        text = tokenizer.decode(sequence, skip_special_tokens=True)
        print(f"Generated text {i + 1}: {text}")

    printed = capsys.readouterr().out
    assert all(f"Generated text {i}: Once upon a time" in printed for i in range(1, 6))
    assert output.shape == (5, 50) and len({tuple(row) for row in output}) == 5


def test_a_padded_batch_from_the_tokenizer(folder):
    model = GPT2LMHeadModel.from_pretrained(folder)
    tokenizer = GPT2Tokenizer.from_pretrained(folder, padding_side="left")
    tokenizer.pad_token = tokenizer.eos_token
    texts = ["Once upon", "a small model, and once upon"]
    batch = tokenizer(texts, return_tensors="np", padding=True)
    assert batch["attention_mask"].min() == 0
    together = model.generate(**batch, max_new_tokens=8, min_new_tokens=8)
    for text, row in zip(texts, together, strict=True):
        alone = model.generate(tokenizer.encode(text, return_tensors="np"), max_new_tokens=8, min_new_tokens=8)[0]
        assert row[-8:].tolist() == alone[-8:].tolist()
