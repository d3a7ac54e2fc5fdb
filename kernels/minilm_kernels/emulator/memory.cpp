// Which memory a thread may touch: the block's shared arena, the arrays given to the kernel, its own local variables.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#include "state.h"

namespace emulator {

std::vector<Variable> variables;
char* arena = nullptr;
size_t arena_used = 0;

namespace {

constexpr size_t ARENA = (228 + 64) << 10;  // what a Hopper multiprocessor has, and room for the guards
constexpr size_t GUARD = 128;               // bytes between two shared arrays that belong to neither
constexpr size_t STATIC_LIMIT = 48 << 10;   // for __shared__ declarations together
constexpr size_t STACK_LEFT = 64 << 10;     // a thread that comes this close to its stack's end is stopped

size_t poisoned = 0;  // the arena's bytes up to here are as some block left them
Shadow* shared_shadow = nullptr;
std::vector<Shadow*> array_shadows;
size_t last_array = 0;
std::vector<Place> places;
const char* image = nullptr;  // where the library with the kernel is loaded

const char* verb(Mode mode) {
    return mode == Mode::read || mode == Mode::proxy_read ? "reads" : mode == Mode::atomic ? "changes"
           : mode == Mode::write ? "writes" : "copies to";
}

[[noreturn]] void fail_access(Thread& actor, const char* address, size_t bytes, Mode mode, Site site) {
    self = &actor;
    if (reinterpret_cast<uintptr_t>(address) < 4096)
        fail_at("null pointer", site, 0, "was None given for this array?", "the thread %s %zu bytes at address %zu",
                verb(mode), bytes, size_t(reinterpret_cast<uintptr_t>(address)));
    for (Thread* t : threads)
        if (t != &actor && size_t(address - t->fiber.stack()) < Fiber::STACK)
            fail_at("foreign local variable", site, 0, "threads share __shared__ and global memory, never local variables",
                    "the thread %s a local variable of thread (%u, %u, %u)", verb(mode), t->index.x, t->index.y, t->index.z);
    const Array* nearest = nullptr;
    size_t distance = 0;
    for (size_t i = 0; i < options.array_count; ++i) {
        const Array& a = options.arrays[i];
        if (!a.begin) continue;
        const size_t d = address < a.begin ? size_t(a.begin - address) : size_t(address + bytes - a.begin - a.bytes);
        if (!nearest || d < distance) nearest = &a, distance = d;
    }
    const char* advice = "compare the index with the array's size before the access";
    if (!nearest) fail_at("access out of bounds", site, 0, advice, "the kernel was given no array at all");
    const long long index = (address - nearest->begin) / (long long)nearest->element_bytes;
    fail_at("access out of bounds", site, 0, advice, "the thread %s %s[%lld], and %s has %zu elements", verb(mode),
            nearest->name, index - (address < nearest->begin && (address - nearest->begin) % (long long)nearest->element_bytes != 0),
            nearest->name, nearest->bytes / nearest->element_bytes);
}

[[noreturn]] void fail_shared(Thread& actor, size_t offset, size_t bytes, Mode mode, Site site) {
    self = &actor;
    const Variable* nearest = nullptr;
    size_t distance = 0;
    for (const Variable& v : variables) {
        const size_t d = offset < v.offset ? v.offset - offset : offset + bytes - v.offset - v.bytes;
        if (!nearest || d < distance) nearest = &v, distance = d;
    }
    if (!nearest)
        fail_at("shared memory out of bounds", site, 0, "give the launch its shared_mem bytes",
                "the thread %s shared memory, and the block has none", verb(mode));
    if (!nearest->bytes)
        fail_at("shared memory out of bounds", site, 0, "give the launch its shared_mem bytes",
                "the thread %s %s, and the launch asked for no dynamic shared memory", verb(mode), nearest->name);
    fail_at("shared memory out of bounds", site, 0, "compare the index with the array's extent",
            "the thread %s %zu bytes %s shared array %s, which has %zu elements of %zu bytes", verb(mode), bytes,
            offset < nearest->offset ? "before the beginning of" : "beyond the end of", nearest->name,
            nearest->bytes / nearest->element_bytes, nearest->element_bytes);
}

int variable_at(size_t offset, size_t bytes) {
    static size_t last = 0;
    if (last < variables.size() && offset - variables[last].offset < variables[last].bytes &&
        offset + bytes <= variables[last].offset + variables[last].bytes)
        return int(last);
    for (size_t i = 0; i < variables.size(); ++i)
        if (offset >= variables[i].offset && offset + bytes <= variables[i].offset + variables[i].bytes) {
            last = i;
            return int(i);
        }
    return -1;
}

bool in_image(const void* address) {  // constant tables and strings of the kernel's own library
    static uintptr_t known = ~uintptr_t(0);
    const uintptr_t page = reinterpret_cast<uintptr_t>(address) >> 12;
    if (page == known) return true;
    Dl_info info;
    if (!dladdr(address, &info) || info.dli_fbase != image) return false;
    known = page;
    return true;
}

void misaligned(Thread& actor, const void* address, size_t alignment, Place place) {
    self = &actor;
    fail("misaligned access", place, "the address must be a multiple of the size that is moved at once",
         "an instruction that wants its address aligned to %zu bytes is given one that is %zu bytes past such a place, in %s",
         alignment, size_t(reinterpret_cast<uintptr_t>(address) % alignment), describe(address).text);
}

}  // namespace

Site site_of(Place place) {
    for (size_t i = 0; i < places.size(); ++i)
        if (places[i].file == place.file && places[i].line == place.line) return Site(i) | 0x80000000u;
    places.push_back(place);
    return Site(places.size() - 1) | 0x80000000u;
}

Site site_of(const void* program_counter) { return Site(static_cast<const char*>(program_counter) - image); }

void begin_launch_memory() {
    if (!arena) {
        char* storage = static_cast<char*>(malloc(ARENA + 1024));
        if (!storage) fail_at("out of memory", 0, 0, "free some memory", "no memory for the shared memory of a block");
        arena = storage + (1024 - reinterpret_cast<uintptr_t>(storage) % 1024) % 1024;
        poisoned = ARENA;
        shared_shadow = new_shadow(ARENA, 4, true);
        Dl_info info;
        if (dladdr(reinterpret_cast<void*>(&begin_launch_memory), &info)) image = static_cast<const char*>(info.dli_fbase);
    }
    if (dynamic_bytes > options.shared_limit)
        fail_at("too much shared memory", 0, 0, "use smaller tiles", "the launch asks for %zu bytes, a block may have %zu",
                dynamic_bytes, options.shared_limit);
    for (Shadow* shadow : array_shadows) delete_shadow(shadow);
    array_shadows.clear();
    for (size_t i = 0; i < options.array_count; ++i)
        array_shadows.push_back(options.checks & RACES && options.arrays[i].begin
                                    ? new_shadow(options.arrays[i].bytes, options.arrays[i].element_bytes, false) : nullptr);
    last_array = 0;
    arena_used = ARENA;
}

void begin_block_memory() {
    memset(arena, 0xFF, poisoned);  // stale values would hide a missing write; 0xFF bytes are NaN in every float type
    variables.clear();
    arena_used = (dynamic_bytes + GUARD - 1) / GUARD * GUARD + GUARD;
    poisoned = arena_used;
}

void* shared_address(SharedVariable& v) {
    if (v.block == block_count) return v.address;
    const size_t begin = (arena_used + v.alignment - 1) / v.alignment * v.alignment;
    size_t used = v.bytes;
    for (const Variable& other : variables) used += other.offset >= dynamic_bytes ? other.bytes : 0;
    if (used > STATIC_LIMIT)
        fail("too much shared memory", v.place, "take it as dynamic shared memory: DYNAMIC_SHARED and shared_mem=",
             "__shared__ arrays may take %zu bytes in all, with %s they take %zu", STATIC_LIMIT, v.name, used);
    if (used + dynamic_bytes > options.shared_limit)
        fail("too much shared memory", v.place, "use smaller tiles", "the block takes %zu bytes, and may have %zu",
             used + dynamic_bytes, options.shared_limit);
    Variable made = {v.name, v.code, begin, v.bytes, v.element_bytes, v.rank, {}};
    memcpy(made.extents, v.extents, sizeof made.extents);
    variables.push_back(made);
    arena_used = poisoned = begin + v.bytes + GUARD;
    v.address = arena + begin;
    v.block = block_count;
    return v.address;
}

void* dynamic_shared(const char* name, char code, size_t element_bytes, Place) {
    for (const Variable& v : variables)
        if (v.offset == 0 && !strcmp(v.name, name)) return arena;
    variables.push_back({name, code, 0, dynamic_bytes, element_bytes, 1,
                         {unsigned(dynamic_bytes / element_bytes)}});
    return arena;
}

unsigned shared_offset(const void* address) { return unsigned(static_cast<const char*>(address) - arena); }

void access(Thread& actor, const void* where, size_t bytes, Mode mode, Site site) {
    const char* address = static_cast<const char*>(where);
    if (size_t(address - reinterpret_cast<const char*>(&visible)) < sizeof visible) return;
    const size_t offset = size_t(address - arena);
    if (offset < ARENA) {
        const int variable = variable_at(offset, bytes);
        if (variable < 0) fail_shared(actor, offset, bytes, mode, site);
        if (options.checks & (RACES | UNINITIALISED)) touch(*shared_shadow, offset, bytes, mode, actor, site, address);
        if (options.traced)
            record(actor, mode, false, variable, offset - variables[size_t(variable)].offset, bytes, site);
        return;
    }
    const size_t depth = size_t(address - actor.fiber.stack());
    if (depth < Fiber::STACK) {
        if (depth < STACK_LEFT)
            self = &actor, fail_at("stack overflow", site, 0, "use fewer or smaller local arrays, and no recursion",
                                   "the local variables of the thread take more than %zu KB", (Fiber::STACK - STACK_LEFT) >> 10);
        return;
    }
    const auto holds = [&](size_t i) {
        const size_t within = size_t(address - options.arrays[i].begin);
        return within < options.arrays[i].bytes && within + bytes <= options.arrays[i].bytes;
    };
    size_t i = last_array;
    if (i >= options.array_count || !holds(i))
        for (i = 0; i < options.array_count && !holds(i);) ++i;
    if (i < options.array_count) {
        const Array& array = options.arrays[i];
        last_array = i;
        if (!array.writable && mode != Mode::read && mode != Mode::proxy_read)
            self = &actor, fail_at("write to read-only memory", site, 0, "is this the output array?",
                                   "the thread %s %s, which is read-only in NumPy", verb(mode), array.name);
        if (array_shadows[i]) touch(*array_shadows[i], size_t(address - array.begin), bytes, mode, actor, site, address);
        if (options.traced) record(actor, mode, true, int(i), size_t(address - array.begin), bytes, site);
        return;
    }
    if (mode == Mode::read && in_image(address)) return;
    if (options.checks & BOUNDS) fail_access(actor, address, bytes, mode, site);
}

Described describe(const void* where) {
    Described d;
    const char* address = static_cast<const char*>(where);
    const size_t offset = size_t(address - arena);
    if (offset < ARENA) {
        const int i = variable_at(offset, 1);
        if (i < 0) {
            snprintf(d.text, sizeof d.text, "shared memory");
            return d;
        }
        const Variable& v = variables[size_t(i)];
        size_t element = (offset - v.offset) / v.element_bytes;
        int length = snprintf(d.text, sizeof d.text, "shared %s", v.name);
        size_t inner = 1;
        for (int r = 1; r < v.rank; ++r) inner *= v.extents[r];
        for (int r = 0; r < v.rank && length < int(sizeof d.text) - 24; ++r) {
            length += snprintf(d.text + length, sizeof d.text - size_t(length), "[%zu]", element / inner);
            element %= inner;
            if (r + 1 < v.rank) inner /= v.extents[r + 1];
        }
        return d;
    }
    for (size_t i = 0; i < options.array_count; ++i) {
        const Array& a = options.arrays[i];
        if (size_t(address - a.begin) < a.bytes) {
            snprintf(d.text, sizeof d.text, "%s[%zu]", a.name, size_t(address - a.begin) / a.element_bytes);
            return d;
        }
    }
    snprintf(d.text, sizeof d.text, "memory");
    return d;
}

// ------------------------------------------------------------------------------------ instructions made of several

namespace {

void check(int lane, const void* address, size_t bytes, size_t alignment, Mode mode, Place place) {
    Thread& actor = *lane_of(self->warp, lane);
    if (reinterpret_cast<uintptr_t>(address) % alignment) misaligned(actor, address, alignment, place);
    if (options.checks) access(actor, address, bytes, mode, site_of(place));
}

}  // namespace

void load(int lane, void* to, const void* from, size_t bytes, size_t alignment, Place place) {
    check(lane, from, bytes, alignment, Mode::read, place);
    memcpy(to, from, bytes);
}

void store(int lane, void* to, const void* from, size_t bytes, size_t alignment, Place place) {
    check(lane, to, bytes, alignment, Mode::write, place);
    memcpy(to, from, bytes);
}

void begin_atomic(void* address, size_t bytes, Place place) {
    if (options.order == LOCKSTEP) give_way();
    check(self->lane, address, bytes, bytes, Mode::atomic, place);
    if (size_t(static_cast<char*>(address) - arena) >= ARENA) atomic_between_blocks(address, current());
}

void copy_async(void* to, const void* from, int bytes, int source_bytes, Place place) {
    if (size_t(static_cast<char*>(to) - arena) >= ARENA)
        fail("wrong kind of memory", place, "cp_async copies from global to shared memory", "the target is not shared memory");
    if (source_bytes > 0) check(self->lane, from, size_t(source_bytes), size_t(bytes), Mode::read, place);
    check(self->lane, to, size_t(bytes), size_t(bytes), Mode::copy_begins, place);
    current().copies.back().push_back({to, from, bytes, source_bytes, site_of(place)});
}

void commit_copies() { current().copies.emplace_back(); }

void wait_for_copies(int in_flight) {
    Thread& me = current();
    while (int(me.copies.size()) - 1 > in_flight) {
        for (const AsyncCopy& copy : me.copies.front()) {
            memcpy(copy.to, copy.from, size_t(copy.source_bytes));
            memset(static_cast<char*>(copy.to) + copy.source_bytes, 0, size_t(copy.bytes - copy.source_bytes));
            if (options.checks) access(me, copy.to, size_t(copy.bytes), Mode::copy_lands, copy.site);
        }
        me.copies.erase(me.copies.begin());
    }
}

void check_wmma(const void* address, size_t element_bytes, unsigned ld, Place place) {
    if (reinterpret_cast<uintptr_t>(address) % 32 || ld * element_bytes % 16)
        fail("misaligned access", place, "wmma wants its address aligned to 32 bytes, the leading dimension to 16",
             "a wmma matrix with leading dimension %u starts %d bytes past a multiple of 32, in %s", ld,
             int(reinterpret_cast<uintptr_t>(address) % 32), describe(address).text);
}

}  // namespace emulator

// The text of a place, for module.py: "file:line", or "" for one that has to be looked up in the debug information.
extern "C" __attribute__((visibility("default"))) void minilm_place(uint32_t site, char* text, size_t size) {
    using namespace emulator;
    text[0] = 0;
    const size_t i = site & 0x7fffffffu;
    if (site >> 31 && i < places.size()) snprintf(text, size, "%s:%d", places[i].file, places[i].line);
}
