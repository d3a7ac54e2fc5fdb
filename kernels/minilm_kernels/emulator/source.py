"""Reading a `.cu` text: its kernels and their parameters, and its `__shared__` declarations made into C++."""

from __future__ import annotations

import re
from dataclasses import dataclass

from minilm_kernels.emulator.errors import CompileError


@dataclass(frozen=True)
class Parameter:
    """One parameter of a kernel: `const float* a` → type "float", pointer True, name "a"."""

    type: str
    pointer: bool
    name: str
    const: bool


@dataclass(frozen=True)
class Signature:
    """A kernel as its source declares it."""

    name: str
    parameters: tuple[Parameter, ...]


_KERNEL = re.compile(
    r'extern\s+"C"\s+__global__\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?void\s+'
    r"(?:__launch_bounds__\s*\([^)]*\)\s*)?(\w+)\s*\(([^)]*)\)"
)
_SHARED = re.compile(
    r"(?P<extern>\bextern\s+)?\b__shared__\s+(?:(?:__align__|alignas)\s*\((?P<align>[^)]*)\)\s*)?(?P<rest>[^;{}=]*);"
)


def without_comments(source: str) -> str:
    """The text with comments blanked out, every line where it was."""

    def blank(match: re.Match[str]) -> str:
        text = match.group(0)
        return re.sub(r"[^\n]", " ", text) if text.startswith("/") else text

    return re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"', blank, source, flags=re.DOTALL)


def _without_directives(source: str) -> str:
    """The text with preprocessor lines (and their continuations) blanked out, every line where it was."""
    return re.sub(
        r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", lambda m: re.sub(r"[^\n]", " ", m[0]), source, flags=re.MULTILINE
    )


def signatures(source: str) -> dict[str, Signature]:
    """The `extern "C" __global__` kernels of a source text, by name."""
    found = {}
    for name, text in _KERNEL.findall(without_comments(source)):
        parameters = [_parameter(p) for p in text.split(",") if p.strip()]
        found[name] = Signature(name, tuple(parameters))
    return found


def _parameter(text: str) -> Parameter:
    words = re.sub(r"\b(__restrict__|__grid_constant__|const|volatile)\b", " ", text).replace("*", " * ").split()
    return Parameter(
        type=" ".join(w for w in words[:-1] if w != "*"),
        pointer="*" in words,
        name=words[-1],
        const=re.search(r"\bconst\b", text) is not None,
    )


def rewrite_shared(source: str) -> str:
    """Replace `__shared__ float tile[32][33];` by `MINILM_SHARED(float, tile, [32][33], 0);`, line for line.

    A C++ compiler has no storage that belongs to a block: the macro takes it from the emulator's arena, where the
    array has a name, a known extent and a guard zone on both sides.
    """
    plain = _without_directives(without_comments(source))
    pieces, end = [], 0
    for match in _SHARED.finditer(plain):
        line = plain.count("\n", 0, match.start()) + 1
        if match["extern"]:
            raise CompileError(f"line {line}: write DYNAMIC_SHARED(type, name) instead of `{match[0].strip()}`")
        pieces += [source[end : match.start()], _declarations(match["rest"], match["align"], line)]
        pieces.append("\n" * match[0].count("\n"))
        end = match.end()
    return "".join(pieces) + source[end:]


def _declarations(text: str, align: str | None, line: int) -> str:
    first, *others = _split(text)
    match = re.fullmatch(r"\s*(?P<type>.+?[\s>])\s*(?P<name>\w+)\s*(?P<dims>(?:\[.*\])?)\s*", first, re.DOTALL)
    if match is None:
        raise CompileError(
            f"line {line}: expected `__shared__ type name[size]...;`, found `__shared__ {text.strip()};`"
        )
    made = [_macro(match["type"], match["name"], match["dims"], align)]
    for other in others:
        more = re.fullmatch(r"\s*(\w+)\s*((?:\[.*\])?)\s*", other, re.DOTALL)
        if more is None:
            raise CompileError(f"line {line}: cannot read `{other.strip()}` in a __shared__ declaration")
        made.append(_macro(match["type"], more[1], more[2], align))
    return " ".join(made)


def _macro(type_: str, name: str, dims: str, align: str | None) -> str:
    # The type may hold commas (a template): it goes last, into the macro's variable arguments.
    return f"MINILM_SHARED({name}, ({' '.join(dims.split())}), {align or 0}, {' '.join(type_.split())});"


def _split(text: str) -> list[str]:
    """Split at the commas outside of brackets."""
    parts, depth, start = [], 0, 0
    for i, character in enumerate(text):
        depth += (character in "[(<") - (character in "])>")
        if character == "," and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    return [*parts, text[start:]]
