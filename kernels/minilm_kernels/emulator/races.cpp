// Who touched which byte when, and whether two who touched it had met in between.
//
// Two accesses to the same place, of which at least one writes, are a race unless something orders them. What orders:
//
//   __syncthreads            everything before it, by all threads of the block. It opens a new epoch; an access of an
//                            earlier epoch is always ordered.
//   __syncwarp, mbarriers    what those threads did before that meet there. Within an epoch each thread keeps a vector
//                            clock: known[u] = the time up to which it has seen the work of thread u (Lamport 1978,
//                            Mattern 1989). An access by u at time s is ordered for t when known_t[u] >= s.
//   the end of a launch      everything.
//
// Blocks of one launch are never ordered among each other, except where a block takes part in an atomic after
// __threadfence() of earlier ones. Atomic accesses do not race with each other.
//
// Each cell of memory remembers its last write and two readers (the first, and the latest other one): enough to find
// a race in some order of threads, as in FastTrack (Flanagan & Freund 2009), without a list of all readers.
#include <stdlib.h>

#include <new>

#include "state.h"

namespace emulator {

struct Mark {
    uint32_t epoch, time;
    Site site;
    uint16_t thread, flags;
};
struct Cell {
    Mark write, reads[2];
};

namespace {

constexpr uint16_t ATOMIC = 1, IN_FLIGHT = 2, BY_ASYNC_PROXY = 4;

uint32_t epoch = 1, block_epoch = 1, launch_epoch = 1;
std::vector<uint32_t> first_epochs;  // of the blocks of this launch
bool earlier_blocks_seen;
struct HandOver {
    const void* address;
    unsigned long long block;
};
std::vector<HandOver> hand_overs;

// The first read of something that no thread of the block has written. Reported when the block has met, and not at
// once: if another thread writes it before, what is wrong is a race, and that is the better report.
struct Unwritten {
    Thread* actor;
    Site site;
    Described what;
} unwritten;

// What a thread knows of others holds for one epoch. It is filled when the thread first meets somebody in it: most
// epochs end before that, and clearing a kilobyte for each thread at each barrier took a fifth of a tiled product's time.
bool knows(const Thread& t, unsigned other, uint32_t time) {
    return t.clock_epoch == epoch && !t.known.empty() && t.known[other] >= time;
}

void begin_clock(Thread& t) {
    if (t.clock_epoch == epoch) return;
    t.known.clear();
    t.clock_epoch = epoch;
    t.time = 1;
}

std::vector<uint32_t>& clocks(Thread& t) {
    begin_clock(t);
    if (t.known.empty()) t.known.assign(threads.size(), 0);
    return t.known;
}

bool ordered(const Mark& mark, const Thread& actor, bool shared) {
    if (mark.epoch == epoch) return mark.thread == actor.number || knows(actor, mark.thread, mark.time);
    return shared || mark.epoch >= block_epoch || mark.epoch < launch_epoch || earlier_blocks_seen;
}

bool same_moment(const Mark& a, const Mark& b) {
    return a.epoch == b.epoch && a.thread == b.thread && a.time == b.time;
}

dim3 index_of(unsigned number) {
    const dim3 b = visible.block;
    return dim3(number % b.x, number / b.x % b.y, number / (b.x * b.y));
}

[[noreturn]] void fail_race(const Mark& mark, bool wrote, Mode mode, Thread& actor, Site site, const void* address,
                            bool shared) {
    self = &actor;
    const dim3 other = index_of(mark.thread);
    const char* now = mode == Mode::read || mode == Mode::proxy_read ? "reads" : mode == Mode::atomic ? "changes" : "writes";
    const Described what = describe(address);
    if (mark.epoch < block_epoch) {
        size_t block = 0;
        while (block + 1 < first_epochs.size() && first_epochs[block + 1] <= mark.epoch) ++block;
        const dim3 g = visible.grid;
        fail_at("race between blocks", site, mark.site,
                "blocks run in any order: use atomics, or give each block its own output and add up in a second kernel",
                "the thread %s %s, which block (%zu, %zu, %zu) %s at {other}", now, what.text, block % g.x,
                block / g.x % g.y, block / (size_t(g.x) * g.y), wrote ? "wrote" : "read");
    }
    const bool same_warp = int(mark.thread) / WARP == actor.warp;
    fail_at("race", site, mark.site,
            mark.flags & ATOMIC || mode == Mode::atomic
                ? "let a __syncthreads() stand between the atomic accesses and the others"
                : shared && same_warp ? "put __syncwarp() or __syncthreads() between the two"
                                      : "put __syncthreads() between the two",
            "the thread %s %s, which thread (%u, %u, %u) %s at {other}, with no barrier in between", now, what.text,
            other.x, other.y, other.z, wrote ? "wrote" : "read");
}

}  // namespace

namespace {

// The bytes of shared memory that products in flight are reading: how many of them, and which one came last.
struct Held {
    uint16_t count;
    Site site;
};
std::vector<Held> held;  // one for each two bytes of the arena, once a product has been issued
size_t held_count = 0;
std::vector<uint32_t> fence_epochs, fence_times;  // of each thread's last fence_async_proxy()

bool fenced(const Mark& mark) {
    const uint32_t e = fence_epochs[mark.thread];
    return mark.epoch < e || (mark.epoch == e && mark.time < fence_times[mark.thread]);
}

void check_held(size_t offset, size_t bytes, Thread& actor, Site site, const void* address) {
    for (size_t i = offset / 2; i * 2 < offset + bytes; ++i) {
        if (i >= held.size() || !held[i].count) continue;
        self = &actor;
        fail_at("product in flight", site, held[i].site,
                "let wgmma_wait<N>() stand before the tile is written, and hand it back at a barrier",
                "the thread writes %s, which a product that was begun at {other} may still be reading", describe(address).text);
    }
}

}  // namespace

void begin_block_proxies() {
    if (held_count) held.clear();
    held_count = 0;
    fence_epochs.assign(threads.size(), 0);
    fence_times.assign(threads.size(), 0);
}

void hold(const void* address, int change, Site site) {
    const size_t i = shared_offset(address) / 2;
    if (held.size() <= i) held.resize(i + 1);
    held[i].count = uint16_t(held[i].count + change);
    if (change > 0) held[i].site = site;
    held_count = size_t(ptrdiff_t(held_count) + change);
}

void fence_async_proxy() {
    Thread& me = current();
    begin_clock(me);
    fence_epochs[size_t(me.number)] = epoch;
    fence_times[size_t(me.number)] = ++me.time;
}

struct Shadow {
    Cell* cells;
    size_t bytes, granule;  // bytes of memory for each cell: 4, until something smaller is touched
    int shift;              // granule = 1 << shift: a division here would cost as much as all the rest
    bool shared;
};

Shadow* new_shadow(size_t bytes, size_t granule, bool shared) {
    granule = granule >= 4 ? 4 : granule == 2 ? 2 : 1;
    // calloc takes memory from the system only for the cells that are touched
    Cell* cells = static_cast<Cell*>(calloc(bytes / granule + 1, sizeof(Cell)));
    if (!cells) fail_at("out of memory", 0, 0, "run without the check for races", "no memory to watch %zu bytes", bytes);
    return new Shadow{cells, bytes, granule, granule == 4 ? 2 : granule == 2 ? 1 : 0, shared};
}

void delete_shadow(Shadow* shadow) {
    if (!shadow) return;
    free(shadow->cells);
    delete shadow;
}

namespace {

void refine(Shadow& shadow, size_t granule) {
    Shadow* finer = new_shadow(shadow.bytes, granule, shadow.shared);
    for (size_t i = 0; i * granule < shadow.bytes; ++i) finer->cells[i] = shadow.cells[i * granule / shadow.granule];
    free(shadow.cells);
    shadow.cells = finer->cells;
    shadow.granule = granule;
    shadow.shift = finer->shift;
    delete finer;
}

}  // namespace

void touch(Shadow& shadow, size_t offset, size_t bytes, Mode mode, Thread& actor, Site site, const void* address) {
    if (const size_t ragged = (offset | bytes) & (shadow.granule - 1)) refine(shadow, ragged & 1 ? 1 : 2);
    begin_clock(actor);
    const Mark mark = {epoch, actor.time, site, uint16_t(actor.number), uint16_t(mode == Mode::atomic ? ATOMIC : 0)};
    const bool races = options.checks & RACES, reads = mode == Mode::read || mode == Mode::proxy_read;
    if (shadow.shared && held_count && !reads && mode != Mode::box_lands && mode != Mode::copy_lands)
        check_held(offset, bytes, actor, site, address);
    const size_t last = (offset + bytes - 1) >> shadow.shift;
    for (size_t i = offset >> shadow.shift; i <= last; ++i) {
        Cell& cell = shadow.cells[i];
        const Mark& wrote = cell.write;
        if (mode == Mode::copy_lands || mode == Mode::box_lands) {  // it was checked when it began
            if (mode == Mode::copy_lands) cell.write = mark;
            else cell.write.flags = BY_ASYNC_PROXY;
            continue;
        }
        if (wrote.flags & IN_FLIGHT && wrote.epoch >= block_epoch) {
            self = &actor;
            fail_at("asynchronous copy in flight", site, wrote.site,
                    wrote.flags & BY_ASYNC_PROXY
                        ? "wait first at the barrier that the copy was given: barrier_wait(barrier, parity)"
                        : "cp_async_commit() and cp_async_wait<N>() by the thread that copies, then __syncthreads()",
                    "the thread %s %s, to which thread (%u, %u, %u) is still copying, {other}",
                    reads ? "reads" : "writes", describe(address).text, index_of(wrote.thread).x,
                    index_of(wrote.thread).y, index_of(wrote.thread).z);
        }
        // The same thread has read here before, and nobody has met since: that was checked already.
        if (mode == Mode::read && (same_moment(cell.reads[0], mark) || same_moment(cell.reads[1], mark))) continue;
        const bool both_atomic = mode == Mode::atomic && wrote.flags & ATOMIC;
        if (races && wrote.epoch && !both_atomic && !ordered(wrote, actor, shadow.shared))
            fail_race(wrote, true, mode, actor, site, address, shadow.shared);
        if (reads || mode == Mode::atomic) {
            if (shadow.shared && wrote.epoch < block_epoch && options.checks & UNINITIALISED && !unwritten.actor)
                unwritten = {&actor, site, describe(address)};
        }
        if (mode == Mode::proxy_read) {
            if (races && wrote.epoch >= block_epoch && !(wrote.flags & BY_ASYNC_PROXY) && !fenced(wrote)) {
                self = &actor;
                fail_at("missing proxy fence", site, wrote.site,
                        "the writer calls fence_async_proxy() after its writes, before the barrier",
                        "wgmma and tma_store do not yet see %s, which thread (%u, %u, %u) wrote at {other}",
                        describe(address).text, index_of(wrote.thread).x, index_of(wrote.thread).y, index_of(wrote.thread).z);
            }
            continue;  // what overwrites it too early is found by hold()
        }
        if (mode == Mode::read) {
            Mark& first = cell.reads[0];
            if (first.thread == actor.number || first.epoch == 0 || ordered(first, actor, shadow.shared)) first = mark;
            else cell.reads[1] = mark;
            continue;
        }
        for (const Mark& read : cell.reads)
            if (races && read.epoch && !ordered(read, actor, shadow.shared)) fail_race(read, false, mode, actor, site, address, shadow.shared);
        cell.write = mark;
        if (mode == Mode::copy_begins) cell.write.flags |= IN_FLIGHT;
        if (mode == Mode::box_begins) cell.write.flags |= IN_FLIGHT | BY_ASYNC_PROXY;
    }
}

void begin_launch_clocks() {
    launch_epoch = ++epoch;
    first_epochs.clear();
    hand_overs.clear();
}

void begin_block_clocks() {
    block_epoch = ++epoch;
    first_epochs.push_back(epoch);
    earlier_blocks_seen = false;
    unwritten.actor = nullptr;
    for (Thread* t : threads) t->clock_epoch = 0, t->fenced = false;
}

void report_uninitialised() {
    if (!unwritten.actor) return;
    self = unwritten.actor;
    fail_at("uninitialised shared memory", unwritten.site, 0, "write it first, and let a barrier stand in between",
            "the thread reads %s, to which no thread of this block has written", unwritten.what.text);
}

void block_has_met() {
    report_uninitialised();
    ++epoch;
}

void have_met(Thread* const* those, int count) {
    std::vector<uint32_t> all(threads.size(), 0);
    for (int i = 0; i < count; ++i) {
        const std::vector<uint32_t>& known = clocks(*those[i]);
        for (size_t u = 0; u < all.size(); ++u) all[u] = all[u] > known[u] ? all[u] : known[u];
    }
    for (int i = 0; i < count; ++i) all[size_t(those[i]->number)] = those[i]->time;
    for (int i = 0; i < count; ++i) {
        those[i]->known = all;
        ++those[i]->time;
    }
}

void release_to(Knowledge& knowledge, Thread& giver) {
    const std::vector<uint32_t>& known = clocks(giver);
    if (knowledge.epoch != epoch) knowledge.known.assign(threads.size(), 0), knowledge.epoch = epoch;
    for (size_t u = 0; u < known.size(); ++u)
        if (known[u] > knowledge.known[u]) knowledge.known[u] = known[u];
    knowledge.known[size_t(giver.number)] = giver.time++;
}

void acquire_from(const Knowledge& knowledge, Thread& taker) {
    if (knowledge.epoch != epoch) return;  // handed over before the last __syncthreads: known by all
    std::vector<uint32_t>& known = clocks(taker);
    for (size_t u = 0; u < known.size(); ++u)
        if (knowledge.known[u] > known[u]) known[u] = knowledge.known[u];
}

// The pattern of "the last block adds up": every block writes, calls __threadfence(), then counts itself with an
// atomic. A block that counts itself at a place where earlier blocks did so knows of their work.
void atomic_between_blocks(const void* address, Thread& actor) {
    for (const HandOver& h : hand_overs)
        if (h.address == address && h.block != block_count) earlier_blocks_seen = true;
    if (actor.fenced) hand_overs.push_back({address, block_count});
}

void fence() { current().fenced = true; }

}  // namespace emulator
