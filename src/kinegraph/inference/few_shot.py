"""Few-shot classifier: a linear head on the features of a few examples, calibrated by themselves.

Shapes: n examples, P features, K actions, F folds.

The head is a logistic regression; the answer "unknown" depends on the distance of the features from
the mean features of the nearest action (`kinegraph.models.unknown`). Its scale is the mean distance
of the examples from the nearest *other* action: an example of an action that is not taught lies
about as far. The constants below were chosen on training clips of Florence 3D, UTKinect, UTD-MHAD
and NW-UCLA (docs/teach.md); with more examples they matter less and less.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

DoubleArray = NDArray[np.float64]
Labels = NDArray[np.int64]
Mask = NDArray[np.bool_]

#: Weight of the squared norm of the head, beside the mean loss of the examples.
L2_PENALTY = 1e-3
MAX_FOLDS = 5
#: Least probability of an action that is named.
CONFIDENCE = 0.4
#: Mean and standard deviation of the logarithm of the temperature.
LOG_TEMPERATURE = (np.log(0.8), 0.3)
#: Mean and standard deviation of the slope and of the radius, in units of 1 / scale and of scale.
SLOPE = (5.0, 2.0)
RADIUS = (0.87, 0.05)


class HeldOut(NamedTuple):
    """Answers for examples that the head was fitted without, as fractions.

    Attributes:
        examples: how many were held out; an action's only example never is.
        correct: named correctly.
        wrong: named as another action; the rest is unknown.
        unknown: of the examples of each action, those that are unknown to a model that was not
            taught this action.
    """

    examples: int
    correct: float
    wrong: float
    unknown: float


class Calibrated(NamedTuple):
    """The numbers that examples are held out for, see `FewShotHead`."""

    temperature: float
    slope: float
    radius: float


@dataclass(frozen=True)
class FewShotHead:
    """A head for K actions and for "unknown".

    Attributes:
        weight, bias: (K, P) and (K,) of the linear layer.
        centers: (K, P), the mean features of each action.
        temperature: divisor of the logits.
        slope, radius: see `kinegraph.models.unknown.UnknownLogit`.
    """

    weight: DoubleArray
    bias: DoubleArray
    centers: DoubleArray
    temperature: float = 1.0
    slope: float = 0.0
    radius: float = 0.0

    def calibrate(self, found: Calibrated) -> FewShotHead:
        """Return the head with another temperature, slope and radius."""
        temperature, slope, radius = found
        return replace(self, temperature=temperature, slope=slope, radius=radius)

    def logits(self, features: DoubleArray) -> DoubleArray:
        """(n, P) -> (n, K), without the temperature."""
        return np.asarray(features @ self.weight.T + self.bias)

    def distances(self, features: DoubleArray) -> DoubleArray:
        """(n, P) -> (n, K): from the center of each action."""
        from scipy.spatial.distance import cdist

        return np.asarray(cdist(features, self.centers))

    def probabilities(self, features: DoubleArray) -> DoubleArray:
        """(n, P) -> (n, K): of each action; the rest is the probability of "unknown"."""
        from scipy.special import expit, softmax

        nearest = self.distances(features).min(axis=1, keepdims=True)
        known = expit(self.slope * (self.radius - nearest))
        return np.asarray(softmax(self.logits(features) / self.temperature, axis=1) * known)


def fit_few_shot(
    features: DoubleArray, labels: Labels, groups: Labels | None = None
) -> tuple[FewShotHead, HeldOut]:
    """Fit a head to examples, and estimate how well it does on others.

    Args:
        features: (n, P), finite.
        labels: (n,) from 0 to K - 1, each at least once; K of at least 2.
        groups: (n,) examples with the same number are held out together; None for none.
    """
    groups = np.arange(len(labels)) if groups is None else groups
    head = _fit_linear(features, labels)
    parts = [(held, _fit_linear(features[~held], labels[~held])) for held in _folds(labels, groups)]
    unknown = _distances_to_others(head, features, labels)
    scale = float(unknown.mean()) or 1.0
    tested = np.zeros(len(labels), np.bool_)
    known = np.zeros(len(labels))
    for held, part in parts:
        tested |= held
        known[held] = part.distances(features[held]).min(axis=1)
    slope, radius = _fit_boundary(known[tested] / scale, unknown / scale)
    temperature = _fit_temperature(
        [(part.logits(features[held]), labels[held]) for held, part in parts]
    )
    calibration = Calibrated(temperature, slope / scale, radius * scale)
    named, right = np.zeros_like(tested), np.zeros_like(tested)
    for held, part in parts:
        shares = part.calibrate(calibration).probabilities(features[held])
        named[held] = shares.max(axis=1) >= CONFIDENCE
        right[held] = shares.argmax(axis=1) == labels[held]
    return head.calibrate(calibration), HeldOut(
        len(np.unique(groups[tested])),
        _mean((named & right)[tested]),
        _mean((named & ~right)[tested]),
        _estimate_refused(features, labels, calibration),
    )


def _distances_to_others(head: FewShotHead, features: DoubleArray, labels: Labels) -> DoubleArray:
    """Return (n,) the distance of each example from the nearest center of another action."""
    distances = head.distances(features)
    distances[np.arange(len(labels)), labels] = np.inf
    return np.asarray(distances.min(axis=1))


def _estimate_refused(features: DoubleArray, labels: Labels, calibration: Calibrated) -> float:
    """Return the share of examples that are unknown to heads that lack their action."""
    refused = []
    for label in np.unique(labels):
        own = labels == label
        rest = labels[~own] - (labels[~own] > label)
        head = _fit_linear(features[~own], rest).calibrate(calibration)
        refused.append(head.probabilities(features[own]).max(axis=1) < CONFIDENCE)
    return _mean(np.concatenate(refused))


def _mean(values: NDArray[np.bool_]) -> float:
    return float(values.mean()) if len(values) else 0.0


def _fit_linear(features: DoubleArray, labels: Labels) -> FewShotHead:
    """Fit a multinomial logistic regression to features of zero mean and mean squared norm 1."""
    from scipy.optimize import minimize
    from scipy.special import log_softmax

    n, K = len(labels), int(labels.max()) + 1
    mean = features.mean(axis=0)
    scale = np.sqrt(np.square(features - mean).sum(axis=1).mean()) or 1.0
    scaled = (features - mean) / scale
    # the solution is a combination of the examples, so few coordinates suffice
    basis = np.linalg.svd(scaled, full_matrices=False)[2] if n < scaled.shape[1] else None
    inputs = scaled if basis is None else scaled @ basis.T
    d = inputs.shape[1]
    truth = np.eye(K)[labels]

    def loss(parameters: DoubleArray) -> tuple[float, DoubleArray]:
        weight, bias = parameters[: K * d].reshape(K, d), parameters[K * d :]
        scores = log_softmax(inputs @ weight.T + bias, axis=1)
        error = (np.exp(scores) - truth) / n
        value = -(truth * scores).sum() / n + 0.5 * L2_PENALTY * np.square(weight).sum()
        gradient = error.T @ inputs + L2_PENALTY * weight
        return float(value), np.concatenate([gradient.ravel(), error.sum(axis=0)])

    found = minimize(loss, np.zeros(K * d + K), jac=True, method="L-BFGS-B").x
    weight = found[: K * d].reshape(K, d) / scale
    weight = weight if basis is None else weight @ basis
    centers = np.stack([features[labels == label].mean(axis=0) for label in range(K)])
    return FewShotHead(weight, found[K * d :] - weight @ mean, centers)


def _folds(labels: Labels, groups: Labels) -> Iterator[Mask]:
    """Yield masks (n,) of up to MAX_FOLDS parts; the only group of a class is never held out."""
    part = np.full(len(labels), -1)
    for label in np.unique(labels):
        own = np.unique(groups[labels == label])
        if len(own) > 1:
            for number, group in enumerate(own):
                part[groups == group] = number % MAX_FOLDS
    for number in range(part.max() + 1):
        yield part == number


def _fit_temperature(held_out: Sequence[tuple[DoubleArray, Labels]]) -> float:
    """Return the most probable temperature, by the prior and by held-out logits and labels."""
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    mean, spread = LOG_TEMPERATURE

    def loss(log_temperature: float) -> float:
        total = ((log_temperature - mean) / spread) ** 2 / 2
        for logits, labels in held_out:
            scores = log_softmax(logits / np.exp(log_temperature), axis=1)
            total -= scores[np.arange(len(labels)), labels].sum()
        return float(total)

    bounds = (mean - 5 * spread, mean + 5 * spread)
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x))


def _fit_boundary(known: DoubleArray, unknown: DoubleArray) -> tuple[float, float]:
    """Return slope and radius of the logistic function that separates two sets of distances."""
    from scipy.optimize import minimize

    def loss(parameters: DoubleArray) -> float:
        slope, radius = parameters
        prior = sum(
            ((value - mean) / spread) ** 2 / 2
            for value, (mean, spread) in ((slope, SLOPE), (radius, RADIUS))
        )
        if not len(known):
            return float(prior)
        errors = np.logaddexp(0, slope * (known - radius)).mean()
        errors += np.logaddexp(0, slope * (radius - unknown)).mean()
        return float(prior + len(known) * errors)

    bounds = ((0.5, 20.0), (0.1, 3.0))
    slope, radius = minimize(loss, (SLOPE[0], RADIUS[0]), bounds=bounds, method="L-BFGS-B").x
    return float(slope), float(radius)
