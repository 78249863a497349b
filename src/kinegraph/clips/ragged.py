"""Rows of unequal length in an Arrow file: one without a copy, or pieces of many as one array."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.int64]


class Ragged:
    """Rows of unequal length in the chunks of one Arrow column of lists of numbers."""

    def __init__(self, column: Any) -> None:
        self._values = [chunk.values.to_numpy(zero_copy_only=True) for chunk in column.chunks]
        self.dtype = np.dtype(column.type.value_type.to_pandas_dtype())
        offsets = [chunk.offsets.to_numpy(zero_copy_only=True) for chunk in column.chunks]
        self._chunk = np.repeat(np.arange(len(offsets)), [len(o) - 1 for o in offsets])
        self._begin = np.concatenate([o[:-1] for o in offsets])
        self._end = np.concatenate([o[1:] for o in offsets])
        self.absent: NDArray[np.bool_] = column.is_null().to_numpy()
        self.lengths = self._end - self._begin

    def __getitem__(self, i: int) -> NDArray[np.float32]:
        values = self._values[self._chunk[i]][self._begin[i] : self._end[i]]
        values = values.astype(np.float32, copy=False)
        values.flags.writeable = False
        return values

    def pieces(
        self, rows: Places, begins: Places, lengths: Places, length: int
    ) -> NDArray[np.float32]:
        """(rows, length): of each row the values from ``begins`` on, NaN after ``lengths``."""
        pieces = np.empty((len(rows), length), np.float32)
        chunks, begins = self._chunk[rows].tolist(), (self._begin[rows] + begins).tolist()
        for i, (chunk, begin, size) in enumerate(
            zip(chunks, begins, lengths.tolist(), strict=True)
        ):
            pieces[i, :size] = self._values[chunk][begin : begin + size]
            if size < length:
                pieces[i, size:] = np.nan
        return pieces
