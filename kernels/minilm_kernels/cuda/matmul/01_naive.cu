// Matmul 01: one thread for each element of C, and the threads in an unlucky order.
//
// Adds:    nothing yet. This is the sum over k as it stands in the book, made correct for every size.
//
//               k                    N
//           +-------+            +---+---+        A block has 32 x 32 threads and computes a 32 x 32 tile of C.
//           |       |          k |   | j |        Thread (x, y) computes C(i, j) with
//         M +-------+            |   | | |            i = first row of the tile    + x
//           | i --> |   times    +---+-v-+            j = first column of the tile + y
//           +-------+                             A warp is the 32 threads with the same y: 32 rows, one column.
//
//           the lanes of a warp, and what they read of A at one k:
//             lane 0   A(i,      k)  \
//             lane 1   A(i + 1,  k)   |  each lda elements after the one before:
//             ...                     |  32 sectors of 32 bytes are moved, and 4 bytes of each are used
//             lane 31  A(i + 31, k)  /
//
// Roofline, M = N = K = 4096, float32: 2 MNK = 137 GFLOP. Each matrix moved once: 3 x 64 MiB = 201 MB, 683 operations
//          a byte; a GPU with 67 TFLOP/s and 4.8 TB/s needs 14 to be limited by arithmetic, so a product of this size
//          should be. But here each multiply-add asks for 8 bytes: 0.25 operations a byte asked for, 550 GB in all.
// Limit:   the load units and caches, and they are used badly: 33 sectors for each pair of loads of a warp.
//
// compile with: -DTRANSPOSE_A=1 -DTRANSPOSE_B=1 -DGELU=1
#include "common.cuh"
#include "matmul/pieces.cuh"

extern "C" __global__ void __launch_bounds__(1024) matmul(
    const float* __restrict__ a, const float* __restrict__ b, const float* __restrict__ bias, float* __restrict__ c,
    int M, int N, int K, int lda, int ldb, int ldc, long long batch_a, long long batch_b, long long batch_c) {
    const Tile tile = tile_of_block<32, 32>(M, N);
    a += tile.batch * batch_a;
    b += tile.batch * batch_b;
    c += tile.batch * batch_c;

    const int i = tile.row + threadIdx.x;  // the unlucky choice: the next rung turns x and y around
    const int j = tile.column + threadIdx.y;
    if (i >= M || j >= N) return;

    float sum = 0.0f;
    for (int k = 0; k < K; ++k) sum += a[index_a(i, k, lda)] * b[index_b(k, j, ldb)];
    c[(long long)i * ldc + j] = finish(sum, bias_of(bias, j));
}
