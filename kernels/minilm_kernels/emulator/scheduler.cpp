// Runs a launch: blocks one after another, in each block every thread until it has to wait, in a chosen order.
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <algorithm>
#include <deque>
#include <numeric>
#include <random>
#include <vector>

#include "fibers.h"
#include "memory.h"
#include "threads.h"

namespace emulator {

Self* self = nullptr;
Launch launch;
unsigned long long block_count = 0;

namespace {

enum class State { runnable, at_block_barrier, in_warp_operation, waiting, finished };

struct AsyncCopy {
    void* to;
    const void* from;
    int bytes, source_bytes;
};

struct Thread : Self {
    std::vector<std::vector<AsyncCopy>> groups;  // of asynchronous copies; the last one is still open
    Fiber fiber;
    State state;
    const char* waits_for;
    Place place;
    unsigned mask;
    void* operands;
    Complete complete;
    bool (*ready)(void*);
    void* argument;
};

struct Report {  // read by module.py: keep the order of its fields
    char kind[64], file[512], message[1024], advice[512];
    int line;
    int failed;
    unsigned block[3], thread[3];
    int has_thread;
};

struct Options {  // written by module.py
    int order;
    unsigned seed;
};

std::deque<Thread> threads;
int thread_count;
std::vector<char> arena_storage;
char* arena;
size_t arena_used, arena_capacity = 227 << 10;
Report* report;
void (*entry)(void**);
void** entry_arguments;
jmp_buf escape;
bool in_fiber;

Thread& current() { return static_cast<Thread&>(*self); }

void run_thread() {
    entry(entry_arguments);
    current().state = State::finished;
    current().fiber.leave();
}

void pause() {
    in_fiber = false;
    current().fiber.pause();
}

[[noreturn]] void give_up(const char* kind, Place place, const char* advice, const char* message) {
    snprintf(report->kind, sizeof report->kind, "%s", kind);
    snprintf(report->file, sizeof report->file, "%s", place.file ? place.file : "");
    snprintf(report->advice, sizeof report->advice, "%s", advice);
    snprintf(report->message, sizeof report->message, "%s", message);
    report->line = place.line;
    report->failed = 1;
    report->block[0] = launch.block_index.x, report->block[1] = launch.block_index.y, report->block[2] = launch.block_index.z;
    report->has_thread = self != nullptr;
    if (self) report->thread[0] = self->index.x, report->thread[1] = self->index.y, report->thread[2] = self->index.z;
    if (in_fiber) {
        in_fiber = false;
        current().fiber.leave();
    }
    longjmp(escape, 1);
}

Thread* lane_of(int warp, int lane) {
    const int number = warp * WARP + lane;
    return number < thread_count ? &threads[number] : nullptr;
}

void start_block() {
    ++block_count;
    memset(arena, 0xFF, arena_capacity);
    arena_used = (launch.dynamic_bytes + 127) / 128 * 128 + 128;
    for (int i = 0; i < thread_count; ++i) {
        Thread& t = threads[i];
        const dim3 b = launch.block;
        t.index = dim3(i % b.x, i / b.x % b.y, i / (b.x * b.y));
        t.number = i, t.lane = i % WARP, t.warp = i / WARP;
        t.state = State::runnable;
        t.groups.assign(1, {});
        if (!t.fiber.prepare(run_thread))
            give_up("out of memory", {"", 0}, "use a smaller block", "no memory for the stacks of the threads");
    }
}

void check_block_barrier() {
    int waiting = 0, finished = 0;
    Thread *first = nullptr, *gone = nullptr;
    for (int i = 0; i < thread_count; ++i) {
        Thread& t = threads[i];
        if (t.state == State::at_block_barrier) {
            ++waiting;
            if (!first) first = &t;
        }
        if (t.state == State::finished) ++finished, gone = &t;
    }
    if (waiting == 0 || waiting + finished < thread_count) return;
    self = first;
    if (finished)
        fail("divergent barrier", first->place, "let every thread reach every barrier: guard the work, not the barrier",
             "%d threads wait at __syncthreads, but %d have returned already, thread (%u, %u, %u) among them", waiting,
             finished, gone->index.x, gone->index.y, gone->index.z);
    for (int i = 0; i < thread_count; ++i)
        if (threads[i].place.line != first->place.line || strcmp(threads[i].place.file, first->place.file))
            fail("divergent barrier", first->place, "__syncthreads belongs where all threads of the block come by together",
                 "thread (%u, %u, %u) waits at another __syncthreads, at line %d", threads[i].index.x, threads[i].index.y,
                 threads[i].index.z, threads[i].place.line);
    for (int i = 0; i < thread_count; ++i) threads[i].state = State::runnable;
}

bool anyone(State state) {
    for (int i = 0; i < thread_count; ++i)
        if (threads[i].state == state) return true;
    return false;
}

[[noreturn]] void report_deadlock() {
    Thread* first = nullptr;
    for (int i = thread_count; i-- > 0;)
        if (threads[i].state != State::finished) first = &threads[i];
    self = first;
    Thread* other = nullptr;
    for (int i = 0; i < thread_count; ++i)
        if (threads[i].state != first->state || strcmp(threads[i].waits_for, first->waits_for)) other = &threads[i];
    char tail[256] = "";
    if (other && other->state == State::finished)
        snprintf(tail, sizeof tail, ", thread (%u, %u, %u) has returned", other->index.x, other->index.y, other->index.z);
    else if (other)
        snprintf(tail, sizeof tail, ", thread (%u, %u, %u) waits at %s, line %d", other->index.x, other->index.y,
                 other->index.z, other->waits_for, other->place.line);
    fail(first->state == State::at_block_barrier || (other && other->state == State::at_block_barrier)
             ? "divergent barrier" : "deadlock",
         first->place, "every thread that is waited for has to arrive", "no thread can go on: this one waits at %s%s",
         first->waits_for, tail);
}

void run_block(const Options& options, std::mt19937& random) {
    start_block();
    std::vector<int> order(thread_count);
    std::iota(order.begin(), order.end(), 0);
    if (options.order == 1) std::reverse(order.begin(), order.end());
    for (;;) {
        if (options.order == 2) std::shuffle(order.begin(), order.end(), random);
        bool ran = false;
        for (int i : order) {
            Thread& t = threads[i];
            if (t.state == State::waiting && t.ready(t.argument)) t.state = State::runnable;
            if (t.state != State::runnable) continue;
            self = &t;
            in_fiber = true;
            t.fiber.resume();
            in_fiber = false;
            if (report->failed) return;
            ran = true;
        }
        self = nullptr;
        check_block_barrier();
        if (!anyone(State::runnable)) {
            bool left = false;
            for (int i = 0; i < thread_count; ++i) left |= threads[i].state != State::finished;
            if (!left) return;
            if (!ran) report_deadlock();
        }
    }
}

}  // namespace

void fail(const char* kind, Place place, const char* advice, const char* format, ...) {
    char message[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    give_up(kind, place, advice, message);
}

void block_barrier(Place place) {
    Thread& me = current();
    me.state = State::at_block_barrier;
    me.waits_for = "__syncthreads";
    me.place = place;
    pause();
    in_fiber = true;
}

void warp_together(const char* name, unsigned mask, void* operands, Complete complete, Place place) {
    Thread& me = current();
    if (!(mask >> me.lane & 1))
        fail("wrong lane mask", place, "a lane may only take part in an operation whose mask names it",
             "lane %d calls %s with mask 0x%08x, which does not name it", me.lane, name, mask);
    me.state = State::in_warp_operation;
    me.waits_for = name;
    me.place = place;
    me.mask = mask;
    me.operands = operands;
    void* all[WARP] = {};
    for (int lane = 0; lane < WARP; ++lane) {
        Thread* t = lane_of(me.warp, lane);
        if (!(mask >> lane & 1) || !t || t->state == State::finished) continue;
        if (t->state != State::in_warp_operation || t->mask != mask || strcmp(t->waits_for, name)) {
            pause();  // not everyone is here: the last to arrive will wake this thread
            in_fiber = true;
            return;
        }
        all[lane] = t->operands;
    }
    if (complete) complete(all, mask);
    for (int lane = 0; lane < WARP; ++lane)
        if (Thread* t = lane_of(me.warp, lane); t && (mask >> lane & 1) && t->state == State::in_warp_operation)
            t->state = State::runnable;
}

void wait_until(const char* what, bool (*ready)(void*), void* argument, Place place) {
    Thread& me = current();
    if (ready(argument)) return;
    me.state = State::waiting;
    me.waits_for = what;
    me.place = place;
    me.ready = ready;
    me.argument = argument;
    pause();
    in_fiber = true;
}

void breathe() {
    static unsigned count = 0;
    if (++count % 1024) return;
    pause();  // still runnable: the others come first
    in_fiber = true;
}

unsigned live_lanes() {
    unsigned mask = 0;
    for (int lane = 0; lane < WARP; ++lane) {
        const Thread* t = lane_of(self->warp, lane);
        if (t && t->state != State::finished) mask |= 1u << lane;
    }
    return mask;
}

void* allocate_shared(SharedVariable& variable) {
    const size_t begin = (arena_used + variable.alignment - 1) / variable.alignment * variable.alignment;
    if (begin + variable.bytes > arena_capacity)
        fail("too much shared memory", variable.place, "a block has 227 KB at most", "no room for %s (%zu bytes)",
             variable.name, variable.bytes);
    arena_used = begin + variable.bytes + 128;
    variable.address = arena + begin;
    variable.block = block_count;
    return variable.address;
}

void* dynamic_shared(const char*, const char*, size_t, Place) { return arena; }

unsigned shared_offset(const void* address) { return unsigned(static_cast<const char*>(address) - arena); }

void load(int, void* to, const void* from, size_t bytes, size_t, Place) { memcpy(to, from, bytes); }
void store(int, void* to, const void* from, size_t bytes, size_t, Place) { memcpy(to, from, bytes); }

void copy_async(void* to, const void* from, int bytes, int source_bytes, Place) {
    current().groups.back().push_back({to, from, bytes, source_bytes});
}
void commit_copies() { current().groups.emplace_back(); }
void wait_for_copies(int in_flight) {
    auto& groups = current().groups;
    while (int(groups.size()) - 1 > in_flight) {
        for (const AsyncCopy& copy : groups.front()) {
            memcpy(copy.to, copy.from, copy.source_bytes);
            memset(static_cast<char*>(copy.to) + copy.source_bytes, 0, copy.bytes - copy.source_bytes);
        }
        groups.erase(groups.begin());
    }
}

void fail_incomplete_warp(const char* name, Place place) {
    fail("incomplete warp", place, "launch a multiple of 32 threads and let all lanes of the warp come here",
         "%s needs all 32 lanes", name);
}

void check_wmma(const void* address, size_t element_bytes, unsigned ld, Place place) {
    if (reinterpret_cast<uintptr_t>(address) % 32 || ld * element_bytes % 16)
        fail("misaligned access", place, "wmma wants the address aligned to 32 bytes and the leading dimension to 16",
             "a wmma matrix with leading dimension %u starts %d bytes past a multiple of 32", ld,
             int(reinterpret_cast<uintptr_t>(address) % 32));
}

void fail_shuffle_source(int lane, int source, unsigned mask, Place place) {
    fail("wrong lane mask", place, "name in the mask every lane whose value is read",
         "lane %d reads from lane %d, which takes no part (mask 0x%08x)", lane, source, mask);
}

void check_width(int width, Place place) {
    if (width < 1 || width > WARP || (width & (width - 1)))
        fail("wrong shuffle width", place, "the width is 1, 2, 4, 8, 16 or 32", "a shuffle of width %d", width);
}

}  // namespace emulator

extern "C" __attribute__((visibility("default"))) int minilm_run(void (*kernel)(void**), void** arguments, const unsigned* grid, const unsigned* block,
                          size_t dynamic_bytes, const emulator::Options* options, emulator::Report* report_out) {
    using namespace emulator;
    report = report_out;
    memset(report, 0, sizeof *report);
    entry = kernel, entry_arguments = arguments;
    launch.grid = dim3(grid[0], grid[1], grid[2]);
    launch.block = dim3(block[0], block[1], block[2]);
    launch.dynamic_bytes = dynamic_bytes;
    thread_count = int(block[0] * block[1] * block[2]);
    while (int(threads.size()) < thread_count) threads.emplace_back();
    if (arena_storage.empty()) arena_storage.resize(arena_capacity + 1024);
    arena = arena_storage.data() + (1024 - reinterpret_cast<uintptr_t>(arena_storage.data()) % 1024) % 1024;
    std::mt19937 random(options->seed);
    if (setjmp(escape)) return 1;
    for (unsigned z = 0; z < grid[2]; ++z)
        for (unsigned y = 0; y < grid[1]; ++y)
            for (unsigned x = 0; x < grid[0]; ++x) {
                launch.block_index = dim3(x, y, z);
                run_block(*options, random);
                if (report->failed) return 1;
            }
    return 0;
}
