"""Looking inside a running kernel: shared memory at each barrier, and the steps of chosen threads."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from minilm_kernels.emulator.structures import EVENT, RawSnapshot

if TYPE_CHECKING:
    from minilm_kernels.emulator.arguments import Arguments
    from minilm_kernels.emulator.module import EmulatedModule

KINDS = (
    ("read", "write", "atomic")
    + ("copy begins", "copy lands", "box copy begins", "box copy lands", "async read")
    + ("barrier", "warp operation")
)
_FIRST_BARRIER = KINDS.index("barrier")


@dataclass(frozen=True)
class Snapshot:
    """A block whose threads have all met at a `__syncthreads()`.

    block    index of the block (x, y, z)
    barrier  how many barriers the block had passed before this one
    place    "file:line" of the barrier
    shared   {name: array} of all shared memory, copied; bytes that no thread has written are 0xFF (NaN)
    """

    block: tuple[int, ...]
    barrier: int
    place: str
    shared: dict[str, np.ndarray]


@dataclass(frozen=True)
class Step:
    """One thing a traced thread did.

    kind    one of KINDS: "read", "write", "barrier", …
    space   "shared", "global", or "" for a barrier
    array   the name of the shared array or of the kernel's parameter
    index   the element: one index for a global array, one for each dimension of a shared one
    value   what was read or written, as a NumPy scalar (an array for a vector load), None for a barrier
    """

    block: tuple[int, ...]
    thread: tuple[int, ...]
    step: int
    kind: str
    space: str
    array: str
    index: tuple[int, ...]
    value: Any
    place: str

    def __str__(self) -> str:
        where = f"{self.array}[{']['.join(map(str, self.index))}]" if self.array else ""
        value = "" if self.value is None else f" = {self.value}"
        return f"thread {self.thread} {self.kind} {where}{value}  ({self.place})"


@dataclass
class Trace:
    """The recorded steps of chosen threads, in the order in which they happened."""

    threads: tuple[int | tuple[int, ...], ...]
    block: tuple[int, ...] | None
    steps: list[Step] = field(default_factory=list)

    def of(self, thread: int | tuple[int, ...]) -> list[Step]:
        """The steps of one thread, named by its index; a number stands for (number, 0, 0)."""
        index = (thread, 0, 0) if isinstance(thread, int) else (tuple(thread) + (0, 0, 0))[:3]
        return [s for s in self.steps if s.thread == index]

    def __str__(self) -> str:
        return "\n".join(str(s) for s in self.steps)

    def flags(self, block: tuple[int, ...]) -> Any:
        """One byte a thread of a block of that size: is it traced?"""
        made = (ctypes.c_uint8 * (block[0] * block[1] * block[2]))()
        for thread in self.threads:
            x, y, z = (thread % block[0], thread // block[0], 0) if isinstance(thread, int) else thread
            number = thread if isinstance(thread, int) else x + block[0] * (y + block[1] * z)
            if not 0 <= number < len(made):
                raise ValueError(f"there is no thread {thread} to trace in a block of {block}")
            made[number] = 1
        return made

    def block_number(self, grid: tuple[int, ...]) -> int:
        """The traced block's number within the grid, or −1 for all."""
        if self.block is None:
            return -1
        x, y, z = (tuple(self.block) + (0, 0, 0))[:3]
        if not (x < grid[0] and y < grid[1] and z < grid[2]):
            raise ValueError(f"there is no block {self.block} to trace in a grid of {grid}")
        return x + grid[0] * (y + grid[1] * z)

    def add(
        self,
        module: EmulatedModule,
        events: Sequence[EVENT],
        arguments: Arguments,
        block: tuple[int, ...],
        grid: tuple[int, ...],
    ) -> None:
        """Append what the emulator has recorded."""
        places = module.places({e.site for e in events})
        for e in events:
            array, index, value = _accessed(e, arguments)
            self.steps.append(
                Step(
                    block=_index(e.block, grid),
                    thread=_index(e.thread, block),
                    step=e.step,
                    kind=KINDS[e.kind],
                    space="" if e.kind >= _FIRST_BARRIER else ("shared", "global")[e.space],
                    array=array,
                    index=index,
                    value=value,
                    place=places[e.site],
                )
            )


def _index(number: int, sizes: tuple[int, ...]) -> tuple[int, ...]:
    return (number % sizes[0], number // sizes[0] % sizes[1], number // (sizes[0] * sizes[1]))


def _accessed(event: EVENT, arguments: Arguments) -> tuple[str, tuple[int, ...], Any]:
    if event.kind >= _FIRST_BARRIER:
        return "", (), None
    raw = bytes(event.value)[: event.bytes]
    if event.space == 1:
        name, dtype = arguments.array_parameters[event.variable], arguments.dtypes[event.variable]
        return name, (event.offset // dtype.itemsize,), _decode(raw, dtype)
    dtype = numpy_type(event.code.decode())
    shape = tuple(event.extents[: event.rank])
    flat = event.offset // dtype.itemsize
    index = tuple(int(i) for i in np.unravel_index(flat, shape)) if shape else ()
    return event.name.decode(), index, _decode(raw, dtype)


def _decode(raw: bytes, dtype: np.dtype) -> Any:
    if len(raw) % dtype.itemsize:
        return raw
    values = np.frombuffer(raw, dtype)
    return values[0] if len(values) == 1 else values


def numpy_type(code: str) -> np.dtype:
    """The dtype of a shared array by its letter; bfloat16 and structs show as bytes or uint16."""
    return np.dtype({"E": "u2", "V": "u1"}.get(code, code))


def read_snapshot(raw: RawSnapshot, places: Callable[[Collection[int]], dict[int, str]]) -> Snapshot:
    """Copy the shared memory of a block that stands at a barrier."""
    shared = {}
    for variable in raw.variables[: raw.variable_count]:
        dtype = numpy_type(variable.code.decode())
        data = ctypes.string_at(raw.arena + variable.offset, variable.bytes)
        array = np.frombuffer(data[: len(data) // dtype.itemsize * dtype.itemsize], dtype).copy()
        if array.itemsize == variable.element_bytes:
            array = array.reshape(tuple(variable.extents[: variable.rank]))
        shared[variable.name.decode()] = array
    return Snapshot(tuple(raw.block), raw.barrier, places([raw.site])[raw.site], shared)
