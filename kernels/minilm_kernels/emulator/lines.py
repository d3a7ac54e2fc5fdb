"""From an instruction in a library to the line of source it was made of."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path


def lines_of(library: Path, offsets: Iterable[int]) -> dict[int, str]:
    """{offset: "file:line"} for addresses relative to the library's beginning; "" where no tool can tell.

    The tool is addr2line, which comes with every GCC, or its LLVM twin.
    """
    wanted = sorted(set(offsets))
    tool = shutil.which("addr2line") or shutil.which("llvm-addr2line")
    if tool is None or sys.platform == "darwin" or not wanted:
        return dict.fromkeys(wanted, "")
    command = [tool, "-e", str(library), *(hex(offset) for offset in wanted)]
    done = subprocess.run(command, capture_output=True, text=True)
    found = done.stdout.splitlines()
    if done.returncode or len(found) != len(wanted):
        return dict.fromkeys(wanted, "")
    return {offset: _clean(line) for offset, line in zip(wanted, found, strict=True)}


def _clean(line: str) -> str:
    place, _, _ = line.partition(" (discriminator")
    file, _, number = place.rpartition(":")
    if "?" in place:
        return ""
    return f"{_shortest(file)}:{number}"


def _shortest(file: str) -> str:
    """The compiler joins a `#line` name to its working directory; what we named is the end that is relative to it."""
    try:
        return Path(file).relative_to(Path.cwd()).as_posix()
    except ValueError:
        return Path(file).name if Path(file).is_absolute() else file
