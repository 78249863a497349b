"""Reader of Kinetics-Skeleton: one JSON file of OpenPose poses per clip, with a label file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from kinegraph.errors import ReadError
from kinegraph.readers.formats.json_file import (
    MAX_FRAMES,
    describe,
    mask_unscored_joints,
    parse_numbers,
    read_json,
)
from kinegraph.readers.formats.raw_file import read_head
from kinegraph.readers.person_selection import (
    PoseArray,
    PoseSelection,
    limit_scores,
    selection_options,
)
from kinegraph.readers.reader import Reader, ReadPlan, ReadResults, ReadTask
from kinegraph.skeleton.layouts import get_layout
from kinegraph.skeleton.space import IMAGE_SHARES

_FPS = 30.0  # the videos were resampled to 30 frames/s (ST-GCN, section 4.1)
_LAYOUT = "openpose18"
_NUM_JOINTS = 18
_LABEL_FILES = "*_label.json"
_MAX_CLASSES = 100_000
_UNLABELED = -1  # as ST-GCN's own tools write
_SPLIT_BY_FOLDER = {"kinetics_train": "train", "kinetics_val": "test"}


def _scan(
    source: Path,
    *,
    labels: Path | str | None = None,
    max_persons: int = 2,
    tracking: str = "none",
    candidates: int = 5,
) -> ReadPlan:
    selection = PoseSelection(max_persons, tracking, candidates)
    paths = _list_clip_files(source)
    entries = {
        folder: _read_label_entries(_find_label_file(folder, labels))
        for folder in sorted({path.parent for path in paths})
    }
    tasks: dict[str, ReadTask] = {}
    refused: list[tuple[Path, str]] = []
    for path in paths:
        entry = entries[path.parent].get(path.stem, {})
        split = _SPLIT_BY_FOLDER.get(path.parent.name)
        if entry.get("has_skeleton") is False:
            refused.append((path, "this clip has no skeleton, according to the label file"))
        elif path.stem in tasks:
            refused.append((path, f"another file has this name: {tasks[path.stem].path}"))
        else:
            facts = {"label": entry.get("label_index"), "meta": {"split": split} if split else {}}
            tasks[path.stem] = ReadTask(path, {**facts, "selection": selection})
    names = [entry for by_id in entries.values() for entry in by_id.values()]
    layout = get_layout(_LAYOUT)
    return ReadPlan(tuple(tasks.values()), layout, _class_names(names), tuple(refused))


def _list_clip_files(source: Path) -> list[Path]:
    found = [source] if source.is_file() else source.rglob("*.json") if source.is_dir() else []
    paths = sorted(path for path in found if not path.match(_LABEL_FILES))
    if not any(map(_matches, paths)):
        raise ReadError(
            f"{source}: expected a folder of Kinetics-Skeleton JSON files, one per clip, found none"
        )
    return paths


def _find_label_file(folder: Path, labels: Path | str | None) -> Path | None:
    if labels is not None:
        return Path(labels)
    beside = folder.absolute().parent / f"{folder.absolute().name}_label.json"
    inside = sorted(folder.glob(_LABEL_FILES))
    return inside[0] if inside else (beside if beside.is_file() else None)


def _read_label_entries(path: Path | None) -> dict[str, dict[str, Any]]:
    """Return clip id -> {"has_skeleton", "label", "label_index"}, checked."""
    if path is None:
        return {}
    entries = read_json(path)
    if not isinstance(entries, dict):
        raise ReadError(f"{path}: expected labels by clip id, got {describe(entries)}")
    for name, entry in entries.items():
        index = entry.get("label_index") if isinstance(entry, dict) else None
        if index != _UNLABELED and not _is_label(index):
            raise ReadError(
                f"{path}: expected clip {name!r} to have a label_index of 0 or more, or -1 if it "
                f"has no label, got {describe(index)}"
            )
    return {
        name: {**entry, "label_index": None} if entry.get("label_index") == _UNLABELED else entry
        for name, entry in entries.items()
    }


def _is_label(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < _MAX_CLASSES


def _class_names(entries: list[dict[str, Any]]) -> tuple[str, ...] | None:
    """Return the names by label; a label without a clip is named by its number."""
    names: dict[int, str] = {}
    for entry in entries:
        index, name = entry.get("label_index"), str(entry.get("label"))
        if index is None:
            continue
        if names.setdefault(index, name) != name:
            raise ReadError(
                f"the label file calls label {index} both {names[index]!r} and {name!r}; "
                "train and val must use the same numbers"
            )
    return tuple(names.get(i, f"class {i}") for i in range(max(names) + 1)) if names else None


def _read(task: ReadTask) -> ReadResults:
    path = task.path
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("data"), list):
        raise ReadError(f'{path}: expected {{"data": [frames]}}, got {describe(content)}')
    frames = _parse_frames(path, content["data"])
    persons = task.info["selection"].select(frames, max(frames, default=0) + 1, _NUM_JOINTS)
    if not len(persons):
        raise ReadError(f"{path}: expected a person in at least one frame, found none")
    label = _check_label(path, content.get("label_index"), task.info.get("label"))
    confidence, notes = limit_scores(persons[..., 2])
    facts = {"confidence": confidence, "label": label, "fps": _FPS, "space": READER.space}
    yield task.make_clip(persons[..., :2], _LAYOUT, notes=notes, **facts)


def _parse_frames(path: Path, data: list[Any]) -> dict[int, list[PoseArray]]:
    frames: dict[int, list[PoseArray]] = {}
    for place, frame in enumerate(data):
        where = f"{path}: data[{place}]"
        if not isinstance(frame, dict) or not isinstance(frame.get("skeleton"), list):
            raise ReadError(f"{where}: expected frame_index and skeleton, got {describe(frame)}")
        index = frame.get("frame_index")
        if type(index) is not int or not 0 <= index < MAX_FRAMES:
            raise ReadError(
                f"{where}: expected frame_index from 0 to {MAX_FRAMES - 1}, got {describe(index)}"
            )
        if index in frames:
            raise ReadError(f"{where}: frame_index {index} occurs a second time")
        frames[index] = [
            _parse_pose(person, f"{where}: skeleton[{m}]")
            for m, person in enumerate(frame["skeleton"])
        ]
    return frames


def _parse_pose(person: object, where: str) -> PoseArray:
    if not isinstance(person, dict):
        raise ReadError(f"{where}: expected pose and score, got {describe(person)}")
    xy = parse_numbers(person.get("pose"), f"{where}: pose")
    score = parse_numbers(person.get("score"), f"{where}: score")
    if len(xy) != 2 * _NUM_JOINTS or len(score) != _NUM_JOINTS:
        raise ReadError(
            f"{where}: expected {2 * _NUM_JOINTS} coordinates and {_NUM_JOINTS} scores, "
            f"got {len(xy)} and {len(score)}"
        )
    return mask_unscored_joints(np.reshape(xy, (_NUM_JOINTS, 2)), score)


def _check_label(path: Path, stated: object, listed: int | None) -> int | None:
    if stated in (None, _UNLABELED):
        return listed
    if not _is_label(stated):
        raise ReadError(f"{path}: expected label_index to be 0 or more, got {describe(stated)}")
    if listed not in (None, stated):
        raise ReadError(f"{path}: label_index is {stated}, but {listed} in the label file")
    return stated


def _matches(path: Path) -> bool:
    return path.suffix == ".json" and b'"frame_index"' in read_head(path)


READER = Reader(
    name="kinetics",
    summary="Kinetics-Skeleton: one JSON of OpenPose poses per clip (18 joints, frame = 1 x 1)",
    scan=_scan,
    read=_read,
    matches=_matches,
    options={
        "labels": "label file; by default the *_label.json in the clips' folder or beside it",
        **selection_options("none, as published", 5),
    },
    dataset_only=frozenset({"labels"}),
    protocols=("official", "holdout"),
    space=IMAGE_SHARES,
)
