"""Reading a preprocessed `.cu` text: its kernels and their parameters, and its `__shared__` declarations as C++."""

from __future__ import annotations

import re
from dataclasses import dataclass

from minilm_kernels.emulator.errors import CompileError


@dataclass(frozen=True)
class Parameter:
    """One parameter of a kernel: `const float* a` is type "float", a pointer, const, named "a"."""

    type: str
    pointer: bool
    const: bool
    name: str


@dataclass(frozen=True)
class Signature:
    """A kernel as its source declares it."""

    name: str
    parameters: tuple[Parameter, ...]


_BOUNDS = r"(?:__launch_bounds__\s*\((?:[^()]|\([^()]*\))*\)\s*)?"
_KERNEL = re.compile(rf'extern\s+"C"\s+__global__\s+{_BOUNDS}void\s+{_BOUNDS}(\w+)\s*\(([^)]*)\)')
_SHARED = re.compile(
    r"(?P<extern>\bextern\s+)?\b__shared__\s+(?:(?:__align__|alignas)\s*\((?P<align>[^)]*)\)\s*)?(?P<rest>[^;{}=]*);"
)
_QUALIFIERS = re.compile(r"\b(__restrict__|__grid_constant__|const|volatile)\b")


def signatures(source: str) -> dict[str, Signature]:
    """The `extern "C" __global__` kernels of a preprocessed text, by name."""
    found = {}
    for name, text in _KERNEL.findall(source):
        parameters = [_parameter(p) for p in _split(_without_marks(text)) if p.strip() not in ("", "void")]
        found[name] = Signature(name, tuple(parameters))
    return found


def _without_marks(text: str) -> str:
    """The text without the preprocessor's `# 12 "file"` lines."""
    return re.sub(r"^#[^\n]*$", "", text, flags=re.MULTILINE)


def _parameter(text: str) -> Parameter:
    words = _QUALIFIERS.sub(" ", text).replace("*", " * ").split()
    return Parameter(
        type=" ".join(w for w in words[:-1] if w != "*"),
        pointer="*" in words,
        const=re.search(r"\bconst\b[^*]*\*|^[^*]*\bconst\b", text) is not None,
        name=words[-1],
    )


def rewrite_shared(source: str) -> str:
    """Replace `__shared__ float tile[32][33];` by `MINILM_SHARED(tile, ([32][33]), 0, float);`, line for line.

    What the macro does with it stands in include/shared.h.
    """
    pieces, end = [], 0
    for match in _SHARED.finditer(source):
        if match["extern"]:
            raise CompileError(f"write DYNAMIC_SHARED(type, name) instead of `{match[0].strip()}`")
        made = _declarations(_without_marks(match["rest"]), match["align"])
        pieces += [source[end : match.start()], made, "\n" * match[0].count("\n")]
        end = match.end()
    return "".join(pieces) + source[end:]


def _declarations(text: str, align: str | None) -> str:
    first, *others = _split(text)
    match = re.fullmatch(r"\s*(?P<type>.+?[\s>])\s*(?P<name>\w+)\s*(?P<dims>(?:\[.*\])?)\s*", first, re.DOTALL)
    if match is None:
        raise CompileError(f"expected `__shared__ type name[size]...;`, found `__shared__ {text.strip()};`")
    made = [_macro(match["type"], match["name"], match["dims"], align)]
    for other in others:
        more = re.fullmatch(r"\s*(\w+)\s*((?:\[.*\])?)\s*", other, re.DOTALL)
        if more is None:
            raise CompileError(f"cannot read `{other.strip()}` in `__shared__ {text.strip()};`")
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
