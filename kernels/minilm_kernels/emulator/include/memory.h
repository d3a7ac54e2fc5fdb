// Memory as the emulated instructions see it: each load and store is checked on behalf of the lane that asks for it.
#pragma once
#include "threads.h"

// Code of the emulator itself, whose own loads and stores are not those of the kernel.
#define MINILM_UNCHECKED __attribute__((noinline, no_sanitize("thread")))

namespace emulator {

// Copies `bytes` bytes for one lane of the running warp; `alignment` is what the instruction demands of the address.
void load(int lane, void* to, const void* from, size_t bytes, size_t alignment, Place place);
void store(int lane, void* to, const void* from, size_t bytes, size_t alignment, Place place);

// __threadfence: what the thread wrote can be handed to other blocks by an atomic.
void fence();

// Called before an atomic access of `bytes` bytes.
void begin_atomic(void* address, size_t bytes, Place place);

// cp.async: the copy lands, at the latest possible moment, when its thread waits for its group.
void copy_async(void* shared, const void* global, int bytes, int source_bytes, Place place);
void commit_copies();
void wait_for_copies(int groups_in_flight);

}  // namespace emulator
