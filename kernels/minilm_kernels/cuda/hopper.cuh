// What Hopper alone can do (sm_90a): barriers in shared memory, the tensor memory accelerator, products of a warpgroup.
// Include after common.cuh.
//
// Barriers (mbarrier). A barrier counts arrivals and bytes. A phase ends when both counts are reached, and the next
// begins; phases alternate between parity 0 and 1, the first has parity 0.
//
//   Barrier                              8 bytes of shared memory
//   barrier_init(b, arrivals)            by one thread; then barrier_init_done() by it and a __syncthreads()
//   barrier_arrive(b)                    one arrival; what this thread did before is done for those who wait
//   barrier_expect(b, bytes)             the same, and this phase ends only when so many bytes have been copied
//   barrier_wait(b, parity)              until the phase of that parity has ended. parity 1 of a new barrier has
//
// Tensor memory accelerator (TMA). One thread asks for a box of a matrix; a unit of its own computes the addresses,
// fills up with zeros what lies outside, and copies. The box arrives in shared memory in lines of 128 bytes, in which
// the chunk of 16 bytes c of line l stands at place c ^ (l % 8): the swizzle that rung 07 did by hand.
//
//   TensorMap                            a matrix (of a batch) and the box, made by the binding: Runtime.tensor_map.
//                                        Kernel parameter: const __grid_constant__ TensorMap
//   tma_store(map, from, x, y, z)        begins to copy a box the other way; what lies outside is left out. The threads
//                                        that wrote it call fence_async_proxy() first, then a barrier
//   tma_store_commit(), tma_store_wait<N>()     close a group; wait until `from` of all but N groups may be overwritten
//   tma_load(to, map, b, x, y, z)        begins to copy the box whose first element is column x of row y of matrix z;
//                                        `to` at a multiple of 1024 bytes; all bytes of the box count for barrier b
//
// Products of a warpgroup (wgmma): 4 warps, the first of them divisible by 4, multiply 64 rows by N columns.
//
//   wgmma_m64k16<T, N, TA, TB>(d, a, b)  d[N / 2] += A B^T over 16 of k; T half or bfloat16, N 64, 128 or 256. Both
//                                        operands are read from shared memory, while the warps go on
//   wgmma_m64k16_registers<T, N, TB>(d, a, b)   the same with A in registers: a[4] as mma_m16n8k16 takes it, of the rows
//                                        16w to 16w + 15
//   wgmma_operand(tile)                  A (64 x 16) or B (N x 16) whose lines of 128 bytes run along k (TA, TB false):
//                                        line l is row l. The next 16 of k begin 32 bytes on
//   wgmma_operand_mn(tile, block)        the same with lines along the rows (TA, TB true): line l is k = l, 64 rows
//                                        of it, the next 64 rows begin `block` bytes on. The next 16 of k: 2048 bytes on
//   wgmma_fence()                        before the first product that follows on other accesses to d
//   wgmma_commit()                       closes a group of products
//   wgmma_wait<N>()                      until at most the N latest groups are being computed. Only then may their
//                                        tiles be overwritten
//   wgmma_wait_all(d)                    until all are done, and d may be read
//   fence_async_proxy()                  what this thread wrote to shared memory can be seen by wgmma and by tma_store
//
//   d: in warp w of the four, with g = lane / 4 and t = lane % 4, for each 8 columns j
//      d[4j], d[4j + 1] = (16w + g, 8j + 2t), (.., 8j + 2t + 1)     d[4j + 2], d[4j + 3] = (16w + g + 8, ..)
//
// Some of a block's warps: named_barrier_sync(id, threads) is a barrier for so many threads, named_barrier_arrive(id,
// threads) counts there without waiting. id 1 to 15; 0 is __syncthreads.
//
// Registers: take_registers<N>() and give_registers<N>() by all warps of a warpgroup, N a multiple of 8.
//
// (PTX manual: "mbarrier", "cp.async.bulk.tensor", "Asynchronous warpgroup level matrix instructions".)
#include "tensor_cores.cuh"

struct __align__(8) Barrier {
    unsigned long long word;
};
struct __align__(64) TensorMap {
    unsigned char bytes[128];
};

// ------------------------------------------------------------------------------------------------------- barriers

__device__ __forceinline__ void barrier_init(Barrier* b, int arrivals CALLER) {
#ifdef MINILM_EMULATED
    b->word = 0;  // an ordinary write: others have to be kept away by a __syncthreads()
    emulator::barrier_init(b, arrivals, place);
#else
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" :: "r"(shared_address(b)), "r"(arrivals) : "memory");
#endif
}

// Makes the barriers known to the copying unit too, which does not see memory through the threads' eyes.
__device__ __forceinline__ void barrier_init_done() {
#ifndef MINILM_EMULATED
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

__device__ __forceinline__ void barrier_arrive(Barrier* b CALLER) {
#ifdef MINILM_EMULATED
    emulator::barrier_arrive(b, 0, place);
#else
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" :: "r"(shared_address(b)) : "memory");
#endif
}

__device__ __forceinline__ void barrier_expect(Barrier* b, int bytes CALLER) {
#ifdef MINILM_EMULATED
    emulator::barrier_arrive(b, bytes, place);
#else
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;"
                 :: "r"(shared_address(b)), "r"(bytes) : "memory");
#endif
}

__device__ __forceinline__ void barrier_wait(Barrier* b, int parity CALLER) {
#ifdef MINILM_EMULATED
    emulator::barrier_wait(b, parity, place);
#else
    // try_wait sleeps for a while by itself; the loop is for the rare case that it wakes up too early.
    asm volatile("{\n"
                 ".reg .pred done;\n"
                 "again:\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
                 "@!done bra again;\n"
                 "}" :: "r"(shared_address(b)), "r"(parity) : "memory");
#endif
}

__device__ __forceinline__ void named_barrier_sync(int id, int threads CALLER) {
#ifdef MINILM_EMULATED
    emulator::named_barrier(id, threads, true, place);
#else
    asm volatile("bar.sync %0, %1;" :: "r"(id), "r"(threads) : "memory");
#endif
}

__device__ __forceinline__ void named_barrier_arrive(int id, int threads CALLER) {
#ifdef MINILM_EMULATED
    emulator::named_barrier(id, threads, false, place);
#else
    asm volatile("bar.arrive %0, %1;" :: "r"(id), "r"(threads) : "memory");
#endif
}

// ----------------------------------------------------------------------------------------------------------- copies

__device__ __forceinline__ void tma_load(void* to, const TensorMap* map, Barrier* b, int x, int y, int z CALLER) {
#ifdef MINILM_EMULATED
    emulator::tma_load(to, map, b, x, y, z, place);
#else
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4, %5}], [%2];"
                 :: "r"(shared_address(to)), "l"(map), "r"(shared_address(b)), "r"(x), "r"(y), "r"(z) : "memory");
#endif
}

__device__ __forceinline__ void tma_store(const TensorMap* map, const void* from, int x, int y, int z CALLER) {
#ifdef MINILM_EMULATED
    emulator::tma_store(map, from, x, y, z, place);
#else
    asm volatile("cp.async.bulk.tensor.3d.global.shared::cta.bulk_group [%0, {%2, %3, %4}], [%1];"
                 :: "l"(map), "r"(shared_address(from)), "r"(x), "r"(y), "r"(z) : "memory");
#endif
}

__device__ __forceinline__ void tma_store_commit() {
#ifndef MINILM_EMULATED
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
#endif
}

template <int GROUPS> __device__ __forceinline__ void tma_store_wait() {
#ifndef MINILM_EMULATED
    asm volatile("cp.async.bulk.wait_group.read %0;" :: "n"(GROUPS) : "memory");
#endif
}

// Threads write to shared memory through one path, the copying unit and the tensor cores read through another.
__device__ __forceinline__ void fence_async_proxy() {
#ifdef MINILM_EMULATED
    emulator::fence_async_proxy();
#else
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

// The map is 128 bytes somewhere in memory; the first copy need not wait for them.
__device__ __forceinline__ void tma_prefetch(const TensorMap* map) {
#ifndef MINILM_EMULATED
    asm volatile("prefetch.tensormap [%0];" :: "l"(map) : "memory");
#endif
}

// --------------------------------------------------------------------------------------------------------- products

// Fields of a matrix descriptor, all addresses in units of 16 bytes: where it begins; from one group of 64 rows to the
// next (only where lines run along the rows); from one group of 8 lines to the next, 1024 bytes; swizzle of 128 bytes.
__device__ __forceinline__ unsigned long long wgmma_operand_mn(const void* tile, int block) {
#ifdef MINILM_EMULATED
    const uint32_t address = emulator::shared_offset(tile);
#else
    const uint32_t address = shared_address(tile);
#endif
    return (address & 0x3ffff) >> 4 | (unsigned long long)(block >> 4) << 16 | (1024ull >> 4) << 32 | 1ull << 62;
}
__device__ __forceinline__ unsigned long long wgmma_operand(const void* tile) { return wgmma_operand_mn(tile, 16); }

__device__ __forceinline__ void wgmma_fence() {
#ifdef MINILM_EMULATED
    emulator::wgmma_fence();
#else
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}

__device__ __forceinline__ void wgmma_commit() {
#ifdef MINILM_EMULATED
    emulator::wgmma_commit();
#else
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}

template <int GROUPS> __device__ __forceinline__ void wgmma_wait() {
#ifdef MINILM_EMULATED
    emulator::wgmma_wait(GROUPS);
#else
    asm volatile("wgmma.wait_group.sync.aligned %0;" :: "n"(GROUPS) : "memory");
#endif
}

template <int COUNT> __device__ __forceinline__ void wgmma_wait_all(float (&d)[COUNT]) {
    wgmma_wait<0>();
#ifndef MINILM_EMULATED
    // The registers change behind the compiler's back. Nothing that reads d may move up across the wait.
#pragma unroll
    for (int i = 0; i < COUNT; ++i) asm volatile("" : "+f"(d[i]) :: "memory");
#endif
}

#ifndef MINILM_EMULATED
// The registers of d have to be named one by one, in the text of the instruction and as its operands.
#define D_TEXT_0_31                                                                                              \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                                     \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define D_TEXT_32_63                                                                                             \
    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "                           \
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define D_TEXT_64_127                                                                                            \
    "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "                           \
    "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "                           \
    "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "               \
    "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define D_4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define D_16(i) D_4(i), D_4(i + 4), D_4(i + 8), D_4(i + 12)
#define D_64(i) D_16(i), D_16(i + 16), D_16(i + 32), D_16(i + 48)

// {d} += A B^T with descriptors in operands `a` and `b`; the constants: add to d (not overwrite it), signs, transposes.
#define WGMMA(N, TYPE, D_TEXT, A, B, TA, TB, ...)                                                                \
    asm volatile("wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPE "." TYPE " {" D_TEXT "}, " A ", " B      \
                 ", 1, 1, 1, " TA ", " TB ";" : __VA_ARGS__                                                      \
                 : "l"(a), "l"(b), "n"(int(TRANSPOSED_A)), "n"(int(TRANSPOSED_B)) : "memory")
#endif

template <typename T, int N, bool TRANSPOSED_A, bool TRANSPOSED_B>
__device__ __forceinline__ void wgmma_m64k16(float (&d)[N / 2], unsigned long long a, unsigned long long b CALLER) {
    static_assert(N == 64 || N == 128 || N == 256, "d has 64 rows and 64, 128 or 256 columns");
#ifdef MINILM_EMULATED
    emulator::emulate_wgmma<T>(d, N, a, b, TRANSPOSED_A, TRANSPOSED_B, true, place);
#else
    if constexpr (N == 64 && IsHalf<T>::value)
        WGMMA(64, "f16", D_TEXT_0_31, "%32", "%33", "%34", "%35", D_16(0), D_16(16));
    if constexpr (N == 64 && !IsHalf<T>::value)
        WGMMA(64, "bf16", D_TEXT_0_31, "%32", "%33", "%34", "%35", D_16(0), D_16(16));
    if constexpr (N == 128 && IsHalf<T>::value)
        WGMMA(128, "f16", D_TEXT_0_31 ", " D_TEXT_32_63, "%64", "%65", "%66", "%67", D_64(0));
    if constexpr (N == 128 && !IsHalf<T>::value)
        WGMMA(128, "bf16", D_TEXT_0_31 ", " D_TEXT_32_63, "%64", "%65", "%66", "%67", D_64(0));
    if constexpr (N == 256 && IsHalf<T>::value)
        WGMMA(256, "f16", D_TEXT_0_31 ", " D_TEXT_32_63 ", " D_TEXT_64_127, "%128", "%129", "%130", "%131", D_64(0),
              D_64(64));
    if constexpr (N == 256 && !IsHalf<T>::value)
        WGMMA(256, "bf16", D_TEXT_0_31 ", " D_TEXT_32_63 ", " D_TEXT_64_127, "%128", "%129", "%130", "%131", D_64(0),
              D_64(64));
#endif
}

#ifndef MINILM_EMULATED
#define WGMMA_REGISTERS(N, TYPE, D_TEXT, A, B, TB, ...)                                                          \
    asm volatile("wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPE "." TYPE " {" D_TEXT "}, {" A "}, " B    \
                 ", 1, 1, 1, " TB ";" : __VA_ARGS__                                                              \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(int(TRANSPOSED_B)) : "memory")
#endif

template <typename T, int N, bool TRANSPOSED_B>
__device__ __forceinline__ void wgmma_m64k16_registers(float (&d)[N / 2], const uint32_t (&a)[4],
                                                       unsigned long long b CALLER) {
    static_assert(N == 64 || N == 128 || N == 256, "d has 64 rows and 64, 128 or 256 columns");
#ifdef MINILM_EMULATED
    emulator::emulate_wgmma<T>(d, N, a, b, TRANSPOSED_B, true, place);
#else
    if constexpr (N == 64 && IsHalf<T>::value)
        WGMMA_REGISTERS(64, "f16", D_TEXT_0_31, "%32, %33, %34, %35", "%36", "%37", D_16(0), D_16(16));
    if constexpr (N == 64 && !IsHalf<T>::value)
        WGMMA_REGISTERS(64, "bf16", D_TEXT_0_31, "%32, %33, %34, %35", "%36", "%37", D_16(0), D_16(16));
    if constexpr (N == 128 && IsHalf<T>::value)
        WGMMA_REGISTERS(128, "f16", D_TEXT_0_31 ", " D_TEXT_32_63, "%64, %65, %66, %67", "%68", "%69", D_64(0));
    if constexpr (N == 128 && !IsHalf<T>::value)
        WGMMA_REGISTERS(128, "bf16", D_TEXT_0_31 ", " D_TEXT_32_63, "%64, %65, %66, %67", "%68", "%69", D_64(0));
    if constexpr (N == 256 && IsHalf<T>::value)
        WGMMA_REGISTERS(256, "f16", D_TEXT_0_31 ", " D_TEXT_32_63 ", " D_TEXT_64_127, "%128, %129, %130, %131", "%132",
                        "%133", D_64(0), D_64(64));
    if constexpr (N == 256 && !IsHalf<T>::value)
        WGMMA_REGISTERS(256, "bf16", D_TEXT_0_31 ", " D_TEXT_32_63 ", " D_TEXT_64_127, "%128, %129, %130, %131", "%132",
                        "%133", D_64(0), D_64(64));
#endif
}

#ifndef MINILM_EMULATED
#undef WGMMA_REGISTERS
#undef D_TEXT_0_31
#undef D_TEXT_32_63
#undef D_TEXT_64_127
#undef D_4
#undef D_16
#undef D_64
#undef WGMMA
#endif

// -------------------------------------------------------------------------------------------------------- registers

// A kernel begins with the same number of registers for every thread (its __launch_bounds__(threads, 1) decides).
// Warps that only copy give most of theirs back, and those that compute take them.
template <int COUNT> __device__ __forceinline__ void give_registers() {
#ifndef MINILM_EMULATED
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" :: "n"(COUNT));
#endif
}
template <int COUNT> __device__ __forceinline__ void take_registers() {
#ifndef MINILM_EMULATED
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" :: "n"(COUNT));
#endif
}
