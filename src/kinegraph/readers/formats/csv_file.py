"""Reads a .csv table of joints, one row a frame, into an array."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kinegraph.errors import ReadError
from kinegraph.readers.label_csv import read_csv_rows

MAX_GAPS = 20
"""Most cells (frame, person) per row of the table; frames without a row are absent."""

_FREE_CELLS = 1000


@dataclass(frozen=True)
class _Row:
    frame: int
    person: str
    values: NDArray[np.float32]


def read_frame_table(path: Path, num_joints: int) -> NDArray[np.float32]:
    """The numbers of a table as (M, T, V, width), NaN where a cell is empty or a row missing.

    The first line names the columns. A column ``frame`` holds frame numbers (without it each row
    is the next frame), a column ``person`` tells persons apart. The others are the numbers of
    joint 0, then those of joint 1, and so on.

    Args:
        path: the .csv file.
        num_joints: V; the width follows from the number of columns.

    Raises:
        ReadError: no table, a cell that is no number, columns that V does not divide, a frame
            given twice, or frame numbers so far apart that hardly any frame is there.
    """
    lines = read_csv_rows(path)
    number, names = next(lines, (1, []))
    header = [name.strip().lower() for name in names]
    if not header or any(_is_number(name) for name in header):
        raise ReadError(f"{path}:{number}: expected a first line with column names")
    if "person" in header and "frame" not in header:
        raise ReadError(f"{path}:{number}: a column 'person' needs a column 'frame'")
    width = _width(path, header, num_joints)
    rows = list(_rows(path, header, lines))
    if not rows:
        raise ReadError(f"{path}: expected at least one frame, the table has no rows")
    return _array(path, rows).reshape(*_size(rows), num_joints, width)


def _width(path: Path, header: Sequence[str], num_joints: int) -> int:
    columns = len(header) - sum(name in ("frame", "person") for name in header)
    width, rest = divmod(columns, num_joints)
    if rest or width not in (2, 3, 4):
        raise ReadError(
            f"{path}: expected 2 to 4 columns for each of the {num_joints} joints of the layout, "
            f"got {columns} columns"
        )
    return width


def _rows(
    path: Path, header: Sequence[str], lines: Iterator[tuple[int, list[str]]]
) -> Iterator[_Row]:
    frame = header.index("frame") if "frame" in header else None
    person = header.index("person") if "person" in header else None
    for count, (number, cells) in enumerate(lines):
        if len(cells) != len(header):
            raise ReadError(f"{path}:{number}: expected {len(header)} columns, got {len(cells)}")
        values = [c for i, c in enumerate(cells) if i not in (frame, person)]
        yield _Row(
            count if frame is None else _frame(path, number, cells[frame]),
            "" if person is None else cells[person].strip(),
            _numbers(path, number, values),
        )


def _frame(path: Path, number: int, cell: str) -> int:
    if _is_number(cell) and abs(float(cell)) < 2**31 and float(cell).is_integer():
        return int(float(cell))
    raise ReadError(f"{path}:{number}: expected a frame number, got {cell.strip()!r:.80}")


def _numbers(path: Path, number: int, cells: Sequence[str]) -> NDArray[np.float32]:
    for cell in cells:
        if cell.strip() and not _is_number(cell):
            raise ReadError(f"{path}:{number}: expected a number, got {cell.strip()!r:.80}")
    numbers = np.array([float(cell) if cell.strip() else np.nan for cell in cells])
    with np.errstate(over="ignore"):  # infinite then, which a clip refuses
        return numbers.astype(np.float32)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _size(rows: Sequence[_Row]) -> tuple[int, int]:
    """(M, T): the persons, and the frames from the first to the last."""
    frames = [row.frame for row in rows]
    return len({row.person for row in rows}), max(frames) - min(frames) + 1


def _array(path: Path, rows: Sequence[_Row]) -> NDArray[np.float32]:
    """(M, T, V * width), persons in the order in which they appear."""
    num_persons, num_frames = _size(rows)
    if num_persons * num_frames > MAX_GAPS * len(rows) + _FREE_CELLS:
        raise ReadError(
            f"{path}: {len(rows)} rows for {num_persons} persons over {num_frames} frames; "
            "check the columns 'frame' and 'person'"
        )
    persons = {name: m for m, name in enumerate(dict.fromkeys(row.person for row in rows))}
    first = min(row.frame for row in rows)
    array = np.full((num_persons, num_frames, rows[0].values.size), np.nan, dtype=np.float32)
    filled = np.zeros((num_persons, num_frames), dtype=bool)
    for row in rows:
        cell = persons[row.person], row.frame - first
        if filled[cell]:
            raise ReadError(f"{path}: frame {row.frame} is given twice for one person")
        array[cell], filled[cell] = row.values, True
    return array
