// Runs a launch: blocks one after another, in each block every thread until it has to wait, in a chosen order.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <chrono>

#include "state.h"

namespace emulator {

Thread* self = nullptr;
Visible visible;
size_t dynamic_bytes = 0;
unsigned long long block_count = 0;
Options options;
Report* report = nullptr;
std::vector<Thread*> threads;
bool in_kernel = false, in_emulator = false;

namespace {

std::vector<Thread*> all_threads;  // kept from launch to launch, with their stacks
Thread* running = nullptr;         // whose fiber has the processor; `self` may be another, for which it acts
std::vector<Thread*> order;        // in which the threads of a block take their turns
void (*entry)(void**);
void** entry_arguments;
jmp_buf given_up;
uint32_t random_state;
int barriers;
std::chrono::steady_clock::time_point deadline;
const char* stop_kind = nullptr;

uint32_t random_below(uint32_t n) {  // xorshift32 (Marsaglia 2003)
    random_state ^= random_state << 13, random_state ^= random_state >> 17, random_state ^= random_state << 5;
    return uint32_t(uint64_t(random_state) * n >> 32);
}

void body() {
    entry(entry_arguments);
    current().state = State::finished;
}

void pause() {
    in_kernel = false;
    running->fiber.pause();
    in_kernel = true;
}

void write_report(const char* kind, Site site, Site other, const char* advice, const char* message) {
    snprintf(report->kind, sizeof report->kind, "%s", kind);
    snprintf(report->message, sizeof report->message, "%s", message);
    snprintf(report->advice, sizeof report->advice, "%s", advice);
    report->site = site, report->other_site = other;
    report->failed = 1;
    const dim3 b = visible.block_index;
    report->block[0] = b.x, report->block[1] = b.y, report->block[2] = b.z;
    report->has_thread = self != nullptr;
    if (self) report->thread[0] = self->index.x, report->thread[1] = self->index.y, report->thread[2] = self->index.z;
}

[[noreturn]] void leave() {
    if (!in_kernel) longjmp(given_up, 1);
    in_kernel = false;
    running->fiber.pause();  // never resumed: the scheduler sees the report and gives the launch up
    __builtin_unreachable();
}

void start_block() {
    ++block_count;
    barriers = 0;
    finish_trace();  // the last writes of the block before, while its shared memory is still there
    begin_block_memory();
    begin_block_clocks();
    const dim3 b = visible.block;
    for (size_t i = 0; i < threads.size(); ++i) {
        Thread& t = *threads[i];
        t.index = dim3(unsigned(i) % b.x, unsigned(i) / b.x % b.y, unsigned(i) / (b.x * b.y));
        t.number = int(i), t.lane = int(i) % WARP, t.warp = int(i) / WARP;
        t.state = State::runnable;
        t.waits_for = "";
        t.copies.assign(1, {});
        t.steps = 0;
    }
    begin_block_hopper();
}

bool same_place(Place a, Place b) { return a.line == b.line && !strcmp(a.file, b.file); }

// When every thread has arrived at a block barrier (or returned), it opens; or what is wrong with it is reported.
void open_block_barrier() {
    int waiting = 0, finished = 0;
    Thread *first = nullptr, *gone = nullptr;
    for (Thread* t : threads) {
        if (t->state == State::at_block_barrier && ++waiting && !first) first = t;
        if (t->state == State::finished && ++finished) gone = t;
    }
    if (waiting == 0 || size_t(waiting + finished) < threads.size()) return;
    self = first;
    if (finished)
        fail("divergent barrier", first->place, "let every thread reach every barrier: guard the work, not the barrier",
             "%d threads wait at __syncthreads, but %d have returned without it, thread (%u, %u, %u) among them", waiting,
             finished, gone->index.x, gone->index.y, gone->index.z);
    for (Thread* t : threads)
        if (!same_place(t->place, first->place))
            fail_at("divergent barrier", site_of(first->place), site_of(t->place),
                    "put the barrier where all threads of the block come by together",
                    "this thread waits at one __syncthreads, thread (%u, %u, %u) at another, {other}", t->index.x,
                    t->index.y, t->index.z);
    block_has_met();
    if (options.at_barrier) {
        const dim3 b = visible.block_index;
        const Snapshot snapshot = {{b.x, b.y, b.z}, barriers, site_of(first->place), arena, variables.data(), variables.size()};
        if (options.at_barrier(&snapshot)) fail_at("stopped", 0, 0, "", "the function at the barrier raised an error");
    }
    ++barriers;
    for (Thread* t : threads) t->state = State::runnable;
    self = nullptr;
}

// If all lanes that the operation of `me` names have arrived, it is done for all of them and they go on. A lane whose
// thread has returned is not waited for, as on a GPU.
bool complete_warp_operation(Thread& me) {
    void* all[WARP] = {};
    Thread* present[WARP];
    int count = 0;
    for (int lane = 0; lane < WARP; ++lane) {
        Thread* t = lane_of(me.warp, lane);
        if (!(me.mask >> lane & 1) || !t || t->state == State::finished) continue;
        if (t->state != State::in_warp_operation || t->mask != me.mask || strcmp(t->waits_for, me.waits_for)) return false;
        all[lane] = t->operands;
        present[count++] = t;
    }
    if (me.complete) {
        in_emulator = true;
        me.complete(all, me.mask);
        in_emulator = false;
    } else {
        have_met(present, count);  // only __syncwarp orders memory; a shuffle does not
    }
    for (int i = 0; i < count; ++i) present[i]->state = State::runnable;
    return true;
}

void has_returned(Thread& gone) {
    for (int lane = 0; lane < WARP; ++lane) {
        Thread* t = lane_of(gone.warp, lane);
        if (!t || t->state != State::in_warp_operation) continue;
        self = t;
        complete_warp_operation(*t);
    }
}

[[noreturn]] void report_deadlock() {
    Thread *first = nullptr, *other = nullptr;
    for (Thread* t : threads)
        if (t->state != State::finished && !first) first = t;
    self = first;
    for (Thread* t : threads)
        if (t->state != first->state || strcmp(t->waits_for, first->waits_for) || t->mask != first->mask) other = t;
    const char* kind = "deadlock";
    if (first->state == State::at_block_barrier || (other && other->state == State::at_block_barrier))
        kind = "divergent barrier";
    const char* advice = "every thread that another one waits for has to arrive";
    char what[320];
    snprintf(what, sizeof what, "%s", first->waits_for);
    if (first->state == State::in_warp_operation)
        snprintf(what, sizeof what, "%s with mask 0x%08x", first->waits_for, first->mask);
    if (first->state == State::waiting)
        describe_wait(*first, what + strlen(what), sizeof what - strlen(what));
    if (!other)
        fail(kind, first->place, advice, "no thread can go on: all wait at %s", what);
    const dim3 i = other->index;
    if (other->state == State::finished)
        fail(kind, first->place, advice, "this thread waits at %s; thread (%u, %u, %u) has returned", what, i.x, i.y, i.z);
    fail_at(kind, site_of(first->place), site_of(other->place), advice,
            "this thread waits at %s, thread (%u, %u, %u) at %s (mask 0x%08x), {other}", what, i.x, i.y, i.z,
            other->waits_for, other->state == State::in_warp_operation ? other->mask : 0xffffffffu);
}

void check_the_clock() {
    if (options.hold) {
        const int state = options.hold();
        if (options.signals()) {  // Ctrl-C
            options.clear();
            stop_kind = "interrupted";
        }
        options.let_go(state);
    }
    if (std::chrono::steady_clock::now() > deadline) stop_kind = "time limit";
    if (stop_kind)
        fail_at(stop_kind, 0, 0, "is there a loop that never ends? Otherwise give the module a longer time_limit",
                "the launch has not ended after %.0f seconds", options.time_limit);
}

void run_block() {
    start_block();
    order.resize(threads.size());
    for (size_t i = 0; i < order.size(); ++i)
        order[i] = threads[options.order == REVERSE ? order.size() - 1 - i : i];
    for (unsigned pass = 0;; ++pass) {
        if (pass % 256 == 255) check_the_clock();
        if (options.order == RANDOM)
            for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random_below(uint32_t(i))]);
        bool ran = false, left = false;
        for (Thread* t : order) {
            if (t->state == State::waiting) {
                self = t;
                if (t->ready(t->argument)) t->state = State::runnable;
            }
            if (t->state == State::runnable) {
                self = running = t;
                visible.thread_index = t->index;
                in_kernel = ran = true;
                t->fiber.resume(body);
                in_kernel = false;
                if (report->failed) longjmp(given_up, 1);
                if (t->state == State::finished) has_returned(*t);
                if (stop_kind) check_the_clock();
            }
        }
        self = nullptr;
        open_block_barrier();
        for (Thread* t : threads) {
            left |= t->state != State::finished;
            ran |= t->state == State::runnable;
        }
        if (!left) return report_uninitialised();
        if (!ran) report_deadlock();
    }
}

}  // namespace

void fail(const char* kind, Place place, const char* advice, const char* format, ...) {
    char message[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    write_report(kind, site_of(place), 0, advice, message);
    leave();
}

void fail_at(const char* kind, Site site, Site other, const char* advice, const char* format, ...) {
    char message[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    write_report(kind, site, other, advice, message);
    leave();
}

Thread* lane_of(int warp, int lane) {
    const size_t number = size_t(warp * WARP + lane);
    return number < threads.size() ? threads[number] : nullptr;
}

int lane() { return self->lane; }

void give_way() { pause(); }

void watch_the_time() {
    static unsigned count = 0;
    if (++count % (1u << 20) == 0 && std::chrono::steady_clock::now() > deadline) {
        stop_kind = "time limit";
        pause();  // the scheduler ends the launch
    }
}

void block_barrier(Place place) {
    Thread& me = current();
    record_barrier(me, true, site_of(place));
    me.state = State::at_block_barrier;
    me.waits_for = "__syncthreads";
    me.mask = 0;
    me.place = place;
    pause();
}

void warp_together(const char* name, unsigned mask, void* operands, Complete complete, Place place) {
    Thread& me = current();
    if (!(mask >> me.lane & 1))
        fail("wrong lane mask", place, "a lane may only take part in an operation whose mask names it",
             "lane %d calls %s with mask 0x%08x, which does not name it", me.lane, name, mask);
    record_barrier(me, false, site_of(place));
    me.state = State::in_warp_operation;
    me.waits_for = name;
    me.place = place;
    me.mask = mask;
    me.operands = operands;
    me.complete = complete;
    if (!complete_warp_operation(me)) pause();  // the last to arrive will wake this thread
}

void wait_until(const char* what, bool (*ready)(void*), void* argument, Place place) {
    Thread& me = current();
    if (ready(argument)) return;
    me.state = State::waiting;
    me.waits_for = what;
    me.mask = 0;
    me.place = place;
    me.ready = ready;
    me.argument = argument;
    pause();
}

void breathe() {
    static unsigned count = 0;
    watch_the_time();
    if (++count % 256 == 0) pause();  // still runnable: the others come first
}

unsigned live_lanes() {
    unsigned mask = 0;
    for (int lane = 0; lane < WARP; ++lane) {
        const Thread* t = lane_of(self->warp, lane);
        if (t && t->state != State::finished) mask |= 1u << lane;
    }
    return mask;
}

void fail_incomplete_warp(const char* name, Place place) {
    fail("incomplete warp", place, "launch a multiple of 32 threads, and let all 32 lanes of a warp come here",
         "%s is an operation of all 32 lanes, and some of them do not exist or have returned", name);
}

void fail_shuffle_source(int lane, int source, unsigned mask, Place place) {
    fail("wrong lane mask", place, "a lane whose value is read must exist and take part",
         "lane %d reads from lane %d, which does not take part (mask 0x%08x)", lane, source, mask);
}

void check_width(int width, Place place) {
    if (width < 1 || width > WARP || (width & (width - 1)))
        fail("wrong shuffle width", place, "the width is 1, 2, 4, 8, 16 or 32", "a shuffle of width %d", width);
}

}  // namespace emulator

extern "C" __attribute__((visibility("default"))) void minilm_run(
    void (*kernel)(void**), void** arguments, const unsigned* grid, const unsigned* block, size_t shared_bytes,
    const emulator::Options* with, emulator::Report* to) {
    using namespace emulator;
    options = *with;
    report = to;
    entry = kernel, entry_arguments = arguments;
    visible.grid = dim3(grid[0], grid[1], grid[2]);
    visible.block = dim3(block[0], block[1], block[2]);
    visible.block_index = dim3(0, 0, 0);
    dynamic_bytes = shared_bytes;
    self = nullptr;
    in_kernel = in_emulator = false;
    stop_kind = nullptr;
    random_state = options.seed * 2654435761u + 1;
    deadline = std::chrono::steady_clock::now() +
               std::chrono::duration_cast<std::chrono::steady_clock::duration>(std::chrono::duration<double>(options.time_limit));
    if (setjmp(given_up)) {
        for (Thread* t : threads) t->fiber.reset();
        finish_trace();
        return;
    }
    const size_t count = size_t(block[0]) * block[1] * block[2];
    while (all_threads.size() < count) {
        all_threads.push_back(new Thread());
        if (!all_threads.back()->fiber.allocate()) {
            delete all_threads.back();
            all_threads.pop_back();
            fail_at("out of memory", 0, 0, "use a smaller block", "no memory for the stacks of %zu threads", count);
        }
    }
    threads.assign(all_threads.begin(), all_threads.begin() + long(count));
    begin_launch_memory();
    begin_launch_clocks();
    for (unsigned z = 0; z < grid[2]; ++z)
        for (unsigned y = 0; y < grid[1]; ++y)
            for (unsigned x = 0; x < grid[0]; ++x) {
                visible.block_index = dim3(x, y, z);
                run_block();
            }
    finish_trace();
}
