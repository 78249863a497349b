"""Text files of numbers in a fixed number of columns."""

from __future__ import annotations

import math
from array import array
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kinegraph.errors import ReadError
from kinegraph.readers.formats.raw_file import read_head


def read_table(path: Path, columns: int, delimiter: str | None = None) -> NDArray[np.float64]:
    """Return the numbers of a text file as (rows, columns); blank lines are skipped.

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
        with path.open("rb") as file:
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
