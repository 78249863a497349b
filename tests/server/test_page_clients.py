"""Clients that were written from docs/serving.md alone: one in Python, one in JavaScript."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from inference.test_streaming_backends import recognizer
from kinegraph.inference.session import open_session
from server.serving import running, walk

HERE = Path(__file__).parent
TOKEN = "a token of letters"


@pytest.fixture(scope="module")
def people() -> dict[str, list]:
    """Return the frames of two persons, with a joint that is not always visible."""
    frames = {"left": walk(40, seed=1), "right": walk(25, seed=2)}
    frames["left"][5:9, 3] = np.nan
    return {
        name: [
            [[x if np.isfinite(x) else None for x in joint] for joint in f] for f in one.tolist()
        ]
        for name, one in frames.items()
    }


@pytest.fixture(scope="module")
def expected(people) -> dict[str, np.ndarray]:
    """Return the last logits of each person without a server."""
    found = {}
    for name, frames in people.items():
        session = open_session(recognizer([]))
        for frame in frames:
            session.push(np.array(frame, np.float32)[None])
        found[name] = session.flush().logits
    return found


def command(language: str) -> list[str]:
    """Return the command of a client."""
    if language == "python":
        return [sys.executable, str(HERE / "page_client.py")]
    return [*node_with_websocket(), str(HERE / "page_client.mjs")]


def node_with_websocket() -> list[str]:
    """Return the command of node, with the option that older versions need for websockets."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("NODE IS ABSENT: the clients in JavaScript are not run")
    for options in ([], ["--experimental-websocket"]):
        words = [node, *options, "-p", "typeof WebSocket"]
        found = subprocess.run(words, capture_output=True, text=True, check=False)
        if found.stdout.strip() == "function":
            return [node, *options]
    pytest.skip("NODE IS TOO OLD FOR WEBSOCKETS: the clients in JavaScript are not run")


def run_client(language: str, port: int, people: dict) -> dict:
    """Run a client and return what it prints."""
    done = subprocess.run(
        [*command(language), f"127.0.0.1:{port}", TOKEN],
        input=json.dumps(people),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def assert_last_answers(found: dict, expected: dict) -> None:
    assert set(found["last"]) == set(expected)
    for name, logits in expected.items():
        np.testing.assert_allclose(found["last"][name]["logits"], logits, atol=1e-5)


@pytest.mark.parametrize("language", ["python", "javascript"])
def test_a_client_of_the_page_gets_the_answers_of_a_session(language, people, expected):
    with running(token=TOKEN) as server:
        found = run_client(language, server.port, people)
    assert found["connections"] == 1
    assert_last_answers(found, expected)


@pytest.mark.parametrize("language", ["python", "javascript"])
def test_a_client_of_the_page_goes_on_after_a_worker_is_lost(language, people, expected):
    def lose_worker(server) -> None:
        deadline = time.monotonic() + 30
        while not server.service.persons and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.3)
        service = server.service
        for connection in list(service.connections):
            service._loop.call_soon_threadsafe(connection.on_worker_lost, service.workers[0])

    with running(token=TOKEN) as server:
        thread = threading.Thread(target=lose_worker, args=(server,))
        thread.start()
        found = run_client(language, server.port, people)
        thread.join()
    assert found["connections"] == 2
    assert_last_answers(found, expected)
