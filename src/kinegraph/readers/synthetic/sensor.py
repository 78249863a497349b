"""The made-up cameras of the synthetic data set: what a Kinect would have written of a scene."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kinegraph.readers.ntu.skeleton_file import JOINT_FIELDS, Body, SkeletonRecording
from kinegraph.readers.synthetic.body import Array
from kinegraph.skeleton.layouts import get_layout

_DECIMALS = 4  # of a metre: a tenth of a millimetre
_NOT_TRACKED, _INFERRED, _TRACKED = 0, 1, 2
_HAND_UNSEEN, _HAND_OPEN = (0.0, 1.0), (1.0, 2.0)  # confidence, state

_LIMBS = (("left", "arm"), ("right", "arm"), ("left", "leg"), ("right", "leg"))
_ENDS = {
    "arm": ("wrist", "hand", "hand_tip", "thumb"),
    "leg": ("ankle", "foot"),
}
_SHAKE = {"hand": 2.0, "hand_tip": 3.0, "thumb": 3.0, "foot": 2.0, "ankle": 1.5, "wrist": 1.5}


@dataclass(frozen=True)
class Camera:
    """Where a sensor stands, looking at the origin of the scene from its front.

    Attributes:
        yaw: radians around the scene, 0 is in front.
        height: metres above the floor.
        distance: metres from the scene's middle.
        pitch: radians by which it looks down.
    """

    yaw: float
    height: float
    distance: float
    pitch: float

    def sees(self, scene: Array) -> Array:
        """(..., 3) scene coordinates in those of the sensor: x to its left, y up, z away."""
        cos, sin = np.cos(self.yaw), np.sin(self.yaw)
        around = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
        cos, sin = np.cos(self.pitch), np.sin(self.pitch)
        down = np.array([[1, 0, 0], [0, cos, sin], [0, -sin, cos]])
        return np.asarray((scene @ around.T + [0, -self.height, self.distance]) @ down.T)


#: Camera number in the file names -> camera; the protocol xview tests on number 1.
CAMERAS: dict[int, Camera] = {
    1: Camera(yaw=0.70, height=1.35, distance=3.1, pitch=0.12),
    2: Camera(yaw=0.00, height=1.00, distance=2.8, pitch=0.04),
    3: Camera(yaw=-0.75, height=0.80, distance=3.4, pitch=0.00),
}


def record(
    scene: Array, camera: Camera, body_id: int, rng: np.random.Generator
) -> SkeletonRecording:
    """What the sensor says of a scene.

    A joint that other parts of the body hide is inferred (tracking state 1), badly. Now and then
    the end of a limb is lost for some frames: state 0 and the coordinates 0 0 0. Orientations are
    not estimated, so they are 0.

    Args:
        scene: (M, T, 25, 3) where everybody is, metres.
        camera: the sensor.
        body_id: of the first person; the others count on.
        rng: decides the noise.
    """
    seen = camera.sees(scene)
    bodies = [_bodies(person, str(body_id + m), rng) for m, person in enumerate(seen)]
    return SkeletonRecording([list(frame) for frame in zip(*bodies, strict=True)])


def _bodies(joints: Array, body_id: str, rng: np.random.Generator) -> list[Body]:
    """One person's body in every frame, from their true joints (T, 25, 3)."""
    state = np.where(_hidden(joints), _INFERRED, _TRACKED)
    values = np.zeros((*state.shape, len(JOINT_FIELDS)))
    values[..., :3] = joints + _noise(joints, state, rng)
    values[..., 3:7] = _pixels(values[..., :3])
    values[..., -1] = state
    values[_lost(state, rng)] = _NOT_TRACKED
    values = np.round(values, _DECIMALS) + 0.0  # -0.0 becomes 0.0
    return [Body(body_id, _body_state(frame), frame) for frame in values]


def _index(*names: str) -> NDArray[np.intp]:
    layout = get_layout("ntu25")
    return np.array([layout.index(name) for name in names])


def _hidden(joints: Array) -> NDArray[np.bool_]:
    """(T, 25): behind the trunk, as the sensor sees it (within 9 cm of the spine's line)."""
    low, high = np.moveaxis(joints[:, _index("spine_base", "spine_shoulder")], 1, 0)
    axis = high - low
    share = ((joints - low[:, None]) * axis[:, None]).sum(-1) / (axis**2).sum(-1)[:, None]
    from_axis = joints - low[:, None] - share[..., None] * axis[:, None]
    beside, behind = np.hypot(from_axis[..., 0], from_axis[..., 1]), from_axis[..., 2]
    return np.asarray((share > 0) & (share < 1) & (beside < 0.09) & (behind > 0.10))


def _noise(joints: Array, state: NDArray[np.int_], rng: np.random.Generator) -> Array:
    """(T, 25, 3): grows with the square of the distance, is larger in z and lasts some frames."""
    fresh = rng.standard_normal((2, *joints.shape))
    slow = fresh[1]
    for t in range(1, len(slow)):
        slow[t] = 0.85 * slow[t - 1] + 0.53 * slow[t]
    ends = np.array([_SHAKE.get(j.partition("_")[2], 1.0) for j in get_layout("ntu25").joints])
    scale = 0.006 * ends * np.where(state == _INFERRED, 4.0, 1.0) * (joints[..., 2] / 3.0) ** 2
    return np.asarray((0.5 * fresh[0] + slow) * scale[..., None] * [1.0, 1.0, 1.5])


def _lost(state: NDArray[np.int_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """(T, 25): the ends of limbs that the sensor does not find for a while."""
    frames, lost = len(state), np.zeros(state.shape, dtype=bool)
    for side, limb in _LIMBS:
        joints = _index(*(f"{side}_{joint}" for joint in _ENDS[limb]))
        hidden = (state[:, joints] == _INFERRED).mean()
        if rng.random() < 0.2 + 0.5 * hidden:
            begin, length = rng.integers(0, frames), rng.integers(2, 3 + frames // 5)
            # a limb is lost from its end inwards
            lost[begin : begin + length, joints[rng.integers(0, len(joints)) :]] = True
    return lost


def _pixels(joints: Array) -> Array:
    """(..., 4): depth x, depth y, colour x and colour y of a Kinect v2, to a pixel's tenth."""
    across = joints[..., :2] / np.maximum(joints[..., 2:], 0.1) * [1.0, -1.0]
    depth, colour = 366.0 * across + [256.0, 208.0], 1081.0 * across + [974.0, 568.0]
    return np.round(np.concatenate([depth, colour], axis=-1), 1)


def _body_state(values: Array) -> tuple[float, ...]:
    """The nine numbers of a body's first line."""
    base, top, left, right = values[
        _index("spine_base", "spine_shoulder", "left_hand", "right_hand")
    ]
    lean = (top - base)[:3]
    hands = [_HAND_UNSEEN if hand[-1] == _NOT_TRACKED else _HAND_OPEN for hand in (left, right)]
    lean_x, lean_y = np.round([lean[0], -lean[2]], _DECIMALS).tolist()
    return (0.0, *hands[0], *hands[1], 0.0, lean_x + 0.0, lean_y + 0.0, float(_TRACKED))
