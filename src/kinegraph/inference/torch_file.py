"""Files of `torch.save`: tensors and plain containers, read without torch's loader.

Such a file is a pickle whose tensors refer to entries of a ZIP archive or, in the format before
PyTorch 1.6, to bytes behind the pickles. `torch.load` limits neither memory nor nesting: a key of
nested tuples ends its process. Here `PickleMachine` runs the pickle.
"""

from __future__ import annotations

import math
import mmap
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kinegraph.errors import ReadError
from kinegraph.readers.formats.pickle_file import AllowedCalls, MemoryBudget, check_content
from kinegraph.readers.formats.pickle_machine import Charge, PickleMachine, refuse

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_MAX_TORCH_ENTRIES = 100_000
_DTYPES_BY_STORAGE = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_DTYPES_BY_NAME = {str(dtype).partition(".")[2]: dtype for dtype in _DTYPES_BY_STORAGE.values()}
_TORCH_CALLABLES = {
    "torch._utils._rebuild_tensor": "rebuild_tensor",
    "torch._utils._rebuild_tensor_v2": "rebuild_tensor",
    "torch._utils._rebuild_parameter": "rebuild_parameter",
    "torch.nn.parameter.Parameter": "rebuild_parameter",
    "torch.Size": "make_tuple",
    "torch.device": "name_device",
}
ReadStorage = Callable[[str, int], bytes]


def load_torch(path: Path) -> Any:
    """Return the content of a file of `torch.save`; nothing that it names is executed.

    Raises:
        OSError: the file cannot be opened.
        ReadError: it is damaged, would take far more memory than its size, or holds other things
            than tensors, arrays and plain containers.
    """
    charge = MemoryBudget(path.stat().st_size).charge
    try:
        content = _load_zip(path, charge) if zipfile.is_zipfile(path) else _load_old(path, charge)
        check_content(content, charge, (Tensor, torch.dtype))
        return content
    except (ReadError, OSError):
        raise
    except Exception as error:  # damage shows in errors of many kinds
        raise ReadError(f"it is damaged: {type(error).__name__}") from error


def _load_zip(path: Path, charge: Charge) -> Any:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        entries = {member.filename.partition("/")[2]: member for member in members}
        if "constants.pkl" in entries:
            refuse("TorchScript")
        if len(members) > _MAX_TORCH_ENTRIES or any(m.compress_type for m in members):
            refuse("its archive has compressed or too many entries")
        if sum(member.file_size for member in members) > path.stat().st_size:
            refuse("the entries of its archive overlap")
        if "byteorder" in entries and archive.read(entries["byteorder"]) != b"little":
            refuse("its numbers are not little-endian")

        def read(key: str, size: int) -> bytes:
            return archive.read(entries[f"data/{key}"])

        return _run(archive.read(entries["data.pkl"]), 0, charge, read).load()


def _load_old(path: Path, charge: Charge) -> Any:
    """Read the format before PyTorch 1.6: pickles, then the bytes of each storage."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        position = 0
        for number in range(3):  # magic number, version, facts of the machine
            machine = PickleMachine(data, position, AllowedCalls(charge).find, charge)
            if machine.load() != _LEGACY_MAGIC and number == 0:
                refuse("it is not a file of torch.save")
            position = machine.position
        sizes: dict[str, int] = {}

        def note_size(key: str, size: int) -> bytes:
            sizes[key] = size
            return b""

        # the bytes come last, so the pickle is run once to learn their sizes
        survey = _run(data, position, charge, note_size, survey=True)
        survey.load()
        listing = PickleMachine(data, survey.position, AllowedCalls(charge).find, charge)
        keys = listing.load()
        place, places = listing.position, {}
        for key in keys:
            (count,) = struct.unpack_from("<q", data, place)
            places[key] = place + 8
            place += 8 + sizes[key]
            if count < 0 or place > len(data):
                refuse("it ends in the middle of its tensors")

        def read(key: str, size: int) -> bytes:
            return data[places[key] : places[key] + size]

        return _run(data, position, charge, read).load()


def _run(
    data: mmap.mmap | bytes, position: int, charge: Charge, read: ReadStorage, survey: bool = False
) -> PickleMachine:
    calls = _TorchCalls(charge, read, survey)
    return PickleMachine(data, position, calls.find, charge, calls.storage)


class _Storage:
    """The bytes of tensors; without them while sizes are surveyed."""

    def __init__(self, values: Tensor | None) -> None:
        self.values = values


class _TorchCalls(AllowedCalls):
    def __init__(self, charge: Charge, read: ReadStorage, survey: bool) -> None:
        super().__init__(charge)
        self._read, self._survey = read, survey
        self._storages: dict[str, _Storage] = {}

    def find(self, module: str, name: str) -> Any:
        """Return the function or type for a name in a file; ReadError for any other name."""
        if module == "torch" and name in _DTYPES_BY_STORAGE:
            return _DTYPES_BY_STORAGE[name]
        if module == "torch" and name in _DTYPES_BY_NAME:
            return _DTYPES_BY_NAME[name]
        method = _TORCH_CALLABLES.get(f"{module}.{name}")
        return getattr(self, method) if method else super().find(module, name)

    def storage(self, key: Any) -> _Storage:
        """Return the storage for a persistent id."""
        kind, dtype, name, _, count, *view = key
        if kind != "storage" or not isinstance(dtype, torch.dtype) or type(count) is not int:
            refuse("it refers to objects outside of itself")
        if any(part is not None for part in view) or not isinstance(name, str) or count < 0:
            refuse("it has views of storages, which only very old versions wrote")
        if name not in self._storages:
            size = count * dtype.itemsize
            if self._survey:
                self._read(name, size)
                self._storages[name] = _Storage(None)
            else:
                self.charge(size)
                content = bytearray(self._read(name, size))
                if len(content) != size:
                    refuse(f"a tensor needs {size} bytes, has {len(content)}")
                values = (
                    torch.frombuffer(content, dtype=dtype) if size else torch.empty(0, dtype=dtype)
                )
                self._storages[name] = _Storage(values)
        return self._storages[name]

    def rebuild_tensor(
        self, storage: _Storage, offset: int, size: Any, stride: Any, *_: Any
    ) -> Any:
        values = storage.values
        if values is None:
            return None
        if not all(type(n) is int and 0 <= n < 2**40 for n in (offset, *size, *stride)):
            refuse("a tensor has sizes that are not whole numbers")
        if math.prod(size) > values.numel():
            refuse(f"a tensor of shape {tuple(size)} has only {values.numel()} numbers")
        return values.as_strided(tuple(size), tuple(stride), offset)

    def rebuild_parameter(self, data: Any, *_: Any) -> Any:
        """Return the tensor of a parameter."""
        return data

    def name_device(self, *names: Any) -> str:
        """Return the name of a device; tensors are always on the CPU."""
        return str(names[0])
