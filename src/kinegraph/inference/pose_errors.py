"""Errors of predicted or reconstructed poses per clip, with those of a baseline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kinegraph.errors import CheckpointError
from kinegraph.inference.trained_model import Scorer
from kinegraph.training.batch import Batch
from kinegraph.training.objectives import PosePrediction


@dataclass(frozen=True)
class PoseErrors:
    """Mean per-joint position error (MPJPE) of each clip, in input units.

    Attributes:
        ids: N clip ids.
        error: (N,) error of the model; NaN for a clip without scored joints.
        baseline: (N,) error of a prediction without a model: the last pose repeated (zero
            velocity), or, for reconstruction, the clip's mean pose.
    """

    ids: tuple[str, ...]
    error: NDArray[np.float32]
    baseline: NDArray[np.float32]

    def to_dict(self) -> dict[str, Any]:
        """Return the means over clips, for JSON."""
        scored = ~np.isnan(self.error)
        error, baseline = self.error[scored], self.baseline[scored]
        return {
            "clips": int(scored.sum()),
            "mpjpe": float(error.mean()) if scored.any() else None,
            "baseline_mpjpe": float(baseline.mean()) if scored.any() else None,
            "better_than_baseline": float((error < baseline).mean()) if scored.any() else None,
        }


class PoseScorer(Scorer[PoseErrors]):
    """Scores clips with a model that was trained to predict or reconstruct poses.

    >>> scorer = PoseScorer.load("runs/autoencoder")  # doctest: +SKIP
    >>> scorer.score([clip]).error  # larger: less like the training clips  # doctest: +SKIP
    """

    def predict_poses(self, batch: Batch) -> PosePrediction:
        """Return predicted and true poses.

        Raises:
            CheckpointError: the model was not trained to predict poses.
        """
        with torch.inference_mode():
            poses = self.objective.predict_poses(self.model, batch)
        if poses is None:
            name = self.header.objective["name"]
            raise CheckpointError(f"a run with the objective {name!r} does not predict poses")
        return poses

    def score_batches(self, ids: Sequence[str], batches: Iterable[Batch]) -> PoseErrors:
        """Return the errors of the clips of some batches."""
        poses = map(self.predict_poses, batches)
        pairs = [torch.stack([p.mpjpe(p.predicted), p.mpjpe(p.baseline)]) for p in poses]
        error, baseline = torch.cat(pairs, dim=1).float().cpu().numpy()
        return PoseErrors(tuple(ids), error, baseline)
