"""`kinegraph serve` whose processes are killed, under load and idle: it recovers at once."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from server.killed_server import attack, kill_whole, serving

KILLS = 20

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="lists processes in /proc"),
]


@pytest.mark.parametrize("persons", [0, 4])
def test_killed_processes_are_replaced(persons):
    with serving("--processes", "2", "--persons", "20") as server:
        answers, faults = asyncio.run(attack(server, persons, [1.0] * KILLS))
        _, left = kill_whole(server, signal.SIGKILL)
    assert not faults + left
    assert answers or not persons
