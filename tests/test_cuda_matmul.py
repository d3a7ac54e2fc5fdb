"""The matmul ladder through the emulator: every rung against NumPy in float64, on sizes that fit no tile, under several
orders of the threads, with every check of the emulator on. The error bounds are those of the arithmetic itself, not
chosen: float32 sums of k products, 16-bit results rounded once, tf32 operands of 11 significant bits."""

from __future__ import annotations

import math

import numpy as np
import pytest

from minilm_kernels.cuda import compiler
from minilm_kernels.cuda import matmul as binding
from minilm_kernels.cuda.on_cpu import EmulatedRuntime
from minilm_kernels.emulator import EmulatedModule, KernelError

RUNGS = tuple(binding.LADDER)
ORDERS = ("forward", "reverse", "random")
TRANSPOSES = [(False, False), (False, True), (True, False), (True, True)]


class SmallGpu(EmulatedRuntime):
    """The emulator in the part of another GPU."""

    def __init__(self, capability=90, shared_memory_limit=227 << 10, multiprocessors=1):
        super().__init__()
        self.capability = capability
        self.shared_memory_limit = shared_memory_limit
        self.multiprocessors = multiprocessors


@pytest.fixture(scope="module")
def runtimes():
    return {order: EmulatedRuntime(order, seed=3) for order in ORDERS}


@pytest.fixture
def rng():
    return np.random.default_rng(17)


def dtype_of(rung):
    return np.dtype(binding.LADDER[rung].dtypes[0])


def randn(rng, *shape, dtype=np.float32):
    return rng.standard_normal(shape).astype(dtype)


def bfloat16_bits(x):
    """The bits of float32 numbers rounded to bfloat16, ties to even."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def from_bfloat16(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def product(a, b, bias=None, transpose_a=False, transpose_b=False):
    """op(a) @ op(b) + bias in float64, and the same of the absolute values: what rounding errors are measured by."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    a, b = a.swapaxes(-1, -2) if transpose_a else a, b.swapaxes(-1, -2) if transpose_b else b
    bias = np.zeros(b.shape[-1]) if bias is None else bias.astype(np.float64)
    return a @ b + bias, np.abs(a) @ np.abs(b) + np.abs(bias), a.shape[-1]


def check(got, exact, size, k, significant=24, operand_bits=24):
    """Finite where it should be, and no further off than rounding explains.

    significant   bits of the result's type: it is rounded once to them
    operand_bits  bits to which the factors are rounded
    """
    got = np.asarray(got, np.float64)
    assert got.shape == exact.shape
    assert np.array_equal(np.isfinite(got), np.isfinite(exact)), "finite where it should not be, or the other way"
    finite = np.isfinite(exact)
    summed = (k + 2) * 2.0**-24 + 2 * (2.0**-operand_bits if operand_bits < 24 else 0)
    bound = summed * size + 2.0**-significant * (np.abs(exact) + summed * size) + (significant < 24) * 2.0**-25
    assert np.all(np.abs(got - exact)[finite] <= bound[finite])


def bits_of(rung):
    return {"07-tf32": dict(operand_bits=11)}.get(rung, dict(significant=11) if dtype_of(rung) == np.float16 else {})


def run(runtime, rung, *arrays, **options):
    return binding.run(runtime, binding.LADDER[rung], *arrays, **options)


# ---------------------------------------------------------------------------------------------------- right results

# (M, K, N): a single number, primes, the edges of every tile and of every step along k that a rung has.
SIZES = [(1, 1, 1), (2, 9, 3), (31, 33, 37), (5, 65, 7), (32, 32, 32), (33, 7, 31), (1, 129, 17), (65, 8, 1), (3, 64, 66)]


@pytest.mark.parametrize("transposes", TRANSPOSES, ids=["ab", "abT", "aTb", "aTbT"])
@pytest.mark.parametrize("rung", RUNGS)
def test_ragged_sizes(runtimes, rng, rung, transposes):
    dtype = dtype_of(rung)
    for i, (m, k, n) in enumerate(SIZES):
        a = randn(rng, *((k, m) if transposes[0] else (m, k)), dtype=dtype)
        b = randn(rng, *((n, k) if transposes[1] else (k, n)), dtype=dtype)
        bias = randn(rng, n, dtype=dtype)
        options = dict(transpose_a=transposes[0], transpose_b=transposes[1])
        kept = a.copy(), b.copy(), bias.copy()
        out = run(runtimes[ORDERS[i % 3]], rung, a, b, bias=bias, **options)
        assert out.dtype == dtype and out.flags.c_contiguous
        check(out, *product(a, b, bias, **options), **bits_of(rung))
        for array, before in zip((a, b, bias), kept, strict=True):
            assert np.array_equal(array, before), "an input was written to"


@pytest.mark.parametrize("m, k, n", [(129, 66, 127), (127, 63, 258)])
@pytest.mark.parametrize("rung", RUNGS)
def test_several_tiles(runtimes, rng, rung, m, k, n):
    """One element beyond a tile of 128, one short of it, and for the wide tiles one pair beyond 256."""
    a, b = randn(rng, m, k, dtype=dtype_of(rung)), randn(rng, k, n, dtype=dtype_of(rung))
    check(run(runtimes["random"], rung, a, b), *product(a, b), **bits_of(rung))


@pytest.mark.parametrize("rung", ["05", "07", "08"])
@pytest.mark.parametrize("multiprocessors", [1, 5])
def test_tiles_in_groups(rng, rung, multiprocessors):
    """Nine rows of tiles: a whole group of eight that is walked through together, and a low one. In rung 08 a block
    computes many of them, or few, one after another."""
    a, b = randn(rng, 1030, 3, dtype=dtype_of(rung)), randn(rng, 3, 131, dtype=dtype_of(rung))
    out = run(SmallGpu(multiprocessors=multiprocessors), rung, a, b)
    check(out, *product(a, b), **bits_of(rung))


@pytest.mark.parametrize("rung", RUNGS)
def test_the_order_of_the_threads_does_not_matter(runtimes, rng, rung):
    """Bit for bit: each sum is added up by one thread in one order."""
    a, b = randn(rng, 35, 70, dtype=dtype_of(rung)), randn(rng, 70, 36, dtype=dtype_of(rung))
    first, *others = (run(runtimes[order], rung, a, b) for order in ORDERS)
    assert all(np.array_equal(first, other) for other in others)


BATCHES = [((3,), (3,)), ((2, 3), (2, 3)), ((3,), ()), ((), (3,)), ((2, 1), (3,)), ((1,), (1, 1)), ((2, 3), (1, 1))]


@pytest.mark.parametrize("batch_a, batch_b", BATCHES)
@pytest.mark.parametrize("rung", RUNGS)
def test_batches_broadcast(runtimes, rng, rung, batch_a, batch_b):
    dtype = dtype_of(rung)
    a, b = randn(rng, *batch_a, 5, 7, dtype=dtype), randn(rng, *batch_b, 7, 6, dtype=dtype)
    out = run(runtimes["forward"], rung, a, b)
    assert out.shape == np.broadcast_shapes(batch_a, batch_b) + (5, 6)
    check(out, *product(a, b), **bits_of(rung))
    turned = np.ascontiguousarray(a.swapaxes(-1, -2)), np.ascontiguousarray(b.swapaxes(-1, -2))
    out = run(runtimes["reverse"], rung, *turned, transpose_a=True, transpose_b=True)
    check(out, *product(a, b), **bits_of(rung))


@pytest.mark.parametrize("rung", RUNGS)
def test_nothing_to_add_up_and_nothing_to_compute(runtimes, rng, rung):
    dtype, runtime = dtype_of(rung), runtimes["forward"]
    bias = randn(rng, 3, dtype=dtype)
    assert np.array_equal(run(runtime, rung, np.zeros((2, 5, 0), dtype), np.zeros((0, 3), dtype)), np.zeros((2, 5, 3)))
    with_bias = run(runtime, rung, np.zeros((5, 0), dtype), np.zeros((0, 3), dtype), bias=bias)
    assert np.array_equal(with_bias, np.tile(bias, (5, 1)))
    for shape_a, shape_b in [((0, 4), (4, 3)), ((5, 4), (4, 0)), ((0, 5, 4), (4, 3)), ((3, 0, 4), (3, 4, 0))]:
        out = run(runtime, rung, np.zeros(shape_a, dtype), np.zeros(shape_b, dtype))
        assert out.shape == np.matmul(np.zeros(shape_a), np.zeros(shape_b)).shape and out.dtype == dtype


@pytest.mark.parametrize("rung", RUNGS)
def test_nan_and_infinity_reach_the_result_and_stay_in_their_row(runtimes, rng, rung):
    dtype = dtype_of(rung)
    a, b = randn(rng, 40, 9, dtype=dtype), randn(rng, 9, 35, dtype=dtype)
    a[3, 2], a[33, 8] = np.nan, np.inf
    out = run(runtimes["forward"], rung, a, b).astype(np.float64)
    assert np.isnan(out[3]).all() and np.array_equal(out[33], np.where(b[8] > 0, np.inf, -np.inf))
    assert np.isfinite(np.delete(out, [3, 33], axis=0)).all()


@pytest.mark.parametrize("rung", ["05", "06", "07", "08"])
def test_operands_that_are_views(runtimes, rng, rung):
    dtype, runtime = dtype_of(rung), runtimes["forward"]
    big = randn(rng, 24, 40, dtype=dtype)
    for a, b in [
        (big.T[:, :8], big[:8]),  # strided in both axes
        (big[::2, ::-3], big[:14, 3:9]),
        (big.T, big),  # contiguous the other way round: read so, not copied
        (big.reshape(2, 12, 40).swapaxes(1, 2), big.reshape(2, 12, 40)),
    ]:
        check(run(runtime, rung, a, b), *product(a, b), **bits_of(rung))
    flat = randn(rng, 8 * 16 + 1, dtype=dtype)[1:]  # contiguous, but one element off every 16-byte boundary
    a, b = flat.reshape(8, 16), flat.reshape(16, 8)
    check(run(runtime, rung, a, b), *product(a, b), **bits_of(rung))


def test_a_transposed_view_is_not_copied(rng):
    runtime = EmulatedRuntime()
    seen = []
    runtime.asarray = lambda array, dtype=None: seen.append(array.flags.c_contiguous) or np.ascontiguousarray(array)
    x = randn(rng, 4, 6)
    check(run(runtime, "02", x.T, x), *product(x.T, x))
    assert all(seen)


# -------------------------------------------------------------------------------------------------- types, precision


@pytest.mark.parametrize("rung", ["06", "07", "08"])
def test_bfloat16(runtimes, rng, rung):
    a, b, bias = (bfloat16_bits(randn(rng, *shape)) for shape in ((33, 40), (40, 35), (35,)))
    out = run(runtimes["forward"], rung, a, b, bias=bias, elements="bfloat16")
    assert out.dtype == np.uint16
    check(from_bfloat16(out), *product(*(from_bfloat16(x) for x in (a, b, bias))), significant=8)


@pytest.mark.parametrize("rung", ["06", "07", "08"])
def test_16_bit_operands_are_added_up_in_float32(runtimes, rng, rung):
    """1 + 2048 times 2^-11 is 2; in float16 the sum would stay at 1."""
    a = np.ones((1, 2049), np.float16)
    b = np.full((2049, 1), 2.0**-11, np.float16)
    b[0] = 1
    assert run(runtimes["forward"], rung, a, b) == 2


def test_tf32_rounds_the_operands_and_nothing_else(runtimes, rng):
    coarse = [np.round(randn(rng, 20, 20) * 64).astype(np.float32) for _ in range(2)]  # at most 11 significant bits
    exact = coarse[0].astype(np.float64) @ coarse[1].astype(np.float64)
    assert np.array_equal(run(runtimes["forward"], "07-tf32", *coarse), exact)
    a = np.full((1, 1), 1 + 2.0**-11 + 2.0**-20, np.float32)  # rounds up to 1 + 2^-10
    assert run(runtimes["forward"], "07-tf32", a, np.ones((1, 1), np.float32)) == 1 + 2.0**-10
    a, b = randn(rng, 20, 50), randn(rng, 50, 20)
    off = np.abs(run(runtimes["forward"], "07-tf32", a, b) - product(a, b)[0])
    assert off.max() > 1e-5, "this is as exact as float32: are the operands rounded at all?"


@pytest.mark.parametrize("rung, activation", [("05", "gelu"), ("05", "gelu_tanh"), ("07", "gelu"), ("08", "gelu_tanh")])
def test_gelu_in_the_epilogue(runtimes, rng, rung, activation):
    dtype = dtype_of(rung)
    a, b, bias = (randn(rng, *shape, dtype=dtype) for shape in ((33, 20), (20, 35), (35,)))
    out = run(runtimes["forward"], rung, a, b, bias=bias, activation=activation).astype(np.float64)
    x = product(a, b, bias)[0]
    if activation == "gelu":
        wanted = x * np.vectorize(lambda t: 0.5 * math.erfc(-t / math.sqrt(2)))(x)
    else:
        wanted = 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    tolerance = 2e-5 if dtype == np.float32 else 2e-5 + 2.0**-11 * np.abs(wanted)
    assert np.isfinite(out).all() and np.all(np.abs(out - wanted) <= tolerance)


# ------------------------------------------------------------------------------------------- choosing and refusing


def test_the_rung_that_matmul_uses():
    assert binding.default_rung("float32", 75) == binding.default_rung("float32", 90) == "05"
    assert binding.default_rung("float16", 75) == "06"
    assert binding.default_rung("float16", 80) == binding.default_rung("bfloat16", 90) == "07"


def test_wide_tiles_are_for_products_that_fill_the_device():
    narrow = binding.LADDER["07"]
    wide = narrow.larger
    choose = binding._with_tile
    assert choose(SmallGpu(multiprocessors=4), narrow, 1, 256, 512) is wide
    assert choose(SmallGpu(multiprocessors=5), narrow, 1, 256, 512) is narrow
    assert choose(SmallGpu(multiprocessors=1), narrow, 9, 256, 128) is narrow
    assert choose(SmallGpu(shared_memory_limit=100 << 10), narrow, 1, 256, 512) is narrow
    assert narrow.shared <= 99 << 10, "the narrow form has to run on sm_86 and sm_89 too"


def test_bind_offers_every_rung_and_says_what_each_takes(runtimes, rng):
    bound = binding.bind(runtimes["forward"])
    assert tuple(bound.rungs["matmul"]) == RUNGS
    assert bound.dtypes["matmul"] == ("float32", "float16", "bfloat16")
    assert bound.rungs["matmul"]["06"].dtypes == ("float16", "bfloat16")
    a, b = randn(rng, 3, 4), randn(rng, 4, 5)
    assert np.array_equal(bound.operations["matmul"](a, b), bound.rungs["matmul"]["05"](a, b))
    half = a.astype(np.float16), b.astype(np.float16)
    assert np.array_equal(bound.operations["matmul"](*half), bound.rungs["matmul"]["07"](*half))


def test_types_that_are_refused(runtimes):
    matmul = binding.bind(runtimes["forward"]).operations["matmul"]
    x = np.ones((2, 2))
    with pytest.raises(TypeError, match="float32, float16, bfloat16, not float64; .* 'numpy' or 'numba'"):
        matmul(x, x)
    single, half = x.astype(np.float32), x.astype(np.float16)
    with pytest.raises(TypeError, match="one type"):
        matmul(single, half)
    with pytest.raises(TypeError, match="one type"):
        matmul(single, single, bias=np.ones(2))
    with pytest.raises(TypeError, match="takes float32, not float16"):
        run(runtimes["forward"], "04", half, half)
    with pytest.raises(TypeError, match="takes float16, bfloat16, not float32"):
        run(runtimes["forward"], "07", single, single)
    with pytest.raises(TypeError, match="is for uint16 arrays"):
        matmul(half, half, elements="bfloat16")
    with pytest.raises(TypeError, match="takes NumPy arrays, not list"):
        runtimes["forward"].asarray([1.0])


def test_shapes_that_are_refused(runtimes):
    runtime = runtimes["forward"]

    def ones(*shape):
        return np.ones(shape, np.float32)

    with pytest.raises(ValueError, match="2 x 3 and op\\(b\\) 4 x 5"):
        run(runtime, "05", ones(2, 3), ones(4, 5))
    with pytest.raises(ValueError, match="2 x 3 and op\\(b\\) 5 x 4"):
        run(runtime, "05", ones(3, 2), ones(4, 5), transpose_a=True, transpose_b=True)
    with pytest.raises(ValueError, match="at least two axes"):
        run(runtime, "05", ones(3), ones(3, 2))
    with pytest.raises(ValueError, match="do not broadcast"):
        run(runtime, "05", ones(2, 4, 3), ones(3, 3, 5))
    with pytest.raises(ValueError, match="expected \\(5,\\)"):
        run(runtime, "05", ones(2, 3), ones(3, 5), bias=ones(2))
    with pytest.raises(ValueError, match="'gelu' or 'gelu_tanh', not 'relu'"):
        run(runtime, "05", ones(2, 3), ones(3, 5), activation="relu")


def test_devices_that_lack_something():
    half = np.ones((2, 2), np.float16)
    with pytest.raises(RuntimeError, match="needs compute capability 8.0; this device has 7.5"):
        run(SmallGpu(capability=75), "07", half, half)
    with pytest.raises(RuntimeError, match="with bfloat16 needs compute capability 8.0"):
        run(SmallGpu(capability=75), "06", half.view(np.uint16), half.view(np.uint16), elements="bfloat16")
    with pytest.raises(RuntimeError, match="needs compute capability 9.0; this device has 8.0"):
        run(SmallGpu(capability=80), "08", half, half)
    with pytest.raises(RuntimeError, match="needs 98304 bytes of shared memory a block; this device has 65536"):
        run(SmallGpu(shared_memory_limit=64 << 10), "07", half, half)


# ------------------------------------------------------------------------------- what the files say of shared memory

# How the shared arrays are declared; `stages` is counted in bytes.
EXTENTS = {"a_tile": {"03": (32, 33), "03 without padding": (32, 32), "04": (8, 132)}, "a_tiles": {"05": (2, 8, 132)}}
EXTENTS |= {"b_tile": EXTENTS["a_tile"], "b_tiles": EXTENTS["a_tiles"]}


def first_word(step, rung):
    """The 4-byte word at which an access begins, counted from the begin of its array."""
    if step.array == "stages":
        return step.index[0] // 4
    offset = 0
    for index, extent in zip(step.index, EXTENTS[step.array][rung], strict=True):
        offset = offset * extent + index
    return offset


def worst_conflict(steps, rung):
    """How many different words of one bank some instruction of the warp asks for: 1 is the best, 32 the worst.

    The n-th access of every lane at one line of the source is one instruction. Shared memory serves 128 bytes at a
    time: all lanes if each wants 4 bytes, 8 lanes if each wants 16. Lanes that want the same word share it.
    """
    instructions, so_far = {}, {}
    for step in steps:
        if step.space == "shared" and step.kind in ("read", "write", "copy begins"):
            who = (step.place, step.kind, step.thread)
            so_far[who] = so_far.get(who, 0) + 1
            key = (step.place, step.kind, step.array, so_far[who])
            instructions.setdefault(key, {})[step.thread[0]] = (first_word(step, rung), np.asarray(step.value).nbytes // 4)
    worst = 0
    for lanes in instructions.values():
        together = {1: 32, 4: 8}[max(words for _, words in lanes.values())]
        for first in range(0, 32, together):
            part = [lanes[lane] for lane in range(first, first + together) if lane in lanes]
            banks = [word % 32 for word in {start + i for start, words in part for i in range(words)}]
            worst = max([worst, *(banks.count(bank) for bank in banks)])
    return worst


@pytest.mark.parametrize("transposes", [(False, False), (True, True)], ids=["ab", "aTbT"])
@pytest.mark.parametrize("rung", ["03", "04", "05", "07", "07-tf32"])
def test_no_bank_of_shared_memory_is_asked_twice(rung, transposes):
    """What the padding of 03, 04 and 05 and the two swizzles of 07 are for, read off what the lanes of a warp access."""
    assert conflicts_of(rung, transposes) == 1


def conflicts_of(rung, transposes):
    runtime = EmulatedRuntime()
    x = np.ones((40, 40), dtype_of(rung))
    options = dict(transpose_a=transposes[0], transpose_b=transposes[1])
    run(runtime, rung, x, x, **options)
    (module,) = runtime._modules.values()
    with module.trace(threads=range(32)) as trace:
        run(runtime, rung, x, x, **options)
    assert len(trace.steps) > 1000
    return worst_conflict(trace.steps, rung)


# ------------------------------------------------------------------------------------------------- planted mistakes


class Changed(EmulatedRuntime):
    """Loads a kernel file with a piece of its text replaced."""

    def __init__(self, old, new, order):
        super().__init__(order, seed=5)
        self.old, self.new = old, new

    def load(self, source, options=()):
        code = compiler.assemble(source)
        assert code.count(self.old) == 1
        return EmulatedModule(code.replace(self.old, self.new), options, order=self.order, seed=self.seed)


# What is wrong: (rung, the text, what stands there instead, what the emulator's report has to say).
MISTAKES = {
    "03, tiles overwritten too early": (
        "03",
        "+= a_tile[y][k] * b_tile[k][x];\n        __syncthreads();",
        "+= a_tile[y][k] * b_tile[k][x];",
        "race",
    ),
    "05, no barrier": (
        "05",
        "fetch_b.put(b_tiles[1 - now]);\n        __syncthreads();",
        "fetch_b.put(b_tiles[1 - now]);",
        "race",
    ),
    "07, waits for one group too few": ("07", "cp_async_wait<STAGES - 2>", "cp_async_wait<STAGES - 1>", "copy in flight"),
    "07, no barrier": ("07", "__syncthreads();              //", "//", "race"),
    "08, releases a stage too early": ("08", "wgmma_wait<1>", "wgmma_wait<2>", "product in flight"),
    "08, does not wait for the copies": ("08", "barrier_wait(full", "if (false) barrier_wait(full", "copy in flight"),
    "08, expects too many bytes": ("08", "stage.number, STAGE_BYTES)", "stage.number, STAGE_BYTES + 16)", "deadlock"),
}


@pytest.mark.parametrize("order", ["forward", "random"])
@pytest.mark.parametrize("name", MISTAKES)
def test_the_emulator_finds_what_would_go_wrong_on_a_gpu(name, order):
    rung, old, new, kind = MISTAKES[name]
    x = np.ones((40, 400), dtype_of(rung))  # more steps along k than any rung has stages
    with pytest.raises(KernelError, match=kind):
        run(Changed(old, new, order), rung, x, x, transpose_b=True)


def test_the_conflict_counter_sees_conflicts():
    """Rung 03 without its padding: a warp that writes a column asks one bank for 32 words."""
    runtime = Changed("__shared__ float a_tile[TILE][TILE + 1];", "__shared__ float a_tile[TILE][TILE];", "forward")
    x, out = np.ones((32, 32), np.float32), np.empty((32, 32), np.float32)
    module = runtime.load("matmul/03_shared_tile.cu", ("-DTRANSPOSE_A=1",))
    sizes = [np.int32(32)] * 6 + [np.int64(0)] * 3
    with module.trace(threads=range(32)) as trace:
        module.get_function("matmul")((1,), (32, 32), (x, x, None, out, *sizes))
    assert worst_conflict([s for s in trace.steps if s.array == "a_tile"], "03 without padding") == 32
