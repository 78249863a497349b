"""Reader of the folders of per-frame JSON files that OpenPose writes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from kinegraph.clips.clip import MetaValue
from kinegraph.errors import ReadError
from kinegraph.readers.formats.json_file import (
    MAX_FRAMES,
    describe,
    mask_unscored_joints,
    parse_numbers,
    read_json,
)
from kinegraph.readers.formats.raw_file import read_head
from kinegraph.readers.formats.table_file import read_csv_rows
from kinegraph.readers.person_selection import PoseArray, PoseSelection, selection_options
from kinegraph.readers.reader import Reader, ReadPlan, ReadResults, ReadTask
from kinegraph.skeleton.layouts import SkeletonLayout, get_layout
from kinegraph.skeleton.space import Space

OPENPOSE_LAYOUTS = {25: "body25", 18: "openpose18", 17: "coco17"}
"""The layout of a pose of so many joints."""

_FRAME_NAME = re.compile(r"(?:.*\D)?(\d{1,12})_keypoints\.json")
_LABEL_FILE = "labels.csv"
_MAX_LABEL = 100_000


def _scan(
    source: Path,
    *,
    width: float | None = None,
    height: float | None = None,
    max_persons: int = 2,
    tracking: str = "match",
    candidates: int = 10,
) -> ReadPlan:
    selection = PoseSelection(max_persons, tracking, candidates)
    facts = {"selection": selection, "meta": _image_size(width, height)}
    clips = _list_clips(source)
    labels, classes = _read_label_file(source / _LABEL_FILE)
    tasks = [ReadTask(path, {**facts, "label": labels.get(_clip_name(path))}) for path in clips]
    return ReadPlan(tasks, _find_layout(source, clips), classes)


def _list_clips(source: Path) -> list[Path]:
    """Return the source if it is a frame or has frames, else its folders that have frames."""
    if source.is_file() or (source.is_dir() and list_frame_files(source)):
        return [source]
    folders = sorted(source.iterdir()) if source.is_dir() else []
    clips = [folder for folder in folders if folder.is_dir() and list_frame_files(folder)]
    if not clips:
        raise ReadError(
            f"{source}: expected a folder of files like video_000000000012_keypoints.json, "
            "or a folder of such folders, found none"
        )
    return clips


def list_frame_files(clip: Path) -> list[tuple[int, Path]]:
    """Return (frame number, file) of each frame of a clip, sorted by frame number."""
    paths = [clip] if clip.is_file() else list(clip.iterdir())
    found = [(_FRAME_NAME.fullmatch(path.name), path) for path in paths]
    return sorted((int(name[1]), path) for name, path in found if name)


def _clip_name(clip: Path) -> str:
    return clip.resolve().name.removesuffix("_keypoints.json")


def _find_layout(source: Path, clips: Sequence[Path]) -> SkeletonLayout:
    for clip in clips:
        for _, path in list_frame_files(clip):
            try:
                poses = read_people(path)
            except ReadError:
                continue  # reading that clip reports it
            if poses:
                return get_layout(OPENPOSE_LAYOUTS[len(poses[0])])
    raise ReadError(f"{source}: expected a person in at least one frame, found none")


def _read_label_file(path: Path) -> tuple[dict[str, int], tuple[str, ...] | None]:
    """Return clip -> label, and the class names; names are numbered in alphabetical order."""
    if not path.is_file():
        return {}, None
    rows: dict[str, str] = {}
    for number, row in read_csv_rows(path):
        cells = [cell.strip() for cell in row]
        if number == 1 and cells == ["clip", "label"]:
            continue
        if len(cells) != 2 or not all(cells):
            raise ReadError(f"{path}:{number}: expected clip,label, got {describe(row)}")
        rows[cells[0]] = cells[1]
    words = sorted({word for word in rows.values() if not word.isdecimal()})
    if not words:
        numbered = {clip: int(word) for clip, word in rows.items() if len(word) < 10}
        if len(numbered) < len(rows) or max(numbered.values(), default=0) >= _MAX_LABEL:
            raise ReadError(f"{path}: expected labels below {_MAX_LABEL}")
        return numbered, None
    if any(word.isdecimal() for word in rows.values()):
        raise ReadError(f"{path}: expected either numbers or names as labels, found both")
    return {clip: words.index(word) for clip, word in rows.items()}, tuple(words)


def _image_size(width: float | None, height: float | None) -> dict[str, MetaValue]:
    """Return the size of the image as meta of a clip; {} if it is not stated."""
    if width is None and height is None:
        return {}
    for name, value in (("width", width), ("height", height)):
        if not isinstance(value, int | float) or not 1 <= value <= 1e6:
            raise ReadError(
                f"expected width and height of the video in pixels, both or none, "
                f"got {name} {value!r}"
            )
    return {"width": width, "height": height}


def _read(task: ReadTask) -> ReadResults:
    frames = _read_frames(task.path)
    counts = sorted({len(pose) for poses in frames.values() for pose in poses})
    if len(counts) != 1:
        raise ReadError(
            f"{task.path}: expected people of one number of joints, "
            f"found {' and '.join(map(str, counts)) or 'no person'}"
        )
    persons = task.info["selection"].select(frames, max(frames) + 1, counts[0])
    if not len(persons):
        raise ReadError(f"{task.path}: expected a person in at least one frame, found none")
    joints, confidence = persons[..., :2], persons[..., 2]
    layout, name = OPENPOSE_LAYOUTS[counts[0]], _clip_name(task.path)
    space = Space("image", unit="pixel")
    yield task.make_clip(joints, layout, confidence=confidence, id=name, space=space)


def _read_frames(clip: Path) -> dict[int, list[PoseArray]]:
    """Return poses by frame, counted from the first file's number; a missing file is a gap."""
    files = list_frame_files(clip)
    if not files:
        raise ReadError(f"{clip}: expected files named like video_000000000012_keypoints.json")
    first, last = files[0][0], files[-1][0]
    if last - first >= MAX_FRAMES:
        raise ReadError(
            f"{clip}: expected at most {MAX_FRAMES} frames, but their numbers run "
            f"from {first} to {last}"
        )
    for (number, path), (following, other) in pairwise(files):
        if number == following:
            raise ReadError(
                f"{clip}: expected one file per frame, but {path.name} and {other.name} are both "
                f"of frame {number}; give each video its own folder"
            )
    return {number - first: read_people(path) for number, path in files}


def read_people(path: Path) -> list[PoseArray]:
    """Return the poses (V, 3) in one frame file, in file order.

    Raises:
        ReadError: the file is not of this form.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("people"), list):
        raise ReadError(f'{path}: expected {{"people": [...]}}, got {describe(content)}')
    return [_parse_pose(p, f"{path}: people[{m}]") for m, p in enumerate(content["people"])]


def _parse_pose(person: Any, where: str) -> PoseArray:
    if not isinstance(person, dict):
        raise ReadError(f"{where}: expected pose_keypoints_2d, got {describe(person)}")
    values = parse_numbers(person.get("pose_keypoints_2d"), f"{where}: pose_keypoints_2d")
    if len(values) not in {3 * count for count in OPENPOSE_LAYOUTS}:
        raise ReadError(
            f"{where}: expected x, y, confidence of 17, 18 or 25 joints, got {len(values)} numbers"
        )
    joints = values.reshape(-1, 3)
    return mask_unscored_joints(joints[:, :2], joints[:, 2])


READER = Reader(
    name="openpose",
    summary="OpenPose output: a folder of *_keypoints.json files per clip (17, 18 or 25 joints)",
    scan=_scan,
    read=_read,
    matches=lambda path: bool(_FRAME_NAME.fullmatch(path.name)) and b'"people"' in read_head(path),
    options={
        "width": "width of the video in pixels, for models of normalized coordinates",
        "height": "height of the video in pixels",
        **selection_options("match", 10),
    },
    protocols=("holdout",),
)
