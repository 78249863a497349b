"""Archives of exported programs (.pt2): their texts and tensors, read without unpickling anything.

An archive is a ZIP file of uncompressed entries. Its tensors are raw bytes beside JSON files that
state type and shape. Entries that are pickles, such as the sample inputs, are never opened.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from kinegraph.plain_text import parse_json

MAX_ENTRIES = 20_000
_TENSOR_FOLDERS = {"weights": "weight_", "constants": "tensor_"}
#: Types of tensors by the numbers that stand for them in an archive.
ARCHIVE_DTYPES = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    12: torch.bool,
    13: torch.bfloat16,
}


class Pt2Archive:
    """The entries of a .pt2 file, by their names without the folder around them."""

    def __init__(self, entries: Mapping[str, bytes]) -> None:
        self._entries = entries

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the entries that are texts or tensors.

        Raises:
            OSError, zipfile.BadZipFile: the file cannot be opened as a ZIP file.
            ValueError: an entry is compressed, occurs twice, or overlaps another.
        """
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > MAX_ENTRIES:
                raise ValueError(f"it has {len(members)} entries; the limit is {MAX_ENTRIES}")
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                raise ValueError("it has compressed entries")
            if sum(member.file_size for member in members) > path.stat().st_size:
                raise ValueError("its entries overlap")
            names = [member.filename.partition("/")[2] for member in members]
            if len(set(names)) < len(names):
                raise ValueError("two of its entries have the same name")
            return cls(
                {
                    name: archive.read(member)
                    for name, member in zip(names, members, strict=True)
                    if name.startswith(("data/weights/", "data/constants/", "models/", "extra/"))
                }
            )

    def text(self, name: str) -> str | None:
        """Return an entry as text, None if there is none."""
        content = self._entries.get(name)
        return None if content is None else content.decode()

    def json(self, name: str) -> Any:
        """Return an entry of JSON.

        Raises:
            ValueError: there is no such entry, or it is not JSON.
        """
        content = self._entries.get(name)
        if content is None:
            raise ValueError(f"it lacks the entry {name!r}")
        return parse_json(content)

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights and constants by name; tensors of the same bytes share memory.

        Raises:
            ValueError: a tensor does not fit its bytes, or is stored as a pickle.
        """
        tensors = {}
        for folder, prefix in _TENSOR_FOLDERS.items():
            config = self.json(f"data/{folder}/model_{folder}_config.json")["config"]
            storages: dict[str, bytearray] = {}
            for name, facts in config.items():
                entry = str(facts["path_name"])
                if facts["use_pickle"] is not False or not entry.startswith(prefix):
                    raise ValueError(f"the tensor {name:.80} is stored as a pickled object")
                if entry not in storages:
                    # a copy that may be written to, as torch expects
                    storages[entry] = bytearray(self._entries[f"data/{folder}/{entry}"])
                tensors[str(name)] = _make_tensor(storages[entry], facts["tensor_meta"])
        return tensors


def _make_tensor(storage: bytearray, meta: Mapping[str, Any]) -> Tensor:
    dtype = ARCHIVE_DTYPES[meta["dtype"]]
    sizes, strides = (_parse_sizes(meta[key]) for key in ("sizes", "strides"))
    (offset,) = _parse_sizes([meta["storage_offset"]])
    last = offset + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True))
    needed = (last + 1) * dtype.itemsize if math.prod(sizes) else 0
    # fewer bytes than numbers would let a small file stand for a huge tensor
    if needed > len(storage) or math.prod(sizes) * dtype.itemsize > len(storage):
        raise ValueError(f"a tensor of shape {sizes} needs {needed} bytes, has {len(storage)}")
    if not needed:
        return torch.empty(sizes, dtype=dtype)
    values = torch.frombuffer(storage, dtype=dtype, count=len(storage) // dtype.itemsize)
    return values.as_strided(sizes, strides, offset)


def _parse_sizes(sizes: Any) -> tuple[int, ...]:
    numbers = tuple(size["as_int"] for size in sizes)
    if not all(type(n) is int and 0 <= n < 2**40 for n in numbers):
        raise ValueError("a tensor has sizes that are not whole numbers")
    return numbers
