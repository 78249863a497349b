"""Size that compressed batches of an Arrow file unpack to, found before anything is unpacked.

kinegraph writes stores without compression, other tools may compress them, and Arrow unpacks a
batch to whatever size the file states. The facts of a batch are flatbuffers
(https://arrow.apache.org/docs/format/Columnar.html).
"""

from __future__ import annotations

import struct
from typing import Any

FREE_UNPACKED_BYTES, MAX_UNPACKED_RATIO = 1 << 27, 2
_FILE_MAGIC = b"ARROW1"
_BLOCK = struct.Struct("<qi4xq")  # of a footer: offset, bytes of the metadata, bytes of the body
_BUFFER = struct.Struct("<qq")  # of a batch: offset in the body, bytes
_CONTINUATION = b"\xff\xff\xff\xff"
#: Places of fields in the tables of Arrow's schema.
_FOOTER_DICTIONARIES, _FOOTER_BATCHES, _MESSAGE_HEADER = 2, 3, 2
_BATCH_BUFFERS, _BATCH_COMPRESSION = 2, 3


def check_unpacked_size(data: Any) -> None:
    """Check that an Arrow file has no dictionary, and does not unpack to far more than its size.

    Args:
        data: the bytes of the file; few of them are read.

    Raises:
        ValueError: it has or does, or its footer is damaged.
    """
    limit, size = FREE_UNPACKED_BYTES + MAX_UNPACKED_RATIO * len(data), 0
    try:
        (length,) = struct.unpack("<i", data[-len(_FILE_MAGIC) - 4 : -len(_FILE_MAGIC)])
        end = len(data) - len(_FILE_MAGIC) - 4
        footer = _Table.root(bytes(data[max(0, end - length) : end]))
        if footer.structs(_FOOTER_DICTIONARIES, _BLOCK):
            raise ValueError("it has dictionaries, which stores do not have")
        for offset, metadata, _ in footer.structs(_FOOTER_BATCHES, _BLOCK):
            if offset < 0 or metadata < 0:
                raise IndexError
            size += _unpacked_size(data, offset, metadata)
    except (struct.error, IndexError) as error:
        raise ValueError("its footer is damaged") from error
    if size > limit:
        raise ValueError(f"its compressed batches unpack to {size} bytes, more than {limit}")


def _unpacked_size(data: Any, offset: int, metadata: int) -> int:
    """Return the size of a batch if it is compressed, else 0."""
    message = bytes(data[offset : offset + metadata])
    start = 8 if message[:4] == _CONTINUATION else 4
    batch = _Table.root(message[start:]).table(_MESSAGE_HEADER)
    if batch is None or batch.place(_BATCH_COMPRESSION) is None:
        return 0
    size = 0
    for place, length in batch.structs(_BATCH_BUFFERS, _BUFFER):
        begin = offset + metadata + place
        if place < 0 or length < 0:
            raise IndexError
        if length:  # a compressed buffer begins with its size, -1 if it is not compressed
            size += max(length, *struct.unpack("<q", data[begin : begin + 8]))
    return size


class _Table:
    """A table of a flatbuffer.

    Args:
        data: the flatbuffer.
        start: where the table begins.
    """

    def __init__(self, data: bytes, start: int) -> None:
        self._data, self._start = data, start

    @classmethod
    def root(cls, data: bytes) -> _Table:
        """Return the outermost table."""
        return cls(data, struct.unpack_from("<I", data)[0])

    def place(self, field: int) -> int | None:
        """Return where the value of a field is, None if the table does not have it."""
        vtable = self._start - struct.unpack_from("<i", self._data, self._start)[0]
        (size,) = struct.unpack_from("<H", self._data, vtable)
        if 4 + 2 * field >= size:
            return None
        (offset,) = struct.unpack_from("<H", self._data, vtable + 4 + 2 * field)
        return self._start + offset if offset else None

    def table(self, field: int) -> _Table | None:
        """Return the table that a field refers to."""
        place = self.place(field)
        if place is None:
            return None
        return _Table(self._data, place + struct.unpack_from("<I", self._data, place)[0])

    def structs(self, field: int, form: struct.Struct) -> list[tuple[int, ...]]:
        """Return the structures of a vector."""
        place = self.place(field)
        if place is None:
            return []
        start = place + struct.unpack_from("<I", self._data, place)[0]
        (count,) = struct.unpack_from("<I", self._data, start)
        if start + 4 + count * form.size > len(self._data):
            raise IndexError
        return [form.unpack_from(self._data, start + 4 + i * form.size) for i in range(count)]
