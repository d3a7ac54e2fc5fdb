// Matmul 05: 16-byte loads, warp tiles, and the next tile on its way while this one is computed.
//
// Adds three things that belong together:
//   * 16 bytes an instruction. Global and shared memory are read as float4: a quarter of the load instructions of 04.
//     A thread's 8 x 8 elements are therefore four 4 x 4 pieces of neighbours. Where an operand ends, or does not
//     stand on 16-byte boundaries, the same piece is read number by number.
//   * A level of tiling for the warp. Its 32 threads take a 64 x 32 tile that is as square as it can be: together they
//     read 64 + 32 numbers a step of k; as one long row of threads they would read 8 + 256.
//   * Two tiles of each operand in shared memory (double buffer). The loads of the next step are begun before the
//     multiply-adds of this one and end up in registers, then in the other tile: memory and arithmetic overlap, and
//     one barrier a step is enough.
//
//        a block: 128 x 128, 8 warps            a warp: 64 x 32, 32 threads      a thread: 8 x 8 in four pieces
//        +------+------+------+------+          +----+----+----+----+            +----+          +----+
//        |  w0  |  w1  |  w2  |  w3  |          | t0 | t1 | t2 | t3 |          4 |    |          |    |
//        |      |      |      |      |  64      | t4 | t5 | .. |    |            +----+          +----+
//        +------+------+------+------+          | ..     ..     t31|               4   16 apart
//        |  w4  |  w5  |  w6  |  w7  |          +-------------------+            +----+          +----+
//        |      |      |      |      |          |the same once more,|     32     |    |          |    |
//        +------+------+------+------+          |32 rows below      |  below     +----+          +----+
//           32                                  +-------------------+
//
//        time -->   load k0 | load k1          | load k2          |
//                           | compute k0       | compute k1       | ...        one barrier at each |
//
// Roofline, M = N = K = 4096, float32: 32 operations a byte fetched as in 04 (4.3 GB), which at 67 TFLOP/s asks for
//          2.1 TB/s, the most of it answered by the L2 cache: blocks that run together share stripes of A and B (see
//          GROUP in pieces.cuh). Shared memory: 4 loads of 16 bytes for 64 multiply-adds.
// Limit:   the multiply-add units themselves: about four of five instructions of a step are multiply-adds (128 of 143
//          in the innermost loop as compiled for sm_90a). What is left to gain is the fifth. The way on is another kind
//          of unit: tensor cores.
//
// compile with: -DTRANSPOSE_A=1
// compile with: -DTRANSPOSE_B=1
// compile with: -DGELU=1
// compile with: -DGELU=2
#include "common.cuh"
#include "matmul/pieces.cuh"

constexpr int BM = 128, BN = 128, BK = 8;      // a block's tile, and the step along k
constexpr int WM = 64, WN = 32;                // a warp's tile
constexpr int WARPS_ACROSS = BN / WN;
constexpr int THREADS = (BM / WM) * WARPS_ACROSS * WARP_SIZE;
constexpr int LANES_DOWN = 8, LANES_ACROSS = 4;  // the lanes of a warp as a grid
constexpr int TM = WM / LANES_DOWN, TN = WN / LANES_ACROSS;  // a thread's tile
constexpr int PADDING = 4;                     // as in 04, and it keeps the rows on 16-byte boundaries
static_assert(TM == 8 && TN == 8, "a thread's tile is two pieces of 4 each way");
static_assert(BM * BK == 4 * THREADS && BN * BK == 4 * THREADS, "each thread fetches one float4 of A and one of B");

// Four neighbours from `from`, of which `count` exist; the others are 0.
__device__ __forceinline__ float4 load4(const float* from, int count, bool aligned) {
    if (aligned && count >= 4) return *reinterpret_cast<const float4*>(from);
    return make_float4(count > 0 ? from[0] : 0.0f, count > 1 ? from[1] : 0.0f, count > 2 ? from[2] : 0.0f,
                       count > 3 ? from[3] : 0.0f);
}

// A tile of 128 x BK of one operand on its way to shared memory, where it lies as [k][row]. "Row" is the axis of the
// operand that is not k: a row of op(A), a column of op(B). So this serves both, and both ways of storing them.
// It steps a pointer and counts down what is left: recomputing row * ld + k each time costs registers, and there are
// none to spare (64 sums, 16 operands, 8 numbers on their way, and 128 in all if two blocks are to share the chip).
template <bool K_CONTIGUOUS> struct Fetch {
    const float* next;  // where this thread's float4 of the next tile begins
    int ld, rows_left, k_left;  // how many rows and values of k there are from there on; none in a row outside
    bool aligned;
    float4 held;

    static __device__ __forceinline__ int row_in_tile() {
        return K_CONTIGUOUS ? threadIdx.x / (BK / 4) : threadIdx.x % (BM / 4) * 4;
    }
    static __device__ __forceinline__ int k_in_tile() {
        return K_CONTIGUOUS ? threadIdx.x % (BK / 4) * 4 : threadIdx.x / (BM / 4);
    }

    __device__ __forceinline__ Fetch(const float* matrix, int ld, int first_row, int rows, int K) : ld(ld) {
        const int row = first_row + row_in_tile(), k = k_in_tile();
        next = matrix + (K_CONTIGUOUS ? (long long)row * ld + k : (long long)k * ld + row);
        rows_left = rows - row;
        k_left = rows_left > 0 ? K - k : 0;
        aligned = reinterpret_cast<size_t>(matrix) % 16 == 0 && ld % 4 == 0;
    }

    // Begins the load of the next tile. Nothing waits for `held` before `put` reads it.
    __device__ __forceinline__ void begin() {
        held = load4(next, K_CONTIGUOUS ? k_left : k_left > 0 ? rows_left : 0, aligned);
        next += K_CONTIGUOUS ? BK : (long long)BK * ld;
        k_left -= BK;
    }

    __device__ __forceinline__ void put(float (&tile)[BK][BM + PADDING]) const {
        const int row = row_in_tile(), k = k_in_tile();
        if (K_CONTIGUOUS) {  // four values of k: the store transposes
            tile[k + 0][row] = held.x;
            tile[k + 1][row] = held.y;
            tile[k + 2][row] = held.z;
            tile[k + 3][row] = held.w;
        } else {
            *reinterpret_cast<float4*>(&tile[k][row]) = held;
        }
    }
};

// Two float4 of a row of a tile, `apart` numbers apart.
__device__ __forceinline__ void read8(float (&to)[8], const float* row, int apart) {
    const float4 low = *reinterpret_cast<const float4*>(row), high = *reinterpret_cast<const float4*>(row + apart);
    to[0] = low.x, to[1] = low.y, to[2] = low.z, to[3] = low.w;
    to[4] = high.x, to[5] = high.y, to[6] = high.z, to[7] = high.w;
}

extern "C" __global__ void __launch_bounds__(THREADS, 2) matmul(
    const float* __restrict__ a, const float* __restrict__ b, const float* __restrict__ bias, float* __restrict__ c,
    int M, int N, int K, int lda, int ldb, int ldc, long long batch_a, long long batch_b, long long batch_c) {
    __shared__ __align__(16) float a_tiles[2][BK][BM + PADDING];
    __shared__ __align__(16) float b_tiles[2][BK][BN + PADDING];
    const Tile tile = tile_of_block<BM, BN, 8>(M, N);
    c += tile.batch * batch_c;

    const int warp = threadIdx.x / WARP_SIZE, lane = threadIdx.x % WARP_SIZE;
    const int row = warp / WARPS_ACROSS * WM + lane / LANES_ACROSS * 4;  // of this thread's first piece, in the tile
    const int column = warp % WARPS_ACROSS * WN + lane % LANES_ACROSS * 4;

    Fetch<!TRANSPOSE_A> fetch_a(a + tile.batch * batch_a, lda, tile.row, M, K);
    Fetch<TRANSPOSE_B> fetch_b(b + tile.batch * batch_b, ldb, tile.column, N, K);
    fetch_a.begin();
    fetch_b.begin();
    fetch_a.put(a_tiles[0]);
    fetch_b.put(b_tiles[0]);
    __syncthreads();

    float sums[TM][TN] = {};
    const int steps = ceil_div(K, BK);
    for (int step = 0; step < steps; ++step) {
        const int now = step % 2;
        const bool more = step + 1 < steps;
        if (more) fetch_a.begin(), fetch_b.begin();
        // Unrolled whole, the reads of later k move up to the front, and more registers are needed than there are.
#pragma unroll 2
        for (int k = 0; k < BK; ++k) {
            float a_column[TM], b_row[TN];
            read8(a_column, &a_tiles[now][k][row], WM / 2);
            read8(b_row, &b_tiles[now][k][column], WN / 2);
#pragma unroll
            for (int r = 0; r < TM; ++r)
#pragma unroll
                for (int s = 0; s < TN; ++s) sums[r][s] += a_column[r] * b_row[s];
        }
        // The other tiles were read in the step before, and the barrier at its end is behind every thread.
        if (more) fetch_a.put(a_tiles[1 - now]), fetch_b.put(b_tiles[1 - now]);
        __syncthreads();
    }

    const bool aligned = reinterpret_cast<size_t>(c) % 16 == 0 && ldc % 4 == 0;
#pragma unroll
    for (int r = 0; r < TM; ++r) {
        const int i = tile.row + row + r / 4 * (WM / 2) + r % 4;
        if (i >= M) continue;
#pragma unroll
        for (int half_tile = 0; half_tile < 2; ++half_tile) {
            const int j = tile.column + column + half_tile * (WN / 2);
            float four[4];
#pragma unroll
            for (int s = 0; s < 4; ++s)
                four[s] = j + s < N ? finish(sums[r][half_tile * 4 + s], bias_of(bias, j + s)) : 0.0f;
            float* to = c + (long long)i * ldc + j;
            if (aligned && j + 4 <= N) {
                *reinterpret_cast<float4*>(to) = make_float4(four[0], four[1], four[2], four[3]);
            } else {
#pragma unroll
                for (int s = 0; s < 4; ++s)
                    if (j + s < N) to[s] = four[s];
            }
        }
    }
}
