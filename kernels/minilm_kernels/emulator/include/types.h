// CUDA's 16-bit floats and vector types.
#pragma once
#include <stdint.h>
#include <string.h>

namespace emulator {
template <class To, class From> inline To bits_as(From from) {
    static_assert(sizeof(To) == sizeof(From), "a reinterpretation keeps the size");
    To to;
    __builtin_memcpy(&to, &from, sizeof(to));
    return to;
}

// IEEE half precision: 5 bits of exponent, 10 of fraction; rounds to nearest, ties to even.
inline uint16_t half_bits(float value) {
    const uint32_t bits = bits_as<uint32_t>(value), magnitude = bits & 0x7fffffffu;
    const uint16_t sign = uint16_t(bits >> 16 & 0x8000u);
    if (magnitude > 0x7f800000u) return uint16_t(0x7fff);                      // NaN, as the hardware writes it
    if (magnitude >= 0x477ff000u) return uint16_t(sign | 0x7c00u);             // rounds beyond 65504: infinity
    if (magnitude < 0x38800000u) {                                             // below 2^-14: a subnormal half
        const float scaled = bits_as<float>(magnitude) + 0.5f;                 // 0.5 has a unit of 2^-24 in float
        return uint16_t(sign | (bits_as<uint32_t>(scaled) - 0x3f000000u));
    }
    return uint16_t(sign | ((magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1)) >> 13));
}
inline float half_value(uint16_t half) {
    const uint32_t sign = uint32_t(half & 0x8000u) << 16, magnitude = half & 0x7fffu;
    if (magnitude >= 0x7c00u) return bits_as<float>(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
    if (magnitude < 0x400u) return bits_as<float>(sign | bits_as<uint32_t>(float(magnitude) * 0x1p-24f));
    return bits_as<float>(sign | ((magnitude << 13) + 0x38000000u));
}
// bfloat16: the upper half of a float, rounded to nearest, ties to even.
inline uint16_t bfloat16_bits(float value) {
    const uint32_t bits = bits_as<uint32_t>(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return uint16_t(0x7fff);
    return uint16_t((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}
inline float bfloat16_value(uint16_t bits) { return bits_as<float>(uint32_t(bits) << 16); }
// TensorFloat-32: a float whose fraction keeps 10 bits; cvt.rna rounds to nearest, ties away from zero.
inline uint32_t tf32_bits(float value) {
    const uint32_t bits = bits_as<uint32_t>(value);
    return (bits & 0x7f800000u) == 0x7f800000u ? bits : (bits + 0x1000u) & 0xffffe000u;
}
}  // namespace emulator

#define MINILM_SMALL_FLOAT(Name, to_bits, to_value)                                                   \
    struct alignas(2) Name {                                                                          \
        uint16_t bits;                                                                                \
        Name() = default;                                                                             \
        Name(float value) : bits(to_bits(value)) {}                                                   \
        Name(double value) : bits(to_bits(float(value))) {}                                           \
        Name(int value) : bits(to_bits(float(value))) {}                                              \
        operator float() const { return to_value(bits); }                                             \
        Name operator-() const { Name r = *this; r.bits ^= 0x8000u; return r; }                       \
    };                                                                                                \
    inline Name operator+(Name a, Name b) { return Name(float(a) + float(b)); }                       \
    inline Name operator-(Name a, Name b) { return Name(float(a) - float(b)); }                       \
    inline Name operator*(Name a, Name b) { return Name(float(a) * float(b)); }                       \
    inline Name operator/(Name a, Name b) { return Name(float(a) / float(b)); }                       \
    inline bool operator<(Name a, Name b) { return float(a) < float(b); }                             \
    inline bool operator>(Name a, Name b) { return float(a) > float(b); }                             \
    inline bool operator==(Name a, Name b) { return float(a) == float(b); }                           \
    inline Name& operator+=(Name& a, Name b) { return a = a + b; }                                    \
    inline Name& operator*=(Name& a, Name b) { return a = a * b; }
MINILM_SMALL_FLOAT(__half, emulator::half_bits, emulator::half_value)
MINILM_SMALL_FLOAT(__nv_bfloat16, emulator::bfloat16_bits, emulator::bfloat16_value)
#undef MINILM_SMALL_FLOAT
using half = __half;

inline float __half2float(half x) { return x; }
inline half __float2half(float x) { return half(x); }
inline half __float2half_rn(float x) { return half(x); }
inline unsigned short __half_as_ushort(half x) { return x.bits; }
inline half __ushort_as_half(unsigned short bits) { half x; x.bits = bits; return x; }
inline float __bfloat162float(__nv_bfloat16 x) { return x; }
inline __nv_bfloat16 __float2bfloat16(float x) { return __nv_bfloat16(x); }
inline __nv_bfloat16 __float2bfloat16_rn(float x) { return __nv_bfloat16(x); }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 x) { return x.bits; }
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) { __nv_bfloat16 x; x.bits = bits; return x; }

// Clang checks the alignment of a vector that is copied only where the copy is a function of its own.
#ifdef __clang__
#define MINILM_COPY_2(Base, Name)                                                \
    Name() = default;                                                            \
    constexpr Name(Base x, Base y) : x(x), y(y) {}                               \
    Name(const Name& from) : x(from.x), y(from.y) {}                             \
    Name& operator=(const Name& from) { return x = from.x, y = from.y, *this; }
#define MINILM_COPY_4(Base, Name)                                                          \
    Name() = default;                                                                      \
    constexpr Name(Base x, Base y, Base z, Base w) : x(x), y(y), z(z), w(w) {}             \
    Name(const Name& from) : x(from.x), y(from.y), z(from.z), w(from.w) {}                 \
    Name& operator=(const Name& from) {                                                    \
        return x = from.x, y = from.y, z = from.z, w = from.w, *this;                      \
    }
#else
#define MINILM_COPY_2(Base, Name)
#define MINILM_COPY_4(Base, Name)
#endif

#define MINILM_VECTORS(Base, Name)                                                                         \
    struct alignas(2 * sizeof(Base)) Name##2 { Base x, y; MINILM_COPY_2(Base, Name##2) };                 \
    struct Name##3 { Base x, y, z; };                                                                      \
    struct alignas(sizeof(Base) >= 4 ? 16 : 4 * sizeof(Base)) Name##4 { Base x, y, z, w; MINILM_COPY_4(Base, Name##4) }; \
    inline Name##2 make_##Name##2(Base x, Base y) { return {x, y}; }                                       \
    inline Name##3 make_##Name##3(Base x, Base y, Base z) { return {x, y, z}; }                            \
    inline Name##4 make_##Name##4(Base x, Base y, Base z, Base w) { return {x, y, z, w}; }
MINILM_VECTORS(float, float)
MINILM_VECTORS(double, double)
MINILM_VECTORS(int, int)
MINILM_VECTORS(unsigned, uint)
MINILM_VECTORS(short, short)
MINILM_VECTORS(unsigned short, ushort)
MINILM_VECTORS(signed char, char)
MINILM_VECTORS(unsigned char, uchar)
MINILM_VECTORS(long long, longlong)
MINILM_VECTORS(unsigned long long, ulonglong)
#undef MINILM_VECTORS
#undef MINILM_COPY_4

struct alignas(4) __half2 { half x, y; MINILM_COPY_2(half, __half2) };
struct alignas(4) __nv_bfloat162 { __nv_bfloat16 x, y; MINILM_COPY_2(__nv_bfloat16, __nv_bfloat162) };
#undef MINILM_COPY_2
using half2 = __half2;
inline half2 make_half2(half x, half y) { return {x, y}; }
inline half2 __halves2half2(half x, half y) { return {x, y}; }
inline half2 __floats2half2_rn(float x, float y) { return {half(x), half(y)}; }
inline half2 __float22half2_rn(float2 v) { return {half(v.x), half(v.y)}; }
inline half2 __float2half2_rn(float x) { return {half(x), half(x)}; }
inline float2 __half22float2(half2 v) { return {float(v.x), float(v.y)}; }
inline half __low2half(half2 v) { return v.x; }
inline half __high2half(half2 v) { return v.y; }
inline float __low2float(half2 v) { return v.x; }
inline float __high2float(half2 v) { return v.y; }
inline half2 __hadd2(half2 a, half2 b) { return {a.x + b.x, a.y + b.y}; }
inline half2 __hmul2(half2 a, half2 b) { return {a.x * b.x, a.y * b.y}; }
inline half2 __hfma2(half2 a, half2 b, half2 c) {
    return {half(float(a.x) * float(b.x) + float(c.x)), half(float(a.y) * float(b.y) + float(c.y))};
}
inline __nv_bfloat162 make_bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) { return {x, y}; }
inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) { return {x, y}; }
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {__nv_bfloat16(x), __nv_bfloat16(y)}; }
inline __nv_bfloat162 __float22bfloat162_rn(float2 v) { return {__nv_bfloat16(v.x), __nv_bfloat16(v.y)}; }
inline float2 __bfloat1622float2(__nv_bfloat162 v) { return {float(v.x), float(v.y)}; }
inline float __low2float(__nv_bfloat162 v) { return v.x; }
inline float __high2float(__nv_bfloat162 v) { return v.y; }
