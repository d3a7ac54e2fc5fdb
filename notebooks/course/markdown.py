"""Markdown to HTML for pages that must work without any network: formulas become MathML, links are checked."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from math_core import LatexError, LatexToMathML
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from . import files

IMG_SOURCE = re.compile(r"""(<img\b[^>]*?\bsrc=["'])([^"']+)(["'])""")


class RenderError(Exception):
    """Something in a notebook that a static page cannot show; the message names the notebook."""


class PageRenderer(IPythonRenderer):
    """nbconvert's Markdown, with MathML in place of MathJax and links that lead somewhere from the page.

    `source` is the notebook and `page` the HTML file it becomes. Raises `RenderError` for a formula that cannot be
    converted and for a link to a file that does not exist.
    """

    def __init__(self, source: Path, page: Path) -> None:
        super().__init__(escape=False, embed_images=True, exclude_anchor_links=True, path=str(source.parent))
        self.source, self.page = source, page
        self.headings: list[tuple[int, str, str]] = []  # (level, anchor, text)
        self._latex = LatexToMathML(fancy_error=False)

    def _math(self, latex: str, display: bool) -> str:
        try:
            return self._latex.convert_with_local_state(latex.strip(), displaystyle=display)
        except LatexError as error:
            raise RenderError(f"{files.key(self.source)}: {error} in the formula {latex.strip()}") from error

    def block_math(self, body: str) -> str:
        return f'<span class="formula">{self._math(body, True)}</span>'

    def inline_math(self, body: str) -> str:
        return self._math(body, False)

    def latex_environment(self, name: str, body: str) -> str:
        return self.block_math(rf"\begin{{{name}}}{body}\end{{{name}}}")

    def heading(self, text: str, level: int, **attrs: object) -> str:
        words = re.sub(r"<math.*?</math>|<[^>]+>", "", text).strip()
        anchor = re.sub(r"\W+", "-", words.lower()).strip("-") or f"part-{len(self.headings)}"
        taken = {name for _, name, _ in self.headings}
        if anchor in taken:
            anchor = f"{anchor}-{len(self.headings)}"
        self.headings.append((level, anchor, words))
        link = f'<a class="anchor" href="#{anchor}" aria-label="link here">#</a>'
        return f'<h{level} id="{anchor}">{text} {link}</h{level}>\n'

    def link(self, text: str, url: str, title: str | None = None) -> str:
        return super().link(text, self.target(url), title)

    def target(self, url: str) -> str:
        """Where `url`, written in the notebook, is seen from the page."""
        parts = urlsplit(url)
        if parts.scheme or not parts.path:
            return url
        file = (self.source.parent / unquote(parts.path)).resolve()
        if not file.exists():
            raise RenderError(f"{files.key(self.source)}: the link to {url} leads to no file")
        fragment = f"#{parts.fragment}" if parts.fragment else ""
        if files.FILE_NAME.fullmatch(file.name) and file.is_relative_to(self.source_root):
            return self.relative(self.page_root / file.relative_to(self.source_root).with_suffix(".html")) + fragment
        return self.relative(file) + fragment

    def relative(self, file: Path) -> str:
        return Path(os.path.relpath(file, self.page.resolve().parent)).as_posix()

    @property
    def source_root(self) -> Path:
        """The folder of the notebooks, also for a solution, which lies one folder below."""
        parent = self.source.resolve().parent
        return parent.parent if parent.name == "solutions" else parent

    @property
    def page_root(self) -> Path:
        parent = self.page.resolve().parent
        return parent.parent if parent.name == "solutions" else parent

    def _html_embed_images(self, html: str) -> str:
        # nbconvert's version parses each piece on its own and so closes a <details> before its content.
        return IMG_SOURCE.sub(lambda match: match[1] + self._embed_image_or_attachment(match[2]) + match[3], html)

    def image(self, text: str, url: str, title: str | None = None) -> str:
        if not urlsplit(url).scheme and not (self.source.parent / unquote(url)).is_file():
            raise RenderError(f"{files.key(self.source)}: there is no picture {url}")
        return super().image(text, url, title)

    def html(self, markdown: str) -> str:
        return MarkdownWithMath(renderer=self).render(markdown)
