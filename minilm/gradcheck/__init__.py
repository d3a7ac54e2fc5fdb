"""Is every gradient right? Gradients against differences: of one function, of a module, of every operation."""

from minilm.gradcheck.check import gradcheck, gradcheck_module
from minilm.gradcheck.report import GradcheckError, GradcheckResult, InputCheck, Report
from minilm.gradcheck.suite import check_all, check_case

__all__ = [
    "GradcheckError",
    "GradcheckResult",
    "InputCheck",
    "Report",
    "check_all",
    "check_case",
    "gradcheck",
    "gradcheck_module",
]
