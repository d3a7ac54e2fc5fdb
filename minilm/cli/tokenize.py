"""`minilm tokenize`: what a tokenizer makes of a text, and learning a tokenizer."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from .arguments import add_verb, at_least
from .models import DEFAULT_MODEL

EXAMPLES = """\
  minilm tokenize "Hello world"
      the tokens of a text with their ids
  minilm tokenize --file book.txt --model gpt2
      ... of a file; how many there are, and how many bytes each stands for
  minilm tokenize --decode 15496 995 --model gpt2
      the text of some ids
  minilm tokenize --train book.txt --vocab-size 2048 --output runs/tokenizer
      learns a vocabulary from a text, byte-level byte-pair encoding as in GPT-2
"""
SHOWN = 64  # tokens of a file that are printed; of a text on the command line all are


def add_parser(verbs: Any) -> None:
    parser = add_verb(verbs, "tokenize", run, "cut a text into tokens, or learn a tokenizer", EXAMPLES)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("text", nargs="?", help="the text itself")
    what.add_argument("--file", help="a text file")
    what.add_argument("--decode", nargs="+", type=at_least(0), metavar="ID", help="ids to turn into text")
    what.add_argument("--train", metavar="TEXT", help="a text file or a folder of them to learn from")
    parser.add_argument("--model", default=DEFAULT_MODEL, help=f"a name or a folder ({DEFAULT_MODEL})")
    parser.add_argument("--vocab-size", type=at_least(257), default=2048, metavar="N", help="to learn (2048)")
    parser.add_argument("--output", metavar="FOLDER", help="with --train: where the tokenizer goes")
    parser.add_argument("--encoding", default="utf-8", help="of the text files (utf-8)")
    parser.add_argument("--json", action="store_true", help="print the ids as JSON")


def run(options: argparse.Namespace) -> int:
    if options.train is not None:
        return _train(options)
    text = options.text
    if options.file is not None:
        from minilm.data import text_files

        text = "".join(file.read() for file in text_files(options.file, encoding=options.encoding))
    from .models import load_tokenizer, model_folder

    tokenizer = load_tokenizer(model_folder(options.model))
    if options.decode is not None:
        print(tokenizer.decode(options.decode))
        return 0
    ids = tokenizer.encode(text)
    if options.json:
        print(json.dumps(ids))
        return 0
    shown = ids if options.file is None else ids[:SHOWN]
    for number in shown:
        print(f"{number:>7}  {tokenizer.decode([number])!r}")
    if len(shown) < len(ids):
        print(f"    ...  {len(ids) - len(shown):,} more")
    size = len(text.encode())
    print(f"{len(ids):,} tokens, {size:,} bytes, {size / max(1, len(ids)):.2f} bytes per token")
    return 0


def _train(options: argparse.Namespace) -> int:
    if options.output is None:
        raise ValueError("--train needs --output, the folder for the tokenizer")
    from minilm.data import text_files

    files = text_files(options.train, encoding=options.encoding)
    from minilm.tokenizers import GPT2Tokenizer

    pieces = (file.pieces() for file in files)
    tokenizer = GPT2Tokenizer.train(pieces, options.vocab_size, progress=sys.stderr.isatty())
    tokenizer.save_pretrained(options.output)
    print(f"{len(tokenizer):,} tokens, saved in {options.output}")
    return 0
