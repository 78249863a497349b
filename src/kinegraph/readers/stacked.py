"""Readers of stacked arrays (N, C, T, V, M) with label files: ST-GCN, 2s-AGCN, AS-GCN and FSD-10.

Such arrays are padded with zeros: absent persons, trailing frames and untracked joints are zero.
The padding is removed, and untracked joints become NaN.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip, MetaValue
from kinegraph.errors import ClipError, ReadError
from kinegraph.readers.formats.numpy_file import open_npy, read_npy_shape, to_float32
from kinegraph.readers.formats.pickle_file import load_pickle
from kinegraph.readers.reader import Reader, ReadPlan, ReadResults, ReadTask, guess_layout
from kinegraph.readers.space_options import SPACE_OPTIONS, SpaceOptions
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import get_layout
from kinegraph.skeleton.space import PREPARATIONS, Space

_FSD_LAYOUT = "body25"
_STACKED_LAYOUTS = {25: "ntu25", 18: "openpose18", 20: "kinect20", 17: "coco17"}
"""The default layout of a stacked array of V joints."""
_LABELS_HELP = "the label file, relative to the array's folder"

_TASK_BYTES = 2**26
NUM_SAMPLED_ROWS = 8  # rows from which the space of all is guessed
_DERIVED_STREAMS = ("bone", "motion")
_SPLIT_BY_NAME = {"train": "train", "val": "test", "test": "test"}

Shape = tuple[int, ...]
RowLabels = tuple[Sequence[int | None], Sequence[str]]  # names are empty if the file has none


def _scan(
    source: Path,
    layout: str | SkeletonLayout = "",
    labels: str = "",
    confidence: bool = False,
    **stated: str,
) -> ReadPlan:
    """Scan a folder of arrays, or one array; (C, T, V, M) is a single clip.

    The label file is a .npy of N numbers, or a .pkl of (names, numbers) or numbers; by default
    ``train_label.pkl`` or ``.npy`` beside ``train_data*.npy``, else ``NAME_label.pkl`` or ``.npy``
    beside ``NAME.npy``.
    """
    files, refused = _find_arrays(source, _is_stacked)
    num_joints = open_npy(files[0]).shape[-2]
    chosen = get_layout(layout or guess_layout(num_joints, _STACKED_LAYOUTS, files[0]))
    space = _guess_space_of_rows(files[0], chosen, confidence, stated)
    tasks = _make_row_tasks(files, chosen, labels, confidence, space)
    return ReadPlan(tasks, chosen, refused=refused)


def _guess_space_of_rows(
    path: Path, layout: SkeletonLayout, confidence: bool, stated: Mapping[str, str]
) -> Space:
    """Return the space that is stated, or guessed from the first rows."""
    shape = _check_shape(path, layout)
    points = to_float32(open_npy(path).reshape(shape)[:NUM_SAMPLED_ROWS])
    points = points.transpose(0, 4, 2, 3, 1)  # (N, M, T, V, C)
    joints = points[..., :-1] if confidence else points
    absent = (joints == 0).all(axis=-1, keepdims=True)
    return SpaceOptions(**stated).resolve(np.where(absent, np.float32(np.nan), joints), layout)


def _find_arrays(
    source: Path, fits: Callable[[Shape], bool]
) -> tuple[list[Path], tuple[tuple[Path, str], ...]]:
    """Return the arrays with a fitting shape, and the refused ones: damaged or derived streams.

    Raises:
        ReadError: no array fits.
    """
    if source.is_file():
        shape = open_npy(source).shape
        if not fits(shape):
            raise ReadError(f"{source}: expected the shape of stacked clips, got shape {shape}")
        return [source], ()
    kept: list[Path] = []
    refused: list[tuple[Path, str]] = []
    for file in sorted(source.glob("*.npy")):
        try:
            fitting = fits(open_npy(file).shape)
        except ReadError as error:
            refused.append((file, str(error)))
            continue
        if fitting and any(word in file.stem for word in _DERIVED_STREAMS):
            refused.append((file, "a bone or motion stream; it is derived from the joints"))
        elif fitting:
            kept.append(file)
    if not kept:
        more = f"; {refused[0][0].name} was refused: {refused[0][1]}" if refused else ""
        raise ReadError(
            f"{source}: expected .npy arrays of shape (N, C, T, V, M), found none{more}"
        )
    return kept, tuple(refused)


def _make_row_tasks(
    files: list[Path], layout: SkeletonLayout, labels: str, confidence: bool, space: Space
) -> list[ReadTask]:
    """Return tasks of at most 64 MiB of rows, with their labels, names and splits.

    Raises:
        ReadError: an array has other joints, labels do not fit, or two arrays have one label file.
    """
    tasks: list[ReadTask] = []
    array_by_labels: dict[Path, Path] = {}
    for path in files:
        shape = _check_shape(path, layout)
        rows: RowLabels = (None,) * shape[0], ()
        if label_file := _find_label_file(path, labels):
            other = array_by_labels.setdefault(label_file, path)
            if other != path:
                raise ReadError(
                    f"{path} and {other} share the labels {label_file.name}, so they hold the same "
                    "clips; read one of the files instead of the folder"
                )
            rows = _read_labels(label_file, shape[0])
        options = {"layout": layout, "confidence": confidence, "space": space}
        tasks += _split_rows(path, shape, rows, **options)
    return tasks


def _read(task: ReadTask) -> ReadResults:
    """Yield the clips of a range of rows; a row without joints is an error."""
    rows = task.info["rows"]
    shape = _check_shape(task.path, task.info["layout"])
    array = open_npy(task.path).reshape(shape)
    for row, name, label in zip(rows, task.info["names"], task.info["labels"], strict=True):
        facts = {"label": label, "id": name, "meta": {**task.info["meta"], "row": row}}
        try:
            yield _unpad_clip(task, array[row], **facts)
        except (ReadError, ClipError) as error:
            yield ReadError(f"{task.path}: row {row}: {error}")


def _unpad_clip(task: ReadTask, block: NDArray[Any], **facts: Any) -> Clip:
    confidence = task.info["confidence"]
    points = to_float32(block).transpose(3, 1, 2, 0)
    seen = np.asarray((np.abs(points) > 0).any(axis=-1))
    if not seen.any():
        raise ReadError("no joint in any frame, all numbers are zero")
    persons, end = seen.any(axis=(1, 2)), int(np.flatnonzero(seen.any(axis=(0, 2)))[-1]) + 1
    points, seen = points[persons, :end], seen[persons, :end]
    joints = points[..., :-1] if confidence else points
    score = validate_confidence(points[..., -1]) if confidence else None
    joints = np.where(seen[..., None], joints, np.nan)
    return task.make_clip(joints, task.info["layout"], confidence=score, **facts)


def validate_confidence(score: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return confidences with 0 for NaN; ReadError if one is not in [0, 1]."""
    score = np.nan_to_num(score, nan=0.0)
    if score.min() < 0 or score.max() > 1:
        raise ReadError(
            f"expected confidences in [0, 1], got numbers from {score.min():g} to "
            f"{score.max():g}; are they coordinates?"
        )
    return score


def _is_stacked(shape: Shape) -> bool:
    return len(shape) in (4, 5) and shape[-4] in (2, 3, 4)


def _check_shape(path: Path, layout: SkeletonLayout) -> Shape:
    """Return the shape (N, C, T, V, M), with N=1 for the array of a single clip."""
    shape = open_npy(path).shape
    if not _is_stacked(shape) or shape[-2] != layout.num_joints:
        raise ReadError(
            f"{path}: expected an array (N, C, T, V, M) of V={layout.num_joints} joints "
            f"(layout {layout.name!r}) and C=2 to 4 channels, got the shape {shape}"
        )
    return shape if len(shape) == 5 else (1, *shape)


def _split_rows(path: Path, shape: Shape, rows: RowLabels, **options: Any) -> Iterator[ReadTask]:
    labels, names = rows
    if not names:
        numbered = [f"{path.stem}-{row:06d}" for row in range(shape[0])]
        names = numbered if len(numbered) > 1 else [path.stem]
    step = max(1, _TASK_BYTES // (8 * int(np.prod(shape[1:]))))
    split = _SPLIT_BY_NAME.get(re.split(r"[^a-z]", path.stem.lower())[0])
    meta: dict[str, MetaValue] = {"split": split} if split else {}
    for start in range(0, shape[0], step):
        stop = min(start + step, shape[0])
        facts = {"labels": labels[start:stop], "names": names[start:stop], "meta": meta}
        yield ReadTask(path, {"rows": range(start, stop), **facts, **options})


def _find_label_file(path: Path, labels: str) -> Path | None:
    if labels:
        return path.parent / labels
    before_data = re.match(r"(.*?)_?data", path.stem)
    stem = f"{before_data[1]}_label" if before_data else f"{path.stem}_label"
    candidates = [path.with_name(stem.lstrip("_") + suffix) for suffix in (".pkl", ".npy")]
    return next((file for file in candidates if file.is_file()), None)


def _read_labels(path: Path, num_rows: int) -> RowLabels:
    content = open_npy(path) if path.suffix == ".npy" else load_pickle(path)
    names: Any = ()
    # (names, numbers) is a pair of sequences, where N=2 numbers are a pair of numbers
    pair = content if isinstance(content, list | tuple) and len(content) == 2 else ()
    if pair and (isinstance(pair[0], list | tuple) or np.ndim(pair[0]) == 1):
        names, content = pair
    return _parse_labels(path, content, num_rows), _make_unique(path, names, num_rows)


def _parse_labels(path: Path, content: Any, num_rows: int) -> tuple[int, ...]:
    try:
        values = np.asarray(content, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ReadError(f"{path}: expected labels as numbers ({error})") from error
    if values.shape != (num_rows,):
        raise ReadError(f"{path}: expected {num_rows} labels, got the shape {values.shape}")
    wrong = np.flatnonzero(~((values >= 0) & (values == np.floor(values)) & (values < 2**31)))
    if len(wrong):
        raise ReadError(
            f"{path}: label of row {wrong[0]}: expected a whole number of 0 or more, "
            f"got {values[wrong[0]]:g}"
        )
    return tuple(values.astype(int).tolist())


def _make_unique(path: Path, names: Any, num_rows: int) -> tuple[str, ...]:
    """Return the names of the rows as clip ids, numbered if they repeat."""
    texts = [str(name).removesuffix(".skeleton") for name in names]
    if texts and len(texts) != num_rows:
        raise ReadError(f"{path}: expected {num_rows} names, got {len(texts)}")
    if len(set(texts)) < len(texts):
        texts = [f"{text}#{row}" for row, text in enumerate(texts)]
    return tuple(texts)


def _matches(path: Path) -> bool:
    shape = read_npy_shape(path) or ()
    known = _is_stacked(shape) and shape[-2] in _STACKED_LAYOUTS
    return known and shape[-1] <= 10 and not _is_fsd(shape)


def _scan_fsd(source: Path, labels: str = "") -> ReadPlan:
    """Scan FSD-10 arrays; their channels are x, y in [-1, 1], then the confidence."""
    files, refused = _find_arrays(source, _is_fsd)
    layout = get_layout(_FSD_LAYOUT)
    space = PREPARATIONS["fsd"].result
    tasks = _make_row_tasks(files, layout, labels, confidence=True, space=space)
    return ReadPlan(tasks, layout, refused=refused)


def _is_fsd(shape: Shape) -> bool:
    """Return whether a stacked array has one person of BODY_25 with confidence, as in FSD-10."""
    return len(shape) in (4, 5) and shape[-4] == 3 and shape[-2:] == (25, 1)


READER = Reader(
    name="stacked",
    summary="stacked arrays (N, C, T, V, M) in .npy with labels in .pkl or .npy",
    scan=_scan,
    read=_read,
    matches=_matches,
    options={
        "layout": "a registered layout (default: by the number of joints)",
        "labels": _LABELS_HELP,
        "confidence": "true if the last channel is a confidence, not a coordinate",
        **SPACE_OPTIONS,
    },
    dataset_only=frozenset({"labels"}),
    protocols=("official", "holdout"),
)

FSD_READER = Reader(
    name="fsd",
    summary="FSD-10 figure skating, competition arrays (N, 3, T, 25, 1) with confidence",
    scan=_scan_fsd,
    read=_read,
    matches=lambda path: _is_fsd(read_npy_shape(path) or ()),
    options={"labels": _LABELS_HELP},
    dataset_only=frozenset({"labels"}),
    protocols=("official", "every-seventh", "holdout"),
)
