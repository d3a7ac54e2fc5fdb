"""Compiling an emulated kernel: once per source text, kept in the user's cache folder."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from minilm_kernels.cache import cache_folder
from minilm_kernels.emulator.errors import CompileError
from minilm_kernels.emulator.source import Parameter, Signature, rewrite_shared, signatures

FOLDER = Path(__file__).parent
LIBRARY_SUFFIX = ".dylib" if sys.platform == "darwin" else ".so"

# -ffp-contract=off: a·b + c is rounded twice on every machine, so that results are the same everywhere.
# -g1: only the table that leads from an instruction to its line.
_COMMON = (
    "-std=c++17",
    "-fPIC",
    "-g1",
    "-gdwarf-4",
    "-fvisibility=hidden",
    "-ffp-contract=off",
    f"-I{FOLDER / 'include'}",
)
_NATIVE = (*_COMMON, "-O2")
_KERNEL = (*_COMMON, "-O1", "-Wframe-larger-than=65536")
# A call in front of every load and store, which hooks.cpp answers; and checks of indices and alignment.
_CHECKED = ("-fsanitize=thread", "-fsanitize=bounds,alignment,shift-exponent,integer-divide-by-zero")


@functools.cache
def find_compiler() -> tuple[str, ...] | None:
    """The command of a C++ compiler: what CXX names, else g++, clang++, or the one in the package ziglang."""
    for name in (os.environ.get("CXX"), "g++", "clang++"):
        if name and (path := shutil.which(name)):
            return (path,)
    if importlib.util.find_spec("ziglang") is not None:
        return (sys.executable, "-m", "ziglang", "c++")
    return None


def how_to_install_compiler() -> str:
    """The command that installs a C++ compiler on this system."""
    if sys.platform == "darwin":
        return "xcode-select --install"
    return "sudo apt install g++ (or your system's package of GCC or Clang), or pip install ziglang"


def problem() -> str | None:
    """Why the emulator cannot run here, or None where it can."""
    if sys.platform == "win32":
        # Its compilers cannot put the calls in front of loads and stores that the checks live on.
        return "the emulator runs on Linux and macOS; on Windows use it inside WSL (wsl --install)"
    return None if find_compiler() else "the emulator needs a C++ compiler, and none is here"


def _require_compiler() -> tuple[str, ...]:
    if reason := problem():
        raise CompileError(f"{reason}. Install one: {how_to_install_compiler()}" if sys.platform != "win32" else reason)
    compiler = find_compiler()
    assert compiler is not None
    return compiler


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise CompileError(f"the C++ compiler {command[0]} cannot be run: {error}") from error
    if done.returncode:
        raise CompileError(
            f"the C++ compiler refused the kernel:\n{done.stderr.strip()}\nThe command: {' '.join(command)}"
        )
    return done.stdout


def _once(content: list[str], suffix: str, make: Callable[[Path], None]) -> Path:
    """The file in the cache that belongs to `content`; `make(path)` writes it, to a private name, if it is new.

    The rename at the end is atomic: two processes that build the same file at once both end with a whole one.
    """
    digest = hashlib.sha256("\0".join([platform.machine(), *content]).encode()).hexdigest()[:24]
    target = cache_folder("emulator") / f"{digest}{suffix}"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            made = Path(scratch) / target.name
            make(made)
            os.replace(made, target)
    return target


@functools.cache
def _large_frames_are_errors(compiler: tuple[str, ...]) -> str:
    """The flag that refuses a function with more than 64 KB of local variables: GCC and Clang spell it differently."""
    clang = "clang" in subprocess.run([*compiler, "--version"], capture_output=True, text=True).stdout
    return "-Werror=frame-larger-than" if clang else "-Werror=frame-larger-than=65536"


@functools.cache
def _own_text() -> str:
    """Everything that the emulator itself brings into a library."""
    return "\0".join(p.read_text(encoding="utf-8") for p in sorted(FOLDER.rglob("*")) if p.suffix in (".cpp", ".h"))


def emulator_object() -> Path:
    """The emulator's own half, compiled once for all kernels."""
    compiler = _require_compiler()

    def make(path: Path) -> None:
        _run([*compiler, *_NATIVE, "-c", str(FOLDER / "emulator.cpp"), "-o", str(path)])

    return _once([*compiler, *_NATIVE, _own_text()], ".o", make)


def shared_library(code: str, defines: tuple[str, ...], checked: bool, name: str) -> Path:
    """The library made of one CUDA C++ text and the emulator.

    Raises CompileError with the compiler's own message where the text is not valid.
    """
    wrong = [d for d in defines if not d.startswith("-D")]
    if wrong:
        raise CompileError(f"options of a kernel are -DNAME=value, not {' '.join(wrong)}")
    compiler = _require_compiler()
    flags = [*_KERNEL, _large_frames_are_errors(compiler), *(_CHECKED if checked else ())]

    def make(path: Path) -> None:
        raw, text, made = path.with_suffix(".cu.cpp"), path.with_suffix(".cpp"), path.with_suffix(".o")
        raw.write_text(f'#line 1 "{name}"\n{code}', encoding="utf-8")
        expanded = _run([*compiler, "-std=c++17", "-E", "-DMINILM_EMULATED=1", *defines, str(raw)])
        found = signatures(expanded)
        if not found:
            raise CompileError('the text holds no kernel: expected `extern "C" __global__ void name(...)`')
        whole = f'#include "cuda_emulator.h"\n{rewrite_shared(expanded)}\n{_entry_points(found)}'
        text.write_text(whole, encoding="utf-8")
        _run([*compiler, *flags, "-c", str(text), "-o", str(made)])
        _run([*compiler, "-shared", str(made), str(emulator_object()), "-o", str(path)])

    return _once([*compiler, *flags, *defines, name, code, _own_text()], LIBRARY_SUFFIX, make)


def _entry_points(kernels: dict[str, Signature]) -> str:
    lines = [
        f"MINILM_ENTRY void minilm_entry_{name}(void** arguments) {{ emulator::call({name}, arguments); }}"
        for name in kernels
    ]
    table = ";".join(
        f"{s.name}:" + ",".join(f"{p.type}|{int(p.pointer)}|{int(p.const)}|{p.name}" for p in s.parameters)
        for s in kernels.values()
    )
    return "\n".join([*lines, f'MINILM_ENTRY const char* minilm_kernels() {{ return "{table}"; }}', ""])


def read_table(table: str) -> dict[str, Signature]:
    """The kernels that a library says it holds."""
    found = {}
    for line in table.split(";"):
        name, _, rest = line.partition(":")
        parameters = []
        for field in filter(None, rest.split(",")):
            type_, pointer, const, parameter = field.split("|")
            parameters.append(Parameter(type_, pointer == "1", const == "1", parameter))
        found[name] = Signature(name, tuple(parameters))
    return found
