"""Lines of text files."""

from __future__ import annotations

import pytest

from kinegraph.errors import ReadError
from kinegraph.readers.formats.text_lines import MAX_LINE_CHARACTERS, read_lines


def test_blank_lines_are_counted_but_left_out(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b" one \r\n\n\t\ntwo")
    assert list(read_lines(path)) == [(f"{path}:1", "one"), (f"{path}:4", "two")]


def test_a_long_line_is_refused_before_anything_repeats_it(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\n" + bytes(MAX_LINE_CHARACTERS + 1))
    lines = read_lines(path)
    assert next(lines) == (f"{path}:1", "one")
    with pytest.raises(ReadError, match=r"a\.txt:2: expected lines of at most 1048576 characters"):
        next(lines)
