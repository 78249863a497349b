"""Where a body stands and how large it is: moved and scaled to the same place and size."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip
from kinegraph.errors import TransformError
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.transforms.validation import Bounds, require_coordinates, transform
from kinegraph.transforms.visibility import adjacent_valid_frames, hide, nearest_valid_frames

Array = NDArray[np.float32]
#: From where to where, on either side, and how long that usually is in trunks (shoulder to hip).
LIMBS = {
    ("shoulder", "hip"): 1.0,
    ("hip", "knee"): 0.75,
    ("knee", "ankle"): 0.7,
    ("shoulder", "elbow"): 0.52,
    ("elbow", "wrist"): 0.46,
}
MIDDLES = ("spine_mid", "spine", "mid_hip", "torso", "belly")


@transform
def center(
    clip: Clip,
    rng: np.random.Generator | None = None,
    *,
    joint: str | None = None,
    frame: Literal["each", "first"] = "each",
    person: Literal["first", "own"] = "first",
    hidden: Literal["nearest", "unmoved"] = "nearest",
) -> Clip:
    """Subtracts a joint from all joints: of the first person or of each person itself.

    ``frame="each"`` keeps the joint at the origin throughout, ``"first"`` only where it is first
    seen. The default joint is the middle of the spine where the layout has one, else its center.
    In a frame where the joint is absent its place in the nearest frame counts, or, with
    ``hidden="unmoved"``, that frame stays where it is (2s-AGCN). A person or clip that never shows
    the joint is not moved.

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


@transform
def skeleton_norm(
    clip: Clip, rng: np.random.Generator | None = None, *, joint: str = "mid_hip"
) -> Clip:
    """Puts each person's hip at the origin in every frame (PaddleVideo's SkeletonNorm).

    The original turns a missing joint (0, 0) into minus the hip; here it stays absent.
    """
    return center(clip, joint=joint, frame="each", person="own")


@transform
def scale(
    clip: Clip,
    rng: np.random.Generator | None = None,
    *,
    by: Literal["torso", "height", "box"] = "torso",
) -> Clip:
    """Divides by a size of the body: the median over all frames and persons.

    ``torso`` is the distance from the middle of the shoulders to that of the hips, ``height``
    the longest side and ``box`` the diagonal of the bounding box of a person in a frame. A clip
    in which the size cannot be measured is not scaled.

    Raises:
        TransformError: ``torso`` for a layout without shoulders and hips.
    """
    sizes = _torso(clip) if by == "torso" else _extent(clip, by)
    sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
    return clip.with_joints(clip.joints / np.median(sizes)) if sizes.size else clip


@transform
def center_box(clip: Clip, rng: np.random.Generator | None = None) -> Clip:
    """Centers the clip's bounding box and divides by its longest side: within [-0.5, 0.5].

    One box over all persons and frames, so that aspect and movement are kept.
    """
    low, high = _limits(clip)
    side = np.max(high - low)
    return clip.with_joints((clip.joints - (low + high) / 2) / (side if side > 0 else 1))


@transform
def body_normalize(
    clip: Clip,
    rng: np.random.Generator | None = None,
    *,
    lead: Annotated[float, Bounds(0, 100)] = 0.0,
) -> Clip:
    """Puts the middle of each person's trunk at the origin, a trunk long, in every frame by itself.

    It needs no later frame, so a stream does the same. The middle is that of shoulders and hips,
    or of those that are seen, or of all seen joints. The length is judged by the limbs that look
    longest for what they are, because in an image a limb can only look too short: the mean of the
    two largest of (length / usual length in trunks). No joint is farther than two trunks away.

    With ``lead`` a body that moves is ahead of the origin, by its way since it was last seen (a
    frame before, as a rule) times ``lead``, up to a trunk in x and in y: else nothing is left of
    how a whole body moves, and pulling oneself up looks like pushing something overhead.
    """
    joints, layout = clip.joints, clip.layout
    around = joints - _trunk(joints, layout)[:, :, None]
    size = _trunk_length(around, layout)[:, :, None]
    moved = around / size[..., None]
    if lead:
        ahead = np.clip(_trunk_step(joints, layout) / size * np.float32(lead), -1, 1)
        moved = moved + ahead[:, :, None]
    return clip.with_joints(moved)


@transform
def minmax(clip: Clip, rng: np.random.Generator | None = None) -> Clip:
    """Stretches each coordinate axis of the clip to [-1, 1]; one without extent becomes 0.

    As CTR-GCN and Shift-GCN do for NW-UCLA.
    """
    low, high = _limits(clip)
    span = high - low
    flat = span <= 0
    stretched = (clip.joints - low) / np.where(flat, 1, span) * 2 - 1
    return clip.with_joints(np.where(flat & ~np.isnan(stretched), 0, stretched))


@transform
def image_normalize(
    clip: Clip,
    rng: np.random.Generator | None = None,
    *,
    width: Annotated[float, Bounds(1)] | None = None,
    height: Annotated[float, Bounds(1)] | None = None,
) -> Clip:
    """Pixels to [-0.5, 0.5], by the given image size or that of the clip's meta.

    Raises:
        TransformError: neither the options nor the meta state the size; not 2D or 3D.
    """
    require_coordinates(clip, "image_normalize", 2, 3)
    size = []
    for name, given in (("width", width), ("height", height)):
        length = clip.meta.get(name) if given is None else given
        if not isinstance(length, int | float) or length <= 0:
            raise TransformError(
                f"transform 'image_normalize': clip {clip.id!r} has no {name} in its meta; "
                f"give the option {name}"
            )
        size.append(length)
    joints = clip.joints.copy()
    joints[..., :2] = joints[..., :2] / np.asarray(size, dtype=np.float32) - np.float32(0.5)
    return clip.with_joints(joints)


@transform
def kinetics_normalize(
    clip: Clip, rng: np.random.Generator | None = None, *, flip: bool = False
) -> Clip:
    """Kinetics-skeleton: x and y minus 0.5, joints of score 0 absent (st-gcn).

    With ``flip`` y points upwards, as in 2s-AGCN.
    """
    require_coordinates(clip, "kinetics_normalize", 2)
    centered = clip.with_joints(clip.joints - np.float32(0.5))
    if clip.confidence is not None:
        centered = hide(centered, clip.confidence == 0)
    return flip_y(centered) if flip else centered


@transform
def flip_y(clip: Clip, rng: np.random.Generator | None = None) -> Clip:
    """Turns y upside down, for images whose y grows downwards."""
    require_coordinates(clip, "flip_y", 2, 3)
    joints = clip.joints.copy()
    joints[..., 1] *= -1
    return replace(clip, joints=joints)


def find_body_center(layout: SkeletonLayout) -> int:
    """The joint that bodies are centered on: the middle of the spine, else the layout's center."""
    for name in MIDDLES:
        if name in layout.joints:
            return layout.index(name)
    return layout.center


def _seen_mean(joints: Array) -> Array:
    """(..., n, D) -> (..., D): the mean of the seen ones, NaN if none is."""
    seen = ~np.isnan(joints[..., :1])
    total = np.where(seen, joints, np.float32(0)).sum(axis=-2)
    with np.errstate(invalid="ignore"):
        return np.asarray(total / seen.sum(axis=-2, dtype=np.float32))


def _trunk(joints: Array, layout: SkeletonLayout) -> Array:
    """(M, T, V, D) -> (M, T, D): the middle of the trunk, or what is nearest to it; else 0."""
    ends = _trunk_joints(layout.joints)
    if all(len(own) == 2 for own in ends):  # as a rule
        middle = _seen_mean(_seen_mean(joints[:, :, ends]))
    else:
        middle = _seen_mean(np.stack([_seen_mean(joints[:, :, own]) for own in ends], axis=-2))
    lost = np.isnan(middle[..., :1])
    return np.nan_to_num(np.where(lost, _seen_mean(joints), middle) if lost.any() else middle)


def _trunk_step(joints: Array, layout: SkeletonLayout) -> Array:
    """(M, T, V, D) -> (M, T, D): the way of the trunk since its joints were last seen, else 0."""
    before = adjacent_valid_frames(~np.isnan(joints[..., 0]))[0][:, :-1]  # up to the frame before
    earlier = np.take_along_axis(joints, np.maximum(before, 0)[..., None], axis=1)
    step = np.full_like(joints, np.nan)
    step[:, 1:] = joints[:, 1:] - np.where(before[..., None] < 0, np.float32(np.nan), earlier)
    return _trunk(step, layout)


def _trunk_length(joints: Array, layout: SkeletonLayout) -> Array:
    """(M, T, V, D) around the origin -> (M, T): judged by the limbs and by the farthest joint."""
    farthest = np.nan_to_num(np.linalg.norm(joints, axis=-1)).max(axis=-1) / 2
    starts, ends, usual = _limbs(layout.joints)
    if usual:
        lengths = np.linalg.norm(joints[:, :, starts] - joints[:, :, ends], axis=-1)
        sizes = np.nan_to_num(lengths / np.asarray(usual, np.float32))
        sizes = -np.partition(-sizes, 1, axis=-1)[..., :2]
        limbs = np.where(sizes[..., 1] > 0, sizes.mean(axis=-1), sizes[..., 0])
        farthest = np.maximum(farthest, limbs)
    return np.asarray(np.where(farthest > 0, farthest, 1), dtype=np.float32)


@cache
def _trunk_joints(joints: tuple[str, ...]) -> list[list[int]]:
    """The shoulders and the hips that there are."""
    ends = ([f"{side}_{part}" for side in ("left", "right")] for part in ("shoulder", "hip"))
    return [[joints.index(name) for name in names if name in joints] for names in ends]


@cache
def _limbs(joints: tuple[str, ...]) -> tuple[list[int], list[int], list[float]]:
    """Where the limbs that there are begin and end, and their usual lengths."""
    limbs = [
        (f"{side}_{start}", f"{side}_{end}", usual)
        for (start, end), usual in LIMBS.items()
        for side in ("left", "right")
    ]
    found = [limb for limb in limbs if limb[0] in joints and limb[1] in joints]
    starts, ends = ([joints.index(limb[i]) for limb in found] for i in (0, 1))
    return starts, ends, [usual for *_, usual in found]


def _limits(clip: Clip) -> tuple[Array, Array]:
    """The lowest and highest value of each coordinate, (D,) each; 0 if no joint is seen."""
    columns = np.ascontiguousarray(clip.joints.reshape(-1, clip.num_channels).T)
    low, high = np.fmin.reduce(columns, axis=1), np.fmax.reduce(columns, axis=1)  # skip NaN
    return np.nan_to_num(low), np.nan_to_num(high)


def _torso(clip: Clip) -> Array:
    joints, layout = clip.joints, clip.layout
    names = [f"{side}_{part}" for part in ("shoulder", "hip") for side in ("left", "right")]
    if any(name not in layout.joints for name in names):
        raise TransformError(
            f"transform 'scale': by='torso' needs shoulders and hips, which layout "
            f"{layout.name!r} has not; use by='box'"
        )
    corners = joints[:, :, [layout.index(name) for name in names]]
    return np.linalg.norm(corners[:, :, :2].mean(axis=2) - corners[:, :, 2:].mean(axis=2), axis=-1)


def _extent(clip: Clip, by: str) -> Array:
    seen = clip.valid[..., None]
    low = clip.joints.min(axis=2, where=seen, initial=np.inf)
    high = clip.joints.max(axis=2, where=seen, initial=-np.inf)
    sides = high - low  # -inf where no joint is seen
    if by == "height":
        return sides.max(axis=-1)
    return np.linalg.norm(np.where(sides < 0, np.float32(0), sides), axis=-1)
