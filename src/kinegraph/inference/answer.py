"""Predictions: the named actions of a clip, with probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Candidate:
    """One candidate action of a clip."""

    label: int
    name: str
    probability: float


@dataclass(frozen=True)
class Prediction:
    """The candidate actions of one clip, the most probable first.

    Attributes:
        id: of the clip.
        candidates: every action that the model can name.
        logits: of every class.
        is_confident: whether the first candidate is probable enough to be accepted. Always true
            for a model without calibration (`kinegraph.inference.calibration`).
    """

    id: str
    candidates: tuple[Candidate, ...]
    logits: NDArray[np.float32]
    is_confident: bool = True

    @property
    def accepted(self) -> Candidate | None:
        """The first candidate, or None if it is not probable enough ("unknown")."""
        return self.candidates[0] if self.is_confident else None

    @property
    def name(self) -> str:
        """The name of the most probable action."""
        return self.candidates[0].name

    @property
    def probability(self) -> float:
        """The probability of the most probable action."""
        return self.candidates[0].probability

    def to_dict(self, top: int = 5) -> dict[str, Any]:
        """Return id, confidence, the ``top`` candidates and all logits, for JSON."""
        return {
            "id": self.id,
            "is_confident": self.is_confident,
            "top": [vars(candidate) for candidate in self.candidates[:top]],
            "logits": self.logits.tolist(),
        }


def accepted_action(prediction: Prediction | None) -> dict[str, Any]:
    """Return label, name and probability of the verdict on a stream, for JSON.

    The label of "unknown" is None; without a prediction all three are.
    """
    if prediction is None:
        return {"label": None, "name": None, "probability": None}
    accepted = prediction.accepted
    return {
        "label": accepted.label if accepted else None,
        "name": accepted.name if accepted else "unknown",
        "probability": prediction.probability,
    }
