// Matmul 08: Hopper. One warpgroup copies, two multiply, and nobody computes an address.
// minimum architecture: sm_90a
//
// Adds four things that the chip was built around (hopper.cuh tells how each works):
//   * wgmma: 128 threads multiply 64 x 16 by 16 x 256 in one instruction, and both operands come straight from shared
//     memory. No ldmatrix, no fragments of operands in registers: those hold sums alone.
//   * TMA: one thread asks for a whole tile, and a unit of its own fetches it, swizzled, with zeros at the edges. The
//     index arithmetic of rung 07's copies, done by 256 threads at every step, is gone.
//   * Warps with different work. A warpgroup that only asks for tiles, as long as there is a free stage for one; two
//     that multiply, as long as there is a full one. Each pair meets at barriers of its own, two for a stage; no
//     barrier ever stops the whole block. The copying warps give their registers to the others.
//   * A block stays: as many blocks as multiprocessors, each takes tile after tile. While the consumers of one tile
//     write their sums, the producer has filled the stages for the next.
//
//        producer      copy k0 | copy k1 | copy k2 | copy k3 | wait: empty 0 | copy k4 | ...
//                         | full 0  | full 1                       ^
//        consumer 0       +-> k0 ---+-> k1 -----> k2 -----> k3     |        rows 0 ..  63 of the tile
//        consumer 1       +-> k0 ---+-> k1 -----> k2 -----> k3     |        rows 64 .. 127
//                                |  both are done with k0: empty 0 +
//
//        a tile of C: 128 x 256             a stage: A 128 x 64 and B 256 x 64, 48 KB; four of them
//        +--------------------------+
//        |       consumer 0         | 64    a consumer's sums: 64 x 256 floats, 128 registers of each thread
//        +--------------------------+
//        |       consumer 1         | 64
//        +--------------------------+
//
// Both ways of storing an operand work: TMA brings lines of 64 elements along the axis in which it is contiguous, and
// wgmma is told which axis that is.
//
// The signature has three more parameters than the other rungs': how many matrices the batch has (the blocks have to
// know when they are done), and the maps through which TMA sees A and B; a and b themselves are not read. TMA wants
// rows that begin at multiples of 16 bytes; the binding sees to it.
//
// Roofline, M = N = K = 8192, 16-bit: 1.1 TFLOP; 85 operations for each byte fetched, as in 07: 800 TFLOP/s ask the
//          L2 cache for 9.4 TB/s. Shared memory: a product of 64 x 256 x 16 reads 10 KB for 262,144 multiply-adds.
// Limit:   the L2 cache, and that nothing is multiplied while C is written: both consumers write at the same time. The
//          next steps would be clusters (blocks that share one copy of B) and a tile of its own for each consumer.
//
// compile with: -DTRANSPOSE_A=1
// compile with: -DTRANSPOSE_B=1 -DELEMENT=bfloat16 -DGELU=1
// compile with: -DTILE_N=128
#ifndef ELEMENT
#define ELEMENT half
#endif
#ifndef TILE_N
#define TILE_N 256
#endif
#ifndef STAGES
#define STAGES 4
#endif
#include "common.cuh"
#include "matmul/pieces.cuh"
#include "hopper.cuh"

constexpr int BM = 128, BN = TILE_N, BK = 64;  // a tile of C, and the step along k: 128 bytes
constexpr int WM = 64, MMA_K = 16;             // a consumer's rows; one product's step along k
constexpr int WARPGROUP = 128;
constexpr int CONSUMERS = BM / WM;
constexpr int THREADS = (1 + CONSUMERS) * WARPGROUP;
constexpr int LINE = 128;                      // bytes: 64 elements
constexpr int A_BYTES = BM * LINE, STAGE_BYTES = (BM + BN) * LINE;
static_assert(sizeof(Element) == 2, "16-bit types");

// A tile of ROWS x BK of one operand; as in 07, a "row" is a row of op(A) or a column of op(B).
//   k contiguous:    ROWS lines along k, one box
//   row contiguous:  ROWS / 64 boxes one after another, each of BK lines of 64 rows
template <bool K_CONTIGUOUS, int ROWS> struct Operand {
    static constexpr int BOX_BYTES = BK * LINE;  // of 64 rows x BK, in either case

    static __device__ __forceinline__ void fetch(unsigned char* tile, const TensorMap* map, Barrier* full, int row,
                                                 int k, int matrix) {
        if (K_CONTIGUOUS) {
            tma_load(tile, map, full, k, row, matrix);
        } else {
#pragma unroll
            for (int r = 0; r < ROWS; r += 64) tma_load(tile + r / 64 * BOX_BYTES, map, full, row + r, k, matrix);
        }
    }

    // What wgmma is told of the part that begins at a row (a multiple of 64) and at k.
    static __device__ __forceinline__ unsigned long long part(const unsigned char* tile, int row, int k) {
        tile += row / 64 * BOX_BYTES;
        return K_CONTIGUOUS ? wgmma_operand(tile + k * int(sizeof(Element)))
                            : wgmma_operand_mn(tile + k * LINE, BOX_BYTES);
    }
};
using OperandA = Operand<!TRANSPOSE_A, BM>;
using OperandB = Operand<TRANSPOSE_B, BN>;

// Which stage comes next, and how often the stages have been gone round: its parity is that of the barriers' phases.
struct Stage {
    int number = 0, round = 0;
    __device__ __forceinline__ void advance() {
        if (++number == STAGES) number = 0, ++round;
    }
};

extern "C" __global__ void __launch_bounds__(THREADS, 1) matmul(
    const Element* __restrict__ a, const Element* __restrict__ b, const Element* __restrict__ bias,
    Element* __restrict__ c, int M, int N, int K, int lda, int ldb, int ldc, long long batch_a, long long batch_b,
    long long batch_c, int matrices, const __grid_constant__ TensorMap a_map, const __grid_constant__ TensorMap b_map) {
    DYNAMIC_SHARED(unsigned char, memory);  // STAGES stages, then the barriers
    Barrier* full = reinterpret_cast<Barrier*>(memory + STAGES * STAGE_BYTES);
    Barrier* empty = full + STAGES;
    const int tiles = matrices * ceil_div(M, BM) * ceil_div(N, BN), steps = ceil_div(K, BK);

    if (threadIdx.x == 0) {
        for (int s = 0; s < STAGES; ++s) {
            barrier_init(full + s, 1);  // the producer, and the bytes it asked for
            barrier_init(empty + s, CONSUMERS * WARPGROUP / WARP_SIZE);  // every warp that multiplies
        }
        barrier_init_done();
    }
    __syncthreads();  // the only time that the whole block meets

    Stage stage;
    if (threadIdx.x < WARPGROUP) {
        give_registers<40>();
        if (threadIdx.x == 0) {
            tma_prefetch(&a_map);
            tma_prefetch(&b_map);
            for (int number = blockIdx.x; number < tiles; number += gridDim.x) {
                const Tile tile = tile_number<BM, BN, 8>(number, M, N);
                for (int step = 0; step < steps; ++step, stage.advance()) {
                    unsigned char* a_tile = memory + stage.number * STAGE_BYTES;
                    // In the first round nothing has to become empty: the parity is that of a phase before the first.
                    barrier_wait(empty + stage.number, (stage.round + 1) % 2);
                    barrier_expect(full + stage.number, STAGE_BYTES);
                    OperandA::fetch(a_tile, &a_map, full + stage.number, tile.row, step * BK, batch_a ? tile.batch : 0);
                    OperandB::fetch(a_tile + A_BYTES, &b_map, full + stage.number, tile.column, step * BK,
                                    batch_b ? tile.batch : 0);
                }
            }
        }
    } else {
        take_registers<232>();
        const int consumer = threadIdx.x / WARPGROUP - 1, warp = threadIdx.x / WARP_SIZE % 4;
        const int lane = threadIdx.x % WARP_SIZE;
        for (int number = blockIdx.x; number < tiles; number += gridDim.x) {
            const Tile tile = tile_number<BM, BN, 8>(number, M, N);
            float sums[BN / 2] = {};
            int before = 0;  // the stage of the step before
            for (int step = 0; step < steps; ++step, stage.advance()) {
                const unsigned char* a_tile = memory + stage.number * STAGE_BYTES;
                barrier_wait(full + stage.number, stage.round % 2);
                wgmma_fence();
#pragma unroll
                for (int k = 0; k < BK; k += MMA_K)
                    wgmma_m64k16<Element, BN, TRANSPOSE_A, !TRANSPOSE_B>(
                        sums, OperandA::part(a_tile, consumer * WM, k), OperandB::part(a_tile + A_BYTES, 0, k));
                wgmma_commit();
                // The products of this step go on; those of the step before are done, and its stage is free.
                wgmma_wait<1>();
                if (step > 0 && lane == 0) barrier_arrive(empty + before);
                before = stage.number;
            }
            wgmma_wait_all(sums);
            if (steps > 0 && lane == 0) barrier_arrive(empty + before);

            const int row = tile.row + consumer * WM + warp * 16;
            write_sums<BN>(sums, bias, c + tile.batch * batch_c, ldc, row, tile.column, M, N);
        }
    }
}
