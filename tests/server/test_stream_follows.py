"""A websocket stream follows the present: a new action has its name soon after it began."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from websockets.asyncio.client import connect

from inference.test_session import poses
from kinegraph.inference.recognizer import Recognizer
from kinegraph.training.checkpoint import load_model
from server.serving import receive_json, running
from server.test_server import packed


@pytest.mark.parametrize("transforms", [["stream"], [{"resize": {"frames": 8}}, "stream"]])
def test_a_new_action_is_named_within_four_seconds(tiny_run, transforms):
    model, header = load_model(tiny_run)
    recognizer = Recognizer(model, replace(header, transforms=transforms))

    async def names(url: str) -> list[str | None]:
        async with connect(url) as socket:
            found = []
            for part in (poses(0, 1800), poses(1, 120)):
                for joints in part[:, 0]:
                    await socket.send(packed({1: joints}))
                    found.append((await receive_json(socket, 30.0))["name"])
        return found

    with running(recognizer=recognizer, frame_rate=5000.0) as one:
        found = asyncio.run(names(one.stream))
    assert set(found[100:1800]) == {"here"}
    assert found[-1] == "there"
