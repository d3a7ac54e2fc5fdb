"""Text from files and folders, read in pieces of bounded size.

It refuses what is not text (binary files, wrong encodings, empty files) with the name of the file and the
position, instead of replacing bytes that it cannot decode.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["TextFile", "text_files"]

TEXT_SUFFIXES = (".txt", ".text", ".md", ".rst")
BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class TextFile:
    """One text file, read in pieces."""

    path: Path
    encoding: str = "utf-8"

    def __post_init__(self) -> None:
        try:
            codecs.lookup(self.encoding)
        except LookupError:
            raise ValueError(f"there is no encoding {self.encoding!r}; expected one such as utf-8") from None

    def pieces(self, size: int = 1 << 20) -> Iterator[str]:
        """Yield the text in pieces of about `size` characters, cut before white space wherever there is some.

        The cut stands between a character that is not white space and one that is. The pre-tokenisation of
        GPT-2 has a boundary there in any case, so the pieces give the same tokens as the whole text. A
        stretch of more than 16 `size` characters without any white space is cut where it stands. Line ends
        become `\\n`; a byte order mark is dropped.

        Raises:
            ValueError: the file is binary or not in this encoding; the message names the file and the byte.
        """
        rest = ""
        for block in self._blocks():
            rest += block
            while len(rest) > size:
                cut = _boundary(rest, size)
                if cut == 0 and len(rest) < 16 * size:
                    break
                cut = cut or size
                yield rest[:cut]
                rest = rest[cut:]
        if rest:
            yield rest

    def read(self) -> str:
        """Return the whole text; `ValueError` as for `pieces`."""
        return "".join(self._blocks())

    def _blocks(self) -> Iterator[str]:
        encoding = (
            "utf-8-sig" if self.encoding.lower().replace("_", "-") in ("utf-8", "utf8") else self.encoding
        )
        decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(encoding)(), translate=True)
        consumed = 0
        with self.path.open("rb") as file:
            while True:
                block = file.read(BLOCK_BYTES)
                if b"\0" in block and not encoding.lower().startswith(("utf-16", "utf-32")):
                    where = consumed + block.index(b"\0")
                    raise ValueError(
                        f"{self.path} is not text: byte {where} is zero; expected text in {self.encoding}"
                    )
                consumed += len(block)
                try:
                    text = decoder.decode(block, final=not block)
                except UnicodeDecodeError as error:
                    where = consumed - len(error.object) + error.start
                    raise ValueError(
                        f"{self.path} is not {self.encoding}: byte {where} is "
                        f"0x{error.object[error.start]:02x} ({error.reason}); convert the file to UTF-8 or "
                        "pass its encoding"
                    ) from None
                if text:
                    yield text
                if not block:
                    return


def text_files(path: str | Path, pattern: str | None = None, encoding: str = "utf-8") -> list[TextFile]:
    """Return the text files at `path`: the file itself, or the files of a folder and its subfolders, sorted by name.

    Args:
        path: a file, or a folder.
        pattern: which files of a folder, as in `Path.rglob` (`"*.py"`); by default those that end in `.txt`,
            `.text`, `.md` or `.rst`. Hidden files and folders and empty files are left out.
        encoding: of the files.

    Raises:
        FileNotFoundError: there is nothing at `path`.
        ValueError: the file is empty, or the folder holds no text file.
    """
    path = Path(path)
    if path.is_file():
        if path.stat().st_size == 0:
            raise ValueError(f"{path} is empty; expected a text file")
        return [TextFile(path, encoding)]
    if not path.is_dir():
        raise FileNotFoundError(f"no file or folder {path}")
    found = [
        file
        for file in sorted(path.rglob(pattern or "*"))
        if file.is_file()
        and (pattern or file.suffix.lower() in TEXT_SUFFIXES)
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
    ]
    wanted = pattern or "*" + ", *".join(TEXT_SUFFIXES)
    if not found:
        raise ValueError(
            f"the folder {path} holds no file {wanted}; name the file, or pass a pattern such as '*.py'"
        )
    filled = [TextFile(file, encoding) for file in found if file.stat().st_size]
    if not filled:
        raise ValueError(f"all {len(found)} files {wanted} in the folder {path} are empty")
    return filled


def _boundary(text: str, size: int) -> int:
    """Return where to cut `text`: the last boundary up to `size`, else the first after it, else 0."""
    for position in range(size, 0, -1):
        if text[position] in " \n\t" and not text[position - 1].isspace():
            return position
    later = re.compile(r"(?<=\S)[ \n\t]").search(text, size)
    return later.start() if later else 0
