"""Answers over time as segments: who did what from when to when, and what filled the video."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from kinegraph.inference.answer import Prediction
    from kinegraph.inference.recognizer import Recognizer

MIN_DURATION = 1.0  # seconds that an action lasts at least
HYSTERESIS = 0.6  # share of the threshold down to which an action that was sure goes on
MAIN_SHARE = 0.4  # share of the time that an action takes at least if it is what fills a video
UNKNOWN = "unknown"


def clock(seconds: float) -> str:
    """``4.2 s``, ``1:05.0`` or ``2:01:05.0``, for people."""
    minutes, rest = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    if hours:
        return f"{hours}:{minutes:02d}:{rest:04.1f}"
    return f"{minutes}:{rest:04.1f}" if minutes else f"{rest:.1f} s"


@dataclass(frozen=True)
class Segment:
    """What one person did for a while.

    Attributes:
        person: its number, from 1.
        start, end: in seconds.
        label: of the action, None where the model does not know.
        name: of the action, or "unknown".
        probability: calibrated, the mean over the segment; where the model does not know, that of
            its best guess.
    """

    person: int
    start: float
    end: float
    label: int | None
    name: str
    probability: float

    @property
    def seconds(self) -> float:
        """How long."""
        return self.end - self.start

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "person": self.person,
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "label": self.label,
            "name": self.name,
            "probability": round(self.probability, 4),
        }


@dataclass(frozen=True)
class DominantAction:
    """What fills most of a video: ``seconds`` of the ``of`` that all persons together are seen."""

    label: int | None
    name: str
    probability: float
    seconds: float
    of: float

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"label": self.label, "name": self.name, "probability": round(self.probability, 4)}


def dominant_action(segments: Iterable[Segment]) -> DominantAction:
    """The action that takes most of the persons' time, if that is enough of it; else unknown.

    What lies between the repetitions of an action is often nothing that has a name, so `ENOUGH` is
    less than half. The probability is the mean over that time; without segments, 0.
    """
    found: dict[int | None, list[Segment]] = {}
    for segment in segments:
        found.setdefault(segment.label, []).append(segment)
    totals = {label: sum(s.seconds for s in own) for label, own in found.items()}
    if not totals:
        return DominantAction(None, UNKNOWN, 0.0, 0.0, 0.0)
    enough = {
        k: t for k, t in totals.items() if k is not None and t >= MAIN_SHARE * sum(totals.values())
    }
    label = max(enough, key=enough.__getitem__) if enough else None
    if label not in found:  # several actions, none of them for long, and nothing unknown
        label = max(totals, key=totals.__getitem__)
    mass = sum(s.probability * s.seconds for s in found[label])
    mean = mass / totals[label] if totals[label] else found[label][0].probability
    return DominantAction(label, found[label][0].name, mean, totals[label], sum(totals.values()))


@dataclass
class _Segment:
    """Answers in a row that say the same."""

    label: int | None
    start: float
    end: float
    mass: NDArray[np.float64] = field(repr=False)

    @property
    def seconds(self) -> float:
        return self.end - self.start

    def join(self, later: _Segment) -> None:
        """Go on with another run as if it said the same."""
        self.end, self.mass = later.end, self.mass + later.mass


class ActionSegmenter:
    """One person's answers as segments, which are told as soon as they are over.

    An action begins once it was the answer for ``least`` seconds. It goes on while its probability
    is at least ``keep`` of the threshold for known answers, unless another is surer; what comes in
    between for less than ``least`` counts as the same.

    Args:
        person: whose.
        recognizer: who answers.
        least: seconds.
        keep: share of the threshold.
    """

    def __init__(
        self,
        person: int,
        recognizer: Recognizer,
        least: float = MIN_DURATION,
        keep: float = HYSTERESIS,
    ) -> None:
        self.person = person
        self.least = least
        self._recognizer = recognizer
        self._enough = keep * recognizer.calibration.threshold
        self._now: _Segment | None = None
        self._next: _Segment | None = None

    def __call__(self, start: float, end: float, answer: Prediction) -> list[Segment]:
        """The answer for the time from start to end, which follows the one before."""
        shares = np.zeros(self._recognizer.header.num_classes)
        for candidate in answer.candidates:
            shares[candidate.label] = candidate.probability
        run = _Segment(self._label(answer, shares), start, end, shares * max(end - start, 1e-9))
        if self._now is None:
            self._now = run
            return []
        if run.label == self._now.label:
            self._absorb()
            self._now.join(run)
            return []
        if self._next is not None and self._next.label == run.label:
            self._next.join(run)
        else:
            self._absorb()
            self._next = run
        return self._turned() if self._next.seconds >= self.least else []

    def finish(self) -> list[Segment]:
        """The last segment."""
        if self._now is None:
            return []
        self._absorb()
        last, self._now = self._now, None
        return [self._segment(last)]

    def _label(self, answer: Prediction, shares: NDArray[np.float64]) -> int | None:
        verdict = answer.accepted
        if verdict is not None:
            return verdict.label
        going_on = self._now.label if self._now else None
        return going_on if going_on is not None and shares[going_on] >= self._enough else None

    def _absorb(self) -> None:
        """What was too short to begin belongs to what was there before."""
        if self._now is not None and self._next is not None:
            self._now.join(self._next)
        self._next = None

    def _turned(self) -> list[Segment]:
        """Something else has begun."""
        before, after = self._now, self._next
        if before is None or after is None:
            return []
        self._now, self._next = after, None
        if before.seconds >= self.least:
            return [self._segment(before)]
        after.start = before.start  # the first moments were not enough for anything
        return []

    def _segment(self, run: _Segment) -> Segment:
        shares = run.mass / max(run.seconds, 1e-9)
        best = int(shares.argmax()) if run.label is None else run.label
        name = UNKNOWN if run.label is None else self._recognizer.header.class_name(run.label)
        share = float(min(shares[best], 1.0))
        return Segment(self.person, run.start, run.end, run.label, name, share)
