"""Predictions: the named answers of a recognizer to one clip."""

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
    """What the model says of one clip: all actions, the most probable first.

    Attributes:
        id: of the clip.
        candidates: every action that the model can name.
        logits: of every class.
        is_confident: whether the first guess is sure enough to be given. A model that was not
            calibrated (`kinegraph.inference.calibration`) always believes itself.
    """

    id: str
    candidates: tuple[Candidate, ...]
    logits: NDArray[np.float32]
    is_confident: bool = True

    @property
    def accepted(self) -> Candidate | None:
        """The answer that may be given: the first guess, or None for "unknown"."""
        return self.candidates[0] if self.is_confident else None

    @property
    def name(self) -> str:
        """The most probable action."""
        return self.candidates[0].name

    @property
    def probability(self) -> float:
        """Of the most probable action."""
        return self.candidates[0].probability

    def to_dict(self, top: int = 5) -> dict[str, Any]:
        """For JSON: id, the ``top`` candidates, all logits."""
        return {
            "id": self.id,
            "is_confident": self.is_confident,
            "top": [vars(candidate) for candidate in self.candidates[:top]],
            "logits": [float(value) for value in self.logits],
        }
