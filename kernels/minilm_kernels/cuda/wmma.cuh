// CUDA's portable tensor-core interface, namespace nvcuda::wmma (sm_70; bfloat16 and tf32 from sm_80).
#ifndef MINILM_EMULATED
#include <mma.h>
#endif
