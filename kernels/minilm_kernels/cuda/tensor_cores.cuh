// Tensor cores by PTX: load a fragment from shared memory, multiply two fragments. Include after common.cuh.
//
//   ldmatrix_x1/x2/x4(r, row)            1, 2 or 4 matrices of 8 x 8 16-bit elements from shared memory into r[j]
//   ldmatrix_x1/x2/x4_trans(r, row)      the same, each matrix transposed
//   mma_m16n8k16<T>(d, a, b)             d[4] += a[4] b[2], T = half or bfloat16, sums in float    (sm_80)
//   mma_m16n8k8<T>(d, a, b)              d[4] += a[2] b[1], T = half (sm_75) or bfloat16 (sm_80)
//   mma_m16n8k8_tf32(d, a, b)            d[4] += a[4] b[2], registers made by to_tf32              (sm_80)
//   pack<T>(low, high)                   two floats rounded to T in one register
//   to_tf32(x)                           a float rounded to 10 bits of fraction, as register
//
// All 32 lanes have to take part. With g = lane / 4 and t = lane % 4 a lane holds
//   ldmatrix     lane 8 j + r gives the address of row r of matrix j (16-byte aligned);
//                r[j] = elements (g, 2t) and (g, 2t + 1) of matrix j, or (2t, g) and (2t + 1, g) with _trans
//   a, 16 x 16   a[0] = (g, 2t..2t+1)   a[1] = (g + 8, 2t..)   a[2] = (g, 2t + 8..)   a[3] = (g + 8, 2t + 8..)
//   b, 16 x 8    b[0] = (2t..2t+1, g)   b[1] = (2t + 8.., g)
//   a, tf32      a[0] = (g, t)          a[1] = (g + 8, t)      a[2] = (g, t + 4)      a[3] = (g + 8, t + 4)
//   b, tf32      b[0] = (t, g)          b[1] = (t + 4, g)
//   d, 16 x 8    d[0], d[1] = (g, 2t), (g, 2t + 1)             d[2], d[3] = (g + 8, 2t), (g + 8, 2t + 1)
// (PTX manual, "Matrix Fragments for mma.m16n8k16" and "ldmatrix".)
#ifndef MINILM_EMULATED
// The address as PTX wants it: within shared memory, 32 bits.
__device__ __forceinline__ uint32_t shared_address(const void* pointer) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}
#endif

template <int COUNT, bool TRANSPOSED>
__device__ __forceinline__ void ldmatrix(uint32_t (&r)[COUNT], const void* row CALLER) {
    static_assert(COUNT == 1 || COUNT == 2 || COUNT == 4, "ldmatrix loads 1, 2 or 4 matrices");
#ifdef MINILM_EMULATED
    emulator::emulate_ldmatrix<COUNT, TRANSPOSED>(r, row, place);
#else
    const uint32_t address = shared_address(row);
    if constexpr (COUNT == 1 && !TRANSPOSED)
        asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(r[0]) : "r"(address) : "memory");
    if constexpr (COUNT == 1 && TRANSPOSED)
        asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];"
                     : "=r"(r[0]) : "r"(address) : "memory");
    if constexpr (COUNT == 2 && !TRANSPOSED)
        asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                     : "=r"(r[0]), "=r"(r[1]) : "r"(address) : "memory");
    if constexpr (COUNT == 2 && TRANSPOSED)
        asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                     : "=r"(r[0]), "=r"(r[1]) : "r"(address) : "memory");
    if constexpr (COUNT == 4 && !TRANSPOSED)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address) : "memory");
    if constexpr (COUNT == 4 && TRANSPOSED)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address) : "memory");
#endif
}

#define LDMATRIX(suffix, count, transposed)                                                               \
    __device__ __forceinline__ void ldmatrix_##suffix(uint32_t (&r)[count], const void* row CALLER) { \
        ldmatrix<count, transposed>(r, row FROM_CALLER);                                                   \
    }
LDMATRIX(x1, 1, false)
LDMATRIX(x2, 2, false)
LDMATRIX(x4, 4, false)
LDMATRIX(x1_trans, 1, true)
LDMATRIX(x2_trans, 2, true)
LDMATRIX(x4_trans, 4, true)
#undef LDMATRIX

template <typename T> struct IsHalf { static constexpr bool value = false; };
template <> struct IsHalf<half> { static constexpr bool value = true; };

template <typename T>
__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2] CALLER) {
#ifdef MINILM_EMULATED
    emulator::emulate_mma_m16n8<T, 16>(d, a, b, place);
#else
    if constexpr (IsHalf<T>::value)
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                     "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    else
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                     "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

template <typename T>
__device__ __forceinline__ void mma_m16n8k8(float (&d)[4], const uint32_t (&a)[2], const uint32_t (&b)[1] CALLER) {
#ifdef MINILM_EMULATED
    emulator::emulate_mma_m16n8<T, 8>(d, a, b, place);
#else
    if constexpr (IsHalf<T>::value)
        asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 "
                     "{%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(b[0]));
    else
        asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 "
                     "{%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(b[0]));
#endif
}

__device__ __forceinline__ void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2] CALLER) {
#ifdef MINILM_EMULATED
    emulator::emulate_mma_m16n8<emulator::Tf32, 8>(d, a, b, place);
#else
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

__device__ __forceinline__ uint32_t to_tf32(float x) {
#ifdef MINILM_EMULATED
    return emulator::tf32_bits(x);
#else
    uint32_t rounded;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(x));
    return rounded;
#endif
}

template <typename T> __device__ __forceinline__ uint32_t pack(float low, float high) {
#ifdef MINILM_EMULATED
    return uint32_t(T(high).bits) << 16 | T(low).bits;
#else
    if constexpr (IsHalf<T>::value) {
        const half2 both = __floats2half2_rn(low, high);
        return *reinterpret_cast<const uint32_t*>(&both);
    } else {
        const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
        return *reinterpret_cast<const uint32_t*>(&both);
    }
#endif
}
