"""Arrays of numbers in .npy and .npz files, with headers checked against the bytes."""

from __future__ import annotations

import io
import math
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from kinegraph.errors import ReadError
from kinegraph.readers.formats.pickle_file import load_pickle
from kinegraph.readers.formats.raw_file import (
    MAX_UNPACKED_BYTES,
    open_regular,
    require_regular,
    unpack_limit,
)

#: Maximum size of an array that is unpacked row by row, its ratio to the packed size, and the
#: maximum size of one row.
MAX_ROWS_BYTES, MAX_ROWS_RATIO, MAX_ROW_BYTES = 2**38, 1000, 2**26

MAX_ARRAYS = 10_000  # of a .npz file

_FILE_ERRORS = (OSError, ValueError, EOFError, RuntimeError, NotImplementedError, SyntaxError)
_HEADER_ERRORS = (*_FILE_ERRORS, TypeError, MemoryError, tokenize.TokenError)
_ZIP_ERRORS = (*_FILE_ERRORS, zipfile.BadZipFile, zlib.error)


def open_npy(path: Path) -> NDArray[Any]:
    """Return the array of a .npy file, memory-mapped and read-only.

    Raises:
        ReadError: the file is missing, not a .npy file, shorter than its header states, empty, or
            its values are not real numbers.
    """
    try:
        with open_regular(path) as file:
            shape, by_column, dtype = _read_npy_header(file)
            offset = file.tell()
        _check_size(shape, dtype, path.stat().st_size - offset)
        order: Any = "F" if by_column else "C"
        return np.memmap(path, dtype, "r", offset, shape, order)
    except _FILE_ERRORS as error:
        raise ReadError(f"{path}: cannot be read as a .npy array: {error}") from error


def read_npy_object(path: Path) -> Any:
    """Return the object in a .npy file of one object, such as a dictionary of arrays.

    Raises:
        ReadError: the file is missing, not of this kind, or its pickle is refused; see
            `load_pickle`.
    """
    try:
        with open_regular(path) as file:
            shape, _, _ = _read_npy_header(file, "O")
            offset = file.tell()
    except _FILE_ERRORS as error:
        raise ReadError(f"{path}: cannot be read as a .npy file of an object: {error}") from error
    if shape != ():
        raise ReadError(f"{path}: expected one object, got an array of objects of shape {shape}")
    content = load_pickle(path, offset)
    return content.item() if isinstance(content, np.ndarray) and content.shape == () else content


def read_npy_shape(path: Path) -> tuple[int, ...] | None:
    """Return the shape in the header of a .npy file; None if it cannot be read as numbers."""
    if path.suffix.lower() != ".npy" or not path.is_file():
        return None
    try:
        return open_npy(path).shape
    except ReadError:
        return None


def read_npz(
    file: Path | BinaryIO,
    names: Collection[str],
    source: str = "",
    max_bytes: int = MAX_UNPACKED_BYTES,
    kinds: str = "iuf",
) -> dict[str, NDArray[Any]]:
    """Return the arrays of a .npz file that are among ``names``; others are not unpacked.

    Args:
        file: the file, or its path.
        names: the arrays to return.
        source: the file's name in messages; by default its path.
        max_bytes: maximum size that one array is unpacked to.
        kinds: the kinds of dtype that are accepted, numpy's letters; "U" is text.

    Raises:
        ReadError: the file is missing, not a .npz file, has none of the arrays, would unpack to
            more than `unpack_limit` allows, or its values are not real numbers.
    """
    source = source or str(file)
    try:
        size = file.stat().st_size if isinstance(file, Path) else file.seek(0, io.SEEK_END)
        with _open_zip(file) as archive:
            members = {m.filename.removesuffix(".npy"): m for m in archive.infolist()}
            wanted = {name: members[name] for name in names if name in members}
            if not wanted:
                found = ", ".join(sorted(members)[:10]) or "nothing"
                raise ReadError(f"{source}: expected an array named {names!r}, found {found}")
            limit, arrays = unpack_limit(size, max_bytes), {}
            for name, member in wanted.items():
                arrays[name] = _read_member(archive, member, limit, kinds)
                limit -= member.file_size
            return arrays
    except _ZIP_ERRORS as error:
        raise ReadError(f"{source}: cannot be read as .npz arrays: {error}") from error


def list_npz(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each array of a .npz file by name, without unpacking them.

    Raises:
        ReadError: the file is missing or not a .npz file, or an array is not of real numbers.
    """
    shapes = {}
    try:
        with _open_zip(path) as archive:
            for member in archive.infolist():
                with archive.open(member) as file:
                    shape, _, _ = _read_npy_header(cast(BinaryIO, file))
                shapes[member.filename.removesuffix(".npy")] = shape
    except _ZIP_ERRORS as error:
        raise ReadError(f"{path}: cannot be read as .npz arrays: {error}") from error
    return shapes


def iterate_npz_rows(path: Path, name: str) -> Iterator[NDArray[Any]]:
    """Yield the rows (the first axis) of an array of a .npz file, unpacking one at a time.

    Raises:
        ReadError: the file cannot be read, its array would unpack to far more than its size, ends
            early, or is stored by columns.
    """
    try:
        with _open_zip(path) as archive:
            member = archive.getinfo(name + ".npy")
            limit = min(MAX_ROWS_BYTES, MAX_ROW_BYTES + MAX_ROWS_RATIO * member.compress_size)
            if member.file_size > limit:
                raise ValueError(f"{name} would unpack to {member.file_size}; the limit is {limit}")
            with archive.open(member) as file:
                shape, by_column, dtype = _read_npy_header(cast(BinaryIO, file))
                if by_column and len(shape) > 1:
                    raise ValueError(f"{name} is stored by columns; save it in C order")
                size = math.prod(shape[1:]) * dtype.itemsize
                if size > MAX_ROW_BYTES:
                    raise ValueError(f"a row of {name} has {size} bytes; limit: {MAX_ROW_BYTES}")
                for _ in range(shape[0]):
                    row = file.read(size)
                    if len(row) < size:
                        raise ValueError(f"{name} ends before its last row")
                    yield np.frombuffer(row, dtype).reshape(shape[1:])
    except (KeyError, *_ZIP_ERRORS) as error:
        raise ReadError(f"{path}: cannot be read as .npz arrays: {error}") from error


def read_npz_names(path: Path) -> list[str]:
    """Return the names of the arrays in a .npz file; none if it cannot be read."""
    try:
        with _open_zip(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except _ZIP_ERRORS:
        return []


def is_damaged_npz(path: Path) -> bool:
    """Return whether a file is named .npz but cannot be opened as one."""
    return path.suffix.lower() == ".npz" and not read_npz_names(path)


def to_float32(array: NDArray[Any]) -> NDArray[np.float32]:
    """Return a float32 copy; numbers out of range become infinite, which a Clip rejects."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.array(array, dtype=np.float32)


def _open_zip(file: Path | BinaryIO) -> zipfile.ZipFile:
    """Open a .npz file, unless it is a pipe or a device."""
    if isinstance(file, Path):
        require_regular(file)
    archive = zipfile.ZipFile(file)
    if (count := len(archive.infolist())) > MAX_ARRAYS:
        archive.close()
        raise ValueError(f"expected at most {MAX_ARRAYS} arrays, got {count}")
    return archive


def _read_member(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, limit: int, kinds: str
) -> NDArray[Any]:
    if member.file_size > limit:
        raise ValueError(
            f"{member.filename} would unpack from {member.compress_size} bytes to "
            f"{member.file_size}; the limit is {limit}"
        )
    with archive.open(member) as packed:
        file = io.BytesIO(packed.read(limit + 1))
    shape, by_column, dtype = _read_npy_header(file, kinds)
    _check_size(shape, dtype, len(file.getbuffer()) - file.tell())
    values = np.frombuffer(file.getbuffer(), dtype, math.prod(shape), file.tell())
    return values.reshape(shape, order="F" if by_column else "C")


def _read_npy_header(
    file: BinaryIO, kinds: str = "iuf"
) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
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
    except _HEADER_ERRORS as error:
        raise ValueError("its header is damaged") from error
    if not all(type(n) is int for n in shape):
        raise ValueError(f"expected a shape of whole numbers, got {shape}")
    if dtype.kind == "O" != kinds:
        raise ValueError(
            "expected an array of numbers, got Python objects, usually frames of different sizes: "
            "save one array of numbers, with NaN where a joint or a person is absent"
        )
    if dtype.kind not in kinds:
        wanted = "a pickled object" if kinds == "O" else "an array of numbers"
        raise ValueError(f"expected {wanted}, got the type {dtype}")
    return shape, by_column, dtype


def _check_size(shape: tuple[int, ...], dtype: np.dtype[Any], available: int) -> None:
    if any(n <= 0 for n in shape):
        raise ValueError(f"expected an array that is not empty, got shape {shape}")
    needed = math.prod(shape) * dtype.itemsize
    if needed > available:
        raise ValueError(
            f"the header claims the shape {shape} of {dtype} ({needed} bytes), "
            f"the file holds {available}"
        )
