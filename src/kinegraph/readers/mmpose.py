"""Reader of MMPose predictions: JSON files of its inferencer and its demos.

For a video, ``{"meta_info": {...}, "instance_info": [{"frame_id", "instances"}]}``, or the list of
frames alone; for a folder of images, one list of instances per image. An instance has keypoints
[[x, y], ...], or [[x, y, z], ...], and keypoint_scores.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinegraph.errors import ReadError
from kinegraph.readers.formats.json_file import (
    describe,
    mask_unscored_joints,
    parse_numbers,
    parse_points,
    read_json,
)
from kinegraph.readers.formats.raw_file import read_head
from kinegraph.readers.person_selection import PoseArray
from kinegraph.readers.pose_files import (
    FramePoses,
    PoseFormat,
    PoseVideo,
    VideoFiles,
    group_images,
    list_pose_files,
    number_files,
)
from kinegraph.skeleton.layout import SkeletonLayout

_INSTANCES = re.compile(rb'\s*\[\s*\{\s*"keypoints"\s*:\s*\[\s*\[')
_FRAME_LIST = re.compile(
    rb'\s*(\{\s*"(meta_info|instance_info)"|\[\s*\{\s*"(frame_id|predictions)")'
)
_INSTANCE_LISTS = re.compile(rb'\s*\[\s*(\[\s*\]\s*,\s*)*\[\s*\{\s*"keypoints"\s*:\s*\[\s*\[')


def find_videos(source: Path) -> list[VideoFiles]:
    """Return each file of a video, and each folder of files of one image each."""
    paths = list_pose_files(source, _matches, "predictions of MMPose (.json)")
    return group_images(source, paths, _INSTANCES)


def open_video(files: VideoFiles, layout: SkeletonLayout | None = None) -> PoseVideo:
    """Return the video of one file, or of a folder of files of one image each.

    Raises:
        ReadError: the file is not of this form.
    """
    if files.path.is_dir():
        paths = number_files(files.path)
        return PoseVideo(
            sorted(paths), lambda n: _parse_instances(read_json(paths[n]), f"{paths[n]}")
        )
    content = read_json(files.path)
    names: tuple[str, ...] = ()
    if isinstance(content, dict):
        names = _parse_joint_names(content.get("meta_info"))
        content = content.get("instance_info")
    if not isinstance(content, list):
        raise ReadError(f"{files.path}: expected a list of frames, got {describe(content)}")
    if content and isinstance(content[0], dict) and "keypoints" in content[0]:
        content = [content]  # the instances of one image
    frames: dict[int, FramePoses] = {}
    for place, frame in enumerate(content):
        number = frame.get("frame_id", place) if isinstance(frame, dict) else place
        if type(number) is not int or number in frames:
            raise ReadError(
                f"{files.path}: frame {place}: expected a frame_id of its own, got "
                f"{describe(number)}"
            )
        frames[number] = _parse_instances(frame, f"{files.path}: frame {number}")
    return PoseVideo.from_frames(frames, joint_names=names)


def _parse_joint_names(meta: Any) -> tuple[str, ...]:
    """Return the names of keypoint_id2name in the order of their numbers; () if not stated."""
    names = meta.get("keypoint_id2name") if isinstance(meta, dict) else None
    if not isinstance(names, dict):
        return ()
    ordered = [names.get(str(number)) for number in range(len(names))]
    return tuple(n for n in ordered if isinstance(n, str)) if all(ordered) else ()


def _parse_instances(frame: Any, where: str) -> FramePoses:
    """Return the instances of a frame, which stand in a list, as instances or as predictions."""
    if isinstance(frame, dict):
        frame = frame.get("instances", frame.get("predictions"))
    while isinstance(frame, list) and len(frame) == 1 and isinstance(frame[0], list):
        frame = frame[0]  # predictions of a batch of one image
    if not isinstance(frame, list):
        raise ReadError(f"{where}: expected a list of instances, got {describe(frame)}")
    poses, ids = [], []
    for place, instance in enumerate(frame):
        poses.append(_parse_instance(instance, f"{where}: instance {place}"))
        track = instance.get("track_id")
        ids.append(track if type(track) is int else None)
    return FramePoses(poses, ids)


def _parse_instance(instance: Any, where: str) -> PoseArray:
    if not isinstance(instance, dict):
        raise ReadError(f"{where}: expected keypoints, got {describe(instance)}")
    points = parse_points(instance.get("keypoints"), f"{where}: keypoints")
    if points.shape[1] not in (2, 3):
        raise ReadError(f"{where}: expected 2 or 3 numbers a joint, got {points.shape[1]}")
    if "keypoint_scores" not in instance:
        if points.shape[1] == 2:
            raise ReadError(f"{where}: expected keypoint_scores, found none")
        return mask_unscored_joints(points[:, :2], points[:, 2])  # version 0: x, y, score
    return mask_unscored_joints(points, _parse_scores(instance, len(points), where))


def _parse_scores(instance: Any, num_joints: int, where: str) -> NDArray[np.float32]:
    scores = instance["keypoint_scores"]
    if isinstance(scores, list) and len(scores) == 1 and isinstance(scores[0], list):
        scores = scores[0]
    parsed = parse_numbers(scores, f"{where}: keypoint_scores")
    if len(parsed) != num_joints:
        raise ReadError(f"{where}: expected {num_joints} keypoint_scores, got {len(parsed)}")
    return parsed


def _matches(path: Path) -> bool:
    if path.suffix.lower() != ".json":
        return False
    head = read_head(path)
    return any(form.match(head) for form in (_INSTANCES, _FRAME_LIST, _INSTANCE_LISTS))


MMPOSE = PoseFormat(
    name="mmpose",
    summary="predictions of MMPose: JSON of its inferencer and demos, per video or per image",
    matches=_matches,
    find_videos=find_videos,
    open_video=open_video,
)
READER = MMPOSE.make_reader()
