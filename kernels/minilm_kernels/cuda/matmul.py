"""The matmul ladder on one runtime: checks the arrays, chooses a rung, launches it. The kernels stand in `matmul/`.

`bind(runtime)` gives the contract's `matmul` and every rung by its number. On top of the contract each of them takes

    activation   None, "gelu" or "gelu_tanh": applied to the finished sum (after the bias) before it is stored
    elements     "bfloat16" for uint16 arrays that hold the bits of bfloat16 numbers, where NumPy has no such type

Rungs and what they take:

    01 02 03 04 05   float32
    06 07            float16, bfloat16, sums in float32
    07-tf32          float32, of whose factors the tensor cores see 10 bits: only for those who ask for it by name
    08               float16, bfloat16, on Hopper (sm_90a)

`matmul` itself is rung 05 for float32, 07 for 16-bit types (06 for float16 before sm_80). It never lowers precision.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minilm_kernels.cuda.runtime import Array, Bound, Runtime, ceil_div

ACTIVATIONS = {None: 0, "gelu": 1, "gelu_tanh": 2}  # the value of -DGELU
_C_NAMES = {"float32": "float", "float16": "half", "bfloat16": "bfloat16"}  # the value of -DELEMENT
LARGEST = 2**31 - 1  # what an int holds, and how long a grid may be


@dataclass(frozen=True)
class Rung:
    """One file of the ladder and how it is launched.

    tile       rows and columns of C that a block computes
    block      its threads
    dtypes     what it takes, by NumPy's names
    capability compute capability it needs
    shared     bytes of dynamic shared memory
    align      rows of the operands have to begin at multiples of so many bytes
    options    -DNAME=value, the same for every launch
    larger     the same file with a larger tile, for products that have enough of those for every multiprocessor
    tensor_maps  the kernel takes the number of matrices and the tensor maps of both operands besides (rung 08), and a
               block stays for many tiles: no more blocks than multiprocessors
    """

    file: str
    tile: tuple[int, int]
    block: tuple[int, ...]
    dtypes: tuple[str, ...] = ("float32",)
    capability: int = 75
    shared: int = 0
    align: int = 1
    options: tuple[str, ...] = ()
    larger: Rung | None = None
    tensor_maps: bool = False


_SIXTEEN_BITS = ("float16", "bfloat16")
_STAGE = 128 * 128  # rung 07: the bytes of 128 rows or columns of a tile, 128 bytes along k each


def _pipeline(dtypes: tuple[str, ...], *options: str) -> Rung:
    """Rung 07: three stages of 128 x 128, or where they suffice of 128 x 256."""
    file = "matmul/07_mma_pipeline.cu"
    wide = Rung(file, (128, 256), (256,), dtypes, 80, 9 * _STAGE, 16, (*options, "-DTILE_N=256"))
    return Rung(file, (128, 128), (128,), dtypes, 80, 6 * _STAGE, 16, options, wide)


def _hopper(dtypes: tuple[str, ...]) -> Rung:
    """Rung 08: four stages of 128 x 128, or where they suffice of 128 x 256, and their barriers."""
    file, barriers = "matmul/08_hopper.cu", 2 * 4 * 8
    wide = Rung(file, (128, 256), (384,), dtypes, 90, 12 * _STAGE + barriers, 16, tensor_maps=True)
    narrow = ("-DTILE_N=128",)
    return Rung(file, (128, 128), (384,), dtypes, 90, 8 * _STAGE + barriers, 16, narrow, wide, tensor_maps=True)


LADDER = {
    "01": Rung("matmul/01_naive.cu", (32, 32), (32, 32)),
    "02": Rung("matmul/02_coalesced.cu", (32, 32), (32, 32)),
    "03": Rung("matmul/03_shared_tile.cu", (32, 32), (32, 32)),
    "04": Rung("matmul/04_register_tile.cu", (128, 128), (256,)),
    "05": Rung("matmul/05_vectorised.cu", (128, 128), (256,)),
    "06": Rung("matmul/06_wmma.cu", (128, 128), (256,), _SIXTEEN_BITS),
    "07": _pipeline(_SIXTEEN_BITS),
    "07-tf32": _pipeline(("float32",)),
    "08": _hopper(_SIXTEEN_BITS),
}


def default_rung(dtype: str, capability: int) -> str:
    """The rung that `matmul` uses for a type on a device."""
    if dtype == "float32":
        return "05"
    return "07" if capability >= 80 else "06"


@dataclass(frozen=True)
class _Operand:
    """A or B as the kernel gets it: contiguous, maybe stored transposed, with 0 or all matrices of a batch."""

    array: Array
    transposed: bool
    rows: int
    columns: int
    batch: tuple[int, ...]

    @property
    def ld(self) -> int:
        return self.array.shape[-1]

    @property
    def matrix_size(self) -> int:
        return self.array.shape[-2] * self.array.shape[-1]


def _operand(runtime: Runtime, name: str, array: Array, transpose: bool) -> _Operand:
    if array.ndim < 2:
        raise ValueError(f"matmul takes matrices: {name} has shape {tuple(array.shape)}, and needs at least two axes")
    turned = array.swapaxes(-1, -2)
    if turned.flags.c_contiguous and not array.flags.c_contiguous:
        array, transpose = turned, not transpose  # x.T of a contiguous x: read it the other way round, no copy
    array = runtime.asarray(array)
    rows, columns = array.shape[-2:] if not transpose else array.shape[:-3:-1]
    return _Operand(array, transpose, rows, columns, array.shape[:-2])


def _fold(operand: _Operand) -> _Operand:
    """A batch of row-major matrices as one tall matrix."""
    array = operand.array.reshape(-1, operand.array.shape[-1]) if operand.array.size else operand.array
    return _Operand(array, False, math.prod(operand.batch) * operand.rows, operand.columns, ())


def _spread(runtime: Runtime, operand: _Operand, batch: tuple[int, ...]) -> tuple[Array, int]:
    """The array and the step from one matrix of the batch to the next.

    One step describes a batch of its own (its size) and a matrix that all share (0). Other broadcasting, (3, 1) with
    (2,) say, is made real first.
    """
    if math.prod(operand.batch) == 1:
        return operand.array, 0
    if math.prod(operand.batch) == math.prod(batch):
        return operand.array, operand.matrix_size
    whole = np.broadcast_to(operand.array, batch + operand.array.shape[-2:])
    return runtime.asarray(whole), operand.matrix_size


def _aligned(runtime: Runtime, array: Array, bytes_: int) -> Array:
    """The array, or a copy in which every row begins at a multiple of `bytes_`: the rows are lengthened with zeros."""
    ragged = array.shape[-1] * array.dtype.itemsize % bytes_
    interface = getattr(array, "__cuda_array_interface__", None) or array.__array_interface__
    if array.size == 0 or (not ragged and interface["data"][0] % bytes_ == 0):
        return array
    missing = (-ragged % bytes_) // array.dtype.itemsize
    longer = runtime.zeros(array.shape[:-1] + (array.shape[-1] + missing,), array.dtype)
    longer[..., : array.shape[-1]] = array
    return longer


def _tensor_maps(
    runtime: Runtime, tile: tuple[int, int], arrays: tuple[Array, Array], along: tuple[bool, bool]
) -> list[Any]:
    """What rung 08 is told of A and B: boxes of 64 along k by a tile's side (`along` k), or of 64 rows by 64 of k."""
    maps = []
    for array, along_k, side in zip(arrays, along, tile, strict=True):
        if array.size == 0:  # K = 0: nothing will be copied, but a map has to be given
            array = runtime.zeros((1, 64, 64), array.dtype)
        whole = array.reshape(-1, *array.shape[-2:])
        maps.append(runtime.tensor_map(whole, (1, side if along_k else 64, 64), 128))
    return maps


def _element_type(runtime: Runtime, arrays: dict[str, Array], elements: str | None, allowed: tuple[str, ...]) -> str:
    names = {name: np.dtype(array.dtype).name for name, array in arrays.items()}
    if elements is not None:
        if elements != "bfloat16" or set(names.values()) != {"uint16"}:
            raise TypeError(f"elements='bfloat16' is for uint16 arrays; got elements={elements!r} with {names}")
        names = dict.fromkeys(names, elements)
    if len(set(names.values())) > 1:
        raise TypeError(f"matmul on {runtime.name!r} takes arrays of one type, not {names}; convert one of them")
    dtype = names["a"]
    if dtype not in allowed:
        others = "'numpy' or 'numba'" if runtime.name == "cuda-emulated" else "'cupy'"
        raise TypeError(
            f"this matmul of {runtime.name!r} takes {', '.join(allowed)}, not {dtype}; "
            f"for other types use the implementation {others}, as in use(matmul=...)"
        )
    return dtype


def run(
    runtime: Runtime,
    rung: Rung,
    a: Array,
    b: Array,
    *,
    transpose_a: bool = False,
    transpose_b: bool = False,
    bias: Array | None = None,
    activation: str | None = None,
    elements: str | None = None,
) -> Array:
    """`activation(op(a) @ op(b) + bias)` by one rung; see `contract.matmul`.

    Raises TypeError for arrays of a type the rung does not take, ValueError for shapes that do not fit,
    RuntimeError where the device lacks what the rung needs.
    """
    arrays = {"a": a, "b": b} | ({} if bias is None else {"bias": bias})
    dtype = _element_type(runtime, arrays, elements, rung.dtypes)
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be None, 'gelu' or 'gelu_tanh', not {activation!r}")
    _require_device(runtime, rung, dtype)
    left, right = _operand(runtime, "a", a, transpose_a), _operand(runtime, "b", b, transpose_b)
    if left.columns != right.rows:
        raise ValueError(
            f"matmul: op(a) is {left.rows} x {left.columns} and op(b) {right.rows} x {right.columns}; "
            f"the {left.columns} and the {right.rows} have to be equal"
        )
    try:
        batch = np.broadcast_shapes(left.batch, right.batch)
    except ValueError:
        raise ValueError(f"matmul: the leading axes {left.batch} and {right.batch} do not broadcast") from None
    rows, inner, columns = left.rows, left.columns, right.columns
    if bias is not None and tuple(bias.shape) != (columns,):
        raise ValueError(f"matmul: bias has shape {tuple(bias.shape)}, expected ({columns},)")
    out = runtime.empty((*batch, rows, columns), left.array.dtype)
    if out.size == 0:
        return out
    if math.prod(right.batch) == 1 and left.batch and not left.transposed and math.prod(left.batch) == math.prod(batch):
        left, matrices, rows = _fold(left), 1, math.prod(batch) * rows  # one tall product instead of many
    else:
        matrices = math.prod(batch)
    rung = _with_tile(runtime, rung, matrices, rows, columns)
    tiles = _tiles(rung, matrices, rows, columns)
    if max(tiles, rows, columns, inner) > LARGEST:
        raise ValueError(f"matmul: {matrices} x ({rows}, {inner}) @ ({inner}, {columns}) is beyond 2**31 - 1; split it")
    (a_array, a_step), (b_array, b_step) = (_spread(runtime, o, batch) for o in (left, right))
    if rung.align > 1:
        a_array, b_array = _aligned(runtime, a_array, rung.align), _aligned(runtime, b_array, rung.align)
        a_step, b_step = (bool(s) * x.shape[-2] * x.shape[-1] for s, x in ((a_step, a_array), (b_step, b_array)))

    defines = {
        "TRANSPOSE_A": int(left.transposed),
        "TRANSPOSE_B": int(right.transposed),
        "GELU": ACTIVATIONS[activation],
        "ELEMENT": _C_NAMES[dtype],
    }
    options = tuple(f"-D{name}={value}" for name, value in defines.items() if value)
    kernel = runtime.load(rung.file, rung.options + options).get_function("matmul")
    sizes = (rows, columns, inner, a_array.shape[-1], b_array.shape[-1], columns)
    arguments = [
        a_array,
        b_array,
        None if bias is None else runtime.asarray(bias),
        out,
        *(np.int32(s) for s in sizes),
        *(np.int64(s) for s in (a_step, b_step, rows * columns)),
    ]
    blocks = tiles
    if rung.tensor_maps:
        along_k = (not left.transposed, right.transposed)
        arguments += [np.int32(matrices), *_tensor_maps(runtime, rung.tile, (a_array, b_array), along_k)]
        blocks = min(tiles, runtime.multiprocessors)
    kernel((blocks,), rung.block, tuple(arguments), rung.shared)
    return out


def _tiles(rung: Rung, matrices: int, rows: int, columns: int) -> int:
    return matrices * ceil_div(rows, rung.tile[0]) * ceil_div(columns, rung.tile[1])


def _with_tile(runtime: Runtime, rung: Rung, matrices: int, rows: int, columns: int) -> Rung:
    """The rung, or its form with larger tiles where the device has the memory and the product is large enough."""
    larger = rung.larger
    if larger is None or larger.shared > runtime.shared_memory_limit or columns <= rung.tile[1]:
        return rung
    return larger if _tiles(larger, matrices, rows, columns) >= runtime.multiprocessors else rung


def _require_device(runtime: Runtime, rung: Rung, dtype: str) -> None:
    needed = max(rung.capability, 80 if dtype == "bfloat16" else 0)
    if runtime.capability < needed:
        raise RuntimeError(
            f"{rung.file} with {dtype} needs compute capability {needed / 10:.1f}; "
            f"this device has {runtime.capability / 10:.1f}"
        )
    if rung.shared > runtime.shared_memory_limit:
        raise RuntimeError(
            f"{rung.file} needs {rung.shared} bytes of shared memory a block; "
            f"this device has {runtime.shared_memory_limit}"
        )


def bind(runtime: Runtime) -> Bound:
    """`matmul` and its rungs on `runtime`. Each function has its types in the attribute `dtypes`."""

    def on_rung(number: str, rung: Rung) -> Callable[..., Any]:
        def matmul(a: Array, b: Array, **options: Any) -> Array:
            return run(runtime, rung, a, b, **options)

        matmul.__doc__ = f"`contract.matmul` by {rung.file}; takes {', '.join(rung.dtypes)}."
        matmul.dtypes = rung.dtypes  # type: ignore[attr-defined]
        return matmul

    every = tuple(dict.fromkeys(d for rung in LADDER.values() for d in rung.dtypes))

    def matmul(a: Array, b: Array, **options: Any) -> Array:
        """`contract.matmul`, by the rung that suits the type of the arrays."""
        dtype = options.get("elements") or np.dtype(a.dtype).name
        if dtype not in every:
            _element_type(runtime, {"a": a}, None, every)  # raises, and says what is taken
        return run(runtime, LADDER[default_rung(dtype, runtime.capability)], a, b, **options)

    matmul.dtypes = every  # type: ignore[attr-defined]
    return Bound(
        operations={"matmul": matmul},
        rungs={"matmul": {number: on_rung(number, rung) for number, rung in LADDER.items()}},
        dtypes={"matmul": every},
    )
