"""Calibration: logits to probabilities that match the accuracy, and a threshold for "unknown".

Temperature scaling: Guo et al., On Calibration of Modern Neural Networks, ICML 2017. Only logits
are needed, so runs, streams and exported files are calibrated in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from kinegraph.errors import CheckpointError
from kinegraph.training.header_fields import (
    STRICT,
    Label,
    PositiveNumber,
    parse_fields,
)
from kinegraph.transforms.validation import Probability


@dataclass(frozen=True)
class Calibration:
    """Calibration of a model's logits.

    Attributes:
        temperature: divisor of the logits.
        threshold: minimum probability of a confident answer; with 0 every answer is confident.
        background: the class of clips without any of the actions, or None. It is never an
            answer: its probability is set to 0, so that the others sum to less than 1.
    """

    temperature: PositiveNumber = 1.0
    threshold: Probability = 0.0
    background: Label | None = None

    __pydantic_config__ = STRICT

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any] | None) -> Self:
        """Create the calibration of a checkpoint header; None means no calibration.

        Raises:
            CheckpointError: unknown fields, or values out of range.
        """
        try:
            return parse_fields(cls, fields or {})
        except ValueError as error:
            raise CheckpointError(f"invalid calibration in the header: {error}") from error

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return calibrated probabilities, (N, classes), 0 for the background class."""
        from scipy.special import softmax

        probabilities = np.asarray(softmax(logits / np.float32(self.temperature), axis=1))
        if self.background is not None:
            probabilities[:, self.background] = 0
        return probabilities

    def is_confident(self, probabilities: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return for each row, (N,), whether its largest probability reaches the threshold."""
        return np.asarray(probabilities.max(axis=1) >= self.threshold)


def fit_temperature(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Fit the temperature, from 0.05 to 20, that maximizes the likelihood of held-out clips."""
    from scipy.optimize import minimize_scalar
    from scipy.special import softmax

    rows = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        probabilities = softmax(logits.astype(np.float64) / np.exp(log_temperature), axis=1)
        return float(-np.log(np.maximum(probabilities[rows, labels], 1e-12)).mean())

    return float(np.exp(minimize_scalar(loss, bounds=np.log((0.05, 20)), method="bounded").x))
