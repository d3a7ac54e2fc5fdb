"""The log is readable after a cut, and the picture shows what the records say."""

import numpy as np
import pytest

from minilm.training import plot_training, read_log
from minilm.training.log import TrainingLog

RECORDS = [
    {"step": step, "loss": 4 / step, "learning_rate": 1e-3 / step, "tokens": step, "seconds": 1.0}
    for step in range(1, 121)
] + [{"step": step, "validation_loss": 5 / step} for step in (40, 80, 120)]


def test_the_picture_shows_the_records(tmp_path):
    figure = plot_training(RECORDS, tmp_path / "sub" / "a.png", title="A run", baselines={"trigram": 2.06})
    upper, lower = figure.axes
    raw, smooth, validation, baseline = upper.lines
    assert np.array_equal(raw.get_ydata(), [record["loss"] for record in RECORDS[:120]])
    assert list(validation.get_xdata()) == [40, 80, 120]
    assert list(validation.get_ydata()) == [5 / 40, 5 / 80, 5 / 120]
    assert baseline.get_ydata()[0] == 2.06
    assert smooth.get_ydata()[60] == pytest.approx(raw.get_ydata()[58:63].mean())
    assert "nats per token" in upper.get_ylabel() and lower.get_xlabel() == "step"
    assert list(lower.lines[0].get_ydata())[:2] == [1e-3, 5e-4]
    assert (tmp_path / "sub" / "a.png").stat().st_size > 10_000


def test_nothing_to_draw():
    with pytest.raises(ValueError, match="no record of training"):
        plot_training([{"step": 0, "validation_loss": 1.0}])


def test_a_log_that_was_cut_off_is_still_read(tmp_path):
    log = TrainingLog(tmp_path / "log.jsonl")
    log.start([])
    for step in range(3):
        log.add({"step": step, "sample": "naïve\n“text”"})
    with log.path.open("a") as file:
        file.write('{"step": 3, "lo')
    assert read_log(log.path) == log.records
    log.start(log.records[:1])
    assert read_log(log.path) == [{"step": 0, "sample": "naïve\n“text”"}]


def test_a_broken_line_in_the_middle_is_named(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\nnonsense\n{"step": 2}\n')
    with pytest.raises(ValueError, match="line 2 is not JSON"):
        read_log(path)
