"""Scores as one: logits added up, clip by clip, with weights that are known or found."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinegraph.errors import CheckpointError, RecipeError
from kinegraph.inference.scores import Scores
from kinegraph.transforms.input_streams import parse_stream

#: Shift-GCN (Cheng et al., CVPR 2020), released code: the same for all sets.
PUBLISHED = {"joint": 0.6, "bone": 0.6, "joint_motion": 0.4, "bone_motion": 0.4}
STEPS = 10  # a searched weight is a multiple of a tenth
GRID_RUNS = 4  # up to so many runs every combination is tried: 286 of four

_Rank = Callable[[tuple[int, ...]], tuple[int, float]]


@dataclass(frozen=True)
class FoundWeights:
    """Weights that `search_weights` chose, and how they and equal ones do on the same clips.

    Attributes:
        weights: one a run, of sum 1.
        ids: of the clips that they were chosen on.
        accuracy, equal_accuracy: fractions.
    """

    weights: tuple[float, ...]
    ids: tuple[str, ...]
    accuracy: float
    equal_accuracy: float

    def to_dict(self) -> dict[str, Any]:
        """For JSON: how many clips, and both accuracies."""
        figures = {"accuracy": self.accuracy, "equal_accuracy": self.equal_accuracy}
        return {"clips": len(self.ids), **figures}


def published_weights(streams: Sequence[str]) -> list[float] | None:
    """Shift-GCN's weights of these streams, or None if they are not all among its four.

    >>> published_weights(["joint", "bone-motion"])
    [0.6, 0.4]
    """
    parts = [parse_stream(stream) for stream in streams]
    if any(len(part) > 1 or part[0] not in PUBLISHED for part in parts):
        return None
    return [PUBLISHED[part[0]] for part in parts]


def fuse(
    scores: Sequence[Scores], weights: Sequence[float], *, names: Sequence[str] = ()
) -> Scores:
    """Logits added up with weights, joined by clip id whatever the order of the clips.

    Args:
        scores: of the same clips and classes; the result is in the order of the first.
        weights: one for each, 0 or more, not all 0.
        names: what errors call the scores.

    Raises:
        CheckpointError: the scores are of different clips, labels or classes.
        RecipeError: weights that are none, or too few or too many.
    """
    check_weights(weights, len(scores))
    logits = _joined(scores, names)
    fused = np.tensordot(np.asarray(weights, np.float64), logits, axes=1)
    return Scores(scores[0].ids, scores[0].labels, fused.astype(np.float32))


def check_weights(weights: Sequence[float], runs: int) -> None:
    """Raises RecipeError unless there is one weight a run, each 0 or more, not all 0."""
    if len(weights) != runs:
        raise RecipeError(f"expected a weight for each of {runs} runs, got {len(weights)}")
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
        told = ", ".join(f"{weight:g}" for weight in weights)
        raise RecipeError(f"expected weights of 0 or more, not all of them 0, got {told}")


def search_weights(held_out: Sequence[Scores], *, names: Sequence[str] = ()) -> FoundWeights:
    """The weights of the highest accuracy, among equals those of the lowest cross-entropy.

    Up to four runs: all multiples of a tenth of sum 1, and equal weights. Of more runs, one weight
    after the other is set to its best tenth, from equal ones on, until none can be bettered.

    Args:
        held_out: scores of clips that no run was trained on and that nothing is reported of.
        names: what errors call the scores.

    Raises:
        CheckpointError: the scores are of different clips, labels or classes, or lack labels.
    """
    logits, labels = _joined(held_out, names), held_out[0].labels
    classes = logits.shape[2]
    if not len(labels) or labels.min() < 0 or labels.max() >= classes:
        raise CheckpointError(f"weights are found on clips with labels from 0 to {classes - 1}")

    def rank(shares: tuple[int, ...]) -> tuple[int, float]:
        return _rank(np.tensordot(np.array(shares) / sum(shares), logits, axes=1), labels)

    runs = len(held_out)
    equal = (STEPS,) * runs
    found = max([equal, *_grid(runs)], key=rank) if runs <= GRID_RUNS else _climb(equal, rank)
    return FoundWeights(
        weights=tuple(share / sum(found) for share in found),
        ids=held_out[0].ids,
        accuracy=rank(found)[0] / len(labels),
        equal_accuracy=rank(equal)[0] / len(labels),
    )


# --------------------------------------------------------------------- joining


def _joined(scores: Sequence[Scores], names: Sequence[str]) -> NDArray[np.float64]:
    """(runs, N, classes): the logits of all, in the clip order of the first."""
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
    if len(set(other.ids)) < len(other.ids):
        raise CheckpointError(f"{name}: the same clip id stands there more than once")
    other.require_finite(name)
    if other.logits.shape[1] != first.logits.shape[1]:
        counts = f"{first.logits.shape[1]} and {other.logits.shape[1]}"
        raise CheckpointError(f"{both} differ in their classes: {counts} of them")
    absent = [
        f"{len(missing)} missing from {where}, such as {min(missing)!r}"
        for where, missing in (
            (first_name, set(other.ids) - set(first.ids)),
            (name, set(first.ids) - set(other.ids)),
        )
        if missing
    ]
    if absent:
        raise CheckpointError(f"{both} are of different clips: {'; '.join(absent)}")


# --------------------------------------------------------------------- weights


def _rank(fused: NDArray[np.float64], labels: NDArray[np.int64]) -> tuple[int, float]:
    """Right answers, then minus the cross-entropy: the higher, the better."""
    right = int((fused.argmax(axis=1) == labels).sum())
    shifted = fused - fused.max(axis=1, keepdims=True)
    own = shifted[np.arange(len(labels)), labels]
    return right, -float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - own))


def _grid(runs: int) -> Iterator[tuple[int, ...]]:
    """All ways to share ``STEPS`` tenths among so many runs."""
    for cuts in itertools.combinations_with_replacement(range(STEPS + 1), runs - 1):
        edges = (0, *cuts, STEPS)
        yield tuple(high - low for low, high in itertools.pairwise(edges))


def _climb(start: tuple[int, ...], rank: _Rank) -> tuple[int, ...]:
    """One share after the other to its best value; ends, since every change ranks higher."""
    best, before = start, None
    while best != before:
        before = best
        for i in range(len(best)):
            tried = [(*best[:i], share, *best[i + 1 :]) for share in range(STEPS + 1)]
            best = max([best, *(shares for shares in tried if any(shares))], key=rank)
    return best
