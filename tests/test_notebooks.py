"""The course: every notebook has the course's form and renders, the quick ones run, and the tools do what they say.

`make tutorial TUTORIAL=--check` executes all of them and compares the outputs; here only those are run that take
at most `QUICK` seconds.
"""

# ruff: noqa: E402  (what the `notebooks` extra brings is imported after the check that it is there)

from __future__ import annotations

import base64
import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

for package in ("nbclient", "nbconvert", "math_core", "ziamath"):
    pytest.importorskip(package, reason="the `notebooks` extra is not installed")

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

import build
from course import compare, execute, files, markdown, render, timings
from course import format as form

QUICK = 20

# --- the notebooks themselves ----------------------------------------------------------------------------------------

COURSE = sorted(files.NOTEBOOKS.glob("*.ipynb")) + sorted(files.NOTEBOOKS.glob("solutions/*.ipynb"))
TIMINGS = timings.load()
QUICK_ONES = [path for path in COURSE if files.key(path) in TIMINGS and TIMINGS[files.key(path)].seconds <= QUICK]


@pytest.mark.parametrize("path", COURSE, ids=files.key)
def test_notebook_has_the_form(path: Path) -> None:
    assert form.faults(path) == []


@pytest.mark.parametrize("path", COURSE, ids=files.key)
def test_notebook_renders(path: Path, tmp_path: Path) -> None:
    """Every formula converts and every link leads to a file."""
    render.course({path: files.read(path)}, files.NOTEBOOKS, tmp_path)


@pytest.mark.parametrize("path", QUICK_ONES, ids=files.key)
def test_quick_notebook_runs(path: Path) -> None:
    """A fresh kernel gives the outputs that are stored."""
    run = execute.execute(path, threads=1)
    assert compare.differences(files.read(path), run.notebook) == []


@pytest.mark.parametrize("path", COURSE, ids=files.key)
def test_solution_stands_beside_its_notebook(path: Path) -> None:
    exercises = any("exercise" in cell.metadata.get("tags", []) for cell in files.read(path).cells)
    if path.parent.name == "solutions":
        assert (path.parent.parent / path.name).exists(), "solutions of no notebook"
        assert any("set_strict()" in cell.source for cell in files.read(path).cells), "a wrong solution would pass"
    elif exercises:
        assert (path.parent / "solutions" / path.name).exists(), "exercises without worked solutions"


# --- a small course to try the tools on ------------------------------------------------------------------------------


def sample() -> NotebookNode:
    return new_notebook(
        cells=[
            new_markdown_cell(f"# Softmax by hand\n\nIt turns scores into $p_i$.\n\n{timings.TEMPLATE}"),
            new_markdown_cell(
                "## The formula\n\n$$\\operatorname{softmax}(z)_i=\\frac{e^{z_i}}{\\sum_j e^{z_j}}$$\n\n"
                "See [the next one](02_next.ipynb#end).\n\n<details><summary>more</summary>\n\nInside.\n\n</details>"
            ),
            new_code_cell("import numpy as np\n\nz = np.array([1.0, 2.0, 3.0])\np = np.exp(z) / np.exp(z).sum()\np"),
            new_code_cell(
                "# Figure: Three probabilities\nimport matplotlib.pyplot as plt\n\n"
                "plt.figure(figsize=(2, 1.5), dpi=60)\nplt.bar(range(3), p);"
            ),
            new_code_cell("from tqdm import tqdm\n\nprint(sum(tqdm(range(100))))"),
            new_markdown_cell("### Exercise\n\nAnswer.", metadata={"tags": ["exercise"]}),
        ]
    )


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a course of two notebooks and one solution, executed, stamped and rendered."""
    folder = tmp_path_factory.mktemp("course")
    heading = new_markdown_cell(f"# Next\n\nText.\n\n{timings.TEMPLATE}")
    files.write(folder / "01_softmax.ipynb", sample())
    files.write(folder / "02_next.ipynb", new_notebook(cells=[heading, new_code_cell("1 + 1")]))
    files.write(folder / "solutions" / "01_softmax.ipynb", new_notebook(cells=[new_markdown_cell("# Solutions")]))
    assert run_build(folder, "--stamp") == 0
    return folder


def run_build(folder: Path, *options: str) -> int:
    return build.main(["--folder", str(folder), "--output", str(folder / "pages"), "--threads", "1", *options])


def outputs(*cells: NotebookNode) -> NotebookNode:
    """A notebook of the given code cells, as if executed."""
    return new_notebook(cells=list(cells))


def printed(text: str, **metadata: Any) -> NotebookNode:
    output = new_output("stream", name="stdout", text=text)
    return new_code_cell("print()", outputs=[output], execution_count=1, metadata=metadata)


# --- the stored form -------------------------------------------------------------------------------------------------


def test_two_runs_are_stored_as_the_same_bytes(course: Path) -> None:
    path = course / "01_softmax.ipynb"
    assert files.text(execute.execute(path, threads=1).notebook) == path.read_text(encoding="utf-8")


def test_stored_form_holds_outputs_but_no_times(course: Path) -> None:
    notebook = files.read(course / "01_softmax.ipynb")
    stored = json.loads((course / "01_softmax.ipynb").read_text(encoding="utf-8"))
    codes = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert "image/png" in codes[1].outputs[0].data
    assert codes[2].outputs == [new_output("stream", name="stdout", text="4950\n")]  # and no progress bar
    assert [cell.execution_count for cell in codes] == [1, 2, 3]
    assert stored["metadata"] == files.METADATA
    assert all(set(cell["metadata"]) <= {"tags"} for cell in stored["cells"])


def test_normalise_is_idempotent_and_ids_are_unique() -> None:
    notebook = new_notebook(cells=[new_code_cell("1"), new_code_cell("1"), new_markdown_cell("text  \n")])
    once = files.text(notebook)
    assert files.text(nbformat.reads(once, as_version=4)) == once
    ids = [cell.id for cell in files.normalise(notebook).cells]
    assert len(set(ids)) == 3
    assert ids == [cell.id for cell in files.normalise(notebook).cells]


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        ("  0%|   | 0/9\r100%|###| 9/9 [00:01<00:00, 9it/s]\n", ""),
        ("12it [00:03, 4.1it/s]\nloss 1.5\n", "loss 1.5\n"),
        ("one\rtwo\nthree\n", "two\nthree\n"),
        ("50% of it\n", "50% of it\n"),
    ],
)
def test_progress_bars_are_not_stored(raw: str, kept: str) -> None:
    cell = new_code_cell("f()", outputs=[new_output("stream", name="stderr", text=raw)], execution_count=1)
    stored = files.normalise(outputs(cell)).cells[0].outputs
    assert [output.text for output in stored] == ([kept] if kept else [])


def test_find_names_what_is_missing(course: Path) -> None:
    assert [files.key(path) for path in files.find(course, ["01"])] == ["01_softmax", "solutions/01_softmax"]
    with pytest.raises(FileNotFoundError, match="starts with 77"):
        files.find(course, ["77"])


# --- execution -------------------------------------------------------------------------------------------------------


def test_the_kernel_is_this_python_on_this_checkout(tmp_path: Path) -> None:
    """Whatever kernelspec named python3 the user has, and whatever minilm is installed."""
    code = "import sys, minilm\nprint(sys.executable)\nprint(minilm.__file__)"
    files.write(tmp_path / "01_who.ipynb", new_notebook(cells=[new_code_cell(code)]))
    run = execute.execute(tmp_path / "01_who.ipynb")
    executable, library = run.notebook.cells[0].outputs[0].text.split("\n")[:2]
    assert Path(executable) == Path(sys.executable)
    assert Path(library) == files.ROOT / "minilm" / "__init__.py"


def test_peak_memory_is_that_of_the_kernel(tmp_path: Path) -> None:
    large = "import numpy as np\nnp.ones(200 * 2**20, dtype=np.uint8).sum();"
    for name, code in (("01_small", "1;"), ("02_large", large)):
        files.write(tmp_path / f"{name}.ipynb", new_notebook(cells=[new_code_cell(code)]))
    small, large_run = (execute.execute(path) for path in files.find(tmp_path))
    assert small.megabytes < 150
    assert 200 < large_run.megabytes - small.megabytes < 300  # the array, and NumPy itself


def test_a_failing_cell_is_named(tmp_path: Path) -> None:
    files.write(tmp_path / "01_bad.ipynb", new_notebook(cells=[new_markdown_cell("# Bad"), new_code_cell("1 / 0")]))
    with pytest.raises(execute.NotebookError, match=r"01_bad, cell 2 failed(.|\n)*ZeroDivisionError"):
        execute.execute(tmp_path / "01_bad.ipynb")
    assert run_build(tmp_path, "--no-render") == 1


def test_an_expected_error_is_no_failure(tmp_path: Path) -> None:
    cell = new_code_cell("1 / 0", metadata={"tags": ["raises-exception"]})
    files.write(tmp_path / "01_error.ipynb", new_notebook(cells=[cell]))
    (output,) = execute.execute(tmp_path / "01_error.ipynb").notebook.cells[0].outputs
    assert output.traceback == ["ZeroDivisionError: division by zero"]  # without the folders of this machine


def test_an_endless_cell_is_stopped(tmp_path: Path) -> None:
    files.write(tmp_path / "01_loop.ipynb", new_notebook(cells=[new_code_cell("while True: pass")]))
    with pytest.raises(execute.NotebookError, match="longer than 1 s"):
        execute.execute(tmp_path / "01_loop.ipynb", timeout=1)


# --- the command -----------------------------------------------------------------------------------------------------


def test_build_leaves_notebooks_alone_unless_asked(course: Path) -> None:
    path = course / "02_next.ipynb"
    before = path.read_bytes()
    assert run_build(course, "--notebook", "02", "--check", "--no-render") == 0
    assert path.read_bytes() == before


def test_check_fails_on_other_outputs(course: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = course / "02_next.ipynb"
    before = path.read_text(encoding="utf-8")
    try:
        path.write_text(before.replace('"2"', '"3"'), encoding="utf-8")
        assert run_build(course, "--notebook", "02", "--no-render") == 0
        assert run_build(course, "--notebook", "02", "--check", "--no-render") == 1
    finally:
        path.write_text(before, encoding="utf-8")
    assert "cell 2: stored '3', the run gives '2'" in capsys.readouterr().err


def test_build_refuses_contradictory_options() -> None:
    with pytest.raises(SystemExit):
        build.arguments(["--no-execute", "--check"])


def test_build_without_notebooks_fails(tmp_path: Path) -> None:
    assert run_build(tmp_path) == 1


# --- comparing outputs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("loss 1.2345", "loss 1.2345"),
        ("loss 1.2345", "loss 1.2344"),  # one unit of the last digit
        ("[ 0.10 -0.20]", "[0.10  -0.20 ]"),  # spaces move with signs
        ("error 5.96e-08", "error 1.19e-07"),  # rounding noise
        ("nan inf", "nan inf"),
        ("3.00001e+05", "3.00002e+05"),
    ],
)
def test_same_but_for_rounding(old: str, new: str) -> None:
    assert compare.compare_text(old, new) is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("loss 1.2345", "loss 1.2365"),
        ("5 steps", "6 steps"),
        ("loss 1.2", "cost 1.2"),
        ("1.0 2.0", "1.0 2.0 3.0"),
        ("1.0 2.0 done", "1.0 2.0"),
        ("1.5", "nan"),
        ("error 1e-08", "error 1e-03"),
        ("GPT2", "GPT3"),
        ("-1.5", "1.5"),
    ],
)
def test_different(old: str, new: str) -> None:
    assert compare.compare_text(old, new) is not None
    assert compare.compare_text(new, old) is not None


def test_tags_give_room() -> None:
    old, new = outputs(printed("loss 2.00 after 500")), outputs(printed("loss 2.08 after 500"))
    assert compare.differences(old, new)
    old.cells[0].metadata["tags"] = ["tolerance=0.05"]
    assert not compare.differences(old, new)
    assert compare.differences(old, outputs(printed("loss 2.20 after 500")))
    old.cells[0].metadata["tags"] = ["varies"]
    assert not compare.differences(old, outputs(printed("anything at all")))
    assert compare.differences(old, outputs(new_code_cell("print()")))  # but not nothing


def picture(size: tuple[int, int], dot: bool = True) -> NotebookNode:
    image = Image.new("RGB", size, "white")
    if dot:
        image.putpixel((3, 3), (0, 0, 0))
    data = io.BytesIO()
    image.save(data, "png")
    encoded = base64.b64encode(data.getvalue()).decode()
    return new_code_cell("plot()", outputs=[new_output("display_data", data={"image/png": encoded})])


def test_pictures_are_compared_by_presence_size_and_content() -> None:
    stored = outputs(picture((100, 80)))
    assert not compare.differences(stored, outputs(picture((102, 80))))
    assert "pixels" in compare.differences(stored, outputs(picture((150, 80))))[0]
    assert "flat" in compare.differences(stored, outputs(picture((100, 80), dot=False)))[0]
    assert "none" in compare.differences(stored, outputs(new_code_cell("plot()")))[0]


# --- the course's form -----------------------------------------------------------------------------------------------


def test_the_sample_has_the_form(course: Path) -> None:
    assert form.faults(course / "01_softmax.ipynb") == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda nb: nb.cells.pop(0), "not a '# Title'"),
        (lambda nb: nb.cells[0].update(source="# Title\n\nRuns in about 9 s, 1 MB; offline"), "measured was"),
        (lambda nb: nb.cells[0].update(source="# Title only"), "exactly one line"),
        (lambda nb: nb.cells[2].update(execution_count=None), "never executed"),
        (lambda nb: nb.cells.append(printed("at 0x7f3a12bc9d00")), "memory address"),
        (lambda nb: nb.cells.append(printed("/home/" + "ann/x.txt")), "folder of this machine"),
        (lambda nb: nb.cells.append(printed("1200.5 tokens/s")), "wall-clock"),
        (lambda nb: nb.cells.append(printed("x", tags=["tolerence=0.1"])), "unknown tag"),
        (lambda nb: nb.cells[4].outputs[0].update(name="stderr"), "stderr"),
        (lambda nb: nb.cells[4].update(outputs=[new_output("error", ename="E", evalue="v")]), "stores an error"),
    ],
)
def test_faults_are_found(course: Path, change: Any, fault: str) -> None:
    path = course / "01_softmax.ipynb"
    notebook = files.read(path)
    change(notebook)
    assert any(fault in found for found in form.faults(path, notebook)), form.faults(path, notebook)


def test_an_edit_outside_the_stored_form_is_found(course: Path) -> None:
    path = course / "02_next.ipynb"
    notebook = files.read(path)
    notebook.metadata["widgets"] = {}
    copy = course / "03_copy.ipynb"
    try:
        copy.write_text(nbformat.writes(notebook, indent=4), encoding="utf-8")
        assert any("stored form" in fault for fault in form.faults(copy))
    finally:
        copy.unlink()


# --- measured times --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "megabytes", "words"),
    [
        (0.4, 52, "about 1 s, 100 MB"),
        (9.2, 301, "about 10 s, 350 MB"),
        (36.0, 250, "about 40 s, 250 MB"),
        (101, 40, "about 110 s, 50 MB"),
        (170, 900, "about 3 minutes, 900 MB"),
    ],
)
def test_times_are_rounded_up(seconds: float, megabytes: float, words: str) -> None:
    timing = timings.Timing(seconds, megabytes, 2, "Linux", "3.12", "2.3")
    assert timing.line() == f"Runs in {words}, on 2 cores; offline"
    assert timings.LINE.fullmatch(timing.line())


def test_stamp_measures(course: Path) -> None:
    stored = timings.load(course)
    assert set(stored) == {"01_softmax", "02_next", "solutions/01_softmax"}
    timing = stored["01_softmax"]
    assert 0 < timing.seconds < 120 and 30 < timing.megabytes < 1000
    assert timing.line() in files.read(course / "01_softmax.ipynb").cells[0].source


@pytest.mark.parametrize("text", ["# No line", f"# Two\n{timings.TEMPLATE}\n{timings.TEMPLATE}"])
def test_stamp_needs_one_place(text: str) -> None:
    with pytest.raises(ValueError, match="exactly one line"):
        timings.stamp(new_notebook(cells=[new_markdown_cell(text)]), timings.measured(1, 100))


# --- pages -----------------------------------------------------------------------------------------------------------


def page(course: Path, name: str) -> str:
    return (course / "pages" / name).read_text(encoding="utf-8")


def test_pages_ask_for_nothing_from_the_network(course: Path) -> None:
    """No address outside the pages in anything that a browser loads by itself."""
    written = [path for path in (course / "pages").rglob("*") if path.is_file()]
    assert {path.name for path in written} >= {"index.html", "style.css", "page.js", "search.js", "mathfont.css"}
    for path in written:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"<(script|link|img|iframe|source|video|audio)\b[^>]*?(src|href)=[\"']?(https?:)?//", text)
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", text), path.name
        assert "fetch(" not in text and "XMLHttpRequest" not in text, path.name


def test_page_shows_formula_code_outputs_and_pictures(course: Path) -> None:
    html = page(course, "01_softmax.html")
    assert "<mfrac>" in html and "$" not in re.sub(r"data:image[^\"]*", "", html)
    assert "4950" in html and "0.66524096" in html
    assert 'alt="Three probabilities"' in html and "<figcaption>Three probabilities</figcaption>" in html
    assert "data:image/png;base64," in html
    assert re.search(r"<details><summary>more</summary>\s*<p>Inside.</p>\s*</details>", html)
    assert '<section class="text exercise">' in html


def test_pages_lead_to_each_other(course: Path) -> None:
    first, second = page(course, "01_softmax.html"), page(course, "02_next.html")
    assert 'rel="next" href="02_next.html"' in first and 'rel="prev" href="01_softmax.html"' in second
    assert 'href="02_next.html#end"' in first
    assert 'href="solutions/01_softmax.html"' in first
    assert 'href="../01_softmax.html"' in page(course, "solutions/01_softmax.html")
    assert '<link rel="stylesheet" href="../style.css">' in page(course, "solutions/01_softmax.html")
    index = page(course, "index.html")
    assert 'href="01_softmax.html"' in index and "It turns scores into" in index and "Runs in about" in index


def test_every_local_link_of_the_pages_leads_to_a_file(course: Path) -> None:
    for path in (course / "pages").rglob("*.html"):
        html = path.read_text(encoding="utf-8")
        for target in re.findall(r"(?:href|src)=\"([^\"]+)\"", html):
            name = target.partition("#")[0]
            if name and not name.startswith("data:"):
                assert (path.parent / name).exists(), f"{path.name}: {target}"


def rendered(tmp_path: Path, text: str) -> str:
    source = tmp_path / "01_x.ipynb"
    return markdown.PageRenderer(source, tmp_path / "pages" / "01_x.html").html(text)


def test_unknown_latex_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(render.RenderError, match="01_x(.|\n)*nonsense"):
        rendered(tmp_path, r"the formula $\nonsense{x}$")


@pytest.mark.parametrize("text", ["[a](04_gone.ipynb)", "[a](../minilm/gone.py)", "![a](gone.png)"])
def test_a_link_to_nothing_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(render.RenderError, match="gone"):
        rendered(tmp_path, text)


def test_links_to_other_files_are_seen_from_the_page(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("x", encoding="utf-8")
    assert 'href="../README.md"' in rendered(tmp_path, "[a](README.md)")
    assert 'href="https://example.org/x"' in rendered(tmp_path, "[a](https://example.org/x)")
    assert 'href="#part"' in rendered(tmp_path, "[a](#part)")


def test_pictures_in_prose_are_embedded(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "dot.png")
    assert 'src="data:image/png;base64,' in rendered(tmp_path, "![a dot](dot.png)")
    assert 'src="data:image/png;base64,' in rendered(tmp_path, '<img src="dot.png" alt="a dot">')


def test_headings_get_unique_anchors(tmp_path: Path) -> None:
    html = rendered(tmp_path, "## Same\n\n## Same\n\n## The $x$ axis")
    anchors = re.findall(r'<h2 id="([^"]+)"', html)
    assert len(set(anchors)) == 3 and anchors[0] == "same" and anchors[2].startswith("the-axis")
