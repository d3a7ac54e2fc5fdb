// Copies from global to shared memory that go on while the thread computes (sm_80). Include after common.cuh.
//
//   cp_async<BYTES>(to_shared, from_global, source_bytes = BYTES)   4, 8 or 16 bytes, both addresses so aligned; what
//                                    lies beyond source_bytes becomes zero, and with 0 the source is not touched
//   cp_async_commit()                closes a group: all copies of this thread since the last one
//   cp_async_wait<N>()               waits until at most the N latest groups of this thread are still on their way
//
// A wait is for the thread's own copies: a __syncthreads() must follow before other threads read them.

template <int BYTES>
__device__ __forceinline__ void cp_async(void* to_shared, const void* from_global, int source_bytes = BYTES CALLER) {
    static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16, "cp.async copies 4, 8 or 16 bytes");
#ifdef MINILM_EMULATED
    emulator::copy_async(to_shared, from_global, BYTES, source_bytes, place);
#else
    const uint32_t to = static_cast<uint32_t>(__cvta_generic_to_shared(to_shared));
    if constexpr (BYTES == 16)  // .cg: through the L2 cache only, it will not be read again
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                     :: "r"(to), "l"(from_global), "r"(source_bytes) : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;"
                     :: "r"(to), "l"(from_global), "n"(BYTES), "r"(source_bytes) : "memory");
#endif
}

__device__ __forceinline__ void cp_async_commit() {
#ifdef MINILM_EMULATED
    emulator::commit_copies();
#else
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

template <int N> __device__ __forceinline__ void cp_async_wait() {
#ifdef MINILM_EMULATED
    emulator::wait_for_copies(N);
#else
    asm volatile("cp.async.wait_group %0;" :: "n"(N) : "memory");
#endif
}
