"""An emulated module and its kernels, with the surface of `cupy.RawModule`."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from minilm_kernels.emulator import build
from minilm_kernels.emulator.errors import KernelError, LaunchError
from minilm_kernels.emulator.source import Signature, rewrite_shared, signatures

ORDERS = {"forward": 0, "reverse": 1, "random": 2}
MAX_THREADS = 1024


class _Report(ctypes.Structure):
    _fields_ = [
        ("kind", ctypes.c_char * 64),
        ("file", ctypes.c_char * 512),
        ("message", ctypes.c_char * 1024),
        ("advice", ctypes.c_char * 512),
        ("line", ctypes.c_int),
        ("failed", ctypes.c_int),
        ("block", ctypes.c_uint * 3),
        ("thread", ctypes.c_uint * 3),
        ("has_thread", ctypes.c_int),
    ]


class _Options(ctypes.Structure):
    _fields_ = [("order", ctypes.c_int), ("seed", ctypes.c_uint)]


def _entry_point(signature: Signature) -> str:
    return (
        f'extern "C" __attribute__((visibility("default"))) void minilm_entry_{signature.name}(void** arguments) '
        f"{{ emulator::call({signature.name}, arguments); }}\n"
    )


class EmulatedModule:
    """A CUDA C++ source text, compiled for the emulator.

    code     one self-contained source (`cuda.compiler.assemble` makes it from a file)
    options  `-DNAME=value`
    order    the order in which threads run: "forward", "reverse" or "random" (with `seed`)
    """

    def __init__(self, code: str, options: Sequence[str] = (), order: str = "forward", seed: int = 0) -> None:
        self.signatures = signatures(code)
        if not self.signatures:
            raise LaunchError('the source holds no kernel: expected `extern "C" __global__ void name(...)`')
        entries = "".join(_entry_point(s) for s in self.signatures.values())
        source = f'#include "cuda_emulator.h"\n#line 1 "kernel.cu"\n{rewrite_shared(code)}\n{entries}'
        self._library = ctypes.CDLL(str(build.shared_library(source, tuple(options))))
        self._lock = threading.Lock()
        self.order, self.seed = order, seed

    def get_function(self, name: str) -> EmulatedKernel:
        """The kernel of that name."""
        if name not in self.signatures:
            raise LaunchError(f"the source has no kernel {name!r}; it has: {', '.join(self.signatures)}")
        return EmulatedKernel(self, self.signatures[name])


class EmulatedKernel:
    """One kernel; calling it runs it to its end."""

    def __init__(self, module: EmulatedModule, signature: Signature) -> None:
        self.module, self.signature = module, signature
        self._entry = getattr(module._library, f"minilm_entry_{signature.name}")

    def __call__(
        self, grid: tuple[int, ...], block: tuple[int, ...], args: Sequence[Any], shared_mem: int = 0
    ) -> None:
        """Run over `grid` blocks of `block` threads. Raises LaunchError or KernelError."""
        name = self.signature.name
        if len(args) != len(self.signature.parameters):
            raise LaunchError(f"{name} takes {len(self.signature.parameters)} arguments, {len(args)} were given")
        kept = [self._value(p, a) for p, a in zip(self.signature.parameters, args, strict=True)]
        pointers = (ctypes.c_void_p * max(1, len(kept)))(*(ctypes.addressof(k) for k in kept))
        grid3, block3 = ((ctypes.c_uint * 3)(*(tuple(d) + (1, 1, 1))[:3]) for d in (grid, block))
        threads = block3[0] * block3[1] * block3[2]
        if not 1 <= threads <= MAX_THREADS:
            raise LaunchError(f"{name}: a block of {threads} threads; a GPU allows 1 to {MAX_THREADS}")
        report = _Report()
        options = _Options(ORDERS[self.module.order], self.module.seed)
        with self.module._lock:
            self.module._library.minilm_run(
                self._entry,
                pointers,
                grid3,
                block3,
                ctypes.c_size_t(shared_mem),
                ctypes.byref(options),
                ctypes.byref(report),
            )
        if report.failed:
            place = f" at {report.file.decode()}:{report.line}" if report.line else ""
            thread = f", thread {tuple(report.thread)}" if report.has_thread else ""
            raise KernelError(
                f"{report.kind.decode()} in {name}{place}, block {tuple(report.block)}{thread}: "
                f"{report.message.decode()}. {report.advice.decode().capitalize()}."
            )

    def _value(self, parameter: Any, argument: Any) -> Any:
        if parameter.pointer:
            if argument is None:
                return ctypes.c_void_p(0)
            if not isinstance(argument, np.ndarray) or not argument.flags.c_contiguous:
                raise LaunchError(
                    f"{self.signature.name}: {parameter.name} is a pointer and takes a contiguous NumPy array or None, "
                    f"not {type(argument).__name__}"
                )
            return ctypes.c_void_p(argument.ctypes.data)
        if not isinstance(argument, np.generic):
            raise LaunchError(
                f"{self.signature.name}: {parameter.name} is {parameter.type} and takes a NumPy scalar such as "
                f"np.int32({argument!r}), not {type(argument).__name__}"
            )
        return (ctypes.c_char * argument.nbytes).from_buffer_copy(argument.tobytes())
