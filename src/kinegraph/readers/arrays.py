"""Reader of a user's own data: a folder of .npy, .npz or .csv files, labeled by clips.csv."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.body_checks import describe_misfit
from kinegraph.errors import ClipError, ReadError
from kinegraph.readers.array_axes import arrange_axes
from kinegraph.readers.clip_list import CLIPS_FILE, find_clip_list, name_clip, read_clip_list
from kinegraph.readers.deeplabcut import is_dlc_table, read_dlc_table
from kinegraph.readers.formats.numpy_file import (
    open_npy,
    read_npy_shape,
    read_npz,
    read_npz_names,
    to_float32,
)
from kinegraph.readers.formats.table_file import open_csv
from kinegraph.readers.frame_columns import list_columns
from kinegraph.readers.frame_table import read_frame_table
from kinegraph.readers.named_points import match_layout
from kinegraph.readers.prepared import cap_scores, hide_zeros, keep_origin
from kinegraph.readers.reader import Reader, ReadPlan, ReadResults, ReadTask, check_fps
from kinegraph.readers.space_options import SPACE_OPTIONS, SpaceOptions
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import get_layout, list_layouts, read_layout
from kinegraph.skeleton.space import Space

NUM_SAMPLED_FILES = 8  # files from which the space of all is guessed

_CLIP_SUFFIXES = (".npy", ".npz", ".csv")
_LAYOUT_SUFFIXES = (".yaml", ".yml", ".json")
_JOINTS_KEYS = (
    "joints", "keypoints", "keypoint", "poses", "pose", "skeletons", "skeleton", "landmarks",
    "positions", "coords", "coordinates", "points", "kpts", "xy", "xyz", "data", "arr_0",
)  # fmt: skip
_SCORE_KEYS = (
    "confidence", "confidences", "conf", "scores", "score", "keypoint_scores", "keypoint_score",
    "visibility", "likelihood",
)  # fmt: skip
_FPS_KEYS = ("fps", "frame_rate", "framerate")


@dataclass(frozen=True)
class FileContent:
    """The joints of a file, and what it states of them.

    Attributes:
        joints: (M, T, V, D), zeros not yet masked.
        confidence: (M, T, V) in [0, 1], or None.
        fps: the frame rate that the file states, or None.
        notes: sentences about what was guessed, changed or left out.
    """

    joints: NDArray[np.float32]
    confidence: NDArray[np.float32] | None
    fps: float | None
    notes: tuple[str, ...]


def _scan(
    source: Path,
    layout: str | SkeletonLayout = "",
    fps: float | None = None,
    zeros_absent: bool = True,
    confidence: bool | None = None,
    **stated: str,
) -> ReadPlan:
    """Scan a folder of array files, or one file.

    Without ``clips.csv`` (see `read_clip_list`) every array file below the folder is a clip
    without a label. ``layout`` names a registered layout or a layout file; the default is the
    file ``layout.yaml`` (.yml, .json) beside the clips.
    """
    folder = source.parent if source.is_file() else source
    chosen = _choose_layout(folder, layout)
    check_fps(fps)
    clip_list = find_clip_list(source)
    if clip_list is not None:
        plan = read_clip_list(clip_list, chosen, _CLIP_SUFFIXES)
    else:
        plan = _list_clips(source, chosen)
    space = _guess_space([task.path for task in plan.tasks], chosen, confidence, stated)
    options = {"layout": chosen, "fps": fps, "zeros_absent": zeros_absent, "confidence": confidence}
    tasks = []
    for task in plan.tasks:
        name = name_clip(folder, task.path)
        tasks.append(ReadTask(task.path, {"id": name, **task.info, **options, **space}))
    return replace(plan, tasks=tasks)


def _read(task: ReadTask) -> ReadResults:
    layout, listed_fps = task.info["layout"], task.info.get("meta", {}).get("fps")
    try:
        check_fps(listed_fps)
        content = _read_content(task.path, layout, task.info["confidence"])
        joints = content.joints
        if task.info["zeros_absent"]:
            joints = keep_origin(hide_zeros(joints), layout, task.info.get("space", Space()))
        joints, notes = _mask_placeholders(joints)
        if np.isnan(joints).any(axis=-1).all():
            raise ReadError("no joint was seen in any frame")
        fps = content.fps or (listed_fps and float(listed_fps)) or task.info["fps"]
        facts: dict[str, Any] = {"confidence": content.confidence, "fps": fps}
        misfit = describe_misfit(task.make_clip(joints, layout, **facts))
        notes += [*content.notes, *filter(None, [misfit])]
        yield task.make_clip(joints, layout, notes=notes, **facts)
    except (ReadError, ClipError) as error:
        named = str(error).startswith(str(task.path))
        raise ReadError(str(error) if named else f"{task.path}: {error}") from error


def _guess_space(
    paths: Sequence[Path],
    layout: SkeletonLayout,
    confidence: bool | None,
    stated: Mapping[str, str],
) -> dict[str, Space]:
    """Return the space that is stated, or guessed from the first files; {} if none can be read."""
    sample = []
    for path in paths[:NUM_SAMPLED_FILES]:
        try:
            joints = _read_content(path, layout, confidence).joints
        except ReadError:
            continue  # reading that clip reports it
        sample.append(hide_zeros(joints).reshape(-1, *joints.shape[-2:]))
    same = [joints for joints in sample if joints.shape[-1] == sample[0].shape[-1]]
    return {"space": SpaceOptions(**stated).resolve(np.concatenate(same), layout)} if same else {}


def _mask_placeholders(joints: NDArray[np.float32]) -> tuple[NDArray[np.float32], list[str]]:
    """Hide joints whose coordinates are all exactly -1, as some tools write missing ones."""
    placeholder = (joints == -1).all(axis=-1, keepdims=True)
    if not placeholder.any():
        return joints, []
    masked = np.where(placeholder, np.float32(np.nan), joints)
    return masked, ["joints whose coordinates are all -1 are taken for missing [guess]"]


def _list_clips(source: Path, layout: SkeletonLayout) -> ReadPlan:
    """Return the array files of a source without clips.csv, and those whose name is taken."""
    files = [source] if source.is_file() else sorted(source.rglob("*"))
    files = [f for f in files if f.suffix.lower() in _CLIP_SUFFIXES and f.is_file()]
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


def _read_content(path: Path, layout: SkeletonLayout, confidence: bool | None) -> FileContent:
    """Return the joints of a file, in the layout.

    Raises:
        ReadError: the file cannot be read, or does not fit the layout.
    """
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return _check_arrays(open_npy(path), None, None, layout, confidence)
    if suffix == ".npz":
        joints, scores, fps, remarks = _read_npz_arrays(path)
        return _check_arrays(joints, scores, fps, layout, confidence, remarks)
    if suffix != ".csv":
        raise ReadError(f"{path}: expected a file of type {', '.join(_CLIP_SUFFIXES)}")
    if is_dlc_table(path):
        return _read_dlc_content(path, layout, confidence)
    table = read_frame_table(path, layout, confidence)
    score, notes = _cap_any(table.confidence)
    return FileContent(table.joints, score, table.fps, (*table.notes, *notes))


def _read_dlc_content(path: Path, layout: SkeletonLayout, confidence: bool | None) -> FileContent:
    tracks = read_dlc_table(path)
    _, order = match_layout(tracks.names, layout, path)
    left_out = [name for i, name in enumerate(tracks.names) if i not in order]
    score = None if tracks.confidence is None else tracks.confidence[..., order]
    score, notes = _cap_any(None if confidence is False else score)
    if left_out:
        notes += (f"left out: {list_columns(left_out)}",)
    return FileContent(tracks.positions[..., order, :], score, tracks.fps, notes)


def _read_npz_arrays(
    path: Path,
) -> tuple[NDArray[Any], NDArray[Any] | None, float | None, list[str]]:
    """Return the arrays of joints and of confidence, the frame rate, and notes."""
    names = {name.lower(): name for name in read_npz_names(path) or read_npz(path, _JOINTS_KEYS)}
    score = next((names[key] for key in _SCORE_KEYS if key in names), None)
    rate = next((names[key] for key in _FPS_KEYS if key in names), None)
    joints = next((names[key] for key in _JOINTS_KEYS if key in names), None)
    others = [name for name in names.values() if name not in (joints, score, rate)]
    notes = []
    if joints is None and len(others) == 1:
        joints = others.pop()
        notes.append(f"the array {joints!r} is taken for the joints [guess]")
    if joints is None:
        found = ", ".join(sorted(names.values())[:10]) or "nothing"
        raise ReadError(f"{path}: expected an array named 'joints', found {found}")
    if others:
        notes.append(f"left out: {', '.join(others[:10])}")
    arrays = read_npz(path, [name for name in (joints, score, rate) if name])
    stated = arrays[rate].ravel().tolist() if rate else []
    if rate and (len(stated) != 1 or not 0 < stated[0] < math.inf):
        raise ReadError(f"{path}: expected fps to be one number above 0")
    fps = float(stated[0]) if stated else None
    return arrays[joints], arrays[score] if score else None, fps, notes


def _check_arrays(
    points: NDArray[Any],
    score: NDArray[Any] | None,
    fps: float | None,
    layout: SkeletonLayout,
    confidence: bool | None,
    notes: Iterable[str] = (),
) -> FileContent:
    if confidence and score is not None:
        raise ReadError("the file has an array of scores, so leave out the option confidence")
    arranged, axes_notes = arrange_axes(points, layout, bool(confidence))
    values = to_float32(arranged)
    if confidence:
        values, score = values[..., :-1], values[..., -1]
    elif score is not None and confidence is not False:
        score = _arrange_scores(to_float32(score), values.shape[:3])
    capped, score_notes = _cap_any(None if confidence is False else score)
    return FileContent(values, capped, fps, (*notes, *axes_notes, *score_notes))


def _arrange_scores(score: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return scores as (M, T, V), from (T, V) of one person, (T, M, V) or (M, T, V, 1)."""
    if score.ndim == 4 and score.shape[-1] == 1:
        score = score[..., 0]
    if score.shape == shape[1:] and shape[0] == 1:
        return score[None]
    if score.shape != shape and score.shape == (shape[1], shape[0], shape[2]):
        return score.swapaxes(0, 1)
    return score


def _cap_any(
    score: NDArray[np.float32] | None,
) -> tuple[NDArray[np.float32] | None, tuple[str, ...]]:
    return (None, ()) if score is None else cap_scores(score)


def _matches(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix == ".npz":
        names = {name.lower() for name in read_npz_names(path)}
        of_rtmlib = {"keypoints", "scores"} <= names
        of_ultralytics = names == {"keypoints"} or "arr_1" in names
        return bool(names & set(_JOINTS_KEYS)) and not (of_rtmlib or of_ultralytics)
    if suffix == ".csv":
        return path.is_file() and (path.name.lower() == CLIPS_FILE or _is_frame_table(path))
    shape = read_npy_shape(path) or ()
    is_flat = len(shape) == 2 and shape[1] > 9 and 0 in (shape[1] % 2, shape[1] % 3)
    return is_flat or (len(shape) in (3, 4) and shape[-1] in (2, 3, 4))


def _is_frame_table(path: Path) -> bool:
    """Return whether the second line of a file has three numbers or more."""
    try:
        table = open_csv(path, head_only=True)
        lines = [cells for _, cells in table.rows()][:2]
    except ReadError:
        return False
    if is_dlc_table(path) or len(lines) < 2 or len(lines[0]) < 4:
        return False
    return sum(table.parse_number(cell) is not None for cell in lines[1][:-1]) >= 3


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
        "confidence": "true if the last number of a joint is a confidence; false leaves "
        "confidences out (default: by the names of columns and arrays)",
        **SPACE_OPTIONS,
    },
    protocols=("holdout", "official"),
)
