"""Recognizer: named actions of raw clips, from a trained model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from kinegraph.clips.clip import Clip
from kinegraph.clips.scores import Scores
from kinegraph.errors import CheckpointError, ModelError, unknown_name
from kinegraph.inference.answer import Candidate, Prediction
from kinegraph.inference.calibration import Calibration
from kinegraph.inference.trained_model import Scorer, TrainedModel
from kinegraph.inference.views import average_views, list_views
from kinegraph.models import MODELS
from kinegraph.models.base import predict_logits
from kinegraph.runtime.fuse import optimize_for_inference
from kinegraph.runtime.network import PersonNetwork
from kinegraph.training.batch import Batch
from kinegraph.training.checkpoint import CheckpointHeader
from kinegraph.training.devices import fastest_dtype

Precision = Literal["fp32", "bf16", "auto"]


class Recognizer(Scorer[Scores]):
    """A trained classifier of actions, from raw clips to predictions.

    Examples:
        >>> recognizer = Recognizer.load("runs/demo")  # doctest: +SKIP
        >>> recognizer(clip).name  # doctest: +SKIP
        'wave'

    Raises:
        CheckpointError: the model is not a classifier.
        UnknownNameError: an unknown precision.
    """

    def __init__(
        self, model: nn.Module, header: CheckpointHeader, precision: Precision = "fp32"
    ) -> None:
        super().__init__(model, header)
        if not self.objective.is_classifier:
            advice = (
                "kinegraph segment finds the actions in recordings with it"
                if self.objective.names_frames
                else "train a recognizer from it with init_from=RUN"
            )
            raise CheckpointError(
                f"a run with the objective {header.objective['name']!r} does not name "
                f"actions: {advice}"
            )
        if precision not in get_args(Precision):
            raise unknown_name("precision", precision, get_args(Precision))
        self.precision = precision
        self.calibration = Calibration.from_dict(header.calibration)
        if (self.calibration.background or 0) >= header.num_classes:
            raise CheckpointError(
                f"invalid calibration in the header: background {self.calibration.background} of "
                f"{header.num_classes} classes"
            )
        self.views = list_views(header)

    @classmethod
    def load(cls, run: str | Path, precision: Precision = "fp32") -> Self:
        """Load a run, a checkpoint file or an exported file.

        Args:
            run: the path, or the name of a bundled model.
            precision: ``fp32``, ``bf16``, or ``auto``: bfloat16 where the device has units for it.
                `precision_summary` states the effect on the logits.

        Raises:
            CheckpointError, ExportError: the file is missing or damaged.
            UnknownNameError: an unknown precision.
        """
        loaded = TrainedModel.load(run)
        return cls(loaded.model, loaded.header, precision)

    @cached_property
    def network(self) -> nn.Module:
        """The network that runs: the model optimized for inference, or the model itself."""
        wanted = {"fp32": torch.float32, "bf16": torch.bfloat16}
        dtype = wanted.get(self.precision) or fastest_dtype(self.device)
        known = type(self.model) in MODELS.values()
        if not known and dtype == torch.float32:
            return self.model
        try:
            return optimize_for_inference(self.model, dtype)
        except ModelError:
            if dtype == torch.float32:  # weights of a diverged training run as they are
                return self.model
            raise

    @cached_property
    def step_network(self) -> PersonNetwork | None:
        """The float32 network that can run frame by frame, None if the model is not local in time.

        It is made once: tracing a model takes time, and no other thread may run a module meanwhile.
        """
        network = optimize_for_inference(self.model)
        return network if isinstance(network, PersonNetwork) else None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "step_network"}

    @property
    def precision_summary(self) -> str:
        """The precision, and how much it changes the logits of a random clip."""
        share = getattr(self.network, "difference", 0.0)
        if getattr(self.network, "dtype", torch.float32) == torch.float32:
            return "float32"
        return f"bfloat16: logits change by up to {share:.1%} of the largest"

    def __call__(self, clip: Clip) -> Prediction:
        """Return the prediction for one clip.

        Raises:
            CheckpointError: the clip has another layout than the model.
            TransformError: the transforms do not fit the clip.
        """
        return self.decode(self.score([clip]))[0]

    def score_batches(self, ids: Sequence[str], batches: Iterable[Batch]) -> Scores:
        """Return the logits and labels of the clips of some batches, the views averaged."""
        pairs = [(self._labels(batch), self._average_logits(batch)) for batch in batches]
        labels, logits = map(np.concatenate, zip(*pairs, strict=True))
        return Scores(tuple(ids), labels, logits)

    def _labels(self, batch: Batch) -> NDArray[np.int64]:
        return batch.labels.cpu().numpy()[:: len(self.views)]

    def _average_logits(self, batch: Batch) -> NDArray[np.float32]:
        """Return (clips, classes); the network sees as many inputs at a time as there are clips."""
        clips = len(batch.labels) // len(self.views)
        parts = zip(*(tensor.split(clips) for tensor in batch), strict=True)
        logits = np.concatenate([self.logits(Batch(*part)) for part in parts])
        return average_views(logits, self.views, self.header.classes)

    def decode(self, scores: Scores) -> list[Prediction]:
        """Return named candidates with calibrated probabilities for each clip.

        Logits that are NaN (of a diverged training, or of huge coordinates) give probabilities of
        0 and a prediction that is not confident.
        """
        shares = np.nan_to_num(self.calibration.probabilities(scores.logits))
        confident = self.calibration.is_confident(shares)
        predictions = []
        rows = zip(scores.ids, scores.logits, shares, confident, strict=True)
        for name, logits, own, sure in rows:
            candidates = tuple(
                Candidate(int(i), self.header.class_name(int(i)), float(own[i]))
                for i in np.argsort(-own, kind="stable")
                if i != self.calibration.background
            )
            predictions.append(Prediction(name, candidates, logits, bool(sure)))
        return predictions

    @torch.inference_mode()
    def logits(self, batch: Batch) -> NDArray[np.float32]:
        """Return the logits (N, classes) of a batch."""
        return predict_logits(self.network, batch.x, batch.lengths).float().cpu().numpy()
