"""An emulated module and its kernels, with the surface of `cupy.RawModule`."""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from minilm_kernels.emulator import build
from minilm_kernels.emulator.arguments import Arguments
from minilm_kernels.emulator.errors import KernelError, LaunchError
from minilm_kernels.emulator.lines import lines_of
from minilm_kernels.emulator.source import Signature
from minilm_kernels.emulator.structures import AT_BARRIER, EVENT, Options, Report
from minilm_kernels.emulator.watching import Snapshot, Trace, read_snapshot

ORDERS = ("forward", "reverse", "random", "lockstep")
CHECKS = {"races": 1, "bounds": 2, "uninitialised": 4}
SHARED_LIMIT = 227 << 10  # bytes that a block may have on an H100
MAX_THREADS = 1024
MAX_BLOCK = (1024, 1024, 64)
MAX_GRID = (2**31 - 1, 65535, 65535)
TIME_LIMIT = 300.0
EVENT_LIMIT = 1 << 20


class EmulatedModule:
    """A CUDA C++ text, compiled for the emulator.

    code        one self-contained text, as `cuda.compiler.assemble` makes it of a file
    options     `-DNAME=value`
    order       in which the threads of a block run: "forward" by number, "reverse", "random" (a new order at every
                turn, from `seed`), or "lockstep" (each makes one memory access, then it is the next one's turn)
    checks      what to watch for: "races", "bounds", "uninitialised". Empty: nothing is watched, which is several
                times faster; barriers, shuffles and shared-memory sizes are always checked
    time_limit  seconds after which a launch is given up
    name        of the text, in messages
    """

    def __init__(
        self,
        code: str,
        options: Sequence[str] = (),
        *,
        order: str = "forward",
        seed: int = 0,
        checks: Collection[str] = tuple(CHECKS),
        time_limit: float = TIME_LIMIT,
        name: str = "kernel.cu",
    ) -> None:
        if order not in ORDERS:
            raise ValueError(f"unknown order {order!r}; the orders are: {', '.join(ORDERS)}")
        unknown = set(checks) - set(CHECKS)
        if unknown:
            raise ValueError(f"unknown checks {sorted(unknown)}; the checks are: {', '.join(CHECKS)}")
        # Lockstep needs the instrumented build too: it is what stops a thread at each access.
        instrumented = bool(checks) or order == "lockstep"
        self.order, self.seed, self.time_limit, self.checks = order, seed, time_limit, frozenset(checks)
        self._path = build.shared_library(code, tuple(options), instrumented, name)
        self._library = ctypes.CDLL(str(self._path))
        self._library.minilm_kernels.restype = ctypes.c_char_p
        self._library.minilm_events.restype = ctypes.c_size_t
        self.signatures = build.read_table(self._library.minilm_kernels().decode())
        self._lock = threading.Lock()
        self._instrumented = instrumented
        self._trace: Trace | None = None
        self._at_barrier: Callable[[Snapshot], None] | None = None

    def get_function(self, name: str) -> EmulatedKernel:
        """The kernel of that name."""
        if name not in self.signatures:
            raise LaunchError(f"there is no kernel {name!r} in this text; there are: {', '.join(self.signatures)}")
        return EmulatedKernel(self, self.signatures[name])

    @contextlib.contextmanager
    def at_barrier(self, function: Callable[[Snapshot], None]) -> Iterator[None]:
        """While this context lasts, call `function(snapshot)` whenever a block has met at a `__syncthreads()`."""
        self._at_barrier, before = function, self._at_barrier
        try:
            yield
        finally:
            self._at_barrier = before

    @contextlib.contextmanager
    def trace(
        self, threads: Collection[int | tuple[int, ...]] = (0,), block: tuple[int, ...] | None = (0, 0, 0)
    ) -> Iterator[Trace]:
        """While this context lasts, record every memory access and barrier of the named threads.

        threads  numbers within the block, or indices (x, y, z)
        block    the block to look at; None: every block
        """
        if not self._instrumented:
            raise ValueError("tracing needs a module with checks: EmulatedModule(..., checks=('bounds',))")
        trace = Trace(tuple(t if isinstance(t, int) else (tuple(t) + (0, 0, 0))[:3] for t in threads), block)
        self._trace, before = trace, self._trace
        try:
            yield trace
        finally:
            self._trace = before

    def places(self, sites: Collection[int]) -> dict[int, str]:
        """{site: "file:line"} for sites of a report or a trace."""
        found, buffer = {}, ctypes.create_string_buffer(512)
        for site in sites:
            self._library.minilm_place(ctypes.c_uint32(site), buffer, ctypes.c_size_t(len(buffer)))
            found[site] = buffer.value.decode()
        unknown = [site for site, text in found.items() if not text and site]
        return found | lines_of(self._path, unknown)


class EmulatedKernel:
    """One kernel of a module; calling it runs it to its end."""

    def __init__(self, module: EmulatedModule, signature: Signature) -> None:
        self.module, self.signature = module, signature
        self._entry = getattr(module._library, f"minilm_entry_{signature.name}")

    def __call__(self, grid: tuple[int, ...], block: tuple[int, ...], args: Sequence[Any], shared_mem: int = 0) -> None:
        """Run over `grid` blocks of `block` threads each, with `shared_mem` bytes of dynamic shared memory.

        Raises LaunchError where a GPU would refuse or misread the launch, KernelError where the kernel has a bug.
        What the kernel had written until then is in the arrays.
        """
        name, module = self.signature.name, self.module
        grid3 = _three(name, "grid", grid, MAX_GRID)
        block3 = _three(name, "block", block, MAX_BLOCK)
        count = block3[0] * block3[1] * block3[2]
        if count > MAX_THREADS:
            raise LaunchError(f"{name}: a block of {count} threads; a GPU allows {MAX_THREADS} at most")
        arguments = Arguments(self.signature, args)
        with module._lock:
            trace = module._trace
            options = Options(
                order=ORDERS.index(module.order),
                seed=module.seed,
                checks=sum(CHECKS[c] for c in module.checks),
                time_limit=module.time_limit,
                shared_limit=SHARED_LIMIT,
                arrays=arguments.arrays,
                array_count=arguments.array_count,
                traced=trace.flags(block3) if trace else None,
                traced_block=trace.block_number(grid3) if trace else -1,
                event_limit=EVENT_LIMIT,
                hold=ctypes.cast(ctypes.pythonapi.PyGILState_Ensure, ctypes.c_void_p),
                signals=ctypes.cast(ctypes.pythonapi.PyErr_CheckSignals, ctypes.c_void_p),
                clear=ctypes.cast(ctypes.pythonapi.PyErr_Clear, ctypes.c_void_p),
                let_go=ctypes.cast(ctypes.pythonapi.PyGILState_Release, ctypes.c_void_p),
            )
            errors: list[BaseException] = []
            if module._at_barrier is not None:
                options.at_barrier = self._callback(module._at_barrier, errors)
            report = Report()
            module._library.minilm_run(
                self._entry,
                arguments.pointers,
                (ctypes.c_uint * 3)(*grid3),
                (ctypes.c_uint * 3)(*block3),
                ctypes.c_size_t(shared_mem),
                ctypes.byref(options),
                ctypes.byref(report),
            )
            if trace is not None:
                self._collect(trace, arguments, block3, grid3)
        arguments.copy_back()
        if errors:
            raise errors[0]
        if report.failed:
            raise self._error(report)

    def _callback(self, function: Callable[[Snapshot], None], errors: list[BaseException]) -> Any:
        def called(address: Any) -> int:
            try:
                function(read_snapshot(address.contents, self.module.places))
            except BaseException as error:  # it cannot pass through the C++ frames: kept, and raised by the launch
                errors.append(error)
                return 1
            return 0

        return AT_BARRIER(called)

    def _collect(self, trace: Trace, arguments: Arguments, block: tuple[int, ...], grid: tuple[int, ...]) -> None:
        count = self.module._library.minilm_events(None)
        events = (EVENT * max(1, count))()
        self.module._library.minilm_events(events)
        self.module._library.minilm_forget_events()
        trace.add(self.module, events[:count], arguments, block, grid)

    def _error(self, report: Report) -> Exception:
        kind = report.kind.decode()
        if kind == "interrupted":
            return KeyboardInterrupt()  # type: ignore[return-value]
        places = self.module.places({report.site, report.other_site})
        other = places[report.other_site] or "at a line that is not known"
        return KernelError(
            kind,
            self.signature.name,
            tuple(report.block),
            tuple(report.thread) if report.has_thread else None,
            places[report.site],
            report.message.decode().replace("{other}", other),
            report.advice.decode(),
        )


def _three(name: str, what: str, given: tuple[int, ...], limits: tuple[int, ...]) -> tuple[int, ...]:
    sizes = (tuple(given) + (1, 1, 1))[:3] if 1 <= len(tuple(given)) <= 3 else ()
    if not sizes or any(not 1 <= int(s) <= limit for s, limit in zip(sizes, limits, strict=True)):
        raise LaunchError(f"{name}: a {what} of {tuple(given)}; it takes one to three sizes from 1 to {limits}")
    return tuple(int(s) for s in sizes)
