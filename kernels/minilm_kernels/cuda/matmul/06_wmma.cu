// Matmul 06: tensor cores, by CUDA's own interface to them (wmma). 16-bit operands, sums in float.
//
// Adds:    another kind of arithmetic unit. A tensor core multiplies small matrices in one instruction of the whole
//          warp: here 16 x 16 by 16 x 16, 4,096 multiply-adds, where 32 threads of rung 05 did 32. The matrices are
//          "fragments" spread over the registers of the 32 lanes; which lane holds what is wmma's secret, so all that
//          one can do with them is load, multiply, store.
//
//             a block: 128 x 128, 8 warps          a warp: 64 x 32 = 4 x 2 fragments of 16 x 16
//             +------+------+------+------+                        b0   b1
//             |  w0  |  w1  |  w2  |  w3  |                      +----+----+
//             |      |      |      |      |                  a0  | c  | c  |      for each 16 of k:
//             +------+------+------+------+                  a1  | c  | c  |      load 4 + 2 fragments,
//             |  w4  |  w5  |  w6  |  w7  |                  a2  | c  | c  |      8 products
//             |      |      |      |      |                  a3  | c  | c  |
//             +------+------+------+------+                      +----+----+
//
//          The tiles in shared memory lie as the operands are stored; a fragment is told whether to read its matrix
//          by rows or by columns, so a transposed operand costs nothing here. Each row is 8 elements (16 bytes) longer
//          than the tile: 8 rows at one column then begin in 8 different groups of 4 banks.
//
// Roofline, M = N = K = 4096, 16-bit: 137 GFLOP; each matrix once, 101 MB: 1,365 operations a byte, and the 990 TFLOP/s
//          of a Hopper GPU's tensor cores need 206. A tile of 128 x 128 makes 64 operations of each byte fetched:
//          990 TFLOP/s would ask the L2 cache for 15 TB/s, which is more than it has.
// Limit:   the waiting. Global -> registers -> shared -> barrier -> compute -> barrier: while one part works the
//          others rest, and the tensor cores are so fast that they rest most of all.
//
// compile with: -DTRANSPOSE_A=1 -DTRANSPOSE_B=1
#ifndef ELEMENT
#define ELEMENT half
#endif
#include "common.cuh"
#include "matmul/pieces.cuh"
#include "wmma.cuh"

namespace wmma = nvcuda::wmma;

constexpr int BM = 128, BN = 128, BK = 32;  // a block's tile, and the step along k
constexpr int WM = 64, WN = 32;             // a warp's tile
constexpr int F = 16;                       // a fragment's sides
constexpr int WARPS_ACROSS = BN / WN;
constexpr int WARPS = (BM / WM) * WARPS_ACROSS;
constexpr int THREADS = WARPS * WARP_SIZE;
constexpr int PIECE = 8;                    // elements in 16 bytes
constexpr int PADDING = 8;

// Rows and columns of the tiles as they are stored.
constexpr int A_ROWS = TRANSPOSE_A ? BK : BM, A_COLUMNS = TRANSPOSE_A ? BM : BK;
constexpr int B_ROWS = TRANSPOSE_B ? BN : BK, B_COLUMNS = TRANSPOSE_B ? BK : BN;
template <bool TRANSPOSED> struct LayoutOf { using type = wmma::row_major; };
template <> struct LayoutOf<true> { using type = wmma::col_major; };

// Copies the ROWS x COLUMNS part that begins at (row, column) of a rows x columns matrix, with zeros outside of it.
template <int ROWS, int COLUMNS>
__device__ __forceinline__ void fetch(Element (&tile)[ROWS][COLUMNS + PADDING], const Element* matrix, int ld, int row,
                                      int column, int rows, int columns) {
    const bool aligned = reinterpret_cast<size_t>(matrix) % 16 == 0 && ld % PIECE == 0;
#pragma unroll
    for (int piece = threadIdx.x; piece < ROWS * COLUMNS / PIECE; piece += THREADS) {
        const int r = piece / (COLUMNS / PIECE), c = piece % (COLUMNS / PIECE) * PIECE;
        const int left = row + r < rows ? columns - column - c : 0;
        const Element* from = matrix + (long long)(row + r) * ld + column + c;
        if (aligned && left >= PIECE) {
            *reinterpret_cast<uint4*>(&tile[r][c]) = *reinterpret_cast<const uint4*>(from);
        } else {
#pragma unroll
            for (int e = 0; e < PIECE; ++e) tile[r][c + e] = e < left ? from[e] : Element(0.0f);
        }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) matmul(
    const Element* __restrict__ a, const Element* __restrict__ b, const Element* __restrict__ bias,
    Element* __restrict__ c, int M, int N, int K, int lda, int ldb, int ldc, long long batch_a, long long batch_b,
    long long batch_c) {
    __shared__ __align__(32) Element a_tile[A_ROWS][A_COLUMNS + PADDING];
    __shared__ __align__(32) Element b_tile[B_ROWS][B_COLUMNS + PADDING];
    __shared__ __align__(32) float c_tile[WARPS][F][F];
    const Tile tile = tile_of_block<BM, BN, 8>(M, N);
    a += tile.batch * batch_a;
    b += tile.batch * batch_b;
    c += tile.batch * batch_c;
    const int warp = threadIdx.x / WARP_SIZE, lane = threadIdx.x % WARP_SIZE;
    const int row = warp / WARPS_ACROSS * WM, column = warp % WARPS_ACROSS * WN;  // of the warp's tile, in the block's

    wmma::fragment<wmma::accumulator, F, F, F, float> sums[WM / F][WN / F];
#pragma unroll
    for (int r = 0; r < WM / F; ++r)
#pragma unroll
        for (int s = 0; s < WN / F; ++s) wmma::fill_fragment(sums[r][s], 0.0f);

    for (int k0 = 0; k0 < K; k0 += BK) {
        if (TRANSPOSE_A) fetch<A_ROWS, A_COLUMNS>(a_tile, a, lda, k0, tile.row, K, M);
        else             fetch<A_ROWS, A_COLUMNS>(a_tile, a, lda, tile.row, k0, M, K);
        if (TRANSPOSE_B) fetch<B_ROWS, B_COLUMNS>(b_tile, b, ldb, tile.column, k0, N, K);
        else             fetch<B_ROWS, B_COLUMNS>(b_tile, b, ldb, k0, tile.column, K, N);
        __syncthreads();
#pragma unroll
        for (int k = 0; k < BK; k += F) {
            wmma::fragment<wmma::matrix_a, F, F, F, Element, LayoutOf<TRANSPOSE_A>::type> a_part[WM / F];
            wmma::fragment<wmma::matrix_b, F, F, F, Element, LayoutOf<TRANSPOSE_B>::type> b_part[WN / F];
#pragma unroll
            for (int r = 0; r < WM / F; ++r)
                wmma::load_matrix_sync(a_part[r], TRANSPOSE_A ? &a_tile[k][row + r * F] : &a_tile[row + r * F][k],
                                       A_COLUMNS + PADDING);
#pragma unroll
            for (int s = 0; s < WN / F; ++s)
                wmma::load_matrix_sync(b_part[s], TRANSPOSE_B ? &b_tile[column + s * F][k] : &b_tile[k][column + s * F],
                                       B_COLUMNS + PADDING);
#pragma unroll
            for (int r = 0; r < WM / F; ++r)
#pragma unroll
                for (int s = 0; s < WN / F; ++s) wmma::mma_sync(sums[r][s], a_part[r], b_part[s], sums[r][s]);
        }
        __syncthreads();
    }

    // Which lane holds which sum is not known, so a fragment goes through shared memory to get its bias and its edge.
#pragma unroll
    for (int r = 0; r < WM / F; ++r)
#pragma unroll
        for (int s = 0; s < WN / F; ++s) {
            wmma::store_matrix_sync(&c_tile[warp][0][0], sums[r][s], F, wmma::mem_row_major);
            __syncwarp();
#pragma unroll
            for (int e = lane; e < F * F; e += WARP_SIZE) {
                const int i = tile.row + row + r * F + e / F, j = tile.column + column + s * F + e % F;
                if (i < M && j < N)
                    c[(long long)i * ldc + j] = narrow<Element>(finish(c_tile[warp][e / F][e % F], bias_of(bias, j)));
            }
            __syncwarp();
        }
}
