"""From a `.cu` file to one source text, and to machine code for the architectures it is meant for.

`assemble` writes our own headers in place, so that CuPy and the emulator get one text. `check` compiles a text with
nvcc, or with NVRTC where there is no toolkit; neither needs a GPU.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from minilm_kernels.cache import cache_folder
from minilm_kernels.cuda.runtime import CUDA_FOLDER

ARCHITECTURES = ("sm_75", "sm_80", "sm_90a")
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+"([^"]+\.cuh)"[^\n]*$', re.MULTILINE)
_MINIMUM = re.compile(r"^// minimum architecture: (sm_\d+a?)\b", re.MULTILINE)
_VARIANT = re.compile(r"^// compile with: (.+?)\s*$", re.MULTILINE)


def assemble(source_file: str | Path) -> str:
    """The text of a `.cu` file below `minilm_kernels/cuda/` with our own headers inlined, each once.

    `#line` marks keep the compiler's messages true to the files.
    """
    path = CUDA_FOLDER / source_file
    if not path.is_file():
        known = ", ".join(source_files()) or "none"
        raise FileNotFoundError(f"there is no kernel file {str(source_file)!r} in {CUDA_FOLDER}; there are: {known}")
    return _inline(path, set())


def source_files() -> list[str]:
    """Every `.cu` file, as `assemble` takes it."""
    return sorted(path.relative_to(CUDA_FOLDER).as_posix() for path in CUDA_FOLDER.rglob("*.cu"))


def _inline(path: Path, seen: set[Path]) -> str:
    name = path.relative_to(CUDA_FOLDER).as_posix()
    text = path.read_text(encoding="utf-8")

    def include(match: re.Match[str]) -> str:
        header = CUDA_FOLDER / match[1]
        after = text.count("\n", 0, match.end()) + 2
        if header in seen:
            return ""
        if not header.is_file():
            raise FileNotFoundError(f"{name} includes {match[1]!r}, which is not in {CUDA_FOLDER}")
        seen.add(header)
        return f'{_inline(header, seen)}\n#line {after} "{name}"'

    return f'#line 1 "{name}"\n{_INCLUDE.sub(include, text)}'


# ------------------------------------------------------------------------------------- what a file says about itself


def minimum_architecture(code: str) -> str:
    """The least architecture a text compiles for: its line `// minimum architecture: sm_80`, or sm_75."""
    found = _MINIMUM.findall(code)
    return max(found, key=capability_of, default=ARCHITECTURES[0])


def capability_of(architecture: str) -> int:
    """sm_90a → 90."""
    return int(re.sub(r"\D", "", architecture))


def architectures_of(code: str) -> tuple[str, ...]:
    """Those of ARCHITECTURES that a text is meant for; one that ends in "a" (features of its own) only for itself."""
    minimum = minimum_architecture(code)
    return tuple(a for a in ARCHITECTURES if capability_of(a) >= capability_of(minimum))


def variants_of(code: str) -> tuple[tuple[str, ...], ...]:
    """The options a text is compiled with: none, and each line `// compile with: -DELEMENT=half -DGELU=1`."""
    return ((), *(tuple(line.split()) for line in _VARIANT.findall(code)))


# ------------------------------------------------------------------------------------------------------- compilation


class CompileError(RuntimeError):
    """A `.cu` file that nvcc or NVRTC refuses; the message is the compiler's."""


@dataclass(frozen=True)
class Resources:
    """What one thread of a compiled kernel takes: registers, and bytes of local memory that stand in for them."""

    kernel: str
    registers: int
    stack_bytes: int
    spill_bytes: int


def find_nvcc() -> str | None:
    """The nvcc of the CUDA toolkit, from PATH or CUDA_HOME."""
    if found := shutil.which("nvcc"):
        return found
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        if os.environ.get(variable) and (found := shutil.which("nvcc", path=f"{os.environ[variable]}/bin")):
            return found
    return None


def problem() -> str | None:
    """Why nothing can be compiled for a GPU here, or None where it can."""
    if find_nvcc() or _nvrtc_is_here():
        return None
    return (
        "there is neither nvcc (the CUDA toolkit) nor NVRTC "
        "(pip install 'cuda-bindings==13.*' nvidia-cuda-nvrtc nvidia-cuda-runtime nvidia-cuda-crt)"
    )


def _nvrtc_is_here() -> bool:
    if importlib.util.find_spec("cuda") is None:
        return False
    try:
        return importlib.util.find_spec("cuda.bindings.nvrtc") is not None
    except ModuleNotFoundError:
        return False


def include_folders() -> tuple[str, ...]:
    """Where CUDA's own headers (cuda_fp16.h, mma.h) stand: the toolkit's folder, or those of NVIDIA's wheels."""
    folders = []
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        if os.environ.get(variable):
            folders.append(Path(os.environ[variable]) / "include")
    if nvcc := find_nvcc():
        folders.append(Path(nvcc).resolve().parent.parent / "include")
    folders.append(Path("/usr/local/cuda/include"))
    for wheel in ("nvidia-cuda-runtime", "nvidia-cuda-crt", "nvidia-cuda-runtime-cu12", "nvidia-cuda-nvcc-cu12"):
        folders += _wheel_headers(wheel)
    return tuple(dict.fromkeys(str(f) for f in folders if (f / "cuda_fp16.h").is_file() or (f / "mma.h").is_file()))


def _wheel_headers(wheel: str) -> list[Path]:
    try:
        files = importlib.metadata.files(wheel) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return list({Path(str(f.locate())).parent for f in files if f.name in ("cuda_fp16.h", "mma.h")})


def check(code: str, architecture: str, options: tuple[str, ...] = (), *, use: str | None = None) -> list[Resources]:
    """Compile a text to machine code for an architecture; every warning is an error. → what its kernels take.

    use  "nvcc" or "nvrtc"; None takes nvcc where there is one. Raises CompileError.

    What has been compiled without a complaint is remembered in the user's cache folder, by its content.
    """
    if reason := problem():
        raise CompileError(reason)
    compiler = use or ("nvcc" if find_nvcc() else "nvrtc")
    key = "\0".join([_version(compiler), architecture, *options, code])
    remembered = cache_folder("cuda-check") / (hashlib.sha256(key.encode()).hexdigest()[:24] + ".json")
    if remembered.is_file():
        return [Resources(**entry) for entry in json.loads(remembered.read_text())]
    found = _resources((_with_nvcc if compiler == "nvcc" else _with_nvrtc)(code, architecture, options))
    private = remembered.with_name(f"{remembered.name}.{os.getpid()}")
    private.write_text(json.dumps([asdict(resources) for resources in found]))
    os.replace(private, remembered)
    return found


@functools.cache
def _version(compiler: str) -> str:
    if compiler == "nvcc":
        return subprocess.run([str(find_nvcc()), "--version"], capture_output=True, text=True).stdout
    from cuda.bindings import nvrtc

    return f"nvrtc {nvrtc.nvrtcVersion()}"


def _with_nvcc(code: str, architecture: str, options: tuple[str, ...]) -> str:
    nvcc = find_nvcc()
    assert nvcc is not None
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.cu"
        source.write_text(code, encoding="utf-8")
        command = [nvcc, "-std=c++17", f"-arch={architecture}", "-cubin", "-Xptxas=-v", "-Werror=all-warnings"]
        command += [*options, "-o", str(Path(folder) / "kernel.cubin"), str(source)]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise CompileError((done.stderr + done.stdout).strip())
    return done.stderr + done.stdout


def _with_nvrtc(code: str, architecture: str, options: tuple[str, ...]) -> str:
    from cuda.bindings import nvrtc  # type: ignore[import-not-found,unused-ignore]

    def call(result: tuple) -> tuple:
        return result[1:] if int(result[0]) == 0 else _raise(result[0])

    def _raise(status: object) -> tuple:
        raise CompileError(f"NVRTC: {status}")

    (program,) = call(nvrtc.nvrtcCreateProgram(code.encode(), b"kernel.cu", 0, [], []))
    flags = [f"-arch={architecture}", "-std=c++17", "--ptxas-options=-v", *options]
    flags += [f"-I{folder}" for folder in include_folders()]
    status = nvrtc.nvrtcCompileProgram(program, len(flags), [f.encode() for f in flags])[0]
    (size,) = call(nvrtc.nvrtcGetProgramLogSize(program))
    log = b" " * size
    call(nvrtc.nvrtcGetProgramLog(program, log))
    text = log.decode(errors="replace").strip("\0 \n")
    if int(status) or re.search(r"\bwarning\b", text):
        raise CompileError(text)
    return text


_ENTRY = re.compile(r"Compiling entry function '(\w+)'")
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers")


def _resources(log: str) -> list[Resources]:
    """What `ptxas -v` says of each kernel."""
    found, name, stack, spill = [], "", 0, 0
    for line in log.splitlines():
        if match := _ENTRY.search(line):
            name, stack, spill = match[1], 0, 0
        elif match := _STACK.search(line):
            stack, spill = int(match[1]), int(match[2]) + int(match[3])
        elif (match := _USED.search(line)) and name:
            found.append(Resources(name, int(match[1]), stack, spill))
            name = ""
    return found
