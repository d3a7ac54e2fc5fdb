// Records what chosen threads do: every access to shared and global memory, every barrier.
#include "state.h"

namespace emulator {

std::vector<Event> events;

namespace {

// The value of a write is in memory only after the access: it is fetched when its thread makes the next step.
struct Pending {
    size_t event;
    const char* address;
};
std::vector<Pending> pending;

void fetch(unsigned thread) {
    for (size_t i = 0; i < pending.size(); ++i)
        if (events[pending[i].event].thread == thread) {
            Event& e = events[pending[i].event];
            memcpy(e.value, pending[i].address, e.bytes < sizeof e.value ? e.bytes : sizeof e.value);
            pending[i] = pending.back();
            pending.pop_back();
            --i;
        }
}

Event* next_event(Thread& actor, uint8_t kind, Site site) {
    ++actor.steps;
    if (!options.traced || !options.traced[actor.number]) return nullptr;
    const dim3 b = visible.block_index, g = visible.grid;
    const uint32_t block = b.x + g.x * (b.y + g.y * b.z);
    if (options.traced_block >= 0 && block != options.traced_block) return nullptr;
    fetch(unsigned(actor.number));
    if (events.size() >= options.event_limit)
        fail_at("trace too long", site, 0, "trace fewer threads, one block, or a smaller problem",
                "more than %zu steps", options.event_limit);
    Event e = {};
    e.block = block;
    e.thread = unsigned(actor.number);
    e.step = actor.steps;
    e.site = site;
    e.kind = kind;
    events.push_back(e);
    return &events.back();
}

}  // namespace

void record(Thread& actor, Mode mode, bool global, int variable, size_t offset, size_t bytes, Site site) {
    Event* e = next_event(actor, uint8_t(mode), site);
    if (!e) return;
    e->space = global;
    e->bytes = uint16_t(bytes);
    e->variable = variable;
    e->offset = offset;
    if (!global) {
        const Variable& v = variables[size_t(variable)];
        strncpy(e->name, v.name, sizeof e->name - 1);
        e->code = v.code;
        e->rank = uint8_t(v.rank);
        for (int r = 0; r < 4; ++r) e->extents[r] = v.extents[r];
    }
    const char* address = global ? options.arrays[variable].begin + offset : arena + variables[size_t(variable)].offset + offset;
    if (mode == Mode::read || mode == Mode::proxy_read || mode == Mode::copy_lands || mode == Mode::box_lands)
        memcpy(e->value, address, bytes < sizeof e->value ? bytes : sizeof e->value);
    else if (mode == Mode::write || mode == Mode::atomic)
        pending.push_back({events.size() - 1, address});
}

void record_barrier(Thread& actor, bool of_block, Site site) {
    if (Event* e = next_event(actor, of_block ? 8 : 9, site)) e->variable = -1;
}

void finish_trace() {
    for (Thread* t : threads) fetch(unsigned(t->number));
    pending.clear();
}

}  // namespace emulator

// How many events were recorded; copies them to `to` unless it is null.
extern "C" __attribute__((visibility("default"))) size_t minilm_events(emulator::Event* to) {
    if (to) memcpy(to, emulator::events.data(), emulator::events.size() * sizeof(emulator::Event));
    return emulator::events.size();
}

extern "C" __attribute__((visibility("default"))) void minilm_forget_events() { emulator::events.clear(); }
