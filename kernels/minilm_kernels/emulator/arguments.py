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
from minilm_kernels.emulator.tensor_map import TensorMap

ALIGNMENT = 256  # of cudaMalloc
_GUARD = 1 << 16

# What a C++ type takes: NumPy dtypes. A type that is not in the table (void, a struct) takes anything.
_NAMES = {
    "float32": "float float2 float4",
    "float64": "double double2",
    "float16": "half __half half2 __half2",
    "uint16 bfloat16": "bfloat16 __nv_bfloat16 __nv_bfloat162",
    "int8": "char|signed char|int8_t",
    "uint8 bool": "unsigned char|uint8_t|bool",
    "int16": "short|int16_t",
    "uint16": "unsigned short|uint16_t",
    "int32": "int|int32_t",
    "uint32": "unsigned|unsigned int|uint32_t",
    "int64": "long long|long long int|int64_t",
    "uint64": "unsigned long long|unsigned long long int|uint64_t|size_t",
}
_DTYPES = {
    type_: dtypes.split()
    for dtypes, types in _NAMES.items()
    for type_ in (types.split("|") if "|" in types else types.split())
}


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
    def writable(self) -> bool:
        outputs = [a for p, a in self.members if not p.const or not p.pointer]  # a tensor map says nothing of const
        return bool(outputs) and all(a.flags.writeable for a in outputs)


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
        arrays = [_array(p, a) for p, a in zip(parameters, args, strict=True)]
        self._segments = _segments([(p, a) for p, a in zip(parameters, arrays, strict=True) if a is not None])
        records = []
        for segment in self._segments:
            self._lay_out(segment)
            names = ", ".join(p.name for p, _ in segment.members)
            element = min(a.itemsize for _, a in segment.members)
            size = segment.end - segment.start
            records.append(Array(segment.address, size, element, names.encode(), segment.writable))
        for value, argument, array in zip(self._values, args, arrays, strict=True):
            if array is None:
                continue
            segment = next(s for s in self._segments if s.start <= array.ctypes.data < s.end)
            address = segment.address + array.ctypes.data - segment.start
            if isinstance(argument, TensorMap):
                value.raw = argument.pack(address)
            else:
                value.value = address
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
            if segment.writable:
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


def _array(parameter: Parameter, argument: Any) -> np.ndarray | None:
    """The array that an argument lets the kernel touch."""
    if isinstance(argument, TensorMap):
        return argument.array
    return argument if parameter.pointer and argument is not None and argument.nbytes else None


def _takes(type_: str, dtype: np.dtype) -> bool:
    return type_ not in _DTYPES or dtype.name in _DTYPES[type_]


def _expected(type_: str) -> str:
    return " or ".join(_DTYPES[type_])


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
    if parameter.type == "TensorMap":
        if not isinstance(argument, TensorMap):
            made = "what runtime.tensor_map makes"
            raise LaunchError(
                f"{kernel}: {parameter.name} is TensorMap and takes {made}, not {type(argument).__name__}"
            )
        storage = ctypes.create_string_buffer(128 + 64)  # the map has to begin at a multiple of 64 bytes
        return (ctypes.c_char * 128).from_buffer(storage, -ctypes.addressof(storage) % 64)
    if not isinstance(argument, np.generic) or not _takes(parameter.type, argument.dtype):
        wanted = _expected(parameter.type) if parameter.type in _DTYPES else "scalar"
        raise LaunchError(
            f"{kernel}: {parameter.name} is {parameter.type} and takes a NumPy {wanted}, not {argument!r} "
            f"({type(argument).__name__})"
        )
    return (ctypes.c_char * argument.nbytes).from_buffer_copy(argument.tobytes())
