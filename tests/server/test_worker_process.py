"""A remote session pool equals a local one, and its loss is reported."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from inference.test_session import frames_of
from inference.test_streaming_backends import recognizer
from kinegraph.clips.clip import Clip
from kinegraph.errors import ClipError, ServerError
from kinegraph.inference.session import NO_RESULT, RawFrame, SessionPool
from kinegraph.server.batch_worker import BatchWorker
from kinegraph.server.worker_process import RemoteSessionPool
from server.serving import receive_json, running, walk
from server.test_server import assert_answers


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


def processes_of(one) -> dict[str, int]:
    """Return the process ids of a server's worker, its flush process and a template."""
    return {
        "worker": one.service.workers[0]._pool._pid,
        "flush": one.service._flush_executor._pool._pid,
        "template": one.service._templates._templates[0].result(30)._pid,
    }


def health(one) -> dict:
    return httpx.get(f"{one.url}/health", timeout=10).json()


async def wait_until(condition, seconds: float = 30.0) -> None:
    """Wait until a condition holds; busy machines take their time."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("is_idle", [False, True])
def test_a_lost_worker_is_replaced_and_its_streams_are_refused(is_idle):
    """Its client gets one sentence and the code 1012, and goes on with a new connection."""
    frames = walk(40)

    async def stream(one) -> list[dict]:
        messages: list[dict] = []
        async with connect(f"{one.stream}?logits=true") as socket:
            for t, joints in enumerate(frames):
                await socket.send(f'{{"person": 1, "joints": {joints.tolist()}}}')
                messages.append(await receive_json(socket, 20))
                assert messages[-1].get("frame") == t, messages[-1]
        return messages

    async def lose(one) -> None:
        async with connect(one.stream) as socket, connect(one.stream) as empty:
            lost = one.service.workers[0]
            for t, joints in enumerate(frames[:20]):
                await socket.send(f'{{"person": 1, "joints": {joints.tolist()}}}')
                assert (await receive_json(socket))["frame"] == t
            os.kill(processes_of(one)["worker"], signal.SIGKILL)
            if not is_idle:
                await socket.send(f'{{"person": 1, "joints": {joints.tolist()}}}')
            last = await receive_json(socket)
            while "error" not in last:
                last = await receive_json(socket)
            assert last["status"] == 503 and "restart the streams" in last["error"]
            with pytest.raises(ConnectionClosed) as end:
                await socket.recv()
            assert end.value.rcvd.code == 1012 and end.value.rcvd.reason in last["error"]
            await wait_until(lambda: one.service.workers and lost not in one.service.workers)
            await empty.send(f'{{"person": 1, "joints": {frames[0].tolist()}}}')
            assert (await receive_json(empty))["frame"] == 0  # it had no stream

    with running(processes=1, frame_rate=2000.0) as one:
        asyncio.run(lose(one))
        messages = asyncio.run(stream(one))
        asyncio.run(wait_until(lambda: health(one)["status"] == "ok"))
        assert httpx.get(f"{one.url}/metrics").text.count("kinegraph_lost_workers_total 1.0") == 1
    assert_answers(messages, frames)


def test_other_lost_processes_disturb_no_stream():
    """The process of flushes and a template are replaced under way."""
    frames = walk(60)

    async def stream(one) -> list[dict]:
        before, messages = processes_of(one), []
        async with connect(f"{one.stream}?logits=true") as socket:
            for t, joints in enumerate(frames):
                if t == 10:
                    for pid in (before["flush"], before["template"]):
                        os.kill(pid, signal.SIGKILL)
                await socket.send(f'{{"person": 1, "joints": {joints.tolist()}}}')
                messages.append(await receive_json(socket))
                assert messages[-1].get("frame") == t, messages[-1]
                if t == 10:
                    await socket.send('{"person": 1, "flush": true}')
                    flushed = await receive_json(socket, 60)
                    assert flushed["flush"] and flushed["frames"] == 11, flushed
        await wait_until(lambda: health(one)["status"] == "ok")
        after = processes_of(one)
        assert after["worker"] == before["worker"]
        assert not {after["flush"], after["template"]} & {*before.values()}
        return messages

    with running(processes=1, frame_rate=2000.0) as one:
        messages = asyncio.run(stream(one))
    assert_answers(messages, frames)


def test_a_worker_that_is_lost_while_it_starts_is_replaced(monkeypatch):
    start, killed = BatchWorker.start, []

    def start_and_lose(worker: BatchWorker) -> None:
        start(worker)
        if len(killed) < 2:
            killed.append(worker)
            os.kill(worker._pool._pid, signal.SIGKILL)
            while not worker.is_lost:
                time.sleep(0.01)

    async def clients(one) -> None:
        monkeypatch.setattr(BatchWorker, "start", start_and_lose)
        os.kill(processes_of(one)["worker"], signal.SIGKILL)
        await wait_until(lambda: len(killed) == 2 and health(one)["status"] == "ok")
        assert one.service.workers[0] not in killed

    with running(processes=1) as one:
        asyncio.run(clients(one))


def test_health_is_honest_while_no_worker_runs(monkeypatch):
    """Workers that cannot be started are tried again; until then no stream is admitted."""

    def fail() -> None:
        raise ServerError("out of memory")

    async def clients(one) -> None:
        take = one.service._create_pool
        monkeypatch.setattr(one.service, "_create_pool", fail)
        os.kill(processes_of(one)["worker"], signal.SIGKILL)
        await wait_until(lambda: not one.service.workers)
        answer = httpx.get(f"{one.url}/health")
        assert answer.status_code == 503 and answer.json()["status"] == "unavailable"
        async with connect(one.stream) as socket:
            await socket.send(f'{{"person": 1, "joints": {walk(1)[0].tolist()}}}')
            refused = await receive_json(socket)
            assert refused["status"] == 503 and "being restarted" in refused["error"]
        monkeypatch.setattr(one.service, "_create_pool", take)
        await wait_until(lambda: health(one)["status"] == "ok")

    with running(processes=1) as one:
        asyncio.run(clients(one))
