"""Normalization of position and size."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import cache
from typing import Annotated, Literal

import numpy as np
from annotated_types import Interval
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip
from kinegraph.errors import TransformError
from kinegraph.skeleton.joint_names import find_body_center
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.space import PREPARATIONS, Space
from kinegraph.transforms.fit_space import to_image_unit
from kinegraph.transforms.registry import transform
from kinegraph.transforms.validation import MAX_NUMBER, Probability
from kinegraph.transforms.visibility import adjacent_valid_frames, hide, nearest_valid_frames

Array = NDArray[np.float32]
LIMB_LENGTHS = {  # the ends of each limb, and its usual length in trunks (shoulder to hip)
    ("shoulder", "hip"): 1.0,
    ("hip", "knee"): 0.75,
    ("knee", "ankle"): 0.7,
    ("shoulder", "elbow"): 0.52,
    ("elbow", "wrist"): 0.46,
}

ImageSide = Annotated[float, Interval(ge=1, le=MAX_NUMBER)]


@transform(scope="history", cancels=frozenset({"position"}))
def center(
    clip: Clip,
    *,
    joint: str | None = None,
    frame: Literal["each", "first"] = "each",
    person: Literal["first", "own"] = "first",
    hidden: Literal["nearest", "unmoved"] = "nearest",
) -> Clip:
    """Subtract a joint's position from all joints: the first person's joint or each person's own.

    With ``frame="each"`` the joint is at the origin in every frame, with ``"first"`` in the first
    frame where it is present. The default joint is the middle of the spine, or the layout's center
    if it has none. Where the joint is absent, its position in the nearest frame is used, or, with
    ``hidden="unmoved"``, the frame is not moved (2s-AGCN). A person or clip in which the joint is
    always absent is not moved.

    Raises:
        UnknownNameError: the layout has no such joint.
    """
    index = find_body_center(clip.layout) if joint is None else clip.layout.index(joint)
    track = clip.joints[:, :, index]
    seen = ~np.isnan(track[..., 0])
    if person == "first":
        shown = int(np.argmax(seen.any(axis=1)))
        track, seen = track[shown : shown + 1], seen[shown : shown + 1]
    if frame == "each":
        origin = np.take_along_axis(track, nearest_valid_frames(seen)[..., None], axis=1)
    else:
        origin = np.take_along_axis(track, seen.argmax(axis=1)[:, None, None], axis=1)
    still = ~np.any(seen, axis=1, keepdims=True)[..., None]
    if frame == "each" and hidden == "unmoved":
        still = ~seen[..., None]
    shift = np.where(still, np.float32(0), origin)[:, :, None]
    # repeated, because numpy subtracts whole frames much faster than joints of D numbers
    return clip.with_joints(clip.joints - np.repeat(shift, clip.num_joints, axis=2))


@transform(scope="history", per_person=True, cancels=frozenset({"position"}))
def skeleton_norm(clip: Clip, *, joint: str = "mid_hip", faithful: bool = False) -> Clip:
    """Move each person's hip to the origin in every frame (PaddleVideo's SkeletonNorm).

    In the original an absent joint is at (0, 0) and is moved as well, and a frame without the hip
    stays where it is; weights that were trained so need ``faithful``. Otherwise absent joints stay
    absent, and the hip of the nearest frame is used.
    """
    if not faithful:
        return center(clip, joint=joint, frame="each", person="own")
    hip = clip.layout.index(joint)
    shown = np.asarray(clip.valid.any(axis=2))[..., None, None]
    zeroed = np.nan_to_num(clip.joints)
    moved = zeroed - zeroed[:, :, hip : hip + 1]
    return clip.with_joints(np.where(shown, moved, np.float32(np.nan)))


@transform(cancels=frozenset({"size"}))
def scale(clip: Clip, *, by: Literal["torso", "height", "box", "bones"] = "torso") -> Clip:
    """Divide by the size of the body: the median over all frames and persons.

    ``torso`` is the distance between the midpoints of shoulders and hips, ``height`` the longest
    side and ``box`` the diagonal of the bounding box of a person in a frame. ``bones`` is the sum
    of the lengths of all bones, which does not depend on the posture; a bone that is absent in all
    frames counts as one of mean length. A clip in which the size cannot be measured is not scaled.

    Raises:
        TransformError: ``torso`` for a layout without shoulders and hips.
    """
    measure = {"torso": _torso_lengths, "bones": _bone_lengths}.get(by)
    sizes = measure(clip) if measure else _box_sizes(clip, by)
    sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
    return clip.with_joints(clip.joints / np.median(sizes)) if sizes.size else clip


@transform(cancels=frozenset({"position", "size"}))
def center_box(clip: Clip) -> Clip:
    """Center the clip's bounding box and divide by its longest side: within [-0.5, 0.5].

    The box covers all persons and frames, so that proportions and motion are kept.
    """
    low, high = _bounding_box(clip)
    side = np.max(high - low)
    return clip.with_joints((clip.joints - (low + high) / 2) / (side if side > 0 else 1))


@transform(scope="history", per_person=True, cancels=frozenset({"position", "size"}))
def body_normalize(clip: Clip, *, lead: Annotated[float, Interval(ge=0, le=100)] = 0.0) -> Clip:
    """Move the middle of each person's trunk to the origin and scale by its length, per frame.

    No later frame is needed, so that a stream gives the same. The middle is the mean of shoulders
    and hips, or of those that are present, or of all present joints. The length is estimated from
    the limbs, which an image can only shorten: the mean of the two largest ratios of a limb's
    length to its usual length in trunks. It is at least half the distance of the farthest joint.

    ``lead`` keeps a trace of how the whole body moves: the body is moved ahead of the origin by its
    displacement since it was last present (usually in the frame before) times ``lead``, up to a
    trunk in each coordinate. Without it a pull-up looks like an overhead press.
    """
    joints, layout = clip.joints, clip.layout
    centered = joints - _trunk_center(joints, layout)[:, :, None]
    size = _trunk_length(centered, layout)[:, :, None]
    scaled = centered / size[..., None]
    if lead:
        ahead = np.clip(_trunk_displacement(joints, layout) / size * np.float32(lead), -1, 1)
        scaled = scaled + ahead[:, :, None]
    return clip.with_joints(scaled)


@transform(cancels=frozenset({"position", "size"}))
def minmax(clip: Clip) -> Clip:
    """Scale each coordinate axis of the clip to [-1, 1]; an axis of constant value becomes 0.

    As CTR-GCN and Shift-GCN do for NW-UCLA.
    """
    low, high = _bounding_box(clip)
    span = high - low
    flat = span <= 0
    stretched = (clip.joints - low) / np.where(flat, 1, span) * 2 - 1
    return clip.with_joints(np.where(flat & ~np.isnan(stretched), 0, stretched))


@transform(scope="frame", per_person=True, coordinates=(2, 3), prepares="kinetics")
def image_normalize(
    clip: Clip, *, width: ImageSide | None = None, height: ImageSide | None = None
) -> Clip:
    """Convert pixels to [-0.5, 0.5] by the given size of the image, or that in the clip's meta.

    Raises:
        TransformError: neither the options nor the meta have the size; not 2D or 3D.
    """
    given = {"width": width, "height": height}
    meta = {**clip.meta, **{name: value for name, value in given.items() if value is not None}}
    sized = replace(clip, meta=meta)
    unit = clip.space.unit if clip.space.kind == "image" else None
    if unit is None and (clip.space.kind != "world" or clip.space.assumed):
        sized = sized.with_space(Space("image", unit="pixel"))
    shares = to_image_unit(sized, "share")
    joints = shares.joints.copy()
    joints[..., :2] -= np.float32(0.5)
    return shares.with_joints(joints).with_space(PREPARATIONS["kinetics"].result)


@transform(scope="frame", per_person=True, coordinates=(2,), prepares="kinetics")
def kinetics_normalize(clip: Clip) -> Clip:
    """Subtract 0.5 from x and y and hide joints of confidence 0, for Kinetics-Skeleton (st-gcn).

    Pixels are divided by the size of the image first. In 2s-AGCN `flip_y` follows.

    Raises:
        TransformError: pixels without the size of the image.
    """
    shares = to_image_unit(clip, "share")
    centered = shares.with_joints(shares.joints - np.float32(0.5))
    centered = centered.with_space(PREPARATIONS["kinetics"].result)
    if clip.confidence is not None:
        centered = hide(centered, clip.confidence == 0)
    return centered


@transform(scope="frame", per_person=True, coordinates=(2,), prepares="fsd")
def prenormalize_pyskl_2d(clip: Clip, *, threshold: Probability = 0.01) -> Clip:
    """Convert x and y to [-1, 1] over the image, and hide joints of low confidence (PYSKL).

    As PYSKL's PreNormalize2D with the size of each clip's own image. A joint is hidden if its
    confidence is ``threshold`` or less; PYSKL places it at 0, which `zero_missing` repeats.

    Raises:
        TransformError: not 2D; pixels without the size of the image.
    """
    shares = to_image_unit(clip, "share")
    centered = shares.with_joints(shares.joints * np.float32(2) - np.float32(1))
    centered = centered.with_space(PREPARATIONS["fsd"].result)
    if clip.confidence is None:
        return centered
    return hide(centered, clip.confidence <= threshold)


@transform(scope="frame", per_person=True, coordinates=(2, 3))
def flip_y(clip: Clip) -> Clip:
    """Negate y, for images whose y grows downwards."""
    joints = clip.joints.copy()
    joints[..., 1] *= -1
    return clip.with_joints(joints)


def _present_mean(joints: Array) -> Array:
    """Return the mean (..., D) of the present joints of (..., n, D), NaN if none is present."""
    seen = ~np.isnan(joints[..., :1])
    total = np.where(seen, joints, np.float32(0)).sum(axis=-2)
    with np.errstate(invalid="ignore"):
        return np.asarray(total / seen.sum(axis=-2, dtype=np.float32))


def _trunk_center(joints: Array, layout: SkeletonLayout) -> Array:
    """Return the middle (M, T, D) of the trunk of (M, T, V, D), 0 if no joint is present."""
    ends = trunk_joints(layout.joints)
    if all(len(own) == 2 for own in ends):  # the usual case, in one call
        middle = _present_mean(_present_mean(joints[:, :, ends]))
    else:
        middle = _present_mean(
            np.stack([_present_mean(joints[:, :, own]) for own in ends], axis=-2)
        )
    lost = np.isnan(middle[..., :1])
    return np.nan_to_num(np.where(lost, _present_mean(joints), middle) if lost.any() else middle)


def _trunk_displacement(joints: Array, layout: SkeletonLayout) -> Array:
    """Return the displacement (M, T, D) of the trunk since its joints were last present, else 0."""
    before = adjacent_valid_frames(~np.isnan(joints[..., 0]))[0][:, :-1]  # up to the frame before
    earlier = np.take_along_axis(joints, np.maximum(before, 0)[..., None], axis=1)
    step = np.full_like(joints, np.nan)
    step[:, 1:] = joints[:, 1:] - np.where(before[..., None] < 0, np.float32(np.nan), earlier)
    return _trunk_center(step, layout)


def _trunk_length(joints: Array, layout: SkeletonLayout) -> Array:
    """Estimate the trunk's length (M, T) from the limbs and the farthest of centered joints."""
    farthest = np.nan_to_num(np.linalg.norm(joints, axis=-1)).max(axis=-1) / 2
    starts, ends, usual = limb_ends(layout.joints)
    if usual:
        lengths = np.linalg.norm(joints[:, :, starts] - joints[:, :, ends], axis=-1)
        sizes = np.nan_to_num(lengths / np.asarray(usual, np.float32))
        sizes = -np.partition(-sizes, 1, axis=-1)[..., :2]
        limbs = np.where(sizes[..., 1] > 0, sizes.mean(axis=-1), sizes[..., 0])
        farthest = np.maximum(farthest, limbs)
    return np.asarray(np.where(farthest > 0, farthest, 1), dtype=np.float32)


@cache
def trunk_joints(joints: tuple[str, ...]) -> list[list[int]]:
    """Return the present ones of both shoulders, and of both hips."""
    ends = ([f"{side}_{part}" for side in ("left", "right")] for part in ("shoulder", "hip"))
    return [[joints.index(name) for name in names if name in joints] for names in ends]


@cache
def limb_ends(joints: tuple[str, ...]) -> tuple[list[int], list[int], list[float]]:
    """Return the first ends of the layout's limbs, the second ends, and their usual lengths."""
    limbs = [
        (f"{side}_{start}", f"{side}_{end}", usual)
        for (start, end), usual in LIMB_LENGTHS.items()
        for side in ("left", "right")
    ]
    found = [limb for limb in limbs if limb[0] in joints and limb[1] in joints]
    starts, ends = ([joints.index(limb[i]) for limb in found] for i in (0, 1))
    return starts, ends, [usual for *_, usual in found]


def _bounding_box(clip: Clip) -> tuple[Array, Array]:
    """Return the lowest and highest value (D,) of each coordinate; 0 if no joint is present."""
    columns = np.ascontiguousarray(clip.joints.reshape(-1, clip.num_channels).T)
    low, high = np.fmin.reduce(columns, axis=1), np.fmax.reduce(columns, axis=1)  # skip NaN
    return np.nan_to_num(low), np.nan_to_num(high)


def _torso_lengths(clip: Clip) -> Array:
    joints, layout = clip.joints, clip.layout
    ends = trunk_joints(layout.joints)
    if any(len(own) < 2 for own in ends):
        raise TransformError(
            f"transform 'scale': by='torso' needs shoulders and hips, which layout "
            f"{layout.name!r} lacks; use by='box'"
        )
    shoulders, hips = (joints[:, :, own].mean(axis=2) for own in ends)
    return np.linalg.norm(shoulders - hips, axis=-1)


def _bone_lengths(clip: Clip) -> Array:
    """Return the sum of each person's median bone lengths (M,), NaN if no bone is present."""
    ends = np.asarray(clip.layout.bones, dtype=np.intp).reshape(-1, 2)
    lengths = np.linalg.norm(clip.joints[:, :, ends[:, 0]] - clip.joints[:, :, ends[:, 1]], axis=-1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of what is never present
        return np.asarray(np.nanmean(np.nanmedian(lengths, axis=1), axis=1) * len(ends))


def _box_sizes(clip: Clip, by: str) -> Array:
    seen = clip.valid[..., None]
    low = clip.joints.min(axis=2, where=seen, initial=np.inf)
    high = clip.joints.max(axis=2, where=seen, initial=-np.inf)
    sides = high - low  # -inf where no joint is present
    if by == "height":
        return sides.max(axis=-1)
    return np.linalg.norm(np.where(sides < 0, np.float32(0), sides), axis=-1)
