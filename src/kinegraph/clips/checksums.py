"""Checksums of a store: one for each column of a batch, in the metadata of the batch.

They cover all that is read from the file: the header, the order and number of the batches, and
the values of every column. Facts of clips are checked when a store is opened, joints and
confidence when a clip of their batch is read for the first time.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

CHECKSUM_KEY = b"kinegraph.crc32"
#: The columns that are checked when a clip is read; the others are checked on opening.
LAZY_COLUMNS = ("joints", "confidence")


class BatchChecksums(NamedTuple):
    """The place of a batch in its file, and checksums (CRC-32) of what it holds.

    Attributes:
        batch: the number of the batch, from 0.
        is_last: whether no batch follows.
        header: checksum of the text of the store's header.
        columns: checksum of each column by its name.
    """

    batch: int
    is_last: bool
    header: int
    columns: dict[str, int]

    @classmethod
    def of(cls, batch: Any, number: int, is_last: bool, header: bytes) -> BatchChecksums:
        """Return the checksums of an Arrow batch."""
        columns = {name: _column_checksum(batch.column(name)) for name in batch.schema.names}
        return cls(number, is_last, zlib.crc32(header), columns)

    @classmethod
    def from_metadata(cls, metadata: Any) -> BatchChecksums:
        """Return the inverse of `to_metadata`.

        Raises:
            ValueError: the metadata holds anything else, or nothing.
        """
        try:
            return cls(**json.loads(metadata[CHECKSUM_KEY]))
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise ValueError("the checksums of a batch are missing or damaged") from error

    def to_metadata(self) -> dict[bytes, bytes]:
        """Return the custom metadata of the batch in the file."""
        return {CHECKSUM_KEY: json.dumps(self._asdict()).encode()}

    def verify_place(self, number: int, is_last: bool, header: bytes) -> None:
        """Check that this batch belongs at its place, under this header.

        Raises:
            ValueError: a batch is missing or at another place, or the header was altered.
        """
        if (self.batch, self.is_last) != (number, is_last):
            raise ValueError("batches are missing or in another order")
        if self.header != zlib.crc32(header):
            raise ValueError("the header does not match its checksum")

    def verify_columns(self, batch: Any, names: Iterable[str]) -> None:
        """Compare columns of the batch with their checksums.

        Raises:
            ValueError: a column was altered.
        """
        for name in names:
            if self.columns.get(name) != _column_checksum(batch.column(name)):
                raise ValueError(f"the column {name!r} does not match its checksum")


def _column_checksum(column: Any) -> int:
    checksum = zlib.crc32(column.is_valid().to_numpy(zero_copy_only=False))
    for values in _column_parts(column):
        checksum = zlib.crc32(values, checksum)
    return checksum


def _column_parts(column: Any) -> tuple[Any, ...]:
    """Return the arrays of numbers or bytes that make up a column of the store's schema."""
    if pa.types.is_large_list(column.type):
        return column.offsets.to_numpy(), column.values.to_numpy()
    if pa.types.is_string(column.type):
        _, offsets, text = column.buffers()
        ends = np.frombuffer(offsets, np.int32, len(column) + 1)
        return ends, memoryview(text or b"")[: ends[-1]]
    return (column.fill_null(0).to_numpy(),)
