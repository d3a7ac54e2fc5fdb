// Shared memory. A C++ compiler has no storage that belongs to a block: `__shared__ float tile[32][33];` is rewritten
// by source.py to MINILM_SHARED, which takes the array from the block's arena. There it has a name, an extent, and
// bytes on both sides that belong to nobody.
#pragma once
#include <type_traits>

#include "threads.h"
#include "types.h"

namespace emulator {

struct SharedVariable {
    const char* name;
    char code;  // NumPy's letter for the element type; E for bfloat16, V for anything else
    size_t bytes, element_bytes, alignment;
    int rank;
    unsigned extents[4];
    Place place;
    void* address;             // in the arena, once a thread of the block has come by
    unsigned long long block;  // the block (counted over all launches) for which `address` holds
};
void* shared_address(SharedVariable& variable);
void* dynamic_shared(const char* name, char code, size_t element_bytes, Place place);
unsigned shared_offset(const void* address);  // as __cvta_generic_to_shared: bytes from the arena's begin

template <class T> constexpr char type_code() {
    if (std::is_same<T, float>::value) return 'f';
    if (std::is_same<T, double>::value) return 'd';
    if (std::is_same<T, __half>::value) return 'e';
    if (std::is_same<T, __nv_bfloat16>::value) return 'E';
    if (std::is_same<T, bool>::value) return '?';
    if (!std::is_integral<T>::value) return 'V';
    const char letters[] = "bBhHiIqQ";
    const int size = sizeof(T) == 1 ? 0 : sizeof(T) == 2 ? 1 : sizeof(T) == 4 ? 2 : 3;
    return letters[2 * size + (std::is_unsigned<T>::value ? 1 : 0)];
}

template <class Array> constexpr SharedVariable describe_shared(const char* name, size_t alignment, Place place) {
    using Element = typename std::remove_all_extents<Array>::type;
    static_assert(std::rank<Array>::value <= 4, "a shared array of more than four dimensions");
    return {name, type_code<Element>(), sizeof(Array), sizeof(Element),
            alignment > alignof(Array) ? alignment : alignof(Array), int(std::rank<Array>::value),
            {unsigned(std::extent<Array, 0>::value), unsigned(std::extent<Array, 1>::value),
             unsigned(std::extent<Array, 2>::value), unsigned(std::extent<Array, 3>::value)},
            place, nullptr, 0};
}

}  // namespace emulator

#define MINILM_UNWRAP(...) __VA_ARGS__
#define MINILM_SHARED(name, dims, align, ...)                                                         \
    typedef __VA_ARGS__ name##_array MINILM_UNWRAP dims;                                              \
    static emulator::SharedVariable name##_variable =                                                 \
        emulator::describe_shared<name##_array>(#name, align, emulator::Place{__FILE__, __LINE__});   \
    name##_array& name = *static_cast<name##_array*>(emulator::shared_address(name##_variable))

#define DYNAMIC_SHARED(type, name)                                                                    \
    type* name = static_cast<type*>(emulator::dynamic_shared(#name, emulator::type_code<type>(),      \
                                                             sizeof(type), emulator::Place{__FILE__, __LINE__}))
