"""`python -m minilm`: the command line."""

import sys

from minilm.cli import main

if __name__ == "__main__":
    sys.exit(main())
