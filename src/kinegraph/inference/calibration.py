"""How sure a model may be, and when it should say that it does not know: settled by logits alone.

Temperature: Guo et al., On Calibration of Modern Neural Networks, ICML 2017. Whatever gives logits
(a run, a stream, an exported file) is calibrated alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from kinegraph.errors import CheckpointError
from kinegraph.inference.scores import softmax

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Calibration:
    """From logits to probabilities that can be believed.

    Attributes:
        temperature: what logits are divided by.
        threshold: an answer is known if its probability is at least this; 0: always.
        background: the class that was trained on none of the actions, or None. It is never an
            answer; what it is given is missing from the probabilities of the others.
    """

    temperature: float = 1.0
    threshold: float = 0.0
    background: int | None = None

    @classmethod
    def from_dict(cls, stated: Mapping[str, Any] | None) -> Self:
        """As the header of a checkpoint states it; None is none at all.

        Raises:
            CheckpointError: other fields, or numbers that make no calibration.
        """
        try:
            made = cls(**(stated or {}))
            if not (made.temperature > 0 and 0 <= made.threshold <= 1):
                raise ValueError("a temperature above 0 and a threshold from 0 to 1 are needed")
            return made
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"the header states no calibration: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """For the header of a checkpoint."""
        return asdict(self)

    def probabilities(self, logits: Array) -> Array:
        """(N, classes) -> (N, classes): 0 for the background, so that a row may sum to less."""
        shares = softmax(logits / np.float32(self.temperature))
        if self.background is not None:
            shares[:, self.background] = 0
        return shares

    def is_confident(self, probabilities: Array) -> NDArray[np.bool_]:
        """(N, classes) -> (N,): whether the best answer may be given."""
        return np.asarray(probabilities.max(axis=1) >= self.threshold)


def fit_temperature(logits: Array, labels: NDArray[np.int64]) -> float:
    """The temperature under which held-out clips are most likely, from 0.05 to 20."""
    from scipy.optimize import minimize_scalar

    rows = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        shares = softmax(logits.astype(np.float64) / np.exp(log_temperature))
        return float(-np.log(np.maximum(shares[rows, labels], 1e-12)).mean())

    return float(np.exp(minimize_scalar(loss, bounds=np.log((0.05, 20)), method="bounded").x))
