"""CUDA C++ on the CPU: the very `.cu` files that a GPU runs, for learning and for testing."""

from minilm_kernels.emulator.errors import CompileError, EmulatorError, KernelError, LaunchError
from minilm_kernels.emulator.module import EmulatedKernel, EmulatedModule
from minilm_kernels.emulator.watching import Snapshot, Step, Trace

__all__ = [
    "CompileError",
    "EmulatedKernel",
    "EmulatedModule",
    "EmulatorError",
    "KernelError",
    "LaunchError",
    "Snapshot",
    "Step",
    "Trace",
]
