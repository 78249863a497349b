"""Reader of a user's own data: a folder of .npy, .npz or .csv files, labeled by clips.csv."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.clip import MetaValue
from kinegraph.errors import ClipError, ReadError
from kinegraph.readers.deeplabcut import is_dlc_table, read_dlc_table
from kinegraph.readers.formats.numpy_file import (
    open_npy,
    read_npy_shape,
    read_npz,
    read_npz_names,
    to_float32,
)
from kinegraph.readers.formats.raw_file import read_head
from kinegraph.readers.formats.table_file import read_csv_rows, read_frame_table
from kinegraph.readers.named_points import make_clip
from kinegraph.readers.reader import Reader, ReadPlan, ReadResults, ReadTask, check_fps
from kinegraph.readers.space_options import SPACE_OPTIONS, SpaceOptions
from kinegraph.readers.stacked import validate_confidence
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import get_layout, list_layouts, read_layout, suggest_layouts
from kinegraph.skeleton.space import Space

CLIPS_FILE = "clips.csv"
CLASSES_FILE = "classes.txt"

_INTEGER = re.compile(r"-?\d{1,15}")
_PLAIN_INTEGER = re.compile(r"-?(0|[1-9]\d{0,14})")
_REAL = re.compile(r"-?\d+(\.\d*)?([eE][-+]?\d{1,2})?")
_CLIP_SUFFIXES = (".npy", ".npz", ".csv")
_LAYOUT_SUFFIXES = (".yaml", ".yml", ".json")
_HEAD_BYTES = 8192
NUM_SAMPLED_FILES = 8  # files from which the space of all is guessed


def _scan(
    source: Path,
    layout: str | SkeletonLayout = "",
    fps: float | None = None,
    zeros_absent: bool = True,
    confidence: bool = False,
    **stated: str,
) -> ReadPlan:
    """Scan a folder of array files, or one file.

    Without ``clips.csv`` (see `_read_clip_list`) every array file below the folder is a clip
    without a label. ``layout`` names a registered layout or a layout file; the default is the
    file ``layout.yaml`` (.yml, .json) beside the clips.
    """
    folder = source.parent if source.is_file() else source
    chosen = _choose_layout(folder, layout)
    check_fps(fps)
    if source.is_dir() and (source / CLIPS_FILE).is_file():
        plan = _read_clip_list(source, chosen)
    else:
        plan = _list_clips(source, chosen)
    space = _guess_space([task.path for task in plan.tasks], chosen, confidence, stated)
    options = {"layout": chosen, "fps": fps, "zeros_absent": zeros_absent, "confidence": confidence}
    tasks = []
    for task in plan.tasks:
        name = task.path.relative_to(folder).with_suffix("").as_posix()
        tasks.append(ReadTask(task.path, {"id": name, **task.info, **options, **space}))
    return replace(plan, tasks=tasks)


def _read(task: ReadTask) -> ReadResults:
    if is_dlc_table(task.path):
        yield make_clip(task, read_dlc_table(task.path))
        return
    layout, listed_fps = task.info["layout"], task.info.get("meta", {}).get("fps")
    points, score, stated_fps = _read_file(task.path, layout.num_joints)
    try:
        check_fps(listed_fps)
        joints, score = _check_content(points, score, layout, task.info["confidence"])
        joints = _mask_zeros(joints) if task.info["zeros_absent"] else joints
        if np.isnan(joints).any(axis=-1).all():
            raise ReadError("no joint was seen in any frame")
        fps = stated_fps or (listed_fps and float(listed_fps)) or task.info["fps"]
        yield task.make_clip(joints, layout, confidence=score, fps=fps)
    except (ReadError, ClipError) as error:
        raise ReadError(f"{task.path}: {error}") from error


def _guess_space(
    paths: Sequence[Path], layout: SkeletonLayout, confidence: bool, stated: Mapping[str, str]
) -> dict[str, Space]:
    """Return the space that is stated, or guessed from the first files; {} if none can be read."""
    sample = []
    for path in paths[:NUM_SAMPLED_FILES]:
        try:
            points, score, _ = _read_file(path, layout.num_joints)
            joints, _ = _check_content(points, score, layout, confidence)
        except ReadError:
            continue  # reading that clip reports it
        sample.append(_mask_zeros(joints).reshape(-1, *joints.shape[-2:]))
    same = [joints for joints in sample if joints.shape[-1] == sample[0].shape[-1]]
    return {"space": SpaceOptions(**stated).resolve(np.concatenate(same), layout)} if same else {}


def _mask_zeros(joints: NDArray[np.float32]) -> NDArray[np.float32]:
    absent = (joints == 0).all(axis=-1, keepdims=True)
    return np.where(absent, np.float32(np.nan), joints)


def _list_clips(source: Path, layout: SkeletonLayout) -> ReadPlan:
    """Return the array files of a source without clips.csv, and those whose name is taken."""
    files = [source] if source.is_file() else sorted(source.rglob("*"))
    files = [f for f in files if f.suffix in _CLIP_SUFFIXES and f.is_file()]
    if not files:
        raise ReadError(f"{source}: expected {', '.join(_CLIP_SUFFIXES)} files, found none")
    tasks: dict[Path, ReadTask] = {}
    refused = []
    for file in files:
        first = tasks.setdefault(file.with_suffix(""), ReadTask(file)).path
        if first != file:
            refused.append((file, f"a clip of this name is already in {first.name}"))
    return ReadPlan([*tasks.values()], layout, refused=tuple(refused))


def _choose_layout(folder: Path, layout: str | SkeletonLayout) -> SkeletonLayout:
    if isinstance(layout, str) and Path(layout).suffix in _LAYOUT_SUFFIXES:
        return read_layout(layout)
    if layout:
        return get_layout(layout)
    beside = [folder / f"layout{suffix}" for suffix in _LAYOUT_SUFFIXES]
    found = [file for file in beside if file.is_file()]
    if len(found) != 1:
        raise ReadError(
            f"{folder}: name the layout of your arrays (--layout), or put one layout.yaml there; "
            f"registered layouts: {', '.join(list_layouts())}"
        )
    return read_layout(found[0])


def _read_file(
    path: Path, num_joints: int
) -> tuple[NDArray[Any], NDArray[Any] | None, float | None]:
    """Return coordinates, confidence and fps, before they are checked against the layout."""
    if path.suffix == ".npy":
        return open_npy(path), None, None
    if path.suffix == ".csv":
        return read_frame_table(path, num_joints), None, None
    if path.suffix != ".npz":
        raise ReadError(f"{path}: expected a file of type {', '.join(_CLIP_SUFFIXES)}")
    arrays = read_npz(path, ("joints", "confidence", "fps"))
    if "joints" not in arrays:
        raise ReadError(f"{path}: expected an array named 'joints'")
    fps = arrays.get("fps", np.empty(0)).ravel().tolist()
    if "fps" in arrays and (len(fps) != 1 or not 0 < fps[0] < math.inf):
        raise ReadError(f"{path}: expected fps to be one number above 0")
    return arrays["joints"], arrays.get("confidence"), float(fps[0]) if fps else None


def _check_content(
    points: NDArray[Any], score: NDArray[Any] | None, layout: SkeletonLayout, confidence: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Return joints (M, T, V, D) and confidence (M, T, V) of the layout."""
    if confidence and score is not None:
        raise ReadError("the file has an array 'confidence', so leave out the option confidence")
    width = "2 or 3 coordinates and a confidence" if confidence else "2 or 3 coordinates"
    wanted = (3, 4) if confidence else (2, 3)
    if points.ndim not in (3, 4) or points.shape[-1] not in wanted:
        hint = "; is the last a confidence (confidence=true)?" if points.shape[-1:] == (4,) else ""
        raise ReadError(
            f"expected an array (frames, joints, {width}) or (persons, frames, joints, {width}), "
            f"got the shape {points.shape}{hint}"
        )
    if points.shape[-2] != layout.num_joints:
        raise ReadError(
            f"layout {layout.name!r} has {layout.num_joints} joints, the array of shape "
            f"{points.shape} has {points.shape[-2]} on its last axis but one"
            f"{suggest_layouts(points.shape[-2])}"
        )
    values = to_float32(points)
    values = values[None] if values.ndim == 3 else values
    if confidence:
        return values[..., :-1], validate_confidence(values[..., -1])
    if score is not None:
        score = validate_confidence(to_float32(score))
        if score.shape == values.shape[1:3] and len(values) == 1:
            score = score[None]
    return values, score


def _matches(path: Path) -> bool:
    if path.suffix == ".npz":
        return "joints" in read_npz_names(path)
    if path.suffix == ".csv":
        return path.is_file() and (path.name == CLIPS_FILE or _is_frame_table(path))
    shape = read_npy_shape(path) or ()
    return len(shape) in (3, 4) and shape[-1] in (2, 3, 4)


def _is_frame_table(path: Path) -> bool:
    lines = read_head(path, _HEAD_BYTES).decode("utf-8-sig", errors="replace").splitlines()
    if len(lines) < 2 or lines[0].count(",") < 3:
        return False
    cells = [cell.strip() for cell in lines[1].split(",")[:-1]]
    return sum(not cell or cell.replace(".", "").lstrip("-").isdigit() for cell in cells) >= 3


class _ListRow(NamedTuple):
    where: str
    path: Path
    cells: Mapping[str, str]


def _read_clip_list(folder: Path, layout: SkeletonLayout) -> ReadPlan:
    """Return the files that ``clips.csv`` lists as tasks with label and meta.

    Its columns are ``file`` (relative to the folder, inside of it), ``label`` (a name or a
    number, empty if unknown) and any others, which become meta: numbers if all rows of a column
    are numbers, otherwise text. Classes are the names in ``classes.txt``, one per line, or else
    the distinct label names, sorted; labels that are numbers without ``classes.txt`` have no
    names.

    Raises:
        ReadError: the file is not a table, has no column ``file``, or has both names and numbers
            as labels.
    """
    rows, refused = _read_list_rows(folder / CLIPS_FILE)
    labels = [row.cells.get("label", "") for row in rows]
    classes, tasks = _find_classes(folder, labels), []
    columns = [name for name in (rows[0].cells if rows else ()) if name not in ("file", "label")]
    meta = {name: _convert_column([row.cells[name] for row in rows]) for name in columns}
    for index, (row, label) in enumerate(zip(rows, labels, strict=True)):
        facts = {name: v[index] for name, v in meta.items() if v[index] is not None}
        try:
            number = _parse_label(row.where, label, classes)
        except ReadError as error:
            refused.append((row.path, str(error)))
        else:
            tasks.append(ReadTask(row.path, {"label": number, "meta": facts}))
    return ReadPlan(tasks, layout, classes, tuple(refused))


def _read_list_rows(path: Path) -> tuple[list[_ListRow], list[tuple[Path, str]]]:
    """Return the usable rows, and (file, reason) of the others."""
    lines = read_csv_rows(path)
    _, header = next(lines, (0, []))
    header = [name.strip() for name in header]
    if "file" not in header or len(set(header)) < len(header):
        hint = "; separate the columns by commas" if any(";" in name for name in header) else ""
        raise ReadError(
            f"{path}:1: expected distinct column names with 'file' among them, "
            f"got {', '.join(header)[:200]!r}{hint}"
        )
    rows: list[_ListRow] = []
    refused: list[tuple[Path, str]] = []
    taken: set[Path] = set()
    for number, values in lines:
        cells = dict(zip(header, (value.strip() for value in values), strict=False))
        file, where = path.parent / cells.get("file", ""), f"{path.name}:{number}"
        reason = _find_fault(path.parent, file, taken)
        if len(values) != len(header):
            reason = f"expected {len(header)} columns, got {len(values)}"
        if reason:
            refused.append((file, f"{where}: {reason}"))
        else:
            taken.add(file.with_suffix(""))
            rows.append(_ListRow(where, file, cells))
    return rows, refused


def _find_fault(folder: Path, path: Path, taken: set[Path]) -> str:
    if path == folder:
        return "the row names no file"
    if "\0" in str(path) or not path.resolve().is_relative_to(folder.resolve()):
        return "the file is outside of the folder"
    if path.suffix not in _CLIP_SUFFIXES:
        return f"expected a file of type {', '.join(_CLIP_SUFFIXES)}"
    if not path.is_file():
        return "the file does not exist"
    return "a clip of this name is already listed" if path.with_suffix("") in taken else ""


def _find_classes(folder: Path, labels: Iterable[str]) -> tuple[str, ...] | None:
    if (folder / CLASSES_FILE).is_file():
        return _read_class_file(folder / CLASSES_FILE)
    distinct = sorted({label for label in labels if label})
    numbers = [label for label in distinct if _INTEGER.fullmatch(label)]
    names = [label for label in distinct if not _INTEGER.fullmatch(label)]
    if names and numbers:
        raise ReadError(
            f"{folder / CLIPS_FILE}: labels are names ({names[0]!r}) and numbers ({numbers[0]!r}); "
            f"use one kind, or list the class names in {CLASSES_FILE}, one per line"
        )
    return tuple(names) or None


def _read_class_file(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ReadError(f"{path}: cannot be read as class names: {error}") from error
    names = [line.strip() for line in lines if line.strip()]
    repeated = [name for index, name in enumerate(names) if name in names[:index]]
    if not names or repeated:
        got = f"{repeated[0]!r} twice" if repeated else "none"
        raise ReadError(f"{path}: expected distinct class names, one per line, got {got}")
    return tuple(names)


def _parse_label(where: str, text: str, classes: tuple[str, ...] | None) -> int | None:
    if not text:
        return None
    if classes is not None and text in classes:
        return classes.index(text)
    if not _INTEGER.fullmatch(text):
        raise ReadError(f"{where}: {CLASSES_FILE} does not list the label {text!r}")
    label = int(text)
    if label < 0 or (classes is not None and label >= len(classes)):
        limit = f" and below {len(classes)}" if classes else ""
        raise ReadError(f"{where}: expected a label of 0 or more{limit}, got {label}")
    return label


def _convert_column(cells: Sequence[str]) -> list[MetaValue]:
    """Return a column as integers, else as real numbers, else as text; None for empty cells."""
    filled = [cell for cell in cells if cell]
    # 007 stays text: as a number it would lose its zeros
    if all(_PLAIN_INTEGER.fullmatch(cell) for cell in filled):
        return [int(cell) if cell else None for cell in cells]
    if all(_REAL.fullmatch(cell) and not re.match(r"-?0\d", cell) for cell in filled):
        return [float(cell) if cell else None for cell in cells]
    return [cell or None for cell in cells]


READER = Reader(
    name="arrays",
    summary="your own .npy, .npz or .csv files, labeled by clips.csv",
    scan=_scan,
    read=_read,
    matches=_matches,
    options={
        "layout": "a registered layout, or a layout file (default: layout.yaml beside the clips)",
        "fps": "frames per second of clips that do not state it",
        "zeros_absent": "false if a joint at exactly zero was tracked (default true)",
        "confidence": "true if the last coordinate is a confidence",
        **SPACE_OPTIONS,
    },
    protocols=("holdout", "official"),
)
