"""Metrics of segmentation: frame accuracy, edit score, F1 at an overlap, mean average precision.

Frame accuracy counts all frames; the others count intervals of actions, not of the background. All
are fractions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.intervals import Interval, find_intervals

F1_OVERLAPS = (0.10, 0.25, 0.50)
MAP_OVERLAPS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)

FrameLabels = NDArray[np.integer]


class ScoredInterval(NamedTuple):
    """A predicted interval of a recording, and how probable it is."""

    recording: int
    interval: Interval
    score: float


def overlap(first: Interval, second: Interval) -> float:
    """Return the intersection over union of two intervals, whatever their labels."""
    shared = min(first.stop, second.stop) - max(first.start, second.start)
    return max(0, shared) / (max(first.stop, second.stop) - min(first.start, second.start))


def frame_accuracy(true: Sequence[FrameLabels], predicted: Sequence[FrameLabels]) -> float:
    """Return the fraction of the frames of all recordings whose label is right."""
    correct = sum(int((t == p).sum()) for t, p in zip(true, predicted, strict=True))
    return correct / sum(map(len, true))


def edit_score(true: FrameLabels, predicted: FrameLabels, background: int | None = None) -> float:
    """Return the segmental edit score of a recording (Lea, Reiter, Vidal, Hager, ECCV 2016).

    1 minus the Levenshtein distance between the orders of the actions, divided by the larger number
    of intervals; 1 if there are none.
    """
    rows, columns = (
        [interval.label for interval in find_intervals(labels, background)]
        for labels in (true, predicted)
    )
    distances = list(range(len(columns) + 1))
    for i, row in enumerate(rows, start=1):
        diagonal, distances[0] = distances[0], i
        for j, column in enumerate(columns, start=1):
            changed = diagonal + (row != column)
            diagonal = distances[j]
            distances[j] = min(changed, distances[j] + 1, distances[j - 1] + 1)
    longest = max(len(rows), len(columns))
    return 1 - distances[-1] / longest if longest else 1.0


class Matches(NamedTuple):
    """Numbers of predicted intervals that are right, that are wrong, and of true ones not found."""

    right: int
    wrong: int
    missed: int

    @property
    def f1(self) -> float:
        """2 right / (2 right + wrong + missed), 1 if there are no intervals."""
        total = 2 * self.right + self.wrong + self.missed
        return 2 * self.right / total if total else 1.0


def match_intervals(
    true: Sequence[Interval], predicted: Sequence[Interval], least: float
) -> Matches:
    """Return how many predicted intervals of a recording are right, each true one found once.

    A predicted interval is compared with the true interval of its label that it overlaps most, and
    is right if the overlap is at least ``least`` and no interval before it was right with the same
    one (Lea et al., CVPR 2017).
    """
    found: set[int] = set()
    for item in predicted:
        same = [(overlap(item, t), i) for i, t in enumerate(true) if t.label == item.label]
        best, index = max(same, key=lambda pair: (pair[0], -pair[1]), default=(0.0, -1))
        if best >= least and index not in found and best > 0:
            found.add(index)
    return Matches(len(found), len(predicted) - len(found), len(true) - len(found))


def f1_at(
    true: Sequence[FrameLabels],
    predicted: Sequence[FrameLabels],
    least: float,
    background: int | None = None,
) -> float:
    """Return F1 at an overlap, of the matches of all recordings together; see `match_intervals`."""
    matches = [
        match_intervals(find_intervals(t, background), find_intervals(p, background), least)
        for t, p in zip(true, predicted, strict=True)
    ]
    return Matches(*(sum(counts) for counts in zip(*matches, strict=True))).f1


def average_precision(
    true: Sequence[Sequence[Interval]], predicted: Sequence[ScoredInterval], least: float
) -> float:
    """Return the average precision of one class over all recordings.

    Predicted intervals are taken by falling score; each is right if a true interval of its
    recording that is not found yet overlaps it by at least ``least``, of which it finds the one it
    overlaps most. The result is the area under the precision, made non-increasing, by recall.

    Args:
        true: the intervals of the class in each recording.
        predicted: those of the class.
        least: the smallest overlap.

    Raises:
        ValueError: there is no true interval.
    """
    total = sum(map(len, true))
    if not total:
        raise ValueError("the average precision of a class needs a true interval")
    open_: list[set[int]] = [set(range(len(intervals))) for intervals in true]
    right = []
    for item in sorted(predicted, key=lambda p: -p.score):
        intervals = true[item.recording]
        close = [(overlap(item.interval, intervals[i]), -i) for i in open_[item.recording]]
        best, index = max(close, default=(0.0, 0))
        right.append(best >= least and best > 0)
        if right[-1]:
            open_[item.recording].discard(-index)
    hits = np.cumsum(np.array(right, dtype=np.int64))
    precision = hits / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float((envelope * np.array(right, dtype=np.float64)).sum() / total)
