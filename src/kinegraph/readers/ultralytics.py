"""Reader of the poses of Ultralytics YOLO: label files, JSON of results, and saved arrays.

``save_txt=True`` writes labels/NAME_12.txt, a line ``class x y w h`` per person, then x, y and
confidence of each joint as shares of the image, then the confidence of the box (``save_conf``) and
the track id (``track``). ``results.to_json()`` gives a list of persons per frame with x, y and
visible; ``results.keypoints.data`` gives arrays.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from kinegraph.errors import ReadError
from kinegraph.plain_text import PlainTextError, parse_json
from kinegraph.readers.formats.json_file import (
    describe,
    mask_unscored_joints,
    parse_numbers,
    read_json,
)
from kinegraph.readers.formats.numpy_file import is_damaged_npz, read_npz_names, to_float32
from kinegraph.readers.formats.raw_file import read_head
from kinegraph.readers.formats.text_lines import read_lines
from kinegraph.readers.person_selection import PoseArray
from kinegraph.readers.pose_arrays import SCORE_ARRAYS, find_point_names, open_pose_arrays
from kinegraph.readers.pose_files import (
    FRAME_NUMBER,
    FramePoses,
    PoseFormat,
    PoseVideo,
    VideoFiles,
    list_pose_files,
    name_videos,
    number_files,
)
from kinegraph.skeleton.layout import SkeletonLayout

_NUM_JOINTS = 17  # of the released pose models
_BOX_NUMBERS = 5  # class, x, y, width and height of the box
_MAX_EXTRA = 2  # confidence of the box, track id
_PERSON = re.compile(rb'\\?"keypoints\\?"\s*:\s*\{\s*(\\n\s*)?\\?"x\\?"')
_LIST_START = re.compile(rb"\s*\[\s*(\[|\"|\{)")


def find_videos(source: Path) -> list[VideoFiles]:
    """Return the videos of a source: label files by their prefix, .json and .npz files.

    A folder of .json files of one frame each is one video.
    """
    expected = "labels (.txt), JSON or arrays (.npz) of Ultralytics"
    paths = list_pose_files(source, _is_usable, expected)
    if source.is_file():
        return name_videos(source, paths)
    labels: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    others: list[Path] = []
    for path in paths:
        if path.suffix.lower() == ".txt":
            labels[path.parent, _prefix(path)].append(path)
        else:
            others.append(path)
    single = {path.parent for path in others if _is_one_frame(path)}
    others = sorted([*single, *(path for path in others if path.parent not in single)])
    videos = [_name_labels(source, folder, prefix) for folder, prefix in sorted(labels)]
    return videos + (name_videos(source, others) if others else [])


def _is_usable(path: Path) -> bool:
    """Return whether a file is of this format, or a label file of another number of joints."""
    if path.suffix.lower() == ".txt" and FRAME_NUMBER.search(path.stem):
        return not read_head(path, 1).strip() or read_head(path, 1).isdigit()
    return _matches(path) or is_damaged_npz(path)


def _prefix(path: Path) -> str:
    """Return a file's name with # for its last number, the same for all frames of a video."""
    found = list(FRAME_NUMBER.finditer(path.stem))
    return path.stem[: found[-1].start()] + "#" + path.stem[found[-1].end() :] if found else ""


def _name_labels(source: Path, folder: Path, prefix: str) -> VideoFiles:
    own = prefix.replace("#", "").strip("_-. ")
    parts = [part for part in folder.relative_to(source).parts if part != "labels"]
    name = "/".join([*parts, *([own] if own else [])])
    return VideoFiles(folder, name or folder.resolve().name, prefix)


def _is_one_frame(path: Path) -> bool:
    """Return whether a .json file is a list of persons, as ``to_json`` gives it for one frame."""
    match = _LIST_START.match(read_head(path, 64))
    return path.suffix.lower() == ".json" and bool(match and match[1] == b"{")


def open_video(files: VideoFiles, layout: SkeletonLayout | None = None) -> PoseVideo:
    """Return the video of label files of one prefix, of a .json file or folder, or of a .npz file.

    Raises:
        ReadError: a file is not of this form, or does not fit the number of joints.
    """
    path = files.path
    if path.suffix.lower() == ".npz":
        return open_pose_arrays(path)
    if path.suffix.lower() == ".json":
        return PoseVideo.from_frames(_parse_results(read_json(path), path))
    num_joints = layout.num_joints if layout else _NUM_JOINTS
    if path.is_file():
        return PoseVideo.from_frames({0: _read_labels(path, num_joints)}, unit="share")
    if not files.prefix:
        frames = number_files(path)
        return PoseVideo(sorted(frames), lambda n: _read_persons(frames[n]))
    labels = {
        int(FRAME_NUMBER.findall(file.stem)[-1]): file
        for file in path.iterdir()
        if file.suffix.lower() == ".txt" and _prefix(file) == files.prefix
    }
    return PoseVideo(sorted(labels), lambda n: _read_labels(labels[n], num_joints), unit="share")


def _read_labels(path: Path, num_joints: int) -> FramePoses:
    """Return the persons of a label file."""
    poses, ids = [], []
    for where, line in read_lines(path):
        pose, track = _parse_label_line(line.split(), num_joints, where)
        poses.append(pose)
        ids.append(track)
    return FramePoses(poses, ids)


def _parse_label_line(
    words: list[str], num_joints: int, where: str
) -> tuple[PoseArray, int | None]:
    try:
        values = to_float32(np.array([float(word) for word in words], dtype=np.float64))
    except ValueError as error:
        raise ReadError(f"{where}: expected numbers: {error}") from error
    rest = len(words) - _BOX_NUMBERS
    channels = next((d for d in (3, 2) if 0 <= rest - num_joints * d <= _MAX_EXTRA), 0)
    if not channels or not np.isfinite(values).all():
        raise ReadError(
            f"{where}: expected class, x, y, w, h, then 2 or 3 finite numbers for each of "
            f"{num_joints} joints, got {len(words)} numbers; name the layout with --layout"
        )
    end = _BOX_NUMBERS + num_joints * channels
    points = values[_BOX_NUMBERS:end].reshape(num_joints, channels)
    seen = (points[:, :2] != 0).any(axis=1)
    score = points[:, 2] if channels == 3 else seen.astype(np.float32)
    last = words[-1] if len(words) > end else ""
    # with one more number: a confidence has a decimal point, an id has none
    return mask_unscored_joints(points[:, :2], score), int(last) if last.isdecimal() else None


def _read_persons(path: Path) -> FramePoses:
    return _parse_persons(_unpack(read_json(path), f"{path}"), f"{path}")


def _parse_results(content: Any, path: Path) -> dict[int, FramePoses]:
    """Return the frames of a list of frames, or of the persons of one frame."""
    content = _unpack(content, f"{path}")
    if isinstance(content, dict) and all(key.isdecimal() for key in content):
        listed = {int(key): frame for key, frame in content.items()}
    elif isinstance(content, list):
        one_frame = bool(content) and isinstance(content[0], dict)
        listed = {0: content} if one_frame else dict(enumerate(content))
    else:
        raise ReadError(f"{path}: expected a list of frames, got {describe(content)}")
    where = {number: f"{path}: frame {number}" for number in listed}
    return {n: _parse_persons(_unpack(f, where[n]), where[n]) for n, f in listed.items()}


def _unpack(content: Any, where: str) -> Any:
    """Return what JSON text within JSON holds: ``to_json`` returns text."""
    if not isinstance(content, str):
        return content
    try:
        return parse_json(content)
    except PlainTextError as error:
        raise ReadError(f"{where}: {error}") from error


def _parse_persons(persons: Any, where: str) -> FramePoses:
    if not isinstance(persons, list):
        raise ReadError(f"{where}: expected a list of persons, got {describe(persons)}")
    poses, ids = [], []
    for place, person in enumerate(persons):
        at = f"{where}: person {place}"
        keypoints = person.get("keypoints") if isinstance(person, dict) else None
        if not isinstance(keypoints, dict):
            raise ReadError(f"{at}: expected keypoints of x, y and visible, got {describe(person)}")
        x, y = (parse_numbers(keypoints.get(key), f"{at}: {key}") for key in ("x", "y"))
        if len(x) != len(y):
            raise ReadError(f"{at}: expected as many y as x, got {len(y)} and {len(x)}")
        points = np.stack([x, y], axis=1)
        score = (points != 0).any(axis=1).astype(np.float32)
        if "visible" in keypoints:
            score = parse_numbers(keypoints["visible"], f"{at}: visible")
        if len(score) != len(x):
            raise ReadError(f"{at}: expected {len(x)} visible, got {len(score)}")
        poses.append(mask_unscored_joints(points, score))
        track = person.get("track_id")
        ids.append(int(track) if isinstance(track, int | float) and track == track else None)
    return FramePoses(poses, ids)


def _matches(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix == ".npz":
        names = read_npz_names(path)
        return bool(find_point_names(names)) and not any(name in names for name in SCORE_ARRAYS)
    if suffix == ".json":
        head = read_head(path)
        return bool(_LIST_START.match(head) or head.lstrip()[:1] == b"{") and bool(
            _PERSON.search(head)
        )
    return suffix == ".txt" and _is_label_line(read_head(path))


def _is_label_line(head: bytes) -> bool:
    """Return whether the first line is that of a person: class, box, then joints, as shares."""
    words = head.partition(b"\n")[0].decode("ascii", errors="replace").split()
    fits = [0 <= len(words) - _BOX_NUMBERS - _NUM_JOINTS * d <= _MAX_EXTRA for d in (2, 3)]
    try:
        values = [float(word) for word in words]
    except ValueError:
        return False
    return any(fits) and words[0].isdecimal() and all(0 <= v <= 1 for v in values[1:_BOX_NUMBERS])


ULTRALYTICS = PoseFormat(
    name="ultralytics",
    summary="poses of Ultralytics YOLO: label files, JSON of results, or .npz of keypoints",
    matches=_matches,
    find_videos=find_videos,
    open_video=open_video,
)
READER = ULTRALYTICS.make_reader()
