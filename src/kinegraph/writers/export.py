"""Conversion of a store to the files of another tool, checked by reading them back."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kinegraph.clips.schema import Indices
from kinegraph.clips.splits import split_by_protocol
from kinegraph.clips.store import ClipStore
from kinegraph.errors import ProtocolError, StoreError, unknown_name
from kinegraph.files import replace_durably
from kinegraph.readers.reader import check_count
from kinegraph.writers.array_format import CONVENTIONS, PARTS, ArrayFormat, WriteJob, WriteProgress

#: Options of every format.
EXPORT_OPTIONS = {
    "prepared": f"the convention of the arrays: {', '.join(CONVENTIONS)} (default: as the store)",
    "frames": "T of arrays, which are padded with zeros (default 300)",
    "persons": "M of arrays; further persons are left out if it is stated (default 2)",
}


@dataclass(frozen=True)
class ExportResult:
    """The result of an export.

    Attributes:
        path: the file or folder.
        counts: the number of clips by protocol and part.
        notes: what was left out or added, one sentence each.
    """

    path: Path
    counts: Mapping[str, Mapping[str, int]]
    notes: Sequence[str]


def export_store(
    array_format: ArrayFormat,
    store_path: str | Path,
    target: str | Path,
    *,
    protocol: str | None = None,
    options: Mapping[str, Any] | None = None,
    progress: WriteProgress = lambda done, total: None,
) -> ExportResult:
    """Write the clips of a store as another tool reads them, then read them back and compare.

    The result appears when it is complete and equal. Memory is bounded, whatever the size of the
    store; only the check of a pickle loads it whole.

    Args:
        array_format: the format.
        store_path: the store.
        target: the file or folder to write; it must not exist.
        protocol: the protocol that splits the clips; None: the protocols of the store's data set.
        options: those of EXPORT_OPTIONS and the format's own.
        progress: called with (clips done, all clips).

    Raises:
        StoreError: the target exists, or the format cannot hold the clips.
        ProtocolError, UnknownNameError: the protocol does not fit the store, or a name is unknown.
        TransformError: a clip cannot be prepared.
    """
    given, known = dict(options or {}), {**EXPORT_OPTIONS, **array_format.options}
    for name in given:
        if name not in known:
            raise unknown_name(f"option of --to {array_format.name}:", name, known)
    store, path = ClipStore(store_path), Path(target)
    _check_target(array_format, path)
    for name, usual in (("frames", 300), ("persons", 2)):
        check_count(name, given.get(name, usual))
    if store.num_channels not in (2, 3):
        raise StoreError(
            f"arrays have C=3 channels (x, y, score or x, y, z), the store has "
            f"{store.num_channels} coordinates per joint"
        )
    splits, notes = _split(store, protocol)
    job = WriteJob(
        store,
        splits,
        prepared=str(given.get("prepared", "")),
        persons=given.get("persons", 2),
        frames=given.get("frames", 300),
        truncate="persons" in given,
        options=given,
    )
    _write_and_check(array_format, job, path, progress)
    if job.with_confidence and not store.has_confidence:
        notes.append("the store has no confidence; the score of a present joint is 1")
    if not job.with_confidence and store.has_confidence:
        notes.append("the confidence was left out: the third channel of 3D arrays is z")
    shown = job.splits if array_format.name == "pyskl" else dict([next(iter(job.splits.items()))])
    counts = {
        name: {part: len(own) for part, own in zip(PARTS, pair, strict=True)}
        for name, pair in shown.items()
    }
    return ExportResult(path, counts, notes)


def _check_target(array_format: ArrayFormat, path: Path) -> None:
    if path.exists():
        raise StoreError(f"{path} exists; choose another name, nothing is overwritten")
    if array_format.suffix and path.suffix != array_format.suffix:
        raise StoreError(
            f"--to {array_format.name}: expected a file name that ends in {array_format.suffix}, "
            f"got {path}"
        )
    if not path.absolute().parent.is_dir():
        raise StoreError(f"the folder {path.parent} does not exist; create it first")


def _split(
    store: ClipStore, protocol: str | None
) -> tuple[dict[str, tuple[Indices, Indices]], list[str]]:
    """Return the labeled clips of each protocol's parts, and what was left out."""
    notes: list[str] = []
    splits: dict[str, tuple[Indices, Indices]] = {}
    if protocol is not None:
        splits[protocol] = split_by_protocol(store, protocol)
    else:
        for name in store.provenance.get("protocols", []):
            try:
                splits[name] = split_by_protocol(store, name)
            except ProtocolError:
                continue  # of another edition of the data set
        if len(splits) > 1:
            splits.pop("holdout", None)
    splits = {name: pair for name, pair in splits.items() if sum(map(len, pair))}
    if not splits:
        if protocol is not None:
            raise ProtocolError(f"protocol {protocol!r} leaves train and test empty")
        splits = {"all": (np.arange(len(store)), np.array([], dtype=np.int64))}
        notes.append("the store states no split: all clips are in train (choose one by --protocol)")
    labeled = {
        name: (pair[0][store.labels[pair[0]] >= 0], pair[1][store.labels[pair[1]] >= 0])
        for name, pair in splits.items()
    }
    used = np.unique(np.concatenate([part for pair in labeled.values() for part in pair]))
    if not len(used):
        raise StoreError(f"{store.path}: no clip of the split has a label, which the format needs")
    if unlabeled := int((store.labels < 0).sum()):
        notes.append(f"{unlabeled} clips without a label were left out")
    if others := len(store) - unlabeled - int((store.labels[used] >= 0).sum()):
        notes.append(f"{others} clips in neither part of the split were left out")
    return labeled, notes


def _write_and_check(
    array_format: ArrayFormat, job: WriteJob, path: Path, progress: WriteProgress
) -> None:
    try:
        with tempfile.TemporaryDirectory(prefix=".", dir=path.absolute().parent) as folder:
            made = Path(folder) / path.name
            array_format.write(job, made, progress)
            if difference := array_format.check(job, made):
                raise StoreError(f"{path}: {difference} does not read back as it was written")
            replace_durably(made, path)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from error
