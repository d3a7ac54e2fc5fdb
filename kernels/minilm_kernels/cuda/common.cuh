// Pieces that every kernel shares. Include it first; it brings the CUDA headers that a kernel may use.
//
//   DYNAMIC_SHARED(type, name)      type* name: the dynamic shared memory of the launch, aligned to 1024 bytes
//   WARP_SIZE, FULL_WARP            32, and the mask of all 32 lanes
//   INFINITY, uint32_t, ...         what NVRTC has no standard header for
//   half, bfloat16                  16-bit types; accumulator<T> is what T is added up in: float, or double for double
//   widen(x), narrow<T>(x)          from T to accumulator<T> and back
//   ceil_div(a, b)                  smallest integer >= a / b
//   warp_sum(x), warp_max(x)        over the 32 lanes, the result in every lane
//   block_sum(x), block_max(x)      over a block of whole warps, the result in every thread; two barriers inside
//   Philox{seed}.words(i, j, k)     the four random words of Philox4x32-10, as minilm_kernels.philox draws them
//
// Beside it: tensor_cores.cuh (ldmatrix, mma.sync), async_copy.cuh (cp.async), wmma.cuh (nvcuda::wmma).
// In the emulator MINILM_EMULATED is defined, and the CUDA headers are replaced by emulator/cuda_emulator.h.


#ifndef MINILM_EMULATED
#include <cuda_fp16.h>
#include <cuda_bf16.h>
#ifdef __CUDACC_RTC__  // NVRTC has no standard headers
typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long long int64_t;
typedef unsigned long long uint64_t;
#else
#include <stdint.h>
#endif
#define DYNAMIC_SHARED(type, name)                                        \
    extern __shared__ __align__(1024) unsigned char dynamic_shared_memory[]; \
    type* name = reinterpret_cast<type*>(dynamic_shared_memory)
#endif

// Functions made of PTX take one more parameter in the emulator: the line that calls them, for its reports.
#ifdef MINILM_EMULATED
#define CALLER , emulator::Place place = emulator::Place::here()
#define FROM_CALLER , place
#else
#define CALLER
#define FROM_CALLER
#endif

#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)
#endif

constexpr int WARP_SIZE = 32;
constexpr unsigned FULL_WARP = 0xffffffffu;

using bfloat16 = __nv_bfloat16;

__host__ __device__ constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }

// What a type is added up in: double for double, float for everything else.
template <typename T> struct AccumulatorOf { using type = float; };
template <> struct AccumulatorOf<double> { using type = double; };
template <typename T> using accumulator = typename AccumulatorOf<T>::type;

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ double widen(double x) { return x; }
__device__ __forceinline__ float widen(half x) { return __half2float(x); }
__device__ __forceinline__ float widen(bfloat16 x) { return __bfloat162float(x); }

template <typename T> __device__ __forceinline__ T narrow(accumulator<T> x) { return x; }
template <> __device__ __forceinline__ half narrow<half>(float x) { return __float2half(x); }
template <> __device__ __forceinline__ bfloat16 narrow<bfloat16>(float x) { return __float2bfloat16(x); }

// Butterfly: after step s every lane holds the sum over its group of 2s lanes. Five steps, no shared memory.
template <typename T> __device__ __forceinline__ T warp_sum(T x) {
    for (int offset = WARP_SIZE / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(FULL_WARP, x, offset);
    return x;
}

// A NaN wins, as in NumPy's max; fmaxf would drop it.
template <typename T> __device__ __forceinline__ T max_with_nan(T a, T b) { return (a > b || a != a) ? a : b; }

template <typename T> __device__ __forceinline__ T warp_max(T x) {
    for (int offset = WARP_SIZE / 2; offset > 0; offset /= 2)
        x = max_with_nan(x, __shfl_xor_sync(FULL_WARP, x, offset));
    return x;
}

// Over a block of whole warps (blockDim.x a multiple of 32, one-dimensional); the result in every thread. Two
// barriers: the first before the results of the warps are read, the second before the next call may overwrite them.
template <typename T, T (*warp_reduce)(T)> __device__ __forceinline__ T block_reduce(T x, T neutral) {
    __shared__ T of_warp[WARP_SIZE];
    const int lane = threadIdx.x % WARP_SIZE, warp = threadIdx.x / WARP_SIZE, warps = blockDim.x / WARP_SIZE;
    x = warp_reduce(x);
    if (lane == 0) of_warp[warp] = x;
    __syncthreads();
    x = warp_reduce(lane < warps ? of_warp[lane] : neutral);
    __syncthreads();
    return x;
}
template <typename T> __device__ __forceinline__ T block_sum(T x) { return block_reduce<T, warp_sum<T>>(x, T(0)); }
template <typename T> __device__ __forceinline__ T block_max(T x) {
    return block_reduce<T, warp_max<T>>(x, T(-INFINITY));
}

// Philox4x32-10 (Salmon et al. 2011): four random words as a pure function of a counter and the 64-bit key `seed`.
struct Philox {
    uint64_t seed;

    __device__ uint4 words(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3 = 0) const {
        uint32_t key0 = uint32_t(seed), key1 = uint32_t(seed >> 32);
        for (int round = 0; round < 10; ++round) {
            const uint64_t product0 = uint64_t(0xD2511F53u) * c0, product1 = uint64_t(0xCD9E8D57u) * c2;
            c0 = uint32_t(product1 >> 32) ^ c1 ^ key0;
            c1 = uint32_t(product1);
            c2 = uint32_t(product0 >> 32) ^ c3 ^ key1;
            c3 = uint32_t(product0);
            key0 += 0x9E3779B9u;
            key1 += 0xBB67AE85u;
        }
        return make_uint4(c0, c1, c2, c3);
    }
};
