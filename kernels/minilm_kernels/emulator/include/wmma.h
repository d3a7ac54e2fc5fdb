// CUDA's <mma.h>: wmma fragments. Which lane holds which element of a fragment is not specified by CUDA; here lane l
// holds elements l·E … l·E + E − 1 of the matrix in row order (E = num_elements), and a kernel must not rely on it.
#pragma once
#include <type_traits>

#include "memory.h"
#include "tensor_cores.h"
#include "types.h"

namespace nvcuda {
namespace wmma {

struct matrix_a;
struct matrix_b;
struct accumulator;
struct row_major;
struct col_major;
enum layout_t { mem_row_major, mem_col_major };
namespace precision {
struct tf32;
}

template <class Use, int M, int N, int K, class T, class Layout = void> struct fragment {
    static constexpr int ROWS = std::is_same<Use, matrix_b>::value ? K : M;
    static constexpr int COLUMNS = std::is_same<Use, matrix_a>::value ? K : N;
    static constexpr int num_elements = ROWS * COLUMNS / emulator::WARP;
    using element = typename std::conditional<std::is_same<T, precision::tf32>::value, float, T>::type;
    using element_type = element;
    element x[num_elements];
};

template <class Fragment> inline void fill_fragment(Fragment& f, typename Fragment::element value) {
    for (auto& e : f.x) e = value;
}

inline float __float_to_tf32(float x) { return emulator::bits_as<float>(emulator::tf32_bits(x)); }

}  // namespace wmma
}  // namespace nvcuda

namespace emulator {

// Lane by lane: element i of the fragment, from or to a matrix with leading dimension `ld`.
void check_wmma(const void* address, size_t element_bytes, unsigned ld, Place place);

template <class F, class T>
inline void wmma_load(F& f, const T* p, unsigned ld, bool by_column, Place place) {
    check_wmma(p, sizeof(T), ld, place);
    for (int i = 0; i < F::num_elements; ++i) {
        const int e = lane() * F::num_elements + i, row = e / F::COLUMNS, column = e % F::COLUMNS;
        load(lane(), &f.x[i], by_column ? p + size_t(column) * ld + row : p + size_t(row) * ld + column, sizeof(T),
             sizeof(T), place);
    }
}
template <class F, class T>
inline void wmma_store(T* p, const F& f, unsigned ld, bool by_column, Place place) {
    check_wmma(p, sizeof(T), ld, place);
    for (int i = 0; i < F::num_elements; ++i) {
        const int e = lane() * F::num_elements + i, row = e / F::COLUMNS, column = e % F::COLUMNS;
        store(lane(), by_column ? p + size_t(column) * ld + row : p + size_t(row) * ld + column, &f.x[i], sizeof(T),
              sizeof(T), place);
    }
}
inline void wmma_together(const char* name, Place place) {
    struct Operands {
        const char* name;
        Place place;
    } mine = {name, place};
    warp_together(name, 0xffffffffu, &mine, [](void** operands, unsigned) {
        const Operands& any = *static_cast<Operands*>(operands[__builtin_ctz(live_lanes())]);
        require_whole_warp(any.name, operands, any.place);
    }, place);
}
template <class D, class A, class B, class C> struct WmmaOperands {
    D* d;
    const A* a;
    const B* b;
    const C* c;
    Place place;
};

}  // namespace emulator

namespace nvcuda {
namespace wmma {

template <class Use, int M, int N, int K, class T, class Layout, class E>
inline void load_matrix_sync(fragment<Use, M, N, K, T, Layout>& f, const E* p, unsigned ld,
                             emulator::Place place = emulator::Place::here()) {
    static_assert(std::is_same<E, typename fragment<Use, M, N, K, T, Layout>::element>::value,
                  "the matrix in memory has the fragment's type");
    emulator::wmma_together("load_matrix_sync", place);
    emulator::wmma_load(f, p, ld, std::is_same<Layout, col_major>::value, place);
}
template <int M, int N, int K, class T>
inline void load_matrix_sync(fragment<accumulator, M, N, K, T>& f, const T* p, unsigned ld, layout_t layout,
                             emulator::Place place = emulator::Place::here()) {
    emulator::wmma_together("load_matrix_sync", place);
    emulator::wmma_load(f, p, ld, layout == mem_col_major, place);
}
template <int M, int N, int K, class T>
inline void store_matrix_sync(T* p, const fragment<accumulator, M, N, K, T>& f, unsigned ld, layout_t layout,
                              emulator::Place place = emulator::Place::here()) {
    emulator::wmma_together("store_matrix_sync", place);
    emulator::wmma_store(p, f, ld, layout == mem_col_major, place);
}

// d = a · b + c, products and sums in float.
template <int M, int N, int K, class T, class LA, class LB, class TC, class TD>
inline void mma_sync(fragment<accumulator, M, N, K, TD>& d, const fragment<matrix_a, M, N, K, T, LA>& a,
                     const fragment<matrix_b, M, N, K, T, LB>& b, const fragment<accumulator, M, N, K, TC>& c,
                     emulator::Place place = emulator::Place::here()) {
    using A = fragment<matrix_a, M, N, K, T, LA>;
    using B = fragment<matrix_b, M, N, K, T, LB>;
    using C = fragment<accumulator, M, N, K, TC>;
    using D = fragment<accumulator, M, N, K, TD>;
    using Operands = emulator::WmmaOperands<D, A, B, C>;
    Operands mine = {&d, &a, &b, &c, place};
    emulator::warp_together("mma_sync", 0xffffffffu, &mine, [](void** operands, unsigned) {
        const emulator::Place place = static_cast<Operands*>(operands[__builtin_ctz(emulator::live_lanes())])->place;
        emulator::require_whole_warp("mma_sync", operands, place);
        float a[M][K], b[K][N];
        for (int lane = 0; lane < emulator::WARP; ++lane) {
            const Operands& o = *static_cast<Operands*>(operands[lane]);
            for (int i = 0; i < A::num_elements; ++i) {
                const int e = lane * A::num_elements + i;
                a[e / K][e % K] = float(o.a->x[i]);
            }
            for (int i = 0; i < B::num_elements; ++i) {
                const int e = lane * B::num_elements + i;
                b[e / N][e % N] = float(o.b->x[i]);
            }
        }
        for (int lane = 0; lane < emulator::WARP; ++lane) {
            const Operands& o = *static_cast<Operands*>(operands[lane]);
            for (int i = 0; i < D::num_elements; ++i) {
                const int e = lane * D::num_elements + i;
                float sum = float(o.c->x[i]);
                for (int k = 0; k < K; ++k) sum += a[e / N][k] * b[k][e % N];
                o.d->x[i] = typename D::element(sum);
            }
        }
    }, place);
}

}  // namespace wmma
}  // namespace nvcuda
