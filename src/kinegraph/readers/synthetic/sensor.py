"""The simulated Kinect cameras of the synthetic dataset: noise, hidden joints and lost limbs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kinegraph.readers.ntu.skeleton_file import JOINT_FIELDS, Body, SkeletonRecording
from kinegraph.readers.synthetic.body import DoubleArray, rotation_x, rotation_y
from kinegraph.skeleton.layouts import get_layout

_DECIMAL_PLACES = 4  # of a meter: a tenth of a millimeter
_NOT_TRACKED, _INFERRED, _TRACKED = 0, 1, 2
_HAND_UNSEEN, _HAND_OPEN = (0.0, 1.0), (1.0, 2.0)  # confidence, state

_LIMBS = (("left", "arm"), ("right", "arm"), ("left", "leg"), ("right", "leg"))
_LIMB_ENDS = {"arm": ("wrist", "hand", "hand_tip", "thumb"), "leg": ("ankle", "foot")}
_JOINT_NOISE = {"hand": 2.0, "hand_tip": 3.0, "thumb": 3.0, "foot": 2.0, "ankle": 1.5, "wrist": 1.5}


@dataclass(frozen=True)
class SyntheticCamera:
    """The position of a sensor that is directed at the origin of the scene."""

    yaw: float  # radians around the scene, 0 is in front
    height: float  # meters above the floor
    distance: float  # meters from the center of the scene
    pitch: float  # downward angle, radians

    def transform(self, scene: DoubleArray) -> DoubleArray:
        """Return scene coordinates (..., 3) in the sensor's: x to its left, y up, z away."""
        around, down = rotation_y(self.yaw), rotation_x(-self.pitch)
        return np.asarray((scene @ around.T + [0, -self.height, self.distance]) @ down.T)


#: Camera number in the file names -> camera; the protocol xview tests on number 1.
SYNTHETIC_CAMERAS: dict[int, SyntheticCamera] = {
    1: SyntheticCamera(yaw=0.70, height=1.35, distance=3.1, pitch=0.12),
    2: SyntheticCamera(yaw=0.00, height=1.00, distance=2.8, pitch=0.04),
    3: SyntheticCamera(yaw=-0.75, height=0.80, distance=3.4, pitch=0.00),
}


def record_scene(
    scene: DoubleArray, camera: SyntheticCamera, body_id: int, rng: np.random.Generator
) -> SkeletonRecording:
    """Return the recording of a scene by a sensor.

    A joint hidden by other parts of the body is inferred (tracking state 1) with more noise.
    Sometimes the end of a limb is lost for some frames: state 0 and the coordinates 0 0 0.
    Orientations are not estimated, so they are 0.

    Args:
        scene: (M, T, 25, 3) joints of all persons, meters.
        camera: the sensor.
        body_id: id of the first person; the following persons have the following ids.
        rng: the random generator of the noise.
    """
    seen = camera.transform(scene)
    bodies = [_record_person(person, str(body_id + m), rng) for m, person in enumerate(seen)]
    return SkeletonRecording([list(frame) for frame in zip(*bodies, strict=True)])


def _record_person(joints: DoubleArray, body_id: str, rng: np.random.Generator) -> list[Body]:
    """Return one person's body in every frame, from the true joints (T, 25, 3)."""
    state = np.where(_find_hidden_joints(joints), _INFERRED, _TRACKED)
    values = np.zeros((*state.shape, len(JOINT_FIELDS)))
    values[..., :3] = joints + _draw_noise(joints, state, rng)
    values[..., 3:7] = _project_to_pixels(values[..., :3])
    values[..., -1] = state
    values[_draw_lost_joints(state, rng)] = _NOT_TRACKED
    values = np.round(values, _DECIMAL_PLACES) + 0.0  # -0.0 becomes 0.0
    return [Body(body_id, _body_state(frame), frame) for frame in values]


def _joint_indices(*names: str) -> NDArray[np.intp]:
    layout = get_layout("ntu25")
    return np.array([layout.index(name) for name in names])


def _find_hidden_joints(joints: DoubleArray) -> NDArray[np.bool_]:
    """Return (T, 25): whether a joint is behind the trunk (within 9 cm of the spine's line)."""
    low, high = np.moveaxis(joints[:, _joint_indices("spine_base", "spine_shoulder")], 1, 0)
    axis = high - low
    share = ((joints - low[:, None]) * axis[:, None]).sum(-1) / (axis**2).sum(-1)[:, None]
    from_axis = joints - low[:, None] - share[..., None] * axis[:, None]
    beside, behind = np.hypot(from_axis[..., 0], from_axis[..., 1]), from_axis[..., 2]
    return np.asarray((share > 0) & (share < 1) & (beside < 0.09) & (behind > 0.10))


def _draw_noise(
    joints: DoubleArray, state: NDArray[np.int_], rng: np.random.Generator
) -> DoubleArray:
    """Return noise (T, 25, 3): grows with squared distance, larger in z, lasts some frames."""
    fresh = rng.standard_normal((2, *joints.shape))
    slow = fresh[1]
    for t in range(1, len(slow)):
        slow[t] = 0.85 * slow[t - 1] + 0.53 * slow[t]
    ends = np.array(
        [_JOINT_NOISE.get(j.partition("_")[2], 1.0) for j in get_layout("ntu25").joints]
    )
    scale = 0.006 * ends * np.where(state == _INFERRED, 4.0, 1.0) * (joints[..., 2] / 3.0) ** 2
    return np.asarray((0.5 * fresh[0] + slow) * scale[..., None] * [1.0, 1.0, 1.5])


def _draw_lost_joints(state: NDArray[np.int_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return (T, 25): whether a joint at the end of a limb is lost for some frames."""
    frames, lost = len(state), np.zeros(state.shape, dtype=bool)
    for side, limb in _LIMBS:
        joints = _joint_indices(*(f"{side}_{joint}" for joint in _LIMB_ENDS[limb]))
        hidden = (state[:, joints] == _INFERRED).mean()
        if rng.random() < 0.2 + 0.5 * hidden:
            begin, length = rng.integers(0, frames), rng.integers(2, 3 + frames // 5)
            # a limb is lost from its end inwards
            lost[begin : begin + length, joints[rng.integers(0, len(joints)) :]] = True
    return lost


def _project_to_pixels(joints: DoubleArray) -> DoubleArray:
    """Return (..., 4): depth x, y and color x, y of a Kinect v2, to a tenth of a pixel."""
    across = joints[..., :2] / np.maximum(joints[..., 2:], 0.1) * [1.0, -1.0]
    depth, color = 366.0 * across + [256.0, 208.0], 1081.0 * across + [974.0, 568.0]
    return np.round(np.concatenate([depth, color], axis=-1), 1)


def _body_state(values: DoubleArray) -> tuple[float, ...]:
    base, top, left, right = values[
        _joint_indices("spine_base", "spine_shoulder", "left_hand", "right_hand")
    ]
    lean = (top - base)[:3]
    hands = [_HAND_UNSEEN if hand[-1] == _NOT_TRACKED else _HAND_OPEN for hand in (left, right)]
    lean_x, lean_y = np.round([lean[0], -lean[2]], _DECIMAL_PLACES).tolist()
    return (0.0, *hands[0], *hands[1], 0.0, lean_x + 0.0, lean_y + 0.0, float(_TRACKED))
