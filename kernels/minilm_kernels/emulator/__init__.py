"""CUDA C++ on the CPU: the very `.cu` files that a GPU runs, for learning and for testing.

    module = EmulatedModule(code)                               # compiled by g++ or clang++, once
    module.get_function("scale")((blocks,), (threads,), (x, y, np.int32(n)))

Each CUDA thread is a fiber; blocks run one after another, and the threads of a block in the order that is asked for.
Every load and store goes past a check. A KernelError names the kernel, block, thread and line, and what to do:

    races                between threads without a barrier between them, and between blocks
    barriers             reached by some threads only, different ones, wrong lane masks, deadlocks
    memory               out of bounds (shared, global, rows of an array), misaligned vectors, null, read-only, stack
    values               uninitialised shared memory; what a kernel leaves out of `runtime.empty` is NaN
    asynchronous copies  read before they have landed (cp.async, TMA), overwritten while wgmma reads, missing fences

`module.at_barrier(function)` shows shared memory at each barrier, `module.trace(threads=…)` the steps of threads.

It does not show speed, bank conflicts, coalescing or the memory model's finer points, and floats may differ from a
GPU's in the last bit. Two differences are on purpose: atomics and plain accesses to one place race even where a GPU's
hardware would cope, and a barrier that some threads have skipped by returning is an error.
"""

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
