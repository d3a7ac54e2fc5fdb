"""The CUDA C++ kernels: one ladder of `.cu` files, run on a GPU by CuPy and on the CPU by `minilm_kernels.emulator`.

`runtime` says how a binding loads and launches a kernel, `compiler` how a `.cu` file becomes one source text,
`on_gpu` and `on_cpu` are the implementations "cuda" and "cuda-emulated". Nothing here is imported until it is chosen.
"""
