"""Runs the table of cases: every operation, in every memory layout."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from minilm.gradcheck.cases import Case, Operations, all_cases
from minilm.gradcheck.check import gradcheck
from minilm.gradcheck.points import LAYOUTS
from minilm.gradcheck.report import GradcheckResult, Report


def check_case(
    case: Case, *, layout: str = "contiguous", mode: str = "exhaustive", tolerance: float = 1e-6, seed: int = 0
) -> GradcheckResult:
    """Checks one case of the table; the result says which inputs fail, and how."""
    random = np.random.default_rng(seed)
    inputs = tuple(points.draw(random, layout) for points in case.inputs)
    return gradcheck(
        case.function(Operations()),
        inputs,
        mode=mode,
        tolerance=tolerance,
        seed=seed,
        raise_exception=False,
        name=case.title,
    )


def check_all(
    operations: Iterable[str] | None = None,
    *,
    mode: str = "exhaustive",
    layouts: Iterable[str] = LAYOUTS,
    tolerance: float = 1e-6,
    seed: int = 0,
    on_result: Callable[[GradcheckResult], None] | None = None,
) -> Report:
    """Checks every operation of minilm over the table in `cases.py`, or only the operations named.

    Each case runs with its inputs in each memory layout; of the results, the worst is kept. `on_result` sees
    each of them as soon as it is there. Raises ValueError for an operation that the table does not have.
    """
    cases = list(all_cases())
    if operations is not None:
        wanted = set(operations)
        unknown = wanted - {case.operation for case in cases}
        if unknown:
            known = ", ".join(sorted({case.operation for case in cases}))
            raise ValueError(f"no cases for {', '.join(sorted(unknown))}; the table has {known}")
        cases = [case for case in cases if case.operation in wanted]
    chosen = tuple(layouts)
    results = []
    for case in cases:
        tried = [check_case(case, layout=layout, mode=mode, tolerance=tolerance, seed=seed) for layout in chosen]
        failed = [result for result in tried if not result]
        results.append(failed[0] if failed else max(tried, key=lambda result: result.relative_error))
        if on_result is not None:
            on_result(results[-1])
    return Report(tuple(results))
