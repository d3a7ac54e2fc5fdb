#include "common.cuh"
#include "tensor_cores.cuh"
#include "async_copy.cuh"
#include "wmma.cuh"
// one warp: c (16x8) = a (16x16) b (8x16)^T
extern "C" __global__ void mma(const half* a, const half* b, float* c) {
    __shared__ __align__(16) half sa[16][24], sb[8][24];
    const int lane = threadIdx.x;
    cp_async<16>(&sa[lane / 2][lane % 2 * 8], a + lane * 8);
    if (lane < 16) cp_async<16>(&sb[lane / 2][lane % 2 * 8], b + lane * 8);
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();
    uint32_t ra[4], rb[2];
    ldmatrix_x4(ra, &sa[lane % 16][lane / 16 * 8]);
    ldmatrix_x2(rb, &sb[lane % 8][lane / 8 % 2 * 8]);
    float d[4] = {};
    mma_m16n8k16<half>(d, ra, rb);
    for (int i = 0; i < 4; ++i) c[(lane / 4 + 8 * (i / 2)) * 8 + lane % 4 * 2 + i % 2] = d[i];
}
extern "C" __global__ void tf32(const float* a, const float* b, float* c) {  // 16x8 times 8x8
    const int lane = threadIdx.x, g = lane / 4, t = lane % 4;
    uint32_t ra[4] = {to_tf32(a[g * 8 + t]), to_tf32(a[(g + 8) * 8 + t]), to_tf32(a[g * 8 + t + 4]), to_tf32(a[(g + 8) * 8 + t + 4])};
    uint32_t rb[2] = {to_tf32(b[t * 8 + g]), to_tf32(b[(t + 4) * 8 + g])};
    float d[4] = {};
    mma_m16n8k8_tf32(d, ra, rb);
    for (int i = 0; i < 4; ++i) c[(lane / 4 + 8 * (i / 2)) * 8 + lane % 4 * 2 + i % 2] = d[i];
}
extern "C" __global__ void wm(const half* a, const half* b, float* c) {
    using namespace nvcuda;
    wmma::fragment<wmma::matrix_a, 16, 16, 16, half, wmma::row_major> fa;
    wmma::fragment<wmma::matrix_b, 16, 16, 16, half, wmma::col_major> fb;
    wmma::fragment<wmma::accumulator, 16, 16, 16, float> fc;
    wmma::fill_fragment(fc, 0.0f);
    wmma::load_matrix_sync(fa, a, 16);
    wmma::load_matrix_sync(fb, b, 16);
    wmma::mma_sync(fc, fa, fb, fc);
    wmma::store_matrix_sync(c, fc, 16, wmma::mem_row_major);
}
extern "C" __global__ void ph(uint32_t* out, uint64_t seed) {
    uint4 w = Philox{seed}.words(threadIdx.x, blockIdx.x, 3);
    out[0] = w.x; out[1] = w.y; out[2] = w.z; out[3] = w.w;
}
