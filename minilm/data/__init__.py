"""Text and tokens: the embedded corpus, text files, token files on disk, and batches of windows."""

from .batches import RandomWindows, SequentialWindows
from .corpus import embedded_documents, embedded_text
from .text import TextFile, text_files
from .tokens import TokenDataset

__all__ = [
    "RandomWindows",
    "SequentialWindows",
    "TextFile",
    "TokenDataset",
    "embedded_documents",
    "embedded_text",
    "text_files",
]
