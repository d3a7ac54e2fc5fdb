"""exp, tanh and erf as polynomials: plain arithmetic, which the compiler turns into vector instructions.

A call of libm's exp cannot be vectorised; this form takes about 4 ns for 8 numbers. In float64 the library functions
are used, since float64 is for checking.

exp(x) = 2ⁿ · e^r with n = round(x / ln 2) and |r| ≤ ln 2 / 2: e^r by a polynomial of degree 6, 2ⁿ by writing n into
the exponent bits. Relative error below 2e-7 in float32 (tests/test_kernels_numba.py).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from minilm_kernels.numba_cpu.compiled import in_this_order, serial

_LOG2E = np.float32(1.4426950408889634)
_LN2_HIGH = np.float32(0.693359375)  # exact in few bits, so that n · _LN2_HIGH is exact
_LN2_LOW = np.float32(-2.12194440e-4)
_ROUND = np.float32(12582912.0)  # 1.5 · 2²³: adding it leaves the nearest integer in the low bits
_ROUND_BITS = np.int32(0x4B400000)  # the bits of _ROUND
_LOWEST = np.float32(-87.3365)  # below, e^x is under the smallest normal float32
_HIGHEST = np.float32(88.7228)  # above, it overflows
_INFINITY = np.float32(np.inf)
_ONE = np.float32(1.0)
_HALF = np.float32(0.5)
_TWO = np.float32(2.0)
_C2, _C3, _C4, _C5, _C6 = (
    np.float32(c) for c in (4.999998859e-1, 1.666651844e-1, 4.166953340e-2, 8.368919081e-3, 1.375140818e-3)
)


@intrinsic
def _as_float(typing_context: Any, bits: Any) -> Any:
    """The float32 whose bits are this int32."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(types.float32))

    return types.float32(types.int32), generate


@intrinsic
def _as_bits(typing_context: Any, x: Any) -> Any:
    """The bits of this float32 as an int32."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], cgutils.int32_t)

    return types.int32(types.float32), generate


@in_this_order
def _exp32(x: np.float32) -> np.float32:
    held = _LOWEST if x < _LOWEST else x  # written so that NaN passes
    held = _HIGHEST if held > _HIGHEST else held
    shifted = held * _LOG2E + _ROUND
    n = _as_bits(shifted) - _ROUND_BITS
    k = shifted - _ROUND
    r = held - k * _LN2_HIGH - k * _LN2_LOW
    p = _C6
    p = p * r + _C5
    p = p * r + _C4
    p = p * r + _C3
    p = p * r + _C2
    p = p * r + _ONE
    p = p * r + _ONE
    # 2ⁿ in two factors, each with its exponent + 127 in the exponent field: n reaches 128, the field ends at 127.
    half = n >> np.int32(1)
    y = p * _as_float(np.int32((half + np.int32(127)) << np.int32(23)))
    y *= _as_float(np.int32((n - half + np.int32(127)) << np.int32(23)))
    y = np.float32(0.0) if x < _LOWEST else y
    return _INFINITY if x > _HIGHEST else y


def exp(x: Any) -> Any:
    """e^x in compiled code: a polynomial for float32, the library function for float64."""
    return math.exp(x)


@overload(exp, strict=False)
def _overload_exp(x: Any) -> Any:
    if x == types.float32:
        return lambda x: _exp32(x)
    return lambda x: math.exp(x)


@serial
def _tanh32(x: np.float32) -> np.float32:
    # tanh x = 1 − 2/(e^2x + 1). Near 0 this loses relative, not absolute precision (6e-8), which is what GELU needs.
    return _ONE - _TWO / (_exp32(_TWO * x) + _ONE)


def tanh(x: Any) -> Any:
    """tanh x in compiled code; absolute error 2e-7 in float32."""
    return math.tanh(x)


@overload(tanh, strict=False)
def _overload_tanh(x: Any) -> Any:
    if x == types.float32:
        return lambda x: _tanh32(x)
    return lambda x: math.tanh(x)


@serial
def _erf32(x: np.float32) -> np.float32:
    # Abramowitz & Stegun (1964), 7.1.26.
    size = abs(x)
    t = _ONE / (_ONE + np.float32(0.3275911) * size)
    p = np.float32(1.061405429)
    p = p * t + np.float32(-1.453152027)
    p = p * t + np.float32(1.421413741)
    p = p * t + np.float32(-0.284496736)
    p = p * t + np.float32(0.254829592)
    y = _ONE - p * t * _exp32(-size * size)
    return -y if x < np.float32(0.0) else y


def erf(x: Any) -> Any:
    """The error function in compiled code; absolute error 6e-7 in float32."""
    return math.erf(x)


@overload(erf, strict=False)
def _overload_erf(x: Any) -> Any:
    if x == types.float32:
        return lambda x: _erf32(x)
    return lambda x: math.erf(x)
