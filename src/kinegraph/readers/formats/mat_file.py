"""Reads the numbers and texts of MATLAB 5 files, never allocating what a header merely claims.

`scipy.io.loadmat` unpacks whatever a few kilobytes of zlib stream claim to hold; the sets read here
need only arrays of numbers and lines of text, so the format (MathWorks, "MAT-File Format",
chapter 1) is read directly and every size is checked against the bytes that are there.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinegraph.errors import ReadError
from kinegraph.readers.filename_patterns import read_head

MAX_FILE_BYTES = 2**26
"""Largest file that is opened; the largest published one has 32 kB."""
MAX_RATIO = 200
"""Most that a file may grow by when it is unpacked, beyond the first 16 MiB."""

_FREE_BYTES = 2**24
_HEADER_BYTES = 128
_MAGIC = b"MATLAB 5.0 MAT-file"
_MATRIX, _COMPRESSED = 14, 15
_CHARACTERS = 4
_NUMERIC_CLASSES = range(6, 16)  # double, single, 8 to 64 bit integers
_COMPLEX = 0x08
# fmt: off
_NUMBERS = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8",
}
_ENCODINGS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
# fmt: on
_DAMAGED = (struct.error, zlib.error, ValueError, KeyError)


@dataclass(frozen=True)
class MatFile:
    """The variables of a MATLAB 5 file that are real arrays or texts; others are left out.

    Attributes:
        path: the file.
        variables: by name.
    """

    path: Path
    variables: Mapping[str, NDArray[Any] | str]

    def array(self, name: str) -> NDArray[np.float64]:
        """A numeric variable in the shape of MATLAB, as float64; ReadError if there is none."""
        value = self.variables.get(name)
        if not isinstance(value, np.ndarray):
            raise self._lacks(name, "a numeric")
        return value.astype(np.float64)

    def number(self, name: str) -> float:
        """A numeric variable of one element; ReadError if there is none."""
        value = self.array(name)
        if value.size != 1:
            raise ReadError(f"{self.path}: expected {name!r} to be one number, got {value.shape}")
        return float(value.flat[0])

    def text(self, name: str) -> str:
        """A text variable; ReadError if there is none."""
        value = self.variables.get(name)
        if not isinstance(value, str):
            raise self._lacks(name, "a text")
        return value

    def _lacks(self, name: str, kind: str) -> ReadError:
        present = ", ".join(sorted(self.variables)[:10]) or "none"
        return ReadError(
            f"{self.path}: expected {kind} variable {name!r}; readable variables: {present}"
        )


def is_mat_file(path: Path) -> bool:
    """Whether a file begins as MATLAB 5 files do."""
    return read_head(path, len(_MAGIC)) == _MAGIC


def read_mat(path: Path) -> MatFile:
    """The real arrays and the texts of a MATLAB 5 file (``save -v6`` or ``-v7``).

    Raises:
        ReadError: the file cannot be opened, is of another format, larger than `MAX_FILE_BYTES`,
            damaged, or claims more than it holds.
    """
    data = _content(path)
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None or not data.startswith(_MAGIC):
        raise ReadError(
            f"{path}: expected a MATLAB 5 file (save it with -v7), found another format"
        )
    try:
        return MatFile(path, dict(_variables(data[_HEADER_BYTES:], order)))
    except _DAMAGED as error:
        raise ReadError(f"{path}: damaged or truncated MATLAB file: {error}") from error


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ReadError(f"{path}: cannot be opened: {error.strerror}") from error
    if len(data) > MAX_FILE_BYTES:
        raise ReadError(f"{path}: expected a file of at most {MAX_FILE_BYTES} bytes")
    return data


# --------------------------------------------------------------------- elements


def _variables(data: bytes, order: str) -> Iterator[tuple[str, NDArray[Any] | str]]:
    room = _FREE_BYTES + MAX_RATIO * len(data)
    for kind, body in _elements(data, order):
        if kind == _COMPRESSED:
            body = _unpacked(body, room)
            room -= len(body)
            kind, body = next(_elements(body, order), (0, b""))
        if kind == _MATRIX:
            yield from _variable(body, order)


def _unpacked(packed: bytes, room: int) -> bytes:
    stream = zlib.decompressobj()
    body = stream.decompress(packed, room + 1)
    if len(body) > room:
        raise ValueError(f"its variables unpack to more than the {room} bytes that are allowed")
    return body  # MATLAB now and then leaves the stream open; the sizes inside tell a truncation


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """(type, content) of the data elements that follow each other."""
    at = 0
    while at < len(data):
        (tag,) = struct.unpack_from(f"{order}I", data, at)
        if small := tag >> 16:  # type, size and up to four bytes in eight bytes
            kind, start, size, step = tag & 0xFFFF, at + 4, small, 8
            if small > 4:
                raise ValueError(f"a small element claims {small} bytes")
        else:
            (size,) = struct.unpack_from(f"{order}I", data, at + 4)
            kind, start = tag, at + 8
            step = 8 + size + (0 if tag == _COMPRESSED else -size % 8)
        if start + size > len(data):
            raise ValueError(f"an element claims {size} bytes, {len(data) - start} are there")
        yield kind, data[start : start + size]
        at += step


def _variable(body: bytes, order: str) -> Iterator[tuple[str, NDArray[Any] | str]]:
    """The name and value of a matrix element; nothing if it is neither numbers nor text."""
    parts = _elements(body, order)
    (_, flags), (_, sizes), (_, name) = (next(parts, (0, b"")) for _ in range(3))
    (flag,) = struct.unpack_from(f"{order}I", flags)
    shape = struct.unpack(f"{order}{len(sizes) // 4}i", sizes)
    if flag & 0xFF == _CHARACTERS:
        yield name.decode("ascii"), _text(next(parts, (1, b"")), order)
    elif flag & 0xFF in _NUMERIC_CLASSES and not (flag >> 8) & _COMPLEX:
        yield name.decode("ascii"), _array(next(parts, (1, b"")), shape, order)


def _text(part: tuple[int, bytes], order: str) -> str:
    kind, content = part
    encoding = _ENCODINGS[kind]
    byte_order = {"<": "-le", ">": "-be"}[order]
    return content.decode(encoding + (byte_order if encoding in ("utf-16", "utf-32") else ""))


def _array(part: tuple[int, bytes], shape: tuple[int, ...], order: str) -> NDArray[Any]:
    kind, content = part
    values = np.frombuffer(content, np.dtype(f"{order}{_NUMBERS[kind]}"))
    if len(shape) > 8 or min(shape, default=0) < 0 or math.prod(shape) != len(values):
        raise ValueError(f"an array claims the shape {shape}, {len(values)} numbers are there")
    return values.reshape(shape, order="F")
