"""What the emulator raises: a kernel that cannot be compiled, a launch that makes no sense, a bug in a kernel."""

from __future__ import annotations


class EmulatorError(RuntimeError):
    """The common base of the emulator's errors."""


class CompileError(EmulatorError):
    """The host compiler is missing or refused the kernel."""


class LaunchError(EmulatorError):
    """A launch that a GPU would refuse or misread: wrong arguments, too large a block, too much shared memory."""


class KernelError(EmulatorError):
    """A bug that showed while a kernel ran."""
