"""Reads text files of numbers in a fixed number of columns."""

from __future__ import annotations

import math
from array import array
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kinegraph.errors import ReadError
from kinegraph.readers.filename_patterns import read_head


def read_table(path: Path, columns: int, delimiter: str | None = None) -> NDArray[np.float64]:
    """The numbers of a text file, (rows, columns); blank lines are skipped.

    Args:
        path: the file.
        columns: numbers in every line.
        delimiter: what stands between them; None: any white space.

    Raises:
        ReadError: the file cannot be opened or is empty, a line has another number of columns or
            something that is no finite number; the message names the line.
    """
    values = array("d")
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    values.extend(_row(line, columns, delimiter, f"{path}:{number}"))
    except OSError as error:
        raise ReadError(f"{path}: cannot be opened: {error.strerror}") from error
    if not values:
        raise ReadError(f"{path}: expected lines of {columns} numbers, the file is empty")
    return np.frombuffer(values, np.float64).reshape(-1, columns)


def is_number_table(path: Path, columns: int, delimiter: str | None = None) -> bool:
    """Whether the first line of a file has so many numbers."""
    first = read_head(path).partition(b"\n")[0]
    try:
        return bool(_row(first, columns, delimiter, str(path)))
    except ReadError:
        return False


def _row(line: bytes, columns: int, delimiter: str | None, where: str) -> list[float]:
    separator = delimiter.encode() if delimiter else None
    fields = line.strip().split(separator, columns)  # a line of a million fields stays one field
    if len(fields) != columns:
        got = "more" if len(fields) > columns else len(fields)
        raise ReadError(f"{where}: expected {columns} numbers in a line, got {got}")
    return [_number(field, where) for field in fields]


def _number(field: bytes, where: str) -> float:
    try:
        value = float(field)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or b"_" in field:
        shown = field[:20].decode("ascii", "backslashreplace")
        raise ReadError(f"{where}: expected a finite number, got {shown!r}")
    return value
