"""Selection of the poses that become the persons of a clip, from the poses found in each frame.

Pose estimators list the people of a frame in no fixed order. PoseArray are (V, 3) float32: x, y and
score, with x and y NaN and the score 0 where a joint was not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kinegraph.readers.reader import check_choice, check_count

PoseArray = NDArray[np.float32]

_NO_SHARED_JOINT = 1e30  # more than any distance, less than a person that is already taken


@dataclass(frozen=True)
class PoseSelection:
    """The options of a selection, validated.

    Attributes:
        max_persons: maximum number of persons.
        tracking: "none" takes the poses with the highest scores of each frame, so a person may
            change places; "match" links poses over time with `match_persons`.
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
        self, frames: Mapping[int, Sequence[PoseArray]], num_frames: int, num_joints: int
    ) -> PoseArray:
        """Return the persons of a clip.

        Args:
            frames: frame number -> poses (V, 3) of that frame.
            num_frames: T; every frame number is below it.
            num_joints: V.

        Returns:
            (M, T, V, 3) float32, without persons that are never seen; M may be 0. Scores, which
            may exceed 1 before, become confidences of at most 1.
        """
        most = min(max((len(poses) for poses in frames.values()), default=0), self.candidates)
        stacked = np.full((num_frames, most, num_joints, 3), np.nan, dtype=np.float32)
        stacked[..., 2] = 0
        for frame, poses in frames.items():
            for m, pose in enumerate(poses[:most]):
                stacked[frame, m] = pose
        chosen = TRACKING_METHODS[self.tracking](stacked).swapaxes(0, 1)[: self.max_persons]
        chosen = chosen[(chosen[..., 2] > 0).any(axis=(1, 2))]
        chosen[..., 2] = np.minimum(chosen[..., 2], 1)
        return chosen


def selection_options(tracking: str, candidates: int) -> dict[str, str]:
    """Return the help lines of the options of `PoseSelection`, with the defaults of a reader."""
    return {
        "max_persons": "maximum number of persons of a clip (default 2)",
        "tracking": "match: persons linked over time; none: the best-scored poses of each frame "
        f"(default {tracking})",
        "candidates": f"poses of a frame that are considered, in file order (default {candidates})",
    }


def sort_by_score(poses: PoseArray) -> PoseArray:
    """Return each frame's poses (T, M, V, 3) by descending total score."""
    order = np.argsort(-poses[..., 2].sum(axis=2), axis=1, kind="stable")
    return np.take_along_axis(poses, order[:, :, None, None], axis=1)


def match_persons(poses: PoseArray) -> PoseArray:
    """Link the poses (T, M, V, 3) over time, then sort the persons by total score.

    From each frame to the next, each person takes the nearest pose that is still free, in order
    of descending total score. The distance is V times the mean squared distance of the joints
    seen in both frames. If all joints are seen, this is the sum of ST-GCN's `openpose_match`;
    joints that are not seen cannot pull persons to the origin. O(T M^2).
    """
    linked = poses.copy()
    for t in range(1, len(poses)):
        linked[t] = poses[t][_match_frame(linked[t - 1], poses[t])]
    order = np.argsort(-linked[..., 2].sum(axis=(0, 2)), kind="stable")
    return linked[:, order]


def _match_frame(current: PoseArray, following: PoseArray) -> NDArray[np.intp]:
    """Return (M,): for each person of this frame, its index in the next one."""
    offset = following[None, :, :, :2].astype(np.float64) - current[:, None, :, :2]
    squared = (offset**2).sum(axis=-1)
    shared = ~np.isnan(squared)
    count, joints = shared.sum(axis=-1), squared.shape[-1]
    mean = np.where(shared, squared, 0.0).sum(axis=-1) / np.maximum(count, 1)
    mean = np.minimum(mean, _NO_SHARED_JOINT / 2 / joints)
    distance = np.where(count > 0, mean * joints, _NO_SHARED_JOINT)
    places = np.zeros(len(current), dtype=np.intp)
    for person in np.argsort(-current[..., 2].sum(axis=1), kind="stable"):
        places[person] = distance[person].argmin()
        distance[:, places[person]] = np.inf
    return places


#: Tracking method -> function from poses (T, M, V, 3) to the same with persons in order.
TRACKING_METHODS: dict[str, Callable[[PoseArray], PoseArray]] = {
    "none": sort_by_score,
    "match": match_persons,
}
