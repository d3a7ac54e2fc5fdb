// CUDA's keywords and built-in functions: mathematics, warp shuffles and votes, atomics.
#pragma once
#include <math.h>

#include "memory.h"
#include "threads.h"
#include "types.h"

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) alignas(n)

// ------------------------------------------------------------------------------------------------- mathematics
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __log2f(float x) { return log2f(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __sinf(float x) { return sinf(x); }
inline float __cosf(float x) { return cosf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __frsqrt_rn(float x) { return 1.0f / sqrtf(x); }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline int __float2int_rn(float x) { return int(nearbyintf(x)); }
inline float __int_as_float(int x) { return emulator::bits_as<float>(x); }
inline int __float_as_int(float x) { return emulator::bits_as<int>(x); }
inline float __uint_as_float(unsigned x) { return emulator::bits_as<float>(x); }
inline unsigned __float_as_uint(float x) { return emulator::bits_as<unsigned>(x); }
inline long long __double_as_longlong(double x) { return emulator::bits_as<long long>(x); }
inline double __longlong_as_double(long long x) { return emulator::bits_as<double>(x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline unsigned __brev(unsigned x) {
    unsigned r = 0;
    for (int i = 0; i < 32; ++i) r |= (x >> i & 1u) << (31 - i);
    return r;
}
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((uint64_t(a) * b) >> 32); }

template <class T> inline T min(T a, T b) { return b < a ? b : a; }
template <class T> inline T max(T a, T b) { return a < b ? b : a; }
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }

template <class T> inline T __ldg(const T* address) { return *address; }
template <class T> inline T __ldcg(const T* address) { return *address; }
template <class T> inline T __ldcs(const T* address) { return *address; }
template <class T> inline void __stcs(T* address, T value) { *address = value; }
inline void __threadfence() { emulator::fence(); }
inline void __threadfence_block() {}

// ------------------------------------------------------------------------------------- warp shuffles and votes
namespace emulator {

template <class T> struct ShuffleOperands {
    T value, result;
    int source;  // the lane whose value this lane wants
    Place place;
};

[[noreturn]] void fail_shuffle_source(int lane, int source, unsigned mask, Place place);

template <class T> inline T shuffle(const char* name, unsigned mask, T value, int source, Place place) {
    ShuffleOperands<T> mine = {value, value, source, place};
    warp_together(name, mask, &mine, [](void** operands, unsigned present) {
        for (int lane = 0; lane < WARP; ++lane) {
            if (!operands[lane]) continue;
            auto& reader = *static_cast<ShuffleOperands<T>*>(operands[lane]);
            if (!operands[reader.source]) fail_shuffle_source(lane, reader.source, present, reader.place);
            reader.result = static_cast<ShuffleOperands<T>*>(operands[reader.source])->value;
        }
    }, place);
    return mine.result;
}

void check_width(int width, Place place);

struct VoteOperands {
    bool predicate;
    unsigned ballot;
};
inline unsigned vote(const char* name, unsigned mask, bool predicate, Place place) {
    VoteOperands mine = {predicate, 0};
    warp_together(name, mask, &mine, [](void** operands, unsigned) {
        unsigned ballot = 0;
        for (int lane = 0; lane < WARP; ++lane)
            if (operands[lane] && static_cast<VoteOperands*>(operands[lane])->predicate) ballot |= 1u << lane;
        for (int lane = 0; lane < WARP; ++lane)
            if (operands[lane]) static_cast<VoteOperands*>(operands[lane])->ballot = ballot;
    }, place);
    return mine.ballot;
}
}  // namespace emulator

// A warp is cut into segments of `width` lanes; a source outside of the own segment gives the lane its own value back.
template <class T>
inline T __shfl_sync(unsigned mask, T value, int source, int width = 32, emulator::Place place = emulator::Place::here()) {
    emulator::check_width(width, place);
    const int lane = emulator::lane();
    return emulator::shuffle("__shfl_sync", mask, value, (lane & ~(width - 1)) | (source & (width - 1)), place);
}
template <class T>
inline T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32, emulator::Place place = emulator::Place::here()) {
    emulator::check_width(width, place);
    const int lane = emulator::lane(), source = lane ^ lanes;
    // As the hardware bounds it: a partner in a later segment is out of reach, one in an earlier segment is not.
    return emulator::shuffle("__shfl_xor_sync", mask, value, source <= (lane | (width - 1)) ? source : lane, place);
}
template <class T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, emulator::Place place = emulator::Place::here()) {
    emulator::check_width(width, place);
    const int lane = emulator::lane(), source = lane + int(delta);
    return emulator::shuffle("__shfl_down_sync", mask, value, source <= (lane | (width - 1)) ? source : lane, place);
}
template <class T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, emulator::Place place = emulator::Place::here()) {
    emulator::check_width(width, place);
    const int lane = emulator::lane(), source = lane - int(delta);
    return emulator::shuffle("__shfl_up_sync", mask, value, source >= (lane & ~(width - 1)) ? source : lane, place);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, emulator::Place place = emulator::Place::here()) {
    return emulator::vote("__ballot_sync", mask, predicate != 0, place);
}
inline int __any_sync(unsigned mask, int predicate, emulator::Place place = emulator::Place::here()) {
    return emulator::vote("__any_sync", mask, predicate != 0, place) != 0;
}
inline int __all_sync(unsigned mask, int predicate, emulator::Place place = emulator::Place::here()) {
    return emulator::vote("__all_sync", mask, predicate == 0, place) == 0;
}
inline unsigned __activemask() { return emulator::live_lanes(); }

// ----------------------------------------------------------------------------------------------------- atomics
namespace emulator {
template <class T, class F> MINILM_UNCHECKED T atomically(T* address, Place place, F change) {
    begin_atomic(address, sizeof(T), place);
    const T old = *address;
    *address = change(old);
    breathe();
    return old;
}
}  // namespace emulator

#define MINILM_ATOMIC(name, result)                                                                           \
    template <class T, class U = T>                                                                           \
    inline T name(T* address, U operand, emulator::Place place = emulator::Place::here()) {                   \
        const T value = T(operand);                                                                           \
        return emulator::atomically(address, place, [=](T old) { return T(result); });                        \
    }
MINILM_ATOMIC(atomicAdd, old + value)
MINILM_ATOMIC(atomicSub, old - value)
MINILM_ATOMIC(atomicMax, old < value ? value : old)
MINILM_ATOMIC(atomicMin, value < old ? value : old)
MINILM_ATOMIC(atomicExch, (void(old), value))
MINILM_ATOMIC(atomicAnd, old & value)
MINILM_ATOMIC(atomicOr, old | value)
MINILM_ATOMIC(atomicXor, old ^ value)
MINILM_ATOMIC(atomicInc, old >= value ? 0 : old + 1)
#undef MINILM_ATOMIC
template <class T>
inline T atomicCAS(T* address, T expected, T value, emulator::Place place = emulator::Place::here()) {
    return emulator::atomically(address, place, [=](T old) { return old == expected ? value : old; });
}
