"""Execute a notebook from top to bottom in a fresh kernel, and measure its time and peak memory."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from . import files

# Run in the kernel after the last cell. VmHWM belongs to the program that runs now; ru_maxrss on Linux also
# remembers the process it was started from.
PEAK_MEMORY = """
def _peak_bytes():
    import sys
    from pathlib import Path
    if sys.platform == "linux":
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.split("VmHWM:")[1].split()[0])
    if sys.platform == "win32":
        import psutil
        return psutil.Process().memory_info().peak_wset
    import resource
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(_peak_bytes())
"""


class NotebookError(Exception):
    """A notebook that did not run through; the message names the cell and shows its error."""


@dataclass(frozen=True)
class Run:
    """A notebook as it came out of its kernel, in the stored form, with what the run took."""

    notebook: NotebookNode
    seconds: float
    megabytes: float


class ThisPythonKernel(AsyncKernelManager):
    """The kernel of the running interpreter. A kernelspec named python3 in the user's home could be another's."""

    @property
    def kernel_spec(self) -> KernelSpec:
        # Only errors are logged: the kernel's warning about unencrypted sockets is about other machines than this.
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=40"]
        return KernelSpec(argv=argv, display_name="Python 3", language="python")


def environment(scratch: str, threads: int | None = None) -> dict[str, str]:
    """The kernel's environment: this checkout importable, the user's IPython settings and the network left out."""
    env = dict(os.environ)
    env.pop("MPLBACKEND", None)  # pictures are drawn inline, whatever the caller draws with
    paths = [str(files.ROOT), str(files.ROOT / "kernels"), env.get("PYTHONPATH", "")]
    env["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    env |= {"IPYTHONDIR": scratch, "PYTHONHASHSEED": "0", "HF_HUB_OFFLINE": "1"}
    env |= {"PYDEVD_DISABLE_FILE_VALIDATION": "1"}  # else ipykernel's debugger warns on stderr
    if threads:
        env |= {name: str(threads) for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS")}
    return env


def execute(
    path: Path,
    *,
    timeout: int = 600,
    threads: int | None = None,
    on_cell: Callable[[int, int], None] | None = None,
) -> Run:
    """Run the notebook at `path` and return it with fresh outputs; the file itself is left alone.

    `timeout` is in seconds and holds for each cell; `threads` limits the kernel's thread pools; `on_cell` is called
    with (number of the cell, number of cells) before each. Raises `NotebookError` at the first cell that fails.
    """
    notebook = files.read(path)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    total = len(notebook.cells)
    client = NotebookClient(
        notebook,
        timeout=timeout,
        record_timing=False,
        kernel_manager_class=ThisPythonKernel,
        resources={"metadata": {"path": str(path.parent)}},
    )
    with tempfile.TemporaryDirectory() as scratch:
        with client.setup_kernel(env=environment(scratch, threads)):
            start = time.perf_counter()
            for index, cell in enumerate(notebook.cells):
                if on_cell is not None:
                    on_cell(index + 1, total)
                _run_cell(client, path, cell, index)
            seconds = time.perf_counter() - start
            probe = nbformat.v4.new_code_cell(PEAK_MEMORY)
            notebook.cells.append(probe)
            _run_cell(client, path, probe, total)
            notebook.cells.pop()
    megabytes = int(probe.outputs[0].text) / 2**20
    return Run(files.normalise(notebook), seconds, megabytes)


def _run_cell(client: NotebookClient, path: Path, cell: NotebookNode, index: int) -> None:
    where = f"{files.key(path)}, cell {index + 1}"
    try:
        client.execute_cell(cell, index)
    except CellExecutionError as error:
        raise NotebookError(f"{where} failed:\n\n{error}") from error
    except CellTimeoutError as error:
        raise NotebookError(f"{where} took longer than {client.timeout} s:\n\n{cell.source}") from error
    except DeadKernelError as error:
        raise NotebookError(f"{where}: the kernel died (out of memory?):\n\n{cell.source}") from error
