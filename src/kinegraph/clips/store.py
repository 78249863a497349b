"""The clip store: one memory-mapped Arrow file with its layout, classes and provenance inside.

Persons and frames are stored without padding. The file is an ordinary Arrow IPC file that other
tools can open; layout, classes and provenance are one JSON object in the schema's metadata under
``kinegraph``.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kinegraph.clips.arrow_compression import check_unpacked_size
from kinegraph.clips.checksums import LAZY_COLUMNS, BatchChecksums
from kinegraph.clips.clip import Clip, MetaValue, describe_coordinates
from kinegraph.clips.schema import HEADER_KEY, SCHEMAS, Indices, RaggedColumn, StoreHeader
from kinegraph.errors import (
    LayoutError,
    SpaceError,
    StoreError,
    UnknownNameError,
    did_you_mean,
)
from kinegraph.plain_text import PlainTextError, parse_json

ARROW_MAGIC = b"ARROW1"


class Crops(NamedTuple):
    """Crops of several clips, of equal length, one row for each person.

    Attributes:
        joints: (R, T, V, D) float32; NaN where a joint is absent or the clip has ended.
        rows: (R,) the index of the crop that the person belongs to, ascending.
        persons: (R,) the index of the person in its clip.
    """

    joints: NDArray[np.float32]
    rows: NDArray[np.int64]
    persons: NDArray[np.int64]


class ClipStore(Sequence[Clip]):
    """The clips of one store file, memory-mapped: opening it loads no joints.

    Clips are read-only views into the mapped file; those of a float16 store are copies in
    float32. A store can be pickled: the copy opens the same file again. Facts of the clips are
    compared with their checksums on opening, joints and confidence with the first clip that is
    read of each batch; stores of format 1 have no checksums.

    Args:
        path: a file that `StoreWriter` wrote.

    Attributes:
        layout: the layout of every clip.
        space: what the coordinates of every clip mean, and how they were prepared.
        num_channels: D, the coordinates per joint.
        classes: class names by label, or None if the classes have no names.
        provenance: the reader, options, source and library versions that the store was made with.
        ids, labels, persons, frames: per clip its id, its label (-1: none), M and T.
        rates: frames per second per clip, NaN where unknown.

    Raises:
        StoreError: the file is missing, empty, truncated, damaged or of another kind; also raised
            by what reads joints.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        reader = _open_arrow(self.path)
        header = _read_header(self.path, reader.schema)
        self.layout, self.space, self.num_channels, self.classes, self.provenance, _ = header
        columns, self._unverified = _read_columns(self.path, reader, header)
        self._columns = columns
        self.ids: list[str] = columns.column("id").to_pylist()
        self.labels = _numeric_column(columns, "label", np.int64, -1)
        self.persons = _numeric_column(columns, "persons", np.int64, 0)
        self.frames = _numeric_column(columns, "frames", np.int64, 0)
        self.rates = _numeric_column(columns, "fps", np.float32, np.nan)
        self._joints = RaggedColumn(columns.column("joints"))
        self._confidence = RaggedColumn(columns.column("confidence"))
        _check_shapes(self)

    @property
    def num_classes(self) -> int:
        """The number of class names, else one more than the highest label (0 without labels)."""
        return int(self.labels.max()) + 1 if self.classes is None else len(self.classes)

    @property
    def fps(self) -> float | None:
        """The median frame rate of the clips, None if no clip states one."""
        stated = self.rates[~np.isnan(self.rates)]
        return float(np.median(stated)) if len(stated) else None

    @property
    def dtype(self) -> str:
        """The dtype of joints in the file: a key of `SCHEMAS`."""
        return self._joints.dtype.name

    @cached_property
    def rounding(self) -> float:
        """The largest rounding error of a stored coordinate; 0 for float32."""
        if "rounding" not in self._columns.schema.names:
            return 0.0
        return float(self._columns.column("rounding").to_numpy().max())

    @cached_property
    def digests(self) -> list[str]:
        """The hash of the joints (`Clip.digest`), per clip."""
        return self._columns.column("digest").to_pylist()

    @cached_property
    def sources(self) -> list[str]:
        """The raw file, relative to the source folder, per clip."""
        return self._columns.column("source").to_pylist()

    @cached_property
    def metas(self) -> list[dict[str, MetaValue]]:
        """The meta that protocols use, per clip."""
        try:
            metas = [parse_json(text) for text in self._columns.column("meta").to_pylist()]
        except PlainTextError as error:
            raise StoreError(f"{self.path}: a clip's meta is not JSON ({error})") from error
        if not all(isinstance(meta, dict) for meta in metas):
            raise StoreError(f"{self.path}: expected every clip's meta to be a JSON object")
        return metas

    @property
    def has_confidence(self) -> bool:
        """Whether every clip has a confidence."""
        return not self._confidence.is_null.any()

    def describe(self) -> str:
        """Return one line about the content: layout, coordinates, space, confidence, rate."""
        return describe_coordinates(
            self.layout, self.num_channels, self.space, self.has_confidence, self.fps
        )

    def find(self, name: str) -> int:
        """Return the index of the clip with this id.

        Raises:
            UnknownNameError: no clip has this id.
        """
        if name not in self._index:
            example = f"the store has {len(self)}, e.g. {self.ids[0]!r}"
            hint = did_you_mean(name, self.ids)
            raise UnknownNameError(f"unknown clip {name!r}{hint}; {example}")
        return self._index[name]

    def joints(self, index: int) -> NDArray[np.float32]:
        """Return (M, T, V, D) float32, read-only; NaN where a joint is absent."""
        i = self._position(index)
        self._verify([self._joints.batches[i]])
        shape = self.persons[i], self.frames[i], self.layout.num_joints, self.num_channels
        return self._joints[i].reshape(shape)

    def confidence(self, index: int) -> NDArray[np.float32] | None:
        """Return (M, T, V) float32, read-only, or None if the clip has no confidence."""
        i = self._position(index)
        self._verify([self._joints.batches[i]])
        if self._confidence.is_null[i]:
            return None
        shape = self.persons[i], self.frames[i], self.layout.num_joints
        return self._confidence[i].reshape(shape)

    def read_crops(
        self,
        indices: Sequence[int] | Indices,
        starts: Sequence[int] | Indices,
        frames: int,
        persons: int | None = None,
    ) -> Crops:
        """Copy ``frames`` frames of each of these clips into one array.

        There is a row for each person of a clip. Where a clip ends early, the rest is NaN.

        Args:
            indices: N clips, in any order, with repetitions.
            starts: N first frames.
            frames: T.
            persons: the maximum number of persons per clip; None for all.

        Raises:
            IndexError: an index is out of range.
            StoreError: a start outside of its clip; no frames; no persons.
        """
        clips, starts = np.atleast_1d(np.asarray(indices)), np.atleast_1d(np.asarray(starts))
        self._check_crops(clips, starts, frames, persons)
        self._verify(self._joints.batches[clips])
        counts = self.persons[clips]
        counts = counts if persons is None else np.minimum(counts, persons)
        rows = np.repeat(np.arange(len(clips)), counts)
        person = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        clips, starts = clips[rows], starts[rows]
        per_frame = self.layout.num_joints * self.num_channels
        lengths = np.minimum(frames, self.frames[clips] - starts) * per_frame
        begins = (person * self.frames[clips] + starts) * per_frame
        values = self._joints.gather(clips, begins, lengths, frames * per_frame)
        shape = len(rows), frames, self.layout.num_joints, self.num_channels
        return Crops(values.reshape(shape), rows, person)

    def _check_crops(
        self, clips: NDArray[Any], starts: NDArray[Any], frames: int, persons: int | None
    ) -> None:
        integers = all(np.issubdtype(array.dtype, np.integer) for array in (clips, starts))
        if clips.shape != starts.shape or not integers:
            raise StoreError(
                f"expected as many whole-numbered clips as starts, got {clips.dtype} "
                f"{clips.shape} and {starts.dtype} {starts.shape}"
            )
        if frames < 1 or (persons is not None and persons < 1):
            raise StoreError(
                f"expected crops of 1 or more frames and persons, got {frames} and {persons}"
            )
        for i in clips[(clips < 0) | (clips >= len(self))]:
            raise IndexError(f"{self.path} has {len(self)} clips, there is no clip {i}")
        outside = (starts < 0) | (starts >= self.frames[clips])
        for i, start in zip(clips[outside].tolist(), starts[outside].tolist(), strict=True):
            raise StoreError(
                f"clip {self.ids[i]!r} has {self.frames[i]} frames, no crop can begin at {start}"
            )

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Clip:  # type: ignore[override]  # no slices
        """Return the clip at a position; its arrays are views into the file."""
        i = self._position(index)
        return Clip(
            self.joints(i),
            self.layout,
            self.confidence(i),
            None if self.labels[i] < 0 else int(self.labels[i]),
            self.ids[i],
            None if np.isnan(self.rates[i]) else float(self.rates[i]),
            self.metas[i],
            space=self.space,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return ClipStore, (self.path.absolute(),)

    def __repr__(self) -> str:
        return f"ClipStore({str(self.path)!r}: {len(self)} clips, layout {self.layout.name!r})"

    @cached_property
    def _index(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.ids)}

    def _verify(self, batches: Iterable[int]) -> None:
        """Check the joints and confidence of batches that are read for the first time."""
        if not self._unverified:
            return
        for number in set(batches) & self._unverified.keys():
            batch, checksums = self._unverified[number]
            with _damage(self.path):
                checksums.verify_columns(batch, LAZY_COLUMNS)
            self._unverified.pop(number, None)  # another thread may have been faster

    def _position(self, index: int) -> int:
        i = operator.index(index)
        if not -len(self) <= i < len(self):
            raise IndexError(f"{self.path} has {len(self)} clips, there is no clip {i}")
        return i % len(self)


def is_store(path: Path) -> bool:
    """Return whether a file begins like an Arrow file, as a store does and raw files do not."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(ARROW_MAGIC)) == ARROW_MAGIC


def _open_arrow(path: Path) -> Any:
    if not path.exists():
        raise StoreError(f"there is no clip store {path}; make one with `kinegraph convert`")
    if path.is_dir():
        raise StoreError(f"{path} is a folder; expected a clip store, which is one file")
    try:
        reader = pa.ipc.open_file(file := pa.memory_map(str(path)))
        check_unpacked_size(memoryview(file.read_buffer()))
        return reader
    except (pa.ArrowException, OSError, ValueError) as error:
        raise StoreError(
            f"{path} is not a clip store, or is cut short ({error}); make it again with "
            f"`kinegraph convert`"
        ) from error


def _read_header(path: Path, schema: Any) -> StoreHeader:
    text = (schema.metadata or {}).get(HEADER_KEY)
    if text is None:
        raise StoreError(
            f"{path} is an Arrow file but not a clip store: it has no kinegraph header"
        )
    try:
        return StoreHeader.from_json(text)
    except (ValueError, KeyError, TypeError, RecursionError, LayoutError, SpaceError) as error:
        raise StoreError(
            f"{path}: the store's header is damaged or of another version of kinegraph ({error})"
        ) from error


def _read_columns(
    path: Path, reader: Any, header: StoreHeader
) -> tuple[Any, dict[int, tuple[Any, BatchChecksums]]]:
    """Return the table of all clips, and each batch whose lazy columns are not checked yet."""
    schema = reader.schema.remove_metadata()
    if not any(schema.equals(known) for known in SCHEMAS.values()):
        listed = ", ".join(f"{field.name} ({field.type})" for field in SCHEMAS["float32"])
        raise StoreError(f"{path}: expected the columns {listed}, but it has others")
    with _damage(path):
        count = reader.num_record_batches
        found = [reader.get_batch_with_custom_metadata(i) for i in range(count)]
        table = pa.Table.from_batches([batch for batch, _ in found], reader.schema)
        table.validate(full=True)
        unverified = {}
        if header.format > 1 or any(metadata is not None for _, metadata in found):
            for i, (batch, metadata) in enumerate(found):
                checksums = BatchChecksums.from_metadata(metadata)
                checksums.verify_place(i, i == count - 1, reader.schema.metadata[HEADER_KEY])
                facts = [name for name in schema.names if name not in LAZY_COLUMNS]
                checksums.verify_columns(batch, facts)
                unverified[i] = batch, checksums
    if table.num_rows == 0:
        raise StoreError(f"{path}: the store holds no clip")
    nulls = [f.name for f in schema if not f.nullable and table.column(f.name).null_count]
    if nulls:
        raise StoreError(f"{path}: the store is damaged (empty cells in {', '.join(nulls)})")
    return table, unverified


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Turn errors of the block into one about a damaged store."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        raise StoreError(
            f"{path}: the store is damaged ({error}); make it again with `kinegraph convert`"
        ) from error


def _numeric_column(table: Any, name: str, dtype: Any, absent: float) -> NDArray[Any]:
    column = table.column(name)
    values = column.fill_null(pa.scalar(absent, column.type)).to_numpy().astype(dtype)
    values.flags.writeable = False
    return values


def _check_shapes(store: ClipStore) -> None:
    joints = store.persons * store.frames * store.layout.num_joints
    has_confidence = ~store._confidence.is_null
    fits = (
        (store.persons > 0).all()
        and (store.frames > 0).all()
        and (store.labels >= -1).all()
        and (store.labels < store.num_classes).all()
        and (store._joints.lengths == joints * store.num_channels).all()
        and (store._confidence.lengths == joints)[has_confidence].all()
        and len(set(store.ids)) == len(store)
    )
    if not fits:
        raise StoreError(
            f"{store.path}: the store is damaged (ids repeat, labels are out of range, or joints "
            f"do not fill persons x frames x {store.layout.num_joints} joints x "
            f"{store.num_channels})"
        )
