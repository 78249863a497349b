"""Quality of exercises: which exercise a clip shows, whether it is done correctly, and why.

The model is any classifier whose classes are pairs "NAME, correct" and "NAME, incorrect". The
probability of an exercise is the sum over its pair, and the score is the share of "correct" in it.
The joints and frames that decide are those of `kinegraph.inference.explain`, for the log-odds of
one class of the pair against the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip
from kinegraph.errors import CheckpointError
from kinegraph.inference.counting import DEFAULT_FPS, count_repetitions
from kinegraph.inference.explain import Importance, attribute, load_explainable
from kinegraph.inference.recognizer import Recognizer
from kinegraph.transforms.temporal_sampling import take_frames

DEFAULT_MODEL = "ui-prmd"
#: Ends of the class names of a pair.
CORRECT, INCORRECT = ", correct", ", incorrect"
#: Deletion curves of both methods are alike (docs/assess.md), and this one is faster.
METHOD = "integrated gradients"
SPAN_SHARE = 0.5  # share of the importance that lies in the reported span of time


@dataclass(frozen=True)
class Assessment:
    """The exercise of a clip and its quality.

    Attributes:
        clip: the clip, of one person.
        exercise: the most probable exercise.
        probability: its calibrated probability.
        is_known: whether the probability reaches the threshold of the model; else the clip shows
            none of its exercises.
        score: calibrated probability that the exercise is done correctly.
        importance: (1, T, V); positive values support the verdict. None if it was not computed.
    """

    clip: Clip
    exercise: str
    probability: float
    is_known: bool
    score: float
    importance: Importance | None = None

    @property
    def is_correct(self) -> bool:
        """Whether the score is at least 0.5."""
        return self.score >= 0.5

    @property
    def verdict(self) -> str:
        """``correct``, ``incorrect``, or ``unknown`` if it is none of the exercises."""
        return ("correct" if self.is_correct else "incorrect") if self.is_known else "unknown"

    def joint_shares(self) -> dict[str, float]:
        """Return the joints that support the verdict with their shares, the largest first."""
        total = self._support().sum(axis=0)
        shares = total / max(float(total.sum()), 1e-12)
        order = np.argsort(-shares, kind="stable")
        return {self.clip.layout.joints[v]: float(shares[v]) for v in order if shares[v] > 0}

    def span(self) -> tuple[float, float]:
        """Return start and end in seconds of the shortest time with half of the support."""
        fps = self.clip.fps or DEFAULT_FPS
        start, stop = _shortest_span(self._support().sum(axis=1), SPAN_SHARE)
        return start / fps, stop / fps

    def to_dict(self) -> dict[str, Any]:
        """Return the values for JSON; exercise and score are None if the exercise is unknown."""
        found: dict[str, Any] = {
            "id": self.clip.id,
            "verdict": self.verdict,
            "exercise": self.exercise if self.is_known else None,
            "probability": round(self.probability, 4),
            "score": round(self.score, 4) if self.is_known else None,
        }
        if self.is_known and self.importance is not None:
            joints = {name: round(share, 4) for name, share in self.joint_shares().items()}
            start, end = self.span()
            found |= {"joints": joints, "start": round(start, 3), "end": round(end, 3)}
        return found

    def _support(self) -> NDArray[np.float64]:
        """Return the positive importance (T, V), zeros if it was not computed."""
        if self.importance is None:
            return np.zeros((self.clip.num_frames, self.clip.num_joints))
        return np.maximum(self.importance[0], 0)


class Assessor:
    """A model of exercises and their quality.

    >>> assess = Assessor.load()  # doctest: +SKIP
    >>> assess(clip).score  # doctest: +SKIP
    0.93

    Args:
        model: the classifier.

    Attributes:
        pairs: labels of the correct and the incorrect class by the name of the exercise.

    Raises:
        CheckpointError: its classes are not pairs of correct and incorrect executions.
    """

    def __init__(self, model: Recognizer) -> None:
        self.model = model
        self.pairs = _find_pairs(model)

    @classmethod
    def load(cls, run: str | Path = DEFAULT_MODEL) -> Self:
        """Load a run, a checkpoint or a bundled model.

        Raises:
            CheckpointError: the file is missing, damaged or exported, or its classes are not pairs.
        """
        return cls(load_explainable(Path(run)))

    def __call__(self, clip: Clip, *, explain: bool = True) -> Assessment:
        """Assess the first person of a clip.

        Args:
            clip: one repetition of an exercise.
            explain: whether to compute the importance of joints and frames.

        Raises:
            CheckpointError, TransformError: the clip does not fit the model, or the logits are not
                finite.
        """
        clip = clip.map_arrays(lambda array: array[:1])
        (found,) = self.decode(self.model.score([clip]).logits)
        exercise, probability, score = found
        is_known = probability >= self.model.calibration.threshold
        importance = None
        if explain and is_known:
            correct, incorrect = self.pairs[exercise]
            order = (correct, incorrect) if score >= 0.5 else (incorrect, correct)
            importance = attribute(self.model, clip, order, METHOD)
        return Assessment(clip, exercise, probability, is_known, score, importance)

    def decode(self, logits: NDArray[np.float32]) -> list[tuple[str, float, float]]:
        """Return the exercise, its probability and the score of each row (N, classes).

        Raises:
            CheckpointError: the logits are not finite.
        """
        if not np.isfinite(logits).all():
            raise CheckpointError(
                "the logits are not finite: the training has diverged, or the coordinates are "
                "too large"
            )
        shares = self.model.calibration.probabilities(logits).astype(np.float64)
        names = list(self.pairs)
        both = shares[:, [self.pairs[name] for name in names]]  # (N, exercises, 2)
        best = both.sum(axis=2).argmax(axis=1)
        chosen = both[np.arange(len(both)), best]
        total = chosen.sum(axis=1)
        score = chosen[:, 0] / np.maximum(total, 1e-12)
        rows = zip(best, total, score, strict=True)
        return [(names[i], float(p), float(s)) for i, p, s in rows]


def assess(
    clip: Clip, model: str | Path | Assessor = DEFAULT_MODEL, *, repetitions: bool = False
) -> list[Assessment]:
    """Assess how well an exercise is done.

    Args:
        clip: one repetition, or a recording of several.
        model: a bundled model, a run, a checkpoint, or a loaded `Assessor`.
        repetitions: whether to assess each repetition that `count_repetitions` finds by itself.

    Returns:
        one result for each person and repetition.

    Raises:
        CheckpointError, TransformError: see `Assessor`.
    """
    assessor = model if isinstance(model, Assessor) else Assessor.load(model)
    return [assessor(part) for part in split_clip(clip, repetitions=repetitions)]


def split_clip(clip: Clip, *, repetitions: bool = False) -> Iterator[Clip]:
    """Yield the persons of a clip, and with ``repetitions`` each of their repetitions.

    Ids get the number of the person if there are several, and that of the repetition. A person
    without repetitions is yielded as a whole.
    """
    persons = [m for m in range(clip.num_persons) if clip.valid[m].any()] or [0]
    for person in persons:
        own = _take_person(clip, person, several=len(persons) > 1)
        cuts = _find_repetitions(own) if repetitions else []
        if not cuts:
            yield own
        for number, frames in enumerate(cuts, start=1):
            yield _rename(take_frames(own, frames), f"{own.id}, repetition {number}")


def _take_person(clip: Clip, person: int, *, several: bool) -> Clip:
    own = clip.map_arrays(lambda array: array[person : person + 1])
    return _rename(own, f"{clip.id}, person {person + 1}") if several else own


def _rename(clip: Clip, name: str) -> Clip:
    return replace(clip, id=name)


def _find_repetitions(clip: Clip) -> list[NDArray[np.intp]]:
    fps = clip.fps or DEFAULT_FPS
    (found,) = count_repetitions(clip)
    last = clip.num_real_frames - 1
    return [
        np.arange(round(one.start * fps), min(round(one.end * fps), last) + 1)
        for one in found.repetitions
    ]


def _find_pairs(model: Recognizer) -> dict[str, tuple[int, int]]:
    names = [model.header.class_name(label) for label in range(model.header.num_classes)]
    exercises = [n.removesuffix(CORRECT) for n in names if n.endswith(CORRECT)]
    pairs = {
        name: (names.index(name + CORRECT), names.index(name + INCORRECT))
        for name in exercises
        if name + INCORRECT in names
    }
    rest = {*range(len(names))} - {label for pair in pairs.values() for label in pair}
    if not pairs or rest - {model.calibration.background}:
        raise CheckpointError(
            f"expected a model with a class 'NAME{CORRECT}' and a class 'NAME{INCORRECT}' of each "
            f"exercise, such as {DEFAULT_MODEL!r}, got {', '.join(names[:3])}"
            f"{' and others' * (len(names) > 3)}"
        )
    return pairs


def _shortest_span(weights: Sequence[float] | NDArray[np.float64], share: float) -> tuple[int, int]:
    """Return start and stop of the fewest neighboring frames with a share of the weights (T,)."""
    total = np.concatenate([[0.0], np.cumsum(weights)])
    if total[-1] <= 0:
        return 0, len(total) - 1
    starts = np.arange(len(total))
    # rounding must not leave the whole clip below its own sum
    stops = np.searchsorted(total, total + share * total[-1] * (1 - 1e-9))
    lengths = np.where(stops < len(total), stops - starts, len(total))
    best = int(lengths.argmin())
    return best, int(stops[best])
