"""Render notebooks as static pages: an index, navigation, search, formulas and pictures, no network at all.

The pages are `build/tutorial/NN_name.html`, `solutions/NN_name.html` and `index.html`; beside them lie one style
sheet, one small script and the mathematics font.
"""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape, unescape
from pathlib import Path

import ziamath
from fontTools.ttLib import TTFont
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from nbconvert.filters.ansi import ansi2html
from nbformat import NotebookNode
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from . import files, timings
from .markdown import PageRenderer, RenderError

__all__ = ["RenderError", "course"]

HERE = Path(__file__).parent
PARTS = {
    "Foundations": range(1, 7),
    "Language models": range(7, 9),
    "Kernels": (9, 10, 11, 19),
    "Understanding and using": range(12, 19),
}
LIGHT, DARK = "tango", "github-dark"  # colour schemes of Pygments
FIGURE = re.compile(r"^# Figure: (.+)$", re.MULTILINE)
IMAGES = ("image/svg+xml", "image/png", "image/jpeg")


@dataclass
class Page:
    """One rendered notebook."""

    key: str
    title: str
    url: str  # from the index
    body: str
    summary: str  # the first paragraph, as HTML
    headings: list[tuple[int, str, str]]
    runs: str
    search: list[dict[str, str]]
    previous: Page | None = field(default=None, repr=False)
    next: Page | None = field(default=None, repr=False)
    partner: Page | None = field(default=None, repr=False)  # the solutions of a lesson, the lesson of a solution

    @property
    def is_solution(self) -> bool:
        return self.key.startswith("solutions/")

    @property
    def number(self) -> str:
        return self.key.rpartition("/")[2][:2]


def course(notebooks: Mapping[Path, NotebookNode], folder: Path, output: Path) -> Path:
    """Write the pages of `notebooks` (path of the notebook → its content) and return the path of the index.

    Raises `RenderError` for a formula, a link or an output that a static page cannot show.
    """
    pages = [_page(path, notebook, output) for path, notebook in notebooks.items()]
    lessons = [page for page in pages if not page.is_solution]
    for before, after in zip(lessons, lessons[1:], strict=False):
        before.next, after.previous = after, before
    by_key = {page.key: page for page in pages}
    for page in lessons:
        if (solution := by_key.get(f"solutions/{page.key}")) is not None:
            page.partner, solution.partner = solution, page
    templates = Environment(
        loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    for page in pages:
        root = "../" if page.is_solution else ""
        _write(output / page.url, templates.get_template("page.html").render(page=page, root=root))
    index = templates.get_template("index.html").render(parts=_parts(lessons), root="")
    _write(output / "index.html", index)
    _write_assets(output, pages)
    return output / "index.html"


def _parts(lessons: list[Page]) -> list[tuple[str, list[Page]]]:
    parts = [(name, [p for p in lessons if int(p.number) in numbers]) for name, numbers in PARTS.items()]
    placed = {page.key for _, members in parts for page in members}
    parts.append(("More", [page for page in lessons if page.key not in placed]))
    return [(name, members) for name, members in parts if members]


def _page(path: Path, notebook: NotebookNode, output: Path) -> Page:
    key = files.key(path)
    url = f"{key}.html"
    renderer = PageRenderer(path, output / url)
    body: list[str] = []
    search: list[dict[str, str]] = []
    summary = ""
    for number, cell in enumerate(notebook.cells, start=1):
        if cell.cell_type == "markdown":
            html = renderer.html(cell.source)
            body.append(_section(html, cell))
            if not summary and (paragraph := re.search(r"<p>(.*?)</p>", html, re.DOTALL)):
                summary = paragraph[1]
            _add_to_search(search, url, renderer, html)
        elif cell.cell_type == "code":
            try:
                body.append(_code_cell(cell, renderer))
            except RenderError as error:
                raise RenderError(f"{key}, cell {number}: {error}") from error
    runs = next((line for cell in notebook.cells[:3] for line in timings.LINE.findall(cell.source)), "")
    return Page(
        key=key, title=files.title(notebook), url=url, body=Markup("\n".join(body)), summary=Markup(summary),
        headings=renderer.headings, runs=runs, search=search,
    )  # fmt: skip


def _section(html: str, cell: NotebookNode) -> str:
    kind = "text exercise" if "exercise" in cell.metadata.get("tags", []) else "text"
    return f'<section class="{kind}">\n{html}</section>'


def _add_to_search(entries: list[dict[str, str]], url: str, renderer: PageRenderer, html: str) -> None:
    """Add the words of one cell to the entry of the heading that it stands under."""
    _, anchor, heading = renderer.headings[-1] if renderer.headings else (1, "", "")
    words = re.sub(r"<math.*?</math>|<h\d.*?</h\d>", " ", html, flags=re.DOTALL)
    words = unescape(" ".join(re.sub(r"<[^>]+>", " ", words).split()))
    if entries and entries[-1]["url"] == f"{url}#{anchor}":
        entries[-1]["text"] += f" {words}"
    else:
        entries.append({"url": f"{url}#{anchor}", "heading": heading, "text": words})


def _code_cell(cell: NotebookNode, renderer: PageRenderer) -> str:
    caption = FIGURE.search(cell.source)
    code = highlight(cell.source, PythonLexer(), HtmlFormatter(cssclass="code"))
    outputs = "".join(_output(output, renderer, caption[1] if caption else "") for output in cell.outputs)
    outputs = f'<div class="outputs">\n{outputs}</div>\n' if outputs else ""
    return f'<section class="cell">\n{code}{outputs}</section>'


def _output(output: NotebookNode, renderer: PageRenderer, caption: str) -> str:
    if output.output_type == "stream":
        return f'<pre class="{output.name}">{ansi2html(output.text)}</pre>\n'
    if output.output_type == "error":
        return f'<pre class="error">{ansi2html("".join(output.traceback))}</pre>\n'
    data = output.data
    for kind in IMAGES:
        if kind in data:
            return _picture(kind, data[kind], caption)
    if "text/html" in data:
        return f'<div class="html">{data["text/html"]}</div>\n'
    if "text/markdown" in data:
        return f'<div class="text">{renderer.html(data["text/markdown"])}</div>\n'
    if "text/latex" in data:
        return f"<p>{renderer.block_math(data['text/latex'].strip('$ '))}</p>\n"
    if "text/plain" in data:
        return f"<pre>{ansi2html(data['text/plain'])}</pre>\n"
    raise RenderError(f"an output of the kinds {', '.join(data)} cannot be shown on a static page")


def _picture(kind: str, data: str, caption: str) -> str:
    encoded = base64.b64encode(data.encode()).decode() if kind.endswith("xml") else data.replace("\n", "")
    alt = escape(caption or "The picture that the code above draws")
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure><img src="data:{kind};base64,{encoded}" alt="{alt}">{below}</figure>\n'


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


def _write_assets(output: Path, pages: list[Page]) -> None:
    style = (HERE / "templates" / "style.css").read_text(encoding="utf-8")
    light, dark = (HtmlFormatter(style=name).get_style_defs([".code", ".highlight"]) for name in (LIGHT, DARK))
    colours = f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n"
    _write(output / "style.css", colours + style)  # ours last: it decides about backgrounds
    _write(output / "page.js", (HERE / "templates" / "page.js").read_text(encoding="utf-8"))
    entries = [entry | {"title": f"{page.number} {page.title}"} for page in pages for entry in page.search]
    _write(output / "search.js", f"const COURSE = {json.dumps(entries, ensure_ascii=False)};\n")
    _write(output / "mathfont.css", _math_font())


def _math_font() -> str:
    """STIX Two Math, from the package ziamath, inside a style sheet.

    Brackets and roots grow with their content only in a font with mathematical tables, which phones and many
    desktops lack. Inside a style sheet, because Firefox refuses font files beside a page opened from the disk.
    """
    font = TTFont(Path(ziamath.__file__).parent / "fonts" / "STIXTwoMath-Regular.ttf")
    font.flavor = "woff"
    packed = io.BytesIO()
    font.save(packed)
    encoded = base64.b64encode(packed.getvalue()).decode()
    return (
        '@font-face { font-family: "Course Math"; '
        f'src: url("data:font/woff;base64,{encoded}") format("woff"); font-display: swap; }}\n'
        'math { font-family: "Course Math", math; }\n'
    )
