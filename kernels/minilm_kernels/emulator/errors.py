"""What the emulator raises: a kernel that cannot be compiled, a launch that makes no sense, a bug in a kernel."""

from __future__ import annotations


class EmulatorError(RuntimeError):
    """The common base of the emulator's errors."""


class CompileError(EmulatorError):
    """The host compiler is missing, or refused the kernel."""


class LaunchError(EmulatorError):
    """A launch that a GPU would refuse or misread: wrong arguments, too many threads, an empty grid."""


class KernelError(EmulatorError):
    """A bug that showed while a kernel ran.

    kind     what it is, in a few words: "race", "divergent barrier", "shared memory out of bounds", …
    kernel   the kernel's name
    block    index of the block (x, y, z)
    thread   index of the thread (x, y, z), or None where it is the bug of no single thread
    place    "file:line" of the source, or "" where it is not known
    detail   what happened
    advice   what to do about it
    """

    def __init__(
        self,
        kind: str,
        kernel: str,
        block: tuple[int, ...],
        thread: tuple[int, ...] | None,
        place: str,
        detail: str,
        advice: str,
    ) -> None:
        self.kind, self.kernel, self.block, self.thread = kind, kernel, block, thread
        self.place, self.detail, self.advice = place, detail, advice
        where = f"{kernel}{f', {place}' if place else ''}, block {block}{f', thread {thread}' if thread else ''}"
        super().__init__(f"{kind} in {where}: {detail}. {advice[:1].upper()}{advice[1:]}.")
