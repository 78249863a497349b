"""Interval labels of recordings: which action is shown from which frame to which.

In a store they are the meta ``intervals`` of a clip: a JSON list of [label, start, stop], in frames
of the clip, the stop excluded. A recording without this meta is not labeled; one with an empty list
shows no action at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinegraph.errors import ClipError

INTERVALS_KEY = "intervals"
BACKGROUND = "background"  # the class of frames that no interval covers
IGNORED = -1  # the label of frames that do not count, such as padding


class Interval(NamedTuple):
    """An action of a recording: its label, its first frame, and the frame after its last."""

    label: int
    start: int
    stop: int


def pack_intervals(intervals: Iterable[Interval]) -> str:
    """Return intervals as the value of a clip's meta, ordered by their start."""
    return json.dumps(sorted(([*map(int, i)] for i in intervals), key=lambda i: (i[1], i[2], i[0])))


def parse_intervals(
    meta: Mapping[str, Any], frames: int, classes: int | None = None
) -> tuple[Interval, ...] | None:
    """Return the intervals of a clip's meta; None if the recording is not labeled.

    Args:
        meta: of the clip.
        frames: T of the clip.
        classes: number of classes, if labels should be checked.

    Raises:
        ClipError: the value is not a list of intervals within the frames of the clip.
    """
    text = meta.get(INTERVALS_KEY)
    if text is None:
        return None
    try:
        rows = json.loads(text)
        intervals = tuple(Interval(*row) for row in rows)
    except (TypeError, ValueError, RecursionError):
        intervals = (Interval(0, 0, 0),)
    for item in intervals:
        is_whole = all(type(value) is int for value in item)
        is_class = is_whole and 0 <= item.label < (item.label + 1 if classes is None else classes)
        if not (is_class and 0 <= item.start < item.stop <= frames):
            raise ClipError(
                f"meta {INTERVALS_KEY!r}: expected a list of [label, start, stop] within "
                f"{frames} frames, got {str(text)[:60]!r}"
            )
    return intervals


def has_intervals(metas: Iterable[Mapping[str, Any]]) -> NDArray[np.bool_]:
    """Return (clips,) whether a clip has interval labels, which may be an empty list."""
    return np.array([meta.get(INTERVALS_KEY) is not None for meta in metas], dtype=bool)


def frame_classes(classes: Sequence[str]) -> tuple[tuple[str, ...], int]:
    """Return the classes of frames and the label of the background.

    The background is one class more than those of the actions, unless one of them has its name.
    """
    if BACKGROUND in classes:
        return tuple(classes), list(classes).index(BACKGROUND)
    return (*classes, BACKGROUND), len(classes)


def label_frames(intervals: Iterable[Interval], frames: int, background: int) -> NDArray[np.int64]:
    """Return (frames,) the label of each frame; of overlapping intervals the later one counts."""
    labels = np.full(frames, background, dtype=np.int64)
    for label, start, stop in sorted(intervals, key=lambda i: i.start):
        labels[start:stop] = label
    return labels


def find_intervals(labels: NDArray[np.integer], background: int | None = None) -> list[Interval]:
    """Return the runs of equal labels (T,) in order, without those of the background."""
    if not len(labels):
        return []
    edges = np.flatnonzero(np.diff(labels)) + 1
    starts, stops = [0, *edges.tolist()], [*edges.tolist(), len(labels)]
    runs = (Interval(int(labels[a]), a, b) for a, b in zip(starts, stops, strict=True))
    return [run for run in runs if run.label != background]
