// What the rungs of the matmul ladder share: which variant is compiled, where a block works, how C is written.
// Include after common.cuh.
//
// Every rung computes C = op(A) op(B) (+ bias), row-major, with the one signature
//
//   matmul(a, b, bias, c, M, N, K, lda, ldb, ldc, batch_a, batch_b, batch_c)
//
//   op(A)    M x K, stored so, or as K x M with TRANSPOSE_A; a row begins lda elements after the one before
//   op(B)    K x N, stored so, or as N x K with TRANSPOSE_B; a row begins ldb elements after the one before
//   bias     N elements, or null
//   C        M x N; a row begins ldc elements after the one before
//   batch_*  elements from one matrix of a batch to the next; 0 for an operand that all of them share
//
// The grid is one-dimensional: a block for each tile of C, tile after tile along a row, row of tiles after row of
// tiles, matrix after matrix. (The y and z of a grid end at 65,535, which a long batch would exceed.)
//
// Options, set by the binding as -DNAME=value; without them a file compiles with these defaults:
#ifndef TRANSPOSE_A
#define TRANSPOSE_A 0
#endif
#ifndef TRANSPOSE_B
#define TRANSPOSE_B 0
#endif
#ifndef ELEMENT  // type of a, b, bias and c. Sums are in float, whatever it is
#define ELEMENT float
#endif
#ifndef GELU  // after the bias: 0 nothing, 1 GELU, 2 GELU in GPT-2's tanh form
#define GELU 0
#endif
using Element = ELEMENT;

// Where op(A)(i, k) and op(B)(k, j) stand. 64 bits: a matrix may have more than 2^31 elements.
__device__ __forceinline__ long long index_a(int i, int k, int lda) {
    return TRANSPOSE_A ? (long long)k * lda + i : (long long)i * lda + k;
}
__device__ __forceinline__ long long index_b(int k, int j, int ldb) {
    return TRANSPOSE_B ? (long long)j * ldb + k : (long long)k * ldb + j;
}

// Outside of the matrix there are zeros: they add nothing to a sum, so no loop over k needs an end of its own.
__device__ __forceinline__ Element a_or_zero(const Element* a, int i, int k, int M, int K, int lda) {
    return i < M && k < K ? a[index_a(i, k, lda)] : Element(0.0f);
}
__device__ __forceinline__ Element b_or_zero(const Element* b, int k, int j, int K, int N, int ldb) {
    return k < K && j < N ? b[index_b(k, j, ldb)] : Element(0.0f);
}

// The tile of C that belongs to a number: its first row, its first column, its matrix.
struct Tile {
    int row, column, batch;
};

// GROUP rows of tiles are walked through together, column by column. Blocks that run at the same time then read
// GROUP stripes of A and a few of B over and over out of the L2 cache, instead of one stripe of A and all of B:
//
//     GROUP = 1    0  1  2  3         GROUP = 2    0  2  4  6
//                  4  5  6  7                      1  3  5  7
template <int ROWS, int COLUMNS, int GROUP = 1> __device__ __forceinline__ Tile tile_number(int number, int M, int N) {
    const int tiles_down = ceil_div(M, ROWS), tiles_across = ceil_div(N, COLUMNS);
    const int batch = number / (tiles_down * tiles_across), within = number % (tiles_down * tiles_across);
    const int group = within / (GROUP * tiles_across), rest = within % (GROUP * tiles_across);
    const int height = min(GROUP, tiles_down - group * GROUP);  // the last group may be lower
    return {(group * GROUP + rest % height) * ROWS, rest / height * COLUMNS, batch};
}
template <int ROWS, int COLUMNS, int GROUP = 1> __device__ __forceinline__ Tile tile_of_block(int M, int N) {
    return tile_number<ROWS, COLUMNS, GROUP>(int(blockIdx.x), M, N);
}

// What a finished sum becomes: the bias of its column is added, then GELU if the kernel was compiled with it. Here it
// costs nothing but a few operations; in a kernel of its own it would read and write all of C once more.
__device__ __forceinline__ float finish(float sum, float bias) {
    sum += bias;
    if (GELU == 1) sum = 0.5f * sum * (1.0f + erff(sum * 0.70710678f));
    if (GELU == 2) sum = 0.5f * sum * (1.0f + tanhf(0.79788456f * (sum + 0.044715f * sum * sum * sum)));
    return sum;
}
__device__ __forceinline__ float bias_of(const Element* bias, int column) { return bias ? widen(bias[column]) : 0.0f; }

// Writes 16 rows of C, from row i and column j on, out of the registers in which mma.sync and wgmma leave the sums of a
// warp: 8 columns after 8 columns, and of each, with g = lane / 4 and t = lane % 4,
//   sums[0], sums[1] = (g, 2t), (g, 2t + 1)     sums[2], sums[3] = (g + 8, 2t), (g + 8, 2t + 1)
struct __align__(2 * sizeof(Element)) Pair {
    Element first, second;
};
template <int COLUMNS>
__device__ __forceinline__ void write_sums(const float* sums, const Element* bias, Element* c, int ldc, int i, int j,
                                           int M, int N) {
    const int lane = threadIdx.x % WARP_SIZE;
    i += lane / 4;
    // Two neighbours are stored at once where all pairs stand at even places and none lies across the edge.
    const bool in_pairs = ldc % 2 == 0 && reinterpret_cast<size_t>(c) % sizeof(Pair) == 0 && j + COLUMNS <= N;
    j += lane % 4 * 2;
    Element* row[2] = {c + (long long)i * ldc + j, c + (long long)(i + 8) * ldc + j};
    if (in_pairs) {
#pragma unroll
        for (int s = 0; s < COLUMNS / 8; ++s) {
            const float bias0 = bias_of(bias, j + s * 8), bias1 = bias_of(bias, j + s * 8 + 1);
#pragma unroll
            for (int h = 0; h < 2; ++h)
                if (i + h * 8 < M)
                    *reinterpret_cast<Pair*>(row[h] + s * 8) = {
                        narrow<Element>(finish(sums[s * 4 + h * 2], bias0)),
                        narrow<Element>(finish(sums[s * 4 + h * 2 + 1], bias1))};
        }
    } else {
#pragma unroll
        for (int s = 0; s < COLUMNS / 8; ++s)
#pragma unroll
            for (int e = 0; e < 2; ++e) {
                if (j + s * 8 + e >= N) continue;
                const float bias_here = bias_of(bias, j + s * 8 + e);
#pragma unroll
                for (int h = 0; h < 2; ++h)
                    if (i + h * 8 < M)
                        row[h][s * 8 + e] = narrow<Element>(finish(sums[s * 4 + h * 2 + e], bias_here));
            }
    }
}
