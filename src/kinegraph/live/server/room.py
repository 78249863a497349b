"""How many persons can be served in time: measured before the first comes, watched afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from kinegraph.errors import KinegraphError
from kinegraph.inference.crowd import Crowd, Frame
from kinegraph.inference.ready import frame_shape
from kinegraph.inference.recognizer import Recognizer
from kinegraph.live.server.limits import Limits
from kinegraph.live.server.refusals import BUSY, RefusedError

SHARE = 0.75
"""Of a core, for the network; the rest is for what comes and goes."""
LATEST = 0.8
"""Of the time in which frames should be answered: if it takes longer, nobody else is let in."""
MOST = 512
PERSONS = 8
WARM = 24
TICKS = 40
META = {"width": 640, "height": 480}


def warm_up(crowd: Crowd, persons: int = 1, ticks: int = WARM) -> list[float]:
    """Seconds that each of so many frames of so many persons took; nothing of them is left."""
    keys = [crowd.open(META) for _ in range(persons)]
    rng = np.random.default_rng(0)
    V, D = frame_shape(crowd.recognizer)
    seen, seconds = np.ones(V, np.float32), []
    for tick in rng.normal(100, 30, (ticks, persons, V, D)).astype(np.float32):
        began = time.perf_counter()
        found = crowd.push_many({k: Frame(j, seen) for k, j in zip(keys, tick, strict=True)})
        seconds.append(time.perf_counter() - began)
        if any(isinstance(one, KinegraphError) for one in found.values()):
            seconds.clear()  # it answers no frames like these: what persons cost will be seen
            break
    for key in keys:
        crowd.close(key)
    return seconds


def measured_room(recognizer: Recognizer, rate: float, **options: Any) -> int:
    """How many persons at so many frames a second leave this machine some time to breathe.

    Args:
        recognizer: who answers them.
        rate: frames a second of each.
        options: of `Crowd`.
    """
    seconds = warm_up(Crowd(recognizer, **options), PERSONS, WARM + TICKS)[WARM:]
    if not seconds:
        return MOST
    parts = np.reshape(seconds, (4, -1)).mean(axis=1)  # the machine may be busy for a moment
    return max(1, min(MOST, int(SHARE * PERSONS / (rate * float(np.median(parts))))))


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
        if self.taken and self._slowness() > self._latest:
            raise RefusedError(BUSY, "this machine is busy with those who are here; come back")
        self.taken += 1

    def leave(self) -> None:
        """Somebody has gone."""
        self.taken -= 1
