"""MATLAB 5 files of numbers and text: checked, then read by `scipy.io.loadmat`.

scipy trusts the sizes and data types that a file states: 60 bytes are enough to allocate
gigabytes, and an unknown data type crashes the process. Each variable is therefore unpacked and
checked here, and only real arrays and text are passed on. The format is described in MathWorks,
"MAT-File Format", chapter 1.
"""

from __future__ import annotations

import math
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinegraph.errors import ReadError
from kinegraph.readers.formats.raw_file import read_bytes, read_head

MAX_FILE_BYTES = 2**26  # maximum file size; the largest published file has 32 kB

#: Bytes that the variables may take, beside half the file's size.
_MAT_FREE_BYTES = 2**25
_HEADER_BYTES = 128
_MAGIC = b"MATLAB 5.0 MAT-file"
_MATRIX_TYPE, _COMPRESSED_TYPE = 14, 15
_CHAR_CLASS, _NUMBER_CLASSES = 4, range(6, 16)  # double, single, 8 to 64 bit integers
_COMPLEX_FLAG = 0x08
_NUMBER_TYPES = {1, 2, 3, 4, 5, 6, 7, 9, 12, 13}
_TEXT_TYPES = {1, 2, 4, 16, 17, 18}
_MAX_DIMENSIONS = 8


@dataclass(frozen=True)
class MatFile:
    """The variables of a MATLAB 5 file that are real arrays or text; others are left out."""

    path: Path
    variables: Mapping[str, NDArray[Any]]  # by name; text is an array of one string

    def array(self, name: str) -> NDArray[np.float64]:
        """Return a numeric variable as float64, in MATLAB's shape; ReadError if there is none."""
        return self._variable(name, "numeric").astype(np.float64)

    def number(self, name: str) -> float:
        """Return a numeric variable of one element; ReadError if there is none."""
        value = self.array(name)
        if value.size != 1:
            raise ReadError(f"{self.path}: expected {name!r} to be one number, got {value.shape}")
        return float(value.flat[0])

    def text(self, name: str) -> str:
        """Return a text variable; ReadError if there is none."""
        return "".join(self._variable(name, "text").tolist())

    def _variable(self, name: str, kind: str) -> NDArray[Any]:
        value = self.variables.get(name)
        if value is None or (value.dtype.kind == "U") != (kind == "text"):
            present = ", ".join(sorted(self.variables)[:10]) or "none"
            raise ReadError(
                f"{self.path}: expected a {kind} variable {name!r}; readable variables: {present}"
            )
        return value


def is_mat_file(path: Path) -> bool:
    """Return whether a file begins with the signature of MATLAB 5 files."""
    return read_head(path, len(_MAGIC)) == _MAGIC


def read_mat(path: Path) -> MatFile:
    """Return the real arrays and the text of a MATLAB 5 file (``save -v6`` or ``-v7``).

    Raises:
        ReadError: the file cannot be opened, has another format, is larger than `MAX_FILE_BYTES`,
            damaged, or would take far more memory than its size.
    """
    from scipy.io import loadmat

    data = read_bytes(path, MAX_FILE_BYTES)
    order = {b"IM": "<", b"MI": ">"}.get(data[126:_HEADER_BYTES])
    if order is None or not data.startswith(_MAGIC):
        raise ReadError(f"{path}: expected a MATLAB 5 file, found another format; save it with -v7")
    try:
        header = _MAGIC.ljust(124) + struct.pack(f"{order}H", 0x0100) + data[126:_HEADER_BYTES]
        checked = BytesIO(b"".join([header, *_checked_variables(data, order)]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a variable that occurs twice
            found = loadmat(checked)
    # scipy does not document what it raises for damaged content
    except Exception as error:
        raise ReadError(f"{path}: damaged or truncated MATLAB file: {error}") from error
    arrays = {name: value for name, value in found.items() if isinstance(value, np.ndarray)}
    return MatFile(path, arrays)


def _checked_variables(data: bytes, order: str) -> Iterator[bytes]:
    """Yield the unpacked variables that are real arrays or text, each with its tag."""
    limit = free = _MAT_FREE_BYTES + len(data) // 2
    for kind, content in _elements(data[_HEADER_BYTES:], order):
        if kind == _COMPRESSED_TYPE:
            # MATLAB sometimes leaves the stream open; the sizes inside reveal a truncation
            content = zlib.decompressobj().decompress(content, limit + 1)
            if len(content) > limit:
                raise ValueError(f"its variables unpack to more than {limit} bytes")
            limit -= len(content)
            kind, content = next(_elements(content, order))
        if kind == _MATRIX_TYPE and (size := _array_size(content, order)) is not None:
            free -= 8 * size  # scipy may store each value as a number of eight bytes
            if free < 0:
                raise ValueError("its arrays would take far more memory than the file's size")
            yield struct.pack(f"{order}II", _MATRIX_TYPE, len(content)) + content


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Yield (type, content) of consecutive data elements; ValueError if one is cut off."""
    at = 0
    while at < len(data):
        tag, size = struct.unpack_from(f"{order}II", data, at)
        if small := tag >> 16:  # type, size and up to four bytes in eight bytes
            kind, start, size, end = tag & 0xFFFF, at + 4, small, at + 8
        else:
            kind, start = tag, at + 8
            end = start + size + (0 if tag == _COMPRESSED_TYPE else -size % 8)
        if start + size > min(end, len(data)):
            raise ValueError(f"an element claims {size} bytes, {len(data) - start} are there")
        yield kind, data[start : start + size]
        at = end


def _array_size(content: bytes, order: str) -> int | None:
    """Return the number of values of a real array or text, None for other variables.

    Raises:
        ValueError: it is damaged.
    """
    parts = _elements(content, order)
    (_, flags), (_, sizes), _ = (next(parts, (0, b"")) for _ in range(3))
    (flag,) = struct.unpack_from(f"{order}I", flags)
    array_class, is_text = flag & 0xFF, flag & 0xFF == _CHAR_CLASS
    if (flag >> 8) & _COMPLEX_FLAG or not (is_text or array_class in _NUMBER_CLASSES):
        return None
    shape = struct.unpack(f"{order}{len(sizes) // 4}i", sizes)
    (kind, values), *more = parts
    # scipy reads the flags at this fixed place
    if content[:8] != struct.pack(f"{order}II", 6, 8) or more:
        raise ValueError("an array has an unusual structure")
    if kind not in (_TEXT_TYPES if is_text else _NUMBER_TYPES):
        raise ValueError(f"an array has the unknown data type {kind}")
    if not 0 < len(shape) <= _MAX_DIMENSIONS or min(shape) < 0 or math.prod(shape) > len(values):
        raise ValueError(f"an array claims the shape {shape}, {len(values)} bytes are there")
    return math.prod(shape)
