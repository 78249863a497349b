"""Annotations as tables of BORIS, its export "Aggregated events" as .csv or .tsv."""

from __future__ import annotations

import math
from pathlib import Path

from kinegraph.errors import ReadError
from kinegraph.readers.annotations.csv_table import write_table
from kinegraph.readers.annotations.records import (
    AnnotationFormat,
    Annotations,
    TimedLabel,
    check_label,
)
from kinegraph.readers.formats.table_file import open_csv

_OBSERVATION, _BEHAVIOR, _TYPE = "Observation id", "Behavior", "Behavior type"
_START_S, _STOP_S = "Start (s)", "Stop (s)"
_MEDIA = ("Media file name", "Media file")  # since version 8, and before


def _matches(path: Path) -> bool:
    header = next(open_csv(path, head_only=True).rows(), (0, []))[1]
    return {_BEHAVIOR, _START_S, _STOP_S} <= {cell.strip() for cell in header}


def _read(path: Path) -> Annotations:
    table = open_csv(path)
    rows = table.rows()
    header = [cell.strip() for cell in next(rows)[1]]
    found: dict[str, list[TimedLabel]] = {}
    for line, cells in rows:
        where = f"{path}:{line}"
        if len(cells) < len(header):
            raise ReadError(f"{where}: expected {len(header)} cells, got {len(cells)}")
        row = dict(zip(header, (cell.strip() for cell in cells), strict=False))
        media = next((row[name] for name in _MEDIA if row.get(name)), "")
        start, stop = (table.parse_number(row[name]) for name in (_START_S, _STOP_S))
        # a point event states no end, or the same one
        is_point = row.get(_TYPE, "").upper() == "POINT"
        is_point = is_point or stop is None or math.isnan(stop) or stop == start
        one = check_label(row[_BEHAVIOR], start, None if is_point else stop, where)
        found.setdefault(media or row.get(_OBSERVATION) or path.stem, []).append(one)
    return found


def _write_boris(annotations: Annotations) -> str:
    rows = [
        {
            _OBSERVATION: name, _MEDIA[0]: name, _BEHAVIOR: one.label, _TYPE: "STATE",
            _START_S: f"{one.start:.3f}", _STOP_S: f"{one.end:.3f}",
        }
        for name, labels in annotations.items()
        for one in labels
    ]  # fmt: skip
    return write_table((_OBSERVATION, _MEDIA[0], _BEHAVIOR, _TYPE, _START_S, _STOP_S), rows)


BORIS_FORMAT = AnnotationFormat(
    name="boris",
    summary="aggregated events of BORIS, as .csv or .tsv",
    suffixes=(".csv", ".tsv"),
    matches=_matches,
    read=_read,
    write=_write_boris,
)
