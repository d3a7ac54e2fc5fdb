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

// What CUDA's built-in variables show to the running thread. The scheduler keeps it up to date.
struct Visible {
    dim3 thread_index, block_index, block, grid;
};
extern Visible visible;
int lane();  // of the running thread within its warp

// Ends the launch with a report. `kind` is a short name ("divergent barrier"), `advice` says what to do about it.
[[noreturn]] void fail(const char* kind, Place place, const char* advice, const char* format, ...)
    __attribute__((format(printf, 4, 5)));

void block_barrier(Place place);

// An operation that the lanes named in `mask` do together. Each brings its operands; the last lane to arrive calls
// `complete` once for all of them (operands[lane] is null for a lane that takes no part), then all go on. Without
// `complete` it is __syncwarp, which also orders what the lanes wrote and read.
using Complete = void (*)(void** operands, unsigned mask);
void warp_together(const char* name, unsigned mask, void* operands, Complete complete, Place place);

// Waits until `ready(argument)` holds; it is asked again whenever other threads have run.
void wait_until(const char* what, bool (*ready)(void*), void* argument, Place place);

// Lets others run: called by operations that programs repeat in a loop until another thread answers (atomics).
void breathe();

unsigned live_lanes();  // lanes of this warp whose thread has not returned

}  // namespace emulator

#define threadIdx (emulator::visible.thread_index)
#define blockIdx (emulator::visible.block_index)
#define blockDim (emulator::visible.block)
#define gridDim (emulator::visible.grid)
#define warpSize 32

inline void __syncthreads(emulator::Place place = emulator::Place::here()) { emulator::block_barrier(place); }
inline void __syncwarp(unsigned mask = 0xffffffffu, emulator::Place place = emulator::Place::here()) {
    emulator::warp_together("__syncwarp", mask, nullptr, nullptr, place);
}
