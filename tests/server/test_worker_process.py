"""A crowd in a process of its own says what a crowd in this one says, and is missed if it ends."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest
from websockets.asyncio.client import connect

from inference.test_session import frames_of
from inference.test_streaming_backends import recognizer
from kinegraph.errors import ClipError, ServerError
from kinegraph.inference.session import NO_RESULT, RawFrame, SessionPool
from kinegraph.server.worker_process import RemoteSessionPool
from server.serving import heard, running, walk


def test_it_says_what_a_crowd_here_says():
    asked = recognizer([])
    here, apart = SessionPool(asked), RemoteSessionPool(asked)
    people = {0: frames_of(0), 1: frames_of(1)}
    keys = {p: (here.open({"width": 9}), apart.open({"width": 9})) for p in people}
    before = dict.fromkeys(people, NO_RESULT)
    for t in range(30):
        found = [
            crowd.push_many({keys[p][i]: frames[t] for p, frames in people.items()})
            for i, crowd in enumerate((here, apart))
        ]
        for p in people:
            # it says what it knows, and works on the frame then
            told, expected, before[p] = found[1][keys[p][1]], before[p], found[0][keys[p][0]]
            assert told.frames == expected.frames
            assert (told.prediction is None) == (expected.prediction is None)
            if told.prediction is not None:
                np.testing.assert_array_equal(told.prediction.logits, expected.prediction.logits)
                assert told.prediction.candidates == expected.prediction.candidates
    for own, other in keys.values():
        got = apart.decode_snapshot(apart.snapshot(other))
        np.testing.assert_array_equal(got.logits, here.flush(own).logits)
    bad = apart.push_many({keys[0][1]: RawFrame(np.full((3, 3), 1.0))})
    assert isinstance(bad[keys[0][1]], ClipError) and apart.push_many({}) == {}
    apart.close(keys[0][1])
    apart.shutdown()
    assert apart.mode == here.mode == "step"


def test_a_model_that_cannot_be_sent_is_refused():
    asked = recognizer([])
    asked.model.own = lambda: None  # no other process could have it
    with pytest.raises(ServerError, match="cannot be sent to another process"):
        RemoteSessionPool(asked)


def test_a_server_whose_process_has_ended_says_so_and_ends():
    async def spoken(one) -> list[dict]:
        told = []
        async with connect(one.stream) as socket:
            for t, joints in enumerate(walk(20)):
                if t == 10:
                    one.service.workers[0]._pool._process.kill()
                await socket.send(f'{{"person": 1, "joints": {joints.tolist()}}}')
                told.append(await heard(socket))
                if "error" in told[-1]:
                    return told
        return told

    with running(processes=1) as one:
        told = asyncio.run(spoken(one))
        assert told[-1]["status"] == 500 and "exited unexpectedly" in told[-1]["error"]
        assert "error" not in told[0] and len(told) >= 10
        until = time.monotonic() + 10
        while not one.server.should_exit and time.monotonic() < until:
            time.sleep(0.01)
        assert one.server.worker_lost
