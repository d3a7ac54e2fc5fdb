"""Shared set-up of the test suite: the environment, the `gpu` marker and the folder of optional data."""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path

import pytest

# A published package owns the import name `kernels`, and Transformers looks for it. From the root of this
# repository Python would find our bare `kernels/` folder instead, so the name is taken out of play first.
sys.modules.setdefault("kernels", None)  # type: ignore[arg-type]

os.environ.setdefault("MPLBACKEND", "Agg")  # a test machine has no screen
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # without it, huggingface_hub retries for 23 s before it gives up
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads and pytest-xdist's forks do not mix

try:
    from hypothesis import settings
except ImportError:  # the `test` extra is not installed; tests that need hypothesis say so themselves
    pass
else:
    # A busy machine is no reason to fail, and a continuous build has to give the same verdict twice.
    settings.register_profile("minilm", deadline=None, print_blob=True, derandomize=bool(os.environ.get("CI")))
    settings.load_profile("minilm")


@cache
def why_no_gpu() -> str | None:
    """The reason why tests marked `gpu` cannot run here, or None where they can."""
    try:
        import cupy
    except ImportError:
        return "CuPy is not installed (pip install 'minilm[cuda12]' or 'minilm[cuda13]')"
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"CuPy finds no usable NVIDIA GPU: {error}"
    return None if count else "CuPy finds no NVIDIA GPU"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked and (reason := why_no_gpu()) is not None:
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of optional data sets named by the environment variable MINILM_DATA; skips where there is none."""
    name = os.environ.get("MINILM_DATA")
    if not name:
        pytest.skip("MINILM_DATA names no folder of data sets")
    folder = Path(name)
    assert folder.is_dir(), f"MINILM_DATA names {folder}, which is not a folder"
    return folder
