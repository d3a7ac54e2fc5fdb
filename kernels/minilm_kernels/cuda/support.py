"""Whether the CUDA implementations can run here, found out without importing what they need."""

from __future__ import annotations

import functools
import importlib.util


@functools.cache
def gpu_problem() -> str | None:
    """Why "cuda" cannot run here, or None where it can: CuPy is needed, and a GPU that it finds."""
    if importlib.util.find_spec("cupy") is None:
        return "CuPy is not installed"
    try:
        import cupy

        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # a missing driver shows as ImportError, CUDARuntimeError or OSError
        return f"CuPy finds no usable NVIDIA GPU: {error}"
    return None if count else "CuPy finds no NVIDIA GPU"


def emulator_problem() -> str | None:
    """Why "cuda-emulated" cannot run here, or None where it can: Linux or macOS and a C++ compiler are all it needs."""
    from minilm_kernels.emulator import build

    return build.problem()
