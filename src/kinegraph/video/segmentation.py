"""Segmentation: predictions over time merged into action segments, and the dominant action."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from kinegraph.errors import KinegraphError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kinegraph.inference.answer import Prediction
    from kinegraph.inference.recognizer import Recognizer

MIN_DURATION = 1.0  # seconds: shorter actions are merged into the one before
HYSTERESIS = 0.6  # share of the confidence threshold above which a begun action continues
MAIN_SHARE = 0.4  # smallest share of the time of a dominant action
MAIN_NAMED_SHARE = 0.6  # smallest share of the time in which an action is named
UNKNOWN = "unknown"
SEVERAL_ACTIONS = "several actions"


def format_time(seconds: float) -> str:
    """Format a time as ``4.2 s``, ``1:05.0`` or ``2:01:05.0``."""
    minutes, rest = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    if hours:
        return f"{hours}:{minutes:02d}:{rest:04.1f}"
    return f"{minutes}:{rest:04.1f}" if minutes else f"{rest:.1f} s"


@dataclass(frozen=True)
class Segment:
    """An action of one person with its start and end.

    Attributes:
        person: number of the person, from 1.
        start, end: in seconds.
        label: class of the action, None if it is unknown, or the background of a segmentation.
        name: name of the action, or "unknown" or "background".
        probability: calibrated, the mean over the segment; for unknown actions, that of the most
            probable class.
        repetitions: of a movement within the segment, see `kinegraph.inference.counting`.
    """

    person: int
    start: float
    end: float
    label: int | None
    name: str
    probability: float
    repetitions: int = 0

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.end - self.start

    @property
    def middle(self) -> float:
        """Time halfway between start and end."""
        return (self.start + self.end) / 2

    def to_dict(self) -> dict[str, Any]:
        """Return the values of a segment for JSON."""
        times = {"start": round(self.start, 3), "end": round(self.end, 3)}
        return asdict(self) | times | {"probability": round(self.probability, 4)}


@dataclass(frozen=True)
class DominantAction:
    """The action with most of the time: ``seconds`` of ``of``, summed over all persons.

    The label is None for "unknown" and for "several actions", whose ``seconds`` are those of all.
    """

    label: int | None
    name: str
    probability: float
    seconds: float
    of: float

    def to_dict(self) -> dict[str, Any]:
        """Return label, name and probability for JSON."""
        return {"label": self.label, "name": self.name, "probability": round(self.probability, 4)}


@dataclass
class WatchResult:
    """The segments of a source, of which ``frames`` were read up to ``end_time`` in seconds.

    ``error`` is what ended it, None if nothing did.
    """

    segments: list[Segment] = field(default_factory=list)
    frames: int = 0
    end_time: float = 0.0
    interrupted: bool = False
    error: KinegraphError | None = None


def dominant_action(segments: Iterable[Segment]) -> DominantAction:
    """Return the action with most of the persons' time, "several actions", or unknown.

    An action is dominant if it has at least `MAIN_SHARE` of all time and `MAIN_NAMED_SHARE` of the
    time in which an action is named. The time between repetitions of an action is often unknown,
    so `MAIN_SHARE` is less than half. Otherwise the result is several actions if these have more
    than half of all time. The probability is the mean over the time of the result; without
    segments, 0.
    """
    segments = list(segments)
    named = [segment for segment in segments if segment.label is not None]
    total, named_total = _total_seconds(segments), _total_seconds(named)
    by_label = [[s for s in named if s.label == label] for label in {s.label for s in named}]
    longest = max(by_label, key=_total_seconds, default=[])
    most = _total_seconds(longest)
    if longest and most >= max(MAIN_SHARE * total, MAIN_NAMED_SHARE * named_total):
        label, name, found = longest[0].label, longest[0].name, longest
    elif 2 * named_total > total:
        label, name, found = None, SEVERAL_ACTIONS, named
    else:
        label, name, found = None, UNKNOWN, [s for s in segments if s.label is None]
    seconds = _total_seconds(found)
    mass = sum(segment.probability * segment.seconds for segment in found)
    return DominantAction(label, name, mass / seconds if seconds else 0.0, seconds, total)


def _total_seconds(segments: Iterable[Segment]) -> float:
    return sum(segment.seconds for segment in segments)


@dataclass
class _Run:
    """Consecutive predictions with the same label; ``mass`` is probability times seconds."""

    label: int | None
    start: float
    end: float
    mass: NDArray[np.float64] = field(repr=False)

    @property
    def seconds(self) -> float:
        return self.end - self.start

    def extend(self, later: _Run) -> None:
        self.end, self.mass = later.end, self.mass + later.mass


class ActionSegmenter:
    """Merges one person's predictions into segments, each returned as soon as it has ended.

    An action begins when it has been predicted for `MIN_DURATION` seconds. It continues while its
    probability is at least `HYSTERESIS` times the confidence threshold and no other action is
    confident; interruptions shorter than `MIN_DURATION` are merged into it. While the body is
    still, the action is unknown.

    Args:
        person: number of the person.
        recognizer: the source of the predictions.
    """

    def __init__(self, person: int, recognizer: Recognizer) -> None:
        self.person = person
        self._header = recognizer.header
        self._keep_threshold = HYSTERESIS * recognizer.calibration.threshold
        self._current: _Run | None = None
        self._candidate: _Run | None = None  # becomes current if it lasts long enough

    def __call__(
        self, start: float, end: float, prediction: Prediction, *, is_still: bool = False
    ) -> list[Segment]:
        """Add the prediction for a time span that follows the one before."""
        import numpy as np

        shares = np.zeros(self._header.num_classes)
        for candidate in prediction.candidates:
            shares[candidate.label] = candidate.probability
        label = None if is_still else self._label(prediction, shares)
        run = _Run(label, start, end, shares * max(end - start, 1e-9))
        if self._current is None:
            self._current = run
            return []
        if label == self._current.label:
            self._merge_candidate(self._current)
            self._current.extend(run)
            return []
        if self._candidate is not None and self._candidate.label == label:
            self._candidate.extend(run)
        else:
            self._merge_candidate(self._current)
            self._candidate = run
        if self._candidate.seconds < MIN_DURATION:
            return []
        ended, self._current, self._candidate = self._current, self._candidate, None
        if ended.seconds >= MIN_DURATION:
            return [self._segment(ended)]
        self._current.start = ended.start  # the first run was too short for a segment
        return []

    def finish(self) -> list[Segment]:
        """Return the last segment."""
        last, self._current = self._current, None
        if last is None:
            return []
        self._merge_candidate(last)
        return [self._segment(last)]

    def _label(self, prediction: Prediction, shares: NDArray[np.float64]) -> int | None:
        if prediction.accepted is not None:
            return prediction.accepted.label
        current = self._current.label if self._current else None
        return current if current is not None and shares[current] >= self._keep_threshold else None

    def _merge_candidate(self, current: _Run) -> None:
        """Merge an interruption that was too short into the current run."""
        if self._candidate is not None:
            current.extend(self._candidate)
        self._candidate = None

    def _segment(self, run: _Run) -> Segment:
        shares = run.mass / max(run.seconds, 1e-9)
        best = int(shares.argmax()) if run.label is None else run.label
        name = UNKNOWN if run.label is None else self._header.class_name(run.label)
        return Segment(
            self.person, run.start, run.end, run.label, name, float(min(shares[best], 1.0))
        )
