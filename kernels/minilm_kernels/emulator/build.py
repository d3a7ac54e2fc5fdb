"""Compiling an emulated kernel: once per source text, kept in the user's cache folder."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from minilm_kernels.cache import cache_folder
from minilm_kernels.emulator.errors import CompileError

FOLDER = Path(__file__).parent
FLAGS = ("-std=c++17", "-O1", "-fPIC", "-g1", "-fvisibility=hidden", "-ffp-contract=off")


def find_compiler() -> str | None:
    """The C++ compiler to use: what the environment variable CXX names, else g++, else clang++. None: there is none."""
    for name in (os.environ.get("CXX"), "g++", "clang++"):
        if name and (path := shutil.which(name)):
            return path
    return None


def how_to_install_compiler() -> str:
    """The command that installs a C++ compiler on this system."""
    if sys.platform == "darwin":
        return "xcode-select --install"
    if sys.platform == "win32":
        return "winget install MSYS2.MSYS2, then in its shell: pacman -S mingw-w64-ucrt-x86_64-gcc"
    return "sudo apt install g++  (or your system's package of GCC or Clang)"


def _once(content: str, suffix: str, make: Callable[[Path], None]) -> Path:
    """The file in the cache that belongs to `content`; `make(path)` writes it, to a private name, if it is new.

    The rename at the end is atomic: two processes that build the same file at once both end with a whole one.
    """
    target = cache_folder("emulator") / (hashlib.sha256(content.encode()).hexdigest()[:24] + suffix)
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            made = Path(scratch) / target.name
            make(made)
            os.replace(made, target)
    return target


def _compile(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise CompileError(f"the host compiler refused the kernel\n{done.stderr.strip()}\n{' '.join(command)}")


def _require_compiler() -> str:
    compiler = find_compiler()
    if compiler is None:
        raise CompileError(
            f"the emulator needs a C++ compiler, and none is here. Install one: {how_to_install_compiler()}"
        )
    return compiler


def scheduler_object() -> Path:
    """The emulator's own half, compiled once for all kernels."""
    compiler = _require_compiler()
    files = [FOLDER / "scheduler.cpp", *sorted((FOLDER / "include").glob("*.h"))]
    content = "\n".join([compiler, *FLAGS, *(f.read_text() for f in files)])

    def make(path: Path) -> None:
        _compile([compiler, *FLAGS, f"-I{FOLDER / 'include'}", "-c", str(files[0]), "-o", str(path)])

    return _once(content, ".o", make)


def shared_library(source: str, defines: tuple[str, ...] = ()) -> Path:
    """The library made of an emulated source text (with its entry points) and the scheduler."""
    compiler, scheduler = _require_compiler(), scheduler_object()
    content = "\n".join([compiler, scheduler.name, *FLAGS, *defines, source])

    def make(path: Path) -> None:
        text = path.with_suffix(".cpp")
        text.write_text(source)
        include = f"-I{FOLDER / 'include'}"
        _compile([compiler, *FLAGS, *defines, include, "-shared", str(text), str(scheduler), "-o", str(path)])

    return _once(content, ".so", make)
