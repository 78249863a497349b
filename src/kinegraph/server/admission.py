"""How many persons can be served in time: measured before the first comes, watched afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from kinegraph.errors import KinegraphError
from kinegraph.inference.online_preprocessing import input_frame_shape
from kinegraph.inference.recognizer import Recognizer
from kinegraph.inference.session import RawFrame, SessionPool
from kinegraph.server.errors import BUSY, RefusedError
from kinegraph.server.limits import Limits
from kinegraph.server.worker_process import Apart

SHARE = 0.7
"""Of a core, for frames; the rest is for what comes and goes, and for what comes at once."""
BESIDES = 0.0001
"""Seconds that a frame takes on its way from a message and into another."""
HEAVY = 0.0005
"""Seconds of a frame from which on a process a core is worth what it costs; smaller networks would
only lose the company of frames."""
ROUNDS = 3
"""How often frames are worked on between two frames of a person, under load."""
LATEST = 0.8
"""Of the time in which frames should be answered: if it takes longer, nobody else is let in once
half of the room is taken."""
MOST = 512
FEW, MANY = 8, 32
WARM, TICKS = 24, 16
META = {"width": 640, "height": 480}


def warm_up(crowd: SessionPool | Apart, persons: int = 1, ticks: int = WARM) -> list[float]:
    """Seconds that each of so many frames of so many persons took; nothing of them is left."""
    keys = [crowd.open(META) for _ in range(persons)]
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


class Cost(NamedTuple):
    """What a round of frames costs: seconds of every round, and of every person in it."""

    a_round: float
    a_person: float

    def room(self, rate: float) -> int:
        """How many persons at so many frames a second leave a core some time to breathe."""
        left = SHARE / rate - ROUNDS * self.a_round
        return max(1, min(MOST, int(left / (self.a_person + BESIDES)))) if self.a_person else MOST


def measured_cost(recognizer: Recognizer, **options: Any) -> Cost:
    """Measured with few persons and with many; ``options`` are those of `SessionPool`."""
    few, many = (_seconds_of_a_round(recognizer, number, options) for number in (FEW, MANY))
    a_person = max((many - few) / (MANY - FEW), many / MANY / 4)
    return Cost(max(0.0, few - FEW * a_person), a_person)


def _seconds_of_a_round(recognizer: Recognizer, persons: int, options: Mapping[str, Any]) -> float:
    seconds = warm_up(SessionPool(recognizer, **options), persons, WARM + TICKS)[WARM:]
    if not seconds:
        return 0.0
    # the machine may be busy for a moment: the quicker half counts
    return float(np.reshape(seconds, (2, -1)).mean(axis=1).min())


class Room:
    """Who may come in.

    Args:
        limits: of the server.
        persons: how many there may be.
        slowness: how long answers take at present, in seconds.
    """

    def __init__(self, limits: Limits, persons: int, slowness: Callable[[], float]) -> None:
        self.persons = persons
        self.taken = 0
        self._latest = LATEST * limits.within
        self._slowness = slowness

    def enter(self) -> None:
        """Let somebody in.

        Raises:
            RefusedError: those who are in would have to wait.
        """
        if self.taken >= self.persons:
            raise RefusedError(
                BUSY, f"there is room for {self.persons} persons, and as many are here; come back"
            )
        if 2 * self.taken > self.persons and self._slowness() > self._latest:
            raise RefusedError(BUSY, "this machine is busy with those who are here; come back")
        self.taken += 1

    def leave(self) -> None:
        """Somebody has gone."""
        self.taken -= 1
