"""Altered copies whose checksums are made anew: what lies behind a checksum is altered, not it.

A checksum shows damage, not intention. Each function alters a file in place, given a generator and
a function that alters bytes.
"""

from __future__ import annotations

import json
import random
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

Mutate = Callable[[bytes, random.Random], bytes]


def alter_checkpoint(path: Path, draw: random.Random, mutate: Mutate) -> None:
    """Alter the header of a checkpoint, or its tensors: their names, shapes, types and numbers."""
    from safetensors.torch import load, save

    from kinegraph.training.checkpoint import _checksum

    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    content = json.loads(data[8 : 8 + length])["__metadata__"]["kinegraph"]
    tensors = load(data)
    if draw.random() < 0.6:
        content = mutate(content.encode(), draw).decode(errors="replace")
    else:
        _alter_tensor(tensors, draw)
    metadata = {"kinegraph": content, "sha256": _checksum(content, tensors)}
    path.write_bytes(save(tensors, metadata=metadata))


def _alter_tensor(tensors: dict[str, Any], draw: random.Random) -> None:
    import torch

    name = draw.choice(sorted(tensors))
    value = tensors.pop(name)
    kind = draw.randrange(6)
    if kind == 0:
        value = value.reshape(-1)
    elif kind == 1:
        value = value.to(draw.choice([torch.float64, torch.int32, torch.bool, torch.float16]))
    elif kind == 2:
        value = value.clone()
        odd = [torch.nan, torch.inf, 1e38, -1.0] if value.is_floating_point() else [0, 1]
        value.reshape(-1)[:1] = draw.choice(odd)
    elif kind == 3:
        name += draw.choice(["x", "\0", ".weight", "ü" * 300])
    elif kind == 4:
        value = value[None].repeat(2, *[1] * value.ndim)
    if kind != 5:
        tensors[name] = value.contiguous()


def alter_store(path: Path, draw: random.Random, mutate: Mutate) -> None:
    """Alter the header of a store, or the bytes of one column."""
    import pyarrow as pa

    from kinegraph.clips.checksums import BatchChecksums
    from kinegraph.clips.schema import HEADER_KEY

    with pa.OSFile(str(path)) as file:
        reader = pa.ipc.open_file(file)
        schema = reader.schema
        batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
    header = schema.metadata[HEADER_KEY]
    if draw.random() < 0.5:
        header = mutate(header, draw)
    else:
        with suppress(pa.ArrowInvalid):  # what Arrow itself refuses is not altered
            batches[0] = _alter_column(batches[0], draw, mutate)
    schema = schema.with_metadata({HEADER_KEY: header})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        for number, batch in enumerate(batches):
            batch = pa.RecordBatch.from_arrays(batch.columns, schema=schema)
            checksums = BatchChecksums.of(batch, number, number == len(batches) - 1, header)
            writer.write_batch(batch, checksums.to_metadata())


def _alter_column(batch: Any, draw: random.Random, mutate: Mutate) -> Any:
    """Alter one buffer of one column, without a change of its length."""
    import pyarrow as pa

    number = draw.randrange(batch.num_columns)
    column = batch.column(number)
    is_list = pa.types.is_large_list(column.type)
    target = column.values if is_list and draw.random() < 0.7 else column
    buffers = target.buffers()[: 2 if target is column and is_list else None]
    places = [i for i, buffer in enumerate(buffers) if buffer is not None and buffer.size]
    if not places:  # a column of nothing
        return batch
    place = draw.choice(places)
    content = mutate(buffers[place].to_pybytes(), draw)[: buffers[place].size]
    buffers[place] = pa.py_buffer(content.ljust(buffers[place].size, b"\0"))
    if target is not column:
        values = pa.Array.from_buffers(target.type, len(target), buffers)
        altered = pa.Array.from_buffers(
            column.type, len(column), column.buffers()[:2], children=[values]
        )
    else:
        children = [column.values] if is_list else None
        altered = pa.Array.from_buffers(column.type, len(column), buffers, children=children)
    columns = [*batch.columns]
    columns[number] = altered
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def alter_marked(path: Path, draw: random.Random, mutate: Mutate) -> None:
    """Alter an .onnx or .xml file, or the weights beside it, before the checksum at its end."""
    from kinegraph.inference.backends.file_checksum import _HEX_BYTES, _MARKS, append_checksum

    before, after = _MARKS[path.suffix]
    body = path.read_bytes()[: -(len(before) + _HEX_BYTES + len(after))]
    weights = path.with_suffix(".bin")
    if weights.exists() and draw.random() < 0.3:
        weights.write_bytes(mutate(weights.read_bytes(), draw))
    else:
        body = mutate(body, draw)
    path.write_bytes(body)
    append_checksum(path)


def alter_zip(path: Path, draw: random.Random, mutate: Mutate) -> None:
    """Alter one entry of a ZIP file: a .pt2 program, weights of torch, or an .npz file."""
    with zipfile.ZipFile(path) as archive:
        entries = {info.filename: archive.read(info) for info in archive.infolist()}
    # pickles and JSON texts decide what is built; weights are only numbers
    names = sorted(entries, key=lambda name: (not name.endswith((".json", ".pkl")), name))
    name = draw.choice(names if draw.random() < 0.3 else names[: max(1, len(names) // 4)])
    entries[name] = mutate(entries[name], draw)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


#: Kinds of files, and what alters their content behind the checksum.
RENEWED: dict[str, Callable[[Path, random.Random, Mutate], None]] = {
    "checkpoint": alter_checkpoint,
    "store": alter_store,
    "onnx": alter_marked,
    "openvino": alter_marked,
    "pt2": alter_zip,
    "weights": alter_zip,
    "rtmlib": alter_zip,
}


def alter(kind: str, folder: Path, draw: random.Random, mutate: Mutate) -> None:
    """Alter the content of a file of this kind in a folder, and renew its checksums."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".bin")
    RENEWED[kind](draw.choice(files), draw, mutate)
