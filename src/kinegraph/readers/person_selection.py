"""Which of several poses in a frame become the persons of a clip.

Pose estimators list the people of a frame in no fixed order. Poses are (V, 3) float32: x, y and
score, with x and y NaN and the score 0 where a joint was not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from kinegraph.errors import ReadError, unknown_name

Poses = NDArray[np.float32]

_NOTHING_SHARED = 1e30  # dearer than any distance, cheaper than a person that is already taken


def select_poses(
    frames: Mapping[int, Sequence[Poses]],
    num_frames: int,
    num_joints: int,
    *,
    max_persons: int,
    candidates: int,
    tracking: str,
) -> Poses:
    """The persons of a clip from the poses found in each frame.

    Args:
        frames: frame number -> poses (V, 3) of that frame.
        num_frames: T; every frame number is below it.
        num_joints: V.
        max_persons: the most persons to keep.
        candidates: how many poses of a frame are looked at, in file order.
        tracking: "none" takes the best-scored poses of each frame anew, so that a person may
            change places; "match" links poses over time with `match_persons` first.

    Returns:
        (M, T, V, 3) float32, without persons that are never seen; M may be 0. Scores, which
        may exceed 1 up to here, become confidences of at most 1.

    Raises:
        UnknownNameError: no such tracking.
    """
    if tracking not in TRACKING:
        raise unknown_name("tracking", tracking, TRACKING)
    most = min(max((len(poses) for poses in frames.values()), default=0), candidates)
    stacked = np.full((num_frames, most, num_joints, 3), np.nan, dtype=np.float32)
    stacked[..., 2] = 0
    for frame, poses in frames.items():
        for m, pose in enumerate(poses[:most]):
            stacked[frame, m] = pose
    chosen = TRACKING[tracking](stacked).swapaxes(0, 1)[:max_persons]
    chosen = chosen[(chosen[..., 2] > 0).any(axis=(1, 2))]
    chosen[..., 2] = np.minimum(chosen[..., 2], 1)
    return chosen


def validate_selection(max_persons: object, candidates: object, tracking: str) -> None:
    """Complain about options that `select_poses` could not follow.

    Raises:
        ReadError: a number below 1, or none.
        UnknownNameError: no such tracking.
    """
    if tracking not in TRACKING:
        raise unknown_name("tracking", tracking, TRACKING)
    for name, value in (("max_persons", max_persons), ("candidates", candidates)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ReadError(f"expected {name} to be a whole number above 0, got {value!r}")


def sort_by_score(poses: Poses) -> Poses:
    """Each frame's poses (T, M, V, 3) by falling total score."""
    order = np.argsort(-poses[..., 2].sum(axis=2), axis=1, kind="stable")
    return np.take_along_axis(poses, order[:, :, None, None], axis=1)


def match_persons(poses: Poses) -> Poses:
    """Link the poses (T, M, V, 3) over time, then sort the persons by total score.

    From each frame to the next, persons choose the nearest pose that is still free, the one of
    the highest total score first. The distance is the mean squared one over joints seen in both
    frames times V: the sum over all joints of ST-GCN's `openpose_match` where all are seen,
    while joints that are not seen cannot pull persons to the origin. O(T M^2).
    """
    linked = poses.copy()
    for t in range(1, len(poses)):
        linked[t] = poses[t][_next_places(linked[t - 1], poses[t])]
    order = np.argsort(-linked[..., 2].sum(axis=(0, 2)), kind="stable")
    return linked[:, order]


def _next_places(now: Poses, then: Poses) -> NDArray[np.intp]:
    """(M,): for each person of this frame, its index in the next one."""
    distance = _distances(now, then)
    places = np.zeros(len(now), dtype=np.intp)
    for person in np.argsort(-now[..., 2].sum(axis=1), kind="stable"):
        places[person] = distance[person].argmin()
        distance[:, places[person]] = np.inf
    return places


def _distances(now: Poses, then: Poses) -> NDArray[np.float64]:
    """(M, M) of this frame's poses to the next one's."""
    offset = then[None, :, :, :2].astype(np.float64) - now[:, None, :, :2]
    squared = (offset**2).sum(axis=-1)
    shared = ~np.isnan(squared)
    total = np.where(shared, squared, 0.0).sum(axis=-1)
    count = shared.sum(axis=-1)
    mean = np.minimum(total / np.maximum(count, 1), _NOTHING_SHARED / 2 / squared.shape[-1])
    return np.where(count > 0, mean * squared.shape[-1], _NOTHING_SHARED)


#: Way of telling persons apart -> (T, M, V, 3) in, the same with persons in order.
TRACKING: Mapping[str, Callable[[Poses], Poses]] = MappingProxyType(
    {"none": sort_by_score, "match": match_persons}
)
