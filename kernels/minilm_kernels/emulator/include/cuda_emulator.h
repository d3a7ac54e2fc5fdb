// Everything a kernel needs to be compiled as C++ for the emulator. Comes before the kernel's own (preprocessed) text.
#pragma once
#include <utility>

#include "hopper.h"
#include "intrinsics.h"
#include "shared.h"
#include "tensor_cores.h"
#include "threads.h"
#include "types.h"
#include "wmma.h"

#define MINILM_ENTRY extern "C" __attribute__((visibility("default")))

namespace emulator {
// Calls a kernel with the values that `arguments` points to.
template <class... A, size_t... I>
MINILM_UNCHECKED void call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
    kernel(*static_cast<std::remove_reference_t<A>*>(arguments[I])...);
}
template <class... A> MINILM_UNCHECKED void call(void (*kernel)(A...), void** arguments) {
    call(kernel, arguments, std::index_sequence_for<A...>());
}
}  // namespace emulator
