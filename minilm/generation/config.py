"""GenerationConfig: how `generate` chooses tokens, under Transformers' names and with its defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, Self

from minilm.generation.jsonconfig import JsonConfig

# Options of Transformers that change the result and that are not built here, with the value that means "off". In a
# file the value "off" is harmless; any other would silently give other text than its author meant, so it is refused.
_NOT_BUILT: Mapping[str, Any] = {
    "constraints": None,
    "diversity_penalty": 0.0,
    "dola_layers": None,
    "encoder_no_repeat_ngram_size": 0,
    "encoder_repetition_penalty": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "exponential_decay_length_penalty": None,
    "force_words_ids": None,
    "guidance_scale": 1.0,
    "max_time": None,
    "num_beam_groups": 1,
    "penalty_alpha": None,
    "prompt_lookup_num_tokens": None,
    "remove_invalid_values": False,
    "sequence_bias": None,
    "token_healing": False,
    "top_h": None,
    "watermarking_config": None,
}


@dataclass(frozen=True, kw_only=True)
class GenerationConfig(JsonConfig):
    """The options of `generate`; reads and writes `generation_config.json`.

    Length: `max_length` counts the prompt, `max_new_tokens` does not and wins when both are given; with neither, 20
    tokens are added. `min_length`, `min_new_tokens` keep the end tokens away until then.
    Choice: greedy by default; `do_sample=True` samples from the distribution that temperature, top_k, top_p, min_p
    and typical_p leave; `num_beams > 1` searches with beams.
    Penalties: `repetition_penalty`, `no_repeat_ngram_size`, `bad_words_ids`, `suppress_tokens`,
    `begin_suppress_tokens`, `forced_bos_token_id`, `forced_eos_token_id`.
    Beams: a finished text is worth sum of log p / length ** `length_penalty`. `early_stopping`: True stops a search
    as soon as it has `num_beams` finished texts, False when the best open beam at its present length could no longer
    win, "never" when it could not win at any length.

    Raises `TypeError` for a wrong type or name, `ValueError` for a value out of range.
    """

    file_name: ClassVar[str] = "generation_config.json"

    max_length: int | None = None
    max_new_tokens: int | None = None
    min_length: int = 0
    min_new_tokens: int | None = None
    stop_strings: str | tuple[str, ...] | None = None

    do_sample: bool | None = None
    num_beams: int = 1
    num_return_sequences: int = 1
    early_stopping: bool | Literal["never"] = False
    length_penalty: float = 1.0
    use_cache: bool = True

    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 1.0
    min_p: float | None = None
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    bad_words_ids: tuple[tuple[int, ...], ...] | None = None
    renormalize_logits: bool = False
    forced_bos_token_id: int | None = None
    forced_eos_token_id: tuple[int, ...] | None = None
    suppress_tokens: tuple[int, ...] | None = None
    begin_suppress_tokens: tuple[int, ...] | None = None

    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | tuple[int, ...] | None = None
    decoder_start_token_id: int | None = None

    output_scores: bool = False
    output_logits: bool = False
    return_dict_in_generate: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.forced_eos_token_id, int) and not isinstance(self.forced_eos_token_id, bool):
            object.__setattr__(self, "forced_eos_token_id", (self.forced_eos_token_id,))
        if isinstance(self.stop_strings, str):
            object.__setattr__(self, "stop_strings", (self.stop_strings,))
        super().__post_init__()

    def validate(self) -> None:
        for name in ("max_length", "max_new_tokens", "num_beams", "num_return_sequences"):
            value = getattr(self, name)
            self.require(value is None or value >= 1, name, "at least 1")
        for name in ("min_length", "min_new_tokens", "no_repeat_ngram_size", "top_k"):
            value = getattr(self, name)
            self.require(value is None or value >= 0, name, "at least 0")
        self.require(
            0 < self.temperature < float("inf"),
            "temperature",
            "above 0 (for the most likely token every time, leave sampling off with do_sample=False)",
        )
        self.require(0 <= self.top_p <= 1, "top_p", "between 0 and 1 (1 keeps every token)")
        self.require(self.min_p is None or 0 <= self.min_p <= 1, "min_p", "None or between 0 and 1")
        self.require(0 < self.typical_p <= 1, "typical_p", "above 0 and at most 1 (1 keeps every token)")
        self.require(0 < self.repetition_penalty < float("inf"), "repetition_penalty", "above 0 (1 changes nothing)")
        self.require(abs(self.length_penalty) < float("inf"), "length_penalty", "a finite number")
        words = self.bad_words_ids
        self.require(
            words is None or (len(words) > 0 and all(words)),
            "bad_words_ids",
            "a list of token sequences, none of them empty",
        )
        self.require(self.stop_strings is None or all(self.stop_strings), "stop_strings", "strings, none of them empty")
        if self.num_beams > 1:
            self.require(
                self.num_return_sequences <= self.num_beams,
                "num_return_sequences",
                f"at most num_beams = {self.num_beams}, the number of texts that the search keeps",
            )
        elif self.num_return_sequences > 1 and self.do_sample is False:
            raise ValueError(
                f"num_return_sequences={self.num_return_sequences} with do_sample=False and one beam would return the "
                "same text again and again: the most likely token is one and the same. Sample with do_sample=True, or "
                "search with num_beams of at least that number"
            )

    @property
    def sampling(self) -> bool:
        """Whether tokens are drawn at random.

        True for `do_sample=True`, and where do_sample is unset but several texts are asked for without beams, which
        can only differ if they are sampled.
        """
        if self.do_sample is None:
            return self.num_return_sequences > 1 and self.num_beams == 1
        return self.do_sample

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """The end tokens as a tuple, empty where there is none."""
        if self.eos_token_id is None:
            return ()
        return (self.eos_token_id,) if isinstance(self.eos_token_id, int) else self.eos_token_id

    def updated(self, **changes: Any) -> Self:
        for name in changes:
            if name in _NOT_BUILT:
                raise TypeError(f"generate has no option '{name}': Transformers has it, minilm does not")
        # A length given now replaces one that came from a file, also where the file used the other way to say it.
        if "max_length" in changes and "max_new_tokens" not in changes:
            changes["max_new_tokens"] = None
        return super().updated(**changes)

    def check_supported(self) -> None:
        """Refuse a file that asks for a way of generating that is not built here. Raises `ValueError`."""
        for name, off in _NOT_BUILT.items():
            value = self.extra.get(name)
            if value is not None and value != off:
                raise ValueError(
                    f"generation_config.json asks for {name}={value!r}, which minilm does not have: remove it from "
                    "the file, or pass generation_config=GenerationConfig(...) without it"
                )

    def resolve_max_length(self, prompt_length: int, positions: int | None) -> int:
        """The total length at which generation stops.

        `positions` is the number of positions that the model has, None where it has no such limit.
        Raises `ValueError` where nothing can be generated or the model has not that many positions.
        """
        if self.max_new_tokens is not None:
            total = prompt_length + self.max_new_tokens
        elif self.max_length is not None:
            total = self.max_length
        else:
            total = prompt_length + 20
            total = total if positions is None else min(total, max(positions, prompt_length))
        if total <= prompt_length:
            limit = f"max_length={self.max_length}" if total == self.max_length else f"{positions} positions"
            raise ValueError(
                f"the prompt has {prompt_length} tokens and the limit is {limit}: nothing is left to generate. "
                "max_length counts the prompt; max_new_tokens does not"
            )
        if positions is not None and total > positions:
            raise ValueError(
                f"{prompt_length} prompt tokens and {total - prompt_length} new ones need {total} positions, and the "
                f"model has {positions}: shorten the prompt or lower max_new_tokens, or pass sliding_window=True to "
                f"generate from the last {positions} tokens only"
            )
        return total

    def to_diff_dict(self) -> dict[str, Any]:
        """What differs from the defaults, and everything in `extra`."""
        defaults = {f.name: f.default for f in fields(self)}
        values = self.to_dict()
        return {k: v for k, v in values.items() if k in self.extra or getattr(self, k) != defaults[k]}

    def _to_write(self) -> dict[str, Any]:
        return self.to_diff_dict()
