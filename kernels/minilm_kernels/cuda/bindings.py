"""What the bindings offer on one runtime, collected from the modules that hold them."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

from minilm_kernels.cuda.runtime import Bound, Runtime

# One module a family of kernels, each with a function `bind(runtime) -> Bound`.
MODULES = ("matmul", "attention", "fused")


def collect(runtime: Runtime) -> Bound:
    """Everything the bindings compute on `runtime`. A family whose module does not exist is not offered."""
    operations: dict[str, Callable[..., Any]] = {}
    rungs: dict[str, dict[str, Callable[..., Any]]] = {}
    dtypes: dict[str, tuple[str, ...]] = {}
    for name in MODULES:
        path = f"minilm_kernels.cuda.{name}"
        if importlib.util.find_spec(path) is None:
            continue
        bound = importlib.import_module(path).bind(runtime)
        operations.update(bound.operations)
        rungs.update(bound.rungs)
        dtypes.update(bound.dtypes)
    return Bound(operations, rungs, dtypes)
