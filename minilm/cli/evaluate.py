"""`minilm evaluate`: how well a model predicts a text."""

from __future__ import annotations

import argparse
import json
from typing import Any

from .arguments import add_verb, at_least
from .models import DEFAULT_MODEL

EXAMPLES = """\
  minilm evaluate chapter.txt
      perplexity of the small GPT that comes with minilm
  minilm evaluate chapter.txt --model runs/book --stride 1
      ... of a model of yours, every token with as much context as the model takes
  minilm evaluate texts/ --json
      all text files of a folder together, as JSON
"""


def add_parser(verbs: Any) -> None:
    parser = add_verb(
        verbs, "evaluate", run, "measure how well a model predicts a text (perplexity)", EXAMPLES
    )
    parser.add_argument("text", help="a text file or a folder of them")
    parser.add_argument("--model", default=DEFAULT_MODEL, help=f"a name or a folder ({DEFAULT_MODEL})")
    parser.add_argument(
        "--stride", type=at_least(1), metavar="N", help="tokens the window moves on (half of the context)"
    )
    parser.add_argument(
        "--batch-size", type=at_least(1), default=8, metavar="N", help="windows at a time (8)"
    )
    parser.add_argument("--encoding", default="utf-8", help="of the text files (utf-8)")
    parser.add_argument("--pattern", help="which files of a folder, such as '*.py'")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(options: argparse.Namespace) -> int:
    from minilm.data import text_files

    files = text_files(options.text, options.pattern, options.encoding)
    texts = [file.read() for file in files]
    from minilm.evaluation import score_text

    from .models import load_model, load_tokenizer, model_folder

    folder = model_folder(options.model)
    tokenizer, model = load_tokenizer(folder), load_model(folder)
    scores = [
        score_text(
            model,
            tokenizer,
            text,
            stride=options.stride,
            batch_size=options.batch_size,
            progress=not (options.quiet or options.json),
        )
        for text in texts
    ]
    total = sum(scores[1:], scores[0])
    numbers = {
        "files": len(files),
        "tokens": total.tokens,
        "loss": total.loss,
        "perplexity": total.perplexity,
        "bits_per_byte": total.bits_per_byte,
        "bits_per_character": total.bits_per_character,
    }
    if options.json:
        print(json.dumps(numbers, indent=1))
        return 0
    print(f"{options.text}, {len(files)} file{'s' * (len(files) > 1)}, {total.tokens:,} tokens")
    print(f"loss                {total.loss:10.4f} nats per token")
    print(f"perplexity          {total.perplexity:10.2f}")
    print(f"bits per byte       {total.bits_per_byte:10.4f}")
    print(f"bits per character  {total.bits_per_character:10.4f}")
    return 0
