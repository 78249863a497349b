"""A `kinegraph serve` whose processes are killed while clients stream, and what they receive."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache

import httpx
import numpy as np
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from interrupted import processes_of
from kinegraph.inference.online_preprocessing import input_frame_shape
from kinegraph.inference.recognizer import Recognizer
from kinegraph.inference.session import RawFrame, SessionPool
from server.serving import receive_json

MODEL = "penn-action"
RECOVERY_S = 2.0
FRAMES = 200
#: Close codes after which a client connects again: of a lost worker, and of a full server.
RETRY_CODES = {1012, 1013}


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
    """Run the command in a session of its own, until the block ends."""
    command = [sys.executable, "-m", "kinegraph", "serve", MODEL, "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        found = re.search(r"http://(\S+)/", process.stdout.readline())
        process.stdout.readline()
        yield Server(process, found[1])
    finally:
        process.terminate()
        try:
            process.wait(60)
        finally:
            process.kill()
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

    def check_answers(self) -> str:
        """Return what is wrong with the answers: each must be that of this client's own frames."""
        expected = expected_logits(self.person)
        for frames, logits in self.answers:
            difference = np.abs(np.asarray(logits) - expected[frames]).max()
            if not difference <= 1e-5 * np.abs(expected[frames]).max():
                return f"person {self.person}, frame {frames}: logits differ by {difference:.2g}"
        if not self.answers:
            return f"person {self.person}: no answer"
        return "" if set(self.codes) <= RETRY_CODES else f"close codes {set(self.codes)}"


async def kill_and_wait(server: Server, pid: int) -> tuple[float, str]:
    """Kill a process; return the seconds until a new stream is answered, and what is wrong.

    Whenever health answers with 200, a new stream must be answered.
    """
    os.kill(pid, signal.SIGKILL)
    began, states = time.monotonic(), []
    async with httpx.AsyncClient(timeout=10) as client:
        while time.monotonic() < began + 30:
            health = await client.get(f"{server.url}/health")
            states.append(health.json()["status"])
            if await server.answers_a_new_stream():
                return time.monotonic() - began, ""
            # the first answer may be older than the detection of the loss
            if health.status_code == 200 and len(states) > 1:
                return time.monotonic() - began, f"health was {states}, a new stream fails"
    return time.monotonic() - began, "not recovered"


async def attack(server: Server, persons: int, pauses: Iterable[float]) -> tuple[int, list[str]]:
    """Kill the processes of a server in turn, after each pause, while so many persons stream.

    Returns:
        The number of answers that the persons received, and one sentence for each fault.
    """
    stop, clients, faults = asyncio.Event(), [Client(one) for one in range(persons)], []
    tasks = [asyncio.create_task(client.run(server, stop)) for client in clients]
    for number, pause in enumerate(pauses):
        await asyncio.sleep(pause)
        targets = processes_of(server.process.pid)
        seconds, wrong = await kill_and_wait(server, targets[number % len(targets)])
        if wrong or seconds > RECOVERY_S:
            faults.append(wrong or f"recovered after {seconds:.1f} s")
    faults += await _wait_until_healthy(server)
    stop.set()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if result is not None:
            faults.append(f"a client failed: {result!r}")
    faults += filter(None, (client.check_answers() for client in clients))
    return sum(len(client.answers) for client in clients), faults


async def _wait_until_healthy(server: Server) -> list[str]:
    async with httpx.AsyncClient() as client:
        with suppress(TimeoutError):
            async with asyncio.timeout(120):
                while (await client.get(f"{server.url}/health")).json()["status"] != "ok":
                    await asyncio.sleep(0.1)
                return []
    return ["health was not ok again after 120 s"]


def kill_whole(server: Server, number: int) -> tuple[int, list[str]]:
    """Send a signal to the main process; return its exit code, and the processes it leaves."""
    server.process.send_signal(number)
    code = server.process.wait(60)
    end = time.monotonic() + 20
    while (left := processes_of(server.process.pid)) and time.monotonic() < end:
        time.sleep(0.1)
    return code, [f"{len(left)} processes outlive the server"] if left else []
