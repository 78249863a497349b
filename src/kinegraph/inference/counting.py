"""Counting of repetitions from joints: of any movement and layout, without training.

A movement leaves a pose, turns, and comes back. The counter follows the body from one turning point
to the next: a pose is a turning point when the body has gone back `TURN_SHARE` of the way to it
(hysteresis). A way out and back that ends near the pose and the place where it began is a *cycle*.
A walk has no cycles, because every step ends at another place.

Two poses differ by the displacements of their joints less the mean displacement; the size of a
difference is the root of the sum of their squares, in diagonals of the body. So the counter needs
neither names of joints nor axes, and takes 2D and 3D. Joints that are absent in one of two poses do
not count.

Cycles whose turning points lie in the same direction are of one kind. The first cycle of a kind
waits for a second one, and then both are counted: one gesture is not a repetition. If no kind has
two, the largest cycle is counted at the end. A cycle smaller than `FULL_SHARE` of its kind is
partial.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip
from kinegraph.errors import ClipError

# chosen on odd subjects of UI-PRMD, see docs/counting.md
MIN_SIZE = 0.15  # of a cycle, in diagonals of the body
TURN_SHARE = 0.3  # share of the way to a turning point that the body must go back
LEAVE_SHARE = 0.5  # distance from the end of a cycle where the next begins, of its size
CLOSE_SHARE = 0.5  # largest difference of a cycle's end from its start, as a share of its size
MAX_TRAVEL = 0.15  # distance between start and end of a cycle, in diagonals of the body
FULL_SHARE = 0.5  # share of the usual size below which a cycle is partial
MIN_LIKENESS = 0.6  # cosine between the directions of cycles of one kind
SMOOTHING_S = 0.2  # seconds over which joints are averaged
MAX_ABSENCE_S = 1.0  # seconds without the person after which a movement is forgotten
MAX_WAY_S = 8.0  # seconds after a turning point without another one, after which it is forgotten
MIN_WAY_S, MAX_WAY_CYCLES = 4.0, 2.0  # the same in usual cycles, where these are known
MAX_KINDS = 8
SIZE_MEMORY_S = 10.0
DEFAULT_FPS = 30.0

_Positions = NDArray[np.float64]


@dataclass(frozen=True)
class Repetition:
    """One movement out and back.

    Attributes:
        start, end: in seconds.
        size: of the way from start to turning point, in diagonals of the body.
        fraction: size as a share of the usual size of such movements.
        kind: number of the kind of movement, from 1.
    """

    start: float
    end: float
    size: float
    fraction: float
    kind: int

    def to_dict(self) -> dict[str, Any]:
        """Return the values for JSON, without the size."""
        times = {"start": round(self.start, 3), "end": round(self.end, 3)}
        return times | {"fraction": round(self.fraction, 3), "kind": self.kind}


@dataclass(frozen=True)
class RepetitionCount:
    """The repetitions of one person: those that count, and partial ones, by time."""

    repetitions: tuple[Repetition, ...] = ()
    partial: tuple[Repetition, ...] = ()

    @property
    def count(self) -> int:
        """The number of repetitions that count."""
        return len(self.repetitions)

    def between(self, start: float, end: float) -> int:
        """Return the number of repetitions whose middle lies between two times in seconds."""
        return sum(start <= (one.start + one.end) / 2 < end for one in self.repetitions)

    def to_dict(self) -> dict[str, Any]:
        """Return the values for JSON."""
        return {
            "count": self.count,
            "repetitions": [one.to_dict() for one in self.repetitions],
            "partial": [one.to_dict() for one in self.partial],
        }


class _TimedPose(NamedTuple):
    time: float
    joints: _Positions


class _Cycle(NamedTuple):
    start: float
    end: float
    size: float
    direction: _Positions  # (V, D) of length 1


@dataclass
class _CycleEnd:
    """The pose after a cycle that is nearest to its start, and its distance from it."""

    start: _TimedPose
    size: float
    nearest: _TimedPose
    distance: float
    is_left: bool = False


@dataclass
class _Kind:
    """Cycles in the same direction as the first; ``partial`` are smaller ones."""

    full: list[_Cycle]
    partial: list[_Cycle] = field(default_factory=list)

    @property
    def size(self) -> float:
        return float(np.median([cycle.size for cycle in self.full]))

    def add(self, cycle: _Cycle) -> None:
        if cycle.size < FULL_SHARE * self.size:
            self.partial.append(cycle)
        elif len(self.full) == 1 and self.size < FULL_SHARE * cycle.size:
            self.partial += self.full
            self.full = [cycle]
        else:
            self.full.append(cycle)


class RepetitionCounter:
    """Counts the repetitions of one person, frame by frame.

    Args:
        fps: frames per second.
        start: time of the first frame in seconds.

    Raises:
        ClipError: the frame rate is not a number above 0.
    """

    def __init__(self, fps: float = DEFAULT_FPS, start: float = 0.0) -> None:
        if not 0 < fps < math.inf:
            raise ClipError(f"expected a frame rate above 0, got {fps}")
        self.fps, self._start = fps, start
        self._frames = 0
        self._recent: deque[_Positions] = deque(maxlen=max(1, round(SMOOTHING_S * fps)))
        self._diagonal, self._diagonals = 0.0, 0.0
        self._kinds: list[_Kind] = []
        self._counted_until = -math.inf  # end of the last cycle
        self._absent = 0  # frames
        self._pose: _Positions | None = None  # the last one
        self._since: list[_TimedPose] = []  # poses since the last turning point, which is the first
        self._before: _TimedPose | None = None  # the turning point before, where a cycle may end
        self._end: _CycleEnd | None = None  # where a cycle ended since the last turning point

    @property
    def count(self) -> int:
        """The repetitions so far, of kinds with two or more; it never falls."""
        return sum(len(kind.full) for kind in self._kinds if len(kind.full) > 1)

    def push(self, joints: NDArray[Any]) -> int:
        """Add the joints (V, D) of the next frame, NaN where absent; return `count`.

        Raises:
            ClipError: the shape differs from that of the frames before.
        """
        joints = np.asarray(joints, np.float64)
        if joints.ndim != 2 or (self._recent and joints.shape != self._recent[0].shape):
            expected = self._recent[0].shape if self._recent else "(joints, coordinates)"
            raise ClipError(f"expected a frame of shape {expected}, got {joints.shape}")
        time = self._start + self._frames / self.fps
        self._frames += 1
        present = np.isfinite(joints).all(axis=1)
        self._recent.append(np.where(present[:, None], joints, np.nan))
        if not present.any():
            self._absent += 1
            if self._absent > MAX_ABSENCE_S * self.fps:
                self._forget()
            return self.count
        self._absent = 0
        extent = float(np.linalg.norm(np.ptp(joints[present], axis=0)))
        self._diagonals = min(self._diagonals + 1, SIZE_MEMORY_S * self.fps)
        self._diagonal += (extent - self._diagonal) / self._diagonals
        self._pose = pose = self._smooth()
        self._follow(_TimedPose(time, pose))
        return self.count

    def count_since(self, time: float) -> int:
        """Return the part of `count` whose middle is at a time in seconds or later."""
        cycles = (cycle for kind in self._kinds if len(kind.full) > 1 for cycle in kind.full)
        return sum((cycle.start + cycle.end) / 2 >= time for cycle in cycles)

    def result(self) -> RepetitionCount:
        """Return the repetitions if the recording ends here; more frames may follow.

        If no kind of movement was repeated, the largest one counts.
        """
        repeated = [kind for kind in self._kinds if len(kind.full) > 1]
        counting = repeated or sorted(self._kinds, key=lambda kind: -kind.size)[:1]
        full: list[Repetition] = []
        partial: list[Repetition] = []
        for number, kind in enumerate(counting, start=1):
            for into, cycles in ((full, kind.full), (partial, kind.partial)):
                into += [
                    Repetition(c.start, c.end, c.size, c.size / kind.size, number) for c in cycles
                ]
        by_start = (sorted(found, key=lambda one: one.start) for found in (full, partial))
        return RepetitionCount(*map(tuple, by_start))

    def _forget(self) -> None:
        """Forget the movement that is under way; what was counted remains."""
        self._recent.clear()
        self._absent, self._pose, self._since = 0, None, []
        self._before, self._end = None, None

    def _smooth(self) -> _Positions:
        """Return the mean of the recent frames; a joint that is absent stays where it was."""
        recent = np.stack(self._recent)
        present = ~np.isnan(recent)
        number = present.sum(axis=0)
        mean = np.where(present, recent, 0).sum(axis=0) / np.maximum(number, 1)
        return np.where(number > 0, mean, np.nan if self._pose is None else self._pose)

    def _restart(self, poses: list[_TimedPose], before: _TimedPose | None = None) -> None:
        """Take the first pose for a turning point and follow the others from it."""
        self._before, self._end = before, None
        self._since, self._far, self._length = [poses[0]], poses[0], 0.0
        for pose in poses[1:]:
            self._follow(pose)

    def _follow(self, pose: _TimedPose) -> None:
        if not self._since:
            self._restart([pose])
            return
        self._since.append(pose)
        turn = self._since[0]
        length = _size(_differ(pose.joints, turn.joints)[0])
        if length >= self._length:
            self._far, self._length = pose, length
        back = _size(_differ(pose.joints, self._far.joints)[0])
        # the way back along the line from the turning point to the farthest pose, by cosines
        has_turned = self._length**2 + back**2 - length**2 > 2 * TURN_SHARE * self._length**2
        if has_turned and self._length >= MIN_SIZE * self._diagonal:
            later = [one for one in self._since if one.time >= self._far.time]
            self._restart(later, None if self._end else turn)
        elif pose.time - turn.time > self._max_way():
            later = self._since[len(self._since) // 2 :]
            self._restart([p for p in later if p.time >= self._counted_until] or [pose])
        elif self._end:
            self._leave(self._end, turn, pose)
        elif self._before is not None:
            self._close(self._before, turn, pose)

    def _leave(self, end: _CycleEnd, turn: _TimedPose, pose: _TimedPose) -> None:
        """Start from the end of a cycle when the body leaves it in another direction.

        So the other side of an alternating movement starts there. A body that goes back to the
        turning point, or on beyond the start of a cycle within a movement, turns later by itself.
        """
        rest, _ = _differ(pose.joints, end.start.joints)
        distance = _size(rest)
        if distance < end.distance:
            end.distance, end.nearest = distance, pose
        elif not end.is_left and distance > end.distance + LEAVE_SHARE * end.size:
            end.is_left = True
            way, _ = _differ(end.start.joints, turn.joints)
            if abs((rest * way).sum()) < MIN_LIKENESS * distance * _size(way):
                self._restart([one for one in self._since if one.time >= end.nearest.time])

    def _close(self, start: _TimedPose, turn: _TimedPose, pose: _TimedPose) -> None:
        """Add the cycle from a start by a turning point to a pose, if it ends where it began."""
        way, _ = _differ(turn.joints, start.joints)
        rest, travel = _differ(pose.joints, start.joints)
        size = _size(way)
        if _size(rest) >= CLOSE_SHARE * size or _size(travel) >= MAX_TRAVEL * self._diagonal:
            return
        self._counted_until = pose.time
        self._end = _CycleEnd(start, size, pose, _size(rest))
        cycle = _Cycle(start.time, pose.time, size / self._diagonal, way / size)
        for kind in self._kinds:
            if (kind.full[0].direction * cycle.direction).sum() > MIN_LIKENESS:
                kind.add(cycle)
                return
        if len(self._kinds) == MAX_KINDS:
            single = [kind for kind in self._kinds if len(kind.full) == 1]
            if not single:
                return
            self._kinds.remove(single[0])
        self._kinds.append(_Kind([cycle]))

    def _max_way(self) -> float:
        seconds = [c.end - c.start for k in self._kinds if len(k.full) > 1 for c in k.full]
        return max(MIN_WAY_S, MAX_WAY_CYCLES * float(np.median(seconds))) if seconds else MAX_WAY_S


def count_repetitions(clip: Clip) -> list[RepetitionCount]:
    """Return the repetitions of each person of a clip.

    The result is that of a `RepetitionCounter` that is given the frames one by one. Clips without
    a frame rate are taken to have 30 frames per second.
    """
    results = []
    for joints in clip.joints[:, : clip.num_real_frames]:
        counter = RepetitionCounter(clip.fps or DEFAULT_FPS)
        for frame in joints:
            counter.push(frame)
        results.append(counter.result())
    return results


def _differ(pose: _Positions, other: _Positions) -> tuple[_Positions, _Positions]:
    """Return the displacements (V, D) of joints less their mean, and the mean (D,)."""
    moved = pose - other
    present = ~np.isnan(moved[:, 0])
    if not present.any():
        return np.zeros_like(moved), np.zeros(moved.shape[1])
    mean = moved[present].mean(axis=0)
    return np.where(present[:, None], moved - mean, 0.0), mean


def _size(difference: _Positions) -> float:
    return float(np.sqrt(np.square(difference).sum()))
