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
        label: -1 where unknown; or (classes,) probabilities (the recipe's ``soft_labels``).
        length: number of real frames; padding follows them.
    """

    x: NDArray[np.float32]
    label: int | NDArray[np.float32]
    length: int


class Batch(NamedTuple):
    """N clips as model input.

    Attributes:
        x: (N, C, T, V, M); zero where a joint, a person or a frame is absent.
        labels: (N,), -1 where unknown; or (N, classes) probabilities (``soft_labels`` of recipes).
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
    """

    pipeline: Pipeline
    persons: int
    confidence: bool
    space: Space | None = None
    fps: float | None = None
    layout: SkeletonLayout | None = None
    coordinates: int | None = None

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
        draw = None if partner is None else lambda: self.fit(partner())
        try:
            prepared = self.pipeline(self.fit(clip), rng, draw, view)
            x = to_array(prepared, self.persons, confidence=self.confidence)
        except (LayoutError, TransformError) as error:
            raise TransformError(f"clip {clip.id!r}: {error}") from error
        return Sample(x, -1 if clip.label is None else clip.label, prepared.num_real_frames)

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
    """Stack samples into a batch.

    Raises:
        TransformError: the clips differ in length because no transform makes it equal.
    """
    frames = sorted({sample.x.shape[1] for sample in samples})
    if len(frames) > 1:
        raise TransformError(
            f"one batch holds clips of {frames[0]} to {frames[-1]} frames: add a transform that "
            "gives all of them one length, such as `resize: {frames: 64}`"
        )
    arrays, labels, lengths = zip(*samples, strict=True)
    x, targets = (torch.from_numpy(np.stack(values)) for values in (arrays, labels))
    return Batch(x, targets, torch.tensor(lengths))
