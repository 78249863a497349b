"""What a run says of recordings: named actions, errors of predicted poses, or both."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kinegraph.clips.clip import Clip
from kinegraph.errors import CheckpointError, KinegraphError
from kinegraph.inference.evaluate import supported_tasks
from kinegraph.inference.inputs import read_input_clips
from kinegraph.inference.pose_errors import PoseScorer
from kinegraph.inference.recognizer import Precision, Recognizer
from kinegraph.inference.trained_model import TrainedModel


class Predictor(NamedTuple):
    """What a run can say.

    Attributes:
        recognizer: names actions, if the run does.
        pose_scorer: measures predicted poses, if the run predicts any.
        top: how many guesses are told.
    """

    recognizer: Recognizer | None
    pose_scorer: PoseScorer | None
    top: int

    @classmethod
    def load(cls, run: Path, top: int = 5, precision: Precision = "fp32") -> Predictor:
        """The models of a run, of a checkpoint file, or an exported one.

        Raises:
            CheckpointError, ExportError: there is none, or it is damaged.
        """
        answers, poses_too = supported_tasks(run)
        scorer = PoseScorer.load(run) if poses_too else None
        names = answers or not scorer
        return cls(Recognizer.load(run, precision) if names else None, scorer, top)

    @property
    def run(self) -> TrainedModel:
        """Any of the models: they share a header."""
        return next(loaded for loaded in (self.recognizer, self.pose_scorer) if loaded)

    def __call__(self, clip: Clip) -> dict[str, Any]:
        """Id, guesses, logits, pose error: what there is of them, for JSON.

        Raises:
            CheckpointError, TransformError: the clip does not fit the model, or the answer is no
                number.
        """
        told: dict[str, Any] = {"id": clip.id}
        if self.recognizer:
            answer = self.recognizer(clip)
            if not np.isfinite(answer.logits).all():
                raise CheckpointError(
                    f"clip {clip.id!r}: the answer is no number: the training has diverged, or "
                    "coordinates are beyond all measure"
                )
            told |= answer.to_dict(self.top)
        if self.pose_scorer:
            told |= _pose_error(self.pose_scorer, clip)
        return told


def _pose_error(scorer: PoseScorer, clip: Clip) -> dict[str, Any]:
    """The clip's mean joint error, null where no joint counts: the higher, the stranger."""
    errors = scorer.score([clip])
    error, baseline = float(errors.error[0]), float(errors.baseline[0])
    nothing = math.isnan(error)
    return {
        "pose_error": None if nothing else error,
        "baseline_error": None if nothing else baseline,
    }


def predict_files(
    predictor: Predictor, files: Iterable[Path], reader: str | None = None
) -> Iterator[dict[str, Any] | KinegraphError]:
    """What is said of each clip in raw files, folders and stores.

    A clip that cannot be read or does not fit gives its error, and the rest of its file is left
    out; the other files are answered all the same.
    """
    for path in files:
        try:
            yield from (predictor(clip) for clip in read_input_clips(path, reader, predictor.run))
        except KinegraphError as error:
            yield error
