// What the emulator's own files share: the threads of the running block, what they wait for, and who watches them.
#pragma once
#include <stdint.h>
#include <string.h>

#include <vector>

#include "fibers.h"
#include "include/hopper.h"
#include "include/memory.h"
#include "include/shared.h"
#include "include/threads.h"

namespace emulator {

// A place in the kernel's source: the address of an instruction relative to the library (module.py finds its line),
// or, with the highest bit set, the number of a Place.
using Site = uint32_t;
Site site_of(Place place);
Site site_of(const void* program_counter);

enum class State : uint8_t { runnable, at_block_barrier, in_warp_operation, waiting, finished };
enum class Mode : uint8_t {
    read, write, atomic,
    copy_begins, copy_lands,  // cp.async
    box_begins, box_lands,    // a copy of the tensor memory accelerator
    proxy_read                // by it, or by wgmma
};
enum Order { FORWARD, REVERSE, RANDOM, LOCKSTEP };
enum Checks : unsigned { RACES = 1, BOUNDS = 2, UNINITIALISED = 4 };

struct AsyncCopy {
    void* to;
    const void* from;
    int bytes, source_bytes;
    Site site;
};

struct Product {  // a wgmma of one warp that has been issued
    int warp;
    Wgmma lanes[WARP];
};

struct Thread {
    dim3 index;
    int number;  // index.x + block.x * (index.y + block.y * index.z)
    int lane, warp;  // number % 32, number / 32
    Fiber fiber;
    State state;
    const char* waits_for;
    Place place;
    unsigned mask;
    void* operands;
    Complete complete;
    bool (*ready)(void*);
    void* argument;
    std::vector<std::vector<AsyncCopy>> copies;  // one list for each group; the last group is still open

    std::vector<std::vector<Product>> products;  // of the warp, kept by its lane 0: one list for each group

    // Who has seen whose work since the last __syncthreads: see races.cpp.
    uint32_t time, clock_epoch;
    std::vector<uint32_t> known;
    bool fenced;
    uint32_t steps;  // memory accesses and barriers so far: the time axis of a trace
};

// ------------------------------------------------------------------ what module.py writes and reads: keep the order

struct Array {  // a pointer argument of the kernel
    char* begin;
    size_t bytes, element_bytes;
    const char* name;
    int writable;
};

struct Variable {  // a shared array of the running block
    const char* name;
    char code;  // NumPy's letter for its element type
    size_t offset, bytes, element_bytes;
    int rank;
    unsigned extents[4];
};

struct Event {  // one step of a traced thread
    uint32_t block, thread, step;
    Site site;
    uint8_t kind;  // as in Mode; 8 is __syncthreads, 9 an operation of the warp
    uint8_t space;  // 0 shared, 1 global
    uint16_t bytes;
    int32_t variable;  // which array of the kernel, or of shared memory
    uint64_t offset;   // bytes from its begin
    uint8_t value[16];
    char name[32], code;  // of a shared array, as in Variable
    uint8_t rank;
    uint32_t extents[4];
};

struct Snapshot {  // the block, when all its threads have met at a barrier
    unsigned block[3];
    int barrier;  // how many came before it in this block
    Site site;
    const char* arena;
    const Variable* variables;
    size_t variable_count;
};

struct Report {
    char kind[64], message[1024], advice[512];
    Site site, other_site;
    int failed, has_thread;
    unsigned block[3], thread[3];
};

struct Options {
    int order;
    unsigned seed, checks;
    double time_limit;  // seconds
    size_t shared_limit;
    const Array* arrays;
    size_t array_count;
    const uint8_t* traced;  // one flag for each thread of a block, or null
    long long traced_block;  // the only block to trace, or -1
    size_t event_limit;
    int (*at_barrier)(const Snapshot*);  // null, or called when a block has met at a barrier; not 0 ends the launch
    // Of the Python interpreter, to let the user interrupt: PyGILState_Ensure, PyErr_CheckSignals, PyErr_Clear,
    // PyGILState_Release.
    int (*hold)();
    int (*signals)();
    void (*clear)();
    void (*let_go)(int);
};

// ------------------------------------------------------------------------------------------------------------------

extern Options options;
extern Report* report;
extern std::vector<Thread*> threads;  // of the running block
extern Thread* self;                   // the one that runs, or for which something is done
extern unsigned long long block_count;  // blocks begun, over all launches
extern size_t dynamic_bytes;           // of shared memory, as the launch asked for
extern bool in_kernel;                // a thread runs, and not the scheduler
extern bool in_emulator;              // it runs code of ours: its loads and stores are not the kernel's
extern std::vector<Variable> variables;
extern std::vector<Event> events;
extern char* arena;
extern size_t arena_used;

inline Thread& current() { return *self; }
Thread* lane_of(int warp, int lane);  // null where the block has no such thread

// Ends the launch. `other` is a second place; "{other}" in the message stands for it.
[[noreturn]] void fail_at(const char* kind, Site site, Site other, const char* advice, const char* format, ...)
    __attribute__((format(printf, 5, 6)));
void give_way();       // the others go on; comes back when it is this thread's turn again
void watch_the_time();  // now and then: is the time up, does the user want to stop?

// memory.cpp
void begin_launch_memory();
void begin_block_memory();
void access(Thread& actor, const void* address, size_t bytes, Mode mode, Site site);

// races.cpp
struct Shadow;
Shadow* new_shadow(size_t bytes, size_t granule, bool shared);
void delete_shadow(Shadow* shadow);
struct Described {  // an address in words, for a message
    char text[160];
};
Described describe(const void* address);
void touch(Shadow& shadow, size_t offset, size_t bytes, Mode mode, Thread& actor, Site site, const void* address);
void begin_launch_clocks();
void begin_block_clocks();
void block_has_met();                            // all threads know of everything before
void report_uninitialised();                     // if a thread has read what nobody wrote, and no race explains it
void have_met(Thread* const* those, int count);  // so do these threads among themselves
struct Knowledge {                               // what has been handed over at a barrier object, or an atomic
    uint32_t epoch = 0;
    std::vector<uint32_t> known;
};
void release_to(Knowledge& knowledge, Thread& giver);
void acquire_from(const Knowledge& knowledge, Thread& taker);
void atomic_between_blocks(const void* address, Thread& actor);

// The async proxy (wgmma and the tensor memory accelerator) sees what threads wrote only after fence_async_proxy().
void begin_block_proxies();
void hold(const void* address, int change, Site site);  // +1: a product reads these two bytes until -1

// hopper.cpp
void begin_block_hopper();
void describe_wait(const Thread& thread, char* text, size_t size);  // at which mbarrier, and what is missing there

// trace.cpp
void record(Thread& actor, Mode mode, bool global, int variable, size_t offset, size_t bytes, Site site);
void record_barrier(Thread& actor, bool of_block, Site site);
void finish_trace();

}  // namespace emulator
