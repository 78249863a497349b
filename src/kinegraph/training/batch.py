"""Model input: one clip as an array, several clips as a batch of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kinegraph.clips.clip import Clip
from kinegraph.clips.intervals import IGNORED, label_frames, parse_intervals
from kinegraph.errors import LayoutError, TransformError
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.space import Space
from kinegraph.transforms import Pipeline, to_array
from kinegraph.transforms.convert_layout import convert_layout
from kinegraph.transforms.fit_space import fit_space
from kinegraph.transforms.registry import DrawPartner, View


class Sample(NamedTuple):
    """A clip as model input.

    Attributes:
        x: (C, T, V, M) float32; zero where a joint, a person or a frame is absent.
        label: -1 where unknown; or (classes,) probabilities (the recipe's ``soft_labels``); for
            segmentation (T,) the label of each frame, -1 in padding.
        length: number of real frames; padding follows them.
    """

    x: NDArray[np.float32]
    label: int | NDArray[np.float32] | NDArray[np.int64]
    length: int


class Batch(NamedTuple):
    """N clips as model input.

    Attributes:
        x: (N, C, T, V, M); zero where a joint, a person or a frame is absent.
        labels: (N,), -1 where unknown; or (N, classes) probabilities (``soft_labels`` of recipes);
            for segmentation (N, T), -1 in padding.
        lengths: (N,) number of real frames of each clip; padding follows them.
    """

    x: Tensor
    labels: Tensor
    lengths: Tensor

    @property
    def classes(self) -> Tensor:
        """(N,) labels, of probabilities the most probable class."""
        return self.labels if self.labels.ndim == 1 else self.labels.argmax(dim=1)


@dataclass(frozen=True)
class Preprocessor:
    """Conversion of clips to model input.

    Attributes:
        pipeline: the transforms.
        persons: M; further persons are dropped, missing ones are zeros.
        confidence: append the confidence of the joints as last channel.
        space: the space of the training clips, which clips are converted to; None takes them as
            they are, as in training.
        fps: the frame rate of the training clips, None if it is unknown.
        layout: the layout of the training clips, which clips are converted to; None for a
            pipeline that converts them itself.
        coordinates: those of the training clips; a clip of an image loses its depth if they are 2.
        background: for segmentation, the label of frames that no interval covers; samples then have
            a label for each frame.
    """

    pipeline: Pipeline
    persons: int
    confidence: bool
    space: Space | None = None
    fps: float | None = None
    layout: SkeletonLayout | None = None
    coordinates: int | None = None
    background: int | None = None

    def __call__(
        self,
        clip: Clip,
        rng: np.random.Generator | None = None,
        partner: DrawPartner | None = None,
        view: View | None = None,
    ) -> Sample:
        """Transform a clip and convert it to model input; ``rng=None`` means evaluation.

        ``partner`` and ``view`` are as for `Pipeline`.

        Raises:
            TransformError: the transforms do not fit the clip; the message names the clip.
        """
        return self.prepare(clip, rng, partner, view)[0]

    def prepare(
        self,
        clip: Clip,
        rng: np.random.Generator | None = None,
        partner: DrawPartner | None = None,
        view: View | None = None,
    ) -> tuple[Sample, NDArray[np.intp]]:
        """Return the sample, and (T,) the frame of the clip nearest to each of its frames.

        Arguments and errors are those of a call. In padding the frame is the clip's last.
        """
        draw = None if partner is None else lambda: self.fit(partner())
        try:
            prepared = self.pipeline(self.fit(clip), rng, draw, view)
            x = to_array(prepared, self.persons, confidence=self.confidence)
        except (LayoutError, TransformError) as error:
            raise TransformError(f"clip {clip.id!r}: {error}") from error
        # positions are 2 t / T - 1
        frames = np.rint(
            (prepared.frame_positions.astype(np.float64) + 1) / 2 * clip.num_real_frames
        )
        frames = frames.astype(np.intp).clip(0, clip.num_frames - 1)
        real = prepared.num_real_frames
        if self.background is None:
            return Sample(x, -1 if clip.label is None else clip.label, real), frames
        return Sample(x, self._label_frames(clip, frames, real), real), frames

    def _label_frames(self, clip: Clip, frames: NDArray[np.intp], real: int) -> NDArray[np.int64]:
        """Return (T,) the label of these frames; those after the first ``real`` do not count."""
        intervals = parse_intervals(clip.meta, clip.num_frames)
        if intervals is None or self.background is None:
            return np.full(len(frames), IGNORED)
        labels = label_frames(intervals, clip.num_frames, self.background)[frames]
        labels[real:] = IGNORED
        return labels

    def fit(self, clip: Clip) -> Clip:
        """Return the clip in the layout and the space of the training clips.

        Raises:
            LayoutError, TransformError: it cannot be converted; or its frame rate is unknown, and
                the model needs it.
        """
        if clip.fps is None and self.fps is not None and self.pipeline.resamples:
            raise TransformError(
                "its frame rate is unknown, and the model was trained on clips that were brought "
                "to one rate: state its frames per second (--fps, or fps in JSON)"
            )
        if self.layout is not None and not clip.layout.is_same(self.layout):
            clip = convert_layout(clip, self.layout)
        if self.coordinates == 2 and clip.num_channels == 3 and clip.space.kind == "image":
            clip = clip.with_joints(clip.joints[..., :2])
        return clip if self.space is None else fit_space(clip, self.space, self.pipeline)


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples into a batch; recordings with frame labels are padded to the longest.

    Raises:
        TransformError: the clips differ in length because no transform makes it equal.
    """
    frames = sorted({sample.x.shape[1] for sample in samples})
    if len(frames) > 1 and all(np.shape(s.label) == (s.x.shape[1],) for s in samples):
        samples = [_pad_sample(sample, frames[-1]) for sample in samples]
    elif len(frames) > 1:
        raise TransformError(
            f"one batch holds clips of {frames[0]} to {frames[-1]} frames: add a transform that "
            "gives all of them one length, such as `resize: {frames: 64}`"
        )
    arrays, labels, lengths = zip(*samples, strict=True)
    x, targets = (torch.from_numpy(np.stack(values)) for values in (arrays, labels))
    return Batch(x, targets, torch.tensor(lengths))


def _pad_sample(sample: Sample, frames: int) -> Sample:
    """Return the sample of a recording with empty frames after it, which do not count."""
    spare = frames - sample.x.shape[1]
    x = np.pad(sample.x, ((0, 0), (0, spare), (0, 0), (0, 0)))
    label = np.pad(np.asarray(sample.label), (0, spare), constant_values=IGNORED)
    return Sample(x, label, sample.length)
