"""The exercise checkers: each says right to a right answer, and what is off to each wrong one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from minilm import exercises
from minilm.exercises import Verdict, check_array, check_equal, check_function

EXPECTED = np.array([[0.5, -1.0, 2.0], [3.0, 0.0, -4.0], [1.5, 2.5, -3.5]])


@pytest.fixture(autouse=True)
def lenient() -> Iterator[None]:
    exercises.set_strict(False)
    yield
    exercises.set_strict(False)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - np.max(x))
    return e / e.sum()


# --- check_array -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        (EXPECTED.copy(), EXPECTED),
        (EXPECTED.tolist(), EXPECTED),
        (EXPECTED.astype(np.float32), EXPECTED),
        (2.5, 2.5),
        (np.float32(2.5), 2.5),
        (3, 3.0),
        ([1, 2], np.array([1, 2])),
        ([True, False], np.array([True, False])),
        (np.array([0.0, -np.inf]), [0.0, -np.inf]),
        (np.array([np.nan, 1.0]), [np.nan, 1.0]),
        (np.zeros((0, 3)), np.zeros((0, 3))),
        (1.0 + 1e-9, 1.0),
    ],
)
def test_right_arrays(got: object, expected: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert check_array("answer", got, expected)
    assert capsys.readouterr().out == "right: answer\n"


@pytest.mark.parametrize(
    ("got", "expected", "words"),
    [
        (EXPECTED[:2], EXPECTED, "shape is (2, 3), but (3, 3)"),
        (EXPECTED.T, EXPECTED, "transpose"),
        (-EXPECTED, EXPECTED, "sign"),
        (EXPECTED * 8, EXPECTED, "8 times"),
        (EXPECTED + 0.25, EXPECTED, "+0.25 away"),
        (EXPECTED + np.eye(3), EXPECTED, "3 of 9 values"),
        (np.where(EXPECTED == 0, np.nan, EXPECTED), EXPECTED, "1 of its 9 values are not finite"),
        (np.where(EXPECTED == 0, np.inf, EXPECTED), EXPECTED, "not finite"),
        ([0.0, -1e9], [0.0, -np.inf], "at [1] it is -1e+09"),
        ([0.0, 1.0], [0.0, np.nan], "nan is asked for"),
        (1.3, 1.25, "it is 1.3"),
        (1.25 + 1e-5, 1.25, "not yet right"),
        ([1.0, 2.0], np.array([1, 2]), "whole numbers"),
        ([1, 0], np.array([True, False]), "mask"),
        ([True, False], np.array([1.0, 0.0]), "True and False"),
        ("0.5", 0.5, "numbers are asked for"),
        ([[1.0], [2.0, 3.0]], EXPECTED, "cannot be read as an array"),
        (softmax, EXPECTED, "numbers are asked for"),
    ],
)
def test_wrong_arrays(got: object, expected: object, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    verdict = check_array("answer", got, expected, hint="look again")
    assert not verdict
    out = capsys.readouterr().out
    assert out.startswith("not yet: answer: ") and words in out and "hint: look again" in out


def test_the_tolerance_holds() -> None:
    assert check_array("a", EXPECTED * (1 + 1e-4), EXPECTED, tolerance=1e-3)
    assert not check_array("a", EXPECTED * (1 + 1e-4), EXPECTED, tolerance=1e-5)


@pytest.mark.parametrize("empty", [..., None])
def test_unanswered(empty: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert not check_array("a", empty, EXPECTED)
    assert not check_equal("b", empty, 3)
    assert not check_function("c", empty, [(1,)], [1])  # type: ignore[arg-type]
    assert not check_function("d", lambda x: empty, [(1,)], [1])
    assert capsys.readouterr().out.splitlines() == [f"not answered yet: {name}" for name in "abcd"]


def test_tensors_are_compared_by_their_values() -> None:
    minilm = pytest.importorskip("minilm")
    assert check_array("a", minilm.tensor(EXPECTED), EXPECTED)
    assert not check_array("a", minilm.tensor(EXPECTED + 1), minilm.tensor(EXPECTED))
    assert check_function("f", lambda x: x * 2, [(minilm.tensor([1.0, 2.0]),)], [[2.0, 4.0]])


# --- check_equal -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("got", "expected"),
    [(3, 3), (np.int64(3), 3), ("the", "the"), ([1, 2], [1, 2]), ((2, 3), (2, 3)), ([np.int64(1)], [1]), (2.0, 2)],
)
def test_equal(got: object, expected: object) -> None:
    assert check_equal("answer", got, expected)


@pytest.mark.parametrize(
    ("got", "expected", "words"),
    [
        (4, 3, "4 is not it"),
        ("The", "the", "'The' is not it"),
        ([1, 3], [1, 2], "[1, 3] is not it"),
        ((1, 2), [1, 2], "a tuple, but a list"),
        ("3", 3, "a str, but an int"),
        (True, 1, "a bool, but an int"),
    ],
)
def test_not_equal(got: object, expected: object, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert not check_equal("answer", got, expected)
    assert words in capsys.readouterr().out


# --- check_function --------------------------------------------------------------------------------------------------

CASES = [(np.array([1.0, 2.0, 3.0]),), (np.array([1000.0, 1000.0]),)]


def in_place(x: np.ndarray) -> np.ndarray:
    x -= x.max()
    return np.exp(x) / np.exp(x).sum()


def broken(x: np.ndarray) -> Any:
    y = x + 1
    return y.no_such_thing


def one_branch(x: np.ndarray) -> Any:
    if x.size == 3:
        return softmax(x)
    return None


def test_right_function(capsys: pytest.CaptureFixture[str]) -> None:
    assert check_function("softmax", softmax, CASES, expected=softmax)
    assert check_function("softmax", softmax, CASES, expected=[softmax(*case) for case in CASES])
    assert capsys.readouterr().out == "right: softmax\n" * 2


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: np.exp(x), "for softmax([1.0, 2.0, 3.0])"),
        (lambda x: softmax(x)[None], "shape is (1, 3), but (3,)"),
        (in_place, "changes its argument 1 in place"),
        (broken, "AttributeError"),
        (broken, "line 3 of the function"),
        (one_branch, "missing in one branch"),
        (lambda x, y: x, "TypeError"),
        (3.0, "not a function"),
    ],
)
def test_wrong_function(function: Any, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert not check_function("softmax", function, CASES, expected=softmax)
    assert words in capsys.readouterr().out


def test_overflow_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    with np.errstate(all="ignore"):
        assert not check_function("softmax", lambda x: np.exp(x) / np.exp(x).sum(), CASES, expected=softmax)
    assert "not finite" in capsys.readouterr().out


def test_an_unwritten_function_is_unanswered(capsys: pytest.CaptureFixture[str]) -> None:
    def unwritten(x: np.ndarray) -> None: ...

    def refusing(x: np.ndarray) -> None:
        raise NotImplementedError

    assert not check_function("a", unwritten, CASES, expected=softmax)
    assert not check_function("b", refusing, CASES, expected=softmax)
    assert capsys.readouterr().out == "not answered yet: a\nnot answered yet: b\n"


def test_the_cases_stay_as_they_are() -> None:
    cases = [(np.array([1.0, 2.0]),)]
    check_function("softmax", in_place, cases, expected=softmax)
    assert cases[0][0].tolist() == [1.0, 2.0]


def test_as_many_results_as_cases() -> None:
    with pytest.raises(ValueError, match="2 cases but 1 expected"):
        check_function("softmax", softmax, CASES, expected=[1.0])


# --- strictness and display ------------------------------------------------------------------------------------------


def test_strict_raises_for_wrong_and_missing_answers() -> None:
    exercises.set_strict()
    assert check_array("a", EXPECTED, EXPECTED)
    with pytest.raises(AssertionError, match="transpose"):
        check_array("a", EXPECTED.T, EXPECTED)
    with pytest.raises(AssertionError, match="not answered yet"):
        check_equal("a", ..., 3)
    with pytest.raises(AssertionError, match="in place"):
        check_function("a", in_place, CASES, expected=softmax)


def test_a_verdict_shows_nothing_twice() -> None:
    """The message was printed; as the last value of a cell the verdict must not show it again."""
    IPython = pytest.importorskip("IPython")
    shell = IPython.core.interactiveshell.InteractiveShell.instance()
    format_dict, metadata = shell.display_formatter.format(Verdict(True, "right: x"))
    assert format_dict == {} and metadata == {}
