"""Every `.cu` file becomes machine code for each architecture it is meant for, without a warning and without spilled
registers. A compiler is all that is needed, no GPU; what has been compiled once is remembered by its content."""

from __future__ import annotations

import functools
import re

import pytest

from minilm_kernels.cuda import compiler

needs_compiler = pytest.mark.skipif(compiler.problem() is not None, reason=compiler.problem() or "")
FILES = compiler.source_files()


@functools.cache
def code_of(file):
    return compiler.assemble(file)


def cases():
    """(file, architecture, options): every architecture without options, every set of options on the newest."""
    for file in FILES:
        code = code_of(file)
        architectures = compiler.architectures_of(code)
        for architecture in architectures:
            yield file, architecture, ()
        for options in compiler.variants_of(code)[1:]:
            yield file, architectures[-1], options


def test_there_is_something_to_compile():
    assert FILES


@needs_compiler
@pytest.mark.parametrize(
    "file, architecture, options",
    list(cases()),
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else value,
)
def test_compiles(file, architecture, options):
    kernels = compiler.check(code_of(file), architecture, options)
    assert kernels, "no kernel in the machine code"
    for kernel in kernels:
        assert kernel.spill_bytes == 0, f"{kernel} keeps registers in memory: smaller tiles, or fewer threads a block"
        assert 0 < kernel.registers <= 255


@pytest.mark.parametrize("file", FILES)
def test_a_file_holds_device_code_and_nothing_else(file):
    """What NVRTC and the emulator can both read: our own headers only, PTX only in functions with an emulated body."""
    text = compiler.CUDA_FOLDER.joinpath(file).read_text(encoding="utf-8")
    includes = re.findall(r"^\s*#\s*include\s*(.+)$", text, flags=re.MULTILINE)
    assert all(re.fullmatch(r'"[\w/]+\.cuh"', name) for name in includes), includes
    assert re.search(r'extern\s+"C"\s+__global__', text) or "KERNEL" in text
    assert "asm volatile" not in text and not re.search(r"\basm\s*\(", text), "PTX belongs into a header"
    assert not re.search(r"<<<|\bcuda[A-Z]\w+\(|\bprintf\b|\bstd::", text)
    assert text.startswith("//"), "a file opens with what it adds"


# ------------------------------------------------------------------------------------------- the checker is checked

FINE = """
extern "C" __global__ void twice(const float* x, float* y) { y[threadIdx.x] = 2 * x[threadIdx.x]; }
"""
SPILLS = """
extern "C" __global__ void __launch_bounds__(1024, 2) crowded(const float* x, float* y) {
    float v[80];
#pragma unroll
    for (int i = 0; i < 80; ++i) v[i] = x[i * 1024 + threadIdx.x];
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 80; ++i) y[((i * 37) % 80) * 1024 + threadIdx.x] = v[i] * v[(i * 7 + 3) % 80];
}
"""


@needs_compiler
def test_resources_are_read(tmp_path, monkeypatch):
    monkeypatch.setenv("MINILM_CACHE", str(tmp_path))
    (twice,) = compiler.check(FINE, "sm_80")
    assert twice.kernel == "twice" and 4 < twice.registers < 40 and twice.spill_bytes == twice.stack_bytes == 0
    (crowded,) = compiler.check(SPILLS, "sm_80")
    assert crowded.spill_bytes > 0 and crowded.registers == 32
    compilers = {"nvcc": compiler._with_nvcc, "nvrtc": compiler._with_nvrtc}
    for name in compilers:
        monkeypatch.setattr(compiler, f"_with_{name}", lambda *a: pytest.fail("compiled again"))
    assert compiler.check(FINE, "sm_80") == [twice], "remembered"


@needs_compiler
@pytest.mark.parametrize(
    "code, architecture, message",
    [
        (FINE.replace("y[", "z["), "sm_80", "z"),
        (FINE.replace("y[", "int unused; y["), "sm_80", "unused"),
        ('extern "C" __global__ void f() { asm volatile("cp.async.commit_group;"); }', "sm_75", "sm_80"),
    ],
)
def test_errors_and_warnings_are_refused(code, architecture, message):
    with pytest.raises(compiler.CompileError, match=message):
        compiler.check(code, architecture)


def test_what_a_file_says_of_itself():
    assert compiler.architectures_of("// nothing") == ("sm_75", "sm_80", "sm_90a")
    assert compiler.architectures_of("//\n// minimum architecture: sm_80, because\n") == ("sm_80", "sm_90a")
    assert compiler.architectures_of("// minimum architecture: sm_80\n// minimum architecture: sm_90a\n") == ("sm_90a",)
    assert compiler.variants_of("// compile with: -DA=1 -DB=half\n// compile with: -DC\n") == (
        (),
        ("-DA=1", "-DB=half"),
        ("-DC",),
    )
    assert compiler.capability_of("sm_90a") == 90
