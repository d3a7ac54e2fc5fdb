"""Streamers: hand out tokens while they are generated."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Protocol, TextIO

import numpy as np


class Streamer(Protocol):
    """What `generate(streamer=...)` takes besides a plain function: `put` for each piece, `end` when it is over."""

    def put(self, token_ids: np.ndarray) -> None:
        """Take the prompt (B, T) once, then each step's tokens (B,)."""

    def end(self) -> None:
        """Generation is over."""


class TextStreamer:
    """Prints the text of one row while it is generated, whole characters only.

    A character of UTF-8 can be spread over several tokens, and until its last byte has come the decoded text ends in
    the replacement character U+FFFD: such an ending waits for the next token. Whatever waits is printed at the end.

    `skip_prompt` leaves the prompt out; `file` is where to print; keyword arguments go to `tokenizer.decode`.
    """

    def __init__(
        self, tokenizer: Any, skip_prompt: bool = False, file: TextIO | None = None, **decode_options: Any
    ) -> None:
        self.tokenizer = tokenizer
        self.skip_prompt = skip_prompt
        self.file = file
        self.decode_options = decode_options
        self._prompt_next = True
        self._tokens: list[int] = []
        self._printed = 0

    def put(self, token_ids: np.ndarray) -> None:
        """Take the prompt (1, T) once, then one token at a time. Raises `ValueError` for more than one row."""
        token_ids = np.asarray(token_ids)
        is_prompt, self._prompt_next = self._prompt_next, False
        if len(token_ids) > 1 and not (is_prompt and token_ids.ndim == 1):
            raise ValueError(f"TextStreamer prints one text, got {len(token_ids)} rows: generate one at a time")
        if is_prompt and self.skip_prompt:
            return
        self._tokens.extend(token_ids.reshape(-1).tolist())
        text = self.tokenizer.decode(self._tokens, **self.decode_options)
        self._print(text.rstrip("\N{REPLACEMENT CHARACTER}"), text)

    def _print(self, whole: str, text: str) -> None:
        """Print what is new in `whole`; after a line break start over, so that a long text is not decoded again."""
        self.on_text(whole[self._printed :])
        self._printed = max(self._printed, len(whole))
        if whole == text and text.endswith("\n"):
            self._tokens, self._printed = [], 0

    def on_text(self, text: str) -> None:
        """Do something with a new piece of text; a subclass may show it elsewhere."""
        if text:
            print(text, end="", flush=True, file=self.file if self.file is not None else sys.stdout)

    def end(self) -> None:
        """Print what still waits and a line break, and be ready for another text."""
        rest = self.tokenizer.decode(self._tokens, **self.decode_options)[self._printed :] if self._tokens else ""
        self.on_text(rest + "\n")
        self._prompt_next, self._tokens, self._printed = True, [], 0


class CallbackStreamer:
    """Calls a function with each step's tokens (B,); the prompt is not handed on."""

    def __init__(self, callback: Callable[[np.ndarray], Any]) -> None:
        self.callback = callback
        self._prompt_next = True

    def put(self, token_ids: np.ndarray) -> None:
        if not self._prompt_next:
            self.callback(token_ids)
        self._prompt_next = False

    def end(self) -> None:
        self._prompt_next = True


def as_streamer(streamer: Streamer | Callable[[np.ndarray], Any] | None) -> Streamer | None:
    """An object with put and end as it is, a function wrapped into one. Raises `TypeError` for anything else."""
    if streamer is None or (hasattr(streamer, "put") and hasattr(streamer, "end")):
        return streamer
    if callable(streamer):
        return CallbackStreamer(streamer)
    raise TypeError(
        f"streamer should be a function of the new tokens or have put and end, got {type(streamer).__name__}"
    )
