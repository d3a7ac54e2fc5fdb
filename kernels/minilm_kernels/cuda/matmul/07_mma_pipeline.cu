// Matmul 07: tensor cores by their own instructions, fed by copies that run while they compute.
// minimum architecture: sm_80
//
// Adds four things, each because the one before would starve without it:
//   * mma.sync, 16 x 8 x 16, instead of wmma. Which lane holds which element is documented (tensor_cores.cuh), so bias
//     and edges are dealt with in registers, and the sums need no trip through shared memory.
//   * ldmatrix: one instruction brings four 8 x 8 matrices out of shared memory into just those lanes, transposed on
//     the way if need be. Both operands may therefore lie as they are stored, whichever way that is.
//   * Swizzle: no padding. A line of a tile is a multiple of 128 bytes, all 32 banks, cut into chunks of 16 bytes;
//     line l keeps its chunk c at place c ^ (l % 8). The 8 lines of an 8 x 8 matrix, all at one c, then lie in 8
//     different places, and ldmatrix reads them in one go; and a copy of a line still fills whole 128 bytes.
//
//           chunk      0  1  2  3  4  5  6  7            a column of chunks, say c = 2, is spread out:
//           line 0     0  1 [2] 3  4  5  6  7            place 2
//           line 1     1  0  3 [2] 5  4  7  6            place 3
//           line 2    [2] 3  0  1  6  7  4  5            place 0
//           line 3     3 [2] 1  0  7  6  5  4            place 1 ...
//
//   * cp.async in several stages. A copy goes from global to shared memory without passing through registers and
//     without anyone waiting for it; STAGES - 1 tiles are on their way while one is computed.
//
//        stage 0   | copy k0 ........|compute|copy k3 ........|compute|
//        stage 1       | copy k1 ........|       |compute| copy k4 ........|
//        stage 2           | copy k2 ........|           |compute| copy k5 ....
//
// A block takes 128 x 256 (8 warps) or, where there would be too few of those, 128 x 128 (4 warps); a warp 64 x 64:
// 4 x 8 products of 16 x 8 for 4 + 4 ldmatrix.
//
// With ELEMENT=float the same kernel works in tf32: mma.sync 16 x 8 x 8, operands rounded to 10 bits of fraction.
// ldmatrix moves 16-bit elements, which serves for pairs of them along k but cannot transpose 32-bit ones: an
// operand whose k is not contiguous is read element by element, under a swizzle of its own.
//
// Operands have to begin, and their rows to follow one another, at multiples of 16 bytes: cp.async cannot do
// otherwise. The binding sees to it. M, N and K may be anything: what a copy lacks at an edge it fills with zeros.
//
// Roofline, M = N = K = 8192, 16-bit: 1.1 TFLOP; each matrix once, 403 MB. A tile of 128 x 256 makes 85 operations of
//          each byte fetched: 400 TFLOP/s ask the L2 cache for 4.7 TB/s. From shared memory a warp reads 4 KB for
//          64 x 64 x 16 multiply-adds.
// Limit:   mma.sync itself. On Hopper it reaches about 63 % of the tensor cores' rate: its operands come through
//          registers, and registers are what a warp has few of. The next rung multiplies straight from shared memory.
//
// compile with: -DTRANSPOSE_A=1
// compile with: -DTRANSPOSE_B=1 -DELEMENT=bfloat16
// compile with: -DTILE_N=256 -DGELU=1
// compile with: -DELEMENT=float
// compile with: -DELEMENT=float -DTRANSPOSE_A=1 -DTRANSPOSE_B=1 -DTILE_N=256
#ifndef ELEMENT
#define ELEMENT half
#endif
#ifndef TILE_N
#define TILE_N 128
#endif
#ifndef STAGES
#define STAGES 3
#endif
#include "common.cuh"
#include "matmul/pieces.cuh"
#include "async_copy.cuh"
#include "tensor_cores.cuh"

constexpr int CHUNK = 16 / sizeof(Element);  // elements in 16 bytes: the unit of copies and of the swizzle
constexpr int BM = 128, BN = TILE_N;         // a block's tile
constexpr int BK = 8 * CHUNK;                // and the step along k: 128 bytes, 64 or 32 elements
constexpr int WM = 64, WN = 64;              // a warp's tile
constexpr int MMA_M = 16, MMA_N = 8, MMA_K = 2 * CHUNK;
constexpr int WARPS_ACROSS = BN / WN;
constexpr int THREADS = (BM / WM) * WARPS_ACROSS * WARP_SIZE;
constexpr int A_BYTES = BM * BK * sizeof(Element), STAGE_BYTES = (BM + BN) * BK * sizeof(Element);
constexpr bool TF32 = sizeof(Element) == 4;

// One operand, by tiles of ROWS x BK, where a "row" is a row of op(A) or a column of op(B): the axis that is not k.
// A tile has LINES lines of CHUNKS chunks; a line runs along the axis in which the operand is contiguous.
template <bool K_CONTIGUOUS, int ROWS> struct Operand {
    static constexpr int LINES = K_CONTIGUOUS ? ROWS : BK;
    static constexpr int CHUNKS = (K_CONTIGUOUS ? BK : ROWS) / CHUNK;
    static constexpr int LINES_AT_ONCE = THREADS / CHUNKS;
    static_assert(LINES_AT_ONCE % (TF32 && !K_CONTIGUOUS ? 4 : 8) == 0, "the swizzle of a thread's chunks is the same");

    const Element* next;    // this thread's first chunk of the next tile
    int ld;
    int lines, along;       // how many lines, and elements of a line, the operand has from there on

    __device__ __forceinline__ Operand(const Element* matrix, int ld, int first_row, int rows, int K) : ld(ld) {
        const int line = threadIdx.x / CHUNKS, element = threadIdx.x % CHUNKS * CHUNK;
        const int row = first_row + (K_CONTIGUOUS ? line : element), k = K_CONTIGUOUS ? element : line;
        next = matrix + (K_CONTIGUOUS ? (long long)row * ld + k : (long long)k * ld + row);
        lines = K_CONTIGUOUS ? rows - row : K - k;
        along = K_CONTIGUOUS ? K - k : rows - row;
    }

    // Which of its CHUNKS places a chunk of a line has, as an offset in bytes from the tile's begin.
    static __device__ __forceinline__ int place(int line, int chunk) {
        const int swizzle = TF32 && !K_CONTIGUOUS ? (line & 3) << 1 : line & 7;
        return (line * CHUNKS + (chunk ^ swizzle)) * 16;
    }

    // Begins the copies of the next tile.
    __device__ __forceinline__ void fetch(unsigned char* tile) {
        const int line = threadIdx.x / CHUNKS, chunk = threadIdx.x % CHUNKS;
        const int bytes = max(0, min(along, CHUNK)) * int(sizeof(Element));
#pragma unroll
        for (int i = 0; i < LINES / LINES_AT_ONCE; ++i)
            cp_async<16>(tile + place(line + i * LINES_AT_ONCE, chunk), next + (long long)i * LINES_AT_ONCE * ld,
                         i * LINES_AT_ONCE < lines ? bytes : 0);
        next += K_CONTIGUOUS ? BK : (long long)BK * ld;
        (K_CONTIGUOUS ? along : lines) -= BK;
    }

    // The four registers of 16 rows and MMA_K of k, as mma.sync wants them. A quarter of them is 8 rows x CHUNK of k;
    // a's quarters go down the rows first, those of b (two products of 8 columns next to each other) along k first.
    template <bool IS_A>
    static __device__ __forceinline__ void fragment(uint32_t (&r)[4], const unsigned char* tile, int row, int k) {
        const int lane = threadIdx.x % WARP_SIZE;
        if constexpr (TF32 && !K_CONTIGUOUS) {
            const int g = lane / 4, t = lane % 4;
#pragma unroll
            for (int quarter = 0; quarter < 4; ++quarter) {
                const int row_half = IS_A ? quarter % 2 : quarter / 2, k_half = IS_A ? quarter / 2 : quarter % 2;
                const int x = row + row_half * 8 + g, chunk = place(k + k_half * 4 + t, x / CHUNK);
                r[quarter] = to_tf32(*reinterpret_cast<const float*>(tile + chunk + x % CHUNK * 4));
            }
        } else {
            const int quarter = lane / 8, within = lane % 8;  // this lane brings the address of line `within` of it
            const int row_half = IS_A ? quarter % 2 : quarter / 2, k_half = IS_A ? quarter / 2 : quarter % 2;
            if constexpr (K_CONTIGUOUS)
                ldmatrix_x4(r, tile + place(row + row_half * 8 + within, k / CHUNK + k_half));
            else
                ldmatrix_x4_trans(r, tile + place(k + k_half * 8 + within, (row + row_half * 8) / CHUNK));
            if constexpr (TF32) {
#pragma unroll
                for (int i = 0; i < 4; ++i) r[i] = to_tf32(__uint_as_float(r[i]));
            }
        }
    }
};
using OperandA = Operand<!TRANSPOSE_A, BM>;
using OperandB = Operand<TRANSPOSE_B, BN>;

__device__ __forceinline__ void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    if constexpr (TF32) mma_m16n8k8_tf32(d, a, b);
    else mma_m16n8k16<Element>(d, a, b);
}

extern "C" __global__ void __launch_bounds__(THREADS, 256 / THREADS) matmul(
    const Element* __restrict__ a, const Element* __restrict__ b, const Element* __restrict__ bias,
    Element* __restrict__ c, int M, int N, int K, int lda, int ldb, int ldc, long long batch_a, long long batch_b,
    long long batch_c) {
    DYNAMIC_SHARED(unsigned char, stages);  // STAGES times a tile of A and a tile of B
    const Tile tile = tile_of_block<BM, BN, 8>(M, N);
    c += tile.batch * batch_c;
    const int warp = threadIdx.x / WARP_SIZE;
    const int row = warp / WARPS_ACROSS * WM, column = warp % WARPS_ACROSS * WN;  // of the warp's tile, in the block's

    OperandA operand_a(a + tile.batch * batch_a, lda, tile.row, M, K);
    OperandB operand_b(b + tile.batch * batch_b, ldb, tile.column, N, K);
    const int steps = ceil_div(K, BK);
    // A group of copies is closed in every step, also an empty one: so many groups back is always so many steps back.
#pragma unroll
    for (int s = 0; s < STAGES - 1; ++s) {
        if (s < steps) {
            operand_a.fetch(stages + s * STAGE_BYTES);
            operand_b.fetch(stages + s * STAGE_BYTES + A_BYTES);
        }
        cp_async_commit();
    }

    float sums[WM / MMA_M][WN / MMA_N][4] = {};
    for (int step = 0; step < steps; ++step) {
        cp_async_wait<STAGES - 2>();  // this thread's copies for this step have arrived;
        __syncthreads();              // after the barrier everybody's, and everybody is done with the step before
        if (step + STAGES - 1 < steps) {
            unsigned char* free_stage = stages + (step + STAGES - 1) % STAGES * STAGE_BYTES;  // that of the step before
            operand_a.fetch(free_stage);
            operand_b.fetch(free_stage + A_BYTES);
        }
        cp_async_commit();

        const unsigned char* a_tile = stages + step % STAGES * STAGE_BYTES;
        const unsigned char* b_tile = a_tile + A_BYTES;
#pragma unroll
        for (int k = 0; k < BK; k += MMA_K) {
            uint32_t a_part[WM / MMA_M][4], b_part[WN / 16][4];
#pragma unroll
            for (int r = 0; r < WM / MMA_M; ++r) OperandA::fragment<true>(a_part[r], a_tile, row + r * MMA_M, k);
#pragma unroll
            for (int s = 0; s < WN / 16; ++s) OperandB::fragment<false>(b_part[s], b_tile, column + s * 16, k);
#pragma unroll
            for (int r = 0; r < WM / MMA_M; ++r)
#pragma unroll
                for (int s = 0; s < WN / MMA_N; ++s) {
                    const uint32_t b_half[2] = {b_part[s / 2][s % 2 * 2], b_part[s / 2][s % 2 * 2 + 1]};
                    multiply(sums[r][s], a_part[r], b_half);
                }
        }
    }

#pragma unroll
    for (int r = 0; r < WM / MMA_M; ++r)
        write_sums<WN>(&sums[r][0][0], bias, c, ldc, tile.row + row + r * MMA_M, tile.column + column, M, N);
}
