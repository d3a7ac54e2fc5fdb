"""Implementation "cuda-emulated": the CUDA kernels on the CPU, on NumPy arrays."""

from __future__ import annotations

import functools
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from minilm_kernels.cuda import bindings, compiler, tensor_map
from minilm_kernels.emulator import EmulatedModule
from minilm_kernels.emulator.module import CHECKS
from minilm_kernels.emulator.tensor_map import TensorMap


class EmulatedRuntime:
    """The emulator as a `Runtime`. It plays a Hopper GPU with a single multiprocessor.

    order, seed, checks  as in `EmulatedModule`: every check is on unless others are named; checks=() is faster
    """

    name = "cuda-emulated"
    capability = 90
    shared_memory_limit = 227 << 10
    multiprocessors = 1

    def __init__(self, order: str = "forward", seed: int = 0, checks: Collection[str] = tuple(CHECKS)) -> None:
        self.order, self.seed, self.checks = order, seed, tuple(checks)
        self._modules: dict[tuple[str, tuple[str, ...]], EmulatedModule] = {}

    def load(self, source: str | Path, options: tuple[str, ...] = ()) -> EmulatedModule:
        key = (str(source), tuple(options))
        if key not in self._modules:
            code = compiler.assemble(source)
            self._modules[key] = EmulatedModule(
                code, options, order=self.order, seed=self.seed, checks=self.checks, name=str(source)
            )
        return self._modules[key]

    def empty(self, shape: int | tuple[int, ...], dtype: Any) -> np.ndarray:
        """A new array of 0xFF bytes: NaN in every float type, −1 in the integers. What a kernel leaves out shows."""
        made = np.empty(shape, dtype)
        made.reshape(-1).view(np.uint8)[...] = 0xFF
        return made

    def zeros(self, shape: int | tuple[int, ...], dtype: Any) -> np.ndarray:
        return np.zeros(shape, dtype)

    def asarray(self, array: Any, dtype: Any = None) -> np.ndarray:
        if not isinstance(array, np.ndarray):
            raise TypeError(f"the implementation 'cuda-emulated' takes NumPy arrays, not {type(array).__name__}")
        return np.ascontiguousarray(array, dtype)

    def tensor_map(self, array: np.ndarray, box: tuple[int, ...], swizzle: int = 0) -> TensorMap:
        tensor_map.check(array, box, swizzle)
        return TensorMap(array, tuple(box), swizzle)


@functools.cache
def runtime() -> EmulatedRuntime:
    """The runtime that the operations of this module share."""
    return EmulatedRuntime()


_bound = bindings.collect(runtime())
RUNGS = _bound.rungs
DTYPES = _bound.dtypes
globals().update(_bound.operations)
