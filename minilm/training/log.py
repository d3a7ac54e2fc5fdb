"""The record of a run: one JSON object a line, so that a run that is cut off still leaves a readable log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["TrainingLog", "read_log"]

Record = dict[str, Any]


class TrainingLog:
    """Records of training and evaluation, kept in memory and, if there is a path, in a file.

    Every record has a `step` (steps done). Those of training have `loss`, `learning_rate`, `grad_norm`,
    `tokens` and `seconds` (all so far); those of evaluation have `validation_loss`; those of samples have
    `sample`. Losses are in nats per token.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.records: list[Record] = []

    def start(self, records: list[Record]) -> None:
        """Begin with these records: none for a new run, those of the checkpoint when a run is resumed."""
        self.records = list(records)
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            partial = self.path.with_name(self.path.name + ".partial")
            partial.write_text("".join(map(_line, self.records)), encoding="utf-8", newline="\n")
            partial.replace(self.path)

    def add(self, record: Record) -> None:
        """Append a record, to the file as well."""
        self.records.append(record)
        if self.path is not None:
            with self.path.open("a", encoding="utf-8", newline="\n") as file:
                file.write(_line(record))


def read_log(path: str | Path) -> list[Record]:
    """Return the records in a log file; a last line that was cut off is left out.

    Raises:
        ValueError: another line is not a JSON object; the message names it.
    """
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise ValueError(f"{path}, line {number} is not JSON: {error}") from error
    return records


def _line(record: Record) -> str:
    return json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"
