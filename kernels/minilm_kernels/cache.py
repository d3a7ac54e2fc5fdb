"""Where compiled kernels are kept between runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_folder(kind: str) -> Path:
    """The folder for compiled code of one kind, in the user's cache directory; made if it is missing.

    MINILM_CACHE overrides the place. Everything in it can be deleted at any time.
    """
    if os.environ.get("MINILM_CACHE"):
        root = Path(os.environ["MINILM_CACHE"])
    elif sys.platform == "win32":
        root = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "minilm"
    elif sys.platform == "darwin":
        root = Path.home() / "Library" / "Caches" / "minilm"
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minilm"
    folder = root / kind
    folder.mkdir(parents=True, exist_ok=True)
    return folder
