"""What the documents say is true: the README's examples run and print what stands there, its tables come from the
result files, and its links lead somewhere."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import tables

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "RESULTS.md"]


def test_the_examples_of_the_readme_run():
    failures, tried = doctest.testfile(str(ROOT / "README.md"), module_relative=False)
    assert tried > 5 and failures == 0


def test_tables_say_what_the_result_files_say(capsys):
    assert tables.main(["--check"]) == 0, capsys.readouterr().err


def test_a_stale_table_is_noticed(tmp_path, monkeypatch, capsys):
    (tmp_path / "benchmarks").mkdir()
    for name in ("README.md", "benchmarks/RESULTS.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(text.replace("| 5-gram | 1.692 |", "| 5-gram | 1.292 |"), encoding="utf-8")
    (tmp_path / "minilm").symlink_to(ROOT / "minilm")
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    assert tables.main(["--check"]) == 1
    assert "out of date: README.md, RESULTS.md" in capsys.readouterr().err
    assert tables.main([]) == 0 and tables.main(["--check"]) == 0


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_links_within_the_project_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://")):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_every_benchmark_that_is_listed_exists(capsys):
    for module, _, _ in benchmarks.BENCHMARKS.values():
        assert (ROOT / "benchmarks" / f"{module}.py").is_file()
    assert benchmarks.main(["--list"]) == 0
    assert "tokenizer" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        benchmarks.main(["nonsense"])
