"""Shared set-up of the test suite."""

import sys

# A published package owns the import name `kernels`, and Transformers looks for it. From the root of this
# repository Python would find our bare `kernels/` folder instead, so the name is taken out of play first.
sys.modules.setdefault("kernels", None)  # type: ignore[arg-type]
