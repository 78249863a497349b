"""Rotations, and the normalization of a body's orientation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip
from kinegraph.errors import TransformError
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.space import KINECT, PREPARATIONS
from kinegraph.transforms.normalize import center
from kinegraph.transforms.registry import transform
from kinegraph.transforms.temporal_sampling import take_frames

Matrix = NDArray[np.float64]
Axis = Literal["auto", "none"] | tuple[str, str]

Ends = tuple[tuple[str, ...], tuple[str, ...]]
BodyAxes = tuple[Ends | None, Ends | None]  # vertical and lateral

#: The ends of the vertical axis of a body, each the mean of the joints named; the first entry whose
#: joints a layout has is used.
VERTICAL_AXES: tuple[Ends, ...] = (
    (("spine_base",), ("spine_mid",)),
    (("hip_center",), ("spine",)),
    (("mid_hip",), ("neck",)),
    (("torso",), ("neck",)),
    (("spine",), ("neck",)),
    (("left_hip", "right_hip"), ("left_shoulder", "right_shoulder")),
)
#: The ends of the axis from left to right.
LATERAL_AXES: tuple[Ends, ...] = ((("left_shoulder",), ("right_shoulder",)),)
MIN_AXIS_NORM = 1e-6  # 2s-AGCN does not rotate about a shorter cross product


@transform(
    scope="history",
    coordinates=(3,),
    prepares="agcn",
    cancels=frozenset({"position", "rotation"}),
)
def prenormalize(
    clip: Clip,
    *,
    joint: str | None = None,
    frames: Literal["each", "first"] = "each",
    zaxis: Axis = "auto",
    xaxis: Axis = "auto",
    faithful: bool = False,
) -> Clip:
    """Center the first person and rotate it upright and frontal (2s-AGCN, 3D only).

    The first person's ``joint`` (default: the middle of the spine) in every frame, or in the first
    one, is subtracted from all persons. Then the whole clip is rotated so that in the first frame
    the vector between the joints ``zaxis`` (default: up the spine, or from hips to shoulders) is
    +z, and then so that the one between ``xaxis`` (default: left to right shoulder) is +x; after
    that the spine is only nearly z. With `repeat_pad` before it, this is the input of 2s-AGCN and
    Shift-GCN.

    With ``faithful`` it equals the released code in clips with gaps too: a frame where the first
    person's ``joint`` is absent is not centered; the vectors are those of the first frame that
    shows the first person, with absent joints at the origin; a vector exactly opposite to its axis
    is not rotated. Without, gaps are bridged by the nearest frame that shows the joint, and by the
    first frame that shows both ends of a vector. (The released AS-GCN rotates by frame 0, also
    where that shows another person.)

    Raises:
        TransformError: not 3D, or a layout without such joints.
    """
    axes = _default_axes(clip.layout, zaxis, xaxis)
    hidden = "unmoved" if faithful else "nearest"
    centered = center(clip, joint=joint, frame=frames, person="first", hidden=hidden)
    return _rotate_upright(centered, axes, faithful)


def _default_axes(layout: SkeletonLayout, zaxis: Axis = "auto", xaxis: Axis = "auto") -> BodyAxes:
    return (
        _axis_ends(layout, zaxis, VERTICAL_AXES, "zaxis"),
        _axis_ends(layout, xaxis, LATERAL_AXES, "xaxis"),
    )


def _rotate_upright(centered: Clip, axes: BodyAxes, faithful: bool, half: bool = False) -> Clip:
    """Rotate a clip so that its axes are z and x; ``half`` is as for `prenormalize_pyskl`."""
    z, x = axes
    matrix = np.eye(3)
    for ends, target in ((z, (0.0, 0.0, 1.0)), (x, (1.0, 0.0, 0.0))):
        found = None if ends is None else _find_vector(centered, ends, faithful)
        if found is None:
            continue
        vector = matrix @ found
        if not faithful or np.abs(_cross(vector, np.asarray(target))).sum() >= MIN_AXIS_NORM:
            cosine = float(_half_unit(vector) @ np.asarray(target)) if half and ends is z else None
            matrix = rotation_between(vector, target, cosine) @ matrix
    result = centered.with_joints(apply_matrix(centered.joints, matrix))
    unit = centered.space.unit if centered.space.kind == "world" else None
    return result.with_space(replace(PREPARATIONS["agcn"].result, unit=unit))


@transform(coordinates=(3,), cancels=frozenset({"position"}))
def prenormalize_pyskl(
    clip: Clip, *, joint: str | None = None, align_spine: bool = True, half: bool = False
) -> Clip:
    """Center the first frame of the first person, and rotate it upright and frontal (PYSKL, 3D).

    As PYSKL's PreNormalize3D: frames that do not show the first person are left out (if another is
    in more frames, it becomes the first); the position of ``joint`` (default: the middle of the
    spine) in the first frame left is subtracted from all joints of all frames. With
    ``align_spine`` the clip is then rotated like by `prenormalize`; DG-STGCN leaves this out.
    Nothing is repeated or padded.

    PYSKL's files have half precision, and the difference and the first angle are computed in it;
    ``half`` repeats that. Its rounding is up to a millimeter, 2 m from the sensor.

    Raises:
        TransformError: not 3D; ``align_spine`` for a layout without spine and shoulders.
    """
    shown = np.asarray(clip.valid.any(axis=2))
    frames = shown.sum(axis=1)
    if first := int(frames.argmax()):
        order = [first, *(m for m in range(clip.num_persons) if m != first)]
        clip, shown = clip.map_arrays(lambda array: array[order]), shown[order]
    if not shown.any():
        return clip
    clip = take_frames(clip, np.flatnonzero(shown[0]))
    if half:
        clip = clip.with_joints(clip.joints.astype(np.float16).astype(np.float32))
    centered = center(clip, joint=joint, frame="first")
    if half:
        centered = centered.with_joints(centered.joints.astype(np.float16).astype(np.float32))
    if not align_spine:
        return centered
    return _rotate_upright(centered, _default_axes(clip.layout), faithful=True, half=half)


@transform(scope="history", coordinates=(3,))
def face_front(clip: Clip) -> Clip:
    """Turn the clip about the vertical so that the first person faces the viewer at first.

    In the first frame that shows both shoulders, neither is then farther away than the other, and
    the left one is on the viewer's right. In contrast to `prenormalize` the vertical axis and the
    space stay, so that the lean of a body is kept. Clips of an unstated space are taken to have the
    axes of Kinect. A clip without shoulders is not turned.

    Raises:
        TransformError: not 3D; a layout without shoulders.
    """
    ((left, right),) = LATERAL_AXES
    if not {*left, *right} <= {*clip.layout.joints}:
        raise TransformError(
            f"transform 'face_front': layout {clip.layout.name!r} has no shoulders"
        )
    found = _find_vector(clip, (left, right), faithful=False)
    if found is None:
        return clip
    space = clip.space if clip.space.kind == "world" else KINECT
    axes = space.camera_axes.astype(np.float64)
    aside, _, away = axes @ found  # from the left shoulder to the right one
    length = float(np.hypot(aside, away))
    if length < MIN_AXIS_NORM:
        return clip
    cosine, sine = -aside / length, -away / length
    turn = np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])
    return clip.with_joints(apply_matrix(clip.joints, axes.T @ turn @ axes))


def _half_unit(vector: NDArray[np.floating]) -> NDArray[np.float16]:
    short = vector.astype(np.float16)
    return np.asarray(short / np.linalg.norm(short))


def apply_matrix(joints: NDArray[np.float32], matrix: Matrix) -> NDArray[np.float32]:
    """Multiply joints (..., D) by a (D, D) matrix: each row p becomes matrix @ p."""
    with np.errstate(invalid="ignore"):  # some BLAS report the NaN of absent joints
        flat = joints.reshape(-1, joints.shape[-1]) @ matrix.T.astype(np.float32)
    return flat.reshape(joints.shape)


def rotation_between(
    vector: NDArray[np.floating], target: Sequence[float], cosine: float | None = None
) -> Matrix:
    """Return the smallest rotation (3, 3) of ``vector`` into the direction of a unit axis.

    A vector of length 0 is not rotated; one exactly opposite is rotated by half a turn. ``cosine``
    replaces that of the angle between the two.
    """
    length = float(np.linalg.norm(vector))
    if length < 1e-12:
        return np.eye(3)
    unit, goal = np.asarray(vector, dtype=np.float64) / length, np.asarray(target, np.float64)
    axis, exact = _cross(unit, goal), float(unit @ goal)
    squared_sine = float(axis @ axis)
    if squared_sine < 1e-24:
        half_turn = np.roll(goal, -1)
        return np.eye(3) if exact > 0 else 2 * np.outer(half_turn, half_turn) - np.eye(3)
    cross = np.array(
        [[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]], dtype=np.float64
    )
    used = exact if cosine is None else cosine
    sine_ratio = 1.0 if cosine is None else np.sqrt(max(0.0, 1 - used**2) / squared_sine)
    return np.eye(3) + cross * sine_ratio + cross @ cross * ((1 - used) / squared_sine)


def _cross(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cross product of two vectors (3,); np.cross takes ten times as long."""
    (a0, a1, a2), (b0, b1, b2) = a.tolist(), b.tolist()
    return np.array([a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0])


def rotation_matrix(angles: Sequence[float] | NDArray[np.float64]) -> Matrix:
    """Return the (3, 3) rotation by three angles in radians, about x, then y, then z."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def _axis_ends(
    layout: SkeletonLayout, axis: Axis, known: Sequence[Ends], option: str
) -> Ends | None:
    if axis == "none":
        return None
    if axis != "auto":
        return (axis[0],), (axis[1],)
    for start, end in known:
        if {*start, *end} <= {*layout.joints}:
            return start, end
    raise TransformError(
        f"transform 'prenormalize': layout {layout.name!r} lacks the default joints of "
        f"{option}; set {option} to two of its joints, or to 'none' to leave that rotation out"
    )


def _find_vector(clip: Clip, ends: Ends, faithful: bool) -> NDArray[np.float32] | None:
    """Return the vector in the first frame of the first person that shows it, None if none does.

    Faithfully, it is that of the first person's first frame, with absent joints at the origin.
    """
    start, end = ([clip.layout.index(joint) for joint in names] for names in ends)
    if faithful:
        joints = np.nan_to_num(clip.joints[0, clip.valid[0].any(axis=1).argmax()])
    else:
        seen = ~np.isnan(clip.joints[:, :, start + end, 0]).any(axis=2)
        if not seen.any():
            return None
        joints = clip.joints[np.unravel_index(seen.argmax(), seen.shape)]
    return np.asarray(joints[end].mean(axis=0) - joints[start].mean(axis=0))
