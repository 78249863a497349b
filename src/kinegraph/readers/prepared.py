"""Convention by which an array of clips was prepared, and the joints that it puts at the origin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.repetition import find_period
from kinegraph.errors import ReadError
from kinegraph.readers.space_options import SpaceOptions
from kinegraph.skeleton.body_axes import find_up_axis
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.space import PREPARATIONS, Space

_WORLD_CONVENTIONS = ("stgcn", "agcn", "ctrgcn")  # of arrays of x, y and z
_IMAGE_LIMITS = {"kinetics": 0.5, "fsd": 1.0}  # largest x and y of arrays of an image's joints

#: Joints of the trunk that arrays are centered on, the joint of 2s-AGCN and CTR-GCN first.
_ORIGIN_JOINTS = (
    "spine_mid", "spine", "spine_base", "spine_shoulder", "hip_center", "mid_hip", "pelvis",
    "torso", "belly", "neck",
)  # fmt: skip
_SPINE_MIDDLE = ("spine_mid", "spine")
_MAX_TURN = 1e-3  # largest y and z, relative to x, between the shoulders of a frontal body
_ROUNDING = 1e-3  # of float16
_MAX_SCORE = 1.5  # OpenPose's scores exceed 1 by a little

Points = NDArray[np.float32]


@dataclass(frozen=True)
class ArrayFacts:
    """What the numbers of an array of clips mean.

    Attributes:
        space: the space of its clips, as they are stored.
        confidence: whether the last channel is a confidence.
        origin_joint: the joint that is at the origin although it is present; -1 if none.
        flip: whether y grows upwards in an image, so that it is negated.
        notes: what was guessed or changed, one sentence each.
    """

    space: Space
    confidence: bool = False
    origin_joint: int = -1
    flip: bool = False
    notes: tuple[str, ...] = ()

    def find_seen(self, points: Points) -> NDArray[np.bool_]:
        """Return (..., V): whether the joints of points (..., V, C) are present.

        A joint of zeros is absent; the joint at the origin is present with its person.
        """
        seen = np.asarray((np.abs(points) > 0).any(axis=-1))
        if self.origin_joint >= 0:
            seen[..., self.origin_joint] |= seen.any(axis=-1)
        return seen


def find_array_facts(
    points: Points, layout: SkeletonLayout, confidence: bool | None, stated: Mapping[str, str]
) -> ArrayFacts:
    """Return what is stated of an array, completed by what its numbers show.

    Args:
        points: (N, M, T, V, C) some clips of the array; absent joints are 0.
        layout: the layout of the joints.
        confidence: whether the last channel is a confidence; None if it is not stated.
        stated: the options of `SpaceOptions`.

    Raises:
        ReadError: what is stated does not fit the numbers; or nothing is stated, and the array was
            prepared by a convention that is not known.
    """
    prepared = stated.get("prepared", "")
    of_image = layout.space is not None and layout.space.kind == "image"
    if of_image and prepared in _WORLD_CONVENTIONS:
        raise ReadError(
            f"--prepared {prepared} is for arrays of x, y and z, but {layout.name!r} is a layout "
            "of images; the Kinetics arrays of ST-GCN and 2s-AGCN are --prepared kinetics"
        )
    if prepared in _IMAGE_LIMITS:
        return _resolve_image(points, layout, confidence, stated, prepared)
    open_question = not any(stated.get(name) for name in ("prepared", "space", "up", "unit"))
    if of_image and open_question and _looks_like_kinetics(points, confidence):
        return _resolve_image(points, layout, confidence, stated, "")
    if confidence is None and points.shape[-1] == 4:
        raise ReadError(
            "4 channels: if they are x, y, z and a confidence, give --confidence true; if all are "
            "coordinates, --confidence false"
        )
    joints = points[..., :-1] if confidence else points
    if joints.shape[-1] == 3:
        return _resolve_world(joints, layout, bool(confidence), stated)
    if prepared in _WORLD_CONVENTIONS:
        raise ReadError(
            f"--prepared {prepared} is for arrays of x, y and z, got {joints.shape[-1]} "
            "coordinates per joint"
        )
    if open_question and joints.shape[-1] == 2 and _are_around_zero(joints):
        raise ReadError(
            "x and y are on both sides of 0, so they are not coordinates of an image as recorded: "
            "state --prepared kinetics (shares of the image minus 0.5), --prepared fsd (-1 to 1 "
            "over the image), or --prepared recorded to take them as they are"
        )
    space = SpaceOptions(**stated).resolve(hide_zeros(joints), layout)
    return ArrayFacts(space, bool(confidence))


def are_scores(points: Points) -> bool:
    """Return whether the last channel of (..., C) is a score: in range, 0 only with x and y."""
    score, xy = points[..., -1], points[..., :-1]
    in_range = score.min() >= 0 and score.max() <= _MAX_SCORE
    return bool(in_range and not (xy[score == 0] != 0).any())


def keep_origin(joints: Points, layout: SkeletonLayout, space: Space) -> Points:
    """Return joints (M, T, V, D) with the joint at the origin present where its person is.

    Only arrays of agcn and ctrgcn have such a joint: the middle of the spine, which is (0, 0, 0)
    and looks absent.
    """
    known = [name for name in _SPINE_MIDDLE if name in layout.joints]
    if space.prepared not in ("agcn", "ctrgcn") or not known:
        return joints
    index, kept = layout.index(known[0]), joints.copy()
    absent = np.isnan(kept[..., 0])
    kept[~absent.all(axis=-1) & absent[..., index], index] = 0
    return kept


def cap_scores(score: Points) -> tuple[Points, tuple[str, ...]]:
    """Return scores as confidences of at most 1, NaN as 0, and a note if some were higher.

    Raises:
        ReadError: the numbers are too large for scores, or negative.
    """
    score = np.nan_to_num(score, nan=0.0)
    low, high = float(score.min()), float(score.max())
    if low < 0 or high > _MAX_SCORE:
        raise ReadError(
            f"expected confidences in [0, 1], got numbers from {low:g} to {high:g}; are they "
            "coordinates?"
        )
    notes = ("scores above 1 were capped at 1",) if high > 1 else ()
    return np.minimum(score, np.float32(1)), notes


def remove_copies(points: Points, space: Space) -> tuple[Points, tuple[str, ...]]:
    """Return points (M, T, V, C) without the copies that a preparation made, and notes.

    2s-AGCN repeats each person until the array ends; what repeats of all persons is removed.
    CTR-GCN writes a single person of NTU RGB+D 120 twice.
    """
    notes: tuple[str, ...] = ()
    if len(points) == 2 and np.array_equal(points[0], points[1]):
        points, notes = points[:1], ("a second person equal to the first was left out",)
    if space.prepared == "agcn":
        points = points[:, : find_period(points)]
    return points, notes


def hide_zeros(joints: Points) -> Points:
    """Return joints (..., D) with NaN where all coordinates are 0."""
    return np.where((joints == 0).all(axis=-1, keepdims=True), np.float32(np.nan), joints)


def _looks_like_kinetics(points: Points, confidence: bool | None) -> bool:
    """Return whether points are x, y and a score, with x and y from -0.5 to 0.5.

    Shares as recorded are rarely below 0; of centered ones x or y is in a tenth of the joints.
    """
    if points.shape[-1] != 3 or confidence is False or not are_scores(points):
        return False
    xy = points[..., :2].reshape(-1, 2)
    present = xy[(xy != 0).any(axis=-1)]
    is_centered = len(present) > 0 and ((present < 0).mean(axis=0) > 0.1).any()
    return _reach(xy) <= 0.5 + _ROUNDING and bool(is_centered)


def _are_around_zero(xy: Points) -> bool:
    """Return whether a tenth of x and a tenth of y at least are negative."""
    present = xy[(xy != 0).any(axis=-1)]
    return bool(len(present) and ((present < 0).mean(axis=0) > 0.1).all())


def _reach(xy: Points) -> float:
    """Return the largest x or y of present joints, without the few outside of the image."""
    present = np.abs(xy[(xy != 0).any(axis=-1)])
    return float(np.quantile(present, 0.98)) if present.size else 0.0


def _resolve_image(
    points: Points,
    layout: SkeletonLayout,
    confidence: bool | None,
    stated: Mapping[str, str],
    prepared: str,
) -> ArrayFacts:
    """Return the facts of an array in a convention of images; ``prepared`` is "" if guessed."""
    channels = points.shape[-1]
    scored = channels == 3 if confidence is None else confidence
    xy, name = points[..., :2], prepared or "kinetics"
    if channels - scored != 2 or (scored and not are_scores(points)):
        raise ReadError(
            f"--prepared {name}: expected x and y, or x, y and a score from 0 to 1, got {channels} "
            "channels of other numbers"
        )
    limit = _IMAGE_LIMITS[name]
    if (largest := _reach(xy)) > limit + _ROUNDING:
        raise ReadError(
            f"--prepared {name}: expected x and y from -{limit:g} to {limit:g} "
            f"({PREPARATIONS[name].about}), got numbers of {largest:.3g}"
        )
    up = stated.get("up") or find_up_axis(hide_zeros(xy), layout)
    notes = ["y grows upwards, as in 2s-AGCN's arrays; it was negated"] if up == "y" else []
    if not prepared:
        notes.append(
            "the array looks prepared as by 'kinetics' (x and y from -0.5 to 0.5, then a score); "
            "state it by --prepared"
        )
    space = replace(PREPARATIONS[name].result, assumed=not prepared)
    return ArrayFacts(space, scored, flip=up == "y", notes=tuple(notes))


def _resolve_world(
    joints: Points, layout: SkeletonLayout, confidence: bool, stated: Mapping[str, str]
) -> ArrayFacts:
    """Return the facts of an array of x, y and z."""
    prepared = stated.get("prepared", "")
    joint, in_all_frames = _find_origin_joint(joints, layout)
    found = _name_convention(joints, layout, joint, in_all_frames) if joint else ""
    _check_stated(prepared, found, joint)
    notes: tuple[str, ...] = ()
    if joint and not prepared:
        if not found:
            raise ReadError(
                f"the joint {joint!r} of the first person is at the origin in "
                f"{'all frames' if in_all_frames else 'the first frame'}, so the array was "
                "prepared, in a way that is not known (known: stgcn, agcn, ctrgcn); take the "
                "coordinates as they are by --prepared recorded"
            )
        about = PREPARATIONS[found].about  # type: ignore[index]
        notes = (f"the array looks prepared as by {found!r} ({about}); state it by --prepared",)
    stated = {**stated, "prepared": prepared or found}
    space = SpaceOptions(**stated).resolve(hide_zeros(joints), layout)
    space = replace(space, assumed=True) if notes else space
    return ArrayFacts(space, confidence, layout.index(joint) if joint else -1, notes=notes)


def _check_stated(prepared: str, found: str, joint: str) -> None:
    """Raise ReadError if the numbers contradict the stated convention."""
    if prepared in ("agcn", "ctrgcn") and (not joint or found not in ("", prepared)):
        raise ReadError(
            f"--prepared {prepared} ({PREPARATIONS[prepared].about}) does not fit the array, which "  # type: ignore[index]
            + (f"looks prepared as by {found!r}" if found else "has the first person elsewhere")
        )
    if prepared == "stgcn" and found:
        raise ReadError(
            f"--prepared stgcn (as recorded) does not fit the array, which looks prepared as by "
            f"{found!r}"
        )


def _find_origin_joint(joints: Points, layout: SkeletonLayout) -> tuple[str, bool]:
    """Return the joint of the first person that is at the origin, and whether in all frames.

    The joint is "" if there is none. Joints that are absent in the frames of a person without the
    others are not at the origin.
    """
    rows = [seen for seen in map(_first_person, joints) if seen is not None]
    for name in _ORIGIN_JOINTS:
        if not rows or name not in layout.joints:
            continue
        index = layout.joints.index(name)
        if not all(not seen[0, index] and seen[0].sum() >= len(seen[0]) - 2 for seen in rows):
            continue
        return name, not any(seen[:, index].any() for seen in rows)
    return "", False


def _first_person(joints: Points) -> NDArray[np.bool_] | None:
    """Return (T', V): which joints of the first person are not 0, in the frames that show it."""
    seen = (joints != 0).any(axis=-1)
    persons = np.flatnonzero(seen.any(axis=(1, 2)))
    return seen[persons[0]][seen[persons[0]].any(axis=1)] if len(persons) else None


def _name_convention(
    joints: Points, layout: SkeletonLayout, joint: str, in_all_frames: bool
) -> str:
    """Return agcn or ctrgcn if an array with a joint at the origin follows it, else ""."""
    if joint not in _SPINE_MIDDLE:
        return ""
    frontal = _are_frontal(joints, layout)
    if in_all_frames:
        return "agcn" if frontal else ""
    return "ctrgcn" if not frontal and find_up_axis(joints, layout) in (None, "y") else ""


def _are_frontal(joints: Points, layout: SkeletonLayout) -> bool:
    """Return whether the first persons' shoulders are along x in the first frame of most clips."""
    if not {"left_shoulder", "right_shoulder"} <= set(layout.joints):
        return False
    left, right = layout.index("left_shoulder"), layout.index("right_shoulder")
    turns = []
    for clip in joints:
        shown = np.argwhere((clip != 0).any(axis=(2, 3)))
        if len(shown):
            vector = clip[tuple(shown[0])][right] - clip[tuple(shown[0])][left]
            turns.append(vector[0] > 0 and np.abs(vector[1:]).max() <= _MAX_TURN * vector[0])
    return bool(turns) and float(np.mean(turns)) > 0.5
