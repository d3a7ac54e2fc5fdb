"""`minilm info`: what is installed, which kernels can run here, and why others cannot."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import sys
from typing import Any

from .arguments import add_verb

EXAMPLES = """\
  minilm info
      the first thing to look at, and to send along, when something is slow or does not work
"""
PACKAGES = (
    "numpy", "matplotlib", "tqdm", "safetensors", "regex", "numba", "scipy", "threadpoolctl",
    "huggingface_hub", "cupy",
)  # fmt: skip
THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def add_parser(verbs: Any) -> None:
    add_verb(verbs, "info", run, "show versions, kernels and bundled models", EXAMPLES)


def run(options: argparse.Namespace) -> int:
    import minilm
    from minilm import hub, kernels
    from minilm.data.corpus import cache_folder

    rows = {
        "minilm": minilm.__version__,
        "Python": f"{platform.python_version()} ({sys.executable})",
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "processors": str(_processors()),
        "BLAS": _blas(),
        "threads": ", ".join(f"{name}={os.environ[name]}" for name in THREADS if name in os.environ)
        or "not limited",
    }
    rows |= {name: _version(name) for name in PACKAGES}
    rows["bundled models"] = ", ".join(hub.bundled()) or "none"
    rows["cache"] = str(cache_folder())
    for name, value in rows.items():
        print(f"{name:<16}{value}")
    print(f"\nkernels\n{kernels.available()}")
    if "MINILM_KERNELS" in os.environ:
        print(f"MINILM_KERNELS={os.environ['MINILM_KERNELS']}")
    print(f"active: {_active(kernels.active())}")
    return 0


def _active(chosen: dict[str, str]) -> str:
    """Return `numba` where one implementation does everything, else `numba: matmul, erf; numpy: the rest`."""
    operations: dict[str, list[str]] = {}
    for operation, name in chosen.items():
        operations.setdefault(name, []).append(operation)
    if len(operations) == 1:
        return f"{next(iter(operations))}, for every operation"
    return "; ".join(f"{name}: {', '.join(names)}" for name, names in sorted(operations.items()))


def _version(package: str) -> str:
    names = [package]
    if package == "cupy":
        names += ["cupy-cuda12x", "cupy-cuda13x"]
    for name in names:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "not installed"


def _processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _blas() -> str:
    import numpy as np

    found: Any = np.show_config(mode="dicts")
    blas = found.get("Build Dependencies", {}).get("blas", {}) if isinstance(found, dict) else {}
    return " ".join(str(blas[key]) for key in ("name", "version") if blas.get(key)) or "unknown"
