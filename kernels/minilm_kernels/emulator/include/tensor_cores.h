// ldmatrix and mma.sync in emulated form. Which lane holds which element is exactly as the PTX manual draws it
// ("Matrix fragments for mma.m16n8k16", "ldmatrix"), so that a kernel with a wrong index is wrong here too.
#pragma once
#include "memory.h"
#include "types.h"

namespace emulator {

[[noreturn]] void fail_incomplete_warp(const char* name, Place place);

inline void require_whole_warp(const char* name, void** operands, Place place) {
    for (int lane = 0; lane < WARP; ++lane)
        if (!operands[lane]) fail_incomplete_warp(name, place);
}

struct LdmatrixOperands {
    uint32_t* registers;
    const void* row;
    Place place;
};

// COUNT matrices of 8 × 8 elements of 16 bits. Lane 8·j + r brings the address of row r of matrix j. Afterwards
// register j of lane l holds elements 2·(l % 4) and 2·(l % 4) + 1 of row l / 4, or of column l / 4 if transposed.
template <int COUNT, bool TRANSPOSED> inline void emulate_ldmatrix(uint32_t* registers, const void* row, Place place) {
    LdmatrixOperands mine = {registers, row, place};
    warp_together("ldmatrix", 0xffffffffu, &mine, [](void** operands, unsigned) {
        const Place place = static_cast<LdmatrixOperands*>(operands[__builtin_ctz(live_lanes())])->place;
        require_whole_warp("ldmatrix", operands, place);
        for (int j = 0; j < COUNT; ++j) {
            uint16_t matrix[8][8];
            for (int r = 0; r < 8; ++r)
                load(8 * j + r, matrix[r], static_cast<LdmatrixOperands*>(operands[8 * j + r])->row, 16, 16, place);
            for (int lane = 0; lane < WARP; ++lane) {
                const int i = lane / 4, k = 2 * (lane % 4);
                const uint16_t low = TRANSPOSED ? matrix[k][i] : matrix[i][k];
                const uint16_t high = TRANSPOSED ? matrix[k + 1][i] : matrix[i][k + 1];
                static_cast<LdmatrixOperands*>(operands[lane])->registers[j] = uint32_t(high) << 16 | low;
            }
        }
    }, place);
}

struct MmaOperands {
    float* d;
    const uint32_t *a, *b;
    Place place;
};

// The element type decides how a 32-bit register is read: two 16-bit floats, or one tf32.
template <class T> struct Packed {
    static constexpr int PER_REGISTER = 2;
    static float value(uint32_t word, int i) {
        T x;
        x.bits = uint16_t(word >> 16 * i);
        return x;
    }
};
struct Tf32;
template <> struct Packed<Tf32> {
    static constexpr int PER_REGISTER = 1;
    static float value(uint32_t word, int) { return bits_as<float>(word & 0xffffe000u); }
};

// d (16 × 8) += a (16 × K) · b (K × 8), all three spread over the registers of the warp.
template <class T, int K> inline void emulate_mma_m16n8(float* d, const uint32_t* a, const uint32_t* b, Place place) {
    MmaOperands mine = {d, a, b, place};
    warp_together("mma.sync", 0xffffffffu, &mine, [](void** operands, unsigned) {
        using P = Packed<T>;
        constexpr int WIDTH = P::PER_REGISTER, STEP = 4 * WIDTH;  // the columns that one register of four lanes covers
        require_whole_warp("mma.sync", operands, static_cast<MmaOperands*>(operands[__builtin_ctz(live_lanes())])->place);
        float a[16][K], b[K][8];
        for (int lane = 0; lane < WARP; ++lane) {
            const MmaOperands& o = *static_cast<MmaOperands*>(operands[lane]);
            const int group = lane / 4, within = lane % 4;
            for (int r = 0; r < 2 * K / STEP; ++r)  // registers of a: rows g and g + 8, then the next columns
                for (int e = 0; e < WIDTH; ++e)
                    a[group + 8 * (r % 2)][within * WIDTH + e + STEP * (r / 2)] = P::value(o.a[r], e);
            for (int r = 0; r < K / STEP; ++r)
                for (int e = 0; e < WIDTH; ++e) b[within * WIDTH + e + STEP * r][group] = P::value(o.b[r], e);
        }
        for (int lane = 0; lane < WARP; ++lane) {
            float* d = static_cast<MmaOperands*>(operands[lane])->d;
            for (int i = 0; i < 4; ++i) {
                const int row = lane / 4 + 8 * (i / 2), column = 2 * (lane % 4) + i % 2;
                float sum = d[i];
                for (int k = 0; k < K; ++k) sum += a[row][k] * b[k][column];
                d[i] = sum;
            }
        }
    }, place);
}

}  // namespace emulator
