"""Capacity: how many persons the server takes, measured at startup."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from kinegraph.errors import KinegraphError
from kinegraph.inference.online_preprocessing import input_frame_shape
from kinegraph.inference.recognizer import Recognizer
from kinegraph.inference.session import RawFrame, SessionPool
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


def warmup(
    pool: SessionPool | RemoteSessionPool, persons: int = 1, ticks: int = WARMUP_TICKS
) -> list[float]:
    """Push random frames of temporary sessions and return the seconds of every batch.

    The list is empty if the model rejects random frames; its cost is then unknown.
    """
    keys = [pool.open(WARMUP_META) for _ in range(persons)]
    rng = np.random.default_rng(0)
    V, D = input_frame_shape(pool.recognizer)
    confidence, seconds = np.ones(V, np.float32), []
    for tick in rng.normal(100, 30, (ticks, persons, V, D)).astype(np.float32):
        started = time.perf_counter()
        frames = {key: RawFrame(j, confidence) for key, j in zip(keys, tick, strict=True)}
        results = pool.push_many(frames)
        seconds.append(time.perf_counter() - started)
        if any(isinstance(result, KinegraphError) for result in results.values()):
            seconds.clear()
            break
    for key in keys:
        pool.close(key)
    return seconds


class LatencyModel(NamedTuple):
    """Linear model of the seconds that a batch takes: a constant, plus a part per person."""

    per_batch_s: float
    per_person_s: float

    def capacity(self, frame_rate: float) -> int:
        """Return the number of persons at a frame rate that use at most `CPU_BUDGET` of a core."""
        if not self.per_person_s:
            return MAX_PERSONS_PER_PROCESS
        available = CPU_BUDGET / frame_rate - BATCHES_PER_FRAME * self.per_batch_s
        persons = int(available / (self.per_person_s + PER_FRAME_OVERHEAD_S))
        return max(1, min(MAX_PERSONS_PER_PROCESS, persons))


def measure_latency(recognizer: Recognizer, **options: Any) -> LatencyModel:
    """Fit the model to a small and a large batch; ``options`` are those of `SessionPool`."""
    small, large = (
        _batch_seconds(recognizer, persons, options) for persons in (SMALL_BATCH, LARGE_BATCH)
    )
    per_person = max((large - small) / (LARGE_BATCH - SMALL_BATCH), large / LARGE_BATCH / 4)
    return LatencyModel(max(0.0, small - SMALL_BATCH * per_person), per_person)


def _batch_seconds(recognizer: Recognizer, persons: int, options: Mapping[str, Any]) -> float:
    pool = SessionPool(recognizer, **options)
    seconds = warmup(pool, persons, WARMUP_TICKS + MEASURED_TICKS)[WARMUP_TICKS:]
    if not seconds:
        return 0.0
    # the faster half counts, because other processes may have disturbed one of them
    return float(np.reshape(seconds, (2, -1)).mean(axis=1).min())
