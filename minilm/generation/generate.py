"""GenerationMixin: `generate`, the loop that turns a model of the next token into text.

It knows no particular model: what it needs is in the contract of `GenerationMixin`. Choosing tokens is here; which
tokens are allowed is in `processors`, when to stop in `stopping`, the bookkeeping of beams in `beams`.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from minilm import random
from minilm.generation.beams import BeamSearch
from minilm.generation.cache import KVCache
from minilm.generation.config import GenerationConfig
from minilm.generation.outputs import GenerateOutput
from minilm.generation.processors import LogitsProcessor, LogitsProcessorList, build_processors, log_softmax, softmax
from minilm.generation.prompt import Prompt, read_prompt
from minilm.generation.stepper import Stepper
from minilm.generation.stopping import StoppingCriteriaList, StoppingCriterion, build_criteria
from minilm.generation.streamers import Streamer, as_streamer

_SAMPLING_OPTIONS = ("temperature", "top_k", "top_p", "min_p", "typical_p")
_ARGUMENTS = ("input_ids", "attention_mask", "logits_processor", "stopping_criteria", "streamer", "sliding_window")


class GenerationMixin:
    """Gives a model `generate`. The model is a Module with a `config`, and its forward pass keeps this contract:

        output = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1, **inputs)

    ids               (B, t) int64 array; with a cache only the tokens that it has not seen
    attention_mask    (B, T) bool or None; T counts the cached positions too, True = a real token
    position_ids      (B, t) int64 or None; given where padding on the left shifts the positions
    past_key_values   a `KVCache` to go on with, or None
    output.logits     (B, >= 1, V): at least the last position's logits
    output.past_key_values   the cache to pass next time, where use_cache=True

    A model that reads something else first (an encoder) overrides `prepare_generation`, which turns what the user
    passed into the ids that the decoder starts from and the extra inputs of every step.
    """

    config: Any
    training: bool
    generation_config: GenerationConfig

    if TYPE_CHECKING:  # these come from Module

        def __call__(self, *args: Any, **kwargs: Any) -> Any: ...

        def modules(self) -> Iterator[Any]: ...

        def eval(self) -> Any: ...

    # --- what a model may override ---------------------------------------------------------------------------------

    def prepare_generation(self, prompt: Prompt, config: GenerationConfig) -> tuple[Prompt, dict[str, Any]]:
        """The prompt that the decoder continues, and extra inputs of every step (each batched along axis 0)."""
        return prompt, {}

    def prepare_inputs_for_generation(
        self, input_ids: np.ndarray, attention_mask: np.ndarray | None, past_key_values: KVCache | None, **extra: Any
    ) -> dict[str, Any]:
        """The forward pass's inputs for one step: the tokens that the cache has not seen, with their positions."""
        position_ids = None
        if attention_mask is not None:
            # The first real token of a row has position 0 however much padding stands before it.
            position_ids = np.maximum(np.cumsum(attention_mask, axis=1) - 1, 0)
        seen = 0 if past_key_values is None else past_key_values.length
        return {
            "input_ids": input_ids[:, seen:],
            "attention_mask": attention_mask,
            "position_ids": None if position_ids is None else position_ids[:, seen:],
            "past_key_values": past_key_values,
            **extra,
        }

    # --- generate --------------------------------------------------------------------------------------------------

    def generate(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        *,
        generation_config: GenerationConfig | None = None,
        logits_processor: Sequence[LogitsProcessor] = (),
        stopping_criteria: Sequence[StoppingCriterion] = (),
        streamer: Streamer | Callable[[np.ndarray], Any] | None = None,
        tokenizer: Any = None,
        seed: int | None = None,
        sliding_window: bool = False,
        **options: Any,
    ) -> Any:
        """Continue each row of `input_ids`; returns the rows with their continuations, (B * n, T') int64.

        Greedy:    y_t = argmax p(y | y_<t)
        Sampling:  y_t drawn from p(y | y_<t), bent by temperature, top_k, top_p, min_p, typical_p
        Beams:     the texts with the highest sum_t log p(y_t | y_<t) / length ** length_penalty that a search with
                   `num_beams` open texts finds

        Args:
            input_ids: (B, T) or (T,), an array, nested lists or a Tensor. Without it, the text starts from
                bos_token_id.
            attention_mask: (B, T), 1 for a real token and 0 for padding, which belongs on the left. Without it,
                padding is recognised by pad_token_id, unless that is also an end token.
            generation_config: used in place of the model's own; special tokens it leaves out are the model's.
            logits_processor: functions `(input_ids, scores) -> scores`, run after the built-in ones and before
                temperature and truncation.
            stopping_criteria: functions `(input_ids, scores) -> (B,) bool`.
            streamer: a function that gets each step's tokens (B * n,), or an object with put and end.
            tokenizer: needed for stop_strings.
            seed: of the sampling; without it, numbers come from the generator that `minilm.seed` sets.
            sliding_window: let the text grow beyond the model's positions, reading only as many of the last tokens
                as there are positions (slower there: the cache is of no use).
            **options: the fields of `GenerationConfig`, over the configuration's values.

        Rows that end early are filled with pad_token_id (or the first end token). While generating the model is in
        evaluation mode, so dropout is off; afterwards every layer is in the mode that it was in.

        Returns: an int64 array, or a `GenerateOutput` with return_dict_in_generate=True.
        Raises: `TypeError` for an unknown option, with the nearest known one; `ValueError` for values out of range,
            a prompt that leaves no room, or constraints that forbid every token.
        """
        config = self._generation_options(generation_config, options)
        prompt, extra = self.prepare_generation(
            read_prompt(input_ids, attention_mask, config, getattr(self.config, "vocab_size", None)), config
        )
        positions = getattr(self.config, "max_position_embeddings", None)
        max_length = config.resolve_max_length(prompt.length, None if sliding_window else positions)
        run = _Run(
            stepper=Stepper(
                self,
                prompt.attention_mask,
                use_cache=config.use_cache,
                window=positions if sliding_window else None,
                extra=extra,
            ),
            config=config,
            prompt=prompt,
            max_length=max_length,
            logits_processor=logits_processor,
            stopping=build_criteria(
                eos_token_ids=config.eos_token_ids,
                max_length=max_length,
                stop_strings=config.stop_strings,
                tokenizer=tokenizer,
                prompt_length=prompt.length,
                custom=stopping_criteria,
            ),
            rng=np.random.default_rng(seed) if seed is not None else random.generator(),
        )
        modes = [(module, module.training) for module in self.modules()]
        self.eval()
        try:
            if config.num_beams > 1:
                if streamer is not None:
                    raise ValueError("beam search knows its text only at the end: stream with num_beams=1")
                output = run.beams()
            else:
                output = run.single(as_streamer(streamer))
        finally:
            for module, training in modes:
                module.training = training
        return output if config.return_dict_in_generate else output.sequences

    def _generation_options(self, given: GenerationConfig | None, options: dict[str, Any]) -> GenerationConfig:
        """The configuration of one call: what was passed over what was given over the model's own."""
        own = self.generation_config
        config = own if given is None else given
        for name in options:
            close = difflib.get_close_matches(name, _ARGUMENTS, n=1, cutoff=0.8)
            if close and name not in config.field_names():
                raise TypeError(f"unknown option '{name}' for generate; did you mean '{close[0]}'?")
        config = config.updated(**options)
        if given is not None:
            tokens = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")
            config = config.updated(**{t: getattr(own, t) for t in tokens if getattr(config, t) is None})
        config.check_supported()
        if options.get("max_length") is not None and options.get("max_new_tokens") is not None:
            warnings.warn("both max_length and max_new_tokens were given: max_new_tokens wins", stacklevel=3)
        if config.sampling and config.do_sample is None:
            warnings.warn(
                f"num_return_sequences={config.num_return_sequences} without beams: sampling, because the most likely "
                "text is one and the same (do_sample=True says so and silences this)",
                stacklevel=3,
            )
        unused = [name for name in _SAMPLING_OPTIONS if name in options and not config.sampling]
        if unused:
            warnings.warn(f"{', '.join(unused)} has no effect without do_sample=True", stacklevel=3)
        return config


class _Run:
    """One call of `generate`: the loops, with everything that they share."""

    def __init__(
        self,
        *,
        stepper: Stepper,
        config: GenerationConfig,
        prompt: Prompt,
        max_length: int,
        logits_processor: Sequence[LogitsProcessor],
        stopping: StoppingCriteriaList,
        rng: np.random.Generator,
    ) -> None:
        self.stepper = stepper
        self.config = config
        self.prompt = prompt
        self.max_length = max_length
        self.custom = logits_processor
        self.stopping = stopping
        self.rng = rng
        self.scores: list[np.ndarray] = []
        self.logits: list[np.ndarray] = []

    def processors(self, copies: int) -> LogitsProcessorList:
        """The chain of processors, for `copies` rows of each prompt."""
        padding = self.prompt.padding
        return build_processors(
            self.config,
            prompt_length=self.prompt.length,
            max_length=self.max_length,
            sampling=self.config.sampling,
            padding=None if padding is None else padding.repeat(copies),
            custom=self.custom,
        )

    def keep(self, logits: np.ndarray, scores: np.ndarray) -> None:
        """Remember one step's numbers where they were asked for."""
        if self.config.output_logits:
            self.logits.append(logits.copy())
        if self.config.output_scores:
            self.scores.append(scores.copy())

    def output(self, sequences: np.ndarray, **more: Any) -> GenerateOutput:
        return GenerateOutput(
            sequences=sequences,
            scores=tuple(self.scores) or None,
            logits=tuple(self.logits) or None,
            past_key_values=self.stepper.cache,
            **more,
        )

    @property
    def fill(self) -> int:
        """What stands after the end of a row that is shorter than the longest."""
        if self.config.pad_token_id is not None:
            return self.config.pad_token_id
        return self.config.eos_token_ids[0] if self.config.eos_token_ids else 0

    def single(self, streamer: Streamer | None) -> GenerateOutput:
        """Greedy choice or sampling: each row goes its own way."""
        copies = self.config.num_return_sequences
        ids = self.prompt.input_ids
        process = self.processors(copies)
        if streamer is not None:
            streamer.put(ids)
        open_rows = np.ones(len(ids) * copies, dtype=bool)
        while open_rows.any():
            logits = self.stepper.logits(ids)
            if len(logits) < len(open_rows):
                # The prompt has been read once for each row; from here on each has `num_return_sequences` texts.
                rows = np.arange(len(ids)).repeat(copies)
                self.stepper.select(rows)
                ids, logits = ids[rows], logits[rows]
            scores = process(ids, logits)
            self.keep(logits, scores)
            _check_possible(scores[open_rows], ids.shape[1])
            chosen = _sample(scores, self.rng) if self.config.sampling else scores.argmax(axis=-1)
            tokens = np.where(open_rows, chosen, self.fill)
            ids = np.concatenate([ids, tokens[:, None]], axis=1)  # (rows, T + 1)
            open_rows &= ~self.stopping(ids, scores)
            if streamer is not None:
                streamer.put(tokens)
        if streamer is not None:
            streamer.end()
        return self.output(ids)

    def beams(self) -> GenerateOutput:
        """Beam search: K texts of each prompt compete for the rows."""
        config, beams = self.config, self.config.num_beams
        rng = self.rng if config.sampling else None
        searches = [
            BeamSearch(
                row,
                beams,
                max_length=self.max_length,
                length_penalty=config.length_penalty,
                early_stopping=config.early_stopping,
                num_end_tokens=len(config.eos_token_ids),
            )
            for row in self.prompt.input_ids
        ]
        process = self.processors(beams)
        ids = self.prompt.input_ids
        while not all(search.done for search in searches):
            logits = self.stepper.logits(ids)
            if ids.shape[1] == self.prompt.length:
                rows = np.arange(len(ids)).repeat(beams)
                self.stepper.select(rows)
                ids, logits = ids[rows], logits[rows]
            log_probs = process(ids, log_softmax(logits))  # (B * K, V)
            self.keep(logits, log_probs)
            parents = np.concatenate(
                [
                    search.advance(
                        log_probs[b * beams : (b + 1) * beams],
                        partial(self.stopping, scores=log_probs),
                        rng,
                        first_row=b * beams,
                    )
                    + b * beams
                    for b, search in enumerate(searches)
                ]
            )
            self.stepper.select(parents)
            ids = np.concatenate([search.tokens for search in searches])  # (B * K, T + 1)
        best = [hypothesis for search in searches for hypothesis in search.best(config.num_return_sequences)]
        return self.output(
            _pad([hypothesis.tokens for hypothesis in best], self.fill),
            sequences_scores=np.array([hypothesis.score for hypothesis in best]),
            beam_indices=_pad([hypothesis.beam_indices for hypothesis in best], -1),
        )


def _check_possible(scores: np.ndarray, length: int) -> None:
    """Refuse to choose where every token is forbidden. Raises `ValueError`."""
    if not (scores > -np.inf).any(axis=-1).all():
        raise ValueError(
            f"after {length} tokens every next token is forbidden: bad_words_ids, suppress_tokens, "
            "no_repeat_ngram_size, minimum lengths and processors of your own leave nothing to choose"
        )


def _sample(scores: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One token for each row (B, V), drawn from softmax(scores): the first whose running sum of p exceeds u."""
    cumulative = np.cumsum(softmax(scores.astype(np.float64)), axis=-1)
    u = rng.random((len(scores), 1)) * cumulative[:, -1:]
    return (cumulative <= u).sum(axis=-1)


def _pad(rows: list[np.ndarray], value: int) -> np.ndarray:
    """Rows of unequal length as one array, filled on the right."""
    padded = np.full((len(rows), max(len(row) for row in rows)), value, dtype=np.int64)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return padded
