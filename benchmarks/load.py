"""Load test of the server: streams of many persons, with a check of every answer.

    python benchmarks/load.py MODEL --persons 20 --seconds 60
    python benchmarks/load.py MODEL --persons 20 --times 10     # ten times as many clients connect

The script starts a server on this machine and connects over sockets. Besides the persons that
stream all the time, visitors connect and disconnect at random. Every answer is compared with that
of the same frames without a server, to 1e-5 of the largest logit.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from kinegraph.inference.recognizer import Recognizer
from kinegraph.inference.session import RawFrame, SessionPool
from kinegraph.server.protocol import HEADER, MAGIC, PERSON_HEADER

NUM_RECORDINGS = 8
TOLERANCE = 1e-5
Array = NDArray[np.float32]


@dataclass
class Person:
    """One streamed person: the frames that were sent and the answers that came."""

    recording: int
    number: int
    sent: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    logits: dict[int, Array] = field(default_factory=dict)
    final: tuple[int, Array] | None = None
    rejection: str = ""
    rejection_seconds: float = 0.0
    errors: list[str] = field(default_factory=list)
    dropped: int = 0


@dataclass
class Client:
    """A connection with some persons; answers are parsed after the test, to save time."""

    persons: list[Person]
    started: float = 0.0
    num_answers: int = 0
    received: list[tuple[float, str]] = field(default_factory=list)

    async def run(self, url: str, recordings: Array, fps: float, frames: int, end: bool) -> None:
        """Stream the frames on time and collect the answers."""
        self.started = time.perf_counter()
        try:
            async with connect(url, compression=None, max_queue=None, open_timeout=30) as socket:
                receiver = asyncio.create_task(self.receive(socket))
                try:
                    await self.send(socket, recordings, fps, frames)
                    active = [one for one in self.persons if one.sent and not one.rejection]
                    if end and active:
                        ends = [{"person": one.number, "end": True} for one in active]
                        await socket.send(json.dumps(ends))
                    async with asyncio.timeout(15):
                        while self.is_waiting(active, end):
                            await asyncio.sleep(0.02)
                finally:
                    receiver.cancel()
        except (ConnectionClosed, InvalidStatus, OSError, TimeoutError) as error:
            for one in self.persons:
                if not one.rejection:
                    one.errors.append(f"{type(error).__name__}: {error}")

    def is_waiting(self, active: list[Person], end: bool) -> bool:
        """Return whether an answer is missing."""
        return self.num_answers < sum(len(one.sent) + end for one in active if not one.rejection)

    async def send(self, socket: Any, recordings: Array, fps: float, frames: int) -> None:
        """Send the frames when they are due, the first one at once."""
        start = time.perf_counter()
        bodies = recordings.shape[2]
        for t in range(frames):
            await asyncio.sleep(max(0.0, start + t / fps - time.perf_counter()))
            active = [one for one in self.persons if not one.rejection]
            if not active:
                return
            parts = [HEADER.pack(MAGIC, 0, bodies, len(active))]
            for one in active:
                joints = recordings[one.recording, t % recordings.shape[1]]
                parts += (PERSON_HEADER.pack(one.number, t / fps), joints.tobytes())
                one.sent.append(time.perf_counter())
            await socket.send(b"".join(parts))

    async def receive(self, socket: Any) -> None:
        """Collect messages; errors are parsed at once, because they change what is sent."""
        async for text in socket:
            self.received.append((time.perf_counter(), text))
            self.num_answers += text.count('"frames":')
            if '"error"' in text:
                self.parse()

    def parse(self) -> None:
        """Assign the collected messages to the persons."""
        by_number = {one.number: one for one in self.persons}
        for now, text in self.received:
            for message in json.loads(text):
                if "dropped" in message:
                    self.persons[0].dropped = message["dropped"]
                elif "person" in message:
                    record(by_number[message["person"]], message, now, self.started)
                else:
                    for one in self.persons:
                        record(one, message, now, self.started)
        self.received.clear()


def record(one: Person, message: dict, now: float, started: float) -> None:
    """Store a message of a person."""
    if "error" in message:
        if message["status"] == 503 and not one.latencies:
            one.rejection = message["error"]
            one.rejection_seconds = now - (one.sent or [started])[0]
        else:
            one.errors.append(message["error"])
        return
    logits = np.array(message["logits"], np.float32) if message["name"] is not None else None
    if "frame" in message:
        one.latencies.append(now - one.sent[message["frame"]])
        if logits is not None:
            before = one.logits.setdefault(message["frames"], logits)
            if not np.array_equal(before, logits):
                one.errors.append(f"two answers for {message['frames']} frames")
    elif logits is not None:
        one.final = (message["frames"], logits)


def random_recordings(model: str, bodies: int) -> Array:
    """Return random walks of joints, (recordings, frames, bodies, V, D)."""
    from kinegraph.inference.online_preprocessing import input_frame_shape

    V, D = input_frame_shape(Recognizer.load(model))
    rng = np.random.default_rng(0)
    start = rng.normal(0, 1, (NUM_RECORDINGS, 1, bodies, V, D))
    steps = rng.normal(0, 0.05, (NUM_RECORDINGS, 4096, bodies, V, D)).cumsum(axis=1)
    return (start + steps).astype(np.float32)


def largest_error(model: str, recordings: Array, persons: list[Person]) -> float:
    """Return the largest difference from the answers without a server, relative to the logits."""
    recognizer = Recognizer.load(model)
    worst = 0.0
    for number, joints in enumerate(recordings):
        own = [one for one in persons if one.recording == number and one.sent]
        frames = max((len(one.sent) for one in own), default=0)
        lengths = {one.final[0] for one in own if one.final}
        answers, finals = stream_offline(recognizer, joints, frames, lengths)
        pairs = [(answers[k], logits) for one in own for k, logits in one.logits.items()]
        pairs += [(finals[one.final[0]], one.final[1]) for one in own if one.final]
        worst = max(worst, *(np.abs(a - b).max() / np.abs(a).max() for a, b in pairs), 0.0)
    return float(worst)


def stream_offline(
    recognizer: Recognizer, joints: Array, frames: int, lengths: set[int]
) -> tuple[dict[int, Array], dict[int, Array]]:
    """Stream frames without a server.

    Returns:
        the logits of every answer by its number of frames, and the final logits of the first k
        frames for each k of ``lengths``.
    """
    pool = SessionPool(recognizer, "step", chunk_frames=1)
    key = pool.open()
    answers, finals = {}, {}
    for t in range(frames):
        result = pool.push_many({key: RawFrame(joints[t % len(joints)])})[key]
        if result.prediction is not None:
            answers[result.frames] = result.prediction.logits
        if t + 1 in lengths:
            finals[t + 1] = pool.flush(key).logits
    return answers, finals


class Server:
    """`kinegraph serve` on a free port of this machine."""

    def __init__(self, model: str, options: list[str]) -> None:
        command = [sys.executable, "-m", "kinegraph", "serve", model, "--port", "0", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.banner = self.process.stdout.readline().strip()
        found = re.search(r"http://(\S+)/", self.banner)
        if not found:
            raise SystemExit(f"the server did not start: {self.banner}")
        self.banner += "; " + self.process.stdout.readline().strip()
        self.address = found[1]

    def get(self, path: str) -> str:
        """Return the answer to a GET request."""
        with urllib.request.urlopen(f"http://{self.address}{path}", timeout=10) as answer:
            return str(answer.read().decode())

    def cpu_seconds(self) -> float:
        """Return the CPU time of the server in seconds; 0 where /proc does not exist."""
        stat = Path(f"/proc/{self.process.pid}/stat")
        if not stat.exists():
            return 0.0
        ticks = stat.read_text().rpartition(")")[2].split()[11:13]
        return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> float:
        """Stop the server and return the seconds that it took."""
        started = time.perf_counter()
        self.process.terminate()
        self.process.wait(timeout=30)
        return time.perf_counter() - started


async def run_clients(
    address: str, recordings: Array, options: argparse.Namespace
) -> dict[str, list[Person]]:
    """Run all clients at the same time: steady ones, visitors, and those beyond the capacity."""
    url = f"ws://{address}/v1/stream?logits=true&coalesce=true"
    rng = random.Random(0)
    frames = int(options.seconds * options.fps)

    def persons(count: int) -> list[Person]:
        return [Person(i % NUM_RECORDINGS, i) for i in range(count)]

    groups = {
        "steady": persons(options.persons),
        "visitors": persons(options.churn),
        "excess": persons(options.persons * (options.times - 1)),
    }
    steady = grouped(groups["steady"], options.group)
    visitors = [Client([one]) for one in groups["visitors"]]
    excess = grouped(groups["excess"], options.group)

    async def run(client: Client, delay: float, frames: int, end: bool) -> None:
        await asyncio.sleep(delay)
        await client.run(url, recordings, options.fps, frames, end)

    jobs = [run(client, rng.random(), frames, True) for client in steady]
    for client in visitors:
        length = rng.choice((0, 1, rng.randrange(2, 60)))
        jobs.append(run(client, rng.random() * options.seconds, length, rng.random() < 0.5))
    jobs += [
        run(client, 2 + rng.random() * (options.seconds - 2), frames, False) for client in excess
    ]
    async with asyncio.timeout(options.seconds * 2 + 60):
        await asyncio.gather(*jobs)
    for client in steady + visitors + excess:
        client.parse()
    return groups


def grouped(persons: list[Person], size: int) -> list[Client]:
    """Return clients of so many persons each."""
    return [Client(persons[i : i + size]) for i in range(0, len(persons), size)]


def report(name: str, persons: list[Person]) -> None:
    """Print the latencies, rejections and errors of a group."""
    latencies = np.sort([seconds for one in persons for seconds in one.latencies])
    sent = sum(len(one.sent) for one in persons if not one.rejection)
    rejected = [one.rejection_seconds for one in persons if one.rejection]
    line = f"{name:8} {len(persons):4} persons, {sent:6} frames, {len(latencies):6} answers"
    if len(latencies):
        p50, p99 = (1000 * latencies[int(q * (len(latencies) - 1))] for q in (0.5, 0.99))
        line += f", p50 {p50:.1f} ms, p99 {p99:.1f} ms, max {1000 * latencies[-1]:.1f} ms"
    if rejected:
        line += f"; {len(rejected)} rejected, within {1000 * max(rejected):.0f} ms"
    print(f"{line}; {sum(one.dropped for one in persons)} dropped")
    errors = Counter(error for one in persons for error in one.errors)
    for error, count in errors.most_common(5):
        print(f"    {count} x {error}")


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--persons", type=int, default=20, help="persons that stream all the time")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--fps", type=float, default=30)
    parser.add_argument("--churn", type=int, default=200, help="clients that come and go")
    parser.add_argument("--times", type=int, default=1, help="total demand, in times of --persons")
    parser.add_argument("--capacity", type=int, help="--persons of the server; default: measured")
    parser.add_argument("--processes", type=int, help="--processes of the server")
    parser.add_argument("--group", type=int, default=5, help="persons per connection")
    parser.add_argument("--bodies", type=int, default=1, help="bodies per frame")
    return parser.parse_args()


def main() -> None:
    """Run the load test."""
    options = parse_arguments()
    recordings = random_recordings(options.model, options.bodies)
    arguments = ["--persons", str(options.capacity)] if options.capacity else []
    if options.processes is not None:
        arguments += ["--processes", str(options.processes)]
    server = Server(options.model, arguments)
    print(server.banner)
    try:
        before, own, started = server.cpu_seconds(), time.process_time(), time.perf_counter()
        groups = asyncio.run(run_clients(server.address, recordings, options))
        own, elapsed = time.process_time() - own, time.perf_counter() - started
        cpu = server.cpu_seconds() - before
        metrics = server.get("/metrics")
    finally:
        shutdown = server.stop()
    for name, persons in groups.items():
        if persons:
            report(name, persons)
    everyone = [one for persons in groups.values() for one in persons]
    worst = largest_error(options.model, recordings, everyone)
    checked = sum(len(one.logits) + bool(one.final) for one in everyone)
    print(f"{checked} different answers, largest error {worst:.1e} of the largest logit")
    answers = max(1, sum(len(one.latencies) for one in everyone))
    print(
        f"server used {cpu / elapsed:.2f} cores, {1000 * cpu / answers:.2f} ms per frame; "
        f"its clients {own / elapsed:.2f} cores"
    )
    print(f"server stopped within {shutdown:.2f} s of SIGTERM")
    for line in metrics.splitlines():
        if re.match(r"kinegraph_(rejected_total|dropped_answers_total|frames_total)", line):
            print(f"    {line}")
    if worst > TOLERANCE or any(one.errors for one in everyone):
        raise SystemExit("FAILED: wrong answers or errors")


if __name__ == "__main__":
    main()
