"""Visibility of persons and joints: selecting persons, hiding joints, filling gaps."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
from annotated_types import Interval
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip
from kinegraph.errors import TransformError
from kinegraph.transforms.registry import transform
from kinegraph.transforms.validation import Count, Probability


@transform()
def persons(
    clip: Clip,
    *,
    max_persons: Count = 2,
    by: Literal["energy", "confidence", "order"] = "energy",
    each_frame: bool = False,
) -> Clip:
    """Keep at most ``max_persons`` persons, the most important first.

    ``energy`` ranks by the spread of a person's joints: the sum over coordinates of the standard
    deviation over all its present joints (2s-AGCN). ``confidence`` ranks by the total confidence;
    with ``each_frame`` in every frame anew, as st-gcn does for Kinetics-Skeleton, so that
    identities may swap. ``order`` keeps the clip's own order.

    Raises:
        TransformError: ``confidence`` for a clip without it, ``each_frame`` with another rule.
    """
    if each_frame and by != "confidence":
        raise TransformError(
            f"transform 'persons': each_frame needs by='confidence', got by={by!r}"
        )
    if each_frame:
        return _rank_each_frame(clip, max_persons)
    if by == "order":
        importance = np.zeros(clip.num_persons)
    elif by == "energy":
        importance = _spread_energy(clip)
    else:
        importance = _present_confidence(clip).sum(axis=(1, 2))
    order = np.argsort(-importance, kind="stable")[:max_persons]
    return clip.map_arrays(lambda array: array[order])


@transform(scope="frame", per_person=True)
def mask_confidence(clip: Clip, *, threshold: Probability = 0.1) -> Clip:
    """Hide joints whose confidence is below the threshold.

    Raises:
        TransformError: a clip without confidence.
    """
    return hide(clip, _required_confidence(clip, "mask_confidence") < threshold)


@transform(scope="frame", per_person=True)
def forget_confidence(
    clip: Clip,
    rng: np.random.Generator | None = None,
    *,
    threshold: Probability = 0.0,
    spare: Probability = 0.0,
) -> Clip:
    """Hide joints whose confidence is below the threshold and set all other confidences to 1.

    Pose estimators define confidence differently, and some are confident of joints that are not
    visible. In training a clip keeps its doubtful joints with the probability ``spare``.
    """
    spared = rng is not None and rng.random() < spare
    if clip.confidence is not None and not spared:
        clip = hide(clip, clip.confidence < threshold)
    return replace(clip, confidence=clip.valid.astype(np.float32))


@transform(per_person=True)
def fill_missing(
    clip: Clip,
    *,
    method: Literal["linear", "hold"] = "linear",
    max_gap: Count = 5,
) -> Clip:
    """Fill gaps of at most ``max_gap`` frames in which a joint is absent.

    ``linear`` interpolates between the positions before and after the gap, ``hold`` repeats the
    one before. The confidence is not changed.
    """
    seen = clip.valid
    before, after = adjacent_valid_frames(seen)
    inside = ~seen & (before >= 0) & (after < clip.num_frames) & (after - before - 1 <= max_gap)
    if not inside.any():
        return clip
    m, t, v = np.nonzero(inside)
    start, end = before[m, t, v], after[m, t, v]
    joints, values = clip.joints.copy(), clip.joints[m, start, v]
    if method == "linear":
        share = ((t - start) / (end - start)).astype(np.float32)[:, None]
        values = values + (clip.joints[m, end, v] - values) * share
    joints[m, t, v] = values
    return clip.with_joints(joints)


@transform(scope="history", per_person=True)
def hold_missing(clip: Clip) -> Clip:
    """Keep absent joints at their last known position; before the first they stay absent.

    In frames without any joint of a person, that person stays absent. No later frame is needed, so
    that a stream gives the same. The confidence of held joints, if the clip has any, is 0.
    """
    before, _ = adjacent_valid_frames(clip.valid)
    held = np.take_along_axis(clip.joints, np.maximum(before, 0)[..., None], axis=1)
    is_present = np.asarray(clip.valid.any(axis=2))[..., None, None]
    held = np.where(is_present, held, clip.joints)
    if clip.confidence is None:
        return clip.with_joints(held)
    return replace(clip, joints=held, confidence=np.where(clip.valid, clip.confidence, 0))


@transform(scope="frame", per_person=True)
def zero_missing(clip: Clip, *, persons: Annotated[int, Interval(ge=0, le=1000)] = 0) -> Clip:
    """Place absent joints at 0, as present ones, which later steps move and mix like others.

    Released code has zeros for what is absent: where a person leaves, its motion jumps, and its
    interpolated joints move to the origin. Clips of fewer than ``persons`` persons get persons at
    0. For models that were trained so.
    """
    missing = [(0, max(0, persons - clip.num_persons)), (0, 0), (0, 0), (0, 0)]
    return clip.map_arrays(lambda array: np.nan_to_num(np.pad(array, missing[: array.ndim])))


@transform()
def copy_single_person(clip: Clip) -> Clip:
    """Copy the only person of a clip to the second place (CTR-GCN's arrays of NTU RGB+D 120).

    A clip that shows two persons stays as it is.
    """
    shown = np.flatnonzero(clip.valid.any(axis=(1, 2)))
    if len(shown) != 1:
        return clip
    return clip.map_arrays(lambda array: np.repeat(array[shown], 2, axis=0))


def hide(clip: Clip, hidden: NDArray[np.bool_]) -> Clip:
    """Make the joints of a (M, T, V) mask absent and their confidence 0."""
    joints = np.where(hidden[..., None], np.float32(np.nan), clip.joints)
    if clip.confidence is None:
        return clip.with_joints(joints)
    return replace(clip, joints=joints, confidence=np.where(hidden, 0, clip.confidence))


def nearest_valid_frames(seen: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return, per frame, the nearest True frame of ``seen`` (M, T, ...), the earlier of two.

    Where no frame is True, it is frame 0.
    """
    before, after = adjacent_valid_frames(seen)
    frames = seen.shape[1]
    t = np.arange(frames).reshape(1, frames, *(1,) * (seen.ndim - 2))
    later = (before < 0) | ((after < frames) & (after - t < t - before))
    return np.where(later, np.where(after < frames, after, 0), before)


def adjacent_valid_frames(seen: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return, per frame, the last True frame up to it (or -1) and the first from it on (or T)."""
    frames = seen.shape[1]
    t = np.arange(frames).reshape(1, frames, *(1,) * (seen.ndim - 2))
    before = np.maximum.accumulate(np.where(seen, t, -1), axis=1)
    after = np.minimum.accumulate(np.where(seen, t, frames)[:, ::-1], axis=1)[:, ::-1]
    return before, after


def _rank_each_frame(clip: Clip, count: int) -> Clip:
    confidence = _required_confidence(clip, "persons")
    total = _present_confidence(clip).sum(axis=2)
    order = np.argsort(-total, axis=0, kind="stable")[:count, :, None]
    joints = np.take_along_axis(clip.joints, order[..., None], axis=0)
    return replace(clip, joints=joints, confidence=np.take_along_axis(confidence, order, axis=0))


def _spread_energy(clip: Clip) -> NDArray[np.float64]:
    pairs = zip(clip.joints, clip.valid, strict=True)
    tracks = [
        np.stack([joints[..., d][seen] for d in range(joints.shape[-1])]) for joints, seen in pairs
    ]
    # a person who is never present ranks after one who does not move
    return np.array([x.std(axis=1, dtype=np.float64).sum() if x.size else -1.0 for x in tracks])


def _present_confidence(clip: Clip) -> NDArray[np.float32]:
    return np.where(clip.valid, _required_confidence(clip, "persons"), np.float32(0))


def _required_confidence(clip: Clip, name: str) -> NDArray[np.float32]:
    if clip.confidence is None:
        raise TransformError(f"transform {name!r}: clip {clip.id!r} has no confidence")
    return clip.confidence
