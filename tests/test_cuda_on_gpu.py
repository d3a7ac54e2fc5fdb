"""The CuPy runtime, without CuPy and without a GPU: a stand-in records what it is asked for and lets the emulator
compute. It shows that the bindings and the runtime fit together, not that a GPU is right (that is `pytest -m gpu`)."""

from __future__ import annotations

import importlib
import sys
import types

import numpy as np
import pytest

from minilm_kernels.cuda import compiler, support, tensor_map
from minilm_kernels.emulator import EmulatedModule, build

if build.find_compiler() is None:
    pytest.skip(f"no C++ compiler: {build.how_to_install_compiler()}", allow_module_level=True)

SCALE = """
extern "C" __global__ void scale(const float* x, const float* bias, float* y, int n, float factor) {
    DYNAMIC_SHARED(float, buffer);
    const int i = threadIdx.x;
    buffer[i] = x[i];
    __syncthreads();
    if (i < n) y[i] = factor * buffer[i] + (bias ? bias[i] : 0.0f);
}
"""


class Device:
    """The stand-in's GPU."""

    id = 0
    compute_capability = "80"
    attributes = {"MaxSharedMemoryPerBlockOptin": 166912, "MultiProcessorCount": 108}


class Function:
    """What RawModule.get_function gives."""

    def __init__(self, kernel, log):
        self._kernel, self._log = kernel, log

    def __setattr__(self, name, value):
        if name == "max_dynamic_shared_size_bytes":
            self._log.append((name, value))
        super().__setattr__(name, value)

    def __call__(self, grid, block, args, *, shared_mem=0):
        self._log.append(("launch", args))
        self._kernel(grid, block, [None if type(a) is np.uint64 and a == 0 else a for a in args], shared_mem)


@pytest.fixture
def on_gpu(monkeypatch):
    """The module `on_gpu`, freshly imported on top of the stand-in, and the log of what it did."""
    log = []

    class RawModule:
        def __init__(self, code, options):
            log.append(("compile", options))
            self._module = EmulatedModule(code, [o for o in options if o.startswith("-D")])

        def get_function(self, name):
            return Function(self._module.get_function(name), log)

    cupy = types.ModuleType("cupy")
    cupy.ndarray, cupy.RawModule = np.ndarray, RawModule
    cupy.empty, cupy.zeros, cupy.ascontiguousarray = np.empty, np.zeros, np.ascontiguousarray
    cupy.cuda = types.SimpleNamespace(Device=Device)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.delitem(sys.modules, "minilm_kernels.cuda.on_gpu", raising=False)
    module = importlib.import_module("minilm_kernels.cuda.on_gpu")
    monkeypatch.delitem(sys.modules, "minilm_kernels.cuda.on_gpu")
    module.log = log
    return module


@pytest.fixture
def scale(on_gpu, tmp_path, monkeypatch):
    common = compiler.CUDA_FOLDER.joinpath("common.cuh").read_text()
    (tmp_path / "common.cuh").write_text(common)
    (tmp_path / "scale.cu").write_text('#include "common.cuh"\n' + SCALE)
    (tmp_path / "newer.cu").write_text('// minimum architecture: sm_90a\n#include "common.cuh"\n' + SCALE)
    monkeypatch.setattr(compiler, "CUDA_FOLDER", tmp_path)
    return on_gpu.CupyRuntime()


def test_a_launch(on_gpu, scale):
    x, y = np.arange(64, dtype=np.float32), np.zeros(64, np.float32)
    kernel = scale.load("scale.cu", ("-DUNUSED=1",)).get_function("scale")
    for bias in (None, np.ones(64, np.float32)):
        kernel((1,), (64,), (x, bias, y, np.int32(64), np.float32(3)), shared_mem=64 * 4)
        assert (y == 3 * x + (0 if bias is None else 1)).all()
    launches = [args for what, args in on_gpu.log if what == "launch"]
    assert type(launches[0][1]) is np.uint64 and launches[0][1] == 0, "a null pointer goes by value"
    (options,) = [options for what, options in on_gpu.log if what == "compile"]
    assert options[:2] == ("-std=c++17", "-DUNUSED=1") and not any(o.startswith("-arch") for o in options)


def test_more_shared_memory_is_asked_for_once(on_gpu, scale):
    x, y = np.ones(64, np.float32), np.zeros(64, np.float32)
    kernel = scale.load("scale.cu").get_function("scale")
    args = (x, None, y, np.int32(64), np.float32(1))
    for size in (256, 48 << 10, 100 << 10, 64 << 10, 100 << 10, 120 << 10):
        kernel((1,), (64,), args, shared_mem=size)
    asked = [value for what, value in on_gpu.log if what == "max_dynamic_shared_size_bytes"]
    assert asked == [100 << 10, 120 << 10]


def test_compiled_once_per_option_and_device(on_gpu, scale, monkeypatch):
    first = scale.load("scale.cu")
    assert scale.load("scale.cu") is first and first.get_function("scale") is first.get_function("scale")
    assert scale.load("scale.cu", ("-DA=1",)) is not first
    monkeypatch.setattr(Device, "id", 1)
    assert scale.load("scale.cu") is not first


def test_a_file_that_needs_a_newer_gpu(on_gpu, scale, monkeypatch):
    with pytest.raises(RuntimeError, match="newer.cu needs a GPU of architecture sm_90a.*compute capability 8.0"):
        scale.load("newer.cu")
    monkeypatch.setattr(Device, "compute_capability", "90")
    scale.load("newer.cu")
    assert on_gpu.log[-1][1][-1] == "-arch=sm_90a"


def test_what_the_runtime_says_of_the_device(on_gpu):
    runtime = on_gpu.CupyRuntime()
    assert (runtime.name, runtime.capability, runtime.multiprocessors) == ("cuda", 80, 108)
    assert runtime.shared_memory_limit == 166912
    with pytest.raises(TypeError, match=r"'cuda' takes CuPy arrays, not list; move the model and its inputs with \.to"):
        runtime.asarray([1.0])


def test_the_bindings_run_on_it(on_gpu, monkeypatch):
    """matmul with its default rung, as a user of "cuda" calls it."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((17, 9)).astype(np.float32), rng.standard_normal((9, 21)).astype(np.float32)
    np.testing.assert_allclose(on_gpu.matmul(a, b), a @ b, atol=1e-5)
    assert on_gpu.RUNGS["matmul"] and on_gpu.DTYPES["matmul"]


def test_tensor_maps_are_encoded_as_the_driver_wants_them(monkeypatch):
    """Sizes, strides and boxes innermost first; strides without the innermost; two axes become three."""
    calls = []

    class Driver:
        @staticmethod
        def cuTensorMapEncodeTiled(to, dtype, rank, address, sizes, strides, box, steps, *rest):
            calls.append(
                (
                    dtype.value,
                    rank.value,
                    address.value,
                    *map(list, (sizes, strides, box, steps)),
                    *(r.value for r in rest),
                )
            )
            return 0 if list(box)[0] < 64 or len(calls) == 1 else 1

    monkeypatch.setattr(tensor_map, "_driver", lambda: Driver)

    class Array(np.ndarray):
        @property
        def data(self):
            return types.SimpleNamespace(ptr=0x1000)

    x = np.zeros((100, 72), np.float16).view(Array)
    made = tensor_map.encode(x, (128, 64), 128)
    assert made.nbytes == 128 and made.size == 1
    assert calls[0] == (6, 3, 0x1000, [72, 100, 1], [144, 14400], [64, 128, 1], [1, 1, 1], 0, 3, 2, 0)
    tensor_map.encode(np.zeros((5, 100, 72), np.float32).view(Array), (2, 8, 8), 32)
    assert calls[1] == (7, 3, 0x1000, [72, 100, 5], [288, 28800], [8, 8, 2], [1, 1, 1], 0, 1, 2, 0)
    with pytest.raises(RuntimeError, match=r"the CUDA driver refused a tensor map of \(100, 72\) float16.*CUresult 1"):
        tensor_map.encode(x, (128, 64), 128)


def test_why_cuda_cannot_run(monkeypatch):
    problem = support.gpu_problem.__wrapped__
    monkeypatch.setattr(support.importlib.util, "find_spec", lambda name: None)
    assert problem() == "CuPy is not installed"
    monkeypatch.setattr(support.importlib.util, "find_spec", lambda name: object())

    def answer(count):
        runtime = types.SimpleNamespace(getDeviceCount=lambda: count() if callable(count) else count)
        cupy = types.ModuleType("cupy")
        cupy.cuda = types.SimpleNamespace(runtime=runtime)
        monkeypatch.setitem(sys.modules, "cupy", cupy)
        return problem()

    def no_driver():
        raise OSError("libcuda.so.1 is missing")

    assert answer(1) is None
    assert answer(0) == "CuPy finds no NVIDIA GPU"
    assert answer(no_driver) == "CuPy finds no usable NVIDIA GPU: libcuda.so.1 is missing"
