"""Which frames a network sees: clips of any length brought to a fixed number of frames.

With an rng a sampler draws (training); without one it takes its deterministic version
(evaluation). All but the repeating ones keep the order of time.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip
from kinegraph.errors import TransformError
from kinegraph.transforms.validation import Bounds, Count, transform

Indices = NDArray[np.intp]
SpeedFactor = Annotated[float, Bounds(0.1, 10)]
Fraction = Annotated[float, Bounds(0.01, 1)]


@transform
def uniform_sample(
    clip: Clip, rng: np.random.Generator | None = None, *, frames: Count = 100
) -> Clip:
    """One frame from each of ``frames`` equal bins: a random one, or the middle (PYSKL).

    A clip shorter than ``frames`` is repeated from a random start; one shorter than twice that
    skips random frames.
    """
    return take_frames(clip, _uniform_indices(clip.num_frames, frames, rng))


@transform
def random_frames(
    clip: Clip, rng: np.random.Generator | None = None, *, frames: Count = 52
) -> Clip:
    """Random frames in order, drawn with replacement; without rng evenly spread ones.

    As Shift-GCN and CTR-GCN sample NW-UCLA.
    """
    if rng is None:
        return take_frames(clip, _spread(clip.num_frames, frames))
    return take_frames(clip, np.sort(rng.integers(0, clip.num_frames, frames)))


@transform
def crop_resize(
    clip: Clip,
    rng: np.random.Generator | None = None,
    *,
    frames: Count = 64,
    train: tuple[Fraction, Fraction] = (0.5, 1.0),
    test: Fraction = 0.95,
    min_frames: Count = 64,
) -> Clip:
    """A window of the clip, resized to ``frames`` (CTR-GCN, Chen et al., ICCV 2021).

    With rng the window is a random share between the two of ``train``, but at least
    ``min_frames`` frames where the clip has them; without it is the middle share ``test``.

    Raises:
        TransformError: the shares of ``train`` are in descending order.
    """
    if train[0] > train[1]:
        raise TransformError(
            f"transform 'crop_resize': train must be two ascending shares, got {list(train)}"
        )
    length = clip.num_frames
    if rng is None:
        begin = int((1 - test) * length / 2)
        end = length - begin
    else:
        share = rng.uniform(train[0], train[1])
        size = min(max(int(length * share), min_frames), length)
        begin = int(rng.integers(0, length - size + 1))
        end = begin + size
    return _resized(clip, begin, end, frames)


@transform
def random_crop(
    clip: Clip, rng: np.random.Generator | None = None, *, shortest: Count = 16
) -> Clip:
    """A random window of a random length: from ``shortest`` frames to the whole clip."""
    if rng is None or clip.num_frames <= shortest:
        return clip
    length = int(rng.integers(shortest, clip.num_frames + 1))
    begin = int(rng.integers(0, clip.num_frames - length + 1))
    return take_frames(clip, np.arange(begin, begin + length))


@transform
def random_speed(
    clip: Clip,
    rng: np.random.Generator | None = None,
    *,
    low: SpeedFactor = 0.5,
    high: SpeedFactor = 2.0,
) -> Clip:
    """Plays the clip faster or slower by linear interpolation: another camera, another performer.

    The factor is drawn from ``low`` to ``high``, evenly in its logarithm; 2 leaves half as many
    frames, as half the frame rate would.

    Raises:
        TransformError: ``low`` is above ``high``.
    """
    if low > high:
        raise TransformError(
            f"transform 'random_speed': low, high must be ascending, got {low:g} and {high:g}"
        )
    if rng is None:
        return clip
    factor = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    return _resized(clip, 0, clip.num_frames, max(1, round(clip.num_frames / factor)))


@transform
def resize(clip: Clip, rng: np.random.Generator | None = None, *, frames: Count = 64) -> Clip:
    """The whole clip, stretched or shrunk to ``frames`` by linear interpolation."""
    return _resized(clip, 0, clip.num_frames, frames)


@transform
def repeat_pad(
    clip: Clip,
    rng: np.random.Generator | None = None,
    *,
    frames: Count = 300,
    test: Count | None = None,
    together: bool = False,
) -> Clip:
    """Each person repeated from its beginning until ``frames``: x[t] = x[t mod L] (2s-AGCN).

    L is the person's last frame with a joint; a person who enters late loses its empty frames
    first. With ``together`` all persons keep in step: the frames from the first to the last that
    show anybody are repeated, and a person who has left is absent until the next repetition. A
    longer clip keeps its first ``frames`` frames, a person never seen stays absent. Without rng
    ``test`` counts in place of ``frames``, if it is given. Real frames are those from the first to
    the last that show anybody.
    """
    length = frames if rng is not None or test is None else test
    seen = np.asarray(clip.valid.any(axis=2))
    shown = np.flatnonzero(seen.any(axis=0))
    span = int(shown[-1] - shown[0]) + 1 if shown.size else clip.num_frames
    real = min(span, clip.num_real_frames)
    if together and shown.size:
        order = np.tile(shown[0] + np.arange(length) % real, (len(seen), 1))
    else:
        order = np.stack([_repeated(own, length) for own in seen])
    return _take_own_frames(clip, order, real)


@transform
def zero_pad(clip: Clip, rng: np.random.Generator | None = None, *, frames: Count = 300) -> Clip:
    """Empty frames at the end until ``frames``; a longer clip keeps its first ones.

    The joints of empty frames are absent; they become zeros with the tensor.
    """
    return _placed(take_frames(clip, np.arange(min(clip.num_frames, frames))), 0, frames)


@transform
def random_choose(
    clip: Clip,
    rng: np.random.Generator | None = None,
    *,
    frames: Count = 150,
    test: Count | None = None,
) -> Clip:
    """A random window of ``frames``, or a shorter clip at a random place among empty frames.

    Without rng the window in the middle, or the clip at the beginning; if ``test`` is given, the
    clip from its beginning, cut or padded to that many frames (st-gcn tests on all 300).
    """
    if rng is None and test is not None:
        return zero_pad(clip, frames=test)
    spare = clip.num_frames - frames
    if spare >= 0:
        begin = spare // 2 if rng is None else int(rng.integers(0, spare + 1))
        return take_frames(clip, np.arange(begin, begin + frames))
    begin = 0 if rng is None else int(rng.integers(0, 1 - spare))
    return _placed(clip, begin, frames)


@transform
def auto_pad(
    clip: Clip, rng: np.random.Generator | None = None, *, frames: Count = 350, random: bool = False
) -> Clip:
    """A shorter clip gets empty frames, a longer one is thinned out evenly (PaddleVideo).

    With ``random`` and an rng the shorter clip starts at a random place and the longer one keeps
    random frames in order. The original takes the clip's end from signed sums, samples a frame
    past it and shuffles the random frames; here the clip ends with its last seen joint.
    """
    shown = np.flatnonzero(clip.valid.any(axis=(0, 2)))
    length = int(shown[-1]) + 1 if shown.size else clip.num_frames
    drawn = rng if random else None
    if length <= frames:
        begin = 0 if drawn is None else int(drawn.integers(0, frames - length + 1))
        return _placed(take_frames(clip, np.arange(length)), begin, frames)
    if drawn is None:
        return take_frames(clip, _spread(length, frames))
    return take_frames(clip, np.sort(drawn.choice(length, frames, replace=False)))


@transform
def random_shift(clip: Clip, rng: np.random.Generator | None = None) -> Clip:
    """Moves the frames that show something to a random place within the clip (st-gcn)."""
    shown = np.flatnonzero(clip.valid.any(axis=(0, 2)))
    if rng is None or not shown.size:
        return clip
    span = np.arange(shown[0], shown[-1] + 1)
    begin = int(rng.integers(0, clip.num_frames - len(span) + 1))
    return _placed(take_frames(clip, span), begin, clip.num_frames)


@transform
def downsample(clip: Clip, rng: np.random.Generator | None = None, *, step: Count = 2) -> Clip:
    """Every ``step``-th frame, from a random one of the first on; without rng from the first."""
    first = 0 if rng is None else int(rng.integers(0, min(step, clip.num_frames)))
    return take_frames(clip, np.arange(first, clip.num_frames, step))


@transform
def reduce_frame(clip: Clip, rng: np.random.Generator | None = None, *, step: Count = 2) -> Clip:
    """Every ``step``-th frame from the first on, the same in training: T becomes ceil(T / step)."""
    return downsample(clip, None, step=step)


@transform
def trim(clip: Clip, rng: np.random.Generator | None = None) -> Clip:
    """Drops the frames before the first seen joint and after the last one."""
    shown = np.flatnonzero(clip.valid.any(axis=(0, 2)))
    return take_frames(clip, np.arange(shown[0], shown[-1] + 1)) if shown.size else clip


@transform
def drop_empty_frames(clip: Clip, rng: np.random.Generator | None = None) -> Clip:
    """Drops all frames that show no joint; a clip without any joint stays as it is."""
    shown = np.flatnonzero(clip.valid.any(axis=(0, 2)))
    return take_frames(clip, shown) if shown.size else clip


def take_frames(clip: Clip, index: Indices) -> Clip:
    """The clip with the frames of these indices, joints and confidence alike."""
    confidence = None if clip.confidence is None else clip.confidence[:, index]
    joints, padded_from = clip.joints[:, index], _still_real(clip, index)
    return replace(clip, joints=joints, confidence=confidence, padded_from=padded_from)


def _still_real(clip: Clip, index: Indices) -> int | None:
    """How many of these frames of a padded clip are real; None if they are out of order."""
    if clip.padded_from is None or (np.diff(index) < 0).any():
        return None
    return max(1, int(np.searchsorted(index, clip.padded_from)))


def _uniform_indices(length: int, frames: int, rng: np.random.Generator | None) -> Indices:
    edges = np.arange(frames + 1) * length // frames
    if rng is None:
        index = np.arange(frames) if length < frames else edges[:-1] + np.diff(edges) // 2
        return index % length
    if length < frames:
        return (int(rng.integers(0, length)) + np.arange(frames)) % length
    if length < 2 * frames:
        skipped = np.zeros(frames + 1, dtype=np.intp)
        skipped[rng.choice(frames + 1, length - frames, replace=False)] = 1
        return np.arange(frames) + np.cumsum(skipped)[:-1]
    return edges[:-1] + rng.integers(0, np.diff(edges))


def _spread(length: int, frames: int) -> Indices:
    """``frames`` indices from the first to the last, rounded down (in exact integers)."""
    return np.arange(frames) * (length - 1) // max(frames - 1, 1)


def _repeated(shown: NDArray[np.bool_], frames: int) -> Indices:
    """The frames of one person, repeated; -1 throughout for one who is never seen."""
    present = np.flatnonzero(shown)
    if not present.size:
        return np.full(frames, -1, dtype=np.intp)
    own = np.arange(present[-1] + 1) if shown[0] else present
    return own[np.arange(frames) % len(own)]


def _take_own_frames(clip: Clip, order: Indices, real: int) -> Clip:
    """Frames (M, T') chosen for each person by itself; -1 is an empty frame. So many are real."""
    person = np.arange(clip.num_persons)[:, None]
    joints = clip.joints[person, order]
    joints[order < 0] = np.nan
    real = min(real, order.shape[1])
    if clip.confidence is None:
        return replace(clip, joints=joints, padded_from=real)
    confidence = clip.confidence[person, order]
    confidence[order < 0] = 0
    return replace(clip, joints=joints, confidence=confidence, padded_from=real)


def _placed(clip: Clip, begin: int, frames: int) -> Clip:
    """The whole clip from frame ``begin`` on among ``frames`` frames, the others empty."""
    span = slice(begin, begin + clip.num_frames)
    real = begin + clip.num_real_frames
    shape = (clip.num_persons, frames, clip.num_joints)
    joints = np.full((*shape, clip.num_channels), np.nan, dtype=np.float32)
    joints[:, span] = clip.joints
    if clip.confidence is None:
        return replace(clip, joints=joints, padded_from=real)
    confidence = np.zeros(shape, dtype=np.float32)
    confidence[:, span] = clip.confidence
    return replace(clip, joints=joints, confidence=confidence, padded_from=real)


def _resized(clip: Clip, begin: int, end: int, frames: int) -> Clip:
    """Frames begin..end at ``frames`` even places (pixel centers: torch's align_corners=False).

    Between a seen and an absent joint the nearer one decides, the earlier if both are as near.
    """
    length = end - begin
    places = (np.arange(frames) + 0.5) * (length / frames) - 0.5
    places = np.clip(places, 0, length - 1)
    low = places.astype(np.intp)
    high = np.minimum(low + 1, length - 1)
    share = (places - low).astype(np.float32)
    joints = _blend(clip.joints, begin + low, begin + high, share[:, None, None])
    if clip.confidence is None:
        return replace(clip, joints=joints, padded_from=None)
    confidence = _blend(clip.confidence, begin + low, begin + high, share[:, None])
    return replace(clip, joints=joints, confidence=confidence, padded_from=None)


def _blend(
    values: NDArray[np.float32], low: Indices, high: Indices, share: NDArray[np.float32]
) -> NDArray[np.float32]:
    first, second = values[:, low], values[:, high]
    blended = first + (second - first) * share
    return np.where(np.isnan(blended), np.where(share <= 0.5, first, second), blended)
