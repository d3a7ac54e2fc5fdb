// Hopper's asynchronous machinery: barriers that count arrivals and bytes, copies of boxes, products of a warpgroup.
#include "include/hopper.h"

#include <stdio.h>

#include "include/tensor_cores.h"
#include "state.h"

namespace emulator {

namespace {

constexpr uint32_t MAGIC = 0x6d6c6d61;  // tensor_map.py writes it

// ---------------------------------------------------------------------------------------------------- barriers

struct BoxCopy {
    char* shared;
    BoxMap map;
    int at[3];
    Thread* issuer;
    Site site;
};

struct Mbarrier {
    unsigned offset;  // in the arena
    int arrivals;     // that a phase takes
    int missing;      // of this phase
    long long bytes;  // that this phase still waits for
    unsigned phase;
    Knowledge gathering, handed_over;
    std::vector<BoxCopy> copies;
};
std::vector<Mbarrier> mbarriers;

struct NamedBarrier {
    int arrived;
    unsigned generation;
    Knowledge gathering, handed_over;
};
NamedBarrier named[16];

Mbarrier* find(unsigned offset) {
    for (Mbarrier& b : mbarriers)
        if (b.offset == offset) return &b;
    return nullptr;
}

Mbarrier& barrier_at(const void* address, Place place) {
    if (Mbarrier* b = find(shared_offset(address))) return *b;
    fail("barrier not initialised", place, "barrier_init and barrier_init_done by one thread, then __syncthreads()",
         "%s is used as a barrier", describe(address).text);
}

void end_phase(Mbarrier& b) {
    if (b.missing || b.bytes) return;
    ++b.phase;
    b.missing = b.arrivals;
    b.handed_over = b.gathering;
    b.gathering = Knowledge();
}

// ------------------------------------------------------------------------------------------------------ copies

// Where a byte of a tile stands when its lines are swizzled: bits 4, 5, 6 of the address are mixed with 7, 8, 9 (for
// lines of 128 bytes; with one and two bits less for 64 and 32). `swizzle` as in a matrix descriptor.
size_t swizzled(size_t offset, int swizzle) {
    const int bits = swizzle == 1 ? 3 : swizzle == 2 ? 2 : swizzle == 3 ? 1 : 0;
    return offset ^ ((offset >> 7 & ((size_t(1) << bits) - 1)) << 4);
}

// Calls visit(address in shared memory, address in the tensor, or null where the box leaves it) for each element.
template <class Visit> void walk(const BoxMap& map, const char* shared, const int* at, Visit visit) {
    size_t offset = size_t(shared - arena);
    for (long long z = 0; z < map.box[2]; ++z)
        for (long long y = 0; y < map.box[1]; ++y)
            for (long long x = 0; x < map.box[0]; ++x, offset += map.element_bytes) {
                const long long i[3] = {at[0] + x, at[1] + y, at[2] + z};
                bool inside = true;
                char* tensor = reinterpret_cast<char*>(map.address);
                for (int axis = 0; axis < 3; ++axis) {
                    inside &= i[axis] >= 0 && i[axis] < (long long)map.size[axis];
                    tensor += i[axis] * (long long)map.step[axis];
                }
                visit(arena + swizzled(offset, int(map.swizzle)), inside ? tensor : nullptr);
            }
}

void check_map(const BoxMap& map, const void* shared, Place place) {
    if (map.magic != MAGIC)
        fail("no tensor map", place, "runtime.tensor_map makes one; the parameter is const __grid_constant__ TensorMap",
             "the argument is something else");
    const size_t alignment = map.swizzle ? 1024 : 128;
    if (shared_offset(shared) % alignment)
        fail("misaligned access", place, "DYNAMIC_SHARED begins at a multiple of 1024 bytes: let each tile do so as well",
             "a box in shared memory begins %zu bytes past a multiple of %zu", shared_offset(shared) % alignment, alignment);
}

void land(Mbarrier& b) {
    Thread* const waiting = self;
    for (BoxCopy& copy : b.copies) {
        const size_t n = copy.map.element_bytes;
        walk(copy.map, copy.shared, copy.at, [&](char* to, const char* from) {
            if (from) memcpy(to, from, n);
            else memset(to, 0, n);
            if (options.checks) access(*copy.issuer, to, n, Mode::box_lands, copy.site);
        });
        b.bytes -= (long long)(n * copy.map.box[0] * copy.map.box[1] * copy.map.box[2]);
    }
    b.copies.clear();
    self = waiting;
    end_phase(b);
}

struct BarrierWait {
    unsigned offset;
    int parity;
};

// ---------------------------------------------------------------------------------------------------- products

// Where element (row, k) of an operand stands; `row` counts m or n. Units are 16 bytes, that is 8 elements; lines are
// as long as the swizzle. (PTX manual, "Matrix descriptor" and "Strides"; the same in CUTLASS' comments on
// make_gmma_desc.)
const char* element(uint64_t descriptor, bool along_rows, size_t row, size_t k) {
    const size_t start = (descriptor & 0x3fff) << 4, leading = (descriptor >> 16 & 0x3fff) << 4;
    const size_t stride = (descriptor >> 32 & 0x3fff) << 4;
    const int swizzle = int(descriptor >> 62);
    const size_t line = swizzle == 1 ? 128 : swizzle == 2 ? 64 : swizzle == 3 ? 32 : 16;
    size_t offset = start;
    if (!along_rows)
        offset += row % 8 * line + row / 8 * stride + k / 8 * (swizzle ? 16 : leading) + k % 8 * 2;
    else if (swizzle)
        offset += row / (line / 2) * leading + row % (line / 2) * 2 + k % 8 * line + k / 8 * stride;
    else
        offset += row / 8 * stride + row % 8 * 2 + k % 8 * 16 + k / 8 * leading;
    return arena + swizzled(offset, swizzle);
}

// Calls visit(address, row, k) for the part of A, or all of B, that the warp's share of a product takes.
template <class Visit> void walk_a(const Product& p, Visit visit) {
    const Wgmma& o = p.lanes[0];
    if (o.a_in_registers) return;
    for (size_t r = 0; r < 16; ++r)
        for (size_t k = 0; k < 16; ++k) visit(element(o.a, o.a_along_rows, 16 * size_t(p.warp % 4) + r, k), r, k);
}
template <class Visit> void walk_b(const Product& p, Visit visit) {
    const Wgmma& o = p.lanes[0];
    for (size_t r = 0; r < size_t(o.columns); ++r)
        for (size_t k = 0; k < 16; ++k) visit(element(o.b, o.b_along_rows, r, k), r, k);
}

void check_operands(const Product& p) {
    const Wgmma& first = p.lanes[0];
    for (int lane = 1; lane < WARP; ++lane)
        if (p.lanes[lane].a != first.a || p.lanes[lane].b != first.b || p.lanes[lane].add != first.add)
            fail("different operands", first.place, "descriptors have to be the same in all threads of the warpgroup",
                 "lane %d passes other ones than lane 0", lane);
    if (threads.size() % (4 * WARP))
        fail("incomplete warpgroup", first.place, "launch a multiple of 128 threads", "wgmma is an operation of 128 threads");
    if (!options.checks) return;
    const Site site = site_of(first.place);
    const auto look = [&](const char* address, size_t, size_t) { access(current(), address, 2, Mode::proxy_read, site); };
    walk_a(p, look);
    walk_b(p, look);
}

// While a product is in flight nobody may write its operands.
void hold_operands(const Product& p, int change) {
    const Site site = site_of(p.lanes[0].place);
    const auto keep = [&](const char* address, size_t, size_t) { hold(address, change, site); };
    walk_a(p, keep);
    walk_b(p, keep);
}

// The rows 16w … 16w + 15, which are the share of warp w of the warpgroup.
void multiply(const Product& p) {
    const Wgmma& first = p.lanes[0];
    static std::vector<float> b;
    float a[16][16];
    b.resize(size_t(first.columns) * 16);
    const auto number = [&](const char* address) {
        uint16_t bits;
        memcpy(&bits, address, 2);
        return first.value(bits);
    };
    if (first.a_in_registers)
        for (int lane = 0; lane < WARP; ++lane)
            for (int i = 0; i < 8; ++i)  // register i / 2: rows g and g + 8 in turn, then the next 8 columns
                a[lane / 4 + 8 * (i / 2 % 2)][2 * (lane % 4) + i % 2 + 8 * (i / 4)] =
                    first.value(uint16_t(p.lanes[lane].registers[i / 2] >> 16 * (i % 2)));
    walk_a(p, [&](const char* address, size_t r, size_t k) { a[r][k] = number(address); });
    walk_b(p, [&](const char* address, size_t r, size_t k) { b[16 * r + k] = number(address); });
    for (int lane = 0; lane < WARP; ++lane)
        for (int i = 0; i < first.columns / 2; ++i) {
            const int row = lane / 4 + 8 * (i % 4 / 2), column = 8 * (i / 4) + 2 * (lane % 4) + i % 2;
            float sum = first.add ? p.lanes[lane].d[i] : 0.0f;
            for (int k = 0; k < 16; ++k) sum += a[row][k] * b[size_t(16 * column + k)];
            p.lanes[lane].d[i] = sum;
        }
}

std::vector<std::vector<Product>>& products_of(int warp) { return lane_of(warp, 0)->products; }

}  // namespace

void begin_block_hopper() {
    mbarriers.clear();
    for (NamedBarrier& n : named) n = NamedBarrier();
    for (Thread* t : threads) t->products.assign(1, {});
    begin_block_proxies();
}

void barrier_init(void* barrier, int arrivals, Place place) {
    const uint64_t word = 0;
    store(self->lane, barrier, &word, sizeof word, 8, place);
    if (find(shared_offset(barrier)))
        fail("barrier initialised twice", place, "one thread initialises each barrier, once", "%s is a barrier already",
             describe(barrier).text);
    mbarriers.push_back({shared_offset(barrier), arrivals, arrivals, 0, 0, {}, {}, {}});
}

void barrier_arrive(void* barrier, int bytes, Place place) {
    Mbarrier& b = barrier_at(barrier, place);
    if (b.missing == 0)
        fail("too many arrivals", place, "barrier_init is told how many arrivals a phase takes",
             "%s takes %d arrivals; they have come, and the phase still waits for %lld bytes", describe(barrier).text,
             b.arrivals, b.bytes);
    b.bytes += bytes;
    --b.missing;
    release_to(b.gathering, current());
    end_phase(b);
}

void barrier_wait(void* barrier, int parity, Place place) {
    barrier_at(barrier, place);
    BarrierWait wait = {shared_offset(barrier), parity};
    wait_until("barrier_wait", [](void* argument) {
        const BarrierWait& wait = *static_cast<BarrierWait*>(argument);
        Mbarrier& b = *find(wait.offset);
        if (int(b.phase & 1) == wait.parity) land(b);  // somebody needs the copies: the latest moment for them
        return int(b.phase & 1) != wait.parity;
    }, &wait, place);
    acquire_from(find(wait.offset)->handed_over, current());
}

void describe_wait(const Thread& t, char* text, size_t size) {
    text[0] = 0;
    if (strcmp(t.waits_for, "barrier_wait")) return;
    const BarrierWait& wait = *static_cast<BarrierWait*>(t.argument);
    if (const Mbarrier* b = find(wait.offset))
        snprintf(text, size, " of %s with parity %d, whose phase still misses %d arrivals and %lld bytes",
                 describe(arena + b->offset).text, wait.parity, b->missing, b->bytes);
}

void named_barrier(int id, int count, bool wait, Place place) {
    if (id < 0 || id > 15 || count % WARP || count < WARP)
        fail("wrong barrier", place, "its number is 0 to 15, its threads are a multiple of 32", "barrier %d for %d threads", id,
             count);
    NamedBarrier& b = named[id];
    release_to(b.gathering, current());
    struct Wait {
        int id;
        unsigned generation;
    } mine = {id, b.generation};
    if (++b.arrived == count) {
        b.arrived = 0;
        ++b.generation;
        b.handed_over = b.gathering;
        b.gathering = Knowledge();
    }
    if (!wait) return;
    wait_until("named_barrier_sync", [](void* argument) {
        const Wait& w = *static_cast<Wait*>(argument);
        return named[w.id].generation != w.generation;
    }, &mine, place);
    acquire_from(b.handed_over, current());
}

void tma_load(void* to, const void* box_map, void* barrier, int x, int y, int z, Place place) {
    const BoxMap& map = *static_cast<const BoxMap*>(box_map);
    check_map(map, to, place);
    Mbarrier& b = barrier_at(barrier, place);
    const BoxCopy copy = {static_cast<char*>(to), map, {x, y, z}, &current(), site_of(place)};
    if (options.checks)
        walk(map, copy.shared, copy.at, [&](char* shared, const char* tensor) {
            if (tensor) access(current(), tensor, map.element_bytes, Mode::read, copy.site);
            access(current(), shared, map.element_bytes, Mode::box_begins, copy.site);
        });
    release_to(b.gathering, current());  // who waits at the barrier knows of the copy
    b.copies.push_back(copy);
}

void tma_store(const void* box_map, const void* from, int x, int y, int z, Place place) {
    const BoxMap& map = *static_cast<const BoxMap*>(box_map);
    check_map(map, from, place);
    const int at[3] = {x, y, z};
    const Site site = site_of(place);
    walk(map, static_cast<const char*>(from), at, [&](char* shared, char* tensor) {
        if (options.checks) access(current(), shared, map.element_bytes, Mode::proxy_read, site);
        if (!tensor) return;
        if (options.checks) access(current(), tensor, map.element_bytes, Mode::write, site);
        memcpy(tensor, shared, map.element_bytes);
    });
}

void wgmma_issue(Wgmma& operands) {
    warp_together("wgmma", 0xffffffffu, &operands, [](void** lanes, unsigned) {
        require_whole_warp("wgmma", lanes, static_cast<Wgmma*>(lanes[__builtin_ctz(live_lanes())])->place);
        Product p;
        p.warp = current().warp;
        for (int lane = 0; lane < WARP; ++lane) p.lanes[lane] = *static_cast<Wgmma*>(lanes[lane]);
        check_operands(p);  // they have to be ready now, and to stay as they are until the wait
        hold_operands(p, +1);
        products_of(p.warp).back().push_back(p);
    }, operands.place);
}

void wgmma_fence(Place place) { warp_together("wgmma_fence", 0xffffffffu, &place, [](void**, unsigned) {}, place); }

void wgmma_commit(Place place) {
    warp_together("wgmma_commit", 0xffffffffu, &place, [](void**, unsigned) {
        products_of(current().warp).emplace_back();
    }, place);
}

void wgmma_wait(int groups, Place place) {
    warp_together("wgmma_wait", 0xffffffffu, &groups, [](void** lanes, unsigned) {
        const int in_flight = *static_cast<int*>(lanes[__builtin_ctz(live_lanes())]);
        auto& pending = products_of(current().warp);
        while (int(pending.size()) - 1 > in_flight) {
            for (const Product& p : pending.front()) {
                hold_operands(p, -1);
                multiply(p);
            }
            pending.erase(pending.begin());
        }
    }, place);
}

}  // namespace emulator
