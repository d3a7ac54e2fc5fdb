// What the compiler calls in an instrumented kernel.
//
// With -fsanitize=thread the compiler puts a call in front of every load and store that another thread could see. The
// calls are meant for ThreadSanitizer; here we answer them ourselves, and so see each access of the emulated kernel
// with its address, its size and the instruction it stands for. With -fsanitize=alignment,bounds,… it calls the
// handlers of UndefinedBehaviorSanitizer where a check fails, and tells the line.
#include <stdio.h>

#include "state.h"

#define EXPORT extern "C" __attribute__((visibility("hidden"), used))

namespace emulator {
namespace {

inline void see(const void* address, size_t bytes, Mode mode, const void* program_counter) {
    if (!in_kernel || in_emulator) return;
    if (options.order == LOCKSTEP && size_t(static_cast<const char*>(address) - current().fiber.stack()) >= Fiber::STACK)
        give_way();
    watch_the_time();
    if (options.checks || options.traced)
        access(current(), address, bytes, mode, site_of(static_cast<const char*>(program_counter) - 1));
}

}  // namespace
}  // namespace emulator

using emulator::Mode;

#define SEE(name, bytes, mode) \
    EXPORT void __tsan_##name(void* p) { emulator::see(p, bytes, mode, __builtin_return_address(0)); }
#define SEE_SIZES(n)                          \
    SEE(read##n, n, Mode::read)               \
    SEE(write##n, n, Mode::write)             \
    SEE(volatile_read##n, n, Mode::read)      \
    SEE(volatile_write##n, n, Mode::write)    \
    SEE(unaligned_read##n, n, Mode::read)     \
    SEE(unaligned_write##n, n, Mode::write)   \
    SEE(unaligned_volatile_read##n, n, Mode::read) \
    SEE(unaligned_volatile_write##n, n, Mode::write)
SEE_SIZES(1)
SEE_SIZES(2)
SEE_SIZES(4)
SEE_SIZES(8)
SEE_SIZES(16)

EXPORT void __tsan_read_range(void* p, size_t n) { emulator::see(p, n, Mode::read, __builtin_return_address(0)); }
EXPORT void __tsan_write_range(void* p, size_t n) { emulator::see(p, n, Mode::write, __builtin_return_address(0)); }
EXPORT void* __tsan_memcpy(void* to, const void* from, size_t n) {
    emulator::see(from, n, Mode::read, __builtin_return_address(0));
    emulator::see(to, n, Mode::write, __builtin_return_address(0));
    return memcpy(to, from, n);
}
EXPORT void* __tsan_memmove(void* to, const void* from, size_t n) {
    emulator::see(from, n, Mode::read, __builtin_return_address(0));
    emulator::see(to, n, Mode::write, __builtin_return_address(0));
    return memmove(to, from, n);
}
EXPORT void* __tsan_memset(void* to, int value, size_t n) {
    emulator::see(to, n, Mode::write, __builtin_return_address(0));
    return memset(to, value, n);
}
EXPORT void __tsan_init() {}
EXPORT void __tsan_func_exit() {}
EXPORT void __tsan_vptr_update(void**, void*) {}
EXPORT void __tsan_vptr_read(void**) {}
EXPORT void __tsan_func_entry(void*) {
    if (!emulator::in_kernel) return;
    const char local = 0;  // its address is where the stack has come to
    emulator::access(emulator::current(), &local, 1, Mode::write,
                     emulator::site_of(static_cast<const char*>(__builtin_return_address(0)) - 1));
}

namespace {

struct SourceLocation {
    const char* file;
    uint32_t line, column;
};
struct TypeDescriptor {
    uint16_t kind, info;
    char name[1];
};
struct TypeMismatch {
    SourceLocation location;
    const TypeDescriptor* type;
    unsigned char log_alignment, kind;
};
struct OutOfBounds {
    SourceLocation location;
    const TypeDescriptor *array, *index;
};

emulator::Place place_of(const SourceLocation& location) { return {location.file, int(location.line)}; }

void report_alignment(const TypeMismatch* data, uintptr_t address) {
    const size_t alignment = size_t(1) << data->log_alignment;
    emulator::fail("misaligned access", place_of(data->location),
                   "a vector load wants an address that is a multiple of its size: check the row length and the offset",
                   "%s is accessed as %s, which is aligned to %zu bytes, at an address %zu bytes past such a place",
                   emulator::describe(reinterpret_cast<void*>(address)).text, data->type->name, alignment,
                   size_t(address % alignment));
}

void report_bounds(const OutOfBounds* data, uintptr_t index) {
    emulator::fail("index out of bounds", place_of(data->location), "compare the index with the array's extent",
                   "index %lld into an array of type %s", (long long)(index), data->array->name);
}

void report_arithmetic(const SourceLocation* location, const char* what) {
    emulator::fail("undefined arithmetic", place_of(*location), "the result differs between a CPU and a GPU", "%s", what);
}

}  // namespace

// Each handler comes in two forms; the one with _abort may not return, and none of ours does.
#define BOTH(name, parameters, statement)                             \
    EXPORT void __ubsan_handle_##name parameters { statement; }       \
    EXPORT void __ubsan_handle_##name##_abort parameters { statement; }
BOTH(type_mismatch_v1, (TypeMismatch * data, uintptr_t address), report_alignment(data, address))
BOTH(out_of_bounds, (OutOfBounds * data, uintptr_t index), report_bounds(data, index))
BOTH(shift_out_of_bounds, (SourceLocation * data, uintptr_t, uintptr_t), report_arithmetic(data, "a shift by more than the width of its type"))
BOTH(divrem_overflow, (SourceLocation * data, uintptr_t, uintptr_t), report_arithmetic(data, "an integer division by zero"))
