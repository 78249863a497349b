"""Interleaved timing of two sides in one process, so that both see the same load."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from kinegraph.inference.trained_model import ProgressCallback

MAX_COMPARISON_S = 90.0


@dataclass(frozen=True)
class Spread:
    """The median of repeated measurements, and their quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of at least one value."""
        return cls(*np.percentile(values, (50, 25, 75)).tolist())


@dataclass(frozen=True)
class TimedRounds:
    """The times of two sides for the same work, round by round.

    Attributes:
        baseline: seconds of the baseline in each round.
        ours: seconds of ours in the same rounds.
    """

    baseline: tuple[float, ...]
    ours: tuple[float, ...]

    @property
    def ratio(self) -> Spread:
        """How many times as long the baseline takes, over the ratios of the single rounds."""
        return Spread.of([b / o for b, o in zip(self.baseline, self.ours, strict=True)])


def time_interleaved(
    baseline: Callable[[int], Any],
    ours: Callable[[int], Any],
    rounds: int,
    progress: ProgressCallback | None = None,
    seconds: float = MAX_COMPARISON_S,
) -> TimedRounds:
    """Time two sides A B A B ... after a warm-up; each is called with the number of the round.

    Args:
        progress: called with (rounds done, rounds in all).
        seconds: after which no further round begins: a bfloat16 that a processor only emulates can
            be fifty times slower than the other side.
    """
    begin = time.perf_counter()
    baseline(0)
    ours(0)
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds):
        for side, taken in zip((baseline, ours), times, strict=True):
            taken.append(time_call(side, number))
        if progress:
            progress(number + 1, rounds)
        if time.perf_counter() - begin > seconds:
            break
    return TimedRounds(tuple(times[0]), tuple(times[1]))


def time_call(call: Callable[..., Any], *args: Any) -> float:
    """Return the seconds that a call takes."""
    begin = time.perf_counter()
    call(*args)
    return time.perf_counter() - begin


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@contextmanager
def use_threads(count: int | None) -> Iterator[int]:
    """Set PyTorch's number of threads (None: leave it), and restore it afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield count or before
    finally:
        torch.set_num_threads(before)
