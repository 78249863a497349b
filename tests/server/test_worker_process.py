"""A remote session pool equals a local one, and its loss is reported."""

from __future__ import annotations

import asyncio
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

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


def assert_close(got: np.ndarray, expected: np.ndarray) -> None:
    """Compare logits; products of other numbers of frames at a time differ in the last bit."""
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def test_remote_pool_equals_local_pool():
    """Remote answers may come later, because a request interrupts the work on earlier frames."""
    trained = recognizer([])
    local, remote = SessionPool(trained), RemoteSessionPool(trained)
    people = {0: frames_of(0), 1: frames_of(1)}
    keys = {p: (local.open({"width": 9}), remote.open({"width": 9})) for p in people}
    answers = {p: {NO_RESULT.frames: NO_RESULT.prediction} for p in people}
    lengths = {p: [0] for p in people}
    for t in range(30):
        found = [
            pool.push_many({keys[p][i]: frames[t] for p, frames in people.items()})
            for i, pool in enumerate((local, remote))
        ]
        for p in people:
            expected, result = (found[i][keys[p][i]] for i in range(2))
            # the remote pool answers before it computes on the frame
            assert lengths[p][-1] <= result.frames <= max(answers[p])
            lengths[p].append(result.frames)
            answer = answers[p][result.frames]
            assert (result.prediction is None) == (answer is None)
            if answer is not None:
                assert_close(result.prediction.logits, answer.logits)
                assert result.prediction.name == answer.name
            answers[p][expected.frames] = expected.prediction
    assert all(len(set(seen)) >= 3 for seen in lengths.values())
    for own, other in keys.values():
        got = remote.decode_snapshot(remote.snapshot(other))
        assert_close(got.logits, local.flush(own).logits)
    bad = remote.push_many({keys[0][1]: RawFrame(np.full((3, 3), 1.0))})
    assert isinstance(bad[keys[0][1]], ClipError) and remote.push_many({}) == {}
    remote.close(keys[0][1])
    remote.shutdown()
    assert remote.mode == local.mode == "step"


def test_a_process_with_a_remote_pool_can_exit(tmp_path):
    """A worker ignores SIGTERM: an exit without shutdown must not wait for it."""
    script = tmp_path / "script.py"
    script.write_text(
        "from inference.test_streaming_backends import recognizer\n"
        "from kinegraph.server.worker_process import RemoteSessionPool\n"
        "if __name__ == '__main__':\n"
        "    pool = RemoteSessionPool(recognizer([]))\n"
        "    pool.open()\n"
        "    raise SystemExit(7)\n"
    )
    tests = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([tests, *sys.path])}
    done = subprocess.run([sys.executable, script], timeout=120, check=False, env=environment)
    assert done.returncode == 7


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
