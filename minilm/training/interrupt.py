"""Ctrl-C as a request: the step that is being done is finished, so that what is saved is a whole step."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

__all__ = ["StopOnInterrupt"]


class StopOnInterrupt:
    """A context in which the first Ctrl-C sets `requested`, and the second raises KeyboardInterrupt.

    Signals reach Python's main thread only; in another thread the context does nothing.
    """

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> StopOnInterrupt:
        self._listening = threading.current_thread() is threading.main_thread()
        if self._listening:
            self._before = signal.signal(signal.SIGINT, self._request)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._listening:
            signal.signal(signal.SIGINT, self._before)

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
