"""Score fusion: weighted sums of logits, with given, published or searched weights."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.scores import Scores
from kinegraph.errors import CheckpointError, RecipeError
from kinegraph.transforms.input_streams import parse_stream

#: Shift-GCN (Cheng et al., CVPR 2020), released code: the same for all datasets.
PUBLISHED_WEIGHTS = {"joint": 0.6, "bone": 0.6, "joint_motion": 0.4, "bone_motion": 0.4}
WEIGHT_STEPS = 10  # a searched weight is a multiple of a tenth
MAX_GRID_RUNS = 4  # up to this many runs all combinations are tried: 286 for four

_Rank = Callable[[tuple[int, ...]], tuple[int, float]]


@dataclass(frozen=True)
class FoundWeights:
    """Weights chosen by `search_weights`, with their accuracy and that of equal weights.

    Attributes:
        weights: one for each run, with the sum 1.
        ids: of the clips that they were chosen on.
        accuracy, equal_accuracy: fractions of these clips.
    """

    weights: tuple[float, ...]
    ids: tuple[str, ...]
    accuracy: float
    equal_accuracy: float

    def to_dict(self) -> dict[str, Any]:
        """Return the number of clips and both accuracies, for JSON."""
        figures = {"accuracy": self.accuracy, "equal_accuracy": self.equal_accuracy}
        return {"clips": len(self.ids), **figures}


def published_stream_weights(streams: Sequence[str]) -> list[float] | None:
    """Return Shift-GCN's weights of these streams, None if one is not among its four.

    >>> published_stream_weights(["joint", "bone-motion"])
    [0.6, 0.4]
    """
    parts = [parse_stream(stream) for stream in streams]
    if any(len(part) > 1 or part[0] not in PUBLISHED_WEIGHTS for part in parts):
        return None
    return [PUBLISHED_WEIGHTS[part[0]] for part in parts]


def fuse_scores(
    scores: Sequence[Scores], weights: Sequence[float], *, names: Sequence[str] = ()
) -> Scores:
    """Return the weighted sum of logits, matched by clip id.

    Args:
        scores: of the same clips and classes; the result is in the order of the first.
        weights: one for each, 0 or more, not all 0.
        names: of the scores in errors.

    Raises:
        CheckpointError: the scores are of different clips, labels or classes.
        RecipeError: weights that are not valid, or too few or too many.
    """
    check_weights(weights, len(scores))
    logits = _align(scores, names)
    fused = np.tensordot(np.asarray(weights, np.float64), logits, axes=1)
    return Scores(scores[0].ids, scores[0].labels, fused.astype(np.float32))


def check_weights(weights: Sequence[float], runs: int) -> None:
    """Raise RecipeError unless there is one weight for each run, 0 or more, and not all are 0."""
    if len(weights) != runs:
        raise RecipeError(f"expected a weight for each of {runs} runs, got {len(weights)}")
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
        given = ", ".join(f"{weight:g}" for weight in weights)
        raise RecipeError(f"expected weights of 0 or more, not all of them 0, got {given}")


def search_weights(held_out: Sequence[Scores], *, names: Sequence[str] = ()) -> FoundWeights:
    """Return the weights of the highest accuracy, and among these of the lowest cross-entropy.

    For up to four runs all multiples of a tenth with the sum 1 are tried, and equal weights. For
    more runs one weight after the other is set to its best multiple of a tenth, starting from equal
    weights, until no change improves the result.

    Args:
        held_out: scores of clips that no run was trained on and that are not in the test split.
        names: of the scores in errors.

    Raises:
        CheckpointError: the scores are of different clips, labels or classes, or lack labels.
    """
    logits, labels = _align(held_out, names), held_out[0].labels
    classes = logits.shape[2]
    if not len(labels) or labels.min() < 0 or labels.max() >= classes:
        raise CheckpointError(f"searching weights needs labels from 0 to {classes - 1}")

    def rank(shares: tuple[int, ...]) -> tuple[int, float]:
        return _rank(np.tensordot(np.array(shares) / sum(shares), logits, axes=1), labels)

    runs = len(held_out)
    equal = (WEIGHT_STEPS,) * runs
    found = max([equal, *_grid(runs)], key=rank) if runs <= MAX_GRID_RUNS else _climb(equal, rank)
    return FoundWeights(
        weights=tuple(share / sum(found) for share in found),
        ids=held_out[0].ids,
        accuracy=rank(found)[0] / len(labels),
        equal_accuracy=rank(equal)[0] / len(labels),
    )


def _align(scores: Sequence[Scores], names: Sequence[str]) -> NDArray[np.float64]:
    """Return the logits of all (runs, N, classes), in the clip order of the first."""
    names = names or [f"scores {i}" for i in range(1, len(scores) + 1)]
    if not scores:
        raise CheckpointError("expected scores to fuse, got none")
    first = scores[0]
    aligned = []
    for name, other in zip(names, scores, strict=True):
        _check_clips(names[0], first, name, other)
        rows = {clip: row for row, clip in enumerate(other.ids)}
        order = np.array([rows[clip] for clip in first.ids], np.int64)
        if not np.array_equal(other.labels[order], first.labels):
            clip = first.ids[int(np.flatnonzero(other.labels[order] != first.labels)[0])]
            raise CheckpointError(f"{names[0]} and {name} label clip {clip!r} differently")
        aligned.append(other.logits[order].astype(np.float64))
    return np.stack(aligned)


def _check_clips(first_name: str, first: Scores, name: str, other: Scores) -> None:
    both = f"{first_name} and {name}"
    ours, theirs = set(first.ids), set(other.ids)
    if len(theirs) < len(other.ids):
        raise CheckpointError(f"{name}: expected each clip id once, got one more than once")
    other.require_finite(name)
    if other.logits.shape[1] != first.logits.shape[1]:
        counts = f"{first.logits.shape[1]} and {other.logits.shape[1]}"
        raise CheckpointError(f"{both} differ in their classes: {counts} of them")
    absent = [
        f"{len(missing)} missing from {where}, such as {min(missing)!r}"
        for where, missing in ((first_name, theirs - ours), (name, ours - theirs))
        if missing
    ]
    if absent:
        raise CheckpointError(f"{both} are of different clips: {'; '.join(absent)}")


def _rank(fused: NDArray[np.float64], labels: NDArray[np.int64]) -> tuple[int, float]:
    """Return the number of correct clips and the mean log likelihood: the higher, the better."""
    from scipy.special import log_softmax

    correct = int((fused.argmax(axis=1) == labels).sum())
    return correct, float(log_softmax(fused, axis=1)[np.arange(len(labels)), labels].mean())


def _grid(runs: int) -> Iterator[tuple[int, ...]]:
    """Yield all ways to divide ``WEIGHT_STEPS`` tenths among the runs."""
    for cuts in itertools.combinations_with_replacement(range(WEIGHT_STEPS + 1), runs - 1):
        edges = (0, *cuts, WEIGHT_STEPS)
        yield tuple(high - low for low, high in itertools.pairwise(edges))


def _climb(start: tuple[int, ...], rank: _Rank) -> tuple[int, ...]:
    """Set one weight after the other to its best value until none improves the rank."""
    best, before = start, None
    while best != before:
        before = best
        for i in range(len(best)):
            tried = [(*best[:i], share, *best[i + 1 :]) for share in range(WEIGHT_STEPS + 1)]
            best = max([best, *(shares for shares in tried if any(shares))], key=rank)
    return best
