"""How many persons can be served in time: measured before the first comes, watched afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

import numpy as np

from kinegraph.errors import KinegraphError
from kinegraph.inference.online_preprocessing import input_frame_shape
from kinegraph.inference.recognizer import Recognizer
from kinegraph.inference.session import RawFrame, SessionPool
from kinegraph.server.errors import RequestRejectedError
from kinegraph.server.limits import Limits
from kinegraph.server.worker_process import RemoteSessionPool

CPU_BUDGET = 0.7
"""Of a core, for frames; the rest is for what comes and goes, and for what comes at once."""
PER_FRAME_OVERHEAD_S = 0.0001
"""Seconds that a frame takes on its way from a message and into another."""
MULTIPROCESS_THRESHOLD_S = 0.0005
"""Seconds of a frame from which on a process a core is worth what it costs; smaller networks would
only lose the company of frames."""
BATCHES_PER_FRAME = 3
"""How often frames are worked on between two frames of a person, under load."""
LATENCY_GUARD = 0.8
"""Of the time in which frames should be answered: if it takes longer, nobody else is let in once
half of the room is taken."""
MAX_STREAMS_PER_PROCESS = 512
SMALL_BATCH, LARGE_BATCH = 8, 32
WARMUP_TICKS, MEASURED_TICKS = 24, 16
WARMUP_META = {"width": 640, "height": 480}


def warmup(
    crowd: SessionPool | RemoteSessionPool, persons: int = 1, ticks: int = WARMUP_TICKS
) -> list[float]:
    """Seconds that each of so many frames of so many persons took; nothing of them is left."""
    keys = [crowd.open(WARMUP_META) for _ in range(persons)]
    rng = np.random.default_rng(0)
    V, D = input_frame_shape(crowd.recognizer)
    seen, seconds = np.ones(V, np.float32), []
    for tick in rng.normal(100, 30, (ticks, persons, V, D)).astype(np.float32):
        began = time.perf_counter()
        found = crowd.push_many({k: RawFrame(j, seen) for k, j in zip(keys, tick, strict=True)})
        seconds.append(time.perf_counter() - began)
        if any(isinstance(one, KinegraphError) for one in found.values()):
            seconds.clear()  # it answers no frames like these: what persons cost will be seen
            break
    for key in keys:
        crowd.close(key)
    return seconds


class LatencyModel(NamedTuple):
    """What a round of frames costs: seconds of every round, and of every person in it."""

    per_batch_s: float
    per_person_s: float

    def capacity(self, rate: float) -> int:
        """How many persons at so many frames a second leave a core some time to breathe."""
        left = CPU_BUDGET / rate - BATCHES_PER_FRAME * self.per_batch_s
        return (
            max(
                1,
                min(
                    MAX_STREAMS_PER_PROCESS, int(left / (self.per_person_s + PER_FRAME_OVERHEAD_S))
                ),
            )
            if self.per_person_s
            else MAX_STREAMS_PER_PROCESS
        )


def measure_latency(recognizer: Recognizer, **options: Any) -> LatencyModel:
    """Measured with few persons and with many; ``options`` are those of `SessionPool`."""
    few, many = (
        _batch_seconds(recognizer, number, options) for number in (SMALL_BATCH, LARGE_BATCH)
    )
    per_person_s = max((many - few) / (LARGE_BATCH - SMALL_BATCH), many / LARGE_BATCH / 4)
    return LatencyModel(max(0.0, few - SMALL_BATCH * per_person_s), per_person_s)


def _batch_seconds(recognizer: Recognizer, persons: int, options: Mapping[str, Any]) -> float:
    seconds = warmup(SessionPool(recognizer, **options), persons, WARMUP_TICKS + MEASURED_TICKS)[
        WARMUP_TICKS:
    ]
    if not seconds:
        return 0.0
    # the machine may be busy for a moment: the quicker half counts
    return float(np.reshape(seconds, (2, -1)).mean(axis=1).min())


class AdmissionController:
    """Who may come in.

    Args:
        limits: of the server.
        persons: how many there may be.
        p95_latency: how long answers take at present, in seconds.
    """

    def __init__(self, limits: Limits, persons: int, p95_latency: Callable[[], float]) -> None:
        self.capacity = persons
        self.in_use = 0
        self._latest = LATENCY_GUARD * limits.latency_target
        self._p95_latency = p95_latency

    def acquire(self) -> None:
        """Let somebody in.

        Raises:
            RequestRejectedError: those who are in would have to wait.
        """
        if self.in_use >= self.capacity:
            raise RequestRejectedError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"there is room for {self.capacity} persons, and as many are here; come back",
            )
        if 2 * self.in_use > self.capacity and self._p95_latency() > self._latest:
            raise RequestRejectedError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "this machine is busy with those who are here; come back",
            )
        self.in_use += 1

    def release(self) -> None:
        """Somebody has gone."""
        self.in_use -= 1
