"""Execute the notebooks of the course and render them as pages.

    python notebooks/build.py                       execute all, render build/tutorial/index.html
    python notebooks/build.py --notebook 03         only notebook 03 and its solutions
    python notebooks/build.py --no-execute          render the outputs that the notebooks store (seconds)
    python notebooks/build.py --check               and fail where fresh outputs differ from the stored ones
    python notebooks/build.py --write               store the fresh outputs in the notebooks
    python notebooks/build.py --stamp               store them with the measured run time and memory

Without --write or --stamp no notebook is changed. The course itself needs nothing from here: every notebook opens in
Jupyter as it is.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

try:
    from course import compare, execute, files, render, timings
except ModuleNotFoundError as missing:
    sys.exit(
        f"{missing.name} is not installed. The course's tools come with: pip install -e '.[notebooks]' "
        "(or run `make tutorial`, which does that by itself)"
    )


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--notebook", action="append", default=[], metavar="NN", help="number or start of the name")
    parser.add_argument("--no-execute", action="store_true", help="use the stored outputs")
    parser.add_argument("--no-render", action="store_true", help="write no pages")
    parser.add_argument("--check", action="store_true", help="fail where fresh outputs differ from the stored ones")
    parser.add_argument("--write", action="store_true", help="store the fresh outputs in the notebooks")
    parser.add_argument("--stamp", action="store_true", help="as --write, with the measured time and memory")
    parser.add_argument("--threads", type=int, default=1, help="threads of a kernel (default 1: repeatable to the bit)")
    parser.add_argument("--timeout", type=int, default=600, help="seconds that one cell may take (default 600)")
    parser.add_argument("--folder", type=Path, default=files.NOTEBOOKS, help="where the notebooks are")
    parser.add_argument("--output", type=Path, default=files.ROOT / "build" / "tutorial", help="where pages go")
    options = parser.parse_args(argv)
    if options.no_execute and (options.check or options.write or options.stamp):
        parser.error("--check, --write and --stamp need fresh outputs: leave --no-execute away")
    return options


def main(argv: list[str] | None = None) -> int:
    options = arguments(argv)
    try:
        paths = files.find(options.folder, options.notebook)
    except FileNotFoundError as error:
        print(f"build.py: {error}", file=sys.stderr)
        return 1
    complaints: list[str] = []
    pages = {path: files.read(path) for path in paths}
    if not options.no_execute:
        print(f"Executing {len(paths)} notebooks, each in a fresh kernel", flush=True)
        for number, path in enumerate(paths, start=1):
            complaints += run_one(path, f"[{number}/{len(paths)}] {files.key(path)}", options, pages)
    if not options.no_render:
        try:
            index = render.course(pages, options.folder, options.output)
        except render.RenderError as error:
            complaints.append(str(error))
        else:
            print(f"Rendered {len(pages)} pages. Open in a browser: {index}")
    for complaint in complaints:
        print(f"\n{complaint}", file=sys.stderr)
    return 1 if complaints else 0


def run_one(path: Path, label: str, options: argparse.Namespace, pages: dict) -> list[str]:
    """Execute one notebook, replace its page by the result, and return what is to be complained about."""

    def show(cell: int, cells: int) -> None:
        if sys.stdout.isatty():
            print(f"\r{label:<48} cell {cell} of {cells} ", end="", flush=True)

    clear = "\r" if sys.stdout.isatty() else ""
    stored = pages[path]
    try:
        run = execute.execute(path, timeout=options.timeout, threads=options.threads, on_cell=show)
    except execute.NotebookError as error:
        print(f"{clear}{label:<48} FAILED           ", flush=True)
        del pages[path]
        return [str(error)]
    print(f"{clear}{label:<48} {run.seconds:6.1f} s {run.megabytes:6.0f} MB    ", flush=True)
    pages[path] = run.notebook
    if options.stamp:
        timing = timings.measured(run.seconds, run.megabytes)
        if path.parent.name != "solutions":
            timings.stamp(run.notebook, timing)
        timings.save(timings.load(options.folder) | {files.key(path): timing}, options.folder)
    if options.stamp or options.write:
        files.write(path, run.notebook)
    differences = compare.differences(stored, run.notebook)
    if options.check and differences:
        return [f"{files.key(path)} gives other outputs than it stores:\n  " + "\n  ".join(differences)]
    if differences and not options.write and not options.stamp:
        print(f"{'':<8}{len(differences)} cells differ from the stored outputs (--check shows them)")
    return []


if __name__ == "__main__":
    sys.exit(main())
