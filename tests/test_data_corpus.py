"""The embedded corpus is there on every Python, in a fixed order, and is prose."""

import hashlib
import os
import subprocess
import sys

import pytest

from minilm.data import corpus, embedded_documents, embedded_text


def test_size_and_shape():
    documents = embedded_documents()
    text = embedded_text()
    assert len(documents) > 300
    assert 1_000_000 < len(text) < 3_000_000
    assert all(documents)
    paragraphs = text.split("\n\n")
    assert len(set(paragraphs)) == len(paragraphs)
    assert not any("\n" in paragraph for paragraph in paragraphs)
    assert not any(paragraph.startswith(">>>") for paragraph in paragraphs)


def test_it_is_english():
    words = embedded_text().lower().split()
    assert words.count("the") > 0.03 * len(words)


def test_the_cache_gives_the_same_text_in_another_process(tmp_path):
    """One process reads the library and fills the cache, the second finds it; both see the same text."""
    program = (
        "import hashlib, minilm.data as data;"
        "print(hashlib.sha256(data.embedded_text().encode()).hexdigest(), len(data.embedded_documents()))"
    )
    environment = {**os.environ, "MINILM_CACHE": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    outputs = []
    for seed in ("1", "2"):  # the order of sets must not show
        environment["PYTHONHASHSEED"] = seed
        run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        outputs.append(run.stdout)
    assert outputs[0] == outputs[1]
    assert hashlib.sha256(embedded_text().encode()).hexdigest() in outputs[0]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.touch()
    corpus._write_cache(blocked / "text.txt", "text")
    assert list(tmp_path.iterdir()) == [blocked]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Return the value of\nthe option, or a   default.",
            ["Return the value of the option, or a default."],
        ),
        (">>> x = 1\n1", []),
        (
            "A Heading\n=========\n\nThe text below the heading is kept.",
            ["The text below the heading is kept."],
        ),
        ('try_stmt ::= "try" ":" suite the a of', []),
        ("Use :class:`~a.B` with ``c`` and `d' in the *old* way.", ["Use a.B with c and d in the old way."]),
        (
            "x**2 is the square of the number x and not x*2.",
            ["x**2 is the square of the number x and not x*2."],
        ),
        ("It is a non-\nvirtual base class of the class.", ["It is a non-virtual base class of the class."]),
        (
            "* first of the points in a list\n* second of the points in it",
            ["first of the points in a list", "second of the points in it"],
        ),
        ("for x in the_list: print(x) if x is the a", []),
        ("", []),
    ],
)
def test_clean(text, expected):
    assert corpus.clean(text) == expected


def test_missing_library_sources(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus.sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    monkeypatch.setattr(corpus, "_topics", lambda: iter(()))
    with pytest.raises(RuntimeError, match="sources of Python's standard library"):
        list(corpus._collect())


def test_cache_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("MINILM_CACHE", str(tmp_path / "here"))
    assert corpus.cache_folder() == tmp_path / "here"
    monkeypatch.delenv("MINILM_CACHE")
    assert corpus.cache_folder().parts[-1] in ("minilm", "cache")
