"""A launch's arguments, checked against the kernel's declaration and laid out as the kernel will see them.

A GPU checks nothing: a float64 array passed for `float*`, or a Python int for an `int`, is read as whatever its bytes
mean. Here it is refused. Each array is copied to an address that is aligned as a GPU would align it, far from every
other array, so that an index that is a little wrong never lands in another array unnoticed.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minilm_kernels.emulator.errors import LaunchError
from minilm_kernels.emulator.source import Parameter, Signature

ALIGNMENT = 256  # of cudaMalloc
_GUARD = 1 << 16

_UNSIGNED = {"unsigned": "u4", "unsigned int": "u4", "uint32_t": "u4", "uint64_t": "u8", "size_t": "u8"}
_INTEGERS = {"int": "i4", "int32_t": "i4", "int64_t": "i8", "long long": "i8", "short": "i2", "int16_t": "i2"}
_BYTES = {"char": "i1", "signed char": "i1", "int8_t": "i1", "unsigned char": "u1 ?", "uint8_t": "u1 b1", "bool": "? u1"}
_SMALL = {"unsigned long long": "u8", "unsigned short": "u2", "uint16_t": "u2", "long long int": "i8"}
_FLOATS = {"float": "f4", "float2": "f4", "float4": "f4", "double": "f8", "half": "f2", "__half": "f2", "half2": "f2"}
_BFLOAT16 = dict.fromkeys(("bfloat16", "__nv_bfloat16", "__nv_bfloat162"), "u2 bfloat16")
# What a C++ type takes: NumPy dtype codes. A type that is not in the table (void, a struct) takes anything.
_DTYPES = _UNSIGNED | _INTEGERS | _BYTES | _SMALL | _FLOATS | _BFLOAT16


class Array(ctypes.Structure):
    """One array as the emulator knows it: `struct Array` in state.h."""

    _fields_ = [
        ("begin", ctypes.c_void_p),
        ("bytes", ctypes.c_size_t),
        ("element_bytes", ctypes.c_size_t),
        ("name", ctypes.c_char_p),
        ("writable", ctypes.c_int),
    ]


@dataclass
class _Segment:
    """Arrays that overlap in memory, copied as one piece."""

    start: int
    end: int
    members: list[tuple[Parameter, np.ndarray]] = field(default_factory=list)
    storage: Any = None
    address: int = 0

    @property
    def written(self) -> bool:
        return any(not p.const for p, _ in self.members)


class Arguments:
    """The arguments of one launch.

    `pointers` is what the entry point takes; `arrays` is what the kernel may touch; `views` are the copies as NumPy
    arrays, by parameter; `copy_back()` brings what the kernel wrote to where the caller reads it.
    """

    def __init__(self, signature: Signature, args: Sequence[Any]) -> None:
        name, parameters = signature.name, signature.parameters
        if len(args) != len(parameters):
            declared = ", ".join(f"{p.type}{'*' if p.pointer else ''} {p.name}" for p in parameters)
            raise LaunchError(f"{name}({declared}) takes {len(parameters)} arguments, {len(args)} were given")
        self._values: list[Any] = [
            _pointer(name, p, a) if p.pointer else _scalar(name, p, a) for p, a in zip(parameters, args, strict=True)
        ]
        self._segments = _segments(
            [(p, a) for p, a in zip(parameters, args, strict=True) if p.pointer and a is not None and a.nbytes]
        )
        records = []
        for segment in self._segments:
            self._lay_out(segment)
            names = ", ".join(p.name for p, _ in segment.members)
            element = min(a.itemsize for _, a in segment.members)
            may_write = all(a.flags.writeable for p, a in segment.members if not p.const)
            records.append(
                Array(segment.address, segment.end - segment.start, element, names.encode(), segment.written and may_write)
            )
        for value, parameter, argument in zip(self._values, parameters, args, strict=True):
            if parameter.pointer and argument is not None and argument.nbytes:
                start = argument.ctypes.data
                segment = next(s for s in self._segments if s.start <= start < s.end)
                value.value = segment.address + start - segment.start
        self.arrays = (Array * max(1, len(records)))(*records)
        self.array_count = len(records)
        self.array_parameters = [s.members[0][0].name for s in self._segments]
        self.dtypes = [s.members[0][1].dtype for s in self._segments]
        self.pointers = (ctypes.c_void_p * max(1, len(self._values)))(*(ctypes.addressof(v) for v in self._values))

    def _lay_out(self, segment: _Segment) -> None:
        size = segment.end - segment.start
        segment.storage = np.empty(size + 2 * _GUARD + 2 * ALIGNMENT, np.uint8)
        first = segment.storage.ctypes.data + _GUARD
        # A view keeps its offset within the array it was cut from: it is as aligned as it would be on a GPU.
        offset = min((a.ctypes.data - _root(a).ctypes.data) % ALIGNMENT for _, a in segment.members)
        segment.address = first + (-first) % ALIGNMENT + offset
        ctypes.memmove(segment.address, segment.start, size)

    def copy_back(self) -> None:
        """Write what the kernel wrote into the caller's arrays."""
        for segment in self._segments:
            if segment.written and all(a.flags.writeable for p, a in segment.members if not p.const):
                ctypes.memmove(segment.start, segment.address, segment.end - segment.start)


def _root(array: np.ndarray) -> np.ndarray:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _segments(members: list[tuple[Parameter, np.ndarray]]) -> list[_Segment]:
    segments: list[_Segment] = []
    for parameter, array in sorted(members, key=lambda m: m[1].ctypes.data):
        start, end = array.ctypes.data, array.ctypes.data + array.nbytes
        if segments and start < segments[-1].end:
            segments[-1].end = max(segments[-1].end, end)
        else:
            segments.append(_Segment(start, end))
        segments[-1].members.append((parameter, array))
    return segments


def _takes(type_: str, dtype: np.dtype) -> bool:
    allowed = _DTYPES.get(type_)
    return allowed is None or any(dtype.name == a if a == "bfloat16" else dtype == np.dtype(a) for a in allowed.split())


def _expected(type_: str) -> str:
    names = (a if a == "bfloat16" else np.dtype(a).name for a in _DTYPES[type_].split())
    return " or ".join(names)


def _pointer(kernel: str, parameter: Parameter, argument: Any) -> Any:
    if argument is None:
        return ctypes.c_void_p(0)
    if not isinstance(argument, np.ndarray):
        raise LaunchError(
            f"{kernel}: {parameter.name} is {parameter.type}* and takes a NumPy array, not {type(argument).__name__}"
        )
    if not argument.flags.c_contiguous:
        raise LaunchError(f"{kernel}: {parameter.name} is not contiguous; a kernel sees bytes, never strides")
    if not _takes(parameter.type, argument.dtype):
        raise LaunchError(
            f"{kernel}: {parameter.name} is {parameter.type}* and takes {_expected(parameter.type)}, "
            f"not {argument.dtype.name}"
        )
    return ctypes.c_void_p(0)


def _scalar(kernel: str, parameter: Parameter, argument: Any) -> Any:
    if not isinstance(argument, np.generic) or not _takes(parameter.type, argument.dtype):
        wanted = _expected(parameter.type) if parameter.type in _DTYPES else "scalar"
        raise LaunchError(
            f"{kernel}: {parameter.name} is {parameter.type} and takes a NumPy {wanted}, not {argument!r} "
            f"({type(argument).__name__})"
        )
    return (ctypes.c_char * argument.nbytes).from_buffer_copy(argument.tobytes())
