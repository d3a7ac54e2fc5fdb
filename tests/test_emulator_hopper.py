"""Hopper's asynchronous machinery in the emulator: a product fed by box copies, and what goes wrong around one."""

from __future__ import annotations

import numpy as np
import pytest

from minilm_kernels.cuda import compiler, tensor_map
from minilm_kernels.cuda.on_cpu import EmulatedRuntime
from minilm_kernels.emulator import EmulatedModule, KernelError, LaunchError, build

if build.find_compiler() is None:
    pytest.skip(f"no C++ compiler: {build.how_to_install_compiler()}", allow_module_level=True)

SOURCE = r"""
constexpr int TILE = 64, STAGES = 2, BYTES = TILE * TILE * 2;

// c (M, N) = a (M, K) b, tile by tile: a warpgroup multiplies, a thread of another one brings what it needs.
// b is stored (N, K), or with ALONG_N as (K, N).
template <bool ALONG_N> __device__ void product(const TensorMap* a, const TensorMap* b, float* c, int M, int N, int K) {
    DYNAMIC_SHARED(bfloat16, tiles);
    __shared__ Barrier full[STAGES], empty[STAGES];
    bfloat16 *as = tiles, *bs = tiles + STAGES * TILE * TILE;
    if (threadIdx.x == 0) {
        for (int s = 0; s < STAGES; ++s) barrier_init(&full[s], 1), barrier_init(&empty[s], 4);
        barrier_init_done();
    }
    __syncthreads();
    const int row = blockIdx.y * TILE, column = blockIdx.x * TILE, steps = ceil_div(K, TILE);
    if (threadIdx.x >= 128) {
        for (int i = 0; threadIdx.x == 128 && i < steps; ++i) {
            const int s = i % STAGES;
#ifndef NO_EMPTY_WAIT
            barrier_wait(&empty[s], (i / STAGES + 1) % 2);
#endif
#ifdef WRONG_BYTES
            barrier_expect(&full[s], 2 * BYTES + 16);
#else
            barrier_expect(&full[s], 2 * BYTES);
#endif
            tma_load(as + s * TILE * TILE, a, &full[s], i * TILE, row, 0);
            tma_load(bs + s * TILE * TILE, b, &full[s], ALONG_N ? column : i * TILE, ALONG_N ? i * TILE : column, 0);
        }
        return;
    }
    const int w = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    float d[TILE / 2] = {};
    for (int i = 0; i < steps; ++i) {
        const int s = i % STAGES;
#ifndef NO_FULL_WAIT
        barrier_wait(&full[s], i / STAGES % 2);
#endif
        wgmma_fence();
        for (int k = 0; k < TILE; k += 16)
            wgmma_m64k16<bfloat16, TILE, false, ALONG_N>(
                d, wgmma_operand(as + s * TILE * TILE + k),
                ALONG_N ? wgmma_operand_mn(bs + s * TILE * TILE + k * 64, BYTES)
                        : wgmma_operand(bs + s * TILE * TILE + k));
        wgmma_commit();
#ifndef NO_WGMMA_WAIT
        wgmma_wait<0>();
#endif
        if (lane == 0) barrier_arrive(&empty[s]);
    }
    wgmma_wait_all(d);
    for (int j = 0; j < TILE / 8; ++j)
        for (int i = 0; i < 4; ++i) {
            const int r = row + 16 * w + g + 8 * (i / 2), n = column + 8 * j + 2 * t + i % 2;
            if (r < M && n < N) c[r * N + n] = d[4 * j + i];
        }
}
extern "C" __global__ void __launch_bounds__(256) along_k(
    const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, float* c, int M, int N, int K) {
    product<false>(&a, &b, c, M, N, K);
}
extern "C" __global__ void __launch_bounds__(256) along_n(
    const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, float* c, int M, int N, int K) {
    product<true>(&a, &b, c, M, N, K);
}

// c = a b for one tile, half of A from registers; the result leaves by a box copy.
extern "C" __global__ void __launch_bounds__(128) from_registers(
    const __grid_constant__ TensorMap a_map, const __grid_constant__ TensorMap b_map,
    const __grid_constant__ TensorMap c_map, const half* a) {
    DYNAMIC_SHARED(half, tiles);
    __shared__ Barrier full;
    half *sa = tiles, *sb = tiles + TILE * TILE, *sc = tiles + 2 * TILE * TILE;
    if (threadIdx.x == 0) {
#ifndef NO_INIT
        barrier_init(&full, 1);
#endif
        barrier_init_done();
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        barrier_expect(&full, 2 * BYTES);
        tma_load(sa, &a_map, &full, 0, 0, 0);
        tma_load(sb, &b_map, &full, 0, 0, 0);
    }
    barrier_wait(&full, 0);
    const int w = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    float d[TILE / 2] = {};
    wgmma_fence();
    for (int k = 0; k < 32; k += 16) {
        uint32_t r[4];
        for (int i = 0; i < 4; ++i)
            r[i] = *reinterpret_cast<const uint32_t*>(&a[(16 * w + g + 8 * (i % 2)) * TILE + k + 2 * t + 8 * (i / 2)]);
        wgmma_m64k16_registers<half, TILE, false>(d, r, wgmma_operand(sb + k));
    }
    for (int k = 32; k < 64; k += 16)
        wgmma_m64k16<half, TILE, false, false>(d, wgmma_operand(sa + k), wgmma_operand(sb + k));
    wgmma_commit();
    wgmma_wait_all(d);
    named_barrier_sync(1, 128);
    for (int j = 0; j < TILE / 8; ++j)
        for (int i = 0; i < 4; ++i) {
            const int row = 16 * w + g + 8 * (i / 2), column = 8 * j + 2 * t + i % 2;
            sc[row * TILE + (column / 8 ^ row % 8) * 8 + column % 8] = __float2half(d[4 * j + i]);
        }
#ifndef NO_PROXY_FENCE
    fence_async_proxy();
#endif
    __syncthreads();
    if (threadIdx.x == 0) {
        tma_store(&c_map, sc, 0, 0, 0);
        tma_store_commit();
        tma_store_wait<0>();
    }
}

extern "C" __global__ void arrivals(int* out, int how_many) {
    __shared__ Barrier barrier;
    if (threadIdx.x == 0) {
        barrier_init(&barrier, 2);
        barrier_expect(&barrier, 16);
        for (int i = 1; i < how_many; ++i) barrier_arrive(&barrier);
        barrier_wait(&barrier, 0);
    }
    out[0] = 1;
}

// Two warps hand a number to and fro by named barriers.
extern "C" __global__ void ping_pong(int* out) {
    __shared__ int ball;
    const int warp = threadIdx.x / 32;
    if (threadIdx.x == 0) ball = 0;
    __syncthreads();
    for (int i = 0; i < 4; ++i) {
        if (warp == 0) {
            if (threadIdx.x == 0) ++ball;
            named_barrier_arrive(1, 64);
#ifndef ONE_WAY
            named_barrier_sync(2, 64);
#endif
        } else {
            named_barrier_sync(1, 64);
            if (threadIdx.x == 32) ++ball;
            named_barrier_arrive(2, 64);
        }
    }
    if (threadIdx.x == 0) out[0] = ball;
}
"""


def load(*options, order="forward"):
    text = "".join(
        compiler.CUDA_FOLDER.joinpath(f"{name}.cuh").read_text() for name in ("common", "tensor_cores", "hopper")
    )
    text = text.replace('#include "tensor_cores.cuh"', "")
    return EmulatedModule(text + SOURCE, options, order=order, time_limit=20, name="hopper.cu")


def to_bfloat16(x):
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def from_bfloat16(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def run_product(module, kernel="along_k", shape=(64, 64, 200)):
    m, n, k = shape
    rng = np.random.default_rng(0)
    a, b = to_bfloat16(rng.standard_normal((m, k))), to_bfloat16(rng.standard_normal((n, k)))
    stored_b = np.ascontiguousarray(b.T) if kernel == "along_n" else b
    runtime = EmulatedRuntime()
    c = runtime.empty((m, n), np.float32)
    maps = [runtime.tensor_map(x, (64, 64), 128) for x in (a, stored_b)]
    sizes = [np.int32(s) for s in shape]
    module.get_function(kernel)((-(-n // 64), -(-m // 64)), (256,), (*maps, c, *sizes), 4 * 64 * 64 * 2)
    np.testing.assert_allclose(c, from_bfloat16(a) @ from_bfloat16(b).T, atol=3e-5)


@pytest.mark.parametrize("order", ["forward", "reverse", "random", "lockstep"])
@pytest.mark.parametrize(
    "kernel, shape", [("along_k", (100, 72, 200)), ("along_n", (100, 72, 200)), ("along_k", (3, 1, 8))]
)
def test_a_pipelined_product(kernel, shape, order):
    run_product(load(order=order), kernel, shape)


@pytest.mark.parametrize("order", ["forward", "reverse", "random"])
@pytest.mark.parametrize(
    "option, message",
    [
        ("NO_FULL_WAIT", "asynchronous copy in flight|uninitialised shared memory|race"),
        ("NO_EMPTY_WAIT", "race|product in flight|asynchronous copy in flight|too many arrivals"),
        ("NO_WGMMA_WAIT", "product in flight in along_k.*wgmma_wait<N>"),
        ("WRONG_BYTES", "deadlock in along_k.*barrier_wait of shared full.0.*0 arrivals and 16 bytes"),
    ],
)
def test_what_goes_wrong_in_a_pipeline(option, message, order):
    with pytest.raises(KernelError, match=message):
        run_product(load(f"-D{option}", order=order))


def run_from_registers(module):
    rng = np.random.default_rng(1)
    a, b = (rng.standard_normal((64, 64)).astype(np.float16) for _ in range(2))
    runtime = EmulatedRuntime()
    c = runtime.empty((50, 64), np.float16)
    maps = [runtime.tensor_map(x, (64, 64), 128) for x in (a, b, c)]
    module.get_function("from_registers")((1,), (128,), (*maps, a), 3 * 64 * 64 * 2)
    np.testing.assert_allclose(c, (a.astype(np.float32) @ b.astype(np.float32).T)[:50], atol=0.02)


def test_operands_from_registers_and_a_store():
    run_from_registers(load())


@pytest.mark.parametrize(
    "option, message",
    [
        (
            "NO_PROXY_FENCE",
            "missing proxy fence in from_registers.*do not yet see shared tiles.8192.*wrote at hopper.cu",
        ),
        ("NO_INIT", "barrier not initialised in from_registers.*shared full is used as a barrier"),
    ],
)
def test_what_goes_wrong_around_a_product(option, message):
    with pytest.raises(KernelError, match=message):
        run_from_registers(load(f"-D{option}"))


def test_arrivals_are_counted():
    kernel, out = load().get_function("arrivals"), np.zeros(1, np.int32)
    with pytest.raises(KernelError, match="too many arrivals in arrivals.*shared barrier takes 2 arrivals"):
        kernel((1,), (1,), (out, np.int32(3)))
    with pytest.raises(
        KernelError, match="deadlock in arrivals.*shared barrier with parity 0.*0 arrivals and 16 bytes"
    ):
        kernel((1,), (1,), (out, np.int32(2)))
    with pytest.raises(KernelError, match="deadlock in arrivals.*1 arrivals and 16 bytes"):
        kernel((1,), (1,), (out, np.int32(1)))


@pytest.mark.parametrize("order", ["forward", "reverse", "random", "lockstep"])
def test_named_barriers(order):
    out = np.zeros(1, np.int32)
    load(order=order).get_function("ping_pong")((1,), (64,), (out,))
    assert out[0] == 8
    with pytest.raises(KernelError, match="(race|deadlock) in ping_pong"):
        load("-DONE_WAY", order=order).get_function("ping_pong")((1,), (64,), (out,))


def test_what_a_tensor_map_takes():
    x = np.zeros((128, 64), np.float16)
    tensor_map.check(x, (64, 64), 128)
    for array, box, swizzle, message in [
        (x, (64, 65), 0, "a multiple of 16 bytes"),
        (x, (300, 64), 0, "1 to 256 elements an axis"),
        (x, (64, 64), 64, "at most the 64 bytes of the swizzle"),
        (x, (64, 64), 100, "swizzle is 0, 32, 64 or 128"),
        (x[:, :63].copy(), (64, 32), 64, "begin at multiples of 16 bytes"),
        (x[0], (64,), 0, "2 or 3 axes"),
        (x[:0], (64, 64), 0, "empty array"),
    ]:
        with pytest.raises(ValueError, match=message):
            tensor_map.check(array, box, swizzle)


def test_a_tensor_map_is_not_a_number():
    with pytest.raises(LaunchError, match="a is TensorMap and takes what runtime.tensor_map makes, not int32"):
        args = (np.int32(1), np.int32(1), np.zeros((1, 1), np.float32), *[np.int32(1)] * 3)
        load().get_function("along_k")((1,), (256,), args)
