"""BLAS from inside compiled code, with one thread a call.

SciPy publishes the addresses of its BLAS routines for compiled callers (scipy.linalg.cython_blas). Numba's own
`np.dot` uses them too, but copies transposed operands and cannot write into a part of an array; the routine itself
takes any leading dimension.

BLAS keeps a pool of threads of its own. Called from a loop that is already parallel it must not use it: `one_thread`
limits every BLAS library of this process to one thread, once, when this implementation is first used.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from minilm_kernels.numba_cpu.compiled import serial


@functools.cache
def one_thread() -> None:
    """Limit the BLAS libraries of this process to one thread, for good."""
    import scipy.linalg.cython_blas  # noqa: F401  (loads SciPy's BLAS, so that the limit reaches it)
    from threadpoolctl import threadpool_limits

    threadpool_limits(1, user_api="blas")


@functools.cache
def gemm_address(dtype: np.dtype[Any]) -> int:
    """Where sgemm (float32) or dgemm (float64) is."""
    from numba.extending import get_cython_function_address

    one_thread()
    return get_cython_function_address("scipy.linalg.cython_blas", "sgemm" if dtype == np.float32 else "dgemm")


@intrinsic
def _call_gemm(
    typing_context: Any, address: Any, trans_a: Any, trans_b: Any, m: Any, n: Any, k: Any, alpha: Any, a: Any, lda: Any,
    b: Any, ldb: Any, beta: Any, c: Any, ldc: Any,
) -> Any:  # fmt: skip
    """BLAS's gemm with its own (column-major) arguments; a, b and c are addresses. All arguments go by pointer."""
    signature = types.void(
        types.int64, types.boolean, types.boolean, types.int64, types.int64, types.int64, alpha, types.int64,
        types.int64, types.int64, types.int64, alpha, types.int64, types.int64,
    )  # fmt: skip

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address, trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc = args
        byte, integer = ir.IntType(8), ir.IntType(32)
        pointer = ir.IntType(64)  # addresses travel as integers: the calling convention is the same

        def letter(flag: Any) -> Any:
            return builder.select(flag, ir.Constant(byte, ord("T")), ir.Constant(byte, ord("N")))

        def reference(value: Any) -> Any:
            return builder.ptrtoint(cgutils.alloca_once_value(builder, value), pointer)

        def small(value: Any) -> Any:
            return reference(builder.trunc(value, integer))

        arguments = [
            reference(letter(trans_a)), reference(letter(trans_b)), small(m), small(n), small(k), reference(alpha),
            a, small(lda), b, small(ldb), reference(beta), c, small(ldc),
        ]  # fmt: skip
        kind = ir.FunctionType(ir.VoidType(), [pointer] * len(arguments))
        builder.call(builder.inttoptr(address, kind.as_pointer()), arguments)
        return context.get_dummy_value()

    return signature, generate


@serial
def gemm(
    address: int, trans_a: bool, trans_b: bool, m: int, n: int, k: int, alpha: Any, a: int, lda: int, b: int, ldb: int,
    beta: Any, c: int, ldc: int,
) -> None:  # fmt: skip
    """Row-major C (m × n) ← alpha · op(A) op(B) + beta · C; a, b, c are addresses, ld* the lengths of stored rows.

    BLAS thinks in columns. A row-major matrix read as columns is its transpose, and Cᵀ = op(B)ᵀ op(A)ᵀ: swapping the
    operands is all it takes.
    """
    _call_gemm(address, trans_b, trans_a, n, m, k, alpha, b, ldb, a, lda, beta, c, ldc)
