"""Annotations as a .csv table: recording, start, end and label, in seconds or in frames."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from kinegraph.errors import ReadError
from kinegraph.readers.annotations.records import (
    AnnotationFormat,
    Annotations,
    TimedLabel,
    check_label,
)
from kinegraph.readers.formats.table_file import CsvFile, open_csv

LABEL_COLUMNS = ("label", "tag", "action", "class", "class_name", "activity", "gesture", "behavior")
RECORDING_COLUMNS = ("recording", "file", "filename", "file_name", "id", "clip", "video", "name")
#: Names of the columns of start and end, and whether they count frames.
TIME_COLUMNS = (
    (("start_frame", "first_frame", "begin_frame", "frame"), ("stop_frame", "end_frame"), True),
    (("start", "start_s", "begin", "onset", "time"), ("end", "end_s", "stop", "offset"), False),
)


def _read(path: Path) -> Annotations:
    table = open_csv(path)
    rows = table.rows()
    header = [cell.strip().lower() for cell in next(rows, (0, []))[1]]
    label = _find(header, LABEL_COLUMNS)
    times = [(_find(header, a), _find(header, b), frames) for a, b, frames in TIME_COLUMNS]
    start, end, in_frames = next((t for t in times if t[0] is not None), (None, None, False))
    if label is None or start is None:
        raise ReadError(
            f"{path}: expected the columns recording, start, end, label (seconds) or recording, "
            f"start_frame, stop_frame, label, got {', '.join(header)[:80] or 'no header'}"
        )
    name = _find(header, RECORDING_COLUMNS)
    found: dict[str, list[TimedLabel]] = {}
    for line, cells in rows:
        where = f"{path}:{line}"
        if len(cells) < max(label, start) + 1:
            raise ReadError(f"{where}: expected {len(header)} cells, got {len(cells)}")
        begins, ends = (_number(table, cells, column, where) for column in (start, end))
        recording = path.stem if name is None else cells[name].strip()
        labels = found.setdefault(recording, [])
        if not cells[label].strip() and begins is None and ends is None:
            continue  # a recording without an action
        one = check_label(cells[label], begins, ends, where)
        labels.append(one._replace(in_frames=in_frames))
    return found


def _find(header: Sequence[str], names: Sequence[str]) -> int | None:
    return next((header.index(name) for name in names if name in header), None)


def _number(table: CsvFile, cells: Sequence[str], column: int | None, where: str) -> float | None:
    if column is None or column >= len(cells):
        return None
    value = table.parse_number(cells[column])
    if value is None:
        raise ReadError(f"{where}: expected a number, got {cells[column][:40]!r}")
    return None if math.isnan(value) else value


def write_table(header: Sequence[str], rows: Sequence[Mapping[str, object]]) -> str:
    """Return a .csv table."""
    text = io.StringIO()
    writer = csv.DictWriter(text, header, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _write_csv(annotations: Annotations) -> str:
    rows = [
        {"recording": name, "start": f"{one.start:.3f}", "end": f"{one.end:.3f}",
         "label": one.label}
        for name, labels in annotations.items()
        for one in labels
    ]  # fmt: skip
    return write_table(("recording", "start", "end", "label"), rows)


CSV_FORMAT = AnnotationFormat(
    name="csv",
    summary="a table with the columns recording, start, end, label; or start_frame, stop_frame",
    suffixes=(".csv", ".tsv", ".txt"),
    matches=lambda path: True,
    read=_read,
    write=_write_csv,
)
