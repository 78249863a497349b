"""Tables in text files: numbers in fixed columns, .csv rows, and joints with one row per frame."""

from __future__ import annotations

import csv
import math
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kinegraph.errors import ReadError
from kinegraph.readers.formats.numpy_file import to_float32
from kinegraph.readers.formats.raw_file import open_unpacked, read_head

MAX_CELLS_PER_ROW = 20
"""Maximum cells (frame, person) per row of the table; frames without a row are absent."""

_FREE_CELLS = 1000


def read_table(path: Path, columns: int, delimiter: str | None = None) -> NDArray[np.float64]:
    """Return the numbers of a text file (or .gz) as (rows, columns); blank lines are skipped.

    Args:
        path: the file.
        columns: the number of columns in every line.
        delimiter: the separator of columns; None for white space.

    Raises:
        ReadError: the file cannot be opened or is empty, or a line does not have ``columns``
            finite numbers; the message names the line.
    """
    values = array("d")
    try:
        with open_unpacked(path) as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    values.extend(_parse_row(line, columns, delimiter, f"{path}:{number}"))
    except OSError as error:
        raise ReadError(f"{path}: cannot be opened: {error.strerror}") from error
    if not values:
        raise ReadError(f"{path}: expected lines of {columns} numbers, the file is empty")
    return np.frombuffer(values, np.float64).reshape(-1, columns)


def is_number_table(path: Path, columns: int, delimiter: str | None = None) -> bool:
    """Return whether the first line of a file has so many numbers."""
    first = read_head(path).partition(b"\n")[0]
    try:
        return bool(_parse_row(first, columns, delimiter, str(path)))
    except ReadError:
        return False


def _parse_row(line: bytes, columns: int, delimiter: str | None, where: str) -> list[float]:
    separator = delimiter.encode() if delimiter else None
    fields = line.strip().split(separator, columns)  # does not split the rest of a long line
    if len(fields) != columns:
        got = "more" if len(fields) > columns else len(fields)
        raise ReadError(f"{where}: expected {columns} numbers in a line, got {got}")
    return [_parse_number(field, where) for field in fields]


def _parse_number(field: bytes, where: str) -> float:
    try:
        value = float(field)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or b"_" in field:
        shown = field[:20].decode("ascii", "backslashreplace")
        raise ReadError(f"{where}: expected a finite number, got {shown!r}")
    return value


FrameRows = dict[tuple[str, int], NDArray[np.float32]]  # (person, frame) -> numbers


def read_csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a .csv file that are not blank, with their line numbers.

    Raises:
        ReadError: the file is missing or is not text.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file)
            for cells in rows:
                if any(cell.strip() for cell in cells):
                    yield rows.line_num, cells
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ReadError(f"{path}: cannot be read as a .csv table: {error}") from error


def read_frame_table(path: Path, num_joints: int) -> NDArray[np.float32]:
    """Return the numbers of a table as (M, T, V, width), NaN where a cell or a row is missing.

    The first line names the columns. A column ``frame`` holds frame numbers (without it each row
    is the next frame), a column ``person`` the names of persons. The others are the numbers of
    joint 0, then those of joint 1, and so on.

    Args:
        path: the .csv file.
        num_joints: V; the width follows from the number of columns.

    Raises:
        ReadError: the file is not a table, a cell is not a number, V does not divide the number
            of columns, a frame occurs twice, or frame numbers are so far apart that most frames
            would be empty.
    """
    lines = read_csv_rows(path)
    number, names = next(lines, (1, []))
    header = [name.strip().lower() for name in names]
    if not header or any(_is_numeric(name) for name in header):
        raise ReadError(f"{path}:{number}: expected a first line with column names")
    if "person" in header and "frame" not in header:
        raise ReadError(f"{path}:{number}: a column 'person' needs a column 'frame'")
    columns = len(header) - sum(name in ("frame", "person") for name in header)
    width, rest = divmod(columns, num_joints)
    if rest or width not in (2, 3, 4):
        raise ReadError(
            f"{path}: expected 2 to 4 columns for each of the {num_joints} joints of the layout, "
            f"got {columns} columns"
        )
    rows = _parse_rows(path, header, lines)
    if not rows:
        raise ReadError(f"{path}: expected at least one frame, the table has no rows")
    filled = _fill_array(path, rows)
    return filled.reshape(*filled.shape[:2], num_joints, width)


def _parse_rows(
    path: Path, header: Sequence[str], lines: Iterator[tuple[int, list[str]]]
) -> FrameRows:
    rows: FrameRows = {}
    frame_column = header.index("frame") if "frame" in header else None
    person_column = header.index("person") if "person" in header else None
    for count, (number, cells) in enumerate(lines):
        where = f"{path}:{number}"
        if len(cells) != len(header):
            raise ReadError(f"{where}: expected {len(header)} columns, got {len(cells)}")
        frame = count if frame_column is None else _parse_frame_number(where, cells[frame_column])
        person = "" if person_column is None else cells[person_column].strip()
        if (person, frame) in rows:
            raise ReadError(f"{where}: frame {frame} is given twice for one person")
        values = [c for i, c in enumerate(cells) if i not in (frame_column, person_column)]
        rows[person, frame] = _parse_values(where, values)
    return rows


def _parse_frame_number(where: str, cell: str) -> int:
    if _is_numeric(cell) and abs(float(cell)) < 2**31 and float(cell).is_integer():
        return int(float(cell))
    raise ReadError(f"{where}: expected a frame number, got {cell.strip()!r:.80}")


def _parse_values(where: str, cells: Sequence[str]) -> NDArray[np.float32]:
    for cell in cells:
        if cell.strip() and not _is_numeric(cell):
            raise ReadError(f"{where}: expected a number, got {cell.strip()!r:.80}")
    return to_float32(np.array([float(cell) if cell.strip() else np.nan for cell in cells]))


def _is_numeric(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _fill_array(path: Path, rows: FrameRows) -> NDArray[np.float32]:
    """Return (M, T, V * width), persons in the order in which they appear."""
    persons = {name: m for m, name in enumerate(dict.fromkeys(person for person, _ in rows))}
    first = min(frame for _, frame in rows)
    num_frames = max(frame for _, frame in rows) - first + 1
    if len(persons) * num_frames > MAX_CELLS_PER_ROW * len(rows) + _FREE_CELLS:
        raise ReadError(
            f"{path}: {len(rows)} rows for {len(persons)} persons over {num_frames} frames; "
            "check the columns 'frame' and 'person'"
        )
    width = len(next(iter(rows.values())))
    filled = np.full((len(persons), num_frames, width), np.nan, dtype=np.float32)
    for (person, frame), values in rows.items():
        filled[persons[person], frame - first] = values
    return filled
