"""Each kind of bug that the emulator promises to report is planted, and has to be found; beside each stands the same
kernel without the bug, which has to pass."""

from __future__ import annotations

import numpy as np
import pytest

from minilm_kernels.emulator import EmulatedModule, KernelError, LaunchError, build

if build.find_compiler() is None:
    pytest.skip(f"no C++ compiler: {build.how_to_install_compiler()}", allow_module_level=True)

# FIXED chooses the variant without the bug. The number in a comment names the line that a report must point to.
SOURCE = r"""
#ifdef FIXED
#define BARRIER() __syncthreads()
#define WARP_BARRIER() __syncwarp()
constexpr bool fixed = true;
#else
#define BARRIER()
#define WARP_BARRIER()
constexpr bool fixed = false;
#endif

// ---------------------------------------------------------------- races
extern "C" __global__ void missing_barrier(float* out) {
    __shared__ float tile[2][32];
    tile[1][threadIdx.x] = float(threadIdx.x);
    BARRIER();
    out[threadIdx.x] = tile[1][31 - threadIdx.x];  // missing_barrier
}
extern "C" __global__ void tile_reused_too_early(const float* in, float* out) {
    __shared__ float tile[64];
    float sum = 0;
    for (int step = 0; step < 4; ++step) {
        tile[threadIdx.x] = in[64 * step + threadIdx.x];
        __syncthreads();
        sum += tile[63 - threadIdx.x];  // tile_reused_too_early
        BARRIER();
    }
    out[threadIdx.x] = sum;
}
extern "C" __global__ void two_writers(float* out) {
    __shared__ int winner;
    if (!fixed || threadIdx.x == 0) winner = threadIdx.x;  // two_writers
    __syncthreads();
    out[threadIdx.x] = winner;
}
extern "C" __global__ void shuffle_is_no_barrier(float* out) {
    __shared__ float tile[32];
    tile[threadIdx.x] = threadIdx.x;
    float lowest = __shfl_sync(0xffffffffu, tile[threadIdx.x], 0);
    WARP_BARRIER();
    out[threadIdx.x] = lowest + tile[(threadIdx.x + 1) % 32];  // shuffle_is_no_barrier
}
extern "C" __global__ void warp_barrier_between_warps(float* out) {
    __shared__ float tile[64];
    tile[threadIdx.x] = threadIdx.x;
    if (fixed) __syncthreads();
    else __syncwarp();
    out[threadIdx.x] = tile[(threadIdx.x + 32) % 64];  // warp_barrier_between_warps
}
extern "C" __global__ void lost_update(float* out) {
    __shared__ float sum;
    if (threadIdx.x == 0) sum = 0;
    __syncthreads();
    if (fixed) atomicAdd(&sum, 1.0f);
    else sum += 1.0f;  // lost_update
    __syncthreads();
    if (threadIdx.x == 0) out[0] = sum;
}
extern "C" __global__ void read_beside_atomic(float* out) {
    __shared__ float sum;
    if (threadIdx.x == 0) sum = 0;
    __syncthreads();
    atomicAdd(&sum, 1.0f);
    BARRIER();
    out[threadIdx.x] = sum;  // read_beside_atomic
}
extern "C" __global__ void race_in_global_memory(float* out, float* scratch) {
    scratch[threadIdx.x] = threadIdx.x;
    BARRIER();
    out[threadIdx.x] = scratch[63 - threadIdx.x];  // race_in_global_memory
}
extern "C" __global__ void race_between_blocks(float* out) {
    if (fixed) atomicAdd(&out[0], 1.0f);
    else if (threadIdx.x == 0) out[0] += 1.0f;  // race_between_blocks
}
extern "C" __global__ void bytes_are_not_words(unsigned char* out) {
    __shared__ unsigned char flags[64];
    flags[threadIdx.x] = threadIdx.x;
    BARRIER();
    out[threadIdx.x] = flags[threadIdx.x ^ 1];  // bytes_are_not_words
}

// ---------------------------------------------------------------- barriers and masks
extern "C" __global__ void divergent_barrier(float* out) {
    __shared__ float tile[64];
    tile[threadIdx.x] = threadIdx.x;
    if (fixed || threadIdx.x < 32) __syncthreads();  // divergent_barrier
    out[threadIdx.x] = tile[threadIdx.x];
}
extern "C" __global__ void two_barriers(float* out) {
    if (fixed) __syncthreads();
    else if (threadIdx.x < 32) __syncthreads();  // two_barriers
    else
        __syncthreads();
    out[threadIdx.x] = 1;
}
extern "C" __global__ void shuffle_after_return(float* out) {
    if (!fixed && threadIdx.x >= 16) return;
    out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, float(threadIdx.x), 16);  // shuffle_after_return
}
extern "C" __global__ void mask_without_me(float* out) {
    out[threadIdx.x] = __shfl_sync(fixed ? 0xffffffffu : 0xffffu, float(threadIdx.x), 3);  // mask_without_me
}
extern "C" __global__ void masks_differ(float* out) {
    const unsigned mask = fixed ? 0xffffffffu : threadIdx.x < 16 ? 0xffffffffu : 0xffff0000u;
    out[threadIdx.x] = __shfl_sync(mask, float(threadIdx.x), 20);  // masks_differ
}
extern "C" __global__ void half_a_warp_votes(float* out) {
    if (fixed || threadIdx.x < 16) out[threadIdx.x] = __any_sync(0xffffffffu, 1);  // half_a_warp_votes
    if (!fixed && threadIdx.x >= 16) __syncthreads();
}
extern "C" __global__ void spin_for_ever(int* flag) {
    if (fixed) atomicExch(flag, 1);
    while (atomicAdd(flag, 0) == 0) {
    }
}

// ---------------------------------------------------------------- bounds
extern "C" __global__ void past_the_end(float* out, int n) {
    const int i = blockIdx.x * 64 + threadIdx.x;
    if (!fixed || i < n) out[i] = 1;  // past_the_end
}
extern "C" __global__ void before_the_beginning(const float* in, float* out) {
    out[threadIdx.x] = !fixed || threadIdx.x > 0 ? in[int(threadIdx.x) - 1] : 0;  // before_the_beginning
}
extern "C" __global__ void null_pointer(const float* bias, float* out) {
    out[threadIdx.x] = fixed && !bias ? 0 : bias[threadIdx.x];  // null_pointer
}
extern "C" __global__ void read_only(float* out) {
    if (!fixed) out[threadIdx.x] = 1;  // read_only
}
extern "C" __global__ void past_the_shared_array(float* out) {
    __shared__ float tile[64], other[64];
    float* p = tile;
    p[threadIdx.x] = 1;
    other[threadIdx.x] = 2;
    __syncthreads();
    out[threadIdx.x] = p[threadIdx.x + (fixed ? 0 : 1)] + other[threadIdx.x];  // past_the_shared_array
}
extern "C" __global__ void row_too_long(float* out) {
    __shared__ float tile[4][16];
    const int column = threadIdx.x % 16 + (fixed ? 0 : 1);
    tile[threadIdx.x / 16][column] = 1;  // row_too_long
    __syncthreads();
    out[threadIdx.x] = tile[0][0];
}
extern "C" __global__ void past_dynamic_memory(float* out) {
    DYNAMIC_SHARED(float, buffer);
    buffer[threadIdx.x + (fixed ? 0 : 1)] = 1;  // past_dynamic_memory
    out[threadIdx.x] = 1;
}
extern "C" __global__ void deep_recursion(float* out);
__noinline__ __device__ float descend(float* x, int depth) {
    float local[256];
    for (int i = 0; i < 256; ++i) local[i] = x[i % 4] + depth;
    return depth == 0 ? local[3] : descend(local, depth - 1) + local[depth % 256];
}
extern "C" __global__ void deep_recursion(float* out) {
    float start[4] = {1, 2, 3, 4};
    out[threadIdx.x] = descend(start, fixed ? 3 : 1000);
}
extern "C" __global__ void somebody_elses_variable(float* out) {
    __shared__ float* address;
    float mine = threadIdx.x;
    if (threadIdx.x == 0) address = &mine;
    __syncthreads();
    out[threadIdx.x] = fixed ? mine : *address;  // somebody_elses_variable
    __syncthreads();
}

// ---------------------------------------------------------------- values
extern "C" __global__ void uninitialised(float* out) {
    __shared__ float tile[64];
    if (fixed || threadIdx.x < 63) tile[threadIdx.x] = 1;
    __syncthreads();
    out[threadIdx.x] = tile[63 - threadIdx.x];  // uninitialised
}
extern "C" __global__ void left_by_the_block_before(float* out) {
    __shared__ float tile[64];
    if (fixed || blockIdx.x == 0) tile[threadIdx.x] = 1;
    __syncthreads();
    out[blockIdx.x * 64 + threadIdx.x] = tile[63 - threadIdx.x];  // left_by_the_block_before
}
extern "C" __global__ void misaligned(const float* in, float* out) {
    const float* row = in + threadIdx.x * (fixed ? 8 : 7);
    const float4 four = *reinterpret_cast<const float4*>(row);  // misaligned
    out[threadIdx.x] = four.x + four.w;
}
extern "C" __global__ void division(int* out) {
    out[threadIdx.x] = 100 / (int(threadIdx.x) + (fixed ? 1 : 0));  // division
}
"""

FLOATS = np.arange(1024, dtype=np.float32)


def empty(n, dtype=np.float32):
    return np.zeros(n, dtype)


def read_only_array():
    made = np.zeros(64, np.float32)
    made.flags.writeable = False
    return made


# kernel: (kind of the report, thread of the report in forward order or None, block of threads, grid, arguments)
BUGS = {
    "missing_barrier": ("race", None, 32, 1, lambda: (empty(32),)),
    "tile_reused_too_early": ("race", None, 64, 1, lambda: (FLOATS, empty(64))),
    "two_writers": ("race", (1, 0, 0), 64, 1, lambda: (empty(64),)),
    "shuffle_is_no_barrier": ("race", None, 32, 1, lambda: (empty(32),)),
    "warp_barrier_between_warps": ("race", None, 64, 1, lambda: (empty(64),)),
    "lost_update": ("race", (1, 0, 0), 64, 1, lambda: (empty(1),)),
    "read_beside_atomic": ("race", None, 64, 1, lambda: (empty(64),)),
    "race_in_global_memory": ("race", None, 64, 1, lambda: (empty(64), empty(64))),
    "race_between_blocks": ("race between blocks", (0, 0, 0), 32, 3, lambda: (empty(1),)),
    "bytes_are_not_words": ("race", None, 64, 1, lambda: (empty(64, np.uint8),)),
    "divergent_barrier": ("divergent barrier", (0, 0, 0), 64, 1, lambda: (empty(64),)),
    "two_barriers": ("divergent barrier", (0, 0, 0), 64, 1, lambda: (empty(64),)),
    "shuffle_after_return": ("wrong lane mask", None, 32, 1, lambda: (empty(32),)),
    "mask_without_me": ("wrong lane mask", (16, 0, 0), 32, 1, lambda: (empty(32),)),
    "masks_differ": ("wrong lane mask", None, 32, 1, lambda: (empty(32),)),
    "half_a_warp_votes": ("divergent barrier", (0, 0, 0), 32, 1, lambda: (empty(32),)),
    "spin_for_ever": ("time limit", None, 32, 1, lambda: (empty(1, np.int32),)),
    "past_the_end": ("access out of bounds", (36, 0, 0), 64, 2, lambda: (empty(100), np.int32(100))),
    "before_the_beginning": ("access out of bounds", (0, 0, 0), 64, 1, lambda: (FLOATS, empty(64))),
    "null_pointer": ("null pointer", (0, 0, 0), 64, 1, lambda: (None, empty(64))),
    "read_only": ("write to read-only memory", (0, 0, 0), 64, 1, lambda: (read_only_array(),)),
    "past_the_shared_array": ("shared memory out of bounds", (63, 0, 0), 64, 1, lambda: (empty(64),)),
    "row_too_long": ("index out of bounds", (15, 0, 0), 64, 1, lambda: (empty(64),)),
    "past_dynamic_memory": ("shared memory out of bounds", (63, 0, 0), 64, 1, lambda: (empty(64),)),
    "deep_recursion": ("stack overflow", (0, 0, 0), 64, 1, lambda: (empty(64),)),
    "somebody_elses_variable": ("foreign local variable", (1, 0, 0), 64, 1, lambda: (empty(64),)),
    "uninitialised": ("uninitialised shared memory", (0, 0, 0), 64, 1, lambda: (empty(64),)),
    "left_by_the_block_before": ("uninitialised shared memory", (0, 0, 0), 64, 2, lambda: (empty(128),)),
    "misaligned": ("misaligned access", (1, 0, 0), 64, 1, lambda: (FLOATS, empty(64))),
    "division": ("undefined arithmetic", (0, 0, 0), 64, 1, lambda: (empty(64, np.int32),)),
}


@pytest.fixture(scope="module")
def modules():
    built = {fixed: EmulatedModule(SOURCE, ["-DFIXED"] if fixed else [], name="bugs.cu") for fixed in (False, True)}
    for module in built.values():
        module.time_limit = 0.3
    return built


def launch(module, name):
    _, _, threads, blocks, arguments = BUGS[name]
    shared = 64 * 4 if name == "past_dynamic_memory" else 0
    module.get_function(name)((blocks,), (threads,), arguments(), shared_mem=shared)


@pytest.mark.parametrize("order", ["forward", "reverse", "random", "lockstep"])
@pytest.mark.parametrize("name", BUGS)
def test_the_bug_is_found(modules, monkeypatch, name, order):
    kind, thread, *_ = BUGS[name]
    monkeypatch.setattr(modules[False], "order", order)
    with pytest.raises(KernelError) as caught:
        launch(modules[False], name)
    error = caught.value
    assert error.kind == kind and error.kernel == name
    assert error.advice and error.detail
    if order == "forward" and thread is not None:
        assert error.thread == thread


@pytest.mark.parametrize("order", ["forward", "reverse", "random", "lockstep"])
@pytest.mark.parametrize("name", BUGS)
def test_without_the_bug_nothing_is_reported(modules, monkeypatch, name, order):
    monkeypatch.setattr(modules[True], "order", order)
    launch(modules[True], name)


def test_reports_name_the_line(modules):
    """The line that the source marks with the kernel's own name is where the report points to, or one of the two
    lines of a race."""
    lines = {line.split("//")[-1].strip(): number for number, line in enumerate(SOURCE.splitlines(), start=1)}
    marked = [name for name in BUGS if name in lines]
    assert len(marked) > 20
    for name in marked:
        with pytest.raises(KernelError) as caught:
            launch(modules[False], name)
        line = f"bugs.cu:{lines[name]}"
        two_sided = caught.value.kind == "race" and f" at {line}, " in caught.value.detail
        assert caught.value.place == line or two_sided, (name, caught.value)


def test_a_race_names_both_sides(modules):
    with pytest.raises(KernelError) as caught:
        launch(modules[False], "missing_barrier")
    lines = SOURCE.splitlines()
    wrote = next(i for i, line in enumerate(lines, start=1) if "tile[1][threadIdx.x] = " in line)
    read = next(i for i, line in enumerate(lines, start=1) if line.endswith("// missing_barrier"))
    assert {caught.value.place, f"bugs.cu:{read}"} == {f"bugs.cu:{wrote}", f"bugs.cu:{read}"}
    assert f"which thread (15, 0, 0) read at bugs.cu:{read}, with no barrier in between" in caught.value.detail
    assert "the thread writes shared tile[1][16]" in caught.value.detail
    assert "__syncwarp() or __syncthreads()" in caught.value.advice


def test_a_race_shows_in_the_results_too(modules):
    """Without the check, the order of the threads decides what comes out: that is what a race means."""
    results = {}
    for order in ("forward", "reverse", "lockstep"):
        module = EmulatedModule(SOURCE, order=order, checks=() if order != "lockstep" else ("bounds",), name="bugs.cu")
        out = np.zeros(1, np.float32)
        module.get_function("lost_update")((1,), (64,), (out,))
        results[order] = float(out[0])
    assert results["forward"] == results["reverse"] == 64
    assert results["lockstep"] == 1  # all read 0, all write 1


def test_poison_shows_what_no_check_watches():
    module = EmulatedModule(SOURCE, checks=(), name="bugs.cu")
    out = np.zeros(64, np.float32)
    module.get_function("uninitialised")((1,), (64,), (out,))
    assert np.isnan(out[0]) and (out[1:] == 1).all()
    out = np.zeros(128, np.float32)
    module.get_function("left_by_the_block_before")((2,), (64,), (out,))
    assert (out[:64] == 1).all() and np.isnan(out[64:]).all()


def test_checks_can_be_chosen():
    module = EmulatedModule(SOURCE, checks=("bounds",), name="bugs.cu")
    launch(module, "two_writers")
    with pytest.raises(KernelError, match="access out of bounds"):
        launch(module, "past_the_end")
    with pytest.raises(ValueError, match="unknown checks"):
        EmulatedModule(SOURCE, checks=("everything",))
    with pytest.raises(ValueError, match="unknown order 'sideways'; the orders are: forward"):
        EmulatedModule(SOURCE, order="sideways")


def test_a_launch_after_a_report_is_clean():
    """Threads that a report has stopped midway leave nothing behind for the next launch of the same module."""
    module = EmulatedModule(SOURCE, name="bugs.cu")
    for name in ("divergent_barrier", "missing_barrier", "past_the_end", "shuffle_after_return"):
        with pytest.raises(KernelError):
            launch(module, name)
        out = np.zeros(64, np.float32)
        module.get_function("past_the_end")((1,), (64,), (out, np.int32(64)))  # its bug shows in later blocks only
        assert (out == 1).all()


# ------------------------------------------------------------------------------------------------------- launches

TAKES = """
extern "C" __global__ void takes(const float* x, float* y, int n, float alpha, const unsigned char* mask) {
    if (threadIdx.x < n) y[threadIdx.x] = mask && !mask[threadIdx.x] ? 0.0f : alpha * x[threadIdx.x];
}
"""


@pytest.fixture(scope="module")
def takes():
    return EmulatedModule(TAKES).get_function("takes")


def test_arguments_are_checked(takes):
    x, y = np.ones(4, np.float32), np.zeros(4, np.float32)
    right = (x, y, np.int32(4), np.float32(2), None)
    takes((1,), (4,), right)
    assert (y == 2).all()

    def wrong(position, value, message):
        args = list(right)
        args[position] = value
        with pytest.raises(LaunchError, match=message):
            takes((1,), (4,), args)

    wrong(0, np.ones(4), r"takes: x is float\* and takes float32, not float64")
    wrong(0, [1, 2], r"x is float\* and takes a NumPy array, not list")
    wrong(0, np.ones(8, np.float32)[::2], "x is not contiguous")
    wrong(2, 4, r"n is int and takes a NumPy int32, not 4 \(int\)")
    wrong(2, np.int64(4), "n is int and takes a NumPy int32")
    wrong(3, 2.0, "alpha is float and takes a NumPy float32")
    wrong(4, np.ones(4, np.int32), r"mask is unsigned char\* and takes uint8 or bool, not int32")
    with pytest.raises(LaunchError, match=r"takes 5 arguments, 2 were given"):
        takes((1,), (4,), (x, y))
    takes((1,), (4,), (*right[:4], np.array([True, False, True, False])))
    assert y.tolist() == [2, 0, 2, 0]


def test_sizes_are_checked(takes):
    args = (np.ones(4, np.float32), np.zeros(4, np.float32), np.int32(4), np.float32(2), None)
    for grid, block, message in [
        ((1,), (1025,), "takes one to three sizes from 1 to"),
        ((1,), (64, 32), "a block of 2048 threads; a GPU allows 1024"),
        ((0,), (4,), r"a grid of \(0,\)"),
        ((1, 70000), (4,), "a grid of"),
        ((1,), (4, 1, 65), "a block of"),
        ((1, 1, 1, 1), (4,), "a grid of"),
    ]:
        with pytest.raises(LaunchError, match=message):
            takes(grid, block, args)
    with pytest.raises(KernelError, match="too much shared memory.*asks for 300000 bytes, a block may have 232448"):
        takes((1,), (4,), args, shared_mem=300000)


def test_shared_memory_is_limited():
    module = EmulatedModule(
        'extern "C" __global__ void big(float* out) {\n'
        "    __shared__ float tile[100][128];\n    tile[0][0] = 1;\n    out[0] = tile[0][0];\n}\n"
    )
    with pytest.raises(KernelError, match=r"too much shared memory in big, kernel.cu:2.*may take 49152 bytes"):
        module.get_function("big")((1,), (1,), (np.zeros(1, np.float32),))


def test_unknown_kernel():
    with pytest.raises(LaunchError, match="there is no kernel 'give' in this text; there are: takes"):
        EmulatedModule(TAKES).get_function("give")
