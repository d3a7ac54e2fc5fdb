"""Implementation "cuda": the CUDA kernels on an NVIDIA GPU, on CuPy arrays. Importing it needs CuPy.

Not yet run on a GPU: the kernels are checked in the emulator and by compilation, this file by a stand-in for CuPy.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cupy
import numpy as np

from minilm_kernels.cuda import bindings, compiler, tensor_map

DEFAULT_SHARED_LIMIT = 48 << 10  # bytes a kernel may have without asking for more


class CupyKernel:
    """A kernel of a `cupy.RawModule`, launched on the current stream."""

    def __init__(self, function: Any) -> None:
        self._function = function
        self._shared_limit = DEFAULT_SHARED_LIMIT

    def __call__(self, grid: tuple[int, ...], block: tuple[int, ...], args: Sequence[Any], shared_mem: int = 0) -> None:
        if shared_mem > self._shared_limit:
            self._function.max_dynamic_shared_size_bytes = shared_mem
            self._shared_limit = shared_mem
        # Some versions of CuPy pass None as "no argument"; a zero of 8 bytes is a null pointer in all of them.
        values = tuple(np.uint64(0) if a is None else a for a in args)
        self._function(grid, block, values, shared_mem=shared_mem)


class CupyModule:
    """A compiled `.cu` file on the current device."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._kernels: dict[str, CupyKernel] = {}

    def get_function(self, name: str) -> CupyKernel:
        """The kernel of that name."""
        if name not in self._kernels:
            self._kernels[name] = CupyKernel(self._module.get_function(name))
        return self._kernels[name]


class CupyRuntime:
    """The current GPU as a `Runtime`."""

    name = "cuda"

    def __init__(self) -> None:
        self._modules: dict[tuple[int, str, tuple[str, ...]], CupyModule] = {}

    @property
    def capability(self) -> int:
        return int(cupy.cuda.Device().compute_capability)

    @property
    def shared_memory_limit(self) -> int:
        return int(cupy.cuda.Device().attributes["MaxSharedMemoryPerBlockOptin"])

    @property
    def multiprocessors(self) -> int:
        return int(cupy.cuda.Device().attributes["MultiProcessorCount"])

    def load(self, source: str | Path, options: tuple[str, ...] = ()) -> CupyModule:
        key = (cupy.cuda.Device().id, str(source), tuple(options))
        if key not in self._modules:
            code = compiler.assemble(source)
            needed = compiler.minimum_architecture(code)
            if self.capability < compiler.capability_of(needed):
                raise RuntimeError(
                    f"{source} needs a GPU of architecture {needed} or later; this one has compute capability "
                    f"{self.capability / 10:.1f}"
                )
            flags = ["-std=c++17", *options, *(f"-I{folder}" for folder in compiler.include_folders())]
            if needed.endswith("a"):  # features of one architecture alone; CuPy's own -arch=sm_90 comes before
                flags.append(f"-arch={needed}")
            self._modules[key] = CupyModule(cupy.RawModule(code=code, options=tuple(flags)))
        return self._modules[key]

    def empty(self, shape: int | tuple[int, ...], dtype: Any) -> Any:
        return cupy.empty(shape, dtype)

    def zeros(self, shape: int | tuple[int, ...], dtype: Any) -> Any:
        return cupy.zeros(shape, dtype)

    def asarray(self, array: Any, dtype: Any = None) -> Any:
        if not isinstance(array, cupy.ndarray):
            raise TypeError(
                f"the implementation 'cuda' takes CuPy arrays, not {type(array).__name__}; "
                f"move the model and its inputs with .to('cuda')"
            )
        return cupy.ascontiguousarray(array, dtype)

    def tensor_map(self, array: Any, box: tuple[int, ...], swizzle: int = 0) -> Any:
        return tensor_map.encode(array, box, swizzle)


@functools.cache
def runtime() -> CupyRuntime:
    """The runtime that the operations of this module share."""
    return CupyRuntime()


_bound = bindings.collect(runtime())
RUNGS = _bound.rungs
DTYPES = _bound.dtypes
globals().update(_bound.operations)
