"""Pickles of arrays, written, and loaded without executing what they name.

Public datasets are shipped as pickles, but a pickle is a program. `PickleMachine` runs it with a
few harmless functions only: numpy arrays, scalars and dtypes are rebuilt here from checked shapes
and byte counts, so that neither Python's nor numpy's unpickling is used. No other file of the
package may open pickles.
"""

from __future__ import annotations

import math
import mmap
import pickle
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn, cast

import numpy as np
from numpy.typing import NDArray

from kinegraph.errors import ReadError
from kinegraph.readers.formats.pickle_machine import (
    Charge,
    PickleMachine,
    UnfinishedObject,
    check_key,
    refuse,
)
from kinegraph.readers.formats.raw_file import FREE_BYTES, describe

MAX_PICKLE_BYTES = 16 * 2**30
"""Maximum size of a pickle; the largest published skeleton pickle is a quarter of it."""
MAX_NESTING = 32  # maximum nesting of containers
#: Memory that objects may take for each byte of the file, beside `FREE_BYTES`.
_PICKLE_MEMORY_RATIO = 2.75

_CALLABLES = {
    ("numpy", "ndarray"): "array_type",
    ("numpy", "dtype"): "dtype",
    ("numpy.core.multiarray", "_reconstruct"): "reconstruct",
    ("numpy.core.multiarray", "scalar"): "scalar",
    ("numpy.core.numeric", "_frombuffer"): "frombuffer",
    ("_codecs", "encode"): "encode",
    ("builtins", "list"): "make_list",
    ("builtins", "set"): "make_set",
    ("builtins", "frozenset"): "make_set",
    ("builtins", "tuple"): "make_tuple",
    ("builtins", "bytes"): "empty_bytes",
    ("collections", "OrderedDict"): "make_dict",
}
_MAX_ARRAY_DIMENSIONS = 32
_DTYPE_SPEC = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248]|[SU]\d{1,6}|O[48]?|\?)")
_LEAF_TYPES = (str, bytes, bytearray, int, float, type(None), np.generic)


def load_pickle(path: Path, offset: int = 0) -> Any:
    """Return the content of a pickle of numpy arrays and plain containers.

    Args:
        path: the file.
        offset: the byte at which the pickle begins, such as after the header of a .npy file.

    Arrays may be read-only views of the loaded bytes. Text of Python 2 pickles is read as
    Latin-1. OrderedDict becomes dict, frozenset becomes set.

    Raises:
        ReadError: the file is missing, too large, damaged, would take far more memory than its
            size, or names anything other than numpy arrays, numpy scalars and plain containers.
            Nothing it names has been executed.
    """
    try:
        size = path.stat().st_size
        if not 0 < size <= MAX_PICKLE_BYTES:
            refuse(f"expected a pickle of 1 to {MAX_PICKLE_BYTES} bytes, got {size}")
        charge = MemoryBudget(size).charge
        calls = AllowedCalls(charge)
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            content = PickleMachine(data, offset, calls.find, charge).load()
        check_content(content, charge)
        return content
    # a damaged pickle may raise any exception, MemoryError included
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise ReadError(f"{path}: cannot be read as a pickle of arrays: {reason}") from error


class MemoryBudget:
    """The memory that the objects of a file may take."""

    def __init__(self, file_bytes: int) -> None:
        self._left = FREE_BYTES + _PICKLE_MEMORY_RATIO * file_bytes

    def charge(self, size: int) -> None:
        """Count the memory of an object; ReadError if it is too much."""
        self._left -= size
        if self._left < 0:
            refuse("it unpacks to far more than the file's size")


def dump_pickle(path: Path, content: Any, **lists: Iterable[Any]) -> None:
    """Write plain containers and arrays as a pickle.

    Args:
        path: the file.
        content: what to write; a dictionary if there are ``lists``.
        lists: further keys of the dictionary, whose items are written one after another: they are
            not in memory at the same time.

    Raises:
        OSError: the file cannot be written.
    """
    streamed = {name: _StreamedList(items) for name, items in lists.items()}
    with path.open("wb") as file:
        pickler = pickle.Pickler(file, protocol=4)
        pickler.fast = bool(lists)  # without a memo, which would keep all items
        pickler.dump({**content, **streamed} if lists else content)


class _StreamedList:
    """A list that is pickled item by item."""

    def __init__(self, items: Iterable[Any]) -> None:
        self._items = items

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (), None, iter(self._items)


def _method_name(module: str, attribute: str) -> str:
    known = module.replace("numpy._core.", "numpy.core.").replace("__builtin__", "builtins")
    if (known, attribute) not in _CALLABLES:
        refuse(
            f"it names {module:.80}.{attribute:.80}; only numpy arrays and plain containers are "
            "loaded, and nothing was executed"
        )
    return _CALLABLES[known, attribute]


class AllowedCalls:
    """The functions that a pickle may call; their copies are charged to a budget of bytes."""

    def __init__(self, charge: Charge) -> None:
        self.charge = charge

    def find(self, module: str, name: str) -> Callable[..., Any]:
        """Return the function for a name in a pickle; ReadError for any other name."""
        function: Callable[..., Any] = getattr(self, _method_name(module, name))
        return function

    def array_type(self, *arguments: object) -> NoReturn:
        refuse("it makes arrays of any shape; only arrays with their data are loaded")

    def dtype(self, spec: str, align: object = False, copy: object = True) -> _PendingDType:
        return _PendingDType(spec)

    def reconstruct(self, kind: object, shape: object, code: object) -> _PendingArray:
        return _PendingArray(self.charge)

    def scalar(self, dtype: _PendingDType, raw: bytes | str) -> np.generic:
        array = _make_array(_to_bytes(raw, self.charge), _resolve_dtype(dtype), (), False)
        return cast(np.generic, array[()])

    def frombuffer(
        self,
        raw: bytes | bytearray,
        dtype: _PendingDType,
        shape: object,
        order: object,
        axes: object = None,
    ) -> NDArray[Any]:
        value = _make_array(raw, _resolve_dtype(dtype), _validate_shape(shape), order == "F")
        return value.transpose(_validate_shape(axes)) if axes is not None else value

    def encode(self, text: str, encoding: str = "latin1") -> bytes:
        if encoding not in ("latin1", "latin-1"):
            refuse(f"it encodes text as {describe(encoding)}; expected latin1")
        self.charge(len(text))
        return text.encode("latin1")

    def make_list(self, items: list[Any] | tuple[Any, ...] = ()) -> list[Any]:
        self.charge(9 * len(items))
        return list(items)

    def make_set(self, items: list[Any] | tuple[Any, ...] = ()) -> set[Any]:
        self.charge(110 * len(items))
        return {check_key(item) for item in items}

    def make_tuple(self, items: list[Any] | tuple[Any, ...] = ()) -> tuple[Any, ...]:
        self.charge(9 * len(items))
        return tuple(items)

    def make_dict(self, items: list[Any] | tuple[Any, ...] = ()) -> dict[Any, Any]:
        self.charge(110 * len(items))
        return {check_key(key): value for key, value in items}

    def empty_bytes(self) -> bytes:
        return b""


class _PendingDType(UnfinishedObject):
    def __init__(self, spec: object) -> None:
        super().__init__()
        if not isinstance(spec, str) or not _DTYPE_SPEC.fullmatch(spec):
            refuse(f"it holds arrays of type {describe(spec)}; expected numbers, texts or objects")
        self._spec = "O" if "O" in spec else spec.lstrip("<>=|")
        self._big = spec[0] == ">"

    def finish(self, state: tuple[Any, ...]) -> _PendingDType:
        _, order, *structure = state[:5]
        if order not in ("<", ">", "|", "=") or any(part is not None for part in structure):
            refuse("it holds arrays of structured type; expected numbers, texts or objects")
        self._big = order == ">"
        return self

    def resolve(self) -> np.dtype[Any]:
        return np.dtype(self._spec).newbyteorder(">" if self._big else "<")


class _PendingArray(UnfinishedObject):
    """An array under construction: the pickle states shape, type and data after the object."""

    def __init__(self, charge: Charge) -> None:
        super().__init__()
        self._charge = charge

    def finish(self, state: tuple[Any, ...]) -> NDArray[Any]:
        *_, shape, dtype, by_column, raw = state
        shape, resolved = _validate_shape(shape), _resolve_dtype(dtype)
        if resolved.kind != "O":
            return _make_array(_to_bytes(raw, self._charge), resolved, shape, bool(by_column))
        if not isinstance(raw, list) or len(raw) != math.prod(shape):
            refuse(f"an object array of shape {shape} does not come with its items")
        self._charge(8 * len(raw))
        items = np.fromiter(raw, object, len(raw))
        return items.reshape(shape, order="F" if by_column else "C")


def _resolve_dtype(dtype: object) -> np.dtype[Any]:
    if not isinstance(dtype, _PendingDType):
        refuse(f"expected the type of an array, got {type(dtype).__name__}")
    return dtype.resolve()


def _to_bytes(raw: object, charge: Callable[[int], None]) -> bytes | bytearray:
    if isinstance(raw, str):  # the bytes of Python 2
        charge(len(raw))
        return raw.encode("latin1")
    if not isinstance(raw, bytes | bytearray):
        refuse(f"expected the bytes of an array, got {type(raw).__name__}")
    return raw


def _validate_shape(shape: object) -> tuple[int, ...]:
    if (
        not isinstance(shape, tuple)
        or len(shape) > _MAX_ARRAY_DIMENSIONS
        or not all(type(n) is int and 0 <= n < 2**63 for n in shape)
    ):
        refuse(f"expected the shape of an array, got {describe(shape)}")
    return shape


def _make_array(
    raw: bytes | bytearray, dtype: np.dtype[Any], shape: tuple[int, ...], by_column: bool
) -> NDArray[Any]:
    expected = math.prod(shape) * dtype.itemsize
    if not isinstance(raw, bytes | bytearray):
        refuse(f"expected the bytes of an array, got {type(raw).__name__}")
    if dtype.kind == "O" or len(raw) != expected:
        refuse(f"an array of shape {shape} and type {dtype} needs {expected} bytes, has {len(raw)}")
    if expected == 0:
        return np.empty(shape, dtype)
    return np.frombuffer(raw, dtype).reshape(shape, order="F" if by_column else "C")


def check_content(content: Any, charge: Charge, leaves: tuple[type, ...] = ()) -> None:
    """Check the types and the nesting of a loaded object.

    An object that occurs again is charged again, because users of the result copy it again:
    otherwise a small pickle could represent a list of unlimited length.

    Args:
        content: the object.
        charge: counts bytes.
        leaves: further types that are allowed.

    Raises:
        ReadError: another type, a container within itself, or containers nested too deeply.
    """
    _ContentCheck(charge, (*_LEAF_TYPES, *leaves)).measure(content, 0)


_UNDER_WAY = -1  # in place of the size of a container that is being measured


class _ContentCheck:
    def __init__(self, charge: Charge, leaves: tuple[type, ...]) -> None:
        self._charge, self._leaves = charge, leaves
        self._sizes: dict[int, int] = {}  # by id, of containers that were measured

    def measure(self, value: Any, depth: int) -> int:
        """Return the bytes in a value."""
        if isinstance(value, self._leaves):
            return 8
        if depth > MAX_NESTING:
            refuse(f"its containers are nested deeper than {MAX_NESTING}")
        known = self._sizes.get(id(value))
        if known == _UNDER_WAY:
            refuse("one of its containers contains itself")
        if known is not None:
            self._charge(known)
            return known
        self._charge(100)
        self._sizes[id(value)] = _UNDER_WAY
        size = self._measure_container(value, depth + 1)
        self._sizes[id(value)] = size
        return size

    def _measure_container(self, value: Any, depth: int) -> int:
        if isinstance(value, np.ndarray):
            if value.dtype.kind != "O":
                return value.nbytes
            return sum(self.measure(item, depth) for item in value.flat)
        if isinstance(value, _PendingArray):
            refuse("an array comes without its data")
        if isinstance(value, dict):
            return sum(8 + self.measure(item, depth) for item in value.values())
        if isinstance(value, list | tuple | set):
            return sum(self.measure(item, depth) for item in value)
        raise ReadError(
            f"it holds a {type(value).__name__}; only numpy arrays and plain containers are loaded"
        )
