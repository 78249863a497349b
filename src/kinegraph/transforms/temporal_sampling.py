"""Temporal sampling: cropping, padding, repeating and resampling the frames of a clip.

With an rng a sampler draws frames (training), without one it is deterministic (evaluation). Where
an evaluation averages several clips of a clip (`View`), each has draws of its own, which depend on
nothing but its number and the clip's length.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Annotated

import numpy as np
from annotated_types import Interval
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip
from kinegraph.errors import TransformError
from kinegraph.transforms.registry import View, transform
from kinegraph.transforms.validation import Count, require_ascending

FrameIndices = NDArray[np.intp]
SpeedFactor = Annotated[float, Interval(ge=0.1, le=10)]
Fraction = Annotated[float, Interval(ge=0.01, le=1)]
FrameRate = Annotated[float, Interval(ge=0.1, le=1000)]
VIEW_SEED = 255  # PYSKL's seed of the clips that an evaluation samples


@transform(per_person=True)
def uniform_sample(
    clip: Clip,
    rng: np.random.Generator | None = None,
    view: View | None = None,
    *,
    frames: Count = 100,
    decode: bool = False,
) -> Clip:
    """Take one frame from each of ``frames`` equal bins: a random one, or the middle (PYSKL).

    A clip shorter than ``frames`` is repeated from a random start; from one shorter than twice that
    random frames are left out. With ``test_clips`` above 1 the frames are those of PYSKL's test
    mode, in which shorter clips start at evenly spaced frames, or, with ``decode``, at random ones
    (UniformSampleDecode of DG-STGCN).
    """
    if view is not None and view.clips > 1:
        index = sample_test_bins(clip.num_frames, frames, view.clips, decode)[view.number]
    else:
        index = _sample_bins(clip.num_frames, frames, rng)
    return take_frames(clip, index)


@transform(per_person=True)
def random_frames(
    clip: Clip,
    rng: np.random.Generator | None = None,
    view: View | None = None,
    *,
    frames: Count = 52,
    copies: Count | None = None,
) -> Clip:
    """Take random frames in order, drawn with replacement; without rng evenly spaced ones.

    As Shift-GCN samples NW-UCLA. With ``copies`` they are drawn without replacement from so many
    copies of the clip's frames, 100 in CTR-GCN; this needs frames <= copies.

    Raises:
        TransformError: fewer copies than frames.
    """
    if copies is not None and copies < frames:
        raise TransformError(
            f"transform 'random_frames': copies must be at least frames, got {copies} and {frames}"
        )
    rng = _view_rng(rng, view)
    if rng is None:
        return take_frames(clip, _spread_indices(clip.num_frames, frames))
    if copies is None:
        return take_frames(clip, np.sort(rng.integers(0, clip.num_frames, frames)))
    drawn = rng.choice(clip.num_frames * copies, frames, replace=False) % clip.num_frames
    return take_frames(clip, np.sort(drawn))


@transform(per_person=True)
def crop_resize(
    clip: Clip,
    rng: np.random.Generator | None = None,
    view: View | None = None,
    *,
    frames: Count = 64,
    train: tuple[Fraction, Fraction] = (0.5, 1.0),
    test: Fraction = 0.95,
    min_frames: Count = 64,
) -> Clip:
    """Crop a window and resize it to ``frames`` frames (CTR-GCN, Chen et al., ICCV 2021).

    With rng the window is a random fraction of the clip, between the two of ``train``, of at least
    ``min_frames`` frames if the clip has them; without it is the middle fraction ``test``.

    Raises:
        TransformError: the fractions of ``train`` are in descending order.
    """
    require_ascending("crop_resize", "train", *train)
    length, rng = clip.num_frames, _view_rng(rng, view)
    if rng is None:
        begin = int((1 - test) * length / 2)
        end = length - begin
    else:
        fraction = rng.uniform(train[0], train[1])
        size = min(max(int(length * fraction), min_frames), length)
        begin = int(rng.integers(0, length - size + 1))
        end = begin + size
    return _resample(clip, begin, end, frames)


@transform(per_person=True)
def crop_sample(
    clip: Clip,
    rng: np.random.Generator | None = None,
    *,
    frames: Count = 64,
    train: tuple[Fraction, Fraction] = (0.5, 1.0),
    test: Fraction = 0.95,
    faithful: bool = False,
) -> Clip:
    """Crop a window and take one frame from each of ``frames`` equal bins of it (SkateFormer).

    The window is a fraction of the clip, as in `crop_resize`, of at least ``frames`` frames; a
    shorter clip is not cropped, but resized. With rng the window is random, and so are the frames,
    as in `uniform_sample`; without it the window is in the middle, and the frames are the first of
    their bins. With ``faithful`` a window in the middle of 40 to 64 frames ends, as released, after
    the clip, at frames whose joints are all 0.

    Raises:
        TransformError: the fractions of ``train`` are in descending order.
    """
    require_ascending("crop_sample", "train", *train)
    length = clip.num_frames
    fraction = test if rng is None else rng.uniform(train[0], train[1])
    size = min(max(int(length * fraction), frames), length)
    if rng is not None:
        begin = int(rng.integers(0, length - size + 1))
    else:
        begin = int((1 - test) * length / 2)
        if faithful:
            clip = _append_zeros(clip, max(0, begin + size - length))
        else:
            begin = min(begin, length - size)
    if size < frames:
        return _resample(clip, begin, begin + size, frames)
    drawn = np.arange(frames) * size // frames if rng is None else _sample_bins(size, frames, rng)
    return take_frames(clip, begin + drawn)


@transform(per_person=True, count_channels=lambda channels, _: channels + 1)
def frame_index(clip: Clip) -> Clip:
    """Append the position of each frame in the recording, from -1 to 1, as last coordinate.

    It is that of `Clip.frame_positions`, which samplers keep, for models with the option
    ``frame_index``. All joints of a person get it, so that absent ones become joints at 0; a
    person who is never present stays absent. The step is the last one.
    """
    shown = np.asarray(clip.valid.any(axis=(1, 2)))
    seen = np.where(shown[:, None, None, None], np.nan_to_num(clip.joints), clip.joints)
    position = clip.frame_positions[None, :, None, None]
    index = np.where(np.isnan(seen[..., :1]), seen[..., :1], position)
    return clip.with_joints(np.concatenate([seen, index], axis=-1))


@transform(random=True)
def random_crop(clip: Clip, rng: np.random.Generator, *, shortest: Count = 16) -> Clip:
    """Crop a random window of random length, from ``shortest`` frames to the whole clip."""
    if clip.num_frames <= shortest:
        return clip
    length = int(rng.integers(shortest, clip.num_frames + 1))
    begin = int(rng.integers(0, clip.num_frames - length + 1))
    return take_frames(clip, np.arange(begin, begin + length))


@transform(random=True)
def random_window(clip: Clip, rng: np.random.Generator, *, frames: Count = 512) -> Clip:
    """Crop a random window of ``frames``; a shorter clip is followed by empty frames.

    For segmentation, which evaluates whole recordings.
    """
    spare = clip.num_frames - frames
    if spare >= 0:
        begin = int(rng.integers(0, spare + 1))
        return take_frames(clip, np.arange(begin, begin + frames))
    after = np.ones(-spare, dtype=np.float32)  # where frames after the recording lie
    positions = np.concatenate([clip.frame_positions, after])
    return replace(_pad_around(clip, 0, frames), positions=positions)


@transform(random=True)
def random_speed(
    clip: Clip, rng: np.random.Generator, *, low: SpeedFactor = 0.5, high: SpeedFactor = 2.0
) -> Clip:
    """Speed the clip up or slow it down by linear interpolation.

    The factor is drawn from ``low`` to ``high``, uniformly in its logarithm; 2 leaves half as many
    frames, as half the frame rate would.

    Raises:
        TransformError: ``low`` is above ``high``.
    """
    require_ascending("random_speed", "low, high", low, high)
    factor = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    return _resample(clip, 0, clip.num_frames, max(1, round(clip.num_frames / factor)))


@transform(per_person=True)
def resize(clip: Clip, *, frames: Count = 64) -> Clip:
    """Resize the whole clip to ``frames`` frames by linear interpolation."""
    return _resample(clip, 0, clip.num_frames, frames)


@transform(per_person=True)
def resample(clip: Clip, *, fps: FrameRate = 30.0) -> Clip:
    """Bring the clip to ``fps`` frames per second by linear interpolation.

    A clip of unknown frame rate stays as it is. Training refuses a mixture of known and unknown
    rates, and a model that was trained on known rates refuses a clip of unknown rate.
    """
    if clip.fps is None or clip.fps == fps:
        return clip
    factor = fps / clip.fps
    frames = max(1, round(clip.num_frames * factor))
    real = clip.padded_from and min(max(1, round(clip.padded_from * factor)), frames)
    return replace(_resample(clip, 0, clip.num_frames, frames), fps=fps, padded_from=real)


@transform(pads=True)
def repeat_pad(
    clip: Clip,
    rng: np.random.Generator | None = None,
    *,
    frames: Count = 300,
    test: Count | None = None,
    together: bool = False,
) -> Clip:
    """Repeat each person from its beginning until ``frames``: x[t] = x[t mod L] (2s-AGCN).

    L is the person's last frame with a joint; a person who enters late loses its empty frames
    first. With ``together`` all persons stay synchronous: the frames from the first to the last
    that show any person are repeated, and a person who has left is absent until the next
    repetition. A longer clip keeps its first ``frames`` frames, a person never present stays
    absent. Without rng ``test`` is used instead of ``frames``, if it is given. Real frames
    (`Clip.padded_from`) are those from the first to the last that show any person.
    """
    length = frames if rng is not None or test is None else test
    seen = np.asarray(clip.valid.any(axis=2))
    shown = np.flatnonzero(seen.any(axis=0))
    span = int(shown[-1] - shown[0]) + 1 if shown.size else clip.num_frames
    real = min(span, clip.num_real_frames)
    if together and shown.size:
        order = np.tile(shown[0] + np.arange(length) % real, (len(seen), 1))
    else:
        order = np.stack([_repeat_indices(own, length) for own in seen])
    return _take_own_frames(clip, order, real)


@transform(pads=True, per_person=True)
def zero_pad(clip: Clip, *, frames: Count = 300) -> Clip:
    """Append empty frames until ``frames``; a longer clip keeps its first ones.

    The joints of empty frames are absent; `to_array` makes them zeros.
    """
    return _pad_around(take_frames(clip, np.arange(min(clip.num_frames, frames))), 0, frames)


@transform(pads=True, per_person=True)
def random_choose(
    clip: Clip,
    rng: np.random.Generator | None = None,
    *,
    frames: Count = 150,
    test: Count | None = None,
) -> Clip:
    """Crop a random window of ``frames``, or place a shorter clip at random among empty frames.

    Without rng the window is in the middle, and a shorter clip at the beginning; if ``test`` is
    given, the clip is cut or padded at its end to that many frames (st-gcn tests on all 300).
    """
    if rng is None and test is not None:
        return zero_pad(clip, frames=test)
    spare = clip.num_frames - frames
    if spare >= 0:
        begin = spare // 2 if rng is None else int(rng.integers(0, spare + 1))
        return take_frames(clip, np.arange(begin, begin + frames))
    begin = 0 if rng is None else int(rng.integers(0, 1 - spare))
    return _pad_around(clip, begin, frames)


@transform(pads=True)
def auto_pad(
    clip: Clip, rng: np.random.Generator | None = None, *, frames: Count = 350, random: bool = False
) -> Clip:
    """Append empty frames to a shorter clip, or take evenly spaced frames of a longer one.

    As in PaddleVideo. With ``random`` and an rng the shorter clip starts at a random place and of
    the longer one random frames are kept, in order. The original finds the clip's end by signed
    sums, samples a frame past it and shuffles the random frames; here the clip ends with its last
    present joint.
    """
    shown = np.flatnonzero(clip.valid.any(axis=(0, 2)))
    length = int(shown[-1]) + 1 if shown.size else clip.num_frames
    drawn = rng if random else None
    if length <= frames:
        begin = 0 if drawn is None else int(drawn.integers(0, frames - length + 1))
        return _pad_around(take_frames(clip, np.arange(length)), begin, frames)
    if drawn is None:
        return take_frames(clip, _spread_indices(length, frames))
    return take_frames(clip, np.sort(drawn.choice(length, frames, replace=False)))


@transform(random=True)
def random_shift(clip: Clip, rng: np.random.Generator) -> Clip:
    """Move the frames that show a joint to a random place within the clip (st-gcn)."""
    shown = np.flatnonzero(clip.valid.any(axis=(0, 2)))
    if not shown.size:
        return clip
    span = np.arange(shown[0], shown[-1] + 1)
    begin = int(rng.integers(0, clip.num_frames - len(span) + 1))
    return _pad_around(take_frames(clip, span), begin, clip.num_frames)


@transform(per_person=True)
def downsample(clip: Clip, rng: np.random.Generator | None = None, *, step: Count = 2) -> Clip:
    """Take every ``step``-th frame, from a random start; without rng from the first frame."""
    first = 0 if rng is None else int(rng.integers(0, min(step, clip.num_frames)))
    return take_frames(clip, np.arange(first, clip.num_frames, step))


@transform(per_person=True)
def reduce_frame(clip: Clip, *, step: Count = 2) -> Clip:
    """Take every ``step``-th frame from the first, also in training: T becomes ceil(T / step)."""
    return downsample(clip, step=step)


@transform()
def trim(clip: Clip) -> Clip:
    """Drop the frames before the first present joint and after the last one."""
    shown = np.flatnonzero(clip.valid.any(axis=(0, 2)))
    return take_frames(clip, np.arange(shown[0], shown[-1] + 1)) if shown.size else clip


@transform()
def drop_empty_frames(clip: Clip) -> Clip:
    """Drop all frames without a joint; a clip without any joint stays as it is."""
    shown = np.flatnonzero(clip.valid.any(axis=(0, 2)))
    return take_frames(clip, shown) if shown.size else clip


def take_frames(clip: Clip, index: FrameIndices) -> Clip:
    """Return the clip with the frames of these indices."""
    return clip.map_arrays(
        lambda array: array[:, index],
        padded_from=_count_real(clip, index),
        positions=clip.frame_positions[index],
    )


def stretch(clip: Clip, frames: int) -> Clip:
    """Return the clip with ``frames`` frames, by linear interpolation if it has others."""
    return clip if clip.num_frames == frames else _resample(clip, 0, clip.num_frames, frames)


def _count_real(clip: Clip, index: FrameIndices) -> int | None:
    """Return how many of these frames of a padded clip are real; None if they are out of order."""
    if clip.padded_from is None or (np.diff(index) < 0).any():
        return None
    return max(1, int(np.searchsorted(index, clip.padded_from)))


def _sample_bins(
    length: int, frames: int, rng: np.random.Generator | np.random.RandomState | None
) -> FrameIndices:
    edges = np.arange(frames + 1) * length // frames
    if rng is None:
        index = np.arange(frames) if length < frames else edges[:-1] + np.diff(edges) // 2
        return index % length
    integers = rng.randint if isinstance(rng, np.random.RandomState) else rng.integers
    if length < frames:
        return (int(integers(0, length)) + np.arange(frames)) % length
    if length < 2 * frames:
        skipped = np.zeros(frames + 1, dtype=np.intp)
        skipped[rng.choice(frames + 1, length - frames, replace=False)] = 1
        return np.arange(frames) + np.cumsum(skipped)[:-1]
    return edges[:-1] + integers(0, np.diff(edges))


@lru_cache(maxsize=1024)  # clips of one length have the same
def sample_test_bins(length: int, frames: int, clips: int, decode: bool = False) -> FrameIndices:
    """Return the frames (clips, frames) of PYSKL's test mode, UniformSample or UniformSampleDecode.

    The draws are those of one legacy generator with the seed 255: for each clip a number and a
    start that are not used, then the frames as in training.
    """
    draw = np.random.RandomState(VIEW_SEED)
    rows = []
    for number in range(clips):
        draw.rand()
        draw.randint(1)
        if length < frames and not decode:
            start = number if length < clips else number * length // clips
            rows.append((start + np.arange(frames)) % length)
        else:
            rows.append(_sample_bins(length, frames, draw))
    return np.stack(rows)


def _view_rng(rng: np.random.Generator | None, view: View | None) -> np.random.Generator | None:
    """Return the generator of one of several clips, or ``rng``."""
    if view is None or view.clips == 1:
        return rng
    return np.random.default_rng((VIEW_SEED, view.number))


def _spread_indices(length: int, frames: int) -> FrameIndices:
    """Return ``frames`` indices from the first to the last, rounded down (in exact integers)."""
    return np.arange(frames) * (length - 1) // max(frames - 1, 1)


def _repeat_indices(shown: NDArray[np.bool_], frames: int) -> FrameIndices:
    """Return the frames of one person, repeated; -1 for a person who is never present."""
    present = np.flatnonzero(shown)
    if not present.size:
        return np.full(frames, -1, dtype=np.intp)
    own = np.arange(present[-1] + 1) if shown[0] else present
    return own[np.arange(frames) % len(own)]


def _take_own_frames(clip: Clip, order: FrameIndices, real: int) -> Clip:
    """Take the frames ``order`` (M, T') of each person; -1 is an empty frame."""
    person = np.arange(clip.num_persons)[:, None]

    def take(array: NDArray[np.float32]) -> NDArray[np.float32]:
        taken = array[person, order]
        taken[order < 0] = _empty_value(array)
        return taken

    return clip.map_arrays(take, padded_from=min(real, order.shape[1]), positions=None)


def _pad_around(clip: Clip, begin: int, frames: int) -> Clip:
    """Place the whole clip at frame ``begin`` of ``frames`` frames, the others empty."""

    def pad(array: NDArray[np.float32]) -> NDArray[np.float32]:
        shape = (len(array), frames, *array.shape[2:])
        padded = np.full(shape, _empty_value(array), dtype=np.float32)
        padded[:, begin : begin + clip.num_frames] = array
        return padded

    return clip.map_arrays(pad, padded_from=begin + clip.num_real_frames, positions=None)


def _empty_value(array: NDArray[np.float32]) -> float:
    """Return the value of joints or confidence in an empty frame."""
    return np.nan if array.ndim == 4 else 0.0


def _append_zeros(clip: Clip, frames: int) -> Clip:
    """Append frames whose joints are all 0, though present."""
    if not frames:
        return clip
    padded = _pad_around(clip, 0, clip.num_frames + frames)
    joints = padded.joints.copy()
    joints[:, clip.num_frames :] = 0
    return replace(padded, joints=joints)


def _resample(clip: Clip, begin: int, end: int, frames: int) -> Clip:
    """Interpolate frames begin..end at ``frames`` positions (torch's align_corners=False).

    Between a present and an absent joint the nearer one is taken, the earlier of equally near ones.
    """
    length = end - begin
    positions = (np.arange(frames) + 0.5) * (length / frames) - 0.5
    positions = np.clip(positions, 0, length - 1)
    low = positions.astype(np.intp)
    high = np.minimum(low + 1, length - 1)
    weight = (positions - low).astype(np.float32)

    def interpolate(array: NDArray[np.float32]) -> NDArray[np.float32]:
        first, second = array[:, begin + low], array[:, begin + high]
        w = weight.reshape(-1, *(1,) * (array.ndim - 2))
        mixed = first + (second - first) * w
        return np.where(np.isnan(mixed), np.where(w <= 0.5, first, second), mixed)

    known = clip.frame_positions[begin:end]
    moved = known[low] + (known[high] - known[low]) * weight
    return clip.map_arrays(interpolate, padded_from=None, positions=moved)
