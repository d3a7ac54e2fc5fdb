// The functions behind cuda/hopper.cuh in emulated form. What lands late on a GPU lands at the latest possible moment
// here: a copy when somebody waits at its barrier, a product at wgmma_wait. What may not be touched until then is watched.
#pragma once
#include "memory.h"
#include "types.h"

namespace emulator {

// What a kernel sees as 128 opaque bytes, filled by tensor_map.py. Axis 0 is the innermost.
struct BoxMap {
    uint64_t address;
    uint32_t magic, rank, element_bytes, swizzle;
    uint32_t size[3], box[3];
    uint64_t step[3];  // bytes from one element to the next along an axis
    uint64_t unused[7];
};
static_assert(sizeof(BoxMap) == 128, "a tensor map has 128 bytes");

// mbarriers, 8 bytes of shared memory each: arrivals and bytes end a phase; phases have parity 0, 1, 0, …
void barrier_init(void* barrier, int arrivals, Place place);
void barrier_arrive(void* barrier, int bytes, Place place);
void barrier_wait(void* barrier, int parity, Place place);
void named_barrier(int id, int threads, bool wait, Place place);
void fence_async_proxy();

// `map` is a BoxMap. A copy begins when it is asked for, and lands when somebody waits at the barrier.
void tma_load(void* to, const void* map, void* barrier, int x, int y, int z, Place place);
void tma_store(const void* map, const void* from, int x, int y, int z, Place place);

// A product as one thread asks for it: d[columns / 2] (= or +=) A (64 x 16) B (16 x columns).
struct Wgmma {
    uint64_t a, b;          // matrix descriptors
    uint32_t registers[4];  // or A, from registers
    bool a_in_registers, a_along_rows, b_along_rows, add;  // along_rows: lines run along m or n, and not along k
    int columns;
    float* d;
    float (*value)(uint16_t bits);
    Place place;
};
void wgmma_issue(Wgmma& operands);
void wgmma_fence(Place place = Place::here());
void wgmma_commit(Place place = Place::here());
void wgmma_wait(int groups, Place place = Place::here());

template <class T> inline float value_of_bits(uint16_t bits) {
    T x;
    x.bits = bits;
    return x;
}

template <class T>
inline void emulate_wgmma(float* d, int columns, uint64_t a, uint64_t b, bool a_along_rows, bool b_along_rows, bool add,
                          Place place) {
    Wgmma operands = {a, b, {}, false, a_along_rows, b_along_rows, add, columns, d, value_of_bits<T>, place};
    wgmma_issue(operands);
}
template <class T>
inline void emulate_wgmma(float* d, int columns, const uint32_t* a, uint64_t b, bool b_along_rows, bool add, Place place) {
    Wgmma operands = {0, b, {a[0], a[1], a[2], a[3]}, true, false, b_along_rows, add, columns, d, value_of_bits<T>, place};
    wgmma_issue(operands);
}

}  // namespace emulator
