"""A remote session pool equals a local one, and its loss is reported."""

from __future__ import annotations

import asyncio
import pickle
import time

import numpy as np
import pytest
from websockets.asyncio.client import connect

from inference.test_session import frames_of
from inference.test_streaming_backends import recognizer
from kinegraph.clips.clip import Clip
from kinegraph.errors import ClipError, ServerError
from kinegraph.inference.session import NO_RESULT, RawFrame, SessionPool
from kinegraph.server.worker_process import RemoteSessionPool
from server.serving import receive_json, running, walk


def test_remote_pool_equals_local_pool():
    trained = recognizer([])
    here, remote = SessionPool(trained), RemoteSessionPool(trained)
    people = {0: frames_of(0), 1: frames_of(1)}
    keys = {p: (here.open({"width": 9}), remote.open({"width": 9})) for p in people}
    before = dict.fromkeys(people, NO_RESULT)
    for t in range(30):
        found = [
            pool.push_many({keys[p][i]: frames[t] for p, frames in people.items()})
            for i, pool in enumerate((here, remote))
        ]
        for p in people:
            # the remote pool answers before it computes on the frame
            result, expected, before[p] = found[1][keys[p][1]], before[p], found[0][keys[p][0]]
            assert result.frames == expected.frames
            assert (result.prediction is None) == (expected.prediction is None)
            if result.prediction is not None:
                np.testing.assert_array_equal(result.prediction.logits, expected.prediction.logits)
                assert result.prediction.candidates == expected.prediction.candidates
    for own, other in keys.values():
        got = remote.decode_snapshot(remote.snapshot(other))
        np.testing.assert_array_equal(got.logits, here.flush(own).logits)
    bad = remote.push_many({keys[0][1]: RawFrame(np.full((3, 3), 1.0))})
    assert isinstance(bad[keys[0][1]], ClipError) and remote.push_many({}) == {}
    remote.close(keys[0][1])
    remote.shutdown()
    assert remote.mode == here.mode == "step"


@pytest.mark.parametrize("transforms", [[], [{"resize": {"frames": 8}}]])
def test_a_recognizer_that_has_computed_can_be_sent(transforms):
    trained = recognizer(transforms)
    clip = Clip(walk(20)[None], trained.layout)
    expected = trained(clip)
    received = pickle.loads(pickle.dumps(trained))
    np.testing.assert_array_equal(received(clip).logits, expected.logits)


def test_a_model_that_cannot_be_pickled_is_rejected():
    trained = recognizer([])
    trained.model.own = lambda: None  # it cannot be pickled
    with pytest.raises(ServerError, match="cannot be sent to another process"):
        RemoteSessionPool(trained)


def test_a_lost_worker_process_is_reported_and_stops_the_server():
    async def stream(one) -> list[dict]:
        messages = []
        async with connect(one.stream) as socket:
            for t, joints in enumerate(walk(20)):
                if t == 10:
                    one.service.workers[0]._pool._process.kill()
                await socket.send(f'{{"person": 1, "joints": {joints.tolist()}}}')
                messages.append(await receive_json(socket))
                if "error" in messages[-1]:
                    return messages
        return messages

    with running(processes=1) as one:
        messages = asyncio.run(stream(one))
        assert messages[-1]["status"] == 500 and "exited unexpectedly" in messages[-1]["error"]
        assert "error" not in messages[0] and len(messages) >= 10
        until = time.monotonic() + 10
        while not one.server.should_exit and time.monotonic() < until:
            time.sleep(0.01)
        assert one.server.worker_lost
