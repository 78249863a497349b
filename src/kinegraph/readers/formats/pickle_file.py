"""Pickles of arrays, written, and loaded without executing what they name.

Public datasets are shipped as pickles, but a pickle is a program. This loader first checks the
opcodes without running them, then runs them with a few harmless functions only: numpy arrays,
scalars and dtypes are rebuilt here from checked shapes and byte counts, so that numpy's own
unpickling is never used. No other file of the package may open pickles.
"""

from __future__ import annotations

import math
import mmap
import pickle
import pickletools
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, cast

import numpy as np
from numpy.typing import NDArray

from kinegraph.errors import ReadError

MAX_PICKLE_BYTES = 16 * 2**30
"""Maximum size of a pickle; the largest published skeleton pickle is a quarter of it."""
MAX_OPCODES = 32_000_000
"""Maximum number of instructions; it bounds the small objects that a pickle can make."""
MAX_NESTING = 32  # maximum nesting of containers

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
_OUTSIDE_OPCODES = {"PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4"}
_OBJECT_OPCODES = {"INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "NEXT_BUFFER", "READONLY_BUFFER"}
_REFUSED_OPCODES = _OUTSIDE_OPCODES | _OBJECT_OPCODES
_OPCODE_BY_BYTE = {ord(opcode.code): opcode for opcode in pickletools.opcodes}
_ARGUMENT_SIZES = {
    code: opcode.arg.n if opcode.arg else 0 for code, opcode in _OPCODE_BY_BYTE.items()
}
_CHECKED_OPCODES = {
    code: opcode.name
    for code, opcode in _OPCODE_BY_BYTE.items()
    if opcode.name in _REFUSED_OPCODES | {"GLOBAL", "PUT", "BINPUT", "LONG_BINPUT"}
}
_NEWLINE_ARGUMENTS = {ord("c"): 2, ord("i"): 2}
_STOP = ord(".")
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
        ReadError: the file is missing, too large, damaged, or names anything other than numpy
            arrays, numpy scalars and plain containers. Nothing it names has been executed.
    """
    try:
        size = path.stat().st_size
        if not 0 < size <= MAX_PICKLE_BYTES:
            _refuse(f"expected a pickle of 1 to {MAX_PICKLE_BYTES} bytes, got {size}")
        _check_opcodes(path, offset)
        with path.open("rb") as file:
            file.seek(offset)
            calls = _AllowedCalls(budget=4 * size + 2**16)
            content = _Unpickler(file, calls).load()
            return _Resolver(calls.charge).resolve(content)[0]
    except ReadError:
        raise
    # a damaged pickle may raise any exception, MemoryError included
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise ReadError(f"{path}: cannot be read as a pickle of arrays: {reason}") from error


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


def _refuse(reason: str) -> NoReturn:
    raise pickle.UnpicklingError(reason)


def _check_opcodes(path: Path, offset: int) -> None:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        position, count, size = offset, 0, len(data)
        while position < size:
            code = data[position]
            end = _argument_end(data, position + 1, code)
            if end > size:
                break
            if code in _CHECKED_OPCODES:
                _check_opcode(_CHECKED_OPCODES[code], data[position + 1 : end], count)
            if code == _STOP:
                return
            position, count = end, count + 1
            if count > MAX_OPCODES:
                _refuse(f"more than {MAX_OPCODES} instructions")
        _refuse(f"it ends in the middle (at byte {position} of {size})")


def _argument_end(data: mmap.mmap, start: int, code: int) -> int:
    """Return the end of an opcode's argument; past the end of the data if it is cut off."""
    if code not in _ARGUMENT_SIZES:
        _refuse(f"byte {start - 1} is not a pickle instruction")
    size = _ARGUMENT_SIZES[code]
    if size >= 0:
        return start + size
    if size == pickletools.UP_TO_NEWLINE:
        for _ in range(_NEWLINE_ARGUMENTS.get(code, 1)):
            start = data.find(b"\n", start) + 1 or len(data) + 1
        return start
    width = {pickletools.TAKEN_FROM_ARGUMENT1: 1, pickletools.TAKEN_FROM_ARGUMENT8U: 8}.get(size, 4)
    return start + width + int.from_bytes(data[start : start + width], "little")


def _check_opcode(name: str, argument: bytes, count: int) -> None:
    if name in _REFUSED_OPCODES:
        _refuse(f"it uses the instruction {name}, which no pickle of arrays needs")
    if name == "GLOBAL":
        module, attribute = argument.decode("utf-8").split("\n")[:2]
        _method_name(module, attribute)
    # a memo slot far beyond the number of instructions so far only makes the memo table huge
    elif (int(argument) if name == "PUT" else int.from_bytes(argument, "little")) > count:
        _refuse("its memo does not count up")


def _method_name(module: str, attribute: str) -> str:
    known = module.replace("numpy._core.", "numpy.core.").replace("__builtin__", "builtins")
    if (known, attribute) not in _CALLABLES:
        _refuse(
            f"it names {module}.{attribute}; only numpy arrays and plain containers are loaded, "
            "and nothing was executed"
        )
    return _CALLABLES[known, attribute]


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: BinaryIO, calls: _AllowedCalls) -> None:
        super().__init__(file, encoding="latin1")
        self._calls = calls

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(self._calls, _method_name(module, name))
        return method

    def persistent_load(self, pid: Any) -> NoReturn:
        _refuse("it refers to objects outside of itself")


class _AllowedCalls:
    """The functions that a pickle may call; their copies are charged to a budget of bytes."""

    def __init__(self, budget: int) -> None:
        self._budget = budget

    def charge(self, size: int) -> None:
        self._budget -= size
        if self._budget < 0:
            _refuse("it unpacks to far more than the file's size")

    def array_type(self, *arguments: object) -> NoReturn:
        _refuse("it makes arrays of any shape; only arrays with their data are loaded")

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
    ) -> _PendingArray:
        array = _PendingArray(self.charge)
        value = _make_array(raw, _resolve_dtype(dtype), _validate_shape(shape), order == "F")
        array.value = value.transpose(_validate_shape(axes)) if axes is not None else value
        return array

    def encode(self, text: str, encoding: str = "latin1") -> bytes:
        if encoding not in ("latin1", "latin-1"):
            _refuse(f"it encodes text as {encoding!r}; expected latin1")
        self.charge(len(text))
        return text.encode("latin1")

    def make_list(self, items: list[Any] | tuple[Any, ...] = ()) -> list[Any]:
        self.charge(64 * len(items))
        return list(items)

    def make_set(self, items: list[Any] | tuple[Any, ...] = ()) -> set[Any]:
        self.charge(64 * len(items))
        return set(items)

    def make_tuple(self, items: list[Any] | tuple[Any, ...] = ()) -> tuple[Any, ...]:
        self.charge(64 * len(items))
        return tuple(items)

    def make_dict(self, items: list[Any] | tuple[Any, ...] = ()) -> dict[Any, Any]:
        self.charge(64 * len(items))
        return dict(items)

    def empty_bytes(self) -> bytes:
        return b""


class _PendingDType:
    def __init__(self, spec: object) -> None:
        if not isinstance(spec, str) or not _DTYPE_SPEC.fullmatch(spec):
            _refuse(f"it holds arrays of type {spec!r}; expected numbers, texts or objects")
        self._spec = "O" if "O" in spec else spec.lstrip("<>=|")
        self._big = spec[0] == ">"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, order, *structure = state[:5]
        if order not in ("<", ">", "|", "=") or any(part is not None for part in structure):
            _refuse("it holds arrays of structured type; expected numbers, texts or objects")
        self._big = order == ">"

    def resolve(self) -> np.dtype[Any]:
        return np.dtype(self._spec).newbyteorder(">" if self._big else "<")


class _PendingArray:
    """An array under construction: the pickle states shape, type and data after the object."""

    def __init__(self, charge: Callable[[int], None]) -> None:
        self._charge = charge
        self.value: NDArray[Any] | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        *_, shape, dtype, by_column, raw = state
        shape, resolved = _validate_shape(shape), _resolve_dtype(dtype)
        if resolved.kind != "O":
            raw = _to_bytes(raw, self._charge)
            self.value = _make_array(raw, resolved, shape, bool(by_column))
            return
        if not isinstance(raw, list) or len(raw) != math.prod(shape):
            _refuse(f"an object array of shape {shape} does not come with its items")
        self._charge(8 * len(raw))
        items = np.fromiter(raw, object, len(raw))
        self.value = items.reshape(shape, order="F" if by_column else "C")


def _resolve_dtype(dtype: object) -> np.dtype[Any]:
    if not isinstance(dtype, _PendingDType):
        _refuse(f"expected the type of an array, got {type(dtype).__name__}")
    return dtype.resolve()


def _to_bytes(raw: object, charge: Callable[[int], None]) -> bytes | bytearray:
    if isinstance(raw, str):  # the bytes of Python 2
        charge(len(raw))
        return raw.encode("latin1")
    if not isinstance(raw, bytes | bytearray):
        _refuse(f"expected the bytes of an array, got {type(raw).__name__}")
    return raw


def _validate_shape(shape: object) -> tuple[int, ...]:
    if not isinstance(shape, tuple) or not all(isinstance(n, int) and n >= 0 for n in shape):
        _refuse(f"expected the shape of an array, got {shape!r:.80}")
    return shape


def _make_array(
    raw: bytes | bytearray, dtype: np.dtype[Any], shape: tuple[int, ...], by_column: bool
) -> NDArray[Any]:
    expected = math.prod(shape) * dtype.itemsize
    if dtype.kind == "O" or len(raw) != expected:
        _refuse(
            f"an array of shape {shape} and type {dtype} needs {expected} bytes, has {len(raw)}"
        )
    if expected == 0:
        return np.empty(shape, dtype)
    return np.frombuffer(raw, dtype).reshape(shape, order="F" if by_column else "C")


class _Resolver:
    """Replaces arrays under construction by arrays.

    An object that occurs again is charged again, because users of the result copy it again:
    otherwise a small pickle could represent a list of unlimited length.
    """

    def __init__(self, charge: Callable[[int], None]) -> None:
        self._charge = charge
        # by id: the original (so that its id is not used again), the result, its bytes
        self._resolved_objects: dict[int, tuple[Any, Any, int]] = {}

    def resolve(self, value: Any, depth: int = 0) -> tuple[Any, int]:
        """Return the resolved value and the bytes in it."""
        if isinstance(value, _LEAF_TYPES):
            return value, 8
        if depth > MAX_NESTING:
            _refuse(f"its containers are nested deeper than {MAX_NESTING} or contain themselves")
        if id(value) in self._resolved_objects:
            _, result, size = self._resolved_objects[id(value)]
            self._charge(size)
        else:
            result, size = self._resolve_container(value, depth + 1)
            self._resolved_objects[id(value)] = value, result, size
        return result, size

    def _resolve_container(self, value: Any, depth: int) -> tuple[Any, int]:
        if isinstance(value, _PendingArray):
            return self._resolve_array(value, depth)
        if isinstance(value, dict):
            keys, more = self._resolve_items(value.keys(), depth)
            values, size = self._resolve_items(value.values(), depth)
            return dict(zip(keys, values, strict=True)), size + more
        if isinstance(value, list | tuple | set | frozenset):
            items, size = self._resolve_items(value, depth)
            return type(value)(items), size
        _refuse(
            f"it holds a {type(value).__name__}; only numpy arrays and plain containers are loaded"
        )

    def _resolve_items(self, items: Iterable[Any], depth: int) -> tuple[list[Any], int]:
        resolved_items = [self.resolve(item, depth) for item in items]
        return [item for item, _ in resolved_items], sum(size for _, size in resolved_items)

    def _resolve_array(self, pending: _PendingArray, depth: int) -> tuple[NDArray[Any], int]:
        if pending.value is None:
            _refuse("an array comes without its data")
        if pending.value.dtype.kind != "O":
            return pending.value, pending.value.nbytes
        items, size = self._resolve_items(pending.value.flat, depth)
        return np.fromiter(items, object, len(items)).reshape(pending.value.shape), size
