"""`kinegraph serve` whose processes are killed, under load and idle: it recovers at once."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import httpx
import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from kinegraph.inference.online_preprocessing import input_frame_shape
from kinegraph.inference.recognizer import Recognizer
from kinegraph.inference.session import RawFrame, SessionPool
from server.serving import receive_json

MODEL = "penn-action"
KILLS = 20
RECOVERY_S = 2.0
FRAMES = 200

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="lists processes in /proc"),
]


def processes_of(session: int) -> list[int]:
    """Return all processes of a session but its leader; forks of a killed process are in it too."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, _, own = stat.read_text().rpartition(")")[2].split()[:4]
            if state != "Z" and int(own) == session:
                found.append(int(stat.parent.name))
    return sorted({*found} - {session})


class Server:
    """A running `kinegraph serve`."""

    def __init__(self, process: subprocess.Popen, address: str) -> None:
        self.process = process
        self.url, self.stream = f"http://{address}", f"ws://{address}/v1/stream?logits=true"

    async def answers_a_new_stream(self) -> bool:
        """Return whether a new connection gets an answer to its first frame."""
        with suppress(ConnectionClosed, OSError, TimeoutError):
            async with connect(self.stream) as socket:
                await socket.send(frame("new", joints_of(0)[0]))
                return "frame" in await receive_json(socket, 10)
        return False


@contextmanager
def serving(*options: str) -> Iterator[Server]:
    command = [sys.executable, "-m", "kinegraph", "serve", MODEL, "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        found = re.search(r"http://(\S+)/", process.stdout.readline())
        process.stdout.readline()
        yield Server(process, found[1])
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()


@cache
def model() -> Recognizer:
    """Return the model of the server."""
    return Recognizer.load(MODEL)


def joints_of(person: int) -> np.ndarray:
    """Return the joints of a person, (frames, V, 2)."""
    V, D = input_frame_shape(model())
    rng = np.random.default_rng(person)
    steps = rng.normal(0, 0.1, (FRAMES, V, D)).cumsum(axis=0)
    return (rng.normal(size=(V, D)) + steps).astype(np.float32)


def frame(person: object, joints: np.ndarray) -> str:
    return json.dumps({"person": person, "joints": joints.tolist()})


def expected_logits(person: int) -> dict[int, np.ndarray]:
    """Return the logits of a stream by its number of frames, without a server."""
    pool = SessionPool(model(), chunk_frames=1)
    key, found = pool.open(), {}
    for joints in joints_of(person):
        result = pool.push_many({key: RawFrame(joints)})[key]
        if result.prediction is not None:
            found[result.frames] = result.prediction.logits
    return found


class Client:
    """Streams one person again and again, and opens a new connection where the docs say so."""

    def __init__(self, person: int) -> None:
        self.person, self.codes = person, []
        self.answers: list[tuple[int, list[float]]] = []

    async def run(self, server: Server, stop: asyncio.Event) -> None:
        joints = joints_of(self.person)
        while not stop.is_set():
            try:
                async with connect(server.stream) as socket:
                    await self.stream(socket, joints, stop)
            except ConnectionClosed as end:
                self.codes.append(end.rcvd.code if end.rcvd else None)
                await asyncio.sleep(0.05)

    async def stream(self, socket, joints: np.ndarray, stop: asyncio.Event) -> None:
        for t, one in enumerate(joints):
            if stop.is_set():
                return
            await socket.send(frame(self.person, one))
            message = await receive_json(socket, 30)
            if "error" in message:
                assert message["status"] == 503, message
                await receive_json(socket, 30)  # the connection is closed
            assert message["person"] == self.person and message["frame"] == t, message
            if message["name"] is not None:
                self.answers.append((message["frames"], message["logits"]))
            await asyncio.sleep(1 / 30)


async def kill_and_wait(server: Server, pid: int) -> tuple[float, list[str]]:
    """Kill a process and return the seconds until a new stream is answered, with what health says.

    Whenever health answers with 200, a new stream must be answered.
    """
    os.kill(pid, signal.SIGKILL)
    began, states = time.monotonic(), []
    async with httpx.AsyncClient(timeout=10) as client:
        while True:
            health = await client.get(f"{server.url}/health")
            states.append(health.json()["status"])
            if await server.answers_a_new_stream():
                return time.monotonic() - began, states
            # the first answer may be older than the detection of the loss
            assert health.status_code == 503 or len(states) == 1, states
            assert time.monotonic() < began + 30


@pytest.mark.parametrize("persons", [0, 4])
def test_killed_processes_are_replaced(persons):
    async def attack(server: Server) -> tuple[list[Client], list[float]]:
        stop, clients = asyncio.Event(), [Client(one) for one in range(persons)]
        tasks = [asyncio.create_task(client.run(server, stop)) for client in clients]
        seconds = []
        for number in range(KILLS):
            await asyncio.sleep(1.0)
            targets = processes_of(server.process.pid)
            took, states = await kill_and_wait(server, targets[number % len(targets)])
            seconds.append(took)
            print(number, targets[number % len(targets)], f"{took:.2f} s", states)
            assert not any(task.done() for task in tasks), [task.exception() for task in tasks]
        async with httpx.AsyncClient() as client, asyncio.timeout(120):
            while (await client.get(f"{server.url}/health")).json()["status"] != "ok":
                await asyncio.sleep(0.1)
        stop.set()
        await asyncio.gather(*tasks)
        return clients, seconds

    with serving("--processes", "2", "--persons", "20") as server:
        clients, seconds = asyncio.run(attack(server))
        server.process.kill()
        until = time.monotonic() + 20
        while processes_of(server.process.pid) and time.monotonic() < until:
            time.sleep(0.1)
        assert not processes_of(server.process.pid)  # no process outlives the server
    assert max(seconds) < RECOVERY_S, seconds
    for client in clients:
        expected = expected_logits(client.person)
        assert client.answers and set(client.codes) <= {1012, 1013}
        for frames, logits in client.answers:
            scale = np.abs(expected[frames]).max()
            np.testing.assert_allclose(logits, expected[frames], rtol=0, atol=1e-5 * scale)
