"""Loads a server with persons who stream frames, and checks every answer that it gives.

    python benchmarks/load.py MODEL --persons 20 --seconds 60
    python benchmarks/load.py MODEL --persons 20 --times 10     # ten times as many ask to come in

A server of its own is started on this machine, and spoken to over sockets. Beside the persons who
stay, clients connect and leave at random. Each answer is compared with that of the same frames
streamed without a server, to 1e-5 of the largest logit.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import struct
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

RECORDINGS = 8
TOLERANCE = 1e-5
HEAD, ENTRY = struct.Struct("<4sBBH"), struct.Struct("<Id")
Recording = NDArray[np.float32]


@dataclass
class Person:
    """What one person sent, and heard."""

    recording: int
    number: int
    sent: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    heard: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    last: tuple[int, NDArray[np.float32]] | None = None
    ended: bool = False
    refused: str = ""
    waited: float = 0.0
    errors: list[str] = field(default_factory=list)
    dropped: int = 0


@dataclass
class Connection:
    """Persons who share a socket, and what was said to them, to be read when all is over."""

    people: list[Person]
    asked: float = 0.0
    answers: int = 0
    heard: list[tuple[float, str]] = field(default_factory=list)

    async def serve(
        self, url: str, recordings: Recording, fps: float, frames: int, end: bool
    ) -> None:
        """Streams their frames on time, and hears the answers."""
        self.asked = time.perf_counter()
        try:
            async with connect(url, compression=None, max_queue=None, open_timeout=30) as socket:
                hearing = asyncio.create_task(self.hear(socket))
                try:
                    await self.send(socket, recordings, fps, frames)
                    left = [one for one in self.people if one.sent and not one.refused]
                    if end and left:
                        ends = [{"person": one.number, "end": True} for one in left]
                        await socket.send(json.dumps(ends))
                    async with asyncio.timeout(15):
                        while self.waits(left, end):
                            await asyncio.sleep(0.02)
                finally:
                    hearing.cancel()
        except (ConnectionClosed, InvalidStatus, OSError, TimeoutError) as error:
            for one in self.people:
                if not one.refused:
                    one.errors.append(f"{type(error).__name__}: {error}")

    def waits(self, left: list[Person], end: bool) -> bool:
        """Whether an answer is still to come."""
        return self.answers < sum(len(one.sent) + end for one in left if not one.refused)

    async def send(self, socket: Any, recordings: Recording, fps: float, frames: int) -> None:
        """Frames when they are due; the first at once."""
        began = time.perf_counter()
        bodies = recordings.shape[2]
        for t in range(frames):
            await asyncio.sleep(max(0.0, began + t / fps - time.perf_counter()))
            left = [one for one in self.people if not one.refused]
            if not left:
                return
            parts = [HEAD.pack(b"KGF1", 0, bodies, len(left))]
            for one in left:
                joints = recordings[one.recording, t % recordings.shape[1]]
                parts += (ENTRY.pack(one.number, t / fps), joints.tobytes())
                one.sent.append(time.perf_counter())
            await socket.send(b"".join(parts))

    async def hear(self, socket: Any) -> None:
        """Everything that the server says; only mistakes are read at once: they change things."""
        async for text in socket:
            self.heard.append((time.perf_counter(), text))
            self.answers += text.count('"frames":')
            if '"error"' in text:
                self.read()

    def read(self) -> None:
        """What was heard so far: who was told what."""
        people = {one.number: one for one in self.people}
        for now, text in self.heard:
            for told in json.loads(text):
                if "dropped" in told:
                    self.people[0].dropped = told["dropped"]
                elif "person" in told:
                    note(people[told["person"]], told, now, self.asked)
                else:
                    for one in self.people:
                        note(one, told, now, self.asked)
        self.heard.clear()


def note(one: Person, told: dict, now: float, asked: float) -> None:
    """What was said of a person."""
    if "error" in told:
        if told["status"] == 503 and not one.seconds:
            one.refused, one.waited = told["error"], now - (one.sent or [asked])[0]
        else:
            one.errors.append(told["error"])
        return
    logits = np.array(told["logits"], np.float32) if told["name"] is not None else None
    if "frame" in told:
        one.seconds.append(now - one.sent[told["frame"]])
        if logits is not None:
            before = one.heard.setdefault(told["frames"], logits)
            if not np.array_equal(before, logits):
                one.errors.append(f"two answers for {told['frames']} frames")
        return
    one.ended = True
    if logits is not None:
        one.last = (told["frames"], logits)


def recorded(model: str, persons: int) -> Recording:
    """(recordings, frames, persons, V, D): walks of joints, all of them different."""
    from kinegraph.inference.online_preprocessing import input_frame_shape
    from kinegraph.inference.recognizer import Recognizer

    V, D = input_frame_shape(Recognizer.load(model))
    rng = np.random.default_rng(0)
    start = rng.normal(0, 1, (RECORDINGS, 1, persons, V, D))
    steps = rng.normal(0, 0.05, (RECORDINGS, 4096, persons, V, D)).cumsum(axis=1)
    return (start + steps).astype(np.float32)


def check(model: str, recordings: Recording, people: list[Person]) -> float:
    """The largest difference of any answer from that without a server, in largest logits."""
    from kinegraph.inference.recognizer import Recognizer

    recognizer = Recognizer.load(model)
    worst = 0.0
    for number, joints in enumerate(recordings):
        own = [one for one in people if one.recording == number and one.sent]
        longest = max((len(one.sent) for one in own), default=0)
        wanted = {one.last[0] for one in own if one.last}
        offline, ends = streamed(recognizer, joints, longest, wanted)
        pairs = [(offline[k], logits) for one in own for k, logits in one.heard.items()]
        pairs += [(ends[one.last[0]], one.last[1]) for one in own if one.last]
        worst = max(worst, *(np.abs(a - b).max() / np.abs(a).max() for a, b in pairs), 0.0)
    return float(worst)


def streamed(
    recognizer: Any, joints: Recording, frames: int, wanted: set[int]
) -> tuple[dict[int, NDArray], dict[int, NDArray]]:
    """Of so many frames without a server: answers to the first k as soon as they can be had, and
    those to all of the first k that are wanted."""
    from kinegraph.inference.session import RawFrame, SessionPool

    pool = SessionPool(recognizer, "step", chunk_frames=1)
    key = pool.open()
    answers, ends = {}, {}
    for t in range(frames):
        result = pool.push_many({key: RawFrame(joints[t % len(joints)])})[key]
        if result.prediction is not None:
            answers[result.frames] = result.prediction.logits
        if t + 1 in wanted:
            ends[t + 1] = pool.flush(key).logits
    return answers, ends


class Server:
    """`kinegraph serve` on a free port of this machine."""

    def __init__(self, model: str, options: list[str]) -> None:
        command = [sys.executable, "-m", "kinegraph", "serve", model, "--port", "0", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline().strip()
        found = re.search(r"http://(\S+)/", self.said)
        if not found:
            raise SystemExit(f"the server did not start: {self.said}")
        self.said += "; " + self.process.stdout.readline().strip()
        self.address = found[1]

    def get(self, path: str) -> str:
        """What it says at a path."""
        with urllib.request.urlopen(f"http://{self.address}{path}", timeout=10) as answer:
            return str(answer.read().decode())

    def busy(self) -> float:
        """Seconds of processors that it has used, where the system tells."""
        stat = Path(f"/proc/{self.process.pid}/stat")
        if not stat.exists():
            return 0.0
        ticks = stat.read_text().rpartition(")")[2].split()[11:13]
        return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> float:
        """Seconds until it has ended."""
        began = time.perf_counter()
        self.process.terminate()
        self.process.wait(timeout=30)
        return time.perf_counter() - began


async def play(address: str, recordings: Recording, asked: argparse.Namespace) -> dict:
    """Everybody at once: who stays, who comes and goes, and who comes in vain."""
    url = f"ws://{address}/v1/stream?logits=true&coalesce=true"
    rng = random.Random(0)
    frames = int(asked.seconds * asked.fps)
    stay = [Person(i % RECORDINGS, i) for i in range(asked.persons)]
    visit = [Person(i % RECORDINGS, i) for i in range(asked.churn)]
    crowd = [Person(i % RECORDINGS, i) for i in range(asked.persons * (asked.times - 1))]

    staying = [Connection(people) for people in grouped(stay, asked.group)]
    visiting = [Connection([one]) for one in visit]
    coming = [Connection(people) for people in grouped(crowd, asked.group)]

    async def joins(one: Connection, after: float, frames: int, end: bool) -> None:
        await asyncio.sleep(after)
        await one.serve(url, recordings, asked.fps, frames, end)

    jobs = [joins(one, rng.random(), frames, True) for one in staying]
    for one in visiting:
        length = rng.choice((0, 1, rng.randrange(2, 60)))
        jobs.append(joins(one, rng.random() * asked.seconds, length, rng.random() < 0.5))
    late = asked.seconds - 2
    jobs += [joins(one, 2 + rng.random() * late, frames, False) for one in coming]
    async with asyncio.timeout(asked.seconds * 2 + 60):
        await asyncio.gather(*jobs)
    for one in staying + visiting + coming:
        one.read()
    return {"stay": stay, "visit": visit, "crowd": crowd}


def grouped(people: list[Person], size: int) -> list[list[Person]]:
    """So many persons a connection."""
    return [people[i : i + size] for i in range(0, len(people), size)]


def told(name: str, people: list[Person]) -> None:
    """A line of figures."""
    seconds = np.sort([s for one in people for s in one.seconds])
    sent = sum(len(one.sent) for one in people if not one.refused)
    refused = [one.waited for one in people if one.refused]
    line = f"{name:8} {len(people):4} persons, {sent:6} frames, {len(seconds):6} answers"
    if len(seconds):
        p50, p99 = (1000 * seconds[int(q * (len(seconds) - 1))] for q in (0.5, 0.99))
        line += f", p50 {p50:.1f} ms, p99 {p99:.1f} ms, max {1000 * seconds[-1]:.1f} ms"
    if refused:
        line += f"; {len(refused)} refused, within {1000 * max(refused):.0f} ms"
    dropped = sum(one.dropped for one in people)
    print(f"{line}; {dropped} dropped")
    wrong = Counter(error for one in people for error in one.errors)
    for error, count in wrong.most_common(5):
        print(f"    {count} x {error}")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--persons", type=int, default=20, help="who stay all the time")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--fps", type=float, default=30)
    parser.add_argument("--churn", type=int, default=200, help="clients who come and go")
    parser.add_argument("--times", type=int, default=1, help="so many times as many want to come")
    parser.add_argument("--room", type=int, help="--persons of the server; default: what it finds")
    parser.add_argument("--processes", type=int, help="of the server")
    parser.add_argument("--group", type=int, default=5, help="persons of a connection")
    parser.add_argument("--bodies", type=int, default=1, help="bodies in a frame")
    asked = parser.parse_args()
    recordings = recorded(asked.model, asked.bodies)
    options = ["--persons", str(asked.room)] if asked.room else []
    options += ["--processes", str(asked.processes)] if asked.processes is not None else []
    server = Server(asked.model, options)
    print(server.said)
    try:
        before, own, began = server.busy(), time.process_time(), time.perf_counter()
        people = asyncio.run(play(server.address, recordings, asked))
        own, passed = time.process_time() - own, time.perf_counter() - began
        busy = server.busy() - before
        metrics = server.get("/metrics")
    finally:
        ended = server.stop()
    for name, group in people.items():
        if group:
            told(name, group)
    everybody = [one for group in people.values() for one in group]
    worst = check(asked.model, recordings, everybody)
    checked = sum(len(one.heard) + bool(one.last) for one in everybody)
    print(f"{checked} different answers, off by {worst:.1e} of the largest logit at most")
    answers = max(1, sum(len(one.seconds) for one in everybody))
    print(
        f"server used {busy / passed:.2f} cores, {1000 * busy / answers:.2f} ms a frame; "
        f"its clients {own / passed:.2f} cores"
    )
    print(f"server ended within {ended:.2f} s of SIGTERM")
    for line in metrics.splitlines():
        if re.match(r"kinegraph_(rejected_total|dropped_answers_total|frames_total)", line):
            print(f"    {line}")
    wrong = [error for one in everybody for error in one.errors]
    if worst > TOLERANCE or wrong:
        raise SystemExit("NOT AS IT SHOULD BE")


if __name__ == "__main__":
    main()
