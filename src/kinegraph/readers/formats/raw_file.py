"""Bytes of a raw file, and the limits for what compressed files unpack to."""

from __future__ import annotations

import errno
import gzip
import io
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from kinegraph.errors import ReadError

MAX_UNPACKED_BYTES = 2**30  # maximum size that compressed data is unpacked to
MAX_UNPACK_RATIO = 2  # maximum ratio of unpacked to packed size, beyond the first 128 MiB
TABLE_SUFFIXES = (".txt", ".csv", ".tsv", ".bvh")
FREE_BYTES = 2**27  # memory that the content of any file may take


def read_head(path: Path, size: int = 4096) -> bytes:
    """Return the first bytes of a file, unpacked if it is a .gz; b"" if it cannot be read."""
    if not path.is_file():  # opening a pipe would wait
        return b""
    try:
        with path.open("rb") as file, gzip.open(file) if path.suffix == ".gz" else file as content:
            return content.read(size)
    except (OSError, EOFError, zlib.error):
        return b""


def find_cut_text(path: Path) -> list[str]:
    """Return a note on a text table whose last line has no line break: a number may be cut short.

    Where a format states its number of values, a file that was cut short is refused instead.
    """
    if path.suffix.lower() not in TABLE_SUFFIXES or not path.is_file():
        return []
    with path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(max(0, size - 1))
        ends = file.read() in (b"\n", b"\r", b"\0")  # \0: the second byte of UTF-16
    return [] if ends else ["the last line has no line break: the file may be cut short"]


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading, unless it is a pipe or a device, which may never end.

    Raises:
        OSError: the file cannot be opened, or is not a regular file.
    """
    require_regular(path)
    return path.open("rb")


def require_regular(path: Path) -> None:
    """Check that a path is a regular file, or does not exist.

    Raises:
        OSError: it is a folder, a pipe or a device.
    """
    if path.exists() and not path.is_file():
        kind = errno.EISDIR if path.is_dir() else errno.EINVAL
        raise OSError(kind, "it is a folder" if path.is_dir() else "it is not a regular file")


def open_unpacked(path: Path) -> BinaryIO:
    """Open a file for reading; a .gz is unpacked into memory, within `unpack_limit`.

    Raises:
        OSError: the file cannot be opened.
        ReadError: a file named .gz is not one, or it unpacks to too much.
    """
    if path.suffix != ".gz":
        return open_regular(path)
    limit = unpack_limit(path.stat().st_size)
    try:
        with gzip.open(path) as file:
            data = file.read(limit + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ReadError(f"{path}: cannot be unpacked: {error}") from error
    if len(data) > limit:
        raise ReadError(f"{path}: expected to unpack to at most {limit} bytes, got more")
    return io.BytesIO(data)


def read_bytes(path: Path, max_bytes: int | None = None) -> bytes:
    """Return the content of a file.

    Raises:
        ReadError: the file cannot be opened or is larger than ``max_bytes``.
    """
    try:
        with open_regular(path) as file:
            data = file.read(-1 if max_bytes is None else max_bytes + 1)
    except OSError as error:
        raise ReadError(f"{path}: cannot be opened: {error.strerror}") from error
    if max_bytes is not None and len(data) > max_bytes:
        raise ReadError(f"{path}: expected a file of at most {max_bytes} bytes, got a larger one")
    return data


def unpack_limit(packed_bytes: int, max_bytes: int = MAX_UNPACKED_BYTES) -> int:
    """Return the number of bytes that so many packed bytes may unpack to."""
    return min(max_bytes, FREE_BYTES + MAX_UNPACK_RATIO * packed_bytes)


def describe(value: Any) -> str:
    """Return a short text for a value of any size, for error messages."""
    if isinstance(value, list | tuple | set | dict):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, int) and value.bit_length() > 128:
        return "a huge number"
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} and shape {value.shape}"
    text = repr(value[:41] if isinstance(value, str | bytes | bytearray) else value)
    return text if len(text) <= 40 else text[:37] + "..."
