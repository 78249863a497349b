"""The one place that opens pickles, because data sets of the field ship arrays in them.

A pickle is a program. This loader first walks its opcodes without running any of them, then runs
it with a vocabulary of a few harmless callables: numpy arrays, scalars and dtypes are rebuilt here
from checked shapes and checked byte counts, so that numpy's own unpickling is never reached.
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

MAX_BYTES = 16 * 2**30
"""Largest pickle that is opened; the largest published skeleton pickle is a quarter of it."""
MAX_OPCODES = 32_000_000
"""Most instructions; they bound the small objects that a pickle can make."""
MAX_DEPTH = 32
"""Deepest nesting of containers."""

_CALLABLES = {
    ("numpy", "ndarray"): "array_type",
    ("numpy", "dtype"): "dtype",
    ("numpy.core.multiarray", "_reconstruct"): "reconstruct",
    ("numpy.core.multiarray", "scalar"): "scalar",
    ("numpy.core.numeric", "_frombuffer"): "frombuffer",
    ("_codecs", "encode"): "encode",
    ("builtins", "set"): "make_set",
    ("builtins", "frozenset"): "make_set",
    ("builtins", "bytes"): "no_bytes",
    ("collections", "OrderedDict"): "make_dict",
}
_OUTSIDE_OPCODES = {"PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4"}
_OBJECT_OPCODES = {"INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "NEXT_BUFFER", "READONLY_BUFFER"}
_REFUSED_OPCODES = _OUTSIDE_OPCODES | _OBJECT_OPCODES
_OPCODES = {ord(opcode.code): opcode for opcode in pickletools.opcodes}
_SIZES = {code: opcode.arg.n if opcode.arg else 0 for code, opcode in _OPCODES.items()}
_WATCHED = {
    code: opcode.name
    for code, opcode in _OPCODES.items()
    if opcode.name in _REFUSED_OPCODES | {"GLOBAL", "PUT", "BINPUT", "LONG_BINPUT"}
}
_NEWLINE_ARGUMENTS = {ord("c"): 2, ord("i"): 2}
_STOP = ord(".")
_DTYPE = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248]|[SU]\d{1,6}|O[48]?|\?)")
_LEAVES = (str, bytes, bytearray, int, float, type(None), np.generic)


def load_pickle(path: Path) -> Any:
    """What a pickle of numpy arrays and plain containers holds.

    Arrays may be read-only views of the loaded bytes. Texts of Python 2 pickles are read as
    Latin-1. OrderedDict comes back as dict, frozenset as set.

    Raises:
        ReadError: the file is missing, too large, damaged, or names anything other than numpy
            arrays, numpy scalars and plain containers. Nothing it names has been executed.
    """
    try:
        size = path.stat().st_size
        if not 0 < size <= MAX_BYTES:
            _refuse(f"expected a pickle of 1 to {MAX_BYTES} bytes, got {size}")
        _check_opcodes(path)
        with path.open("rb") as file:
            vocabulary = _Vocabulary(budget=4 * size + 2**16)
            content = _Unpickler(file, vocabulary).load()
            return _Finisher(vocabulary.spend).finish(content)[0]
    except ReadError:
        raise
    # A damaged pickle may raise anything at all, out of memory included.
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise ReadError(f"{path}: cannot be read as a pickle of arrays: {reason}") from error


def _refuse(reason: str) -> NoReturn:
    raise pickle.UnpicklingError(reason)


def _check_opcodes(path: Path) -> None:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        position, count, size = 0, 0, len(data)
        while position < size:
            code = data[position]
            end = _argument_end(data, position + 1, code)
            if end > size:
                break
            if code in _WATCHED:
                _check_opcode(_WATCHED[code], data[position + 1 : end], count)
            if code == _STOP:
                return
            position, count = end, count + 1
            if count > MAX_OPCODES:
                _refuse(f"more than {MAX_OPCODES} instructions")
        _refuse(f"it ends in the middle (at byte {position} of {size})")


def _argument_end(data: mmap.mmap, start: int, code: int) -> int:
    """Where the argument of an opcode ends; past the end of the data if it is cut off."""
    if code not in _SIZES:
        _refuse(f"byte {start - 1} is no pickle instruction")
    size = _SIZES[code]
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
    # A memo slot far beyond the instructions so far would only make the memo table huge.
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
    def __init__(self, file: BinaryIO, vocabulary: _Vocabulary) -> None:
        super().__init__(file, encoding="latin1")
        self._vocabulary = vocabulary

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(self._vocabulary, _method_name(module, name))
        return method

    def persistent_load(self, pid: Any) -> NoReturn:
        _refuse("it refers to objects outside of itself")


class _Vocabulary:
    """What a pickle may call. What the calls copy is counted, as one text can be copied often."""

    def __init__(self, budget: int) -> None:
        self._budget = budget

    def spend(self, size: int) -> None:
        self._budget -= size
        if self._budget < 0:
            _refuse("it unpacks to far more than the file's size")

    def array_type(self, *arguments: object) -> NoReturn:
        _refuse("it makes arrays of any shape; only arrays with their data are loaded")

    def dtype(self, spec: str, align: object = False, copy: object = True) -> _PendingDType:
        return _PendingDType(spec)

    def reconstruct(self, kind: object, shape: object, code: object) -> _PendingArray:
        return _PendingArray(self.spend)

    def scalar(self, dtype: _PendingDType, raw: bytes | str) -> np.generic:
        array = _from_bytes(_raw_bytes(raw, self.spend), _resolved(dtype), (), False)
        return cast(np.generic, array[()])

    def frombuffer(
        self,
        raw: bytes | bytearray,
        dtype: _PendingDType,
        shape: object,
        order: object,
        axes: object = None,
    ) -> _PendingArray:
        array = _PendingArray(self.spend)
        value = _from_bytes(raw, _resolved(dtype), _checked_shape(shape), order == "F")
        array.value = value.transpose(_checked_shape(axes)) if axes is not None else value
        return array

    def encode(self, text: str, encoding: str = "latin1") -> bytes:
        if encoding not in ("latin1", "latin-1"):
            _refuse(f"it encodes text as {encoding!r}; expected latin1")
        self.spend(len(text))
        return text.encode("latin1")

    def make_set(self, items: list[Any] | tuple[Any, ...] = ()) -> set[Any]:
        self.spend(64 * len(items))
        return set(items)

    def make_dict(self, items: list[Any] | tuple[Any, ...] = ()) -> dict[Any, Any]:
        self.spend(64 * len(items))
        return dict(items)

    def no_bytes(self) -> bytes:
        return b""


class _PendingDType:
    def __init__(self, spec: object) -> None:
        if not isinstance(spec, str) or not _DTYPE.fullmatch(spec):
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
    """An array under construction: its shape, type and data arrive after the object itself."""

    def __init__(self, spend: Callable[[int], None]) -> None:
        self._spend = spend
        self.value: NDArray[Any] | None = None
        self.items: list[Any] | None = None
        self.shape: tuple[int, ...] = ()
        self.by_column = False

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        *_, shape, dtype, by_column, raw = state
        self.shape, resolved = _checked_shape(shape), _resolved(dtype)
        self.by_column = bool(by_column)
        if resolved.kind != "O":
            raw = _raw_bytes(raw, self._spend)
            self.value = _from_bytes(raw, resolved, self.shape, self.by_column)
            return
        if not isinstance(raw, list) or len(raw) != math.prod(self.shape):
            _refuse(f"an object array of shape {self.shape} does not come with its items")
        self._spend(8 * len(raw))
        self.items = raw


def _resolved(dtype: object) -> np.dtype[Any]:
    if not isinstance(dtype, _PendingDType):
        _refuse(f"expected the type of an array, got {type(dtype).__name__}")
    return dtype.resolve()


def _raw_bytes(raw: object, spend: Callable[[int], None]) -> bytes | bytearray:
    if isinstance(raw, str):  # how Python 2 wrote bytes
        spend(len(raw))
        return raw.encode("latin1")
    if not isinstance(raw, bytes | bytearray):
        _refuse(f"expected the bytes of an array, got {type(raw).__name__}")
    return raw


def _checked_shape(shape: object) -> tuple[int, ...]:
    if not isinstance(shape, tuple) or not all(isinstance(n, int) and n >= 0 for n in shape):
        _refuse(f"expected the shape of an array, got {shape!r:.80}")
    return shape


def _from_bytes(
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


class _Finisher:
    """Puts arrays in place of those under construction.

    An object that a pickle refers to again costs its size again, since whoever uses the result
    will copy it again: a small pickle could otherwise stand for a list of endless length.
    """

    def __init__(self, spend: Callable[[int], None]) -> None:
        self._spend = spend
        # by id: the original (so that its id is not used again), the result, its bytes
        self._done: dict[int, tuple[Any, Any, int]] = {}

    def finish(self, value: Any, depth: int = 0) -> tuple[Any, int]:
        """The finished value and the bytes in it."""
        if isinstance(value, _LEAVES):
            return value, 8
        if depth > MAX_DEPTH:
            _refuse(f"its containers are nested deeper than {MAX_DEPTH} or contain themselves")
        if id(value) in self._done:
            _, result, size = self._done[id(value)]
            self._spend(size)
        else:
            result, size = self._finish_container(value, depth + 1)
            self._done[id(value)] = value, result, size
        return result, size

    def _finish_container(self, value: Any, depth: int) -> tuple[Any, int]:
        if isinstance(value, _PendingArray):
            return self._finish_array(value, depth)
        if isinstance(value, dict):
            keys, more = self._finish_items(value.keys(), depth)
            values, size = self._finish_items(value.values(), depth)
            return dict(zip(keys, values, strict=True)), size + more
        if isinstance(value, list | tuple | set | frozenset):
            items, size = self._finish_items(value, depth)
            return type(value)(items), size
        _refuse(
            f"it holds a {type(value).__name__}; only numpy arrays and plain containers are loaded"
        )

    def _finish_items(self, items: Iterable[Any], depth: int) -> tuple[list[Any], int]:
        finished = [self.finish(item, depth) for item in items]
        return [item for item, _ in finished], sum(size for _, size in finished)

    def _finish_array(self, pending: _PendingArray, depth: int) -> tuple[NDArray[Any], int]:
        if pending.items is not None:
            items, size = self._finish_items(pending.items, depth)
            flat = np.empty(len(items), dtype=object)
            for index, item in enumerate(items):
                flat[index] = item
            return flat.reshape(pending.shape, order="F" if pending.by_column else "C"), size
        if pending.value is None:
            _refuse("an array comes without its data")
        return pending.value, pending.value.nbytes
