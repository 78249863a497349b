"""Lists of true labels for score files, and the test clips that equal a training clip."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.scores import Scores
from kinegraph.clips.splits import find_leaked, find_splits_of_names, split_by_protocol
from kinegraph.clips.store import ClipStore, is_store
from kinegraph.errors import ProtocolError, ReadError
from kinegraph.inference.score_files import ScoreTable
from kinegraph.readers import guess_reader
from kinegraph.readers.convert import convert
from kinegraph.readers.formats.numpy_file import read_npz, read_npz_names
from kinegraph.readers.formats.raw_file import read_bytes
from kinegraph.readers.ntu.reader import parse_recording_name
from kinegraph.readers.nw_ucla import label_of_name
from kinegraph.readers.row_labels import parse_labels, read_label_file


@dataclass(frozen=True)
class LabelList:
    """The clips of a test split with their labels.

    Attributes:
        source: the origin of the list, for messages.
        labels: N labels, in the order of the split.
        names: N clip names; None if only the order is known.
        leaked: names of the clips that equal a training clip; None if that is not known.
    """

    source: str
    labels: NDArray[np.int64]
    names: tuple[str, ...] | None = None
    leaked: frozenset[str] | None = None

    def match(self, table: ScoreTable) -> Scores:
        """Return the scores of a file with these labels, by name, or by order without names.

        Raises:
            ReadError: the file lacks a clip of the list, or has one that is not in the list.
        """
        if table.names is None or self.names is None:
            if len(table.logits) != len(self.labels):
                raise ReadError(
                    f"{table.path}: it has {len(table.logits)} rows of scores, but {self.source} "
                    f"has {len(self.labels)} clips"
                )
            names = self.names or table.names or tuple(map(str, range(len(self.labels))))
            return Scores(names, self.labels, table.logits)
        labels = dict(zip(self.names, self.labels.tolist(), strict=True))
        scored = set(table.names)
        if unknown := [name for name in table.names if name not in labels]:
            raise ReadError(
                f"{table.path}: {len(unknown)} of its {len(table.names)} clips are not in "
                f"{self.source}, such as {unknown[0]!r}"
            )
        if missing := [name for name in self.names if name not in scored]:
            raise ReadError(
                f"{table.path}: {len(missing)} of the {len(self.names)} clips of {self.source} are "
                f"missing, such as {missing[0]!r}"
            )
        own = np.array([labels[name] for name in table.names], np.int64)
        return Scores(table.names, own, table.logits)


def read_label_list(path: Path, num_rows: int, protocol: str | None = None) -> LabelList:
    """Return the label list in a store, a folder of raw files, or a label file.

    Args:
        path: a store or a folder of raw files, whose test split is the list. Or a file of labels:
            .pkl or .npy as `read_label_file` takes them, .npz with ``y_test`` (CTR-GCN) or
            ``labels``, .txt or .csv with a line ``name label`` or ``label`` for each clip.
        num_rows: N of the scores that the labels are for.
        protocol: of a store or a folder; by default the first one of the data set.

    Raises:
        ReadError: the list cannot be read.
        ProtocolError, StoreError: the clips cannot be split, or not be read.
    """
    if is_store(path):
        return _list_test_clips(ClipStore(path), protocol, str(path))
    if path.is_dir():
        with TemporaryDirectory() as folder:
            store = Path(folder) / "labels.arrow"
            convert(guess_reader(path), path, store)
            return _list_test_clips(ClipStore(store), protocol, str(path))
    if protocol is not None:
        raise ProtocolError(
            f"--protocol splits a store or a folder of raw files; {path} is a list of labels"
        )
    names: Sequence[str] | None = None
    if path.suffix in (".txt", ".csv"):
        labels, names = _read_lines(path, num_rows)
    elif path.suffix == ".npz":
        labels, names = _read_label_arrays(path, num_rows)
    else:
        facts = read_label_file(path, num_rows)
        labels, names = [-1 if x is None else x for x in facts.labels], facts.names
    named = tuple(names) if names else None
    return LabelList(str(path), np.array(labels, np.int64), named, _find_leaked_names(named))


def derive_label_list(table: ScoreTable) -> LabelList:
    """Return the labels that a score file states itself, by its labels or by its clip names.

    Names of NTU RGB+D (S001C001P001R001A001) and of NW-UCLA (a01_s01_e00_v03) state the action.

    Raises:
        ReadError: it states no labels.
    """
    labels = table.labels
    if labels is None and table.names is not None:
        actions = [_find_named_label(name) for name in table.names]
        if None not in actions:
            labels = np.array(actions, np.int64)
    if labels is None:
        raise ReadError(
            f"{table.path}: neither labels nor clip names that state the action: give the labels "
            "of the test split by --labels"
        )
    return LabelList(str(table.path), labels, table.names, _find_leaked_names(table.names))


def _find_named_label(name: str) -> int | None:
    return parse_recording_name(name).get("label", label_of_name(name))


def _find_leaked_names(names: Sequence[str] | None) -> frozenset[str] | None:
    """Return the names of leaked clips, by the published pattern of their data set."""
    splits = find_splits_of_names(names) if names else []
    patterns = [split.leaked for split in splits if split.leaked]
    if not names or not patterns:
        return None
    return frozenset(name for name in names if re.fullmatch(patterns[0], name))


def _list_test_clips(store: ClipStore, protocol: str | None, source: str) -> LabelList:
    known = store.provenance.get("protocols") or []
    if protocol is None and not known:
        raise ProtocolError(f"{source}: its data set has no usual split: give --protocol")
    chosen = protocol or known[0]
    train, test = split_by_protocol(store, chosen)
    if not len(test):
        raise ProtocolError(f"{source}: protocol {chosen!r} has no test clips")
    return LabelList(
        source=f"{source} ({chosen})",
        labels=store.labels[test],
        names=tuple(store.ids[i] for i in test),
        leaked=frozenset(store.ids[i] for i in find_leaked(store, train, test)),
    )


def _read_lines(path: Path, num_rows: int) -> tuple[Sequence[int], Sequence[str]]:
    lines = read_bytes(path).decode("utf-8", errors="replace").splitlines()
    cells = [re.split(r"[\s,]+", line.strip()) for line in lines if line.strip()]
    if not cells or len({len(row) for row in cells}) > 1 or len(cells[0]) > 2:
        raise ReadError(f"{path}: expected lines 'name label', or 'label', all of one form")
    labels = parse_labels(str(path), [row[-1] for row in cells], num_rows)
    return labels, [Path(row[0]).name for row in cells] if len(cells[0]) == 2 else []


def _read_label_arrays(path: Path, num_rows: int) -> tuple[Sequence[int], Sequence[str]]:
    members = read_npz_names(path)
    key = "y_test" if "y_test" in members else "labels"
    labels = parse_labels(f"{path}: {key}", read_npz(path, [key])[key], num_rows)
    return labels, read_npz(path, ["ids"], kinds="U")["ids"].tolist() if "ids" in members else []
