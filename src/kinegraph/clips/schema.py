"""The format of a store file: its Arrow columns, and the JSON header in the schema's metadata."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kinegraph.plain_text import parse_json
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.space import Space

STORE_FORMAT = 2
#: Formats that can be read. 1 has the same columns, and no checksums.
READABLE_FORMATS = (1, 2)
HEADER_KEY = b"kinegraph"
Indices = NDArray[np.int64]


def _schema(number: Any, *more: Any) -> Any:
    fields = [
        pa.field("id", pa.utf8(), nullable=False),
        pa.field("label", pa.int32()),
        pa.field("persons", pa.int16(), nullable=False),
        pa.field("frames", pa.int32(), nullable=False),
        pa.field("joints", pa.large_list(number), nullable=False),
        pa.field("confidence", pa.large_list(number)),
        pa.field("fps", pa.float32()),
        pa.field("meta", pa.utf8(), nullable=False),
        pa.field("digest", pa.utf8(), nullable=False),
        pa.field("source", pa.utf8(), nullable=False),
    ]
    return pa.schema([*fields, *more])


#: The columns by the dtype of joints and confidence. ``rounding`` is the largest rounding error of
#: a coordinate of the clip, in the unit of the clip.
SCHEMAS: dict[str, Any] = {
    "float32": _schema(pa.float32()),
    "float16": _schema(pa.float16(), pa.field("rounding", pa.float32(), nullable=False)),
}


class StoreHeader(NamedTuple):
    """The facts that hold for all clips of a store."""

    layout: SkeletonLayout
    space: Space
    coordinates: int
    classes: tuple[str, ...] | None
    provenance: dict[str, Any]
    format: int = STORE_FORMAT

    def to_json(self) -> str:
        """Return the header as text with sorted keys, so that equal headers give equal bytes."""
        data = {
            "format": self.format,
            "layout": self.layout.to_dict(),
            "space": self.space.to_dict(),
            "coordinates": self.coordinates,
            "classes": None if self.classes is None else list(self.classes),
            "provenance": self.provenance,
        }
        return json.dumps(data, sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> StoreHeader:
        """Return the header of this text; the inverse of `to_json`.

        Raises:
            ValueError, KeyError, TypeError, LayoutError, SpaceError: it is not a header of
                `READABLE_FORMATS`.
        """
        data = parse_json(text)
        format = data.get("format") if isinstance(data, dict) else data
        if type(format) is not int or format not in READABLE_FORMATS:
            expected = " or ".join(map(str, READABLE_FORMATS))
            raise ValueError(f"expected format {expected}, got {format!r}")
        coordinates, classes = data["coordinates"], data["classes"]
        if not isinstance(coordinates, int) or coordinates < 1:
            raise ValueError(f"expected 1 or more coordinates, got {coordinates!r}")
        if classes is not None:
            if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
                raise ValueError(f"expected classes to be a list of names, got {classes!r}")
            classes = tuple(classes)
        layout = SkeletonLayout.from_dict(data["layout"])
        stated = data.get("space")  # a store that another tool wrote may not state it
        space = Space.from_dict(stated) if stated else layout.default_space(coordinates)
        return cls(layout, space, coordinates, classes, dict(data["provenance"]), format)


class RaggedColumn:
    """An Arrow column of lists of numbers: rows of unequal length, read without copying."""

    def __init__(self, column: Any) -> None:
        self._values = [chunk.values.to_numpy(zero_copy_only=True) for chunk in column.chunks]
        self.dtype = np.dtype(column.type.value_type.to_pandas_dtype())
        offsets = [chunk.offsets.to_numpy(zero_copy_only=True) for chunk in column.chunks]
        #: (N,) the number of the batch that holds each row.
        self.batches = np.repeat(np.arange(len(offsets)), [len(o) - 1 for o in offsets])
        self._begin = np.concatenate([o[:-1] for o in offsets])
        self._end = np.concatenate([o[1:] for o in offsets])
        self.is_null: NDArray[np.bool_] = column.is_null().to_numpy()
        self.lengths = self._end - self._begin

    def __getitem__(self, i: int) -> NDArray[np.float32]:
        values = self._values[self.batches[i]][self._begin[i] : self._end[i]]
        values = values.astype(np.float32, copy=False)
        values.flags.writeable = False
        return values

    def gather(
        self, rows: Indices, begins: Indices, lengths: Indices, length: int
    ) -> NDArray[np.float32]:
        """Return (rows, length): each row's values from ``begins`` on, NaN after ``lengths``."""
        gathered = np.empty((len(rows), length), np.float32)
        batches, begins = self.batches[rows].tolist(), (self._begin[rows] + begins).tolist()
        for i, (batch, begin, size) in enumerate(
            zip(batches, begins, lengths.tolist(), strict=True)
        ):
            gathered[i, :size] = self._values[batch][begin : begin + size]
            if size < length:
                gathered[i, size:] = np.nan
        return gathered


def ragged_array(arrays: list[NDArray[np.float32] | None], dtype: Any) -> Any:
    """Return an Arrow array of lists with the values of these arrays; None becomes null."""
    present = [array.ravel() for array in arrays if array is not None]
    values = np.concatenate(present, dtype=dtype) if present else np.zeros(0, dtype)
    sizes = [0 if array is None else array.size for array in arrays]
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    null = np.array([array is None for array in arrays])
    mask = pa.array(null) if null.any() else None
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values), mask=mask)
