"""Examples of actions: clips from a folder per action with videos or skeleton files, or a store."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from kinegraph.clips.clip import Clip
from kinegraph.clips.store import ClipStore, is_store
from kinegraph.errors import KinegraphError, ReadError
from kinegraph.inference.inputs import open_input
from kinegraph.inference.trained_model import TrainedModel
from kinegraph.skeleton.space import Space
from kinegraph.video.pipeline import MIN_VISIBLE_SECONDS
from kinegraph.video.resample import FrameResampler, TimedPose
from kinegraph.video.sources import FPS, open_source
from kinegraph.video.tracking import Tracker

#: Files that are opened as videos.
VIDEO_SUFFIXES = frozenset(
    (
        ".mp4",
        ".m4v",
        ".mov",
        ".avi",
        ".mkv",
        ".webm",
        ".mpg",
        ".mpeg",
        ".wmv",
        ".flv",
        ".3gp",
        ".ts",
    )
)

Results = Iterator[Clip | KinegraphError]


def read_examples(
    path: Path,
    model: TrainedModel,
    *,
    poses: str = "",
    reader: str | None = None,
    stated: Mapping[str, Any] | None = None,
) -> tuple[dict[str, list[Clip]], list[KinegraphError]]:
    """Return the clips of each action by its name, and the errors of files that cannot be read.

    Args:
        path: a folder that has a folder for each action, with videos or files of any reader; or a
            store, whose classes are the actions.
        model: states how files are read that do not state it, see `open_input`.
        poses: pose estimator of videos.
        reader, stated: of files that are not videos, see `open_input`.

    Raises:
        KinegraphError: an action has no example that can be read.
    """
    if is_store(path):
        return _read_store(path), []
    if not path.is_dir():
        raise ReadError(f"{path}: expected a folder with a folder for each action, or a store")
    folders = [child for child in _list_children(path) if child.is_dir()]
    if not folders:
        raise ReadError(
            f"{path} has no folders: expected a folder for each action, with its examples; convert "
            "a data set to a store first (kinegraph convert)"
        )
    examples: dict[str, list[Clip]] = {}
    errors = []
    for folder in folders:
        results = list(_read_action(folder, model, poses, reader, stated))
        found = [result for result in results if isinstance(result, KinegraphError)]
        if len(found) == len(results):
            raise found[0]
        examples[folder.name] = [result for result in results if isinstance(result, Clip)]
        errors += found
    return examples, errors


def read_video_clip(path: Path, poses: str = "") -> Clip:
    """Return the person of a video who is visible largest and longest, as a clip.

    Raises:
        ReadError, VideoError: it is not a video, or shows no person.
    """
    tracker, tracks = Tracker(), defaultdict[int, list[TimedPose]](list)
    presence = defaultdict[int, float](float)  # the sum of a person's sizes
    size = (0, 0)
    with closing(open_source(str(path), poses)) as source:
        for _, pose in source.frames():
            if pose is None:
                continue
            size = (pose.width, pose.height)
            for person in tracker(pose):
                tracks[person.person].append((pose.time, person.joints, person.confidence))
                presence[person.person] += float(np.nanmax(np.nanstd(person.joints, axis=0)))
    if not presence:
        raise ReadError(f"{path}: no person is visible in this video")
    resampler = FrameResampler(FPS)
    frames = [
        frame
        for found in tracks[max(presence, key=lambda number: presence[number])]
        for frame in resampler(*found)
    ]
    if len(frames) < MIN_VISIBLE_SECONDS * FPS:
        raise ReadError(f"{path}: no person is visible long enough in this video")
    joints, confidence = (np.stack(arrays)[None] for arrays in zip(*frames, strict=True))
    return Clip(
        joints,
        source.layout,
        confidence,
        id=path.name,
        fps=FPS,
        meta=dict(zip(("width", "height"), size, strict=True)),
        space=Space("image", unit="pixel"),
    )


def _list_children(folder: Path) -> list[Path]:
    return sorted(child for child in folder.iterdir() if not child.name.startswith("."))


def _read_store(path: Path) -> dict[str, list[Clip]]:
    store = ClipStore(path)
    examples: dict[str, list[Clip]] = {}
    for index in np.argsort(store.labels, kind="stable"):
        label = int(store.labels[index])
        if label < 0:
            raise ReadError(f"{path}: clip {store.ids[index]!r} has no label: expected an action")
        name = store.classes[label] if store.classes else f"class {label}"
        examples.setdefault(name, []).append(store[int(index)])
    return examples


def _read_action(
    folder: Path,
    model: TrainedModel,
    poses: str,
    reader: str | None,
    stated: Mapping[str, Any] | None,
) -> Results:
    """Yield the examples in the folder of an action; if it has videos, file by file."""
    children = _list_children(folder)
    videos = [child for child in children if child.suffix.lower() in VIDEO_SUFFIXES]
    for path in videos:
        try:
            yield read_video_clip(path, poses)
        except KinegraphError as error:
            yield error
    for path in [child for child in children if child not in videos] if videos else [folder]:
        yield from _read_files(path, model, reader, stated)


def _read_files(
    path: Path, model: TrainedModel, reader: str | None, stated: Mapping[str, Any] | None
) -> Results:
    try:
        source = open_input(path, reader, model, stated)
    except KinegraphError as error:
        yield error
        return
    for number in range(len(source.parts)):
        try:
            yield from source.slice(number, number + 1).read_clips()
        except KinegraphError as error:
            yield error
