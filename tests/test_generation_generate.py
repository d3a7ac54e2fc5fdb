"""`generate` with a small GPT-2, and with a model that is none: it needs no more than the contract it states."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import minilm
from minilm import nn
from minilm.generation import GenerationConfig, GenerationMixin, KVCache
from minilm.generation.processors import softmax
from minilm.models import GPT2Config, GPT2LMHeadModel
from minilm.ops import Tensor

PAD, EOS = 19, 18


@pytest.fixture(scope="module")
def model():
    """A random GPT-2 in float64, far from its initialisation so that texts differ."""
    minilm.random.seed(5)
    config = GPT2Config.tiny(vocab_size=20, n_positions=48, initializer_range=0.4, eos_token_id=EOS, pad_token_id=PAD)
    return GPT2LMHeadModel(config).double().eval()


class Chain(GenerationMixin, nn.Module):
    """A Markov chain: the logits of the next token are a row of a table. No cache, no positions, not a Transformer."""

    def __init__(self, table, **special):
        super().__init__()
        self.table = np.asarray(table, dtype=np.float64)
        self.config = SimpleNamespace(vocab_size=len(self.table))
        self.generation_config = GenerationConfig(**special)
        self.calls = []

    def forward(self, input_ids, attention_mask, position_ids, past_key_values, use_cache, logits_to_keep, **extra):
        self.calls.append(SimpleNamespace(ids=input_ids, mask=attention_mask, training=self.training, **extra))
        return SimpleNamespace(logits=Tensor(self.table[input_ids[:, -logits_to_keep:]]), past_key_values=None)


CYCLE = np.eye(5)[[1, 2, 3, 4, 0]]  # after i comes i + 1


def test_greedy_by_hand():
    chain = Chain(CYCLE, eos_token_id=4, pad_token_id=0)
    got = chain.generate([[0], [2]], max_new_tokens=6)
    assert got.dtype == np.int64
    assert got.tolist() == [[0, 1, 2, 3, 4], [2, 3, 4, 0, 0]]  # the second row waits, padded, for the first


def test_shapes_of_the_input():
    chain = Chain(CYCLE)
    for ids in ([0, 1], (0, 1), np.array([0, 1], dtype=np.uint8), Tensor(np.array([[0, 1]])), [[0, 1]]):
        assert chain.generate(ids, max_new_tokens=2).tolist() == [[0, 1, 2, 3]]
    assert Chain(CYCLE, bos_token_id=3).generate(max_new_tokens=2).tolist() == [[3, 4, 0]]


def test_the_model_is_in_evaluation_mode_and_comes_back():
    chain = Chain(CYCLE).train()
    chain.generate([[0]], max_new_tokens=2)
    assert chain.training and not any(call.training for call in chain.calls)
    with pytest.raises(ZeroDivisionError):
        chain.generate([[0]], logits_processor=[lambda ids, scores: 1 / 0])
    assert chain.training


def test_a_frozen_part_stays_frozen(model):
    model.train()
    model.transformer.h[0].eval()
    model.generate([[1]], max_new_tokens=2)
    assert model.training and model.transformer.h[1].training and not model.transformer.h[0].training
    model.eval()


def test_extra_inputs_follow_their_rows():
    """What a model prepares once (an encoder's output) is repeated for beams and reordered with them."""

    class Encoded(Chain):
        def prepare_generation(self, prompt, config):
            return prompt, {"encoder_outputs": np.arange(len(prompt.input_ids)) + 100}

    chain = Encoded(CYCLE)
    chain.generate([[0], [1]], max_new_tokens=3, do_sample=True, num_return_sequences=3, seed=0)
    assert chain.calls[0].encoder_outputs.tolist() == [100, 101]
    assert all(call.encoder_outputs.tolist() == [100] * 3 + [101] * 3 for call in chain.calls[1:])
    chain.calls.clear()
    chain.generate([[0], [1]], max_new_tokens=3, num_beams=2)
    assert all(call.encoder_outputs.tolist() == [100] * 2 + [101] * 2 for call in chain.calls[1:])


def test_the_prompt_is_read_once_however_many_texts(model):
    seen = []
    handle = model.register_forward_hook(lambda module, args, output: seen.append(output.logits.shape))
    model.generate([[1, 2, 3]], max_new_tokens=3, num_beams=4, eos_token_id=None)
    handle.remove()
    assert seen == [(1, 1, 20), (4, 1, 20), (4, 1, 20)]


# --- cache, batches -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"do_sample": True, "seed": 3, "num_return_sequences": 3}])
@pytest.mark.parametrize("padded", [False, True])
def test_with_and_without_a_cache(model, options, padded):
    ids = np.random.default_rng(0).integers(0, EOS, (3, 6))
    mask = np.ones_like(ids)
    if padded:
        mask[1, :4] = 0
    options = {**options, "max_new_tokens": 20, "return_dict_in_generate": True, "output_logits": True}
    cached = model.generate(ids, mask, use_cache=True, **options)
    plain = model.generate(ids, mask, use_cache=False, **options)
    assert np.array_equal(cached.sequences, plain.sequences)
    for a, b in zip(cached.logits, plain.logits, strict=True):
        assert np.abs(a - b).max() <= 1e-12
    assert isinstance(cached.past_key_values, KVCache) and plain.past_key_values is None


@pytest.mark.parametrize("options", [{}, {"repetition_penalty": 1.5}, {"no_repeat_ngram_size": 2}, {"num_beams": 3}])
def test_a_row_in_a_batch_gives_the_tokens_it_gives_alone(model, options):
    rng = np.random.default_rng(1)
    rows = [rng.integers(0, EOS, n) for n in (7, 1, 4, 7, 2)]
    ids = np.array([[PAD] * (7 - len(row)) + row.tolist() for row in rows])
    mask = np.array([[0] * (7 - len(row)) + [1] * len(row) for row in rows])
    together = model.generate(ids, attention_mask=mask, max_new_tokens=15, **options)
    for row, got in zip(rows, together, strict=True):
        alone = model.generate(row, max_new_tokens=15, **options)[0, len(row) :]
        expected = np.full(15, PAD)
        expected[: len(alone)] = alone
        assert got[7:].tolist() == expected[: together.shape[1] - 7].tolist()
    # Without a mask the padding token says where the text begins.
    assert np.array_equal(model.generate(ids, max_new_tokens=15, **options), together)


def test_what_stands_under_the_padding_does_not_matter(model):
    ids = np.array([[3, 4, 5, 6], [7, 8, 9, 10]])
    mask = np.array([[0, 0, 1, 1], [1, 1, 1, 1]])
    other = ids.copy()
    other[0, :2] = [11, 0]
    options = {"max_new_tokens": 8, "repetition_penalty": 1.7, "no_repeat_ngram_size": 2}
    assert np.array_equal(model.generate(ids, mask, **options)[:, 4:], model.generate(other, mask, **options)[:, 4:])


def test_what_counts_as_padding_where_no_mask_is_given():
    chain = Chain(CYCLE, pad_token_id=0)
    assert chain.generate([[0]], max_new_tokens=2).tolist() == [[0, 1, 2]]  # a text of one token, not of none
    assert chain.generate([[0, 0, 3], [1, 0, 2]], max_new_tokens=1).tolist() == [[0, 0, 3, 4], [1, 0, 2, 3]]
    assert chain.calls[-1].mask.tolist() == [[False, False, True], [True, True, True]]
    with pytest.raises(ValueError, match="ends in the padding token 0"):
        chain.generate([[1, 2], [1, 0]])
    assert chain.generate([[1, 2], [1, 0]], [[1, 1], [1, 1]], max_new_tokens=1).tolist() == [[1, 2, 3], [1, 0, 1]]


# --- sampling -------------------------------------------------------------------------------------------------------


def test_seeds(model):
    options = {"do_sample": True, "max_new_tokens": 12, "top_k": 0}
    first = model.generate([[1, 2]], seed=4, **options)
    assert np.array_equal(first, model.generate([[1, 2]], seed=4, **options))
    assert not np.array_equal(first, model.generate([[1, 2]], seed=5, **options))
    minilm.random.seed(9)
    a, b = (model.generate([[1, 2]], **options) for _ in range(2))
    minilm.random.seed(9)
    assert np.array_equal(a, model.generate([[1, 2]], **options)) and not np.array_equal(a, b)


def test_samples_have_the_distribution_of_the_scores():
    logits = np.array([0.3, -1.0, 1.2, 0.0, -0.5])
    chain = Chain(np.tile(logits, (5, 1)))
    n = 40_000
    for options, shaped in (({"top_k": 0}, logits), ({"temperature": 0.5, "top_k": 3}, None)):
        got = chain.generate([[0]], do_sample=True, num_return_sequences=n, max_new_tokens=1, seed=0, **options)
        p = softmax(logits) if shaped is not None else softmax(np.where(logits < 0, -np.inf, logits / 0.5))
        frequency = np.bincount(got[:, 1], minlength=5) / n
        assert (np.abs(frequency - p) <= 5 * np.sqrt(p * (1 - p) / n)).all()  # five standard deviations


def test_sampled_beams_are_texts_of_their_own(model):
    options = {"num_beams": 4, "num_return_sequences": 4, "do_sample": True, "max_new_tokens": 8}
    got = model.generate([[1, 2]], seed=1, **options)
    assert len({tuple(row) for row in got}) == 4
    assert np.array_equal(got, model.generate([[1, 2]], seed=1, **options))
    assert not np.array_equal(got, model.generate([[1, 2]], seed=2, **options))


def test_several_texts_without_a_word_on_sampling(model):
    with pytest.warns(UserWarning, match="num_return_sequences=5 without beams: sampling"):
        got = model.generate([[1, 2]], max_new_tokens=10, eos_token_id=None, num_return_sequences=5, seed=0)
    assert got.shape[0] == 5 and len({tuple(row) for row in got}) == 5
    with pytest.raises(ValueError, match="same text again and again"):
        model.generate([[1, 2]], num_return_sequences=5, do_sample=False)


# --- results --------------------------------------------------------------------------------------------------------


def test_scores_of_a_greedy_run(model):
    got = model.generate(
        [[1, 2], [3, 4]],
        max_new_tokens=5,
        eos_token_id=None,
        repetition_penalty=2.0,
        return_dict_in_generate=True,
        output_scores=True,
        output_logits=True,
    )
    assert got.keys() == ["sequences", "scores", "logits", "past_key_values"]
    full = model(got.sequences).logits.numpy()
    for t in range(5):
        assert np.abs(got.logits[t] - full[:, 1 + t]).max() <= 1e-12
        assert np.array_equal(got.scores[t].argmax(axis=1), got.sequences[:, 2 + t])
    assert any((a.argmax(axis=1) != b.argmax(axis=1)).any() for a, b in zip(got.scores, got.logits, strict=True))


def test_scores_of_beams(model):
    got = model.generate(
        [[1, 2]], max_new_tokens=6, num_beams=3, num_return_sequences=3, length_penalty=0.7,
        return_dict_in_generate=True, output_scores=True,
    )  # fmt: skip
    for text, score, rows in zip(got.sequences, got.sequences_scores, got.beam_indices, strict=True):
        length = int((rows >= 0).sum())
        total = sum(got.scores[t][rows[t], text[2 + t]] for t in range(length))
        assert score == pytest.approx(total / length**0.7, rel=1e-12)


def test_more_beams_find_better_texts(model):
    ids = np.random.default_rng(2).integers(0, EOS, (8, 4))
    best = [
        model.generate(
            ids, num_beams=k, max_new_tokens=8, eos_token_id=None, return_dict_in_generate=True
        ).sequences_scores.mean()
        for k in (2, 4, 16)
    ]
    assert best[0] < best[1] < best[2]


# --- stopping -------------------------------------------------------------------------------------------------------


def test_stopping_criteria_and_several_end_tokens():
    chain = Chain(CYCLE)
    assert chain.generate([[0]], max_new_tokens=9, eos_token_id=[3, 2]).tolist() == [[0, 1, 2]]
    stop = lambda ids, scores: ids[:, -1] == 3  # noqa: E731
    assert chain.generate([[0]], max_new_tokens=9, stopping_criteria=[stop]).tolist() == [[0, 1, 2, 3]]
    assert chain.generate([[0]], max_length=3).tolist() == [[0, 1, 2]]
    assert chain.generate([[0, 1]]).shape == (1, 22)  # 20 new tokens


def test_stop_strings():
    tokenizer = SimpleNamespace(decode=lambda ids, **options: "".join("abcde"[i] for i in ids))
    chain = Chain(CYCLE)
    got = chain.generate([[2, 3], [0, 1]], max_new_tokens=9, stop_strings="ab", tokenizer=tokenizer, pad_token_id=4)
    assert got.tolist() == [[2, 3, 4, 0, 1, 4, 4], [0, 1, 2, 3, 4, 0, 1]]  # the prompt's own "ab" does not count
    with pytest.raises(ValueError, match="tokenizer=tokenizer"):
        chain.generate([[0]], stop_strings=["ab"])


def test_a_processor_of_the_users():
    seen = []

    def shift(ids, scores):
        seen.append(ids.copy())
        return np.roll(scores, 1, axis=1)

    assert Chain(CYCLE).generate([[0]], max_new_tokens=3, logits_processor=[shift]).tolist() == [[0, 2, 4, 1]]
    assert [ids.shape for ids in seen] == [(1, 1), (1, 2), (1, 3)]


def test_a_window_slides_over_a_long_text(model):
    got = model.generate([[1, 2, 3]], max_new_tokens=80, eos_token_id=None, sliding_window=True)
    assert got.shape == (1, 83)
    for t in (47, 48, 60, 82):  # each token is the best after the 48 before it
        window = got[:, max(0, t - 48) : t]
        assert got[0, t] == model(window).logits.numpy()[0, -1].argmax()
    padded = model.generate(
        [[PAD] * 9 + [1, 2, 3], [5] * 12], max_new_tokens=71, eos_token_id=None, sliding_window=True
    )
    assert np.array_equal(padded[0, 9:48], got[0, :39])


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"temprature": 0.5}, TypeError, "did you mean 'temperature'"),
        ({"max_tokens": 5}, TypeError, "did you mean 'max_new_tokens'"),
        ({"logit_processors": []}, TypeError, "did you mean 'logits_processor'"),
        ({"attention_masks": None}, TypeError, "did you mean 'attention_mask'"),
        ({"penalty_alpha": 0.6}, TypeError, "minilm does not"),
        ({"temperature": 0.0, "do_sample": True}, ValueError, "above 0"),
        ({"max_new_tokens": 100}, ValueError, "the model has 48"),
        ({"max_length": 2}, ValueError, "nothing is left to generate"),
        ({"attention_mask": [[1, 0]]}, ValueError, "padding belongs on the left"),
        ({"attention_mask": [[0, 0]]}, ValueError, "padding belongs on the left"),
        ({"attention_mask": [[1, 1, 1]]}, ValueError, "shape of input_ids"),
        ({"num_beams": 2, "streamer": print}, ValueError, "only at the end"),
        ({"streamer": 3}, TypeError, "streamer should be"),
        ({"bad_words_ids": [[99]]}, ValueError, "vocabulary ends at 19"),
        ({"suppress_tokens": list(range(20))}, ValueError, "every next token is forbidden"),
    ],
)
def test_refused_options(model, options, error, message):
    with pytest.raises(error, match=message):
        model.generate([[1, 2]], **options)


@pytest.mark.parametrize(
    "ids, error, message",
    [
        ([[1, 20]], ValueError, "between 0 and 19"),
        ([[-1]], ValueError, "between 0 and 19"),
        ([[0.5]], TypeError, "should be integers"),
        ("Once", TypeError, "should be integers.*tokenizer first"),
        ([[1, 2], [3]], ValueError, "different lengths"),
        ([[]], ValueError, "at least one token"),
        ([[[1]]], ValueError, "should be \\(B, T\\)"),
        (None, ValueError, "bos_token_id"),
    ],
)
def test_refused_prompts(model, ids, error, message):
    with pytest.raises(error, match=message):
        model.generate(ids)


def test_warnings(model):
    with pytest.warns(UserWarning, match="temperature, top_p has no effect without do_sample=True"):
        model.generate([[1, 2]], temperature=0.5, top_p=0.9)
    with pytest.warns(UserWarning, match="max_new_tokens wins"):
        model.generate([[1, 2]], max_length=5, max_new_tokens=2)


def test_broken_weights_are_noticed():
    chain = Chain(CYCLE * np.nan)
    with pytest.raises(FloatingPointError, match="NaN"):
        chain.generate([[0]])


def test_a_generation_config_is_used_in_place_of_the_models_own(model):
    given = GenerationConfig(max_new_tokens=4, min_new_tokens=4)
    assert model.generate([[1, 2]], generation_config=given).shape == (1, 6)
    assert model.generate([[1, 2]], generation_config=given, max_new_tokens=6, min_new_tokens=6).shape == (1, 8)
    # Its special tokens are the model's.
    got = model.generate([[1, 2]], generation_config=given, forced_eos_token_id=EOS)
    assert got[0, -1] == EOS
