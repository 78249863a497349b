"""Selection of the poses that become the persons of a clip, from the poses found in each frame.

Pose estimators list the people of a frame in no fixed order. PoseArray are (V, 3) float32: x, y and
score, with x and y NaN and the score 0 where a joint was not seen; 3D poses are (V, 4).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinegraph.readers.reader import check_choice, check_count

PoseArray = NDArray[np.float32]

MAX_GAP_FRAMES = 10  # between two tracks of one person, about 0.3 s
MAX_TRACK_STEP = 0.3  # of the body's size, by which a person moves between its two tracks
MIN_SHARED_JOINTS = 0.5  # share of joints that both tracks have where they meet

_NO_SHARED_JOINT = 1e30  # more than any distance, less than a person that is already taken


@dataclass(frozen=True)
class PoseSelection:
    """The options of a selection, validated.

    Attributes:
        max_persons: maximum number of persons.
        tracking: "none" takes the poses with the highest scores of each frame, so a person may
            change places; "match" links poses over time with `match_persons`; "ids" takes the
            track ids of the file, and matches where it has none.
        candidates: number of poses of a frame that are considered, in file order.

    Raises:
        ReadError: a number is not a whole number above 0.
        UnknownNameError: the tracking is unknown.
    """

    max_persons: int
    tracking: str
    candidates: int

    def __post_init__(self) -> None:
        check_choice("tracking", self.tracking, [*TRACKING_METHODS])
        check_count("max_persons", self.max_persons)
        check_count("candidates", self.candidates)

    def select(
        self,
        frames: Mapping[int, Sequence[PoseArray]],
        num_frames: int,
        num_joints: int,
        ids: Mapping[int, Sequence[int | None]] | None = None,
    ) -> PoseArray:
        """Return the persons of a clip.

        Args:
            frames: frame number -> poses (V, D + 1) of that frame.
            num_frames: T; every frame number is below it.
            num_joints: V.
            ids: frame number -> track ids of its poses; each is one pose's alone in its frame.

        Returns:
            (M, T, V, D + 1) float32, without persons that are never seen; M may be 0.
        """
        channels = next((p.shape[-1] for poses in frames.values() for p in poses), 3)
        if ids is not None and self.tracking == "ids":
            persons = self._select_tracks(frames, ids, (num_frames, num_joints, channels))
            return persons[(persons[..., -1] > 0).any(axis=(1, 2))]
        most = min(max((len(poses) for poses in frames.values()), default=0), self.candidates)
        stacked = _absent_poses((num_frames, most, num_joints, channels))
        for frame, poses in frames.items():
            for m, pose in enumerate(poses[:most]):
                stacked[frame, m] = pose
        chosen = TRACKING_METHODS[self.tracking](stacked).swapaxes(0, 1)[: self.max_persons]
        return chosen[(chosen[..., -1] > 0).any(axis=(1, 2))]

    def _select_tracks(
        self,
        frames: Mapping[int, Sequence[PoseArray]],
        ids: Mapping[int, Sequence[int | None]],
        shape: tuple[int, int, int],
    ) -> PoseArray:
        """Return the persons with the highest total scores; a person may have several track ids."""
        tracks: dict[int | None, dict[int, PoseArray]] = defaultdict(dict)
        for frame in sorted(frames):
            for one, pose in zip(ids[frame], frames[frame], strict=True):
                tracks[one][frame] = pose
        ends = [
            TrackEnds(min(t), max(t), t[min(t)][:, :-1], t[max(t)][:, :-1]) for t in tracks.values()
        ]
        persons: list[dict[int, PoseArray]] = []
        for group in join_tracks(ends):
            members = list(tracks.values())
            persons.append({t: pose for i in group for t, pose in members[i].items()})
        persons.sort(key=lambda track: -sum(float(pose[:, -1].sum()) for pose in track.values()))
        stacked = _absent_poses((min(len(persons), self.max_persons), *shape))
        for m, track in enumerate(persons[: self.max_persons]):
            stacked[m, list(track)] = list(track.values())
        return stacked

    def describe_left_out(
        self, frames: Iterable[Sequence[PoseArray]], num_persons: int
    ) -> list[str]:
        """Return notes about the poses that the selection leaves out."""
        most, notes = max(map(len, frames), default=0), []
        if most > self.candidates:
            notes.append(f"frames of more than {self.candidates} poses were cut (--candidates)")
        if most > num_persons:
            notes.append(f"more than the {num_persons} persons with most score are left out")
        return notes


class TrackEnds(NamedTuple):
    """The first and last frame of a track, with the joints (V, D) in them."""

    first: int
    last: int
    begin: NDArray[np.floating[Any]]
    end: NDArray[np.floating[Any]]


def join_tracks(tracks: Sequence[TrackEnds]) -> list[list[int]]:
    """Group tracks into persons: a track that begins where another ended continues it.

    Trackers and sensors give a person a new id after a moment in which they lose it. A track
    continues the one whose last joints are nearest, if it begins at most MAX_GAP_FRAMES later and
    the joints have moved by at most MAX_TRACK_STEP of the body's size on average.

    Returns:
        the indices of the tracks of each person, in order of time; persons in the order of their
        first tracks.
    """
    near = []
    for a, earlier in enumerate(tracks):
        for b, later in enumerate(tracks):
            if 0 < later.first - earlier.last <= MAX_GAP_FRAMES:
                step = _relative_step(earlier.end, later.begin)
                if step <= MAX_TRACK_STEP:
                    near.append((step, a, b))
    following: dict[int, int] = {}
    for _, a, b in sorted(near):
        if a not in following and b not in following.values():
            following[a] = b
    groups = []
    for start in (i for i in range(len(tracks)) if i not in following.values()):
        group = [start]
        while group[-1] in following:
            group.append(following[group[-1]])
        groups.append(group)
    return groups


def _relative_step(end: NDArray[Any], begin: NDArray[Any]) -> float:
    """Return the mean distance of the joints of two bodies, over the size of the first."""
    shared = ~np.isnan(end).any(axis=1) & ~np.isnan(begin).any(axis=1)
    if shared.mean() < MIN_SHARED_JOINTS:
        return np.inf
    distance = np.linalg.norm(begin[shared] - end[shared], axis=1).mean()
    size = np.ptp(end[shared], axis=0).max()
    return float(distance / size) if size > 0 else np.inf


def _absent_poses(shape: tuple[int, ...]) -> PoseArray:
    poses = np.full(shape, np.nan, dtype=np.float32)
    poses[..., -1] = 0
    return poses


def limit_scores(scores: NDArray[np.float32]) -> tuple[NDArray[np.float32], list[str]]:
    """Return scores of at most 1, and a note if one was above; heat maps exceed 1 by a little."""
    notes = ["scores above 1 were capped at 1"] if (scores > 1).any() else []
    return np.minimum(scores, np.float32(1)), notes


def selection_options(tracking: str, candidates: int) -> dict[str, str]:
    """Return the help lines of the options of `PoseSelection`, with the defaults of a reader."""
    return {
        "max_persons": "maximum number of persons of a clip (default 2)",
        "tracking": "match: persons linked over time; ids: by the file's track ids, where it has "
        f"them; none: the best-scored poses of each frame (default {tracking})",
        "candidates": f"poses of a frame that are considered, in file order (default {candidates})",
    }


def sort_by_score(poses: PoseArray) -> PoseArray:
    """Return each frame's poses (T, M, V, 3) by descending total score."""
    order = np.argsort(-poses[..., -1].sum(axis=2), axis=1, kind="stable")
    return np.take_along_axis(poses, order[:, :, None, None], axis=1)


def match_persons(poses: PoseArray) -> PoseArray:
    """Link the poses (T, M, V, D + 1) over time, then sort the persons by total score.

    From each frame to the next, each person takes the nearest pose that is still free, in order
    of descending total score; persons whom the last frame lacks come after the others, from where
    they were last seen. The distance is V times the mean squared distance of the joints seen in
    both frames. If all joints are seen, this is the sum of ST-GCN's `openpose_match`; joints that
    are not seen cannot pull persons to the origin. O(T M^2).
    """
    linked = poses.copy()
    latest = poses[:1].copy()[0] if len(poses) else poses
    for t in range(1, len(poses)):
        seen = (linked[t - 1][..., -1] > 0).any(axis=-1)
        linked[t] = poses[t][_match_frame(latest, poses[t], seen)]
        seen = (linked[t][..., -1] > 0).any(axis=-1)
        latest[seen] = linked[t][seen]
    order = np.argsort(-linked[..., -1].sum(axis=(0, 2)), kind="stable")
    return linked[:, order]


def _match_frame(
    current: PoseArray, following: PoseArray, seen: NDArray[np.bool_]
) -> NDArray[np.intp]:
    """Return (M,): for each person, last seen in this frame or before, its index in the next."""
    offset = following[None, :, :, :-1].astype(np.float64) - current[:, None, :, :-1]
    squared = (offset**2).sum(axis=-1)
    shared = ~np.isnan(squared)
    count, joints = shared.sum(axis=-1), squared.shape[-1]
    mean = np.where(shared, squared, 0.0).sum(axis=-1) / np.maximum(count, 1)
    mean = np.minimum(mean, _NO_SHARED_JOINT / 2 / joints)
    distance = np.where(count > 0, mean * joints, _NO_SHARED_JOINT)
    places = np.zeros(len(current), dtype=np.intp)
    for person in np.lexsort((-current[..., -1].sum(axis=1), ~seen)):
        places[person] = distance[person].argmin()
        distance[:, places[person]] = np.inf
    return places


#: Tracking method -> function from poses (T, M, V, 3) to the same with persons in order.
TRACKING_METHODS: dict[str, Callable[[PoseArray], PoseArray]] = {
    "none": sort_by_score,
    "match": match_persons,
    "ids": match_persons,  # where the file has no ids
}
