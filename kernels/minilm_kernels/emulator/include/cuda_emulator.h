// Everything a kernel needs to be compiled as C++ for the emulator.
#pragma once
#define MINILM_EMULATED 1
#include "intrinsics.h"
#include "threads.h"
#include "types.h"

#include <type_traits>
#include <utility>
namespace emulator {
template <class... A, size_t... I>
inline void call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
    kernel(*static_cast<std::remove_reference_t<A>*>(arguments[I])...);
}
template <class... A> inline void call(void (*kernel)(A...), void** arguments) {
    call(kernel, arguments, std::index_sequence_for<A...>());
}
}  // namespace emulator
