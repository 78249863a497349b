"""Reader of AlphaPose results: one JSON file of all frames, in each of its forms.

The usual form is a list of persons with image_id, keypoints (x, y, score), score and, if people
were tracked, idx. The forms ``cmu`` and ``open`` are dictionaries by image name, or one file per
image; PoseFlow writes lists of persons by image name. Frames without persons are not in the files.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kinegraph.errors import ReadError
from kinegraph.readers.formats.json_file import parse_pose, read_json
from kinegraph.readers.formats.raw_file import describe, read_head
from kinegraph.readers.pose_files import (
    FRAME_NUMBER,
    FramePoses,
    PoseFormat,
    PoseVideo,
    VideoFiles,
    group_images,
    list_pose_files,
    number_files,
)
from kinegraph.skeleton.layout import SkeletonLayout

_PERSON_LIST = re.compile(rb"\s*\[\s*\{")
_BY_IMAGE = re.compile(rb'\s*\{\s*"[^"]+\.(jpe?g|png|bmp|tiff?|webp)"\s*:\s*[\[{]', re.IGNORECASE)
_ONE_IMAGE = re.compile(rb'\s*\{\s*("version"\s*:\s*[^,]*,\s*)?"bodies"')


def find_videos(source: Path) -> list[VideoFiles]:
    """Return each result file of a source, and each folder of files of one image each."""
    paths = list_pose_files(source, _matches, "results of AlphaPose (.json)")
    return group_images(source, paths, _ONE_IMAGE)


def open_video(files: VideoFiles, layout: SkeletonLayout | None = None) -> PoseVideo:
    """Return the video of one result file, or of a folder of files of one image each.

    Raises:
        ReadError: the file is not of this form, or two images are of one frame.
    """
    if files.path.is_dir():
        paths = number_files(files.path)
        return PoseVideo(sorted(paths), lambda n: _parse_image(read_json(paths[n]), f"{paths[n]}"))
    content = read_json(files.path)
    if isinstance(content, dict) and "bodies" in content:
        return PoseVideo.from_frames({0: _parse_image(content, f"{files.path}")})
    images = _group_by_image(content, files.path)
    numbers = _number_images(images, files.path)
    frames = {numbers[name]: _parse_image(images[name], f"{files.path}: {name}") for name in images}
    return PoseVideo.from_frames(frames)


def _group_by_image(content: Any, path: Path) -> Mapping[str, Any]:
    if isinstance(content, dict):
        return content
    if not isinstance(content, list) or not content:
        raise ReadError(f"{path}: expected a list of persons, got {describe(content)}")
    images: dict[str, Any] = defaultdict(list)
    for place, person in enumerate(content):
        image = person.get("image_id") if isinstance(person, dict) else None
        if not isinstance(image, str | int):
            raise ReadError(f"{path}: [{place}]: expected image_id and keypoints of a person")
        images[str(image)].append(person)
    return images


def _number_images(images: Mapping[str, Any], path: Path) -> dict[str, int]:
    """Return the frame of each image: the last number in its name."""
    numbers: dict[str, int] = {}
    taken: dict[int, str] = {}
    for image in images:
        found = FRAME_NUMBER.findall(Path(image.replace("\\", "/")).stem)
        if not found:
            raise ReadError(
                f"{path}: expected image names with a frame number, such as 12.jpg, got {image!r}"
            )
        number = int(found[-1])
        if number in taken:
            raise ReadError(
                f"{path}: images {taken[number]!r} and {image!r} are both of frame {number}; "
                "give each video its own results"
            )
        numbers[image] = number
        taken[number] = image
    return numbers


def _parse_image(content: Any, where: str) -> FramePoses:
    """Return the persons of an image: a list, or a dictionary of the form ``cmu`` or ``open``."""
    if isinstance(content, dict):
        content = content.get("bodies", content.get("people"))
    if not isinstance(content, list):
        raise ReadError(f"{where}: expected a list of persons, got {describe(content)}")
    poses, ids = [], []
    for place, person in enumerate(content):
        if not isinstance(person, dict):
            raise ReadError(f"{where}: person {place}: expected keypoints, got {describe(person)}")
        keys = ("keypoints", "joints", "pose_keypoints_2d")
        key = next((key for key in keys if key in person), keys[0])
        poses.append(parse_pose(person.get(key), f"{where}: person {place}: {key}"))
        ids.append(_parse_id(person.get("idx")))
    return FramePoses(poses, ids)


def _parse_id(value: Any) -> int | None:
    """Return a track id, which some versions write as 1.0, [1] or [[1]]; None for others."""
    while isinstance(value, list) and value:
        value = value[0]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return int(value) if is_number and value == value and abs(value) < 2**53 else None


def _matches(path: Path) -> bool:
    if path.suffix.lower() != ".json":
        return False
    head = read_head(path)
    forms = (_BY_IMAGE, _ONE_IMAGE)
    listed = _PERSON_LIST.match(head) and b'"keypoints"' in head and b'"image_id"' in head
    return bool(listed) or any(form.match(head) for form in forms)


ALPHAPOSE = PoseFormat(
    name="alphapose",
    summary="results of AlphaPose: one JSON file per video",
    matches=_matches,
    find_videos=find_videos,
    open_video=open_video,
)
READER = ALPHAPOSE.make_reader()
