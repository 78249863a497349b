"""Training history: history.csv with one row per epoch."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from kinegraph.files import atomic_write

HISTORY_FILE = "history.csv"
FIRST_COLUMNS = ("epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy")
LAST_COLUMNS = ("lr", "clips_per_second", "seconds")


def read_history(run: Path) -> list[dict[str, float]]:
    """Return the rows of a run's history, an empty list if there is none yet."""
    return [{k: float(v) for k, v in row.items() if v} for row in _read_rows(run)]


def _read_rows(run: Path) -> list[dict[str, str]]:
    path = run / HISTORY_FILE
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def append_history(run: Path, row: Mapping[str, float]) -> None:
    """Append the row of an epoch, and drop rows of epochs that a resumed run repeats."""
    kept = [old for old in _read_rows(run) if float(old["epoch"]) < row["epoch"]]
    fields = {key for old in (*kept, row) for key in old}
    further = sorted(fields.difference(FIRST_COLUMNS, LAST_COLUMNS))
    order = [key for key in (*FIRST_COLUMNS, *further, *LAST_COLUMNS) if key in fields]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, order)
    writer.writeheader()
    writer.writerows([*kept, row])
    atomic_write(run / HISTORY_FILE, text.getvalue())
