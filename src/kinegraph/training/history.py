"""The history of a run: one row of history.csv an epoch."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from kinegraph.files import atomic_write

HISTORY_FILE = "history.csv"
FIRST = ("epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy")
LAST = ("lr", "seconds")


def read_history(run: Path) -> list[dict[str, float]]:
    """The rows of a run's history, an empty list if there are none yet."""
    return [{k: float(v) for k, v in row.items() if v} for row in _rows(run)]


def _rows(run: Path) -> list[dict[str, str]]:
    path = run / HISTORY_FILE
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def append_history(run: Path, row: Mapping[str, float]) -> None:
    """Append an epoch's figures; rows of the epochs that a resumed run repeats are dropped."""
    kept = [old for old in _rows(run) if float(old["epoch"]) < row["epoch"]]
    fields = {key for old in (*kept, row) for key in old}
    further = sorted(fields.difference(FIRST, LAST))
    order = [key for key in (*FIRST, *further, *LAST) if key in fields]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, order)
    writer.writeheader()
    writer.writerows([*kept, row])
    atomic_write(run / HISTORY_FILE, text.getvalue())
