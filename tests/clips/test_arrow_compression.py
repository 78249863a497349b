"""Arrow files that unpack to far more than their size are refused before they are unpacked."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pytest

from kinegraph.clips import arrow_compression
from kinegraph.clips.arrow_compression import check_unpacked_size
from kinegraph.clips.store import ClipStore
from kinegraph.errors import StoreError


def write(compression: str | None, batches: int = 3, column: pa.Array | None = None) -> bytes:
    """Return an Arrow file of batches of zeros."""
    batch = pa.record_batch({"x": pa.array(np.zeros(1000)) if column is None else column})
    file = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_file(file, batch.schema, options=options) as writer:
        for _ in range(batches):
            writer.write_batch(batch, {"key": "value"})
    return file.getvalue()


@pytest.fixture
def small_limit(monkeypatch):
    """Let files unpack to twice their size only; the batches of `write` have 8000 bytes each."""
    monkeypatch.setattr(arrow_compression, "FREE_UNPACKED_BYTES", 0)


@pytest.mark.parametrize("compression", [None, "zstd", "lz4"])
@pytest.mark.parametrize("batches", [0, 1, 3])
def test_files_that_unpack_to_little_pass(batches, compression):
    check_unpacked_size(write(compression, batches))


def test_files_without_compression_have_no_limit(small_limit):
    check_unpacked_size(write(None))


@pytest.mark.parametrize("view", [bytes, memoryview, lambda data: memoryview(pa.py_buffer(data))])
@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_files_that_unpack_to_much_are_refused(compression, view, small_limit):
    with pytest.raises(ValueError, match="compressed batches unpack to 24000 bytes, more than"):
        check_unpacked_size(view(write(compression)))


def test_dictionaries_are_refused():
    column = pa.array(["a", "b", "a"]).dictionary_encode()
    with pytest.raises(ValueError, match="dictionaries"):
        check_unpacked_size(write(None, column=column))


def test_damaged_footers_are_refused_and_nothing_else_is_raised():
    rng = np.random.default_rng(0)
    whole = write(None)
    for _ in range(300):
        data = bytearray(whole)
        for place in rng.integers(len(data) - 400, len(data), 3):
            data[place] = rng.integers(256)
        try:
            check_unpacked_size(bytes(data))
        except ValueError:
            continue
    for length in range(0, 12):
        with pytest.raises(ValueError, match="footer is damaged"):
            check_unpacked_size(whole[:length])


def test_a_store_that_unpacks_to_much_is_refused(tiny_store, tmp_path, monkeypatch):
    with pa.ipc.open_file(str(tiny_store)) as reader:
        schema, table = reader.schema, reader.read_all()
    path = tmp_path / "small.arrow"
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_file(str(path), schema, options=options) as writer:
        writer.write_table(table)
    monkeypatch.setattr(arrow_compression, "FREE_UNPACKED_BYTES", -2 * path.stat().st_size)
    with pytest.raises(StoreError, match=r"small\.arrow is not a clip store.*compressed batches"):
        ClipStore(path)
