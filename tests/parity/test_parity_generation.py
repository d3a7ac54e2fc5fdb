"""`generate` against Transformers: the same tokens for greedy and beam search, the same distribution for sampling."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from transformers.generation import logits_process as theirs  # noqa: E402

from minilm import generation as ours  # noqa: E402
from minilm.generation import GenerationConfig  # noqa: E402
from minilm.generation.processors import build_processors, softmax  # noqa: E402
from minilm.models import GPT2LMHeadModel  # noqa: E402

transformers.logging.set_verbosity_error()

VOCAB, PAD, EOS = 23, 22, 21


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """One random model in both libraries, in float64 so that a near tie falls the same way in both."""
    torch.manual_seed(3)
    config = transformers.GPT2Config(
        vocab_size=VOCAB,
        n_positions=64,
        n_embd=16,
        n_layer=2,
        n_head=2,
        initializer_range=0.35,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )
    reference = transformers.GPT2LMHeadModel(config).double().eval()
    folder = tmp_path_factory.mktemp("gpt2")
    reference.save_pretrained(folder)
    return GPT2LMHeadModel.from_pretrained(folder), reference


def prompts(seed, rows=4, length=7, padded=False):
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, EOS, (rows, length))
    mask = np.ones_like(ids)
    if padded:
        for row, pad in enumerate(rng.integers(0, length - 1, rows)):
            ids[row, :pad], mask[row, :pad] = PAD, 0
    return ids, mask


def batches(seed, padded, options):
    """One batch of prompts; row by row where Transformers takes padding for text and a row depends on it."""
    ids, mask = prompts(seed, padded=padded)
    if not (padded and "no_repeat_ngram_size" in options):
        return [(ids, mask)]
    return [
        (row[real][None], np.ones((1, real.sum()), dtype=np.int64)) for row, real in zip(ids, mask == 1, strict=True)
    ]


def both(pair, ids, mask, **options):
    model, reference = pair
    expected = reference.generate(torch.tensor(ids), attention_mask=torch.tensor(mask), **options)
    got = model.generate(ids, attention_mask=mask, **options)
    return got, expected


GREEDY = {
    "plain": {},
    "max_length": {"max_length": 20},
    "penalty": {"repetition_penalty": 1.7, "max_new_tokens": 25},
    "penalty below 1": {"repetition_penalty": 0.6, "max_new_tokens": 10},
    "bigrams": {"no_repeat_ngram_size": 2, "max_new_tokens": 25},
    "trigrams": {"no_repeat_ngram_size": 3, "max_new_tokens": 40},
    "bad words": {"bad_words_ids": [[3], [5, 6], [1, 2, 4], [9]], "max_new_tokens": 25},
    "several ends": {"eos_token_id": [EOS, 4, 11], "max_new_tokens": 30},
    "min_length": {"eos_token_id": [EOS, 4, 11, 7], "min_length": 14, "max_new_tokens": 30},
    "min_new_tokens": {"eos_token_id": [EOS, 4, 11, 7], "min_new_tokens": 9, "max_new_tokens": 30},
    "forced end": {"forced_eos_token_id": EOS, "max_new_tokens": 6},
    "suppressed": {"suppress_tokens": [1, 2, 3, 15], "begin_suppress_tokens": [8, 9, 10], "max_new_tokens": 12},
    "no cache": {"use_cache": False, "max_new_tokens": 12},
    "all at once": {
        "repetition_penalty": 1.3,
        "no_repeat_ngram_size": 3,
        "bad_words_ids": [[3], [5, 6]],
        "min_new_tokens": 4,
        "eos_token_id": [EOS, 2],
        "max_new_tokens": 30,
    },
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("options", GREEDY.values(), ids=GREEDY)
def test_greedy(pair, options, padded, seed):
    for ids, mask in batches(seed, padded, options):
        got, expected = both(pair, ids, mask, **options)
        assert got.dtype == np.int64 and np.array_equal(got, expected.numpy())


BEAMS = {
    "two": {"num_beams": 2},
    "three": {"num_beams": 3, "num_return_sequences": 3},
    "four, long": {"num_beams": 4, "max_new_tokens": 30, "length_penalty": 2.0},
    "five, short": {"num_beams": 5, "length_penalty": 0.3, "num_return_sequences": 2},
    "no length penalty": {"num_beams": 4, "length_penalty": 0.0, "num_return_sequences": 4},
    "negative length penalty": {"num_beams": 3, "length_penalty": -1.0, "num_return_sequences": 3},
    "early": {"num_beams": 3, "early_stopping": True, "num_return_sequences": 3},
    "never": {"num_beams": 3, "early_stopping": "never", "length_penalty": 1.4, "num_return_sequences": 3},
    "never, short": {"num_beams": 3, "early_stopping": "never", "length_penalty": -0.5, "num_return_sequences": 3},
    "several ends": {"num_beams": 4, "eos_token_id": [EOS, 4, 11], "num_return_sequences": 4},
    "penalty": {"num_beams": 3, "repetition_penalty": 1.6, "num_return_sequences": 2},
    "bigrams": {"num_beams": 3, "no_repeat_ngram_size": 2, "num_return_sequences": 3},
    "min_new_tokens": {"num_beams": 3, "eos_token_id": [EOS, 4, 11, 7, 1], "min_new_tokens": 6},
    "bad words": {"num_beams": 3, "bad_words_ids": [[3], [5, 6]], "forced_eos_token_id": EOS, "max_new_tokens": 9},
    "renormalised": {"num_beams": 4, "suppress_tokens": [1, 2, 15], "renormalize_logits": True},
    "no cache": {"num_beams": 3, "use_cache": False},
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("options", BEAMS.values(), ids=BEAMS)
def test_beams(pair, options, padded, seed):
    options = {"max_new_tokens": 14, **options, "return_dict_in_generate": True, "output_scores": True}
    for ids, mask in batches(10 + seed, padded, options):
        got, expected = both(pair, ids, mask, **options)
        assert np.array_equal(got.sequences, expected.sequences.numpy())
        their_scores = expected.sequences_scores.numpy()  # they sum in float32
        assert np.abs(got.sequences_scores / their_scores - 1).max() <= 1e-5
        for mine, their in zip(got.beam_indices, expected.beam_indices.numpy(), strict=True):
            assert np.array_equal(mine[mine >= 0], their[their >= 0])


def test_scores_and_logits_of_a_greedy_run(pair):
    ids, mask = prompts(5, padded=True)
    options = {"max_new_tokens": 8, "repetition_penalty": 1.4, "return_dict_in_generate": True}
    got, expected = both(pair, ids, mask, **options, output_scores=True, output_logits=True)
    for name in ("scores", "logits"):
        assert len(got[name]) == len(expected[name]) == 8
        for a, b in zip(got[name], expected[name], strict=True):
            assert np.abs(a - b.numpy()).max() <= 1e-5


def scores_and_ids(seed, ties, rows=6, length=9, vocab=40):
    rng = np.random.default_rng(seed)
    scores = (3 * rng.standard_normal((rows, vocab))).astype(np.float32)
    scores[3, rng.integers(0, vocab, 12)] = -np.inf
    if ties:
        scores[1] = 0.0  # all equal
        scores[2, : vocab // 2] = scores[2, -(vocab // 2) :]  # every value twice
    return scores, rng.integers(0, vocab, (rows, length))


SINGLE = {
    "temperature 0.3": ("TemperatureLogitsWarper", (0.3,)),
    "temperature 2": ("TemperatureLogitsWarper", (2.0,)),
    **{f"top_k {k}": ("TopKLogitsWarper", (k,)) for k in (1, 3, 7, 39, 40, 1000)},
    **{f"top_p {p}": ("TopPLogitsWarper", (p,)) for p in (0.05, 0.5, 0.9, 0.999, 1.0)},
    **{f"min_p {p}": ("MinPLogitsWarper", (p,)) for p in (0.0, 0.02, 0.2, 1.0)},
    **{f"typical {p}": ("TypicalLogitsWarper", (p,)) for p in (0.1, 0.5, 0.95)},
    "penalty 1.5": ("RepetitionPenaltyLogitsProcessor", (1.5,)),
    "penalty 0.5": ("RepetitionPenaltyLogitsProcessor", (0.5,)),
    **{f"{n}-grams": ("NoRepeatNGramLogitsProcessor", (n,)) for n in (1, 2, 3)},
    "normalised": ("LogitNormalization", ()),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name, arguments", SINGLE.values(), ids=SINGLE)
def test_each_processor(name, arguments, seed):
    # Among equal scores top-p drops whichever its sort put first, and neither sort promises an order.
    scores, ids = scores_and_ids(seed, ties=name != "TopPLogitsWarper", vocab=40 if "NGram" not in name else 5)
    before = scores.copy()
    got = getattr(ours, name)(*arguments)(ids, scores)
    assert np.array_equal(scores, before), "a processor changed its input"
    # Theirs work on a copy: some of them write into the scores they are given.
    expected = getattr(theirs, name)(*arguments)(torch.tensor(ids), torch.tensor(before)).numpy()
    assert got.dtype == np.float32
    assert np.array_equal(np.isneginf(got), np.isneginf(expected))
    alive = ~np.isneginf(expected)
    assert np.abs(got[alive] - expected[alive]).max() <= 1e-6 * max(1.0, np.abs(expected[alive]).max())


SAMPLED = {
    "default": {},
    "temperature": {"temperature": 0.6, "top_k": 0},
    "top_k": {"top_k": 5},
    "top_p": {"top_p": 0.7, "top_k": 0},
    "min_p": {"min_p": 0.1, "top_k": 0},
    "typical": {"typical_p": 0.6, "top_k": 0},
    "all": {"temperature": 1.3, "top_k": 12, "top_p": 0.9, "min_p": 0.02, "typical_p": 0.9, "repetition_penalty": 1.2},
    "beams": {"temperature": 1.3, "top_k": 1, "top_p": 0.1, "num_beams": 3, "eos_token_id": [1, 2]},
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("options", SAMPLED.values(), ids=SAMPLED)
def test_the_distribution_that_is_sampled(pair, options, seed):
    """The whole chain as each library builds it from the same options: order, defaults and truncation."""
    scores, ids = scores_and_ids(seed, ties="top_p" not in options, vocab=VOCAB)
    chain = build_processors(GenerationConfig(**options, do_sample=True), prompt_length=4, max_length=20, sampling=True)
    config = transformers.GenerationConfig(**{"top_k": 50, **options}, do_sample=True)
    reference = pair[1]
    reference._prepare_special_tokens(config)
    their_chain = reference._get_logits_processor(config, input_ids_seq_length=4, logits_processor=[])
    expected = their_chain(torch.tensor(ids), torch.tensor(scores)).softmax(dim=-1).numpy()
    got = softmax(chain(ids, scores))
    assert np.array_equal(got > 0, expected > 0)
    assert np.abs(got - expected).max() <= 1e-6


def test_a_configuration_file_goes_back_and_forth(tmp_path):
    reference = transformers.GenerationConfig(
        max_new_tokens=12, num_beams=4, eos_token_id=[3, 4], bad_words_ids=[[7], [8, 9]], early_stopping="never"
    )
    reference.save_pretrained(tmp_path)
    config = GenerationConfig.from_pretrained(tmp_path)
    assert (config.max_new_tokens, config.num_beams, config.eos_token_id) == (12, 4, (3, 4))
    assert config.bad_words_ids == ((7,), (8, 9)) and config.early_stopping == "never"
    config.save_pretrained(tmp_path / "again")
    again = transformers.GenerationConfig.from_pretrained(tmp_path / "again")
    for name in ("max_new_tokens", "num_beams", "eos_token_id", "bad_words_ids", "early_stopping", "top_k"):
        assert getattr(again, name) == getattr(reference, name)
