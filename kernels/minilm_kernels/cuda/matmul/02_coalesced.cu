// Matmul 02: neighbouring threads read neighbouring addresses.
//
// Adds:    x and y of a thread change places, nothing else: a warp is now 32 columns of one row of C.
//
//             at one k, the lanes of a warp read         and the hardware moves
//               of A   A(i, k), all the same address       1 sector of 32 bytes, handed to every lane
//               of B   B(k, j) ... B(k, j + 31)            4 sectors next to each other, every byte of them used
//             at the end they write
//               of C   C(i, j) ... C(i, j + 31)            4 sectors
//
//          01 moved 33 sectors for each step of k, this rung 5. Memory serves sectors, not numbers: the loads of a
//          warp that fall into one sector are one request ("coalesced").
//
// Roofline, M = N = K = 4096, float32: still 8 bytes asked for per multiply-add, 0.25 operations a byte. Of them come
//          from beyond the L1 cache those that its 32 x 32 outputs do not share: a tile reads 2 x 32 x K numbers for
//          32 x 32 x K multiply-adds, 8 operations a byte at best, if the cache keeps a row of A and B long enough.
// Limit:   a load instruction for every operand: two loads to one multiply-add, and the load units do a quarter of
//          what the arithmetic units do.
//
// With TRANSPOSE_A or TRANSPOSE_B the operand lies the other way round, and the loads of B are scattered again as A's
// were in rung 01. From rung 03 on the way over shared memory makes both orders equally good.
//
// compile with: -DTRANSPOSE_A=1 -DTRANSPOSE_B=1 -DGELU=2
#include "common.cuh"
#include "matmul/pieces.cuh"

extern "C" __global__ void __launch_bounds__(1024) matmul(
    const float* __restrict__ a, const float* __restrict__ b, const float* __restrict__ bias, float* __restrict__ c,
    int M, int N, int K, int lda, int ldb, int ldc, long long batch_a, long long batch_b, long long batch_c) {
    const Tile tile = tile_of_block<32, 32>(M, N);
    a += tile.batch * batch_a;
    b += tile.batch * batch_b;
    c += tile.batch * batch_c;

    const int i = tile.row + threadIdx.y;
    const int j = tile.column + threadIdx.x;
    if (i >= M || j >= N) return;

    float sum = 0.0f;
    for (int k = 0; k < K; ++k) sum += a[index_a(i, k, lda)] * b[index_b(k, j, ldb)];
    c[(long long)i * ldc + j] = finish(sum, bias_of(bias, j));
}
