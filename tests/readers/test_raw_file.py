"""Bytes of raw files, and limits of unpacked sizes."""

from __future__ import annotations

from pathlib import Path

import pytest

from kinegraph.errors import ReadError
from kinegraph.readers.formats.raw_file import (
    MAX_UNPACK_RATIO,
    MAX_UNPACKED_BYTES,
    read_bytes,
    read_head,
    unpack_limit,
)


def test_read_bytes_up_to_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(100))
    assert read_bytes(path) == read_bytes(path, 100) == bytes(100)
    with pytest.raises(ReadError, match=r"a\.bin: expected a file of at most 99 bytes"):
        read_bytes(path, 99)
    with pytest.raises(ReadError, match=r"none\.bin: cannot be opened: No such file"):
        read_bytes(tmp_path / "none.bin")
    with pytest.raises(ReadError, match="cannot be opened"):
        read_bytes(tmp_path)


def test_read_head_never_raises(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"abc")
    assert read_head(path, 2) == b"ab"
    assert read_head(path) == b"abc"
    assert read_head(tmp_path) == read_head(tmp_path / "none.bin") == b""


def test_unpack_limit() -> None:
    assert unpack_limit(0) == 2**27
    assert unpack_limit(10**6) == 2**27 + MAX_UNPACK_RATIO * 10**6
    assert unpack_limit(10**9) == MAX_UNPACKED_BYTES
    assert unpack_limit(10**6, max_bytes=5) == 5
