"""Tables of numbers in text files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kinegraph.errors import ReadError
from kinegraph.readers.formats.table_file import is_number_table, read_table


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        (b"1 2.5 -3e1\n 4\t5  6 \n", None),
        (b"1,2.5,-3e1\r\n4,5,6\r\n", ","),
        (b"\n1, 2.5 ,-3e1\n\n4,5,6", ","),
    ],
)
def test_numbers(tmp_path: Path, text: bytes, delimiter: str | None) -> None:
    path = tmp_path / "t.txt"
    path.write_bytes(text)
    assert read_table(path, 3, delimiter).tolist() == [[1, 2.5, -30], [4, 5, 6]]
    assert read_table(path, 3, delimiter).dtype == np.float64


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "the file is empty"),
        (b" \n\n", "the file is empty"),
        (b"1 2 3\n4 5", ":2: expected 3 numbers in a line, got 2"),
        (b"1 2 3\n\n4 5 6 7\n", ":3: expected 3 numbers in a line, got more"),
        (b"1 2 3\n4 five 6\n", ":2: expected a finite number, got 'five'"),
        (b"1 2 nan\n", ":1: expected a finite number, got 'nan'"),
        (b"1 2 1e999\n", ":1: expected a finite number, got '1e999'"),
        (b"1 2 1_0\n", ":1: expected a finite number, got '1_0'"),
        (b"1 2 \xff\x00" + b"x" * 100 + b"\n", r":1: expected a finite number, got '\\\\xff"),
        (b"7 " * 100_000, ":1: expected 3 numbers in a line, got more"),
    ],
)
def test_malformed(tmp_path: Path, text: bytes, message: str) -> None:
    path = tmp_path / "t.txt"
    path.write_bytes(text)
    with pytest.raises(ReadError, match=message) as error:
        read_table(path, 3)
    assert len(str(error.value)) < len(str(path)) + 120


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="cannot be opened"):
        read_table(tmp_path / "none.txt", 3)


def test_begins_like_table(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text("1 2 3\nrubbish")
    assert is_number_table(path, 3)
    assert not is_number_table(path, 2)
    assert not is_number_table(path, 3, ",")
    assert not is_number_table(tmp_path, 3)
    assert not is_number_table(tmp_path / "none", 3)
