"""Random changes of training clips that leave the action what it is.

Without an rng every one of them returns the clip as it is. Absent joints are NaN and stay so.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip
from kinegraph.errors import TransformError
from kinegraph.transforms.orient import Matrix, apply_matrix, rotation_matrix
from kinegraph.transforms.validation import Bounds, Probability, require_coordinates, transform
from kinegraph.transforms.visibility import hide

Degrees = Annotated[float, Bounds(0, 180)]
Factor = Annotated[float, Bounds(0.001, 1000)]


@transform
def random_move(
    clip: Clip,
    rng: np.random.Generator | None = None,
    *,
    angles: tuple[float, ...] = (-10.0, -5.0, 0.0, 5.0, 10.0),
    scales: tuple[float, ...] = (0.9, 1.0, 1.1),
    shifts: tuple[float, ...] = (-0.2, -0.1, 0.0, 0.1, 0.2),
    ghosts: Annotated[int, Bounds(0)] = 0,
) -> Clip:
    """A moving camera: turns, scales and shifts x and y, evenly from one draw to another.

    At the first and the last frame an angle (degrees), a factor and a shift in x and in y are
    drawn from the lists; the frames between them interpolate (st-gcn, Yan et al., AAAI 2018).

    The released code moves absent joints too: zeros that are then seen, on the way of the shift.
    With ``ghosts`` that is reproduced for so many persons, whether the clip has them or not.
    """
    require_coordinates(clip, "random_move", 2, 3)
    if rng is None:
        return clip
    if ghosts:
        clip = _with_ghosts(clip, ghosts)
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


@transform
def random_rotate(
    clip: Clip,
    rng: np.random.Generator | None = None,
    *,
    degrees: Degrees | tuple[Degrees, Degrees, Degrees] = 17.0,
) -> Clip:
    """One rotation of the whole clip, each angle drawn evenly from -degrees to +degrees.

    3D clips turn about x, y and z; 2D clips in the plane, by the last of three ``degrees``.
    The default is about the 0.3 rad of CTR-GCN.
    """
    require_coordinates(clip, "random_rotate", 2, 3)
    if rng is None:
        return clip
    limits = np.deg2rad(np.broadcast_to(np.asarray(degrees, dtype=np.float64), (3,)))
    if clip.num_channels == 3:
        return clip.with_joints(
            apply_matrix(clip.joints, rotation_matrix(rng.uniform(-limits, limits)))
        )
    in_plane = rotation_matrix((0.0, 0.0, float(rng.uniform(-limits[2], limits[2]))))
    return clip.with_joints(apply_matrix(clip.joints, in_plane[:2, :2]))


@transform
def random_view(
    clip: Clip,
    rng: np.random.Generator | None = None,
    *,
    degrees: Degrees = 60.0,
    scale: tuple[Factor, Factor] = (0.5, 1.5),
) -> Clip:
    """Another camera: rotations about x and y up to ``degrees``, and a size (3D only).

    As Shift-GCN and CTR-GCN train on NW-UCLA.
    """
    require_coordinates(clip, "random_view", 3)
    _require_ascending("random_view", "scale", scale[0], scale[1])
    if rng is None:
        return clip
    about_x, about_y = np.deg2rad(rng.uniform(-degrees, degrees, 2))
    factor = rng.uniform(scale[0], scale[1])
    return clip.with_joints(
        apply_matrix(clip.joints, rotation_matrix((about_x, about_y, 0.0)) * factor)
    )


@transform
def random_scale(
    clip: Clip,
    rng: np.random.Generator | None = None,
    *,
    low: Factor = 0.9,
    high: Factor = 1.1,
) -> Clip:
    """Multiplies the whole clip by one factor, drawn evenly from ``low`` to ``high``."""
    _require_ascending("random_scale", "low, high", low, high)
    if rng is None:
        return clip
    return clip.with_joints(clip.joints * np.float32(rng.uniform(low, high)))


@transform
def random_shear(
    clip: Clip,
    rng: np.random.Generator | None = None,
    *,
    amount: Annotated[float, Bounds(0, 10)] = 0.5,
) -> Clip:
    """Slants the whole clip: each coordinate gets a share of the others, up to ``amount``."""
    require_coordinates(clip, "random_shear", 2, 3)
    if rng is None:
        return clip
    matrix: Matrix = rng.uniform(-amount, amount, (clip.num_channels, clip.num_channels))
    np.fill_diagonal(matrix, 1.0)
    return clip.with_joints(apply_matrix(clip.joints, matrix))


@transform
def jitter(
    clip: Clip,
    rng: np.random.Generator | None = None,
    *,
    std: Annotated[float, Bounds(0)] = 0.01,
) -> Clip:
    """Adds Gaussian noise of this standard deviation to every coordinate of a seen joint."""
    if rng is None:
        return clip
    noise = rng.standard_normal(clip.joints.shape, dtype=np.float32)
    return clip.with_joints(clip.joints + noise * np.float32(std))


@transform
def joint_dropout(
    clip: Clip,
    rng: np.random.Generator | None = None,
    *,
    p: Probability = 0.1,
    per: Literal["clip", "frame"] = "clip",
) -> Clip:
    """Makes each joint of each person absent with probability ``p``, throughout or per frame."""
    if rng is None:
        return clip
    frames = clip.num_frames if per == "frame" else 1
    hidden: NDArray[np.bool_] = rng.random((clip.num_persons, frames, clip.num_joints)) < p
    return hide(clip, np.broadcast_to(hidden, clip.joints.shape[:3]))


@transform
def joint_gaps(
    clip: Clip,
    rng: np.random.Generator | None = None,
    *,
    p: Probability = 0.2,
    longest: Probability = 0.5,
) -> Clip:
    """Hides each joint of each person, with probability ``p``, for a stretch of frames.

    The stretch is up to the share ``longest`` of the clip, and may begin before it or end after
    it: what a pose estimator loses while something is in front of it.
    """
    if rng is None:
        return clip
    persons, frames, joints = clip.joints.shape[:3]
    length = rng.uniform(0, longest, (persons, 1, joints)) * frames
    begin = rng.uniform(-length, frames, (persons, 1, joints))
    struck = rng.random((persons, 1, joints)) < p
    t = np.arange(frames)[:, None]
    return hide(clip, struck & (t >= begin) & (t < begin + length))


@transform
def person_swap(
    clip: Clip, rng: np.random.Generator | None = None, *, p: Probability = 0.5
) -> Clip:
    """Exchanges the first two persons with probability ``p``."""
    if rng is None or rng.random() >= p or clip.num_persons < 2:
        return clip
    order = np.arange(clip.num_persons)
    order[:2] = 1, 0
    confidence = None if clip.confidence is None else clip.confidence[order]
    return clip.with_joints(clip.joints[order], confidence)


@transform
def mirror(clip: Clip, rng: np.random.Generator | None = None, *, p: Probability = 0.5) -> Clip:
    """Exchanges left and right with probability ``p``: swaps paired joints, negates x.

    Raises:
        TransformError: a layout without left and right joints; not 2D or 3D.
    """
    require_coordinates(clip, "mirror", 2, 3)
    order = _mirror_order(clip, "mirror")
    if rng is None or rng.random() >= p:
        return clip
    joints = clip.joints[:, :, order]
    joints[..., 0] *= -1
    confidence = None if clip.confidence is None else clip.confidence[:, :, order]
    return clip.with_joints(joints, confidence)


@transform
def swap_sides(clip: Clip, rng: np.random.Generator | None = None, *, p: Probability = 0.5) -> Clip:
    """Exchanges the names of left and right with probability ``p``, and moves nothing.

    Somebody seen from behind instead of from the front, or sides that were mistaken: annotators
    take the left of a person now for that of the image, now for the person's own.

    Raises:
        TransformError: a layout without left and right joints.
    """
    order = _mirror_order(clip, "swap_sides")
    if rng is None or rng.random() >= p:
        return clip
    confidence = None if clip.confidence is None else clip.confidence[:, :, order]
    return clip.with_joints(clip.joints[:, :, order], confidence)


def _with_ghosts(clip: Clip, persons: int) -> Clip:
    """The clip with at least so many persons, whose absent joints are seen at the origin."""
    missing = [(0, max(0, persons - clip.num_persons)), (0, 0), (0, 0)]
    sure = None if clip.confidence is None else np.pad(clip.confidence, missing)
    joints = np.nan_to_num(np.pad(clip.joints, [*missing, (0, 0)]))
    return replace(clip, joints=joints, confidence=sure)


def _mirror_order(clip: Clip, name: str) -> NDArray[np.intp]:
    if not clip.layout.mirror_pairs:
        raise TransformError(
            f"transform {name!r}: layout {clip.layout.name!r} has no left and right joints"
        )
    return np.asarray(clip.layout.mirror)


def _require_ascending(name: str, option: str, low: float, high: float) -> None:
    if low > high:
        raise TransformError(
            f"transform {name!r}: {option} must be ascending, got {low:g} and {high:g}"
        )
