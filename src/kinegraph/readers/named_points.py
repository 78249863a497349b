"""Tracks of named points, such as body parts and markers, as clips of a layout with these names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip
from kinegraph.errors import ReadError
from kinegraph.readers.clip_list import list_clip_files, plan_clip_files
from kinegraph.readers.reader import Reader, ReadPlan, ReadResults, ReadTask, check_fps
from kinegraph.readers.space_options import SPACE_OPTIONS, SpaceOptions
from kinegraph.skeleton.body_axes import find_up_axis
from kinegraph.skeleton.joint_names import find_joint, split_side
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import LAYOUT_SUFFIXES, LAYOUTS, get_layout, read_layout
from kinegraph.skeleton.space import Space

_MAX_NAMES_SHOWN = 40


@dataclass(frozen=True)
class PointTracks:
    """Points that a program tracked, by name.

    Attributes:
        names: K names, in the order of the arrays.
        positions: (M, T, K, D); NaN where a point is absent.
        confidence: (M, T, K), or None.
        fps: frames per second, or None if unknown.
        stated: what is known of the coordinates, as options of `SpaceOptions`.
    """

    names: tuple[str, ...]
    positions: NDArray[np.float32]
    confidence: NDArray[np.float32] | None = None
    fps: float | None = None
    stated: Mapping[str, str] = field(default_factory=dict)


def tracks_reader(
    name: str,
    summary: str,
    suffixes: tuple[str, ...],
    matches: Callable[[Path], bool],
    read_tracks: Callable[[Path], PointTracks],
) -> Reader:
    """Return a reader of files of named points, one clip a file.

    Args:
        name: name of the reader.
        summary: what it reads.
        suffixes: suffixes of its files, lower-case.
        matches: see `Reader`.
        read_tracks: a function of a module, which returns the tracks of a file.
    """
    return Reader(
        name=name,
        summary=summary,
        scan=partial(_scan, suffixes, read_tracks),
        read=partial(_read, read_tracks),
        matches=matches,
        options={
            "layout": "a layout, or layout file, that has joints of the points' names (default: "
            "the largest registered one whose joints are all there)",
            "fps": "frames per second of files that do not state it",
            **SPACE_OPTIONS,
        },
        protocols=("holdout",),
    )


def _scan(
    suffixes: tuple[str, ...],
    read_tracks: Callable[[Path], PointTracks],
    source: Path,
    *,
    layout: str = "",
    fps: float | None = None,
    **stated: str,
) -> ReadPlan:
    check_fps(fps)
    first = list_clip_files(source, suffixes)[0]
    tracks = read_tracks(first)
    chosen, order = match_layout(tracks.names, layout, first)
    space = _find_space(tracks.positions[..., order, :], chosen, {**tracks.stated, **stated})
    facts = {"layout": chosen, "fps": fps, "space": space}
    return plan_clip_files(source, suffixes, chosen, facts)


def _read(read_tracks: Callable[[Path], PointTracks], task: ReadTask) -> ReadResults:
    yield make_clip(task, read_tracks(task.path))


def make_clip(task: ReadTask, tracks: PointTracks) -> Clip:
    """Return the clip of tracks, its points in the order of the task's layout.

    Raises:
        ReadError: a joint of the layout is not among the points; no point is ever seen.
    """
    layout, order = match_layout(tracks.names, task.info["layout"], task.path)
    positions = tracks.positions[..., order, :]
    if np.isnan(positions).any(axis=-1).all():
        raise ReadError(f"{task.path}: expected a point in at least one frame, found none")
    confidence = None
    if tracks.confidence is not None:
        confidence = np.clip(np.nan_to_num(tracks.confidence[..., order]), 0, 1)
    left_out = [name for i, name in enumerate(tracks.names) if i not in order]
    notes = [f"points left out: {_list_names(left_out)}"] if left_out else []
    return task.make_clip(
        positions,
        layout,
        confidence=confidence,
        fps=tracks.fps or task.info.get("meta", {}).get("fps") or task.info.get("fps"),
        space=task.info.get("space") or _find_space(positions, layout, tracks.stated),
        notes=notes,
    )


def _find_space(
    positions: NDArray[np.float32], layout: SkeletonLayout, stated: Mapping[str, str]
) -> Space:
    """Return the space that is stated; the bodies show which axis of a world points up."""
    joints = positions.reshape(-1, *positions.shape[-2:])
    shown = None
    if stated.get("space") == "world" and "up" not in stated:
        shown = find_up_axis(joints, layout)
    space = SpaceOptions(**stated, **({"up": shown} if shown else {})).resolve(joints, layout)
    return replace(space, assumed=space.assumed or shown is not None)


def match_layout(
    names: Sequence[str], layout: str | SkeletonLayout, path: Path
) -> tuple[SkeletonLayout, list[int]]:
    """Return a layout and, for each of its joints, the index of the point of its name.

    Without a layout, the largest registered one whose joints are all among the points is taken,
    of several the one that names most of them as the points are named. Further points are left out.

    Raises:
        ReadError: a joint of the layout is not among the points, or no registered layout fits.
        LayoutError: the layout file cannot be read.
        UnknownNameError: no layout has that name.
    """
    if layout:
        is_file = isinstance(layout, str) and Path(layout).suffix in LAYOUT_SUFFIXES
        chosen = read_layout(str(layout)) if is_file else get_layout(layout)
        points = _find_points(names, chosen)
        if missing := [j for j, point in zip(chosen.joints, points, strict=True) if point is None]:
            raise ReadError(
                f"{path}: expected points for all joints of layout {chosen.name!r}; it lacks "
                f"{', '.join(missing[:10])}; its points are {_list_names(names)}"
            )
        return chosen, [point for point in points if point is not None]
    fitting = [known for known in LAYOUTS.values() if None not in _find_points(names, known)]
    if not fitting:
        raise ReadError(
            f"{path}: no registered layout has joints of these names; write a layout file that "
            f"lists them with their bones, and name it (--layout FILE): {_list_names(names)}"
        )
    return match_layout(names, max(fitting, key=partial(_rate_fit, names)), path)


def _rate_fit(names: Sequence[str], layout: SkeletonLayout) -> tuple[int, int]:
    """Return the number of joints, and of those that a point of the very name marks."""
    own = {(side, *words) for side, words in map(split_side, names)}
    same = [(side, *words) in own for side, words in map(split_side, layout.joints)]
    return layout.num_joints, sum(same)


def _find_points(names: Sequence[str], layout: SkeletonLayout) -> list[int | None]:
    """Return the index of the point of each joint; None without one, or with two of that name."""
    found: dict[int, list[int]] = {}
    for index, name in enumerate(names):
        joint = find_joint(layout, name)
        if joint is not None:
            found.setdefault(joint, []).append(index)
    points: list[int | None] = []
    for joint, name in enumerate(layout.joints):
        own = [i for i in found.get(joint, []) if names[i] == name] or found.get(joint, [])
        points.append(own[0] if len(own) == 1 else None)
    return points


def _list_names(names: Sequence[str]) -> str:
    more = len(names) - _MAX_NAMES_SHOWN
    return ", ".join(names[:_MAX_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
