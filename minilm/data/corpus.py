"""The embedded corpus: English text that comes with every Python, so that training works offline.

Two sources, both part of the standard library: the language reference that `help("try")` shows
(`pydoc_data.topics`) and the documentation strings of the library's own modules. They are read with `ast`, so
no module is imported and none of its side effects happen. What is left after cleaning is about 1.7 MB of
technical prose.

The text belongs to the Python that runs it: a newer Python has newer documentation. Never pin a loss to it.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import os
import re
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

__all__ = ["cache_folder", "embedded_documents", "embedded_text"]

# Folders of the standard library that hold tests or vendored copies, not documentation.
SKIPPED_FOLDERS = {"test", "tests", "idle_test", "lib2to3", "site-packages", "dist-packages", "__pycache__"}
COMMON_WORDS = set(
    "the a an is are be of to in for and or that this it if as by on with not when from which can has".split()
)
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
CODE = re.compile(
    r"::=|>>>|\b(?:def|class) \w+\(|^\w+ = |^(?:for|while|with|async|import|await|try|if)\b.*?(?:: |\()"
)
SEPARATOR = "\n\f\n"  # between documents in the cache file; `clean` leaves no form feed in a text


def embedded_text() -> str:
    """Return the embedded corpus as one string: documents and paragraphs separated by blank lines.

    About 1.7 million characters; the same string on every run of one Python version.

    Raises:
        RuntimeError: this Python came without the sources of its standard library.
    """
    return "\n\n".join(embedded_documents())


@functools.cache
def embedded_documents() -> tuple[str, ...]:
    """Return the embedded corpus as documents: one per topic of the reference and one per library module.

    The order is that of a hash of each document's name. So a split by position gives a fair sample of documents to
    both sides, and a module keeps its place among the others from one Python version to the next. A paragraph that
    occurs twice is kept once: copies would let a validation split be learnt by heart.

    Parsing the library takes some seconds, so the result is kept in `cache_folder()`; when that folder cannot
    be written the text is simply read again next time.

    Raises:
        RuntimeError: this Python came without the sources of its standard library.
    """
    cache = cache_folder() / f"embedded-{_fingerprint()}.txt"
    if cache.is_file():
        return tuple(cache.read_text(encoding="utf-8").split(SEPARATOR))
    documents = tuple(_collect())
    _write_cache(cache, SEPARATOR.join(documents))
    return documents


def cache_folder() -> Path:
    """Return the folder for files that can be made again: `MINILM_CACHE`, or `minilm` in the system's cache folder."""
    if "MINILM_CACHE" in os.environ:
        return Path(os.environ["MINILM_CACHE"])
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "minilm" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "minilm"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minilm"


def clean(text: str) -> list[str]:
    """Return the paragraphs of `text` that are English prose, each on one line and without markup.

    Code examples, grammar rules, tables, headings and signatures are dropped.
    """
    paragraphs = []
    for block in re.split(r"\n[ \t\f]*\n|\n(?=[ \t]*[*+-] )", text):  # blank lines and bullets
        lines = [line.strip() for line in block.splitlines()]
        lines = [line for line in lines if line and not re.fullmatch(r"[^\w\s]{2,}", line)]  # no underlines
        paragraph = re.sub(r"(?<=[a-z])- (?=[a-z])", "-", " ".join(lines))  # a hyphen at the end of a line
        paragraph = _without_markup(paragraph)
        if _is_prose(paragraph):
            paragraphs.append(paragraph)
    return paragraphs


def _without_markup(text: str) -> str:
    """Replace reStructuredText markup by the words it marks."""
    text = re.sub(r":[a-z:]+:`~?([^`]+)`", r"\1", text)  # :class:`~a.B` -> a.B
    text = re.sub(r"``([^`]+)``|`([^`']+)[`']", lambda match: match[1] or match[2], text)
    text = re.sub(r"(?<![\w*])\*{1,2}([^\s*](?:[^*]*[^\s*])?)\*{1,2}(?![\w*])", r"\1", text)  # *emphasis*
    text = re.sub(r"\s*\[\d+\]_?", "", text)  # marks of footnotes
    text = re.sub(r"^(?:[*+-]|\d+[.)]|\(\w\)|\.\. \w+::?)\s+", "", text)  # bullets and directives
    return re.sub(r"\s+", " ", text).strip()


def _is_prose(paragraph: str) -> bool:
    """Tell sentences from code: enough words, mostly letters, and some of the commonest words of English."""
    words = paragraph.split()
    if len(words) < 5 or paragraph.startswith((">>>", "...", "|", "+-", "$", "#", "@")):
        return False
    if CODE.search(paragraph):
        return False
    letters = sum(character.isalpha() or character == " " for character in paragraph)
    common = sum(word.lower() in COMMON_WORDS for word in words)
    return letters > 0.85 * len(paragraph) and common >= max(1, len(words) // 12)


def _collect() -> Iterator[str]:
    """Yield the cleaned documents in their fixed order."""
    library = Path(sysconfig.get_paths()["stdlib"])
    sources = dict(_topics())
    sources.update(_module_docstrings(library))
    if len(sources) < 100:
        raise RuntimeError(
            f"the embedded corpus needs the sources of Python's standard library, and {library} holds only "
            f"{len(sources)} documents; train on a text file of your own instead (minilm.data.text_files)"
        )
    seen: set[str] = set()
    for name in sorted(sources, key=lambda name: hashlib.sha256(name.encode()).digest()):
        paragraphs = [paragraph for paragraph in clean(sources[name]) if paragraph not in seen]
        paragraphs = list(dict.fromkeys(paragraphs))
        seen.update(paragraphs)
        if paragraphs:
            yield "\n\n".join(paragraphs)


def _topics() -> Iterator[tuple[str, str]]:
    """Yield the chapters of the language reference that `help()` shows."""
    try:
        from pydoc_data.topics import topics
    except ImportError:  # a few distributions leave it out; the docstrings alone still make a corpus
        return
    for name, text in topics.items():
        yield f"topic {name}", text


def _module_docstrings(library: Path) -> Iterator[tuple[str, str]]:
    """Yield each module of the standard library with its docstrings, in the order of the source."""
    for path in sorted(library.rglob("*.py")):
        parts = path.relative_to(library).with_suffix("").parts
        if parts[0] not in sys.stdlib_module_names or SKIPPED_FOLDERS.intersection(parts):
            continue
        tree = ast.parse(path.read_bytes())
        nodes = [node for node in ast.walk(tree) if isinstance(node, DOCUMENTED)]
        nodes.sort(key=lambda node: getattr(node, "lineno", 0))  # ast.walk goes by depth
        text = "\n\n".join(filter(None, map(ast.get_docstring, nodes)))
        if text:
            yield "module " + ".".join(parts), text


def _fingerprint() -> str:
    """Name the text by what it depends on: this Python, its library, and the cleaning rules of this file."""
    parts = [sys.version, sysconfig.get_paths()["stdlib"], Path(__file__).read_text(encoding="utf-8")]
    return (
        f"{sys.version_info.major}.{sys.version_info.minor}-"
        + hashlib.sha256("".join(parts).encode()).hexdigest()[:12]
    )


def _write_cache(path: Path, text: str) -> None:
    """Keep `text` for next time, whole or not at all."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8", newline="\n")
        temporary.replace(path)
    except OSError:  # a read-only home folder: only the time saved is lost
        return
