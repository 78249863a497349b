"""Opens .npy and .npz files of numbers, never trusting what their headers claim."""

from __future__ import annotations

import io
import math
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from kinegraph.errors import ReadError

MAX_UNPACKED_BYTES = 2**30
"""Most that one array of a .npz may unpack to."""
MAX_RATIO = 200
"""Most that one array of a .npz may grow by when it is unpacked, beyond the first 16 MiB."""

_FREE_BYTES = 2**24
_BROKEN = (OSError, ValueError, EOFError, RuntimeError, NotImplementedError, SyntaxError)
_BROKEN_HEADER = (*_BROKEN, TypeError, MemoryError, tokenize.TokenError)
_BROKEN_ZIP = (*_BROKEN, zipfile.BadZipFile, zlib.error)


def open_npy(path: Path) -> NDArray[Any]:
    """The array of a .npy file, memory-mapped and read-only.

    Raises:
        ReadError: the file is missing, no .npy file, shorter than its header claims, empty, or
            holds anything but real numbers.
    """
    try:
        with path.open("rb") as file:
            shape, by_column, dtype = _header(file)
            offset = file.tell()
        _check_size(shape, dtype, path.stat().st_size - offset)
        order: Any = "F" if by_column else "C"
        return np.memmap(path, dtype, "r", offset, shape, order)
    except _BROKEN as error:
        raise ReadError(f"{path}: cannot be read as a .npy array: {error}") from error


def read_npy_shape(path: Path) -> tuple[int, ...] | None:
    """The shape that a .npy file claims, or None if it is no readable .npy file of numbers."""
    if path.suffix != ".npy" or not path.is_file():
        return None
    try:
        return open_npy(path).shape
    except ReadError:
        return None


def read_npz(path: Path, names: Collection[str]) -> dict[str, NDArray[Any]]:
    """The arrays of a .npz file that are among ``names``; others are not unpacked.

    Raises:
        ReadError: the file is missing, no .npz file, would unpack to more than
            `MAX_UNPACKED_BYTES` or `MAX_RATIO` times its size, or holds anything but numbers.
    """
    try:
        with path.open("rb") as file:
            return unpack_npz(file, path.stat().st_size, names, str(path))
    except OSError as error:
        raise ReadError(f"{path}: cannot be read as .npz arrays: {error}") from error


def unpack_npz(
    file: BinaryIO, size: int, names: Collection[str], what: str, most: int = MAX_UNPACKED_BYTES
) -> dict[str, NDArray[Any]]:
    """As `read_npz`, of an open file of ``size`` bytes; no array may unpack to more than ``most``.

    Raises:
        ReadError: as `read_npz`, naming ``what``.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = {m.filename.removesuffix(".npy"): m for m in archive.infolist()}
            wanted = {name: members[name] for name in names if name in members}
            if not wanted:
                found = ", ".join(sorted(members)[:10]) or "nothing"
                raise ReadError(f"{what}: expected an array named {names!r}, found {found}")
            return {n: _member(archive, member, size, most) for n, member in wanted.items()}
    except _BROKEN_ZIP as error:
        raise ReadError(f"{what}: cannot be read as .npz arrays: {error}") from error


def to_float32(array: NDArray[Any]) -> NDArray[np.float32]:
    """A float32 copy; numbers beyond its range become infinite, which a Clip refuses."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.array(array, dtype=np.float32)


def _member(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, size: int, most: int
) -> NDArray[Any]:
    packed_size = min(member.compress_size, size)
    limit = min(most, max(_FREE_BYTES, MAX_RATIO * packed_size))
    if member.file_size > limit:
        raise ValueError(
            f"{member.filename} would unpack from {packed_size} bytes to {member.file_size}, "
            f"more than the {limit} that are allowed"
        )
    with archive.open(member) as packed:
        file = io.BytesIO(packed.read(limit + 1))
    shape, by_column, dtype = _header(file)
    _check_size(shape, dtype, len(file.getbuffer()) - file.tell())
    values = np.frombuffer(file.getbuffer(), dtype, math.prod(shape), file.tell())
    return values.reshape(shape, order="F" if by_column else "C")


def _header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)  # type: ignore[no-untyped-call]
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"expected .npy version 1.0 or 2.0, got {version}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # headers that Python 2 wrote are readable
            shape, by_column, dtype = readers[version](file)  # type: ignore[operator]
    except _BROKEN_HEADER as error:
        raise ValueError("its header is damaged") from error
    if dtype.kind not in "iuf":
        raise ValueError(f"expected an array of numbers, got the type {dtype}")
    return shape, by_column, dtype


def _check_size(shape: tuple[int, ...], dtype: np.dtype[Any], available: int) -> None:
    if any(n <= 0 for n in shape):
        raise ValueError(f"expected an array that is not empty, got the shape {shape}")
    needed = math.prod(shape) * dtype.itemsize
    if needed > available:
        raise ValueError(
            f"the header claims the shape {shape} of {dtype} ({needed} bytes), "
            f"the file holds {available}"
        )
