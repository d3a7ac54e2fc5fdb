"""Who computes an operation: the table of implementations, and the choice among them.

The choice is made here and nowhere else. Asking for an implementation that cannot run raises and says why;
nothing falls back silently. Where an implementation leaves an operation to another one, its `inherits` field
says so, and `available()` prints it.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from contextvars import ContextVar, Token
from dataclasses import dataclass
from types import ModuleType, TracebackType
from typing import Any

ENVIRONMENT_VARIABLE = "MINILM_KERNELS"


@dataclass(frozen=True)
class Implementation:
    """One way to compute the operations of the contract.

    name      what users write in `use(name)`
    summary   one line for the table
    module    import path of the module that defines functions with the contract's names; imported on first use.
              Variants of an operation ("rungs") stand in its `RUNGS` dict: {"matmul": {"01": function}}
    problem   returns None where the implementation can run, otherwise the reason why it cannot
    install   the command that would make it available
    inherits  the implementation that computes what this one does not define ("" for none)
    """

    name: str
    summary: str
    module: str
    problem: Callable[[], str | None] = lambda: None
    install: str = ""
    inherits: str = ""


IMPLEMENTATIONS: dict[str, Implementation] = {}

# What `auto` means: the first of these that can run here. Printed by `available()`.
PREFERENCE: list[str] = ["numpy"]


def register(implementation: Implementation) -> None:
    """Add an implementation to the table. A name that is taken is an error."""
    if implementation.name in IMPLEMENTATIONS or implementation.name == "auto":
        raise ValueError(f"an implementation named {implementation.name!r} is registered already")
    IMPLEMENTATIONS[implementation.name] = implementation


register(
    Implementation(
        name="numpy",
        summary="the reference: any float dtype, written to be read",
        module="minilm_kernels.reference",
    )
)


def missing_packages(*names: str) -> Callable[[], str | None]:
    """A `problem` function: None where all these packages are installed, otherwise which are not."""

    def problem() -> str | None:
        missing = [name for name in names if importlib.util.find_spec(name) is None]
        return f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed" if missing else None

    return problem


register(
    Implementation(
        name="numba",
        summary="the CPU, compiled: one pass over memory, parallel, attention in tiles; holds BLAS to one thread",
        module="minilm_kernels.numba_cpu",
        problem=missing_packages("numba", "scipy", "threadpoolctl"),
        install="pip install 'minilm[numba]'",
    )
)


def _cuda_problem() -> str | None:
    from minilm_kernels.cuda import support

    return support.gpu_problem()


def _emulator_problem() -> str | None:
    from minilm_kernels.cuda import support

    return support.emulator_problem()


register(
    Implementation(
        name="cupy",
        summary="an NVIDIA GPU: the reference on CuPy arrays, so cuBLAS and CuPy's own kernels; not yet run on a GPU",
        module="minilm_kernels.reference",
        problem=_cuda_problem,
        install="pip install 'minilm[cuda12]' (or 'minilm[cuda13]'; nvidia-smi shows the CUDA version of the driver)",
    )
)
register(
    Implementation(
        name="cuda",
        summary="an NVIDIA GPU, by our own CUDA C++ kernels, on CuPy arrays",
        module="minilm_kernels.cuda.on_gpu",
        problem=_cuda_problem,
        install="pip install 'minilm[cuda12]' (or 'minilm[cuda13]'; nvidia-smi shows the CUDA version of the driver)",
        inherits="cupy",
    )
)
register(
    Implementation(
        name="cuda-emulated",
        summary="the same CUDA C++ kernels on the CPU, thread by thread: to learn and to test, not for speed",
        module="minilm_kernels.cuda.on_cpu",
        problem=_emulator_problem,
        install="a C++ compiler: sudo apt install g++, xcode-select --install, or pip install ziglang",
        inherits="numpy",
    )
)


def _operation_names() -> tuple[str, ...]:
    from minilm_kernels.contract import OPERATIONS

    return tuple(OPERATIONS)


def _expand(operation: str) -> tuple[str, ...]:
    """'attention' stands for attention_forward and attention_backward; a full name stands for itself."""
    names = _operation_names()
    found = tuple(n for n in names if n == operation or n in (f"{operation}_forward", f"{operation}_backward"))
    if not found:
        raise ValueError(f"unknown operation {operation!r}; the contract has: {', '.join(names)}")
    return found


def _require(name: str) -> Implementation:
    """The implementation of that name, or an error that says why it cannot run and what to install."""
    if name not in IMPLEMENTATIONS:
        raise ValueError(f"unknown kernel implementation {name!r}; known: auto, {', '.join(IMPLEMENTATIONS)}")
    implementation = IMPLEMENTATIONS[name]
    reason = implementation.problem()
    if reason is not None:
        hint = f" Install it with: {implementation.install}" if implementation.install else ""
        raise RuntimeError(f"the kernel implementation {name!r} cannot run here: {reason}.{hint}")
    return implementation


def _auto() -> str:
    for name in PREFERENCE:
        if name in IMPLEMENTATIONS and IMPLEMENTATIONS[name].problem() is None:
            return name
    raise RuntimeError(f"none of the preferred implementations can run here: {', '.join(PREFERENCE)}")


@functools.cache
def _module(path: str) -> ModuleType:
    return importlib.import_module(path)


@functools.cache
def _function(operation: str, choice: str) -> Callable[..., Any]:
    """The function that computes `operation` under `choice` ("numpy", or "cuda/03" for one rung)."""
    name, _, rung = choice.partition("/")
    implementation = _require(_auto() if name == "auto" else name)
    module = _module(implementation.module)
    if rung:
        rungs = getattr(module, "RUNGS", {}).get(operation, {})
        if rung not in rungs:
            known = ", ".join(f"{name}/{r}" for r in rungs) or "none"
            raise ValueError(f"{name!r} has no rung {rung!r} of {operation}; it has: {known}")
        return rungs[rung]
    function = getattr(module, operation, None)
    if function is not None:
        return function
    if implementation.inherits:
        return _function(operation, implementation.inherits)
    raise RuntimeError(
        f"the kernel implementation {implementation.name!r} does not compute {operation}; "
        f"choose another for it: use({operation}='numpy')"
    )


# The choices of this thread: {operation: choice}. A new thread starts with the process-wide default.
_choices: ContextVar[dict[str, str] | None] = ContextVar("minilm_kernels_choices", default=None)


def _default_choice() -> str:
    chosen = os.environ.get(ENVIRONMENT_VARIABLE) or "auto"
    if chosen != "auto":
        try:
            _require(chosen)
        except (ValueError, RuntimeError) as error:
            raise type(error)(f"the environment variable {ENVIRONMENT_VARIABLE} says {chosen!r}: {error}") from None
    return chosen


def _current() -> dict[str, str]:
    choices = _choices.get()
    if choices is None:
        choices = dict.fromkeys(_operation_names(), _default_choice())
        _choices.set(choices)
    return choices


def resolve(operation: str) -> Callable[..., Any]:
    """The function that computes `operation` in this thread now."""
    return _function(operation, _current()[operation])


def active() -> dict[str, str]:
    """Which implementation computes each operation in this thread now: {operation: name or name/rung}."""
    chosen = {}
    for operation, choice in _current().items():
        name, slash, rung = choice.partition("/")
        chosen[operation] = (_auto() if name == "auto" else name) + slash + rung
    return chosen


class use:
    """Choose implementations, for this thread: as a function for good, as a context manager for a while.

    >>> use("numpy")                                  # everything
    >>> use(attention="numpy", matmul="numpy")        # by operation; "name/rung" picks one rung
    >>> with use("numpy"): ...                        # the former choice returns at the end

    Raises ValueError for an unknown name, operation or rung, RuntimeError for one that cannot run here (with the
    reason and the install command). The choice is checked at once, not at the first call.
    """

    def __init__(self, name: str | None = None, /, **by_operation: str) -> None:
        if name is None and not by_operation:
            raise ValueError("use() needs a name such as use('numpy'), or a choice by operation: use(matmul='numpy')")
        choices = dict(_current())
        if name is not None:
            if "/" in name:
                raise ValueError(f"a rung belongs to one operation: use(matmul={name!r}), not use({name!r})")
            choices = dict.fromkeys(choices, name)
        for operation, choice in by_operation.items():
            for full_name in _expand(operation):
                choices[full_name] = choice
        for operation, choice in choices.items():
            _function(operation, choice)
        self._token: Token[dict[str, str] | None] | None = _choices.set(choices)

    def __enter__(self) -> use:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            _choices.reset(self._token)
            self._token = None


@dataclass(frozen=True)
class Availability:
    """One row of the table that `available()` returns."""

    name: str
    summary: str
    reason: str | None
    install: str
    inherits: str

    @property
    def runs(self) -> bool:
        return self.reason is None


class AvailabilityTable(list[Availability]):
    """A list of rows that prints as a table."""

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        width = max((len(row.name) for row in self), default=0)
        for row in self:
            verdict = "available" if row.runs else f"not available: {row.reason}"
            left = f" (other operations: {row.inherits})" if row.inherits else ""
            yield f"{row.name:<{width}}  {verdict}. {row.summary}{left}"
            if not row.runs and row.install:
                yield f"{'':<{width}}  install: {row.install}"
        yield f"auto = the first that can run here of: {', '.join(PREFERENCE)}"


def available() -> AvailabilityTable:
    """Every implementation with whether it can run here, the reason if not, and what to install."""
    return AvailabilityTable(
        Availability(i.name, i.summary, i.problem(), i.install, i.inherits) for i in IMPLEMENTATIONS.values()
    )
