"""From a `.cu` file to one source text: `#include "common.cuh"` and its like are written in place."""

from __future__ import annotations

import re
from pathlib import Path

from minilm_kernels.cuda.runtime import CUDA_FOLDER

_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+"([^"]+\.cuh)"[^\n]*$', re.MULTILINE)


def assemble(source_file: str | Path) -> str:
    """The text of a `.cu` file below `minilm_kernels/cuda/` with our own headers inlined, each once.

    `#line` marks keep the compiler's messages true to the files.
    """
    path = CUDA_FOLDER / source_file
    if not path.is_file():
        known = ", ".join(str(p.relative_to(CUDA_FOLDER)) for p in sorted(CUDA_FOLDER.rglob("*.cu"))) or "none"
        raise FileNotFoundError(f"there is no kernel file {str(source_file)!r} in {CUDA_FOLDER}; there are: {known}")
    return _inline(path, set())


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
