"""Body model of the synthetic dataset: joints from bone lengths and a pose over time.

Units are meters and radians in the performer's frame: x to their right, y up, z to their back,
the origin on the floor between the feet. For a camera in front of them these are the axes of a
Kinect (x to the sensor's left, y up, z away from it).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kinegraph.skeleton.layouts import get_layout

DoubleArray = NDArray[np.float64]

LEFT, RIGHT = 0, 1
SIDE_SIGN = (-1.0, 1.0)  # of x

_MAX_REACH = 0.998  # of a stretched limb; a small bend keeps elbows and knees well-defined


@dataclass(frozen=True)
class BodyProportions:
    """Bone lengths of one performer in meters; the defaults are a person of 1.75 m."""

    lower_spine: float = 0.29
    upper_spine: float = 0.25
    neck: float = 0.07
    head: float = 0.14
    shoulder: float = 0.17  # half the width
    upper_arm: float = 0.28
    forearm: float = 0.25
    palm: float = 0.07
    fingers: float = 0.08
    hip: float = 0.09  # half the width
    thigh: float = 0.42
    shin: float = 0.40
    foot: float = 0.13
    ankle: float = 0.09  # above the floor

    @classmethod
    def draw(cls, rng: np.random.Generator) -> BodyProportions:
        """Draw a person of about 1.50 m to 1.95 m, with varied limb lengths."""
        size = rng.uniform(1.50, 1.95) / 1.75
        parts = {"arm": 0.06, "leg": 0.05, "trunk": 0.04, "width": 0.10}
        factor = {part: size * rng.uniform(1 - s, 1 + s) for part, s in parts.items()}
        lengths = asdict(cls())
        return cls(**{bone: lengths[bone] * factor[part] for bone, part in _PART_BY_BONE.items()})

    @property
    def arm(self) -> float:
        """The length from the shoulder to the middle of the hand."""
        return self.upper_arm + self.forearm + self.palm

    @property
    def hip_height(self) -> float:
        """The height of the hips above the floor, standing at ease."""
        return self.ankle + 0.985 * (self.thigh + self.shin)


_PART_BY_BONE = {
    "lower_spine": "trunk", "upper_spine": "trunk", "neck": "trunk", "head": "trunk",
    "shoulder": "width", "hip": "width",
    "upper_arm": "arm", "forearm": "arm", "palm": "arm", "fingers": "arm",
    "thigh": "leg", "shin": "leg", "foot": "leg", "ankle": "leg",
}  # fmt: skip


class Pose:
    """The pose of one body over T frames; by default standing upright with the arms hanging.

    Attributes:
        body: the bone lengths.
        root: (T, 3) offset of the pelvis from standing.
        heading: (T,) angle about the vertical, to the left.
        lean: (T,) angle of the trunk, forward.
        tilt: (T,) angle of the trunk, to the right.
        twist: (T,) angle of the shoulders against the hips, to the left.
        nod: (T,) angle of the head, forward.
        hands: (2, T, 3) left and right: the middle of the hand, from the upper end of the
            spine, in the frame of the upper trunk.
        elbows: (2, T, 3) directions of the elbows, in the same frame.
        ankles: (2, T, 3) positions in the performer's frame.
        toes: (2, T) angles of the feet, downward.
    """

    def __init__(self, body: BodyProportions, frames: int) -> None:
        self.body = body
        self.root = np.zeros((frames, 3))
        self.heading, self.lean, self.tilt, self.twist, self.nod = np.zeros((5, frames))
        self.toes = np.full((2, frames), 0.15)
        self.hands, self.elbows, self.ankles = np.zeros((3, 2, frames, 3))
        for side in (LEFT, RIGHT):
            sign = SIDE_SIGN[side]
            self.hands[side] = self.reach(side, 0.15, -0.96, 0.08)
            self.elbows[side] = (0.3 * sign, -0.6, 0.9)
            self.ankles[side] = (1.1 * sign * body.hip, body.ankle, 0.0)

    def reach(self, side: int, out: ArrayLike, up: ArrayLike, forward: ArrayLike) -> DoubleArray:
        """Return (T, 3) or (3,): a position of a hand, in arm lengths from its shoulder."""
        sign, arm = SIDE_SIGN[side], self.body.arm
        shoulder = sign * self.body.shoulder, -0.03
        x = shoulder[0] + sign * arm * np.asarray(out, dtype=np.float64)
        y = shoulder[1] + arm * np.asarray(up, dtype=np.float64)
        z = -arm * np.asarray(forward, dtype=np.float64)
        return np.stack(np.broadcast_arrays(x, y, z), axis=-1)

    @property
    def mouth(self) -> DoubleArray:
        """(3,): the position before the mouth, in the frame of `hands`."""
        return np.array([0.0, self.body.neck + 0.45 * self.body.head, -0.11])

    def ear(self, side: int) -> DoubleArray:
        """Return (3,): the position beside an ear, in the frame of `hands`."""
        return np.array([0.10 * SIDE_SIGN[side], self.body.neck + 0.8 * self.body.head, -0.03])

    def joints(self) -> DoubleArray:
        """Return the joints (T, 25, 3) of layout ntu25."""
        trunk = _Trunk(self)
        places = dict(trunk.places)
        for side, name in ((LEFT, "left"), (RIGHT, "right")):
            limbs = {**_arm_joints(self, trunk, side), **_leg_joints(self, trunk, side)}
            places.update({f"{name}_{joint}": place for joint, place in limbs.items()})
        return np.stack([places[joint] for joint in get_layout("ntu25").joints], axis=1)


class _Trunk:
    """The spine of a pose, with the frames of the limbs."""

    def __init__(self, pose: Pose) -> None:
        body = pose.body
        turn = rotation_y(pose.heading)
        self.turn = turn
        self.low = turn @ rotation_z(-0.5 * pose.tilt) @ rotation_x(-0.8 * pose.lean)
        leaned = turn @ rotation_z(-pose.tilt) @ rotation_x(-1.15 * pose.lean)
        self.up = leaned @ rotation_y(pose.twist)
        self.pelvis = turn @ rotation_z(-0.3 * pose.tilt) @ rotation_x(-0.5 * pose.lean)
        base = pose.root + np.array([0.0, body.hip_height + 0.02, 0.0])
        middle = base + _apply_rotation(self.low, [0.0, body.lower_spine, 0.0])
        top = middle + _apply_rotation(self.up, [0.0, body.upper_spine, 0.0])
        neck = top + _apply_rotation(self.up, [0.0, body.neck, -0.005])
        head = neck + _apply_rotation(self.up @ rotation_x(-pose.nod), [0.0, body.head, -0.03])
        self.places = {
            "spine_base": base,
            "spine_mid": middle,
            "spine_shoulder": top,
            "neck": neck,
            "head": head,
        }


def _arm_joints(pose: Pose, trunk: _Trunk, side: int) -> dict[str, DoubleArray]:
    body, sign, top = pose.body, SIDE_SIGN[side], trunk.places["spine_shoulder"]
    shoulder = top + _apply_rotation(trunk.up, [sign * body.shoulder, -0.03, 0.0])
    target = top + _apply_rotation(trunk.up, pose.hands[side])
    pole = _apply_rotation(trunk.up, pose.elbows[side])
    # the wrist is kept straight: hand and forearm are one bone for the elbow
    elbow, hand = _solve_two_bones(shoulder, target, body.upper_arm, body.forearm + body.palm, pole)
    along = _normalize(hand - elbow)
    inward = _normalize(_perpendicular_part(_apply_rotation(trunk.up, [-sign, 0.4, -0.6]), along))
    return {
        "shoulder": shoulder,
        "elbow": elbow,
        "wrist": hand - body.palm * along,
        "hand": hand,
        "hand_tip": hand + body.fingers * along,
        "thumb": hand + 0.6 * body.fingers * (0.6 * along + 0.8 * inward),
    }


def _leg_joints(pose: Pose, trunk: _Trunk, side: int) -> dict[str, DoubleArray]:
    body, sign = pose.body, SIDE_SIGN[side]
    hip = trunk.places["spine_base"] + _apply_rotation(trunk.pelvis, [sign * body.hip, -0.02, 0.0])
    target = _apply_rotation(trunk.turn, pose.ankles[side])
    knee, ankle = _solve_two_bones(
        hip, target, body.thigh, body.shin, _apply_rotation(trunk.turn, [0.25 * sign, 0.0, -1.0])
    )
    drop = -0.6 * body.ankle
    pointing = trunk.turn @ rotation_x(-(pose.toes[side] - 0.15))
    foot = ankle + _apply_rotation(pointing, [0.25 * sign * body.foot, drop, -body.foot])
    return {"hip": hip, "knee": knee, "ankle": ankle, "foot": foot}


def mirror_joints(joints: DoubleArray) -> DoubleArray:
    """Return joints (T, 25, 3) with left and right swapped, in the performer's frame."""
    return joints[:, list(get_layout("ntu25").mirror)] * [-1.0, 1.0, 1.0]


def _solve_two_bones(
    start: DoubleArray, target: DoubleArray, first: float, second: float, pole: DoubleArray
) -> tuple[DoubleArray, DoubleArray]:
    """Return middle and end (T, 3) of two bones that reach for a target and bend toward a pole.

    The bones keep their lengths: if the target is out of reach, they point at it.
    """
    way = target - start
    shortest = 1.05 * abs(first - second) + 0.02
    distance = np.clip(np.linalg.norm(way, axis=-1), shortest, _MAX_REACH * (first + second))
    along = _normalize(way)
    cosine = (first**2 + distance**2 - second**2) / (2 * first * distance)
    bend = np.sqrt(1 - cosine**2)[:, None] * _normalize(_perpendicular_part(pole, along))
    return start + first * (cosine[:, None] * along + bend), start + distance[:, None] * along


def _perpendicular_part(vectors: DoubleArray, along: DoubleArray) -> DoubleArray:
    """Return the part of the vectors that is perpendicular to a unit vector."""
    return vectors - (vectors * along).sum(axis=-1, keepdims=True) * along


def _normalize(vectors: DoubleArray) -> DoubleArray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _apply_rotation(rotation: DoubleArray, vectors: ArrayLike) -> DoubleArray:
    """Return rotations (T, 3, 3) applied to vectors (T, 3), or to one vector for all frames."""
    vectors = np.broadcast_to(np.asarray(vectors, dtype=np.float64), rotation.shape[:2])
    return np.asarray(np.einsum("tij,tj->ti", rotation, vectors))


def _rotation(angle: ArrayLike, first: int, second: int) -> DoubleArray:
    """Return right-handed rotations (..., 3, 3) by angles (...) in the plane of two axes."""
    rotation = np.broadcast_to(np.eye(3), (*np.shape(angle), 3, 3)).copy()
    rotation[..., first, first] = rotation[..., second, second] = np.cos(angle)
    rotation[..., second, first] = np.sin(angle)
    rotation[..., first, second] = -rotation[..., second, first]
    return rotation


rotation_x = partial(_rotation, first=1, second=2)
rotation_y = partial(_rotation, first=2, second=0)
rotation_z = partial(_rotation, first=0, second=1)
