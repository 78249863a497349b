"""Checks of bodies: joints in a wrong order, upside-down or mirrored bodies, mixed units and rates.

Each check is a rule about all clips of a store together: single clips may show a handstand, a body
from the side, or an arm that is hidden.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip
from kinegraph.errors import LayoutError
from kinegraph.skeleton.body_axes import trunk_vectors
from kinegraph.skeleton.joint_mapping import map_joints
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import LAYOUTS, get_layout
from kinegraph.skeleton.space import Space, guess_image_unit

Points = NDArray[np.float32]
Severity = Literal["error", "warning", "note"]

MAX_FRAMES_CHECKED = 50  # of a clip, evenly spaced
MIN_CLIPS_FOR_STRICT = 20  # from which images are as certain as bodies in 3D
MIN_FACING_FRAMES = 20  # in which faces are seen, from which mirrored images are known
MIRRORED_SHARE = 0.8
UPSIDE_DOWN_SHARE = 0.5  # of the clips with upright or upside-down bodies
MIN_COSINE = 0.7  # between a trunk and the vertical, from which a body is upright
MIN_FACING_COSINE = 0.3
UNIT_RATIO = 50.0  # between the sizes of bodies in two units: m and cm differ by 100

#: A layout that names the limbs; others are mapped to it.
_REFERENCE = "penn13"
_LIMB_PARTS = (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"))
_FACE = {"nose", "eye", "ear", "mouth", "face"}
_ENDS = {"toe", "heel", "foot", "hand", "thumb", "tip", "finger", "index", "pinky"}


class BodyProblem(NamedTuple):
    """A problem of the bodies of a store.

    Attributes:
        severity: see `kinegraph.clips.validate.Finding`.
        text: one sentence; with ``clips``, what follows their number.
        clips: positions of the clips concerned; empty if it concerns the store.
    """

    severity: Severity
    text: str
    clips: tuple[int, ...] = ()


@dataclass(frozen=True)
class BoneLimits:
    """The largest lengths of bones, in median limbs, and ratios between the two sides.

    Beyond the medians of real data (Kinect, OpenPose, Penn Action, JHMDB), where feet and faces
    reach 0.5, hips 0.8, limbs 1.5 in 3D and 2.3 in single clips of an image, trunks 1.7 and 2.8.
    """

    limb: float
    trunk: float
    hip: float = 1.6
    end: float = 1.6
    sides: float = 1.6
    variation: float = 0.6


LIMITS_3D = BoneLimits(limb=1.9, trunk=2.2)
LIMITS_IMAGES = BoneLimits(limb=2.3, trunk=2.6, hip=2.0, end=2.0, sides=2.0, variation=np.inf)
LIMITS_FEW_IMAGES = BoneLimits(limb=3.2, trunk=4.0, hip=4.0, end=2.5, sides=3.0, variation=np.inf)


@dataclass
class BodyMeasures:
    """What is measured of one clip; NaN where it cannot be known.

    Attributes:
        lengths: (B,) median length of each bone, in median limbs.
        sides: (4,) ratio of left to right of each limb.
        variation: (8,) variation of the length of each limb: the middle half of its lengths over
            their median.
        upright: cosine between the trunks and the upward axis.
        facing: cosine between the line from right to left shoulder and the left of a body that
            looks where its feet or its nose point.
        faces: frames that show a face and shoulders, and those of them that are mirrored.
        scale: median length of the limbs, in the unit of the store.
        last: lowest and highest third number.
        pixels: whether x and y are pixels.
    """

    lengths: NDArray[np.float64]
    sides: NDArray[np.float64]
    variation: NDArray[np.float64]
    upright: float = np.nan
    facing: float = np.nan
    faces: tuple[int, int] = (0, 0)
    scale: float = np.nan
    last: tuple[float, float] = (np.nan, np.nan)
    pixels: bool = False


@dataclass
class BodyChecker:
    """The checks of a store: `measure` takes its clips one by one, `find_problems` sums them up.

    Attributes:
        layout, space: those of the store.
        measures: of the clips so far.
    """

    layout: SkeletonLayout
    space: Space
    measures: list[BodyMeasures] = field(default_factory=list)
    _first: list[Clip] = field(default_factory=list)

    @cached_property
    def _limbs(self) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """The joints at both ends of left and right upper arm, forearm, thigh and shank."""
        reference = get_layout(_REFERENCE)
        try:
            mapping = map_joints(self.layout, reference)
        except LayoutError:
            return []
        ends = [
            (mapping[reference.index(f"{side}_{a}")], mapping[reference.index(f"{side}_{b}")])
            for a, b in _LIMB_PARTS
            for side in ("left", "right")
        ]
        return ends if all(a and b for a, b in ends) else []

    def measure(self, clip: Clip) -> None:
        """Measure one clip of the store."""
        if len(self._first) < MIN_CLIPS_FOR_STRICT:
            self._first.append(clip)
        step = max(1, clip.num_frames // MAX_FRAMES_CHECKED)
        joints = clip.joints[:, ::step]
        absent = np.full(len(self.layout.bones), np.nan)
        found = BodyMeasures(absent, np.full(4, np.nan), np.full(8, np.nan))
        with np.errstate(all="ignore"):
            if self._limbs:
                self._measure_bones(joints, found)
                self._measure_directions(clip, joints, step, found)
        if clip.num_channels == 3:
            last = joints[..., 2]
            low, high = np.fmin.reduce(last, axis=None), np.fmax.reduce(last, axis=None)
            found.last = (float(low), float(high))
        found.pixels = guess_image_unit(joints) == "pixel"
        self.measures.append(found)

    def _measure_bones(self, joints: Points, found: BodyMeasures) -> None:
        limbs = np.stack([_distance(joints, a, b) for a, b in self._limbs])
        medians = row_quantile(limbs)
        found.scale = float(row_quantile(medians[None])[0])
        if np.isnan(medians).sum() > len(medians) / 2 or not found.scale > 0:
            return
        found.variation = (row_quantile(limbs, 0.75) - row_quantile(limbs, 0.25)) / medians
        found.sides = medians[0::2] / medians[1::2]
        bones = np.stack([_distance(joints, (a,), (b,)) for a, b in self.layout.bones])
        found.lengths = row_quantile(bones) / found.scale

    def _measure_directions(
        self, clip: Clip, joints: Points, step: int, found: BodyMeasures
    ) -> None:
        if self.space.kind == "unstated" or clip.num_channels > 3:
            return
        axes = self.space.camera_axes[: clip.num_channels, : clip.num_channels]
        seen = joints @ axes.T if self.space.kind == "world" else joints
        trunks = trunk_vectors(np.ascontiguousarray(seen), self.layout)
        if len(trunks):
            unit = trunks / np.linalg.norm(trunks, axis=1, keepdims=True)
            found.upright = -float(row_quantile(unit[None, :, 1])[0])  # y points down here
        if clip.num_channels == 3:
            found.facing = self._measure_facing(seen)
        else:
            score = None if clip.confidence is None else clip.confidence[:, ::step]
            found.faces = self._count_faces(seen, score)

    def _measure_facing(self, seen: Points) -> float:
        forward = [
            _between(seen, self.layout, tip, root) for root, tip in _list_pointers(self.layout)
        ]
        names = ("left_shoulder", "right_shoulder")
        if not forward or any(name not in self.layout.joints for name in names):
            return float("nan")
        ahead = np.asarray(sum(forward), np.float32)
        left = _between(seen, self.layout, *names)
        # up x ahead, with up = (0, -1, 0): the left of the body in a right-handed space
        expected = np.stack([-ahead[..., 2], 0 * ahead[..., 0], ahead[..., 0]], axis=-1)
        sizes = np.linalg.norm(left, axis=-1) * np.linalg.norm(expected, axis=-1)
        level = np.linalg.norm(expected, axis=-1) > 0.5 * np.linalg.norm(ahead, axis=-1)
        cosine = np.where(level, (left * expected).sum(axis=-1) / sizes, np.nan)
        return float(row_quantile(cosine.reshape(1, -1))[0])

    def _count_faces(self, seen: Points, score: Points | None) -> tuple[int, int]:
        """Count frames of bodies that show their face to the camera, and those of left for right.

        A body that faces the camera has its left shoulder on the right of the image.
        """
        names = ("nose", "left_eye", "right_eye", "left_shoulder", "right_shoulder")
        if any(name not in self.layout.joints for name in names) or score is None:
            return 0, 0
        places = [self.layout.joints.index(name) for name in names]
        certain = ((score[..., places] > 0.5) & ~np.isnan(seen[..., places, 0])).all(axis=-1)
        across = _between(seen, self.layout, "left_shoulder", "right_shoulder")
        certain &= np.abs(across[..., 0]) > 2 * np.abs(across[..., 1])
        return int(certain.sum()), int((certain & (across[..., 0] < 0)).sum())

    def find_problems(self, rates: Sequence[float]) -> list[BodyProblem]:
        """Return the problems of all clips together.

        Args:
            rates: frames per second per clip, NaN where unknown.
        """
        if not self.measures:
            return []
        misfit = self.describe_misfit()
        order = [BodyProblem("warning", misfit + self._suggest_order())] if misfit else []
        return [
            *(order or self._find_direction_problems()),
            *self._find_number_problems(),
            *_find_rate_problems(rates),
        ]

    def describe_misfit(self) -> str:
        """Return why the joints cannot be in the order of the layout; "" if they can."""
        lengths = row_quantile(np.array([m.lengths for m in self.measures]).T)
        with np.errstate(divide="ignore"):  # a limb of length 0
            sides = row_quantile(np.abs(np.log(np.array([m.sides for m in self.measures]))).T)
        variation = row_quantile(np.array([m.variation for m in self.measures]).T)
        limits = LIMITS_3D
        if self.space.kind == "image":
            strict = len(self.measures) >= MIN_CLIPS_FOR_STRICT
            limits = LIMITS_IMAGES if strict else LIMITS_FEW_IMAGES
        joints, reasons = self.layout.joints, []
        over = lengths / [_limit_of(joints[a], joints[b], limits) for a, b in self.layout.bones]
        if len(over) and np.fmax.reduce(over) > 1:
            a, b = self.layout.bones[int(np.nanargmax(over))]
            times = lengths[int(np.nanargmax(over))]
            reasons.append(f"{joints[a]} and {joints[b]} are {times:.1f} limbs apart")
        if np.fmax.reduce(sides) > np.log(limits.sides):
            limb, times = _LIMB_PARTS[int(np.nanargmax(sides))], np.exp(np.nanmax(sides))
            reasons.append(f"left and right {limb[0]} to {limb[1]} differ {times:.1f} times")
        if np.fmax.reduce(variation) > limits.variation:
            limb = _LIMB_PARTS[int(np.nanargmax(variation)) // 2]
            share = np.nanmax(variation)
            reasons.append(f"the length from {limb[0]} to {limb[1]} varies by {share:.0%}")
        if not reasons:
            return ""
        return f"the joints do not fit layout {self.layout.name!r}: {'; '.join(reasons)}"

    def list_fitting_layouts(self) -> list[str]:
        """Return the registered layouts of as many joints that the first clips fit."""
        fitting = []
        for layout in LAYOUTS.values():
            if layout.num_joints == self.layout.num_joints and layout != self.layout:
                other = BodyChecker(layout, self.space)
                for clip in self._first:
                    other.measure(replace(clip, layout=layout))
                if other._limbs and not other.describe_misfit():
                    fitting.append(layout.name)
        return fitting

    def _suggest_order(self) -> str:
        fitting = self.list_fitting_layouts()
        known = f"; they fit {' or '.join(fitting)} (--layout {fitting[0]})" if fitting else ""
        return f"{known}; `kinegraph list layouts NAME` prints the order of a layout's joints"

    def _find_direction_problems(self) -> Iterator[BodyProblem]:
        upright = np.array([m.upright for m in self.measures])
        down = np.flatnonzero(upright < -MIN_COSINE)
        known = len(down) + int((upright > MIN_COSINE).sum())
        if len(down) and len(down) > UPSIDE_DOWN_SHARE * known:
            where = "y points down" if self.space.kind == "image" else f"{self.space.up} points up"
            text = f"with upside-down bodies: heads are below hips where {where}"
            yield BodyProblem("warning", text, tuple(down.tolist()))
        facing = np.array([m.facing for m in self.measures])
        mirrored = np.flatnonzero(facing < -MIN_FACING_COSINE)
        known = len(mirrored) + int((facing > MIN_FACING_COSINE).sum())
        if len(mirrored) and len(mirrored) > MIRRORED_SHARE * known:
            text = (
                "in which left and right are mirrored: bodies look where their feet do not point. "
                "Is the handedness, or the axis that points up or away, another?"
            )
            yield BodyProblem("warning", text, tuple(mirrored.tolist()))
        shown, wrong = np.array([m.faces for m in self.measures]).sum(axis=0)
        if shown >= MIN_FACING_FRAMES and wrong > MIRRORED_SHARE * shown:
            text = (
                f"left and right are mirrored: in {wrong} of {shown} frames that show a face, the "
                "left shoulder is on the left of the image"
            )
            yield BodyProblem("warning", text)

    def _find_number_problems(self) -> Iterator[BodyProblem]:
        low, high = np.array([m.last for m in self.measures]).T
        pixels = np.array([m.pixels for m in self.measures])
        if np.fmin.reduce(low) >= 0 and np.fmax.reduce(high) <= 1 and pixels.mean() > 0.5:
            yield BodyProblem(
                "error",
                "the third number of all joints is from 0 to 1, and x and y are pixels: it is a "
                "confidence, not a depth; convert again with --confidence true",
            )
        scale = np.array([m.scale for m in self.measures])
        if (scale > 0).any():
            ratio = scale / np.nanmedian(scale)
            other = (ratio > UNIT_RATIO) | (ratio < 1 / UNIT_RATIO)
            if other.any():
                times = np.nanmedian(ratio[other])
                text = f"with bodies {times:.3g} times as large: units are mixed"
                yield BodyProblem("warning", text, tuple(np.flatnonzero(other).tolist()))


def describe_misfit(clip: Clip) -> str:
    """Return why a clip's joints cannot be in the order of its layout; "" if they can."""
    checker = BodyChecker(clip.layout, clip.space)
    checker.measure(clip)
    misfit = checker.describe_misfit()
    fitting = checker.list_fitting_layouts() if misfit else []
    return f"{misfit}; they fit --layout {' or '.join(fitting)}" if fitting else misfit


def _find_rate_problems(rates: Sequence[float]) -> Iterator[BodyProblem]:
    values, counts = np.unique(np.round(np.asarray(rates, np.float64), 2), return_counts=True)
    if len(values) > 1:
        listed = [
            f"{'unknown' if np.isnan(v) else f'{v:g}'} in {n}"
            for v, n in sorted(zip(values, counts, strict=True), key=lambda pair: -pair[1])
        ]
        yield BodyProblem(
            "note",
            f"frame rates differ: {', '.join(listed[:5])} clips; the transform `resample: "
            "{fps: 30}` brings them to one",
        )


def row_quantile(values: NDArray[Any], share: float = 0.5) -> NDArray[np.float64]:
    """Return a quantile of the numbers in each row, NaN for rows without one."""
    if not values.shape[1]:
        return np.full(len(values), np.nan)
    ordered = np.sort(values, axis=1)  # NaN comes last
    last = np.maximum((~np.isnan(ordered)).sum(axis=1) - 1, 0)
    rows = np.arange(len(ordered))
    return np.asarray(ordered[rows, np.rint(share * last).astype(int)], np.float64)


def _distance(joints: Points, a: Sequence[int], b: Sequence[int]) -> Points:
    """Return the distances of two points, each the mean of some joints, flat over the frames."""
    gap = joints[..., list(a), :].mean(axis=-2) - joints[..., list(b), :].mean(axis=-2)
    return np.asarray(np.linalg.norm(gap, axis=-1)).ravel()


def _between(joints: Points, layout: SkeletonLayout, head: str, tail: str) -> Points:
    return joints[..., layout.joints.index(head), :] - joints[..., layout.joints.index(tail), :]


def _limit_of(a: str, b: str, limits: BoneLimits) -> float:
    """Return the largest length of the bone between two joints."""
    parts = [{*name.split("_")} for name in (a, b)]
    both = parts[0] | parts[1]
    if all(part & _FACE for part in parts) or both & _ENDS:
        return limits.end
    if any("hip" in part and part & {"left", "right"} for part in parts):
        if "shoulder" in both or "collar" in both or "neck" in both:
            return limits.trunk
        return limits.limb if "knee" in both else limits.hip
    limb = {"shoulder", "elbow"} <= both or {"elbow", "wrist"} <= both or {"knee", "ankle"} <= both
    return limits.limb if limb else limits.trunk


def _list_pointers(layout: SkeletonLayout) -> list[tuple[str, str]]:
    """Return at most two pairs of joints of which the second is ahead of the first: the feet."""
    pairs = [
        (f"{side}_ankle", f"{side}_{tip}")
        for side in ("left", "right")
        for tip in ("big_toe", "toe", "toes", "foot", "foot_index")
    ]
    found = [pair for pair in pairs if {*pair} <= {*layout.joints}]
    return [pair for pair in found if pair[1].split("_", 1)[1] == found[0][1].split("_", 1)[1]]
