"""Compiling once: the cache, two processes at a time, other fibers, Ctrl-C, and what is said without a compiler."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from minilm_kernels.cuda import support
from minilm_kernels.emulator import CompileError, EmulatedModule, build

HERE = Path(__file__).parent
SOURCE = """
extern "C" __global__ void twice(const float* x, float* y) {
    __shared__ float tile[64];
    tile[63 - threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = 2 * tile[63 - threadIdx.x];
}
"""
needs_compiler = pytest.mark.skipif(
    build.find_compiler() is None, reason=f"no C++ compiler: {build.how_to_install_compiler()}"
)


def run(module):
    x, y = np.arange(64, dtype=np.float32), np.zeros(64, np.float32)
    module.get_function("twice")((1,), (64,), (x, y))
    assert (y == 2 * x).all()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache that holds nothing but the emulator's own half, which takes some seconds to build."""
    own = build.emulator_object()
    monkeypatch.setenv("MINILM_CACHE", str(tmp_path))
    (tmp_path / "emulator").mkdir()
    shutil.copy2(own, tmp_path / "emulator" / own.name)
    return tmp_path


@needs_compiler
def test_built_once(cache, monkeypatch):
    run(EmulatedModule(SOURCE))
    files = {p: p.stat().st_mtime_ns for p in cache.rglob("*")}
    libraries = [p for p in files if p.suffix == build.LIBRARY_SUFFIX]
    assert len(libraries) == 1 and not [p for p in files if p.suffix == ".cpp"], "no leftovers"
    monkeypatch.setattr(build, "_run", lambda command: pytest.fail(f"compiled again: {command}"))
    run(EmulatedModule(SOURCE))
    assert {p: p.stat().st_mtime_ns for p in cache.rglob("*")} == files


@needs_compiler
def test_another_text_option_or_check_is_another_library(cache):
    paths = {
        build.shared_library(SOURCE, (), True, "a.cu"),
        build.shared_library(SOURCE + "\n", (), True, "a.cu"),
        build.shared_library(SOURCE, ("-DX=1",), True, "a.cu"),
        build.shared_library(SOURCE, (), False, "a.cu"),
    }
    assert len(paths) == 4


@needs_compiler
def test_a_refused_kernel_leaves_nothing_behind(cache):
    before = set(cache.rglob("*"))
    with pytest.raises(CompileError):
        EmulatedModule('extern "C" __global__ void f() { wrong }')
    assert set(cache.rglob("*")) == before


@needs_compiler
def test_two_processes_at_once(tmp_path):
    """From nothing: both build the emulator's half and the kernel, and neither sees a file that is not whole."""
    script = (
        f"import sys; sys.path.insert(0, {str(HERE)!r}); import test_emulator_build as t; "
        "t.run(t.EmulatedModule(t.SOURCE + '// both'))"
    )
    path = os.pathsep.join(p for p in sys.path if p)
    environment = os.environ | {"MINILM_CACHE": str(tmp_path), "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"}
    both = [
        subprocess.Popen([sys.executable, "-c", script], env=environment, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in both:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    assert len(list(tmp_path.rglob(f"*{build.LIBRARY_SUFFIX}"))) == 1


@needs_compiler
def test_fibers_made_of_threads(tmp_path, monkeypatch):
    """What runs where there is no ucontext: the same results and the same reports, only slower."""
    monkeypatch.setenv("MINILM_CACHE", str(tmp_path))
    monkeypatch.setattr(build, "_NATIVE", (*build._NATIVE, "-DMINILM_FIBERS_FROM_THREADS", "-pthread"))
    import test_emulator_bugs as bugs

    from minilm_kernels.emulator import KernelError

    run(EmulatedModule(SOURCE))
    module = EmulatedModule(bugs.SOURCE, name="bugs.cu")
    module.time_limit = 0.3
    for name in ("missing_barrier", "divergent_barrier", "past_the_end", "mask_without_me", "half_a_warp_votes"):
        with pytest.raises(KernelError) as caught:
            bugs.launch(module, name)
        assert caught.value.kind == bugs.BUGS[name][0]
    module = EmulatedModule(bugs.SOURCE, ["-DFIXED"], name="bugs.cu")
    for name in ("missing_barrier", "tile_reused_too_early", "lost_update", "half_a_warp_votes"):
        bugs.launch(module, name)


def test_without_a_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("MINILM_CACHE", str(tmp_path))
    monkeypatch.setattr(build, "find_compiler", lambda: None)
    with pytest.raises(CompileError, match="needs a C[+][+] compiler, and none is here. Install one: "):
        EmulatedModule(SOURCE)
    assert support.emulator_problem() == "the emulator needs a C++ compiler, and none is here"
    monkeypatch.setattr(sys, "platform", "win32")
    assert support.emulator_problem() == (
        "the emulator runs on Linux and macOS; on Windows use it inside WSL (wsl --install)"
    )


def test_which_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(build.importlib.util, "find_spec", lambda name: None)
    find = build.find_compiler.__wrapped__
    assert find() is None
    for name in ("clang++", "g++", "special"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("CXX", "special" if name == "special" else "")
        assert find() == (str(tmp_path / name),)
    (tmp_path / "g++").unlink(), (tmp_path / "clang++").unlink(), (tmp_path / "special").unlink()
    monkeypatch.setattr(build.importlib.util, "find_spec", lambda name: object() if name == "ziglang" else None)
    assert find() == (sys.executable, "-m", "ziglang", "c++")


@needs_compiler
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_control_c_stops_a_kernel(tmp_path):
    script = (  # a process started in the background ignores Ctrl-C until it says otherwise
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from minilm_kernels.emulator import EmulatedModule; import numpy as np\n"
        "m = EmulatedModule('extern \"C\" __global__ void spin(int* f) { while (atomicAdd(f, 0) == 0) {} }')\n"
        "print('ready', flush=True)\n"
        "try: m.get_function('spin')((1,), (32,), (np.zeros(1, np.int32),))\n"
        "except KeyboardInterrupt: print('stopped', flush=True)\n"
    )
    path = os.pathsep.join(p for p in sys.path if p)
    process = subprocess.Popen(
        [sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert said == "stopped\n" and process.returncode == 0
