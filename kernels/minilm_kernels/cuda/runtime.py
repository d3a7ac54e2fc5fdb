"""How a binding loads and launches a kernel, without knowing whether a GPU or the emulator runs it.

    module = runtime.load("matmul/01_naive.cu")                  # path below minilm_kernels/cuda/, compiled once
    kernel = module.get_function("matmul_naive")
    kernel((ceil_div(n, 32), ceil_div(m, 32)), (32, 32), (a, b, c, np.int32(m), np.int32(n), np.int32(k)))

A launch takes (grid, block, args, shared_mem=0). `grid` and `block` are tuples of one to three ints, `shared_mem`
the bytes of dynamic shared memory. Arguments are contiguous arrays of this runtime (passed as their address) and
NumPy scalars: `np.int32` for `int`, `np.uint32`, `np.int64` for `long long`, `np.uint64`, `np.float32`,
`np.float64`. Never a plain Python int or float: the GPU would read them as 64-bit. An array that a kernel may be
given as null is passed as `None`.

What a `.cu` file may contain (both NVRTC and the host compiler have to read it):

* device code only: `extern "C" __global__ void name(...)` kernels, `__device__` functions, templates, constexpr;
* `#include "common.cuh"` and the other `.cuh` files beside it, no other include: they bring CUDA's fp16 and bf16
  types, `DYNAMIC_SHARED(type, name)`, warp and block reductions, Philox (see the top of `common.cuh`);
* shared memory as `__shared__ float tile[32][33];` (one declaration a line, in a function's body) or as
  `DYNAMIC_SHARED(float, name);` for the size given at launch, once a kernel;
* inline PTX only in functions that have an emulated body beside them, `#ifdef MINILM_EMULATED … #else … #endif`;
* a line `// minimum architecture: sm_80` where the file needs more than sm_75, and a line
  `// compile with: -DELEMENT=half` for each set of options beyond none that the tests shall compile it with.

A bindings module (`matmul.py`, `attention.py`, `fused.py`) has one function `bind(runtime) -> Bound`. It validates,
chooses grid and block, launches. `on_gpu` and `on_cpu` call it with their runtime and publish what it returns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

Array = Any
CUDA_FOLDER = Path(__file__).parent


class Kernel(Protocol):
    """A compiled kernel; calling it launches it and, in the emulator, waits for its end."""

    def __call__(
        self, grid: tuple[int, ...], block: tuple[int, ...], args: Sequence[Any], shared_mem: int = 0
    ) -> None: ...


class Module(Protocol):
    """A compiled `.cu` file."""

    def get_function(self, name: str) -> Kernel: ...


class Runtime(Protocol):
    """The device a binding works with.

    name                 "cuda" or "cuda-emulated", for error messages
    capability           compute capability as 10·major + minor: 75, 80, 90; the emulator says 90
    shared_memory_limit  bytes of shared memory one block may ask for
    multiprocessors      how many blocks' worth of work to offer at least
    """

    name: str

    @property
    def capability(self) -> int: ...

    @property
    def shared_memory_limit(self) -> int: ...

    @property
    def multiprocessors(self) -> int: ...

    def load(self, source: str | Path, options: tuple[str, ...] = ()) -> Module:
        """Compile a file below `minilm_kernels/cuda/` (kept in memory per options). `options`: `-DNAME=value` only."""
        ...

    def empty(self, shape: int | tuple[int, ...], dtype: Any) -> Array:
        """A new contiguous array, its content undefined (the emulator fills it with NaN or −1)."""
        ...

    def zeros(self, shape: int | tuple[int, ...], dtype: Any) -> Array: ...

    def asarray(self, array: Any, dtype: Any = None) -> Array:
        """A contiguous array of this runtime: the very object where it is one already, a copy otherwise.

        TypeError for an array that lives elsewhere (a NumPy array given to "cuda", a CuPy array to "cuda-emulated").
        """
        ...

    def tensor_map(self, array: Array, box: tuple[int, ...], swizzle: int = 0) -> Any:
        """The argument for a parameter `const __grid_constant__ TensorMap` (see hopper.cuh).

        array    2 or 3 axes, as `asarray` gives it, rows that begin at multiples of 16 bytes
        box      elements along each axis, in the array's order, that one copy takes
        swizzle  0, 32, 64 or 128 bytes; a row of the box has at most so many

        Raises ValueError for what the hardware cannot copy.
        """
        ...


@dataclass(frozen=True)
class Bound:
    """What a bindings module offers on one runtime.

    operations  {contract name: function}, the defaults
    rungs       {contract name: {"01": function}}
    dtypes      {contract name: names of the float dtypes it takes}
    """

    operations: dict[str, Callable[..., Any]] = field(default_factory=dict)
    rungs: dict[str, dict[str, Callable[..., Any]]] = field(default_factory=dict)
    dtypes: dict[str, tuple[str, ...]] = field(default_factory=dict)


def ceil_div(a: int, b: int) -> int:
    """The smallest integer ≥ a/b."""
    return -(-a // b)
