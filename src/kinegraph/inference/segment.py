"""Segmentation: the action of every frame of a recording, and the intervals of actions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from kinegraph.clips.clip import Clip
from kinegraph.clips.intervals import BACKGROUND, Interval, find_intervals
from kinegraph.errors import CheckpointError, ModelError
from kinegraph.inference.recognizer import Recognizer
from kinegraph.inference.trained_model import TrainedModel
from kinegraph.training.batch import collate
from kinegraph.training.checkpoint import CheckpointHeader


@dataclass(frozen=True)
class NamedInterval:
    """An action of a recording.

    Attributes:
        name, label: the action.
        start_frame, stop_frame: its first frame, and the frame after its last.
        start, end: in seconds, None if the frame rate is unknown.
        probability: mean of its class over its frames.
    """

    name: str
    label: int
    start_frame: int
    stop_frame: int
    start: float | None
    end: float | None
    probability: float

    def to_dict(self) -> dict[str, Any]:
        """Return the values as plain data, for JSON and CSV."""
        times = {
            key: None if value is None else round(value, 3)
            for key, value in (("start", self.start), ("end", self.end))
        }
        return {
            "label": self.name,
            **times,
            "start_frame": self.start_frame,
            "stop_frame": self.stop_frame,
            "probability": round(self.probability, 4),
        }


@dataclass(frozen=True)
class Segmentation:
    """The answer for one recording.

    Attributes:
        id: of the recording.
        probabilities: (T, K) of the classes, for each frame.
        classes: K names.
        background: the label of frames without an action.
        fps: frames per second, None if unknown.
    """

    id: str
    probabilities: NDArray[np.float32]
    classes: tuple[str, ...]
    background: int
    fps: float | None = None

    @property
    def labels(self) -> NDArray[np.int64]:
        """(T,) the most probable class of each frame."""
        return self.probabilities.argmax(axis=1).astype(np.int64)

    def intervals(self, least_frames: int = 1) -> list[NamedInterval]:
        """Return the actions in order, without those of fewer than ``least_frames`` frames."""
        return [
            self._name(interval)
            for interval in find_intervals(self.labels, self.background)
            if interval.stop - interval.start >= least_frames
        ]

    def to_dict(self, least_frames: int = 1) -> dict[str, Any]:
        """Return the frame rate and the actions, for JSON; see `intervals`."""
        found = [item.to_dict() for item in self.intervals(least_frames)]
        return {"fps": self.fps, "intervals": found}

    def _name(self, interval: Interval) -> NamedInterval:
        label, start, stop = interval
        rate = self.fps
        return NamedInterval(
            name=self.classes[label],
            label=label,
            start_frame=start,
            stop_frame=stop,
            start=None if rate is None else start / rate,
            end=None if rate is None else stop / rate,
            probability=float(self.probabilities[start:stop, label].mean()),
        )


class Segmenter(TrainedModel):
    """A trained model that names the action of every frame.

    >>> segmenter = Segmenter.load("runs/utkinect_recordings")  # doctest: +SKIP
    >>> segmenter(recording).intervals()  # doctest: +SKIP

    Attributes:
        classes: names of the classes, with the background.
        background: the label of the background.

    Raises:
        CheckpointError: the run does not name the actions of frames.
    """

    def __init__(self, model: nn.Module, header: CheckpointHeader) -> None:
        super().__init__(model, header)
        if not self.objective.names_frames:
            raise CheckpointError(
                f"a run with the objective {header.objective['name']!r} does not name the actions "
                "of frames: train one with the objective segmentation"
            )
        self.classes: tuple[str, ...] = tuple(header.classes or ())
        self.background = self.classes.index(BACKGROUND)

    @torch.no_grad()
    def __call__(self, clip: Clip) -> Segmentation:
        """Return the classes of all frames of a recording, computed at once.

        Raises:
            CheckpointError: the recording has another layout than the model.
            TransformError: the transforms do not fit it.
            ModelError: the logits are not finite.
        """
        self._check_layout(clip.layout, f"clip {clip.id!r}")
        sample, frames = self.preprocessor.prepare(clip)
        if sample.x.shape[0] != self.header.in_channels:
            self._check_channels(clip.num_channels, f"clip {clip.id!r}")
        batch = self._on_device(collate([sample]))
        logits = self.model(batch.x, batch.lengths)[0, :, : sample.length]
        if not logits.isfinite().all():
            raise ModelError(
                f"clip {clip.id!r}: the logits are not finite: the training has diverged, or the "
                "coordinates are too large"
            )
        rows = logits.float().softmax(dim=0).T.cpu().numpy()
        return self._answer(clip, spread_frames(rows, frames[: sample.length], clip.num_frames))

    def _answer(self, clip: Clip, probabilities: NDArray[np.float32]) -> Segmentation:
        return Segmentation(clip.id, probabilities, self.classes, self.background, clip.fps)


def load_action_model(run: str | Path) -> Recognizer | Segmenter:
    """Load a run, a checkpoint file or an exported file that names actions: of clips or of frames.

    Raises:
        CheckpointError, ExportError: it is missing or damaged, or names no actions.
    """
    trained = TrainedModel.load(run)
    create = Segmenter if trained.objective.names_frames else Recognizer
    return create(trained.model, trained.header)


def spread_frames(
    rows: NDArray[np.float32], frames: NDArray[np.intp], length: int
) -> NDArray[np.float32]:
    """Return (length, K): for each frame of a recording the row of the nearest computed frame.

    Args:
        rows: (T, K), computed.
        frames: (T,) the frames of the recording that they belong to, ascending.
        length: frames of the recording.
    """
    middles = (frames[1:] + frames[:-1] + 1) // 2
    return rows[np.searchsorted(middles, np.arange(length), side="right")]


def smooth_labels(labels: NDArray[np.integer], frames: int) -> NDArray[np.int64]:
    """Return (T,) the most frequent label within ``frames`` frames around each; ties: the lowest.

    For classes, which have no order, it is what a median filter is for numbers.

    Args:
        labels: (T,).
        frames: odd; at the ends there are fewer.
    """
    one_hot = np.eye(int(labels.max()) + 1, dtype=np.int64)[labels]
    summed = np.concatenate([np.zeros_like(one_hot[:1]), one_hot.cumsum(axis=0)])
    t = np.arange(len(labels))
    low, high = np.maximum(t - frames // 2, 0), np.minimum(t + frames // 2 + 1, len(labels))
    return (summed[high] - summed[low]).argmax(axis=1)
