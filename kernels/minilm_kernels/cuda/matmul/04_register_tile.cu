// Matmul 04: a thread computes an 8 x 8 tile of C in its registers.
//
// Adds:    a second level of tiling. What 03 did between global and shared memory happens once more between shared
//          memory and registers: 8 numbers of A and 8 of B are read, and 8 x 8 = 64 multiply-adds made of them.
//
//               128 columns: a block's tile                     one thread's part of it (x)
//             +--------------------------------+              columns  tx, tx + 16, tx + 32, ... tx + 112
//             |                                |              rows     ty, ty + 16, ... ty + 112
//         128 |    16 x 16 threads,            |
//        rows |    each with 8 x 8 elements    |                 +----------+----------+--
//             |                                |              ty |x         |x         |        16 x 16 threads side
//             +--------------------------------+                 |          |          |        by side, repeated
//               ^ A: 128 x 8    B: 8 x 128 a step of k           +----------+----------+--      8 times each way
//                                                                |x         |x         |
//
//          The thread's rows and columns are 16 apart, not 8 next to each other: the 16 lanes that read B's row then
//          read 16 consecutive numbers (16 banks of shared memory, no two lanes in one), and they write 16
//          consecutive numbers of C.
//
//          In shared memory both tiles lie with k outermost, [k][row or column], so that one step of k reads along a
//          row. Each row is 4 numbers longer than the tile. Where the operand's neighbours run along k, a warp fetches
//          8 values of k of 4 neighbours; a row of 132 numbers begins 4 banks after the one before it, and the 8 times
//          4 numbers fall into 32 different banks.
//
// Roofline, M = N = K = 4096, float32: a tile of 128 x 128 makes 32 operations of each byte fetched, 4.3 GB in all.
//          Shared memory: 16 numbers for 64 multiply-adds, 2 operations a byte, 8 times as many as in 03.
// Limit:   the instructions. 16 loads of 4 bytes for 64 multiply-adds: every fifth instruction is a load, and the
//          loads keep shared memory busy all the time. And nothing overlaps: while a tile is fetched, nobody computes.
//
// compile with: -DTRANSPOSE_A=1 -DTRANSPOSE_B=1
#include "common.cuh"
#include "matmul/pieces.cuh"

constexpr int BM = 128, BN = 128, BK = 8;    // a block's tile, and the step along k
constexpr int SIDE = 16;                     // the block is SIDE x SIDE threads
constexpr int THREADS = SIDE * SIDE;
constexpr int TM = BM / SIDE, TN = BN / SIDE;  // a thread's tile
constexpr int PADDING = 4;

extern "C" __global__ void __launch_bounds__(THREADS) matmul(
    const float* __restrict__ a, const float* __restrict__ b, const float* __restrict__ bias, float* __restrict__ c,
    int M, int N, int K, int lda, int ldb, int ldc, long long batch_a, long long batch_b, long long batch_c) {
    __shared__ float a_tile[BK][BM + PADDING];
    __shared__ float b_tile[BK][BN + PADDING];
    const Tile tile = tile_of_block<BM, BN>(M, N);
    a += tile.batch * batch_a;
    b += tile.batch * batch_b;
    c += tile.batch * batch_c;
    const int thread = threadIdx.x, tx = thread % SIDE, ty = thread / SIDE;

    float sums[TM][TN] = {};
    for (int k0 = 0; k0 < K; k0 += BK) {
        // Neighbouring threads fetch along the axis in which the operand's neighbours stand side by side.
        for (int e = thread; e < BM * BK; e += THREADS) {
            const int i = TRANSPOSE_A ? e % BM : e / BK, k = TRANSPOSE_A ? e / BM : e % BK;
            a_tile[k][i] = a_or_zero(a, tile.row + i, k0 + k, M, K, lda);
        }
        for (int e = thread; e < BN * BK; e += THREADS) {
            const int j = TRANSPOSE_B ? e / BK : e % BN, k = TRANSPOSE_B ? e % BK : e / BN;
            b_tile[k][j] = b_or_zero(b, k0 + k, tile.column + j, K, N, ldb);
        }
        __syncthreads();
#pragma unroll
        for (int k = 0; k < BK; ++k) {
            // Arrays whose every index is known when the loops are unrolled live in registers.
            float a_column[TM], b_row[TN];
#pragma unroll
            for (int r = 0; r < TM; ++r) a_column[r] = a_tile[k][ty + r * SIDE];
#pragma unroll
            for (int s = 0; s < TN; ++s) b_row[s] = b_tile[k][tx + s * SIDE];
#pragma unroll
            for (int r = 0; r < TM; ++r)
#pragma unroll
                for (int s = 0; s < TN; ++s) sums[r][s] += a_column[r] * b_row[s];
        }
        __syncthreads();
    }

#pragma unroll
    for (int r = 0; r < TM; ++r)
#pragma unroll
        for (int s = 0; s < TN; ++s) {
            const int i = tile.row + ty + r * SIDE, j = tile.column + tx + s * SIDE;
            if (i < M && j < N) c[(long long)i * ldc + j] = finish(sums[r][s], bias_of(bias, j));
        }
}
