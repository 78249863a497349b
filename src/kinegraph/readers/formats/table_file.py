"""Tables in text files: numbers in fixed columns, and .csv files of any encoding and separator."""

from __future__ import annotations

import csv
import io
import math
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kinegraph.errors import ReadError
from kinegraph.readers.formats.raw_file import open_unpacked, read_bytes, read_head

_BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_SEPARATORS = (";", "\t", ",")  # a semicolon or tab first: commas may then be decimal commas
_SEPARATOR_LINE = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)  # the first line of Excel's files
_BINARY = re.compile("[\x00-\x08\x0e-\x1f\ufeff\ufffe]")
_EMPTY_CELLS = {"", "nan", "na", "n/a", "null", "none", "-nan"}
_NUMBERS = re.compile(r"\s*[-+.\deE]+(\s+([-+.\deE]+|nan))+\s*")
_HEAD_BYTES = 8192


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


@dataclass(frozen=True)
class CsvFile:
    """The text of a .csv file.

    Attributes:
        path: the file.
        text: its content.
        encoding: how the text was decoded.
        delimiter: the separator of its columns.
    """

    path: Path
    text: str
    encoding: str
    delimiter: str

    @property
    def notes(self) -> tuple[str, ...]:
        """A sentence about the encoding if it was guessed."""
        guessed = self.encoding == "cp1252"
        return (f"{self.path.name} is not UTF-8: read as Windows-1252 [guess]",) if guessed else ()

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the rows that are not blank, with their line numbers.

        Raises:
            ReadError: a quoted cell does not end, or a cell is too long.
        """
        rows = csv.reader(io.StringIO(self.text, newline=""), delimiter=self.delimiter)
        try:
            for cells in rows:
                if any(cell.strip() for cell in cells):
                    yield rows.line_num, cells
        except csv.Error as error:
            raise ReadError(f"{self.path}: cannot be read as a .csv table: {error}") from error

    def parse_number(self, cell: str) -> float | None:
        """Return the number in a cell, NaN if the cell is empty, None if it is not a number."""
        cell = cell.strip()
        if cell.lower() in _EMPTY_CELLS:
            return math.nan
        if self.delimiter != "," and cell.count(",") == 1 and "." not in cell:
            cell = cell.replace(",", ".")
        try:
            return None if "_" in cell else float(cell)
        except ValueError:
            return None


def open_csv(path: Path, *, head_only: bool = False) -> CsvFile:
    """Return a .csv file in UTF-8, UTF-16 or Windows-1252, with commas, semicolons or tabs.

    Args:
        path: the file.
        head_only: whether its first lines are enough.

    Raises:
        ReadError: the file is missing or is not text.
    """
    data = read_head(path, _HEAD_BYTES) if head_only else read_bytes(path)
    encoding = next((code for mark, code in _BYTE_ORDER_MARKS.items() if data.startswith(mark)), "")
    for code in (encoding,) if encoding else ("utf-8", "cp1252"):
        try:
            text = data.decode(code)
        except UnicodeDecodeError:
            continue
        if not _BINARY.search(text) and (text or not encoding):
            return _find_delimiter(path, text, code)
    raise ReadError(f"{path}: cannot be read as a .csv table: expected text, found binary data")


def _find_delimiter(path: Path, text: str, encoding: str) -> CsvFile:
    if stated := _SEPARATOR_LINE.match(text):
        return CsvFile(path, "\n" + text[stated.end() :], encoding, stated[1])
    first = next((line for line in text.splitlines() if line.strip()), "")
    outside = re.sub(r'"[^"]*"', "", first)
    delimiter = next((mark for mark in _SEPARATORS if mark in outside), ",")
    if delimiter not in outside and _NUMBERS.fullmatch(first):  # as numpy.savetxt writes
        text, delimiter = "\n".join(" ".join(line.split()) for line in text.splitlines()), " "
    return CsvFile(path, text, encoding, delimiter)


def read_csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a .csv file that are not blank, with their line numbers; see `open_csv`.

    Raises:
        ReadError: the file is missing or is not text.
    """
    return open_csv(path).rows()
