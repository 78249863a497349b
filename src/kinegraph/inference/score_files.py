"""Score files of other code: CTR-GCN's and PYSKL's pickles, .npz files, and those of kinegraph."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinegraph.errors import ReadError
from kinegraph.readers.formats.numpy_file import open_npy, read_npz, read_npz_names, to_float32
from kinegraph.readers.formats.pickle_file import load_pickle

SCORE_SUFFIXES = (".pkl", ".pickle", ".npz", ".npy")
_LOGIT_KEYS = ("logits", "scores", "score", "pred_score", "cls_score")
_NAME_KEYS = ("ids", "names", "frame_dir", "filename")
_LABEL_KEYS = ("labels", "label", "gt_label")
#: Row numbers in place of names: CTR-GCN names the test clips of NTU RGB+D test_0, test_1, ...
_ROW_NAME = re.compile(r"(?:test_|val_)?(\d+)")
_NAME_SUFFIXES = (".skeleton", ".json")


@dataclass(frozen=True)
class ScoreTable:
    """The content of one score file.

    Attributes:
        path: the file.
        logits: (N, classes) float32.
        names: N clip names; None if the file only has the order of its rows.
        labels: N labels that the file states, None if it states none.
    """

    path: Path
    logits: NDArray[np.float32]
    names: tuple[str, ...] | None = None
    labels: NDArray[np.int64] | None = None


def read_score_file(path: Path) -> ScoreTable:
    """Return the scores in a file, without executing anything that it names.

    A pickle is a dictionary of clip names and rows of scores (CTR-GCN and code derived from it), a
    list of rows, or a list of dictionaries with a row each (PYSKL, MMAction2). A .npz file has the
    scores as ``logits`` or ``scores``, and may have ``ids`` and ``labels``. A .npy file is one
    array (N, classes).

    Raises:
        ReadError: the file is missing, of another form, or its rows differ in length.
    """
    if path.suffix not in SCORE_SUFFIXES:
        expected = ", ".join(SCORE_SUFFIXES)
        raise ReadError(f"{path}: expected a score file ({expected}), got {path.suffix!r}")
    if path.suffix == ".npz":
        return _read_npz_scores(path)
    if path.suffix == ".npy":
        return ScoreTable(path, _stack_rows(path, open_npy(path)))
    content = load_pickle(path)
    if isinstance(content, dict):
        return _read_named_rows(path, content)
    if isinstance(content, list | tuple) and content and isinstance(content[0], dict):
        return _read_results(path, content)
    return ScoreTable(path, _stack_rows(path, content))


def _read_npz_scores(path: Path) -> ScoreTable:
    members = read_npz_names(path)
    logits = read_npz(path, [key for key in _LOGIT_KEYS if key in members] or _LOGIT_KEYS)
    names = next((key for key in _NAME_KEYS if key in members), None)
    labels = next((key for key in _LABEL_KEYS if key in members), None)
    rows = _stack_rows(path, next(iter(logits.values())))
    texts = read_npz(path, [names], kinds="U")[names].tolist() if names else None
    stated = read_npz(path, [labels], kinds="iu")[labels] if labels else None
    for what, values in (("names", texts), ("labels", stated)):
        if values is not None and len(values) != len(rows):
            raise ReadError(f"{path}: it has {len(rows)} rows of scores, but {len(values)} {what}")
    return ScoreTable(
        path, rows, _clean_names(texts), None if stated is None else stated.astype(np.int64)
    )


def _read_named_rows(path: Path, content: Mapping[Any, Any]) -> ScoreTable:
    names = [str(name) for name in content]
    rows = _stack_rows(path, list(content.values()), names)
    numbers = [_ROW_NAME.fullmatch(name) for name in names]
    if not all(numbers):
        return ScoreTable(path, rows, _clean_names(names))
    order = np.array([int(number[1]) for number in numbers if number])
    if sorted(order) != list(range(len(order))):
        raise ReadError(
            f"{path}: expected rows numbered from 0 to {len(order) - 1}, got {names[0]!r} to "
            f"{names[-1]!r}"
        )
    return ScoreTable(path, rows[np.argsort(order)])


def _read_results(path: Path, content: Any) -> ScoreTable:
    first = content[0]
    key = next((key for key in _LOGIT_KEYS if key in first), None)
    if key is None or not all(isinstance(item, dict) and key in item for item in content):
        raise ReadError(
            f"{path}: expected the scores of each clip as one of {', '.join(_LOGIT_KEYS)}, got a "
            f"dictionary of {', '.join(map(str, first))[:200]}"
        )
    rows = _stack_rows(path, [item[key] for item in content])
    names = _collect(content, _NAME_KEYS)
    labels = _collect(content, _LABEL_KEYS)
    try:
        known = None if labels is None else np.array([int(np.squeeze(x)) for x in labels], np.int64)
    except (TypeError, ValueError) as error:
        raise ReadError(f"{path}: expected labels that are whole numbers: {error}") from error
    return ScoreTable(path, rows, _clean_names(names), known)


def _collect(items: Any, keys: tuple[str, ...]) -> list[Any] | None:
    key = next((key for key in keys if all(key in item for item in items)), None)
    return None if key is None else [item[key] for item in items]


def _clean_names(names: list[Any] | None) -> tuple[str, ...] | None:
    """Return names without folders and suffixes of raw files."""
    if names is None:
        return None
    texts = [Path(str(name)).name for name in names]
    for suffix in _NAME_SUFFIXES:
        texts = [text.removesuffix(suffix) for text in texts]
    return tuple(texts)


def _stack_rows(path: Path, rows: Any, names: list[str] | None = None) -> NDArray[np.float32]:
    """Return rows of scores as (N, classes); a row may be (classes,) or (1, classes)."""
    if not isinstance(rows, list | tuple | np.ndarray) or not len(rows):
        raise ReadError(f"{path}: expected rows of scores, got {type(rows).__name__}")
    try:
        vectors = [np.asarray(row, np.float64) for row in rows]
    except (TypeError, ValueError) as error:
        raise ReadError(f"{path}: expected scores that are numbers: {error}") from error
    vectors = [row[0] if row.ndim == 2 and len(row) == 1 else row for row in vectors]
    for number, row in enumerate(vectors):
        where = f"clip {names[number]!r}" if names else f"row {number}"
        if row.ndim != 1 or len(row) < 2:
            raise ReadError(f"{path}: {where}: expected one score a class, got shape {row.shape}")
        if len(row) != len(vectors[0]):
            raise ReadError(
                f"{path}: {where} has scores of {len(row)} classes, the first one of "
                f"{len(vectors[0])}"
            )
    return to_float32(np.stack(vectors))
