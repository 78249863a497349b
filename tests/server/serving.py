"""A server for tests: a small untrained model on a free port, in a thread."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from conftest import made_up_clips
from inference.test_streaming_backends import recognizer
from kinegraph.server.limits import Limits
from kinegraph.server.serve import create_server, open_socket

FRAMES = made_up_clips()[0].joints.shape[2:]


class Running:
    """A running server with its service."""

    def __init__(self, server: Any, service: Any, port: int) -> None:
        self.server, self.service, self.port = server, service, port
        self.url = f"http://127.0.0.1:{port}"
        self.stream = f"ws://127.0.0.1:{port}/v1/stream"

    def stop(self) -> None:
        """Stop the server as SIGTERM does."""
        self.server.should_exit = True


@contextmanager
def running(
    transforms: list | None = None, token: str | None = None, **options: Any
) -> Iterator[Running]:
    """Run a server with limits and options."""
    limits = {k: options.pop(k) for k in list(options) if k in Limits.__dataclass_fields__}
    services: list[Any] = []
    listening = open_socket("127.0.0.1", 0, token)
    trained = options.pop("recognizer", None) or recognizer(transforms or [])
    given = Limits(**{"max_persons": 8, "latency_target": 60.0, **limits})  # test machines are busy
    server = create_server(
        trained,
        token=token,
        limits=given,
        name="two",
        on_ready=services.append,
        **{"processes": 0, **options},
    )
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    while not services:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield Running(server, services[0], listening.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def walk(frames: int = 40, seed: int = 0) -> np.ndarray:
    """Return random joints of one person, (frames, V, D)."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(0, 0.1, (frames, *FRAMES)).cumsum(axis=0)
    return (rng.normal(size=FRAMES) + steps).astype(np.float32)


async def receive_json(socket: Any, seconds: float = 5.0) -> dict:
    """Return the next message of the server."""
    return json.loads(await asyncio.wait_for(socket.recv(), seconds))
