"""Checks of each clip against the other clips: frozen parts, odd bones, labels, sides and time.

A clip is reported where it stands out from its own store, so that no limit has to fit all sensors.
Labels, sides, time and the vertical are judged by the nearest other clips: if a clip resembles them
more after it is played backwards, or with left and right exchanged, something happened to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.body_checks import BodyProblem, row_quantile
from kinegraph.clips.clip import Clip
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.space import Space

Points = NDArray[np.float32]
Doubles = NDArray[np.float64]

MIN_CLIPS = 50  # fewer do not show what is usual; then only `ABSOLUTE` measures are judged
MIN_FRAMES = 8  # of clips whose motion is judged
MIN_CLASS_CLIPS = 4  # other clips of the same class, without which a label is not judged
GROUP_CLIPS = 2000  # clips that are compared with each other; time and memory grow by its square
POSE_FRAMES = 12  # that stand for a clip
OUTLIER_SHARE = 0.003  # of the clips may be far from the others by nature
STUCK_SHARE = 0.02  # of the clips, in which a joint that is always at the origin never moves

#: By measure: the least value that is reported, how far it is beyond the clips that may be outliers
#: by nature, and what follows the number of clips.
LIMITS = {
    "flat": (0.5, 1.0, "with a coordinate that is the same for all joints of all frames"),
    "frozen": (0.25, 1.1, "partly frozen: equal frames in a row"),
    "stuck": (0.5, 1.0, "in which a joint never moves while others do"),
    "jump": (0.06, 1.3, "in which a body jumps much farther than those of other clips"),
    "tremble": (1.2, 1.12, "whose frames are out of order, or whose joints tremble"),
    "scale": (0.4, 1.2, "with bodies of another size than the others"),
    "bone": (3.0, 1.4, "with bones of unusual length: a joint is at a wrong place"),
    "label": (1.25, 1.15, "that resemble another class more than their own: is the label wrong?"),
    "backwards": (1.15, 1.15, "that resemble others more when played backwards"),
    "sides": (1.1, 1.15, "that resemble others more with left and right exchanged"),
    "upside_down": (1.0, 1.15, "that resemble others more when turned upside down"),
}
ABSOLUTE = ("flat", "frozen", "stuck")


@dataclass
class ClipComparer:
    """The checks of a store: `measure` takes its clips one by one, `find_problems` sums them up.

    Attributes:
        layout, space: those of the store.
        measures: by the name of a measure: its value for each clip so far, NaN where unknown.
    """

    layout: SkeletonLayout
    space: Space
    measures: dict[str, list[float]] = field(default_factory=dict)
    _lengths: list[Doubles] = field(default_factory=list)
    _still: list[NDArray[np.bool_]] = field(default_factory=list)
    _poses: list[NDArray[np.float16] | None] = field(default_factory=list)

    def measure(self, clip: Clip) -> None:
        """Measure one clip of the store."""
        joints = clip.joints
        with np.errstate(all="ignore"):
            lengths = _median_bone_lengths(joints, self.layout)
            size = float(np.nansum(lengths))
            has_body = size > 0
            self._lengths.append(lengths / (_median(lengths) if has_body else np.nan))
            self._still.append(_find_still_joints(joints))
            self._poses.append(self._normalize_pose(joints, size) if has_body else None)
            found = _measure_movement(joints, size) if has_body else {}
            is_world = has_body and self.space.kind == "world"
            found["scale"] = float(np.log(size)) if is_world else np.nan
            found["flat"] = float(has_body and (_extent(joints) == 0).any())
        for name in ("flat", "frozen", "jump", "tremble", "scale"):
            self.measures.setdefault(name, []).append(found.get(name, np.nan))

    def find_problems(self, labels: NDArray[np.int64]) -> Iterator[BodyProblem]:
        """Yield what stands out.

        Args:
            labels: (N,) label of each clip, -1 where unknown.
        """
        values = {name: np.array(given) for name, given in self.measures.items()}
        with np.errstate(all="ignore"):
            values["scale"] = np.abs(values["scale"] - _median(values["scale"]))
            values["bone"] = _compare_bones(np.array(self._lengths))
            still = np.array(self._still)
            rare = still.sum(axis=0) <= max(1, STUCK_SHARE * len(labels))
            values["stuck"] = still[:, rare].any(axis=1).astype(float)
            values.update(self._compare_with_neighbors(labels))
        names = LIMITS if len(labels) >= MIN_CLIPS else ABSOLUTE
        for name in names:
            least, margin, text = LIMITS[name]
            clips = np.flatnonzero(values[name] > max(least, margin * _usual_limit(values[name])))
            if len(clips):
                yield BodyProblem("warning", text, tuple(clips.tolist()))

    def _normalize_pose(self, joints: Points, size: float) -> NDArray[np.float16] | None:
        """Return (POSE_FRAMES, V, D): the person who is seen most, facing away, of size 1."""
        person = np.argmax((~np.isnan(joints[..., 0])).sum(axis=(1, 2)))
        pose = joints[person]
        pose = pose[~np.isnan(pose[..., 0]).all(axis=1)]
        D = pose.shape[-1]
        mean = _mean_of_known(pose, 0)
        mean = np.where(np.isnan(mean), _mean_of_known(mean, 0), mean)
        pose = np.where(np.isnan(pose), mean, pose)
        if self.space.kind == "world":
            pose = pose @ self.space.camera_axes[:D, :D].T
        pose = pose - pose.mean(axis=(0, 1))
        if self._turns(D):
            pose = pose @ _turn_to_right(pose, self.layout).T
        at = np.linspace(0, len(pose) - 1, POSE_FRAMES)
        before = at.astype(int)
        after, share = np.minimum(before + 1, len(pose) - 1), (at - before)[:, None, None]
        return ((pose[before] * (1 - share) + pose[after] * share) / size).astype(np.float16)

    def _turns(self, coordinates: int) -> bool:
        """Whether bodies are turned about the vertical until left is on the right."""
        return self.space.kind == "world" and coordinates == 3 and bool(self.layout.mirror_pairs)

    def _compare_with_neighbors(self, labels: NDArray[np.int64]) -> dict[str, Doubles]:
        names = ("label", "backwards", "sides", "upside_down")
        values = {name: np.full(len(labels), np.nan) for name in names}
        known = np.flatnonzero([pose is not None for pose in self._poses])
        order = np.random.default_rng(0).permutation(known)
        for group in np.array_split(order, max(1, -(-len(order) // GROUP_CLIPS))):
            poses = np.stack([self._poses[i] for i in group]).astype(np.float32)
            for name, found in self._compare_group(poses, labels[group]).items():
                values[name][group] = found
        return values

    def _compare_group(self, poses: Points, labels: NDArray[np.int64]) -> dict[str, Doubles]:
        """Return ratios of distances: to the nearest clips as it is, over those after a change."""
        same, other = _nearest(poses, poses, labels)
        back = _nearest(poses[:, ::-1], poses, labels)
        turned = np.array([-1, 1, -1] if self._turns(poses.shape[-1]) else [1], np.float32)
        sides = _nearest(poses[:, :, list(self.layout.mirror)] * turned, poses, labels)
        upside = np.ones(poses.shape[-1], np.float32)
        upside[1:2] = -1
        down = _nearest(poses * upside, poses, labels)
        nearest = np.fmin(same, other)
        return {
            "label": same / other,
            "backwards": np.fmax(same / back[0], nearest / np.fmin(*back)),
            "sides": nearest / np.fmin(*sides),
            "upside_down": nearest / np.fmin(*down),
        }


def _usual_limit(values: Doubles) -> float:
    """Return the largest value of the clips that are not among the few outliers."""
    known = np.sort(values[~np.isnan(values)])
    outliers = int(np.ceil(OUTLIER_SHARE * len(known)))
    return float(known[-1 - outliers]) if len(known) > outliers else 0.0


def _median_bone_lengths(joints: Points, layout: SkeletonLayout) -> Doubles:
    """Return (B,) the median length of each bone."""
    heads, tails = np.array(layout.bones, int).reshape(-1, 2).T
    few = joints[:, :: max(1, joints.shape[1] // 50)]
    lengths = np.linalg.norm(few[:, :, heads] - few[:, :, tails], axis=-1)
    return row_quantile(lengths.reshape(-1, len(heads)).T)


def _compare_bones(lengths: Doubles) -> Doubles:
    """Return how far the oddest bone of each clip is from its usual length, in usual deviations."""
    deviations = np.abs(lengths - row_quantile(lengths.T))
    usual = row_quantile(deviations.T, 0.95)
    return np.asarray(np.fmax.reduce(deviations / np.maximum(usual, 1e-3), axis=1), np.float64)


def _extent(joints: Points) -> Points:
    return np.fmax.reduce(joints, axis=(0, 1, 2)) - np.fmin.reduce(joints, axis=(0, 1, 2))


def _find_still_joints(joints: Points) -> NDArray[np.bool_]:
    """Return (V,): True where a joint of some person is at one place in all frames."""
    still = (np.fmax.reduce(joints, axis=1) == np.fmin.reduce(joints, axis=1)).all(axis=-1)
    moves = ~still.all(axis=1, keepdims=True)
    return (still & moves & (joints.shape[1] >= MIN_FRAMES)).any(axis=0)


def _median(values: NDArray[Any]) -> np.float64:
    return np.float64(row_quantile(values.reshape(1, -1))[0])


def _mean_of_known(values: NDArray[Any], axis: int) -> NDArray[Any]:
    """Return the mean of the numbers along an axis, NaN where there are none."""
    return np.asarray(np.nansum(values, axis=axis) / (~np.isnan(values)).sum(axis=axis))


def _measure_movement(joints: Points, size: float) -> dict[str, float]:
    steps = np.diff(joints, axis=1)
    if steps.shape[1] < MIN_FRAMES - 1:
        return {}
    equal = (steps == 0).all(axis=(2, 3))
    run = _longest_run(equal)
    centers = np.linalg.norm(np.diff(_mean_of_known(joints, 2), axis=1), axis=-1)
    speeds = np.linalg.norm(steps, axis=-1)
    changes = np.linalg.norm(np.diff(steps, axis=1), axis=-1)
    means = [np.nansum(array) / (~np.isnan(array)).sum() for array in (changes, speeds)]
    return {
        "frozen": run / equal.shape[1] if run < equal.shape[1] else np.nan,
        "jump": float(np.fmax.reduce(centers, axis=None)) / size,
        "tremble": float(np.fmin(_median(changes) / _median(speeds), means[0] / means[1])),
    }


def _longest_run(equal: NDArray[np.bool_]) -> int:
    """Return the length of the longest run of True in a row of (M, T)."""
    edges = np.diff(np.pad(equal, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    starts, ends = np.nonzero(edges == 1), np.nonzero(edges == -1)
    return int((ends[1] - starts[1]).max(initial=0))


def _turn_to_right(pose: Points, layout: SkeletonLayout) -> Points:
    """Return the rotation about y after which the left of the body is on the right, at +x."""
    trunk = [
        pair
        for pair in layout.mirror_pairs
        if {"shoulder", "hip"} & {*layout.joints[pair[0]].split("_")}
    ]
    left, right = np.array(trunk or layout.mirror_pairs).T
    across = (pose[:, left] - pose[:, right]).mean(axis=(0, 1))
    level = float(np.hypot(across[0], across[2]))
    cos, sin = (across[0] / level, across[2] / level) if level > 0 else (1.0, 0.0)
    return np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]], np.float32)


def _nearest(poses: Points, others: Points, labels: NDArray[np.int64]) -> tuple[Doubles, Doubles]:
    """Return the distance of each clip to the nearest other one of its class, and of the others.

    NaN where it has no label, or where too few have the same.
    """
    a, b = poses.reshape(len(poses), -1), others.reshape(len(others), -1)
    squares = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2 * a @ b.T
    distances = np.sqrt(np.maximum(squares, 1e-9)).astype(np.float64)
    np.fill_diagonal(distances, np.inf)
    is_same = labels[:, None] == labels
    judged = (is_same.sum(axis=1) > MIN_CLASS_CLIPS) & (labels >= 0)
    same = np.where(is_same, distances, np.inf).min(axis=1, initial=np.inf)
    other = np.where(is_same, np.inf, distances).min(axis=1, initial=np.inf)
    same[~judged], other[np.isinf(other)] = np.nan, np.nan
    return same, other
