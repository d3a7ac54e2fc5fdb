// Matmul 03: a block fetches a tile once and all its threads use it.
//
// Adds:    shared memory. The block walks along k in steps of 32. For each step it copies 32 x 32 numbers of A and
//          of B into shared memory, one of each per thread, and every number is then used 32 times from there.
//
//                         k0  k0+32
//                      +---+---+---+                +-------+
//                      |   |   |   |             k0 |  B's  |
//                      +---+---+---+           +32  | tile  |
//            32 rows   |   |A's|   |                +-------+
//                      +---+---+---+                |       |
//                              ---> the step moves  +-------+
//                                                       |  v the step moves
//          fetch both tiles | barrier | 32 multiply-adds per thread | barrier | fetch the next ...
//
//          The first barrier: nobody reads a number before it is there. The second: nobody overwrites a number that
//          another thread still needs. Leave out either and some orders of threads go wrong.
//
//          The rows of a tile are 33 numbers long, not 32. A transposed operand is fetched down its columns (that is
//          where its neighbours in memory are), so the 32 lanes of a warp write one column of the tile; with 32
//          numbers a row they would all meet in one of the 32 banks of shared memory and wait for one another.
//
// Roofline, M = N = K = 4096, float32: a tile of 32 x 32 fetches 2 x 32 x K numbers, so 8 operations for each byte
//          fetched: 17 GB in all instead of 550. Of shared memory each multiply-add asks 8 bytes.
// Limit:   shared memory. Each clock brings 128 bytes of it, 32 numbers, to arithmetic units that would take 256: one
//          multiply-add needs two loads, of A(i, k) (the same for a whole warp) and of B(k, j).
//
// compile with: -DTRANSPOSE_A=1 -DTRANSPOSE_B=1
#include "common.cuh"
#include "matmul/pieces.cuh"

constexpr int TILE = 32;

extern "C" __global__ void __launch_bounds__(1024) matmul(
    const float* __restrict__ a, const float* __restrict__ b, const float* __restrict__ bias, float* __restrict__ c,
    int M, int N, int K, int lda, int ldb, int ldc, long long batch_a, long long batch_b, long long batch_c) {
    __shared__ float a_tile[TILE][TILE + 1];
    __shared__ float b_tile[TILE][TILE + 1];
    const Tile tile = tile_of_block<TILE, TILE>(M, N);
    a += tile.batch * batch_a;
    b += tile.batch * batch_b;
    c += tile.batch * batch_c;
    const int x = threadIdx.x, y = threadIdx.y;

    float sum = 0.0f;
    for (int k0 = 0; k0 < K; k0 += TILE) {
        // x runs along the axis in which the operand's neighbours stand side by side.
        if (TRANSPOSE_A)
            a_tile[x][y] = a_or_zero(a, tile.row + x, k0 + y, M, K, lda);
        else
            a_tile[y][x] = a_or_zero(a, tile.row + y, k0 + x, M, K, lda);
        if (TRANSPOSE_B)
            b_tile[x][y] = b_or_zero(b, k0 + x, tile.column + y, K, N, ldb);
        else
            b_tile[y][x] = b_or_zero(b, k0 + y, tile.column + x, K, N, ldb);
        __syncthreads();
        for (int k = 0; k < TILE; ++k) sum += a_tile[y][k] * b_tile[k][x];
        __syncthreads();
    }

    // Only now: a thread outside of C must not leave before the barriers, which wait for every thread.
    const int i = tile.row + y, j = tile.column + x;
    if (i < M && j < N) c[(long long)i * ldc + j] = finish(sum, bias_of(bias, j));
}
