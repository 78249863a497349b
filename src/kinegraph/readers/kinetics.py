"""Reads Kinetics-Skeleton: one JSON file of OpenPose poses per video clip, with a label file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from kinegraph.clips.clip import Clip
from kinegraph.errors import ReadError
from kinegraph.readers.formats.json_file import (
    MAX_FRAMES,
    describe,
    mask_unscored_joints,
    parse_numbers,
    read_json,
)
from kinegraph.readers.formats.raw_file import read_head
from kinegraph.readers.person_selection import Poses, select_poses, validate_selection
from kinegraph.readers.reader import Reader, ReadPlan, ReadTask
from kinegraph.skeleton.layouts import get_layout

FPS = 30.0
"""The videos were resampled to 30 frames a second (ST-GCN, section 4.1)."""

_LAYOUT = "openpose18"
_LABEL_FILES = "*_label.json"
_MAX_CLASSES = 100_000
_SPLITS = {"kinetics_train": "train", "kinetics_val": "test"}
_FIRST_BYTES = 4096


# --------------------------------------------------------------------- scan


def _scan(
    source: Path | str,
    *,
    labels: Path | str | None = None,
    max_persons: int = 2,
    tracking: str = "none",
    candidates: int = 5,
) -> ReadPlan:
    validate_selection(max_persons, candidates, tracking)
    paths = _clip_files(Path(source))
    entries = {
        folder: _label_entries(_label_file(folder, labels))
        for folder in sorted({path.parent for path in paths})
    }
    tasks: dict[str, ReadTask] = {}
    refused: list[tuple[Path, str]] = []
    for path in paths:
        entry = entries[path.parent].get(path.stem, {})
        if entry.get("has_skeleton") is False:
            refused.append((path, "the label file says that this clip has no skeleton"))
        elif path.stem in tasks:
            refused.append((path, f"another file has this name: {tasks[path.stem].path}"))
        else:
            tasks[path.stem] = ReadTask(path, _facts(path, entry))
    names = [entry for by_id in entries.values() for entry in by_id.values()]
    return ReadPlan(tuple(tasks.values()), get_layout(_LAYOUT), _classes(names), tuple(refused))


def _clip_files(source: Path) -> list[Path]:
    found = [source] if source.is_file() else source.rglob("*.json") if source.is_dir() else []
    paths = sorted(path for path in found if not path.match(_LABEL_FILES))
    if not any(map(_matches, paths)):
        raise ReadError(
            f"{source}: expected a folder of Kinetics-Skeleton JSON files, one a clip, found none"
        )
    return paths


def _label_file(folder: Path, labels: Path | str | None) -> Path | None:
    """The file that was asked for, or the one in this folder or beside it."""
    if labels is not None:
        return Path(labels)
    beside = folder.absolute().parent / f"{folder.absolute().name}_label.json"
    inside = sorted(folder.glob(_LABEL_FILES))
    return inside[0] if inside else (beside if beside.is_file() else None)


def _label_entries(path: Path | None) -> dict[str, dict[str, Any]]:
    """Clip id -> {"has_skeleton", "label", "label_index"}, checked."""
    if path is None:
        return {}
    entries = read_json(path)
    if not isinstance(entries, dict):
        raise ReadError(f"{path}: expected labels by clip id, got {describe(entries)}")
    for name, entry in entries.items():
        if not isinstance(entry, dict) or not _is_label(entry.get("label_index")):
            raise ReadError(f"{path}: expected clip {name!r} to have a label_index of 0 or more")
    return entries


def _is_label(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < _MAX_CLASSES


def _facts(path: Path, entry: Mapping[str, Any]) -> dict[str, Any]:
    facts: dict[str, Any] = {"label": entry.get("label_index")}
    if path.parent.name in _SPLITS:
        facts["split"] = _SPLITS[path.parent.name]
    return facts


def _classes(entries: list[dict[str, Any]]) -> tuple[str, ...] | None:
    """Names by label; a label that no clip of the label file has is called by its number."""
    names: dict[int, str] = {}
    for entry in entries:
        index, name = entry["label_index"], str(entry.get("label"))
        if names.setdefault(index, name) != name:
            raise ReadError(
                f"the label file calls label {index} both {names[index]!r} and {name!r}; "
                "train and val must use the same numbers"
            )
    return tuple(names.get(i, f"class {i}") for i in range(max(names) + 1)) if names else None


# --------------------------------------------------------------------- read


def _read(
    task: ReadTask,
    *,
    labels: Path | str | None = None,
    max_persons: int = 2,
    tracking: str = "none",
    candidates: int = 5,
) -> Iterator[Clip | ReadError]:
    validate_selection(max_persons, candidates, tracking)
    path, layout = task.path, get_layout(_LAYOUT)
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("data"), list):
        raise ReadError(f'{path}: expected {{"data": [frames]}}, got {describe(content)}')
    frames = _frames(path, content["data"])
    persons = select_poses(
        frames,
        max(frames, default=0) + 1,
        layout.num_joints,
        max_persons=max_persons,
        candidates=candidates,
        tracking=tracking,
    )
    if not len(persons):
        raise ReadError(f"{path}: expected a person in at least one frame, found none")
    facts = {key: value for key, value in task.info.items() if key != "label"}
    yield Clip(
        persons[..., :2],
        layout,
        confidence=persons[..., 2],
        label=_label(path, content.get("label_index"), task.info.get("label")),
        id=path.stem,
        fps=FPS,
        meta=facts,
    )


def _frames(path: Path, data: list[Any]) -> dict[int, list[Poses]]:
    frames: dict[int, list[Poses]] = {}
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
            raise ReadError(f"{where}: frame_index {index} comes a second time")
        frames[index] = [
            _pose(person, f"{where}: skeleton[{m}]") for m, person in enumerate(frame["skeleton"])
        ]
    return frames


def _pose(person: object, where: str) -> Poses:
    if not isinstance(person, dict):
        raise ReadError(f"{where}: expected pose and score, got {describe(person)}")
    xy = parse_numbers(person.get("pose"), f"{where}: pose")
    score = parse_numbers(person.get("score"), f"{where}: score")
    joints = get_layout(_LAYOUT).num_joints
    if len(xy) != 2 * joints or len(score) != joints:
        raise ReadError(
            f"{where}: expected {2 * joints} coordinates and {joints} scores, "
            f"got {len(xy)} and {len(score)}"
        )
    return mask_unscored_joints(np.reshape(xy, (joints, 2)), score)


def _label(path: Path, own: object, listed: int | None) -> int | None:
    """The clip's own label, which must not contradict the label file."""
    if own is None or own == -1:
        return listed
    if not _is_label(own):
        raise ReadError(f"{path}: expected label_index to be 0 or more, got {describe(own)}")
    if listed is not None and own != listed:
        raise ReadError(f"{path}: label_index is {own}, but the label file says {listed}")
    return own


def _matches(path: Path) -> bool:
    if path.suffix != ".json":
        return False
    return b'"frame_index"' in read_head(path, _FIRST_BYTES)


READER = Reader(
    name="kinetics",
    summary="Kinetics-Skeleton: one JSON of OpenPose poses a clip (18 joints, frame = 1 x 1)",
    scan=_scan,
    read=_read,
    matches=_matches,
    options={
        "labels": "label file; by default the *_label.json in the clips' folder or beside it",
        "max_persons": "the most persons of a clip (default 2)",
        "tracking": "none: each frame's best-scored persons; match: linked over time "
        "(default none, as published)",
        "candidates": "persons of a frame that are looked at, in file order (default 5)",
    },
    dataset_only=frozenset({"labels"}),
    protocols=("official", "holdout"),
)
