"""Admission control: how many persons the server takes, learned from the load that it sees."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from kinegraph.errors import KinegraphError
from kinegraph.inference.online_preprocessing import input_frame_shape
from kinegraph.inference.recognizer import Recognizer
from kinegraph.inference.session import RawFrame, SessionPool
from kinegraph.server.limits import Limits
from kinegraph.server.worker_process import RemoteSessionPool

CPU_BUDGET = 0.7
"""Share of a core for frames; the rest is for connects, disconnects and bursts."""
PER_FRAME_OVERHEAD_S = 0.0001
"""Seconds to parse a frame and to encode its answer."""
MULTIPROCESS_THRESHOLD_S = 0.0005
"""Seconds per frame above which one process per core pays off; smaller networks lose more by
smaller batches."""
BATCHES_PER_FRAME = 3
"""Batches between two frames of a person, under load."""
MAX_PERSONS_PER_PROCESS = 512
SMALL_BATCH, LARGE_BATCH = 8, 32
WARMUP_TICKS, MEASURED_TICKS = 24, 16
WARMUP_META = {"width": 640, "height": 480}

UPDATE_INTERVAL_S = 0.5
LEARNING_TIME_S = 5.0
"""Seconds of load after which a new slowdown is mostly learned."""
FORGETTING_TIME_S = 30.0
"""Seconds without load after which a slowdown is mostly forgotten."""
MIN_LOAD = 0.02
"""Share of a core below which the time that frames take says little."""
MAX_SLOWDOWN = 50.0
LATENCY_GUARD = 0.8
"""Share of the latency target above which no person is admitted."""
LATENCY_HEADROOM = 0.6
"""Share of the latency target below which a server that is nearly full takes more persons."""
CUT_FACTOR, GROWTH_FACTOR = 0.95, 1.01
"""Change of the capacity in an interval with too high and with low latency."""
MIN_HEADROOM, MAX_HEADROOM = 0.5, 1.5
NEARLY_FULL = 0.9


class BatchTime(NamedTuple):
    """The duration of a batch in seconds, and the CPU time of this thread in it."""

    wall: float
    cpu: float


def warmup(
    pool: SessionPool | RemoteSessionPool, persons: int = 1, ticks: int = WARMUP_TICKS
) -> list[BatchTime]:
    """Push random frames of temporary sessions and return the time of every batch.

    The list is empty if the model rejects random frames; its cost is then unknown.
    """
    keys = [pool.open(WARMUP_META) for _ in range(persons)]
    rng = np.random.default_rng(0)
    V, D = input_frame_shape(pool.recognizer)
    confidence, times = np.ones(V, np.float32), []
    for tick in rng.normal(100, 30, (ticks, persons, V, D)).astype(np.float32):
        wall, cpu = time.perf_counter(), time.thread_time()
        frames = {key: RawFrame(j, confidence) for key, j in zip(keys, tick, strict=True)}
        results = pool.push_many(frames)
        times.append(BatchTime(time.perf_counter() - wall, time.thread_time() - cpu))
        if any(isinstance(result, KinegraphError) for result in results.values()):
            times.clear()
            break
    for key in keys:
        pool.close(key)
    return times


class Usage(NamedTuple):
    """What a worker did in an interval: its batches, their frames, and their duration."""

    batches: int
    frames: int
    busy_seconds: float

    def since(self, earlier: Usage) -> Usage:
        """Return what was done between two moments, each with the sums up to it."""
        batches, frames = self.batches - earlier.batches, self.frames - earlier.frames
        return Usage(batches, frames, self.busy_seconds - earlier.busy_seconds)


class CostModel(NamedTuple):
    """Linear model of the CPU seconds that a batch takes: a constant, plus a part per person."""

    per_batch_s: float
    per_person_s: float

    def capacity(self, frame_rate: float, slowdown: float = 1.0) -> float:
        """Return the number of persons that use at most `CPU_BUDGET` of a core.

        Args:
            frame_rate: frames per second of a person.
            slowdown: duration of a batch in its CPU seconds; above 1 if other processes run.
        """
        if not self.per_person_s:
            return MAX_PERSONS_PER_PROCESS
        available = CPU_BUDGET / frame_rate - BATCHES_PER_FRAME * self.per_batch_s * slowdown
        persons = available / (self.per_person_s * slowdown + PER_FRAME_OVERHEAD_S)
        return max(1.0, min(float(MAX_PERSONS_PER_PROCESS), persons))

    def seconds(self, usage: Usage) -> float:
        """Return the CPU seconds that a worker needed."""
        return usage.batches * self.per_batch_s + usage.frames * self.per_person_s


def measure_cost(recognizer: Recognizer, **options: Any) -> tuple[CostModel, float]:
    """Fit the model to a small and a large batch, and return the slowdown of this machine now.

    CPU time depends little on other processes. ``options`` are those of `SessionPool`.
    """
    measured = [
        _measure_batch(recognizer, persons, options) for persons in (SMALL_BATCH, LARGE_BATCH)
    ]
    small, large = (one.cpu for one in measured)
    if not large:
        return CostModel(0.0, 0.0), 1.0
    per_person = max((large - small) / (LARGE_BATCH - SMALL_BATCH), large / LARGE_BATCH / 4)
    slowdown = sum(one.wall for one in measured) / (small + large)
    return CostModel(max(0.0, small - SMALL_BATCH * per_person), per_person), slowdown


def _measure_batch(recognizer: Recognizer, persons: int, options: Mapping[str, Any]) -> BatchTime:
    pool = SessionPool(recognizer, **options)
    times = warmup(pool, persons, WARMUP_TICKS + MEASURED_TICKS)[WARMUP_TICKS:]
    if not times:
        return BatchTime(0.0, 0.0)
    # the faster half counts, because other processes may have disturbed one of them
    wall, cpu = np.reshape(times, (2, -1, 2)).mean(axis=1).min(axis=0)
    return BatchTime(float(wall), float(cpu))


class AdmissionController:
    """How many persons the server takes, adapted to the load and the latency that it sees.

    The capacity is that of the cost model, for the slowdown by other processes, times a headroom.
    The slowdown is learned from the time that batches take, and forgotten without load. The
    headroom falls while the latency is too high, and rises while the server is nearly full and
    answers quickly.

    Args:
        cost: the CPU time of batches.
        slowdown: of this machine now, see `CostModel.capacity`.
        limits: limits of the server; a fixed number of persons is never exceeded.
    """

    def __init__(self, cost: CostModel, slowdown: float, limits: Limits) -> None:
        self._cost, self._limits = cost, limits
        self.slowdown = float(np.clip(slowdown, 1.0, MAX_SLOWDOWN))
        self._headroom = 1.0

    def capacity(self, workers: int) -> int:
        """Return the number of persons that so many workers take."""
        estimate = self._estimate(workers) * self._headroom
        if self._limits.max_persons is not None:
            estimate = min(estimate, self._limits.max_persons)
        return max(1, int(estimate)) if workers else 0

    def update(self, workers: int, persons: int, latency: float, usage: list[Usage]) -> None:
        """Adapt the capacity to what was seen in the last interval of `UPDATE_INTERVAL_S`.

        Args:
            workers: workers that run.
            persons: persons that stream.
            latency: 95th percentile of recent latencies in seconds; 0 if there are too few.
            usage: of each worker.
        """
        self._learn_slowdown(usage)
        target, estimate = self._limits.latency_target, self._estimate(workers)
        if latency > LATENCY_GUARD * target:
            in_use = persons / max(1.0, estimate)
            self._headroom = max(MIN_HEADROOM, min(CUT_FACTOR * self._headroom, in_use))
        elif self._headroom < 1.0:
            self._headroom = min(1.0, GROWTH_FACTOR * self._headroom)
        elif (
            persons >= NEARLY_FULL * self.capacity(workers)
            and 0 < latency < LATENCY_HEADROOM * target
        ):
            self._headroom = min(MAX_HEADROOM, GROWTH_FACTOR * self._headroom)

    def _estimate(self, workers: int) -> float:
        if self._limits.max_persons is not None:
            return self._limits.max_persons
        return workers * self._cost.capacity(self._limits.frame_rate, self.slowdown)

    def _learn_slowdown(self, usage: list[Usage]) -> None:
        needed = sum(self._cost.seconds(one) for one in usage)
        if needed > MIN_LOAD * UPDATE_INTERVAL_S:
            seen = sum(one.busy_seconds for one in usage) / needed
            weight = UPDATE_INTERVAL_S / LEARNING_TIME_S
        else:
            seen, weight = 1.0, UPDATE_INTERVAL_S / FORGETTING_TIME_S
        seen = min(max(seen, 1 / MAX_SLOWDOWN), MAX_SLOWDOWN)
        self.slowdown += weight * (seen - self.slowdown)
