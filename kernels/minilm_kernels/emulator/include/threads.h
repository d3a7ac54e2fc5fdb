// The threads of one block, as the emulated kernel sees them: who am I, wait for the others, give up with a report.
//
// Each CUDA thread is a fiber with a stack of its own. Exactly one runs at a time; it runs until it has to wait at a
// barrier or in a warp operation. Blocks run one after another. scheduler.cpp is the other half.
#pragma once
#include <stddef.h>
#include <stdint.h>

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

namespace emulator {

constexpr int WARP = 32;

// A line of the kernel's source. As a default argument, Place::here() is the line of the caller.
struct Place {
    const char* file;
    int line;
    static constexpr Place here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
        return {file, line};
    }
};

// What a thread sees of itself. The scheduler's record of a thread begins with this.
struct Self {
    dim3 index;
    int number;  // index.x + blockDim.x * (index.y + blockDim.y * index.z)
    int lane;    // number % 32
    int warp;    // number / 32
};

// The launch that is running.
struct Launch {
    dim3 grid, block, block_index;
    size_t dynamic_bytes;
};

extern Self* self;
extern Launch launch;

// Ends the launch with a report. `kind` is a short name ("divergent barrier"), `advice` says what to do about it.
[[noreturn]] void fail(const char* kind, Place place, const char* advice, const char* format, ...)
    __attribute__((format(printf, 4, 5)));

void block_barrier(Place place);

// An operation that the lanes named in `mask` do together. Each brings its operands; the last lane to arrive calls
// `complete` once for all of them (operands[lane] is null for a lane that takes no part), then all go on.
using Complete = void (*)(void** operands, unsigned mask);
void warp_together(const char* name, unsigned mask, void* operands, Complete complete, Place place);

// Waits until `ready(argument)` holds; it is asked again whenever other threads have run.
void wait_until(const char* what, bool (*ready)(void*), void* argument, Place place);

// Lets others run: called by operations that programs repeat in a loop until another thread answers (atomics).
void breathe();

unsigned live_lanes();  // lanes of this warp whose thread has not returned

// A __shared__ variable: its place in the block's arena is found when a block first comes by.
struct SharedVariable {
    const char* name;
    const char* type;
    size_t bytes, element_bytes, alignment;
    Place place;
    void* address;
    unsigned long long block;  // the block (counted over all launches) for which `address` holds
};
extern unsigned long long block_count;
void* allocate_shared(SharedVariable& variable);
inline void* shared_address(SharedVariable& variable) {
    return variable.block == block_count ? variable.address : allocate_shared(variable);
}
void* dynamic_shared(const char* name, const char* type, size_t element_bytes, Place place);
unsigned shared_offset(const void* address);  // as __cvta_generic_to_shared: bytes from the arena's begin

}  // namespace emulator

#define threadIdx (emulator::self->index)
#define blockIdx (emulator::launch.block_index)
#define blockDim (emulator::launch.block)
#define gridDim (emulator::launch.grid)
#define warpSize 32

inline void __syncthreads(emulator::Place place = emulator::Place::here()) { emulator::block_barrier(place); }
inline void __syncwarp(unsigned mask = 0xffffffffu, emulator::Place place = emulator::Place::here()) {
    emulator::warp_together("__syncwarp", mask, nullptr, nullptr, place);
}

#define MINILM_UNWRAP(...) __VA_ARGS__
// Made from `__shared__ type name dims;` by source.py.
#define MINILM_SHARED(name, dims, align, ...)                                                                    \
    typedef __VA_ARGS__ name##_element;                                                                          \
    typedef __VA_ARGS__ name##_array MINILM_UNWRAP dims;                                                         \
    static emulator::SharedVariable name##_variable = {                                                          \
        #name, #__VA_ARGS__, sizeof(name##_array), sizeof(name##_element),                                       \
        (align) > alignof(name##_array) ? size_t(align) : alignof(name##_array), {__FILE__, __LINE__}, nullptr, 0}; \
    name##_array& name = *static_cast<name##_array*>(emulator::shared_address(name##_variable))

#define DYNAMIC_SHARED(type, name) \
    type* name = static_cast<type*>(emulator::dynamic_shared(#name, #type, sizeof(type), {__FILE__, __LINE__}))
