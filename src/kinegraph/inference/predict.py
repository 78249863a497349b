"""Predictions for raw files: named actions, their intervals, errors of predicted poses."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kinegraph.clips.clip import Clip
from kinegraph.errors import CheckpointError, KinegraphError
from kinegraph.inference.evaluate import supported_tasks
from kinegraph.inference.inputs import describe_assumptions, open_input
from kinegraph.inference.pose_errors import PoseScorer
from kinegraph.inference.recognizer import Precision, Recognizer
from kinegraph.inference.segment import Segmenter
from kinegraph.inference.trained_model import TrainedModel


class Predictor(NamedTuple):
    """All that a run can predict of a clip.

    Attributes:
        recognizer: names actions; None if the run is not a classifier.
        pose_scorer: measures predicted poses; None if the run does not predict poses.
        top: how many candidates a prediction lists.
        segmenter: names the actions of frames; None if the run is not a segmentation.
    """

    recognizer: Recognizer | None
    pose_scorer: PoseScorer | None
    top: int
    segmenter: Segmenter | None = None

    @classmethod
    def load(cls, run: Path, top: int = 5, precision: Precision = "fp32") -> Predictor:
        """Load a run, a checkpoint file or an exported file.

        Raises:
            CheckpointError, ExportError: the file is missing or damaged, or a segmentation is
                wanted in another precision than fp32.
        """
        names_actions, predicts_poses, names_frames = supported_tasks(run)
        if names_frames:
            if precision != "fp32":
                raise CheckpointError("a segmentation is computed in fp32: leave out --precision")
            return cls(None, None, top, Segmenter.load(run))
        pose_scorer = PoseScorer.load(run) if predicts_poses else None
        recognizer = None if pose_scorer and not names_actions else Recognizer.load(run, precision)
        return cls(recognizer, pose_scorer, top)

    @property
    def run(self) -> TrainedModel:
        """Any of the models: they share a header."""
        models = (self.recognizer, self.pose_scorer, self.segmenter)
        return next(model for model in models if model)

    def __call__(self, clip: Clip) -> dict[str, Any]:
        """Return the clip's id, candidates and logits, intervals, pose error, if supported.

        Also its notes, and how it was read (``read_as``) if that was guessed.

        Raises:
            CheckpointError, TransformError: the clip does not fit the model, or the logits are not
                finite.
        """
        found: dict[str, Any] = {"id": clip.id}
        if clip.notes:
            found["notes"] = list(clip.notes)
        if assumed := describe_assumptions(clip, self.run):
            found["read_as"] = assumed
        if self.recognizer:
            prediction = self.recognizer(clip)
            if not np.isfinite(prediction.logits).all():
                raise CheckpointError(
                    f"clip {clip.id!r}: the logits are not finite: the training has diverged, or "
                    "the coordinates are too large"
                )
            found |= prediction.to_dict(self.top)
        if self.segmenter:
            found |= self.segmenter(clip).to_dict()
        if self.pose_scorer:
            errors = self.pose_scorer.score([clip])
            for key, values in (("pose_error", errors.error), ("baseline_error", errors.baseline)):
                # null where no joint counts
                found[key] = None if math.isnan(errors.error[0]) else float(values[0])
        return found


def predict_files(
    predictor: Predictor,
    files: Iterable[Path],
    reader: str | None = None,
    stated: Mapping[str, Any] | None = None,
) -> Iterator[dict[str, Any] | KinegraphError]:
    """Yield the prediction of each clip in raw files, folders and stores.

    A clip that cannot be read or does not fit yields its error, and the rest of its file is
    skipped; the other files are processed. ``reader`` and ``stated`` are as for `open_input`.
    """
    for path in files:
        try:
            source = open_input(path, reader, predictor.run, stated)
            yield from (predictor(clip) for clip in source.read_clips())
        except KinegraphError as error:
            yield error
