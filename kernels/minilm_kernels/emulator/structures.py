"""The structures that Python and the emulator's C++ hand each other: the twins of those in state.h."""

from __future__ import annotations

import ctypes

from minilm_kernels.emulator.arguments import Array


class Variable(ctypes.Structure):
    """A shared array of the running block."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("code", ctypes.c_char),
        ("offset", ctypes.c_size_t),
        ("bytes", ctypes.c_size_t),
        ("element_bytes", ctypes.c_size_t),
        ("rank", ctypes.c_int),
        ("extents", ctypes.c_uint * 4),
    ]


class EVENT(ctypes.Structure):
    """One step of a traced thread."""

    _fields_ = [
        ("block", ctypes.c_uint32),
        ("thread", ctypes.c_uint32),
        ("step", ctypes.c_uint32),
        ("site", ctypes.c_uint32),
        ("kind", ctypes.c_uint8),
        ("space", ctypes.c_uint8),
        ("bytes", ctypes.c_uint16),
        ("variable", ctypes.c_int32),
        ("offset", ctypes.c_uint64),
        ("value", ctypes.c_uint8 * 16),
        ("name", ctypes.c_char * 32),
        ("code", ctypes.c_char),
        ("rank", ctypes.c_uint8),
        ("extents", ctypes.c_uint * 4),
    ]


class RawSnapshot(ctypes.Structure):
    """The block when its threads have met at a barrier."""

    _fields_ = [
        ("block", ctypes.c_uint * 3),
        ("barrier", ctypes.c_int),
        ("site", ctypes.c_uint32),
        ("arena", ctypes.c_void_p),
        ("variables", ctypes.POINTER(Variable)),
        ("variable_count", ctypes.c_size_t),
    ]


AT_BARRIER = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(RawSnapshot))


class Options(ctypes.Structure):
    """How to run a launch."""

    _fields_ = [
        ("order", ctypes.c_int),
        ("seed", ctypes.c_uint),
        ("checks", ctypes.c_uint),
        ("time_limit", ctypes.c_double),
        ("shared_limit", ctypes.c_size_t),
        ("arrays", ctypes.POINTER(Array)),
        ("array_count", ctypes.c_size_t),
        ("traced", ctypes.POINTER(ctypes.c_uint8)),
        ("traced_block", ctypes.c_longlong),
        ("event_limit", ctypes.c_size_t),
        ("at_barrier", AT_BARRIER),
        ("hold", ctypes.c_void_p),
        ("signals", ctypes.c_void_p),
        ("clear", ctypes.c_void_p),
        ("let_go", ctypes.c_void_p),
    ]


class Report(ctypes.Structure):
    """What went wrong, if something did."""

    _fields_ = [
        ("kind", ctypes.c_char * 64),
        ("message", ctypes.c_char * 1024),
        ("advice", ctypes.c_char * 512),
        ("site", ctypes.c_uint32),
        ("other_site", ctypes.c_uint32),
        ("failed", ctypes.c_int),
        ("has_thread", ctypes.c_int),
        ("block", ctypes.c_uint * 3),
        ("thread", ctypes.c_uint * 3),
    ]
