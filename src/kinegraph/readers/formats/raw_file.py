"""Bytes of a raw file, and the limits for what compressed files unpack to."""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path
from typing import BinaryIO

from kinegraph.errors import ReadError

MAX_UNPACKED_BYTES = 2**30  # maximum size that compressed data is unpacked to
MAX_UNPACK_RATIO = 200  # maximum ratio of unpacked to packed size, beyond the first 16 MiB

_UNLIMITED_RATIO_BYTES = 2**24


def read_head(path: Path, size: int = 4096) -> bytes:
    """Return the first bytes of a file, unpacked if it is a .gz; b"" if it cannot be read."""
    try:
        with path.open("rb") as file, gzip.open(file) if path.suffix == ".gz" else file as content:
            return content.read(size)
    except (OSError, EOFError, zlib.error):
        return b""


def open_unpacked(path: Path) -> BinaryIO:
    """Open a file for reading; a .gz is unpacked into memory, within `unpack_limit`.

    Raises:
        OSError: the file cannot be opened.
        ReadError: a file named .gz is not one, or it unpacks to too much.
    """
    if path.suffix != ".gz":
        return path.open("rb")
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
        with path.open("rb") as file:
            data = file.read(-1 if max_bytes is None else max_bytes + 1)
    except OSError as error:
        raise ReadError(f"{path}: cannot be opened: {error.strerror}") from error
    if max_bytes is not None and len(data) > max_bytes:
        raise ReadError(f"{path}: expected a file of at most {max_bytes} bytes, got a larger one")
    return data


def unpack_limit(packed_bytes: int, max_bytes: int = MAX_UNPACKED_BYTES) -> int:
    """Return the number of bytes that so many packed bytes may unpack to."""
    return min(max_bytes, max(_UNLIMITED_RATIO_BYTES, MAX_UNPACK_RATIO * packed_bytes))
