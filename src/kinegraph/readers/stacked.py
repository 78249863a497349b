"""Reads stacked arrays (N, C, T, V, M) with label files, as ST-GCN, 2s-AGCN and AS-GCN store them.

Such arrays are padded with zeros: absent persons, trailing frames and unseen joints are all zero.
The padding is taken off again, what was not seen becomes NaN.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip, MetaValue
from kinegraph.errors import ClipError, ReadError
from kinegraph.readers.formats.numpy_file import open_npy, read_npy_shape, to_float32
from kinegraph.readers.formats.pickle_file import load_pickle
from kinegraph.readers.reader import Reader, ReadPlan, ReadTask
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import get_layout

LAYOUT_BY_JOINT_COUNT = {25: "ntu25", 18: "openpose18", 20: "kinect20", 17: "coco17"}
"""The layout that a stacked array of V joints is taken to have, unless one is named."""

_UNIT_BYTES = 2**26
_DERIVED = ("bone", "motion")
_SPLITS = {"train": "train", "val": "test", "test": "test"}

Shape = tuple[int, ...]


@dataclass(frozen=True)
class RowLabels:
    """What a label file says of N rows; names is empty where it only has numbers."""

    labels: tuple[int | None, ...]
    names: tuple[str, ...] = field(default=())


def scan(
    source: Path,
    layout: str | SkeletonLayout = "",
    labels: str = "",
    confidence_channel: bool = False,
) -> ReadPlan:
    """Stacked arrays in a folder, or one such file; (C, T, V, M) is a single clip.

    Args:
        source: a .npy file, or a folder of them with their label files.
        layout: a registered layout; by default guessed from V, see `LAYOUT_BY_JOINT_COUNT`.
        labels: the label file, .npy of N numbers or .pkl of (names, numbers) or numbers, relative
            to the array's folder; by default ``train_label.pkl`` or ``.npy`` beside
            ``train_data*.npy``, else ``NAME_label.pkl`` or ``.npy`` beside ``NAME.npy``.
        confidence_channel: the last channel is a confidence in [0, 1], not a coordinate.

    Raises:
        ReadError: no such array, arrays of different joints, labels that do not fit.
    """
    files, refused = find_stacked_arrays(source, _is_stacked)
    chosen = get_layout(layout or _guess(files[0]))
    tasks = make_row_tasks(files, chosen, labels)
    return ReadPlan(tasks, chosen, refused=refused)


def read(
    task: ReadTask,
    layout: str | SkeletonLayout = "",
    labels: str = "",
    confidence_channel: bool = False,
) -> Iterator[Clip | ReadError]:
    """The clips of a range of rows; options as for `scan`."""
    chosen = get_layout(layout or _guess(task.path))
    return read_rows(task, chosen, confidence_channel)


def find_stacked_arrays(
    source: Path, fits: Callable[[Shape], bool]
) -> tuple[list[Path], tuple[tuple[Path, str], ...]]:
    """The arrays of fitting shape at a source; refused: damaged ones, and derived streams.

    Raises:
        ReadError: there is none.
    """
    if source.is_file():
        shape = open_npy(source).shape
        if not fits(shape):
            raise ReadError(f"{source}: the shape {shape} is not that of stacked clips")
        return [source], ()
    kept: list[Path] = []
    refused: list[tuple[Path, str]] = []
    for file in sorted(source.glob("*.npy")):
        try:
            fitting = fits(open_npy(file).shape)
        except ReadError as error:
            refused.append((file, str(error)))
            continue
        if fitting and any(word in file.stem for word in _DERIVED):
            refused.append((file, "a bone or motion stream; it is derived from the joints"))
        elif fitting:
            kept.append(file)
    if not kept:
        more = f"; {refused[0][0].name} was refused: {refused[0][1]}" if refused else ""
        raise ReadError(
            f"{source}: expected .npy arrays of shape (N, C, T, V, M), found none{more}"
        )
    return kept, tuple(refused)


def make_row_tasks(files: list[Path], layout: SkeletonLayout, labels: str) -> list[ReadTask]:
    """Tasks of at most 64 MiB of rows, with their labels, ids and splits.

    Raises:
        ReadError: an array of other joints, labels that do not fit, two arrays for one label file.
    """
    tasks: list[ReadTask] = []
    claimed: dict[Path, Path] = {}
    for path in files:
        shape = _block_shape(path, layout)
        label_file = _label_file(path, labels)
        if label_file in claimed:
            raise ReadError(
                f"{path} and {claimed[label_file]} share the labels {label_file.name}: "
                "they hold the same clips, so read one of the files instead of the folder"
            )
        known = _read_labels(label_file, shape[0]) if label_file else RowLabels((None,) * shape[0])
        if label_file:
            claimed[label_file] = path
        tasks += _make_tasks(path, shape, known)
    return tasks


def read_rows(
    task: ReadTask, layout: SkeletonLayout, confidence: bool
) -> Iterator[Clip | ReadError]:
    """The clips of a task that `make_row_tasks` made; a row without any joint gives a ReadError."""
    shape = _block_shape(task.path, layout)
    array = open_npy(task.path).reshape(shape)
    start, stop = task.info.get("rows", (0, shape[0]))
    names = task.info.get("names") or _row_names(task.path, start, stop, shape[0])
    labels = task.info.get("labels") or (None,) * (stop - start)
    meta = task.info.get("meta", {})
    for row, name, label in zip(range(start, stop), names, labels, strict=True):
        facts = {"label": label, "id": name, "meta": {**meta, "row": row}}
        try:
            yield unpad_clip(array[row], layout, confidence, **facts)
        except (ReadError, ClipError) as error:
            yield ReadError(f"{task.path}: row {row}: {error}")


def unpad_clip(block: NDArray[Any], layout: SkeletonLayout, confidence: bool, **facts: Any) -> Clip:
    """The clip in a zero-padded array.

    Args:
        block: (C, T, V, M) numbers; a joint of which all channels are zero was not seen.
        layout: of the V joints.
        confidence: whether the last channel is a confidence.
        facts: label, id, fps and meta of the clip.

    Raises:
        ReadError: nothing but zeros, or a confidence channel that is none.
        ClipError: infinite numbers.
    """
    points = to_float32(block).transpose(3, 1, 2, 0)
    seen = np.asarray((np.abs(points) > 0).any(axis=-1))
    if not seen.any():
        raise ReadError("no joint in any frame, all numbers are zero")
    persons, end = seen.any(axis=(1, 2)), int(np.flatnonzero(seen.any(axis=(0, 2)))[-1]) + 1
    points, seen = points[persons, :end], seen[persons, :end]
    joints = points[..., :-1] if confidence else points
    score = validate_confidence(points[..., -1]) if confidence else None
    return Clip(np.where(seen[..., None], joints, np.nan), layout, score, **facts)


def validate_confidence(score: NDArray[np.float32]) -> NDArray[np.float32]:
    """The scores with 0 for NaN.

    Raises:
        ReadError: a number outside [0, 1].
    """
    score = np.nan_to_num(score, nan=0.0)
    if score.min() < 0 or score.max() > 1:
        raise ReadError(
            f"expected confidences in [0, 1], got numbers from {score.min():g} to "
            f"{score.max():g}; are they coordinates?"
        )
    return score


def _is_stacked(shape: Shape) -> bool:
    return len(shape) in (4, 5) and shape[-4] in (2, 3, 4)


def _guess(path: Path) -> str:
    shape = read_npy_shape(path) or ()
    joints = shape[-2] if len(shape) > 1 else 0
    if joints not in LAYOUT_BY_JOINT_COUNT:
        raise ReadError(
            f"{path}: the shape {shape} has {joints} joints on its last axis but one; "
            f"name the layout, as only {sorted(LAYOUT_BY_JOINT_COUNT)} joints are guessed"
        )
    return LAYOUT_BY_JOINT_COUNT[joints]


def _block_shape(path: Path, layout: SkeletonLayout) -> Shape:
    """(N, C, T, V, M), with N=1 for the array of a single clip."""
    shape = open_npy(path).shape
    if not _is_stacked(shape) or shape[-2] != layout.num_joints:
        raise ReadError(
            f"{path}: expected an array (N, C, T, V, M) of V={layout.num_joints} joints "
            f"(layout {layout.name!r}) and C=2 to 4 channels, got the shape {shape}"
        )
    return shape if len(shape) == 5 else (1, *shape)


def _make_tasks(path: Path, shape: Shape, known: RowLabels) -> Iterator[ReadTask]:
    step = max(1, _UNIT_BYTES // (8 * int(np.prod(shape[1:]))))
    split = _SPLITS.get(re.split(r"[^a-z]", path.stem.lower())[0])
    meta: dict[str, MetaValue] = {"split": split} if split else {}
    for start in range(0, shape[0], step):
        rows = slice(start, start + step)
        info = {
            "rows": (start, min(start + step, shape[0])),
            "labels": known.labels[rows],
            "names": known.names[rows],
            "meta": meta,
        }
        yield ReadTask(path, info)


def _row_names(path: Path, start: int, stop: int, rows: int) -> list[str]:
    return [path.stem] if rows == 1 else [f"{path.stem}-{row:06d}" for row in range(start, stop)]


def _label_file(path: Path, labels: str) -> Path | None:
    if labels:
        return path.parent / labels
    before_data = re.match(r"(.*?)_?data", path.stem)
    stem = f"{before_data[1]}_label" if before_data else f"{path.stem}_label"
    candidates = [path.with_name(stem.lstrip("_") + suffix) for suffix in (".pkl", ".npy")]
    return next((file for file in candidates if file.is_file()), None)


def _read_labels(path: Path, rows: int) -> RowLabels:
    content = open_npy(path) if path.suffix == ".npy" else load_pickle(path)
    names: Any = ()
    # (names, numbers) is a pair of sequences, where N=2 numbers are a pair of numbers
    if isinstance(content, list | tuple) and len(content) == 2 and _is_row(content[0]):
        names, content = content
    return RowLabels(_numbers(path, content, rows), _distinct(path, names, rows))


def _is_row(content: Any) -> bool:
    if isinstance(content, np.ndarray):
        return content.ndim == 1
    return isinstance(content, list | tuple)


def _numbers(path: Path, content: Any, rows: int) -> tuple[int, ...]:
    try:
        values = np.asarray(content, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ReadError(f"{path}: expected labels as numbers ({error})") from error
    if values.shape != (rows,):
        raise ReadError(f"{path}: expected {rows} labels, got the shape {values.shape}")
    wrong = np.flatnonzero(~((values >= 0) & (values == np.floor(values)) & (values < 2**31)))
    if len(wrong):
        raise ReadError(
            f"{path}: label of row {wrong[0]}: expected a whole number of 0 or more, "
            f"got {values[wrong[0]]:g}"
        )
    return tuple(int(value) for value in values)


def _distinct(path: Path, names: Any, rows: int) -> tuple[str, ...]:
    """The rows' names as clip ids, numbered if they repeat."""
    texts = [str(name).removesuffix(".skeleton") for name in names]
    if texts and len(texts) != rows:
        raise ReadError(f"{path}: expected {rows} names, got {len(texts)}")
    if len(set(texts)) < len(texts):
        texts = [f"{text}#{row}" for row, text in enumerate(texts)]
    return tuple(texts)


def _matches(path: Path) -> bool:
    shape = read_npy_shape(path)
    if shape is None or not _is_stacked(shape) or shape[-2] not in LAYOUT_BY_JOINT_COUNT:
        return False
    # one person of BODY_25 with confidence is how the FSD-10 arrays look
    return shape[-1] <= 10 and not (shape[-4] == 3 and shape[-2:] == (25, 1))


READER = Reader(
    name="stacked",
    summary="stacked arrays (N, C, T, V, M) in .npy with labels in .pkl or .npy",
    scan=scan,
    read=read,
    matches=_matches,
    options={
        "layout": "a registered layout (default: by the number of joints)",
        "labels": "the label file, relative to the array's folder",
        "confidence_channel": "true if the last channel is a confidence, not a coordinate",
    },
    dataset_only=frozenset({"labels"}),
    protocols=("official", "holdout"),
)
