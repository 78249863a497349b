"""Labels and names of the rows of stacked arrays, from the label files beside them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kinegraph.clips.clip import MetaValue
from kinegraph.errors import ReadError
from kinegraph.readers.class_names import class_names
from kinegraph.readers.formats.numpy_file import open_npy
from kinegraph.readers.formats.pickle_file import load_pickle
from kinegraph.readers.ntu.reader import parse_recording_name

_LABEL_SUFFIXES = (".pkl", ".pickle", ".npy")
_RECORDING_SUFFIXES = (".skeleton", ".json")  # of the raw files that names of rows may end in
_FORMS = (
    "a list of numbers, (names, numbers), or BABEL's (numbers, (sequences, chunks, annotations))"
)


@dataclass(frozen=True)
class RowFacts:
    """The facts of the N rows of an array.

    Attributes:
        labels: a label or None for each row.
        names: a name for each row; empty if the file has none.
        metas: meta of each row, from its name.
        notes: what was not understood, one sentence each.
    """

    labels: Sequence[int | None]
    names: Sequence[str] = ()
    metas: Sequence[Mapping[str, MetaValue]] = field(default_factory=tuple)
    notes: tuple[str, ...] = ()

    @classmethod
    def make(cls, labels: Sequence[int | None], names: Sequence[str] = ()) -> RowFacts:
        """Return the facts of rows, with those in names like S001C003P008R002A058."""
        recordings = [parse_recording_name(name.partition("#")[0]) for name in names]
        actions = [recording.pop("label", None) for recording in recordings]
        if not all(action is not None for action in actions):
            return cls(labels, names, [{} for _ in labels])
        if names and all(label is None for label in labels):
            labels = actions
        metas = recordings or [{} for _ in labels]
        return cls(labels, names, metas)

    def actions(self) -> list[int | None]:
        """Return the action (from 0) that each row's name states, None if it states none."""
        return [parse_recording_name(name.partition("#")[0]).get("label") for name in self.names]


def find_row_facts(path: Path, num_rows: int, labels: str) -> tuple[RowFacts, Path | None]:
    """Return the facts of an array's rows, and the label file that they are from.

    Args:
        path: the array.
        num_rows: N.
        labels: the label file, relative to the array's folder or as it is; "" looks for it.

    Raises:
        ReadError: the label file is missing or not understood.
    """
    found = _resolve(path, labels) if labels else find_row_label_file(path)
    if found is not None:
        return read_label_file(found, num_rows), found
    unused = [file.name for file in _list_label_files(path) if not _is_of_other_array(file, path)]
    note = (
        f"{', '.join(unused[:3])} was not read: its name does not go with {path.name}; give it "
        "after the array, or by --labels"
    )
    return RowFacts((None,) * num_rows, (), ({},) * num_rows, (note,) if unused else ()), None


def name_classes(rows: Iterable[RowFacts]) -> tuple[str, ...] | None:
    """Return the class names of NTU's actions by label, None if the rows are not named so."""
    actions: dict[int, int] = {}
    for facts in rows:
        stated = facts.actions()
        if not stated:
            return None
        for label, action in zip(facts.labels, stated, strict=True):
            if label is None or action is None or actions.setdefault(label, action) != action:
                return None
    sets = map(class_names, ("ntu60", "ntu120"))
    known = next((names for names in sets if actions and max(actions.values()) < len(names)), None)
    if known is None or all(label == action for label, action in actions.items()):
        return known
    named = {label: known[action] for label, action in actions.items()}
    return tuple(named.get(label, f"class {label}") for label in range(max(named) + 1))


def parse_labels(source: str, content: Any, num_rows: int) -> tuple[int, ...]:
    """Return N labels of a list of numbers or of one-hot rows (N, classes).

    Raises:
        ReadError: other values, or another number of them; ``source`` names the file.
    """
    try:
        values = np.asarray(content, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ReadError(f"{source}: expected labels as numbers: {_FORMS} ({error})") from error
    if values.ndim == 2 and values.shape[1] > 1 and _are_one_hot(values):
        values = values.argmax(axis=1).astype(np.float64)
    if values.shape != (num_rows,):
        raise ReadError(f"{source}: expected {num_rows} labels, got the shape {values.shape}")
    wrong = np.flatnonzero(~((values >= 0) & (values == np.floor(values)) & (values < 2**31)))
    if len(wrong):
        raise ReadError(
            f"{source}: label of row {wrong[0]}: expected a whole number of 0 or more, "
            f"got {values[wrong[0]]:g}"
        )
    return tuple(values.astype(int).tolist())


def _are_one_hot(values: Any) -> bool:
    return bool(np.isin(values, (0, 1)).all() and (values.sum(axis=1) == 1).all())


def find_row_label_file(path: Path) -> Path | None:
    """Return the label file of an array by its name.

    It is the one named like the array with ``label`` for ``data``; else the one whose words,
    without ``label``, all occur in the array's name, as train_label_60 in train_ntu_sk_60.

    Raises:
        ReadError: several files fit equally well.
    """
    before_data = re.match(r"(.*?)_?data", path.stem)
    stem = f"{before_data[1]}_label" if before_data else f"{path.stem}_label"
    usual = [path.with_name(stem.lstrip("_") + suffix) for suffix in _LABEL_SUFFIXES]
    if found := next((file for file in usual if file.is_file()), None):
        return found
    fitting = {f: len(_words(f)) for f in _list_label_files(path) if _words(f) <= _words(path)}
    best = [file for file, words in fitting.items() if words == max(fitting.values())]
    if len(best) > 1:
        names = " and ".join(file.name for file in best)
        raise ReadError(f"{path}: {names} could be its labels; name one by --labels")
    return best[0] if best else None


def _list_label_files(path: Path) -> list[Path]:
    found = path.parent.glob("*label*")
    return sorted(f for f in found if f.suffix in _LABEL_SUFFIXES and f != path)


def _words(path: Path) -> set[str]:
    return set(re.findall(r"[a-z]+|\d+", path.stem.lower())) - {"label", "labels"}


def _is_of_other_array(file: Path, path: Path) -> bool:
    """Return whether a label file goes with another array of the folder."""
    others = (other for other in path.parent.glob("*.np[yz]") if other not in (path, file))
    return any(_words(file) <= _words(other) for other in others)


def _resolve(path: Path, labels: str) -> Path:
    beside = path.parent / labels
    return beside if beside.exists() or not Path(labels).exists() else Path(labels)


def read_label_file(path: Path, num_rows: int) -> RowFacts:
    """Return the labels and names in a .pkl, .pickle or .npy label file.

    Raises:
        ReadError: the file has another form, or another number of rows.
    """
    if path.suffix not in _LABEL_SUFFIXES:
        raise ReadError(
            f"{path}: expected a label file {' or '.join(_LABEL_SUFFIXES)}: {_FORMS}; save the "
            "labels by numpy.save"
        )
    content = open_npy(path) if path.suffix == ".npy" else load_pickle(path)
    names: Any = ()
    # a pair of sequences, where two labels are a pair of numbers
    if isinstance(content, list | tuple) and len(content) == 2:
        first, second = content
        if _are_columns(second):  # BABEL
            rows = zip(*second, strict=True)
            names, content = ["_".join(map(str, row)) for row in rows], first
        elif _are_texts(second) and _is_sequence(first):
            names, content = second, first
        elif _is_sequence(first):
            names, content = content
    labels = parse_labels(str(path), content, num_rows)
    return RowFacts.make(labels, _make_unique(path, names, num_rows))


def _is_sequence(value: Any) -> bool:
    return isinstance(value, list | tuple) or np.ndim(value) == 1


def _are_texts(value: Any) -> bool:
    return _is_sequence(value) and len(value) > 0 and all(isinstance(item, str) for item in value)


def _are_columns(value: Any) -> bool:
    """Return whether a value is several columns of equal length, as BABEL's ids of rows are."""
    columns = isinstance(value, list | tuple) and len(value) > 1 and all(map(_is_sequence, value))
    return bool(columns) and len({len(column) for column in value}) == 1


def _make_unique(path: Path, names: Any, num_rows: int) -> tuple[str, ...]:
    """Return the names of the rows as clip ids, numbered if they repeat."""
    texts = [str(name) for name in names]
    for suffix in _RECORDING_SUFFIXES:
        texts = [text.removesuffix(suffix) for text in texts]
    if texts and len(texts) != num_rows:
        raise ReadError(f"{path}: expected {num_rows} names, got {len(texts)}")
    if len(set(texts)) < len(texts):
        texts = [f"{text}#{row}" for row, text in enumerate(texts)]
    return tuple(texts)
