"""What CUDA C++ means in the emulator: built-in functions against NumPy and Python, warp operations against their
definition in the CUDA guide, fragments against the matrices that they stand for."""

from __future__ import annotations

import numpy as np
import pytest

from minilm_kernels.cuda import compiler
from minilm_kernels.cuda.on_cpu import EmulatedRuntime
from minilm_kernels.emulator import CompileError, EmulatedModule, KernelError, build
from minilm_kernels.emulator.source import rewrite_shared, signatures
from minilm_kernels.philox import philox4x32

if build.find_compiler() is None:
    pytest.skip(f"no C++ compiler: {build.how_to_install_compiler()}", allow_module_level=True)

SOURCE = r"""
#include "common.cuh"
#include "async_copy.cuh"
#include "tensor_cores.cuh"
#include "wmma.cuh"

// ------------------------------------------------------------------------------------------ indices and shuffles
extern "C" __global__ void indices(int* out) {
    const int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    const int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    out[block * (blockDim.x * blockDim.y * blockDim.z) + thread] = 1000 * block + thread;
}
extern "C" __global__ void shuffles(int* out, int amount, int width, unsigned mask) {
    const int lane = threadIdx.x;
    if (!(mask >> lane & 1)) return;
    out[lane] = __shfl_sync(mask, 100 + lane, amount, width);
    out[32 + lane] = __shfl_xor_sync(mask, 100 + lane, amount, width);
    out[64 + lane] = __shfl_down_sync(mask, 100 + lane, amount, width);
    out[96 + lane] = __shfl_up_sync(mask, 100 + lane, amount, width);
}
extern "C" __global__ void votes(unsigned* out, unsigned mask, unsigned predicate) {
    const int lane = threadIdx.x;
    if (!(mask >> lane & 1)) return;
    const int mine = predicate >> lane & 1;
    out[lane] = __ballot_sync(mask, mine);
    out[32 + lane] = __any_sync(mask, mine);
    out[64 + lane] = __all_sync(mask, mine);
}
extern "C" __global__ void reductions(const float* x, double* sums, float* out) {
    const float mine = x[threadIdx.x];
    out[4 * threadIdx.x] = warp_sum(mine);
    out[4 * threadIdx.x + 1] = warp_max(mine);
    out[4 * threadIdx.x + 2] = block_sum(mine);
    out[4 * threadIdx.x + 3] = block_max(mine);
    sums[threadIdx.x] = block_sum(double(mine));
}
extern "C" __global__ void halves_of_a_warp(float* out) {
    // Two groups of lanes, each with its own mask, go their own ways.
    const unsigned mask = threadIdx.x < 16 ? 0xffffu : 0xffff0000u;
    float x = threadIdx.x;
    const int rounds = threadIdx.x < 16 ? 1 : 3;
    for (int i = 0; i < rounds; ++i) x += __shfl_xor_sync(mask, x, 1);
    out[threadIdx.x] = x;
}

// -------------------------------------------------------------------------------------------------------- atomics
extern "C" __global__ void atomics(int* integers, float* floats, half* halves) {
    atomicAdd(&integers[0], 1);
    atomicMax(&integers[1], int(threadIdx.x));
    atomicMin(&integers[2], -int(threadIdx.x));
    atomicCAS(&integers[3], 0, 7);
    atomicExch(&integers[4], 5);
    atomicAdd(&floats[0], 0.5f);
    atomicAdd(&halves[0], __float2half(0.25f));
    int old = 0, seen;  // a first guess; reading the place itself would be a race with the others
    do {  // the loop with which any operation is made atomic
        seen = old;
        old = atomicCAS(&integers[5], seen, seen + 2);
    } while (old != seen);
}
extern "C" __global__ void last_block_adds_up(float* partial, int* count, float* out) {
    __shared__ bool last;
    if (threadIdx.x == 0) {
        partial[blockIdx.x] = blockIdx.x + 1;
        __threadfence();
        last = atomicAdd(count, 1) == int(gridDim.x) - 1;
    }
    __syncthreads();
    if (last && threadIdx.x == 0) {
        float sum = 0;
        for (int i = 0; i < int(gridDim.x); ++i) sum += partial[i];
        out[0] = sum;
    }
}

// ---------------------------------------------------------------------------------------------------------- types
extern "C" __global__ void to_half(const float* x, half* h, bfloat16* b, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) h[i] = narrow<half>(x[i]), b[i] = narrow<bfloat16>(x[i]);
}
extern "C" __global__ void from_half(const half* h, const bfloat16* b, float* x, float* y, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) x[i] = widen(h[i]), y[i] = widen(b[i]);
}
extern "C" __global__ void vectors(const float4* x, float4* y, const half2* h, float2* f) {
    const float4 v = __ldg(x + threadIdx.x);
    y[threadIdx.x] = make_float4(v.w, v.z, v.y, v.x);
    f[threadIdx.x] = __half22float2(__hadd2(h[threadIdx.x], __float2half2_rn(1.0f)));
}
extern "C" __global__ void mathematics(const float* x, float* out) {
    const float v = x[threadIdx.x];
    float* mine = out + 8 * threadIdx.x;
    mine[0] = rsqrtf(v), mine[1] = __expf(v), mine[2] = __logf(v), mine[3] = fmaxf(v, 1.0f);
    mine[4] = __fdividef(1.0f, v), mine[5] = erff(v), mine[6] = fmaf(v, v, 1.0f), mine[7] = exp2f(v);
}
extern "C" __global__ void bits(unsigned* out) {
    out[0] = __popc(0xf0f0u), out[1] = __clz(1), out[2] = __ffs(8), out[3] = __brev(1u);
    out[4] = __float_as_uint(1.0f), out[5] = __umulhi(0xffffffffu, 2u), out[6] = unsigned(ceil_div(7, 3));
}
extern "C" __global__ void philox(uint32_t* out, uint64_t seed) {
    const uint4 w = Philox{seed}.words(threadIdx.x, 5, 6);
    uint32_t* mine = out + 4 * threadIdx.x;
    mine[0] = w.x, mine[1] = w.y, mine[2] = w.z, mine[3] = w.w;
}

// --------------------------------------------------------------------------------------------------- tensor cores
template <typename T> __device__ void mma16(const T* a, const T* b, float* c) {  // (16, 16) (16, 8), b stored (8, 16)
    __shared__ __align__(16) T sa[16][24];
    __shared__ __align__(16) T sb[8][24];
    const int lane = threadIdx.x;
    cp_async<16>(&sa[lane / 2][lane % 2 * 8], a + lane * 8);
    if (lane < 16) cp_async<16>(&sb[lane / 2][lane % 2 * 8], b + lane * 8);
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();
    uint32_t ra[4], rb[2];
    ldmatrix_x4(ra, &sa[lane % 16][lane / 16 * 8]);
    ldmatrix_x2(rb, &sb[lane % 8][lane / 8 % 2 * 8]);
    float d[4] = {1, 1, 1, 1};
    mma_m16n8k16<T>(d, ra, rb);
    for (int i = 0; i < 4; ++i) c[(lane / 4 + 8 * (i / 2)) * 8 + lane % 4 * 2 + i % 2] = d[i];
}
extern "C" __global__ void mma_half(const half* a, const half* b, float* c) { mma16<half>(a, b, c); }
extern "C" __global__ void mma_bfloat16(const bfloat16* a, const bfloat16* b, float* c) { mma16<bfloat16>(a, b, c); }
extern "C" __global__ void mma_transposed(const half* a, const half* b, float* c) {  // both stored the other way round
    __shared__ __align__(16) half sa[16][24], sb[16][8];
    const int lane = threadIdx.x;
    for (int i = lane; i < 256; i += 32) sa[i / 16][i % 16] = a[i];  // (k, m)
    for (int i = lane; i < 128; i += 32) sb[i / 8][i % 8] = b[i];    // (k, n)
    __syncthreads();
    uint32_t ra[4], rb[2];
    ldmatrix_x4_trans(ra, &sa[lane % 8 + lane / 16 * 8][lane / 8 % 2 * 8]);
    ldmatrix_x2_trans(rb, &sb[lane % 16][0]);
    float d[4] = {};
    mma_m16n8k16<half>(d, ra, rb);
    for (int i = 0; i < 4; ++i) c[(lane / 4 + 8 * (i / 2)) * 8 + lane % 4 * 2 + i % 2] = d[i];
}
extern "C" __global__ void mma_k8(const half* a, const half* b, float* c) {  // (16, 8) (8, 8), b stored (8, 8) by n
    const int lane = threadIdx.x, g = lane / 4, t = lane % 4;
    const uint32_t ra[2] = {pack<half>(widen(a[g * 8 + 2 * t]), widen(a[g * 8 + 2 * t + 1])),
                            pack<half>(widen(a[(g + 8) * 8 + 2 * t]), widen(a[(g + 8) * 8 + 2 * t + 1]))};
    const uint32_t rb[1] = {pack<half>(widen(b[g * 8 + 2 * t]), widen(b[g * 8 + 2 * t + 1]))};
    float d[4] = {};
    mma_m16n8k8<half>(d, ra, rb);
    for (int i = 0; i < 4; ++i) c[(g + 8 * (i / 2)) * 8 + t * 2 + i % 2] = d[i];
}
extern "C" __global__ void mma_tf32(const float* a, const float* b, float* c) {  // (16, 8) (8, 8)
    const int lane = threadIdx.x, g = lane / 4, t = lane % 4;
    const uint32_t ra[4] = {to_tf32(a[g * 8 + t]), to_tf32(a[(g + 8) * 8 + t]), to_tf32(a[g * 8 + t + 4]),
                            to_tf32(a[(g + 8) * 8 + t + 4])};
    const uint32_t rb[2] = {to_tf32(b[t * 8 + g]), to_tf32(b[(t + 4) * 8 + g])};
    float d[4] = {};
    mma_m16n8k8_tf32(d, ra, rb);
    for (int i = 0; i < 4; ++i) c[(g + 8 * (i / 2)) * 8 + t * 2 + i % 2] = d[i];
}
extern "C" __global__ void wmma_half(const half* a, const half* b, float* c) {  // (16, 16) (16, 16), b by columns
    using namespace nvcuda;
    wmma::fragment<wmma::matrix_a, 16, 16, 16, half, wmma::row_major> fa;
    wmma::fragment<wmma::matrix_b, 16, 16, 16, half, wmma::col_major> fb;
    wmma::fragment<wmma::accumulator, 16, 16, 16, float> fc;
    wmma::fill_fragment(fc, 2.0f);
    wmma::load_matrix_sync(fa, a, 16);
    wmma::load_matrix_sync(fb, b, 16);
    wmma::mma_sync(fc, fa, fb, fc);
    wmma::store_matrix_sync(c, fc, 16, wmma::mem_row_major);
}

// ------------------------------------------------------------------------------------------- asynchronous copies
extern "C" __global__ void pipeline(const float* in, float* out, int steps) {
    __shared__ __align__(16) float tile[3][128];
    const int i = threadIdx.x * 4;
    for (int s = 0; s < 2; ++s) {
        cp_async<16>(&tile[s][i], in + 128 * s + i, s < steps ? 16 : 0);
        cp_async_commit();
    }
    float sum = 0;
    for (int s = 0; s < steps; ++s) {
#ifndef NO_WAIT
        cp_async_wait<1>();
#endif
        __syncthreads();
        sum += tile[s % 3][127 - threadIdx.x];
#ifdef TOO_EARLY
        const int next = s;
#else
        const int next = s + 2;
#endif
        cp_async<16>(&tile[next % 3][i], in + 128 * next + i, next < steps ? 16 : 0);
        cp_async_commit();
    }
    out[threadIdx.x] = sum;
}
extern "C" __global__ void partial_copy(const float* in, float* out) {
    __shared__ __align__(16) float tile[4];
    cp_async<16>(tile, in, 8);
    cp_async_commit();
    cp_async_wait<0>();
    for (int i = 0; i < 4; ++i) out[i] = tile[i];
}
"""


def assembled(text):
    """The text with our headers in place, as `compiler.assemble` makes it of a file."""
    for name in ("common", "async_copy", "tensor_cores", "wmma"):
        header = compiler.CUDA_FOLDER.joinpath(f"{name}.cuh").read_text()
        text = text.replace(f'#include "{name}.cuh"', header)
    return text


@pytest.fixture(scope="module")
def module():
    return EmulatedModule(assembled(SOURCE), name="language.cu")


@pytest.fixture(params=["forward", "reverse", "random", "lockstep"])
def run(request, module, monkeypatch):
    """run(kernel, grid, block, *arguments): launch under each order of threads."""
    monkeypatch.setattr(module, "order", request.param)

    def launch(name, grid, block, *args, shared_mem=0):
        module.get_function(name)(grid, block, args, shared_mem)

    return launch


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def test_indices(run):
    out = np.full(2 * 3 * 2 * 24, -1, np.int32)
    run("indices", (2, 3, 2), (4, 3, 2), out)
    assert out.tolist() == [1000 * block + thread for block in range(12) for thread in range(24)]


@pytest.mark.parametrize("width", [1, 2, 4, 8, 16, 32])
@pytest.mark.parametrize("amount", [0, 1, 3, 7, 16, 31])
def test_shuffles(module, width, amount):
    out = np.zeros((4, 32), np.int32)
    module.get_function("shuffles")(
        (1,), (32,), (out.reshape(-1), np.int32(amount), np.int32(width), np.uint32(2**32 - 1))
    )
    for lane in range(32):
        first, last = lane - lane % width, lane - lane % width + width - 1
        assert out[0, lane] == 100 + first + amount % width
        assert out[1, lane] == 100 + (lane ^ amount if lane ^ amount <= last else lane)
        assert out[2, lane] == 100 + (lane + amount if lane + amount <= last else lane)
        assert out[3, lane] == 100 + (lane - amount if lane - amount >= first else lane)


def test_shuffles_with_a_mask(run):
    out = np.full((4, 32), -1, np.int32)
    run("shuffles", (1,), (32,), out.reshape(-1), np.int32(1), np.int32(8), np.uint32(0x00FF00FF))
    present = [lane for lane in range(32) if 0x00FF00FF >> lane & 1]
    assert [out[1, lane] for lane in present] == [100 + (lane ^ 1) for lane in present]
    assert (np.delete(out, present, axis=1) == -1).all()


def test_votes(run):
    out = np.zeros((3, 32), np.uint32)
    run("votes", (1,), (32,), out.reshape(-1), np.uint32(0xFFFFFF0F), np.uint32(0x10000001))
    present = [lane for lane in range(32) if 0xFFFFFF0F >> lane & 1]
    assert (out[0, present] == 0x10000001).all() and (out[1, present] == 1).all() and (out[2] == 0).all()
    run("votes", (1,), (32,), out.reshape(-1), np.uint32(0xFFFF), np.uint32(0xFFFFF))
    assert (out[0, :16] == 0xFFFF).all() and (out[2, :16] == 1).all()


def test_reductions(run, rng):
    x = rng.standard_normal(96).astype(np.float32)
    out, sums = np.zeros((96, 4), np.float32), np.zeros(96)
    run("reductions", (1,), (96,), x, sums, out.reshape(-1))
    warps = x.reshape(3, 32)
    np.testing.assert_allclose(out[:, 0], np.repeat(warps.sum(1), 32), atol=1e-5)
    np.testing.assert_array_equal(out[:, 1], np.repeat(warps.max(1), 32))
    np.testing.assert_allclose(out[:, 2], x.sum(), atol=1e-5)
    np.testing.assert_array_equal(out[:, 3], x.max())
    np.testing.assert_allclose(sums, x.astype(np.float64).sum(), rtol=1e-14)
    x[40] = np.nan
    run("reductions", (1,), (96,), x, sums, out.reshape(-1))
    assert np.isnan(out[32:64]).all() and np.isnan(out[:, 2:]).all() and np.isfinite(out[:32, :2]).all()


def test_lanes_with_masks_of_their_own(run):
    out = np.zeros(32, np.float32)
    run("halves_of_a_warp", (1,), (32,), out)
    pairs = np.arange(32) // 2 * 4 + 1.0
    assert out.tolist() == np.where(np.arange(32) < 16, pairs, 4 * pairs).tolist()


def test_atomics(run):
    integers = np.array([0, 0, 0, 0, 0, 0], np.int32)
    floats, halves = np.zeros(1, np.float32), np.zeros(1, np.float16)
    run("atomics", (3,), (64,), integers, floats, halves)
    assert integers.tolist() == [192, 63, -63, 7, 5, 384] and floats[0] == 96 and halves[0] == 48


def test_the_last_block_sees_the_others(run):
    partial, count, out = np.zeros(7, np.float32), np.zeros(1, np.int32), np.zeros(1, np.float32)
    run("last_block_adds_up", (7,), (32,), partial, count, out)
    assert out[0] == 28


def test_half_precision_rounds_as_numpy_does(module, rng):
    edges = [0, -0.0, 1, 65504, 65519, 65520, 65536, 2**-14, 2**-24, 2**-25, 2**-25 * 1.001, 1e-30, np.inf, -np.inf]
    ties = [1 + 2**-11, 1 + 3 * 2**-11, 2**-14 + 2**-25, 2049, 2051, 3 * 2**-25]
    x = np.concatenate([edges, ties, np.negative(ties), np.exp(rng.uniform(-20, 12, 3000)) * rng.choice([-1, 1], 3000)])
    x = x.astype(np.float32)
    h, b = np.zeros(len(x), np.float16), np.zeros(len(x), np.uint16)
    module.get_function("to_half")((-(-len(x) // 256),), (256,), (x, h, b, np.int32(len(x))))
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(h.view(np.uint16), x.astype(np.float16).view(np.uint16))
    bits = x.view(np.uint32).astype(np.uint64)
    np.testing.assert_array_equal(
        b, ((bits + 0x7FFF + (bits >> np.uint64(16) & np.uint64(1))) >> np.uint64(16)).astype(np.uint16)
    )


def test_every_half_widens(module):
    every = np.arange(65536, dtype=np.uint32).astype(np.uint16)
    x, y = np.zeros(65536, np.float32), np.zeros(65536, np.float32)
    fast = EmulatedModule(assembled(SOURCE), checks=(), name="language.cu")
    fast.get_function("from_half")((256,), (256,), (every.view(np.float16), every, x, y, np.int32(65536)))
    np.testing.assert_array_equal(x, every.view(np.float16).astype(np.float32))
    np.testing.assert_array_equal(y, (every.astype(np.uint32) << 16).view(np.float32))


def test_not_a_number_stays_one(module):
    h, b = np.zeros(2, np.float16), np.zeros(2, np.uint16)
    module.get_function("to_half")((1,), (2,), (np.array([np.nan, -np.nan], np.float32), h, b, np.int32(2)))
    assert np.isnan(h).all() and np.isnan((b.astype(np.uint32) << 16).view(np.float32)).all()


def test_vectors(run, rng):
    x = rng.standard_normal((8, 4)).astype(np.float32)
    h = rng.standard_normal((8, 2)).astype(np.float16)
    y, f = np.zeros_like(x), np.zeros((8, 2), np.float32)
    run("vectors", (1,), (8,), x, y, h, f)
    np.testing.assert_array_equal(y, x[:, ::-1])
    np.testing.assert_array_equal(f, (h + np.float16(1)).astype(np.float32))


def test_mathematics(module, rng):
    import math

    x = rng.uniform(0.1, 4, 64).astype(np.float32)
    out = np.zeros((64, 8), np.float32)
    module.get_function("mathematics")((1,), (64,), (x, out.reshape(-1)))
    wide = x.astype(np.float64)
    erf = [math.erf(v) for v in wide]
    wanted = [wide**-0.5, np.exp(wide), np.log(wide), np.maximum(wide, 1), 1 / wide, erf, wide * wide + 1, 2.0**wide]
    np.testing.assert_allclose(out, np.stack(wanted, axis=1), rtol=3e-6, atol=1e-7)


def test_bits(module):
    out = np.zeros(7, np.uint32)
    module.get_function("bits")((1,), (1,), (out,))
    assert out.tolist() == [8, 31, 4, 2**31, 0x3F800000, 1, 3]


def test_philox_draws_the_bits_of_the_reference(module):
    seed = 2**40 + 12345
    out = np.zeros((9, 4), np.uint32)
    module.get_function("philox")((1,), (9,), (out.reshape(-1), np.uint64(seed)))
    words = philox4x32((np.arange(9), 5, 6, 0), (seed & 0xFFFFFFFF, seed >> 32))
    np.testing.assert_array_equal(out, np.stack(np.broadcast_arrays(*words), axis=1).astype(np.uint32))


def bfloat16(x):
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def test_tensor_cores(run, rng):
    a, b = rng.standard_normal((16, 16)).astype(np.float16), rng.standard_normal((8, 16)).astype(np.float16)
    c = np.full((16, 8), np.nan, np.float32)
    wide_a, wide_b = a.astype(np.float32), b.astype(np.float32)
    run("mma_half", (1,), (32,), a, b, c)
    np.testing.assert_allclose(c, wide_a @ wide_b.T + 1, atol=2e-6)
    c[:] = np.nan
    run("mma_transposed", (1,), (32,), np.ascontiguousarray(a.T), np.ascontiguousarray(b.T), c)
    np.testing.assert_allclose(c, wide_a @ wide_b.T, atol=2e-6)
    a8, b8 = np.ascontiguousarray(a[:, :8]), np.ascontiguousarray(b[:, :8])
    run("mma_k8", (1,), (32,), a8, b8, c)
    np.testing.assert_allclose(c, a8.astype(np.float32) @ b8.astype(np.float32).T, atol=2e-6)

    x, y = bfloat16(wide_a), bfloat16(wide_b)
    run("mma_bfloat16", (1,), (32,), x, y, c)
    x, y = ((u.astype(np.uint32) << 16).view(np.float32) for u in (x, y))
    np.testing.assert_allclose(c, x @ y.T + 1, atol=2e-6)

    x, y = rng.standard_normal((16, 8)).astype(np.float32), rng.standard_normal((8, 8)).astype(np.float32)
    run("mma_tf32", (1,), (32,), x, y, c)
    rounded = [((u.view(np.uint32) + 0x1000) & 0xFFFFE000).astype(np.uint32).view(np.float32) for u in (x, y)]
    np.testing.assert_allclose(c, rounded[0] @ rounded[1], atol=2e-6)
    assert np.abs(c - x @ y).max() > 1e-5  # it is not float32

    b, c = rng.standard_normal((16, 16)).astype(np.float16), np.full((16, 16), np.nan, np.float32)
    run("wmma_half", (1,), (32,), a, b, c)
    np.testing.assert_allclose(c, wide_a @ b.astype(np.float32).T + 2, atol=2e-6)


def test_operations_of_a_warp_need_all_its_lanes(module):
    a, b, c = np.zeros((16, 16), np.float16), np.zeros((8, 16), np.float16), np.zeros((16, 8), np.float32)
    with pytest.raises(KernelError, match="incomplete warp in mma_k8.*mma.sync is an operation of all 32 lanes"):
        module.get_function("mma_k8")((1,), (16,), (a, b, c))
    with pytest.raises(KernelError, match=r"misaligned access in wmma_half, language.cu:\d+.*starts 16 bytes past"):
        whole = np.zeros(16 * 16 + 8, np.float16)
        module.get_function("wmma_half")(
            (1,), (32,), (whole[8:].reshape(16, 16), whole[:256], np.zeros(256, np.float32))
        )


def test_asynchronous_copies(run, rng):
    x, out = rng.standard_normal((5, 128)).astype(np.float32), np.zeros(32, np.float32)
    run("pipeline", (1,), (32,), x, out, np.int32(5))
    np.testing.assert_allclose(out, x[:, :95:-1].sum(0), atol=1e-5)
    four = np.full(4, np.nan, np.float32)
    run("partial_copy", (1,), (1,), x, four)
    assert four.tolist() == [x[0, 0], x[0, 1], 0, 0]


@pytest.mark.parametrize("order", ["forward", "reverse", "random", "lockstep"])
@pytest.mark.parametrize(
    "option, message",
    [("-DNO_WAIT", "asynchronous copy in flight in pipeline.*cp_async_wait<N>"), ("-DTOO_EARLY", "race in pipeline")],
)
def test_what_is_wrong_with_a_pipeline(rng, option, message, order):
    module = EmulatedModule(assembled(SOURCE), [option], order=order, name="language.cu")
    args = (rng.standard_normal((5, 128)).astype(np.float32), np.zeros(32, np.float32), np.int32(5))
    with pytest.raises(KernelError, match=message):
        module.get_function("pipeline")((1,), (32,), args)


def test_without_checks_a_missing_wait_shows_as_nan(rng):
    module = EmulatedModule(assembled(SOURCE), ["-DNO_WAIT"], checks=(), name="language.cu")
    out = np.zeros(32, np.float32)
    module.get_function("pipeline")((1,), (32,), (rng.standard_normal((5, 128)).astype(np.float32), out, np.int32(5)))
    assert np.isnan(out).all()


# ------------------------------------------------------------------------------------------------- reading a source


def test_shared_declarations_are_rewritten():
    def one(text):
        return rewrite_shared(text).strip()

    assert one("__shared__ float tile[32][33];") == "MINILM_SHARED(tile, ([32][33]), 0, float);"
    assert one("__shared__ unsigned int flag;") == "MINILM_SHARED(flag, (), 0, unsigned int);"
    assert one("__shared__ __align__(16) half a[8], b[N + 1];") == (
        "MINILM_SHARED(a, ([8]), 16, half); MINILM_SHARED(b, ([N + 1]), 16, half);"
    )
    assert one("__shared__ Pair<int, float> p[f(1, 2)];") == "MINILM_SHARED(p, ([f(1, 2)]), 0, Pair<int, float>);"
    assert rewrite_shared("a;\n__shared__ float\n  tile[4];\nb;").count("\n") == 3
    with pytest.raises(CompileError, match="write DYNAMIC_SHARED"):
        rewrite_shared("extern __shared__ float all[];")
    with pytest.raises(CompileError, match="expected `__shared__ type name"):
        rewrite_shared("__shared__ ;")


def test_signatures_are_read():
    found = signatures(
        'extern "C" __global__ void __launch_bounds__(f(128), 2) a(const float* __restrict__ x, half *y,\n'
        '  unsigned long long n) {}\nextern "C" __global__ void b() {}'
    )
    a = found["a"].parameters
    assert [(p.type, p.pointer, p.const, p.name) for p in a] == [
        ("float", True, True, "x"),
        ("half", True, False, "y"),
        ("unsigned long long", False, False, "n"),
    ]
    assert found["b"].parameters == ()


def test_a_kernel_made_by_a_macro_is_found():
    text = """
    #define KERNEL(name, T) extern "C" __global__ void name(T* x) { __shared__ T one; one = 2; x[0] = one; }
    KERNEL(of_float, float)
    KERNEL(of_double, double)
    """
    module = EmulatedModule(text)
    assert set(module.signatures) == {"of_float", "of_double"}
    for name, dtype in (("of_float", np.float32), ("of_double", np.float64)):
        out = np.zeros(1, dtype)
        module.get_function(name)((1,), (1,), (out,))
        assert out[0] == 2


def test_errors_of_the_compiler_point_to_the_file():
    with pytest.raises(CompileError, match=r"mine\.cu:2:\d+: error: .*nothing"):
        EmulatedModule('extern "C" __global__ void f(int* x) {\n x[0] = nothing;\n}', name="mine.cu")
    with pytest.raises(CompileError, match="the text holds no kernel"):
        EmulatedModule("__global__ void f() {}")
    with pytest.raises(CompileError, match="options of a kernel are -DNAME=value, not -O3"):
        EmulatedModule('extern "C" __global__ void f() {}', ["-O3"])


def test_a_huge_local_array_is_refused():
    with pytest.raises(CompileError, match="frame"):
        EmulatedModule(
            'extern "C" __global__ void f(float* x) {\n float local[100000];\n'
            " for (int i = 0; i < 100000; ++i) local[i] = x[i % 7];\n x[0] = local[int(x[1])];\n}"
        )


# --------------------------------------------------------------------------------------------------------- runtime


def test_the_runtime_poisons_what_a_kernel_shall_fill():
    runtime = EmulatedRuntime()
    assert np.isnan(runtime.empty((2, 3), np.float32)).all() and np.isnan(runtime.empty(4, np.float16)).all()
    assert (runtime.empty((), np.int32) == -1).all() and runtime.zeros(3, np.float64).tolist() == [0, 0, 0]
    x = np.ones((2, 3))
    assert runtime.asarray(x) is x and runtime.asarray(x.T).flags.c_contiguous
    with pytest.raises(TypeError, match="'cuda-emulated' takes NumPy arrays, not list"):
        runtime.asarray([1])


def test_assemble_keeps_files_and_lines(tmp_path, monkeypatch):
    (tmp_path / "common.cuh").write_text("// one\n// two\n")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.cu").write_text('// first\n#include "common.cuh"\n#include "common.cuh"\nhere\n')
    monkeypatch.setattr(compiler, "CUDA_FOLDER", tmp_path)
    lines = compiler.assemble("deep/a.cu").splitlines()
    file, number, places = "", 0, {}
    for line in lines:
        if line.startswith("#line"):
            _, number_text, file = line.split()
            number = int(number_text) - 1
        else:
            places[line] = (file.strip('"'), number)
        number += 1
    assert places["here"] == ("deep/a.cu", 4) and places["// two"] == ("common.cuh", 2)
    assert lines.count("// one") == 1
    with pytest.raises(FileNotFoundError, match="no kernel file 'b.cu'.*deep/a.cu"):
        compiler.assemble("b.cu")
