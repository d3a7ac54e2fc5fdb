"""From what a user names to a model and its tokenizer: a bundled model, a folder, or the folder of a run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

__all__ = ["DEFAULT_MODEL", "load_model", "load_tokenizer", "model_folder"]

DEFAULT_MODEL = "minilm/tiny-gpt"


def model_folder(name: str) -> str:
    """Return `name`, or the newest checkpoint if it is the folder of a run; says so on the error stream."""
    from minilm.training import list_checkpoints

    found = list_checkpoints(name)
    if not found or (Path(name) / "config.json").exists():
        return name
    print(f"using {found[-1]}", file=sys.stderr)
    return str(found[-1])


def load_model(name: str) -> Any:
    """Return the language model called `name`, in evaluation mode."""
    from minilm.models import GPT2LMHeadModel

    return GPT2LMHeadModel.from_pretrained(name)


def load_tokenizer(name: str) -> Any:
    """Return the tokenizer that belongs to the model called `name`."""
    from minilm import hub
    from minilm.tokenizers import CharTokenizer, GPT2Tokenizer

    folder = hub.resolve(name, files=GPT2Tokenizer.FILES)
    config = folder / "tokenizer_config.json"
    kind = json.loads(config.read_text(encoding="utf-8")).get("tokenizer_class") if config.is_file() else None
    tokenizer_class = CharTokenizer if kind == "CharTokenizer" else GPT2Tokenizer
    return tokenizer_class.from_pretrained(folder)
