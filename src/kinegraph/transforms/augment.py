"""Random changes of training clips that keep the label."""

from __future__ import annotations

import warnings
from typing import Annotated, Literal

import numpy as np
from annotated_types import Interval
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip
from kinegraph.errors import TransformError
from kinegraph.skeleton.space import KINECT, Space
from kinegraph.transforms.orient import Matrix, apply_matrix, rotation_matrix
from kinegraph.transforms.registry import View, transform
from kinegraph.transforms.validation import (
    Count,
    NonNegative,
    Numbers,
    Probability,
    require_ascending,
)
from kinegraph.transforms.visibility import hide

Degrees = Annotated[float, Interval(ge=0, le=180)]
Factor = Annotated[float, Interval(ge=0.001, le=1000)]


@transform(random=True, coordinates=(2, 3))
def random_move(
    clip: Clip,
    rng: np.random.Generator,
    *,
    angles: Numbers = (-10.0, -5.0, 0.0, 5.0, 10.0),
    scales: Numbers = (0.9, 1.0, 1.1),
    shifts: Numbers = (-0.2, -0.1, 0.0, 0.1, 0.2),
    ghosts: Annotated[int, Interval(ge=0)] = 0,
) -> Clip:
    """Rotate, scale and shift x and y as a moving camera would.

    For the first and the last frame an angle (degrees), a factor and a shift in x and in y are
    drawn from the lists; the frames between them are interpolated (st-gcn, Yan et al., AAAI 2018).

    The released code moves absent joints too: they are zeros, which the shift makes visible. With
    ``ghosts`` this is reproduced for that many persons, whether the clip has them or not.
    """
    if ghosts:
        missing = [(0, max(0, ghosts - clip.num_persons)), (0, 0), (0, 0), (0, 0)]
        clip = clip.map_arrays(lambda array: np.nan_to_num(np.pad(array, missing[: array.ndim])))
    lists = (angles, scales, shifts, shifts)
    start_end = [rng.choice(np.asarray(values, dtype=np.float64), 2) for values in lists]
    frames = clip.num_frames
    angle, factor, dx, dy = (np.linspace(start, end, frames) for start, end in start_end)
    cosine = (np.cos(np.deg2rad(angle)) * factor).astype(np.float32)[:, None]
    sine = (np.sin(np.deg2rad(angle)) * factor).astype(np.float32)[:, None]
    joints = clip.joints.copy()
    x, y = clip.joints[..., 0], clip.joints[..., 1]
    joints[..., 0] = cosine * x - sine * y + dx.astype(np.float32)[:, None]
    joints[..., 1] = sine * x + cosine * y + dy.astype(np.float32)[:, None]
    return clip.with_joints(joints)


@transform(random=True, coordinates=(2, 3))
def random_rotate(
    clip: Clip,
    rng: np.random.Generator,
    *,
    degrees: Degrees | tuple[Degrees, Degrees, Degrees] = 17.0,
    faithful: bool = False,
) -> Clip:
    """Rotate the whole clip by angles drawn uniformly from -degrees to +degrees.

    3D clips are rotated about x, y and z, or, with three ``degrees``, about the axes to the side,
    up and away from the viewer, which are x, y and z for Kinect sensors; 2D clips in the plane, by
    the last of three ``degrees``. The default is about the 0.3 rad of CTR-GCN. With ``faithful``
    the angle of 2D clips is drawn from -degrees to 1 rad, as in PYSKL's released RandomRot.
    """
    limits = np.deg2rad(np.broadcast_to(np.asarray(degrees, dtype=np.float64), (3,)))
    if clip.num_channels == 3:
        rotation = rotation_matrix(rng.uniform(-limits, limits))
        rotation = _in_space(rotation, clip.space) if np.ndim(degrees) else rotation
    else:
        in_plane = float(rng.uniform(-limits[2], 1.0 if faithful else limits[2]))
        rotation = rotation_matrix((0.0, 0.0, in_plane))[:2, :2]
    return clip.with_joints(apply_matrix(clip.joints, rotation))


@transform(random=True, coordinates=(3,))
def random_view(
    clip: Clip,
    rng: np.random.Generator,
    *,
    degrees: Degrees = 60.0,
    scale: tuple[Factor, Factor] = (0.5, 1.5),
    faithful: bool = False,
) -> Clip:
    """Rotate a 3D clip about x and y by up to ``degrees``, and scale it, as another camera would.

    Where y is not vertical, x and y stand for the axis to the side and the vertical one. As
    Shift-GCN and CTR-GCN train on NW-UCLA. With ``faithful`` angles are whole degrees, and the
    clip is rotated about y before x, as released: then a tilt of the camera has the same axis
    whatever the direction that the person faces.
    """
    require_ascending("random_view", "scale", scale[0], scale[1])
    if faithful:
        largest = int(degrees)
        about_x, about_y = np.deg2rad(rng.integers(-largest, largest + 1, 2))
        rotation = rotation_matrix((about_x, 0.0, 0.0)) @ rotation_matrix((0.0, about_y, 0.0))
    else:
        about_x, about_y = np.deg2rad(rng.uniform(-degrees, degrees, 2))
        rotation = rotation_matrix((about_x, about_y, 0.0))
    factor = rng.uniform(scale[0], scale[1])
    matrix = _in_space(rotation, clip.space) * factor
    return clip.with_joints(apply_matrix(clip.joints, matrix))


@transform(random=True)
def random_scale(
    clip: Clip,
    rng: np.random.Generator,
    *,
    low: Factor = 0.9,
    high: Factor = 1.1,
    per_axis: bool = False,
) -> Clip:
    """Multiply the whole clip by one factor, drawn uniformly from ``low`` to ``high``.

    With ``per_axis`` each coordinate has a factor of its own (PYSKL, SkateFormer).
    """
    require_ascending("random_scale", "low, high", low, high)
    factors = rng.uniform(low, high, clip.num_channels if per_axis else 1)
    return clip.with_joints(clip.joints * factors.astype(np.float32))


@transform(random=True, coordinates=(2, 3))
def random_shear(
    clip: Clip, rng: np.random.Generator, *, amount: Annotated[float, Interval(ge=0, le=10)] = 0.5
) -> Clip:
    """Shear the whole clip: add a share of up to ``amount`` of each coordinate to the others."""
    matrix: Matrix = rng.uniform(-amount, amount, (clip.num_channels, clip.num_channels))
    np.fill_diagonal(matrix, 1.0)
    return clip.with_joints(apply_matrix(clip.joints, matrix))


@transform(random=True)
def jitter(clip: Clip, rng: np.random.Generator, *, std: NonNegative = 0.01) -> Clip:
    """Add Gaussian noise of this standard deviation to every coordinate."""
    noise = rng.standard_normal(clip.joints.shape, dtype=np.float32)
    return clip.with_joints(clip.joints + noise * np.float32(std))


@transform(random=True)
def pose_noise(
    clip: Clip,
    rng: np.random.Generator,
    *,
    fast: NonNegative = 0.01,
    slow: NonNegative = 0.02,
    every: Count = 10,
) -> Clip:
    """Move each joint at random, as the errors of a pose estimator do: in single frames and slowly.

    Both errors are Gaussian. Their standard deviations are shares of the body's size, which is the
    median diagonal of the box around its joints; those of a clip are drawn uniformly from 0 to
    ``fast`` and from 0 to ``slow``. Slow errors are drawn every ``every`` frames, and interpolated.
    """
    persons, frames, *shape = clip.joints.shape
    limits = np.array([fast, slow]) * rng.random(2)
    knots = rng.standard_normal((persons, frames // every + 2, *shape), dtype=np.float32)
    before, rest = np.divmod(np.arange(frames) + int(rng.integers(every)), every)
    before = np.minimum(before, knots.shape[1] - 2)
    share = (rest / every).astype(np.float32)[:, None, None]
    drift = (1 - share) * knots[:, before] + share * knots[:, before + 1]
    jump = rng.standard_normal(clip.joints.shape, dtype=np.float32)
    noise = (limits[0] * jump + limits[1] * drift) * _median_diagonal(clip)[:, None, None, None]
    return clip.with_joints(clip.joints + noise.astype(np.float32))


def _median_diagonal(clip: Clip) -> NDArray[np.float32]:
    """Return (M,) the median diagonal of the box around each person, 0 for an absent one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # frames without a joint give NaN
        extent = np.nanmax(clip.joints, axis=2) - np.nanmin(clip.joints, axis=2)
        size = np.nanmedian(np.linalg.norm(extent, axis=2), axis=1)
    return np.nan_to_num(size).astype(np.float32)


@transform(random=True, coordinates=(2,))
def crop_view(
    clip: Clip, rng: np.random.Generator, *, p: Probability = 0.25, share: Probability = 0.5
) -> Clip:
    """Hide the joints beyond an edge that cuts the body off, with probability ``p``.

    The edge takes up to ``share`` of the box around all joints of the clip: at the bottom, where y
    is largest, in half of the cases, otherwise at one of the other sides. A person in front of a
    desk, or close to the camera, is cut off so.
    """
    if rng.random() >= p or not clip.valid.any():
        return clip
    axis, sign = [(1, 1), (1, -1), (0, 1), (0, -1)][int(rng.choice(4, p=[3 / 6, *3 * [1 / 6]]))]
    place = sign * clip.joints[..., axis]
    low, high = float(np.nanmin(place)), float(np.nanmax(place))
    return hide(clip, place > high - share * rng.random() * (high - low))


@transform(random=True)
def joint_dropout(
    clip: Clip,
    rng: np.random.Generator,
    *,
    p: Probability = 0.1,
    per: Literal["clip", "frame"] = "clip",
) -> Clip:
    """Hide each joint of each person with probability ``p``, in the whole clip or per frame."""
    frames = clip.num_frames if per == "frame" else 1
    hidden: NDArray[np.bool_] = rng.random((clip.num_persons, frames, clip.num_joints)) < p
    return hide(clip, np.broadcast_to(hidden, clip.joints.shape[:3]))


@transform(random=True)
def joint_gaps(
    clip: Clip, rng: np.random.Generator, *, p: Probability = 0.2, longest: Probability = 0.5
) -> Clip:
    """Hide each joint of each person, with probability ``p``, in one run of frames.

    The run is up to the share ``longest`` of the clip, and may begin before the clip or end after
    it: the effect of an occlusion on a pose estimator.
    """
    persons, frames, joints = clip.joints.shape[:3]
    length = rng.uniform(0, longest, (persons, 1, joints)) * frames
    begin = rng.uniform(-length, frames, (persons, 1, joints))
    chosen = rng.random((persons, 1, joints)) < p
    t = np.arange(frames)[:, None]
    return hide(clip, chosen & (t >= begin) & (t < begin + length))


@transform(random=True)
def drop_joints(
    clip: Clip,
    rng: np.random.Generator,
    *,
    p: Probability = 0.5,
    joints: tuple[Count, Count] = (5, 15),
    frames: tuple[Count, Count] = (16, 32),
) -> Clip:
    """Hide some joints of all persons in some frames, with probability ``p`` (SkateFormer).

    Their numbers are drawn from the first to the second of ``joints`` and of ``frames``, or as many
    as the clip has; then the joints, and the frames, which need not be adjacent.
    """
    require_ascending("drop_joints", "joints", *joints)
    require_ascending("drop_joints", "frames", *frames)
    if rng.random() >= p:
        return clip
    hidden = [
        _choose_some(rng, clip.num_frames, frames),
        _choose_some(rng, clip.num_joints, joints),
    ]
    mask = hidden[0][:, None] & hidden[1]
    return hide(clip, np.broadcast_to(mask, clip.joints.shape[:3]))


def _choose_some(
    rng: np.random.Generator, length: int, numbers: tuple[int, int]
) -> NDArray[np.bool_]:
    count = min(int(rng.integers(numbers[0], numbers[1] + 1)), length)
    chosen = np.zeros(length, dtype=np.bool_)
    chosen[rng.choice(length, count, replace=False)] = True
    return chosen


@transform(random=True)
def drop_axis(clip: Clip, rng: np.random.Generator, *, p: Probability = 0.5) -> Clip:
    """Set one coordinate of all joints to 0, with probability ``p`` (SkateFormer)."""
    if rng.random() >= p:
        return clip
    kept = np.ones(clip.num_channels, dtype=np.float32)
    kept[int(rng.integers(clip.num_channels))] = 0
    return clip.with_joints(clip.joints * kept)


@transform(random=True)
def drop_person(clip: Clip, rng: np.random.Generator, *, p: Probability = 0.5) -> Clip:
    """Hide one person of a clip that shows several, with probability ``p``."""
    shown = np.flatnonzero(clip.valid.any(axis=(1, 2)))
    if len(shown) < 2 or rng.random() >= p:
        return clip
    hidden = np.zeros((clip.num_persons, 1, 1), dtype=np.bool_)
    hidden[int(rng.choice(shown))] = True
    return hide(clip, np.broadcast_to(hidden, clip.joints.shape[:3]))


@transform(random=True)
def person_swap(clip: Clip, rng: np.random.Generator, *, p: Probability = 0.5) -> Clip:
    """Swap the first two persons with probability ``p``."""
    if rng.random() >= p or clip.num_persons < 2:
        return clip
    order = np.arange(clip.num_persons)
    order[:2] = 1, 0
    return clip.map_arrays(lambda array: array[order])


@transform(random=True, coordinates=(2, 3))
def mirror(
    clip: Clip, rng: np.random.Generator | None, view: View | None, *, p: Probability = 0.5
) -> Clip:
    """Mirror the clip with probability ``p``: swap left and right joints and negate x.

    Where x does not point to the side, the axis that does is negated. In an evaluation with
    ``test_mirror`` one of two views is mirrored here.

    Raises:
        TransformError: a layout without left and right joints; not 2D or 3D.
    """
    chosen = rng.random() < p if rng is not None else view is not None and view.mirrored
    mirrored = _swap_left_right(clip, chosen, "mirror")
    if mirrored is clip:
        return clip
    side = 0
    if clip.space.kind == "world":
        side = int(np.abs(clip.space.camera_axes[0]).argmax())
    if side >= clip.num_channels:
        raise TransformError(f"transform 'mirror': the clip has no axis {'xyz'[side]}")
    joints = mirrored.joints.copy()
    joints[..., side] *= -1
    return mirrored.with_joints(joints)


@transform(random=True)
def swap_sides(clip: Clip, rng: np.random.Generator, *, p: Probability = 0.5) -> Clip:
    """Swap the names of left and right joints with probability ``p``, without moving a joint.

    For persons seen from behind instead of from the front, and for annotations in which left means
    sometimes the left of the image, sometimes that of the person.

    Raises:
        TransformError: a layout without left and right joints.
    """
    return _swap_left_right(clip, rng.random() < p, "swap_sides")


def _in_space(rotation: Matrix, space: Space) -> Matrix:
    """Return a rotation about Kinect's x, y and z as one about the same directions of a space."""
    if space.kind != "world":
        return rotation
    axes = space.rotation_to(KINECT).astype(np.float64)
    return np.asarray(axes.T @ rotation @ axes)


def _swap_left_right(clip: Clip, chosen: bool, name: str) -> Clip:
    if not clip.layout.mirror_pairs:
        raise TransformError(
            f"transform {name!r}: layout {clip.layout.name!r} has no left and right joints"
        )
    if not chosen:
        return clip
    order = np.asarray(clip.layout.mirror)
    return clip.map_arrays(lambda array: array[:, :, order])
