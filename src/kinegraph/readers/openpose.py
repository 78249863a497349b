"""Reader of per-frame JSON files in the form of OpenPose, under the names of many programs.

OpenPose writes NAME_000000000012_keypoints.json; Pose2Sim, rtmlib and others write the same content
under names such as cam01_000012.json or cam01.0030.json. One file may also hold a list of frames.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kinegraph.errors import ReadError
from kinegraph.readers.formats.json_file import parse_pose, read_json
from kinegraph.readers.formats.raw_file import describe, read_head
from kinegraph.readers.pose_files import (
    FRAME_NAMES,
    FRAME_NUMBER,
    FramePoses,
    PoseFormat,
    PoseVideo,
    VideoFiles,
    number_files,
)
from kinegraph.skeleton.layout import SkeletonLayout

_POSE_KEYS = ("pose_keypoints_2d", "pose_keypoints")  # the second before OpenPose 1.2
_FRAME_START = re.compile(
    rb'\s*(?P<list>\[\s*)?\{\s*"(version|people|part_candidates|canvas_\w+|animals)"'
)


def find_videos(source: Path) -> list[VideoFiles]:
    """Return each folder of frame files, and each file that is a list of frames.

    Raises:
        ReadError: there is none; the message says what is there.
    """
    if source.is_file():
        return [VideoFiles(source, _clip_name(source))]
    folders: dict[Path, list[Path]] = defaultdict(list)
    for path in sorted(source.rglob("*")):
        if path.suffix.lower() == ".json" and path.is_file():
            folders[path.parent].append(path)
    videos = []
    for folder, paths in sorted(folders.items()):
        frames = [path for path in paths if FRAME_NUMBER.search(path.stem)]
        lists = [path for path in paths if _is_list(path)]
        if lists:
            videos += [VideoFiles(path, _relative(path.with_suffix(""), source)) for path in lists]
        elif frames:
            videos.append(VideoFiles(folder, _relative(folder, source)))
    if not videos:
        found = [path for paths in folders.values() for path in paths]
        has = f"has {len(found)} .json files, such as {found[0].name}" if found else "has no .json"
        raise ReadError(
            f"{source}: expected frames named like {FRAME_NAMES}, or folders of them, but it "
            f"{has}, and no name with a frame number"
        )
    return videos


def _relative(path: Path, source: Path) -> str:
    return path.resolve().name if path == source else path.relative_to(source).as_posix()


def _clip_name(path: Path) -> str:
    return path.resolve().name.removesuffix(".json").removesuffix("_keypoints")


def _is_list(path: Path) -> bool:
    match = _FRAME_START.match(read_head(path, 512))
    return bool(match and match["list"])


def open_video(files: VideoFiles, layout: SkeletonLayout | None = None) -> PoseVideo:
    """Return the video of a folder of frames, of one frame, or of a list of frames.

    Raises:
        ReadError: there is no frame file, two are of one frame, or a file is not of this form.
    """
    if files.path.is_dir():
        frames = number_files(files.path)
        return PoseVideo(sorted(frames), lambda number: read_people(frames[number]))
    content = read_json(files.path)
    listed = content if isinstance(content, list) else [content]
    where = [f"{files.path}: frame {i}" if listed is content else f"{files.path}"
             for i in range(len(listed))]  # fmt: skip
    parsed = {i: _parse_people(frame, where[i]) for i, frame in enumerate(listed)}
    return PoseVideo.from_frames(parsed, size=_parse_canvas(listed))


def read_people(path: Path) -> FramePoses:
    """Return the poses in one frame file, in file order.

    Raises:
        ReadError: the file is not of this form.
    """
    return _parse_people(read_json(path), f"{path}")


def _parse_people(content: Any, where: str) -> FramePoses:
    people = content.get("people") if isinstance(content, dict) else None
    if not isinstance(people, list):
        raise ReadError(f'{where}: expected {{"people": [...]}}, got {describe(content)}')
    poses = [_parse_person(p, f"{where}: people[{m}]") for m, p in enumerate(people)]
    # ids are left out: -1, or numbers that start anew in every frame
    return FramePoses(poses, [None] * len(poses))


def _parse_person(person: Any, where: str) -> Any:
    if not isinstance(person, dict):
        raise ReadError(f"{where}: expected {_POSE_KEYS[0]}, got {describe(person)}")
    key = next((key for key in _POSE_KEYS if key in person), _POSE_KEYS[0])
    values = person.get(key)
    return parse_pose([] if key in person and values is None else values, f"{where}: {key}")


def _parse_canvas(frames: Iterable[Any]) -> tuple[float, float] | None:
    for frame in frames:
        size = (frame.get("canvas_width"), frame.get("canvas_height"))
        if all(isinstance(side, int | float) and side >= 1 for side in size):
            return size
        break
    return None


def _matches(path: Path) -> bool:
    if path.suffix.lower() != ".json":
        return False
    head = read_head(path)
    return bool(_FRAME_START.match(head)) and b'"people"' in head


OPENPOSE = PoseFormat(
    name="openpose",
    summary="folders of per-frame JSON files as of OpenPose, under any name with a frame number",
    matches=_matches,
    find_videos=find_videos,
    open_video=open_video,
    tracking="match",
)
READER = OPENPOSE.make_reader()
