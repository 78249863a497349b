"""Readers of stacked arrays with label files: ST-GCN, 2s-AGCN, AS-GCN, CTR-GCN, BABEL and FSD-10.

A .npy array is (N, C, T, V, M); a .npz file of CTR-GCN has x_train (N, T, M V 3), y_train and the
same for the test. They are padded with zeros: absent persons, trailing frames and untracked joints
are zero. The padding is removed, and untracked joints become NaN.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip
from kinegraph.errors import ReadError
from kinegraph.readers.class_names import class_names
from kinegraph.readers.formats.numpy_file import (
    iterate_npz_rows,
    list_npz,
    open_npy,
    read_npy_shape,
    read_npz,
    to_float32,
)
from kinegraph.readers.prepared import (
    ArrayFacts,
    are_scores,
    cap_scores,
    find_array_facts,
    remove_copies,
)
from kinegraph.readers.reader import (
    Reader,
    ReadPlan,
    ReadResults,
    ReadTask,
    clip_or_error,
    guess_layout,
)
from kinegraph.readers.row_labels import RowFacts, find_row_facts, name_classes, parse_labels
from kinegraph.readers.space_options import SPACE_OPTIONS
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import get_layout
from kinegraph.skeleton.space import PREPARATIONS

_FSD_LAYOUT = "body25"
_STACKED_LAYOUTS = {25: "ntu25", 18: "openpose18", 20: "kinect20", 17: "coco17"}
"""The default layout of a stacked array of V joints."""
_LABELS_HELP = "the label file, relative to the array's folder"

_TASK_BYTES = 2**26
NUM_SAMPLED_ROWS = 8  # rows from which the space of all is guessed
_DERIVED_STREAMS = ("bone", "motion")
_SPLIT_BY_NAME = {"train": "train", "val": "test", "test": "test"}
_NPZ_PARTS = ("train", "val", "test")
_MAX_PERSONS = 10
_NTU_FPS = 30.0

Shape = tuple[int, ...]


@dataclass(frozen=True)
class StackedArray:
    """An array of N clips in a .npy file, or in a member of a .npz file.

    Attributes:
        path: the file.
        member: the array's name in a .npz file; "" for a .npy file.
        shape: (N, C, T, V, M).
    """

    path: Path
    member: str
    shape: Shape

    def read(self, rows: Sequence[int]) -> Iterator[NDArray[np.float32]]:
        """Yield the ascending rows as (M, T, V, C) float32."""
        _, channels, frames, joints, persons = self.shape
        if not self.member:
            array = open_npy(self.path).reshape(self.shape)
            yield from (to_float32(array[row]).transpose(3, 1, 2, 0) for row in rows)
            return
        wanted, last = set(rows), max(rows, default=-1)
        for row, block in enumerate(islice(iterate_npz_rows(self.path, self.member), last + 1)):
            if row in wanted:
                points = to_float32(block).reshape(frames, persons, joints, channels)
                yield points.transpose(1, 0, 2, 3)

    def sample(self) -> NDArray[np.float32]:
        """Return some rows (n, M, T, V, C): spread over a .npy file, the first of a .npz file."""
        count = min(self.shape[0], NUM_SAMPLED_ROWS)
        spread = np.linspace(0, self.shape[0] - 1, count).astype(int).tolist()
        rows = list(range(count)) if self.member else spread
        return np.stack(list(self.read(rows)))

    @property
    def name(self) -> str:
        """The beginning of the names of its rows."""
        return f"{self.path.stem}-{self.member}" if self.member else self.path.stem


def _scan(
    source: Path,
    layout: str | SkeletonLayout = "",
    labels: str = "",
    confidence: bool | None = None,
    **stated: str,
) -> ReadPlan:
    """Scan a folder of arrays, or one array; (C, T, V, M) is a single clip.

    The label file is a .npy of N numbers, or a .pkl of numbers, (names, numbers) or BABEL's form;
    by default the one that `find_row_label_file` finds. The layout is guessed from the number of
    joints, and the convention of prepared arrays from the numbers, where they leave no doubt.
    """
    files, refused = _find_arrays(source, _is_stacked)
    joints = _guess_joints(files[0], layout)
    chosen = get_layout(layout or guess_layout(joints, _STACKED_LAYOUTS, files[0]))
    arrays = [array for file in files for array in _open_arrays(file, chosen)]
    facts = _find_facts(arrays, chosen, confidence, stated, bool(layout))
    tasks, classes = _make_tasks(arrays, chosen, labels, facts)
    return ReadPlan(tasks, chosen, classes, refused=refused)


def _find_facts(
    arrays: list[StackedArray],
    layout: SkeletonLayout,
    confidence: bool | None,
    stated: Mapping[str, str],
    layout_stated: bool,
) -> list[ArrayFacts]:
    """Return what the numbers of each array mean; all of a source have one space.

    Raises:
        ReadError: an array is of another space, or looks like FSD-10's.
    """
    found = []
    for array in arrays:
        points = array.sample()
        if not layout_stated and layout.name == "ntu25" and _are_scored_shares(points):
            raise ReadError(
                f"{array.path}: 25 joints of x, y and a score are not NTU's: if it is FSD-10, read "
                "it by `convert fsd`, else name the layout: --layout body25 for OpenPose's joints, "
                "or --layout ntu25 if the third number is a coordinate"
            )
        try:
            found.append(find_array_facts(points, layout, confidence, stated))
        except ReadError as error:
            raise ReadError(f"{array.path}: {error}") from error
        if found[-1].space != found[0].space or found[-1].confidence != found[0].confidence:
            raise ReadError(
                f"{array.path} is {found[-1].space.describe()}, {arrays[0].path} is "
                f"{found[0].space.describe()}; convert them to two stores, or state --prepared"
            )
    return found


def _are_scored_shares(points: NDArray[np.float32]) -> bool:
    """Return whether points are x and y between -1 and 1, and a score."""
    xy = points[..., :2]
    around_zero = (xy < 0).any() and np.abs(xy).max() <= 1
    return points.shape[-1] == 3 and bool(around_zero) and are_scores(points)


def _find_arrays(
    source: Path, fits: Callable[[Shape], bool]
) -> tuple[list[Path], tuple[tuple[Path, str], ...]]:
    """Return the arrays with a fitting shape, and the refused ones: damaged or derived streams.

    Raises:
        ReadError: no array fits.
    """
    if source.is_file():
        if source.suffix != ".npz" and not fits(shape := open_npy(source).shape):
            raise ReadError(
                f"{source}: expected the shape (N, C, T, V, M) of stacked clips, with C=2 to 4 "
                f"channels before the frames, got shape {shape}"
            )
        if _is_derived(source):
            raise ReadError(f"{source}: {_DERIVED}")
        return [source], ()
    kept: list[Path] = []
    refused: list[tuple[Path, str]] = []
    for file in sorted([*source.glob("*.npy"), *source.glob("*.npz")]):
        try:
            fitting = is_ctrgcn_file(file) if file.suffix == ".npz" else fits(open_npy(file).shape)
        except ReadError as error:
            refused.append((file, str(error)))
            continue
        if fitting and _is_derived(file):
            refused.append((file, _DERIVED))
        elif fitting:
            kept.append(file)
    if not kept:
        more = f"; {refused[0][0].name} was refused: {refused[0][1]}" if refused else ""
        raise ReadError(
            f"{source}: expected .npy arrays of shape (N, C, T, V, M), or .npz files with x_train "
            f"and y_train, found none{more}"
        )
    archives = [file.name for file in kept if file.suffix == ".npz"]
    if len(archives) > 1:
        raise ReadError(
            f"{source}: {' and '.join(archives)} usually hold the same clips in other splits; name "
            "one of the files instead of the folder"
        )
    return kept, tuple(refused)


_DERIVED = "a bone or motion stream; it is derived from the joints: give the array of the joints"


def _is_derived(file: Path) -> bool:
    return any(word in file.stem for word in _DERIVED_STREAMS)


def is_ctrgcn_file(path: Path) -> bool:
    """Return whether a file is a .npz of CTR-GCN's form, with x_train or x_test."""
    try:
        return any(f"x_{part}" in list_npz(path) for part in _NPZ_PARTS)
    except ReadError:
        return False


def _guess_joints(path: Path, layout: str | SkeletonLayout) -> int:
    """Return the number of joints of an array; in a .npz file it is NTU's, or the layout's."""
    if path.suffix != ".npz":
        return open_npy(path).shape[-2]
    shapes = list_npz(path)
    other = [s for part in _NPZ_PARTS if len(s := shapes.get(f"x_{part}", (0,) * 3)) != 3]
    if other:
        raise ReadError(
            f"{path}: expected x_train (N, T, M x V x 3), got the shape {other[0]}; save each "
            "array (N, C, T, V, M) as a .npy file, or with the numbers of a frame in one axis"
        )
    widths = {shapes[f"x_{part}"][-1] for part in _NPZ_PARTS if f"x_{part}" in shapes}
    if not layout and not widths <= {75, 150}:
        raise ReadError(
            f"{path}: expected x_train (N, T, 75 or 150): 1 or 2 persons of 25 joints, got "
            f"{sorted(widths)} numbers per frame; name the layout (--layout)"
        )
    return 25


def _open_arrays(path: Path, layout: SkeletonLayout) -> list[StackedArray]:
    """Return the arrays of a file.

    Raises:
        ReadError: an array has other joints or another shape.
    """
    if path.suffix != ".npz":
        return [StackedArray(path, "", _check_shape(path, layout))]
    arrays = []
    for part in _NPZ_PARTS:
        shape = list_npz(path).get(f"x_{part}")
        if shape is None:
            continue
        width = 3 * layout.num_joints
        if len(shape) != 3 or shape[2] % width or not 0 < shape[2] // width <= _MAX_PERSONS:
            raise ReadError(
                f"{path}: x_{part}: expected (N, T, M x {width}) with x, y and z of V="
                f"{layout.num_joints} joints (layout {layout.name!r}), got the shape {shape}"
            )
        clips, frames, numbers = shape
        stacked = (clips, 3, frames, layout.num_joints, numbers // width)
        arrays.append(StackedArray(path, f"x_{part}", stacked))
    if not arrays:
        found = ", ".join(list_npz(path)) or "nothing"
        raise ReadError(f"{path}: expected the arrays x_train, y_train, x_test, got {found}")
    return arrays


def _make_tasks(
    arrays: list[StackedArray], layout: SkeletonLayout, labels: str, facts: list[ArrayFacts]
) -> tuple[list[ReadTask], tuple[str, ...] | None]:
    """Return tasks with the labels, names and splits of their rows, and the class names.

    Raises:
        ReadError: labels do not fit, or two arrays have one label file.
    """
    tasks: list[ReadTask] = []
    array_by_labels: dict[Path, Path] = {}
    found = []
    for array, meaning in zip(arrays, facts, strict=True):
        if array.member:
            rows, file = _read_npz_labels(array), None
        else:
            rows, file = find_row_facts(array.path, array.shape[0], labels)
        if file and (other := array_by_labels.setdefault(file, array.path)) != array.path:
            raise ReadError(
                f"{array.path} and {other} share the labels {file.name}, so they hold the same "
                "clips; read one of the files instead of the folder"
            )
        found.append(rows)
        tasks += _split_rows(array, rows, meaning, layout)
    return tasks, name_classes(found) or _name_one_hot_classes(arrays, layout)


def _read_npz_labels(array: StackedArray) -> RowFacts:
    name, num_rows = array.member.replace("x_", "y_"), array.shape[0]
    if name not in list_npz(array.path):
        note = f"{array.path.name} has no {name}: the clips of {array.member} have no label"
        return RowFacts((None,) * num_rows, (), ({},) * num_rows, (note,))
    values = read_npz(array.path, [name])[name]
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    return RowFacts.make(parse_labels(f"{array.path}: {name}", values, num_rows))


def _name_one_hot_classes(
    arrays: list[StackedArray], layout: SkeletonLayout
) -> tuple[str, ...] | None:
    """Return NTU's class names if the labels of a .npz file are one-hot rows of 60 or 120."""
    if layout.name != "ntu25":
        return None
    shapes = [list_npz(a.path).get(a.member.replace("x_", "y_"), ()) for a in arrays if a.member]
    widths = {shape[1] for shape in shapes if len(shape) == 2}
    return class_names(f"ntu{widths.pop()}") if widths in ({60}, {120}) else None


def _read(task: ReadTask) -> ReadResults:
    """Yield the clips of a range of rows; a row without joints is an error."""
    info, array = task.info, task.info["array"]
    facts = zip(info["rows"], info["names"], info["labels"], info["metas"], strict=True)
    for (row, name, label, meta), points in zip(facts, array.read(info["rows"]), strict=True):
        fps = _NTU_FPS if "setup" in meta else None
        meta = {**info["meta"], **meta, "row": row}
        own = {"label": label, "id": name, "meta": meta, "fps": fps}
        yield clip_or_error(f"{task.path}: row {row}", _unpad_clip, task, points, **own)


def _unpad_clip(task: ReadTask, points: NDArray[np.float32], **facts: Any) -> Clip:
    meaning: ArrayFacts = task.info["facts"]
    seen = meaning.find_seen(points)
    if not seen.any():
        raise ReadError("no joint in any frame, all numbers are zero")
    persons, end = seen.any(axis=(1, 2)), int(np.flatnonzero(seen.any(axis=(0, 2)))[-1]) + 1
    points, seen = points[persons, :end], seen[persons, :end]
    points, notes = remove_copies(points, meaning.space)
    seen = seen[: len(points), : points.shape[1]]
    joints = points[..., :-1] if meaning.confidence else points
    score = None
    if meaning.confidence:
        score, capped = cap_scores(points[..., -1])
        notes += capped
    joints = np.where(seen[..., None], joints, np.float32(np.nan))
    if meaning.flip:
        joints[..., 1] *= -1
    return task.make_clip(joints, task.info["layout"], confidence=score, notes=notes, **facts)


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


def _split_rows(
    array: StackedArray, rows: RowFacts, facts: ArrayFacts, layout: SkeletonLayout
) -> Iterator[ReadTask]:
    """Yield tasks of at most 64 MiB; a member of a .npz file is one, because it is unpacked."""
    count, names = array.shape[0], rows.names
    if not names:
        numbered = [f"{array.name}-{row:06d}" for row in range(count)]
        names = numbered if count > 1 else [array.name]
    step = max(1, _TASK_BYTES // (8 * int(np.prod(array.shape[1:]))))
    step = count if array.member else step
    word = array.member.removeprefix("x_") or re.split(r"[^a-z]", array.path.stem.lower())[0]
    split = _SPLIT_BY_NAME.get(word)
    info: dict[str, Any] = {
        "array": array,
        "facts": facts,
        "layout": layout,
        "space": facts.space,
        "notes": (*facts.notes, *rows.notes),
        "meta": {"split": split} if split else {},
    }
    for start in range(0, count, step):
        part = slice(start, min(start + step, count))
        own = {"labels": rows.labels[part], "names": names[part], "metas": rows.metas[part]}
        yield ReadTask(array.path, {"rows": range(count)[part], **own, **info})


def _matches(path: Path) -> bool:
    if path.suffix == ".npz":
        return path.is_file() and is_ctrgcn_file(path)
    shape = read_npy_shape(path) or ()
    known = _is_stacked(shape) and shape[-2] in _STACKED_LAYOUTS
    return known and shape[-1] <= _MAX_PERSONS and not _is_fsd(shape)


def _scan_fsd(source: Path, labels: str = "") -> ReadPlan:
    """Scan FSD-10 arrays; their channels are x, y in [-1, 1], then the confidence."""
    files, refused = _find_arrays(source, _is_fsd)
    layout = get_layout(_FSD_LAYOUT)
    facts = ArrayFacts(PREPARATIONS["fsd"].result, confidence=True)
    arrays = [array for file in files for array in _open_arrays(file, layout)]
    tasks, _ = _make_tasks(arrays, layout, labels, [facts] * len(arrays))
    return ReadPlan(tasks, layout, refused=refused)


def _is_fsd(shape: Shape) -> bool:
    """Return whether a stacked array has one person of BODY_25 with confidence, as in FSD-10."""
    return len(shape) in (4, 5) and shape[-4] == 3 and shape[-2:] == (25, 1)


READER = Reader(
    name="stacked",
    summary="stacked arrays (N, C, T, V, M) with label files, and CTR-GCN's NTU60_CS.npz",
    scan=_scan,
    read=_read,
    matches=_matches,
    options={
        "layout": "a registered layout (default: by the number of joints)",
        "labels": _LABELS_HELP,
        "confidence": "true if the last channel is a confidence, false if it is a coordinate",
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
    space=PREPARATIONS["fsd"].result,
)
