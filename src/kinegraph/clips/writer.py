"""Writer of clip stores: the file appears only after all clips are written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from kinegraph.clips.checksums import BatchChecksums
from kinegraph.clips.clip import Clip
from kinegraph.clips.schema import HEADER_KEY, SCHEMAS, StoreHeader, ragged_array
from kinegraph.errors import StoreError, unknown_name
from kinegraph.files import atomic_path, exclusive_lock
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.space import Space

CLIPS_PER_BATCH = 256
MAX_FLOAT16 = float(np.finfo(np.float16).max)
BYTES_PER_BATCH = 64 * 2**20  # bounds the writer's memory whatever the length of the clips


class StoreWriter:
    """A context manager that writes a store; the file appears when the block ends.

    After an error inside the ``with`` block, or without any clip, an older store stays as it was.
    Equal clips in equal order give equal bytes: no time stamp is written. A store has one writer at
    a time: a second one raises an error when its block begins.

    Args:
        path: the store to write; missing parent folders are made.
        layout: the layout of every clip.
        classes: class names by label, or None.
        provenance: plain facts about the origin of the clips; library versions are added.
        dtype: "float32", or "float16" for half the size: clips are read as float32, coordinates and
            confidences rounded to 11 binary digits (one part in 2048).

    Raises:
        UnknownNameError: an unknown dtype.
        StoreError: the file cannot be written.
        LockedError: another process is writing it.
    """

    def __init__(
        self,
        path: str | Path,
        layout: SkeletonLayout,
        classes: Sequence[str] | None = None,
        provenance: Mapping[str, Any] | None = None,
        dtype: str = "float32",
    ) -> None:
        if dtype not in SCHEMAS:
            raise unknown_name("dtype of a store", dtype, SCHEMAS)
        self.path = Path(path)
        self.layout = layout
        self.classes = None if classes is None else tuple(classes)
        versions = {name: metadata.version(name) for name in ("kinegraph", "numpy", "pyarrow")}
        self.provenance = {**versions, **(provenance or {})}
        self.dtype = dtype
        self.rounding = 0.0  # largest rounding error so far, in the unit of the clips
        self._open_file: AbstractContextManager[None] = nullcontext()
        self._file: BinaryIO | None = None
        self._batches = 0
        self._arrow: Any = None
        self._coordinates = 0
        self._space = Space()
        self._ids: set[str] = set()
        self._rows: list[dict[str, Any]] = []
        self._bytes = 0

    def __len__(self) -> int:
        """Return the number of clips written so far."""
        return len(self._ids)

    def __enter__(self) -> StoreWriter:
        if self.path.is_dir():
            raise StoreError(f"{self.path} is a folder; expected the name of a store file to write")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._open_file = self._atomic_file()
            self._open_file.__enter__()
        except OSError as error:
            raise _write_error(self.path, error) from error
        return self

    def write(self, clip: Clip, source: str = "") -> None:
        """Append a clip; ``source`` is the raw file it came from, relative to the source folder.

        Raises:
            StoreError: the id is empty or repeated; another layout, number of coordinates, space or
                label range than the store's; meta that JSON cannot represent; coordinates beyond
                the range of float16. The clip is left out and the writer stays usable.
        """
        meta = self.check(clip)
        # before the clip is added, so that one is left for the last batch
        if len(self._rows) >= CLIPS_PER_BATCH or self._bytes >= BYTES_PER_BATCH:
            self._flush()
        if not self._ids:
            self._coordinates, self._space = clip.num_channels, clip.space
        self._ids.add(clip.id)
        stored, rounding = clip, 0.0
        if self.dtype == "float16":
            stored = clip.map_arrays(lambda array: array.astype(np.float16).astype(np.float32))
            errors = np.abs(stored.joints.astype(np.float64) - clip.joints)  # NaN if absent
            rounding = float(np.fmax.reduce(errors, axis=None, initial=0))
        self.rounding = max(self.rounding, rounding)
        self._rows.append(
            {
                "id": clip.id,
                "label": clip.label,
                "persons": clip.num_persons,
                "frames": clip.num_frames,
                "joints": stored.joints,
                "confidence": stored.confidence,
                "fps": clip.fps,
                "meta": meta,
                "digest": stored.digest,
                "source": source.encode(errors="backslashreplace").decode(),
                "rounding": rounding,
            }
        )
        self._bytes += clip.joints.nbytes

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._open_file.__exit__(kind, error, trace)
        except OSError as failure:
            if error is None:
                raise _write_error(self.path, failure) from failure

    @contextmanager
    def _atomic_file(self) -> Iterator[None]:
        with (
            exclusive_lock(self.path),
            atomic_path(self.path) as partial,
            partial.open("xb") as self._file,
        ):
            yield
            if not self._ids:
                raise StoreError(f"{self.path}: no clip was written, the store is not created")
            self._flush(is_last=True)
            self._arrow.close()

    def check(self, clip: Clip) -> str:
        """Return the clip's meta as JSON; raise the StoreError that `write` would raise, if any."""
        if self._file is None:
            raise StoreError(f"{self.path}: write clips inside `with StoreWriter(...) as store:`")
        _check_id(clip.id)
        if clip.layout != self.layout:
            raise StoreError(
                f"clip {clip.id!r}: expected layout {self.layout.name!r} as in the whole store, "
                f"got {clip.layout.name!r}"
            )
        if self._ids and clip.num_channels != self._coordinates:
            raise StoreError(
                f"clip {clip.id!r}: expected {self._coordinates} coordinates per joint as in the "
                f"clips before it, got {clip.num_channels}"
            )
        if self._ids and clip.space != self._space:
            raise StoreError(
                f"clip {clip.id!r}: its coordinates are {clip.space.describe()}, those of the "
                f"clips before it {self._space.describe()}; a store has one space"
            )
        _check_ranges(clip, self.classes)
        meta = _meta_json(clip)
        if self.dtype == "float16":
            _check_float16(clip)
        # last, so that other mistakes are reported whichever clips came before
        if clip.id in self._ids:
            raise StoreError(
                f"clip {clip.id!r}: this id is already in the store; ids must be unique"
            )
        return meta

    def _flush(self, *, is_last: bool = False) -> None:
        batch = _make_batch(self._rows, self._schema)
        header = self._schema.metadata[HEADER_KEY]
        checksums = BatchChecksums.of(batch, self._batches, is_last, header)
        try:
            if self._arrow is None:
                self._arrow = pa.ipc.new_file(self._file, self._schema)
            self._arrow.write_batch(batch, checksums.to_metadata())
        except OSError as error:
            raise _write_error(self.path, error) from error
        self._rows, self._bytes = [], 0
        self._batches += 1

    @cached_property
    def _schema(self) -> Any:
        header = StoreHeader(
            self.layout, self._space, self._coordinates, self.classes, self.provenance
        )
        return SCHEMAS[self.dtype].with_metadata({HEADER_KEY: header.to_json().encode()})


def _check_float16(clip: Clip) -> None:
    largest = float(np.fmax.reduce(np.abs(clip.joints), axis=None, initial=0))
    if largest > MAX_FLOAT16:
        raise StoreError(
            f"clip {clip.id!r}: a coordinate of {largest:g} exceeds float16, which ends at "
            f"{MAX_FLOAT16:g}; store these clips as float32"
        )


def _check_id(name: str) -> None:
    if not name:
        raise StoreError("a clip without an id cannot be stored: scores are joined by id")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise StoreError(f"clip id {name!r} is not Unicode text; rename its file") from error


def _check_ranges(clip: Clip, classes: tuple[str, ...] | None) -> None:
    highest = len(classes) if classes is not None else 2**31 - 1
    if clip.label is not None and clip.label >= highest:
        raise StoreError(
            f"clip {clip.id!r}: expected a label below {highest}, the number of classes, "
            f"got {clip.label}"
        )
    if clip.num_persons >= 2**15 or clip.num_frames >= 2**31:
        raise StoreError(
            f"clip {clip.id!r}: at most {2**15 - 1} persons and {2**31 - 1} frames can be stored, "
            f"got {clip.num_persons} and {clip.num_frames}"
        )


def _meta_json(clip: Clip) -> str:
    try:
        return json.dumps(dict(clip.meta), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise StoreError(
            f"clip {clip.id!r}: expected meta of texts, finite numbers, booleans or None ({error})"
        ) from error


def _make_batch(rows: Sequence[Mapping[str, Any]], schema: Any) -> Any:
    columns = {name: [row[name] for row in rows] for name in schema.names}
    dtype = schema.field("joints").type.value_type.to_pandas_dtype()
    for name in ("joints", "confidence"):
        columns[name] = ragged_array(columns[name], dtype)
    return pa.record_batch(columns, schema=schema)


def _write_error(path: Path, error: OSError) -> StoreError:
    return StoreError(f"cannot write the store {path}: {error.strerror or error}")
