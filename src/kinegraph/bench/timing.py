"""How things are timed against each other: turn by turn in one process, so that noise hits both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

Progress = Callable[[int, int], None]

WARM_UP = 1
BUDGET = 90.0  # seconds of one comparison


@dataclass(frozen=True)
class Spread:
    """The median of repeated measurements, and their quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)

    def to_dict(self) -> dict[str, float]:
        """For JSON."""
        return {"median": self.median, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Comparison:
    """What two sides took for the same work, round by round.

    Attributes:
        baseline: seconds of the baseline in each round.
        ours: seconds of ours in the same rounds.
    """

    baseline: tuple[float, ...]
    ours: tuple[float, ...]

    @property
    def ratio(self) -> Spread:
        """How many times as long the baseline takes: of the rounds, each by itself."""
        return Spread.of([b / o for b, o in zip(self.baseline, self.ours, strict=True)])


def interleave(
    baseline: Callable[[int], Any],
    ours: Callable[[int], Any],
    rounds: int,
    progress: Progress | None = None,
    seconds: float = BUDGET,
) -> Comparison:
    """Time two sides A B A B ...; each is called with the number of the round.

    Args:
        baseline: one side; called once more before anything is timed, as the other is.
        ours: the other side.
        rounds: how often each is timed.
        progress: called with (rounds done, rounds in all).
        seconds: after which no further round is begun; a bfloat16 that a processor only imitates
            may be fifty times slower than what it is compared with.
    """
    begin = time.perf_counter()
    for _ in range(WARM_UP):
        baseline(0)
        ours(0)
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds):
        for side, taken in zip((baseline, ours), times, strict=True):
            taken.append(timed(side, number))
        if progress:
            progress(number + 1, rounds)
        if time.perf_counter() - begin > seconds:
            break
    return Comparison(tuple(times[0]), tuple(times[1]))


def timed(call: Callable[..., Any], *given: Any) -> float:
    """Seconds that a call takes."""
    begin = time.perf_counter()
    call(*given)
    return time.perf_counter() - begin


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@contextmanager
def threads(count: int | None) -> Iterator[int]:
    """Torch with this many threads (None: as many as it has), and as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield count or before
    finally:
        torch.set_num_threads(before)
