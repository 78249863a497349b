"""The websocket of a video, with a pose estimator that needs no images of people."""

from __future__ import annotations

import asyncio
import io
import json
import runpy
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from pydantic import TypeAdapter
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from inference.test_streaming_backends import recognizer
from kinegraph.errors import VideoError
from kinegraph.server import ws_video
from kinegraph.server.message_schemas import (
    ImageAnswer,
    Skeleton,
    StreamRejection,
    VideoEnd,
    VideoServer,
    message_schemas,
)
from kinegraph.server.ws_video import TIME
from kinegraph.video.estimators.base import PoseFrame
from kinegraph.video.segmentation import Segment
from server.serving import receive_json, running, walk
from test_docs import blocks
from video.synthetic_videos import picture, require_av, write_video

LAYOUT = recognizer([]).layout


class OnePerson:
    """A pose estimator that sees a person in every image."""

    layout = LAYOUT
    people = 1

    def __call__(self, image: np.ndarray, time: float) -> PoseFrame:
        joints = np.random.default_rng(0).uniform(10, 40, (1, LAYOUT.num_joints, 2))
        confidence = np.ones((1, LAYOUT.num_joints), np.float32)
        height, width = image.shape[:2]
        return PoseFrame(time, joints.astype(np.float32), confidence, width, height)

    def close(self) -> None:
        pass


@pytest.fixture
def server(monkeypatch):
    pytest.importorskip("PIL", reason="PILLOW IS ABSENT")
    monkeypatch.setattr(ws_video, "missing_requirement", lambda: None)
    monkeypatch.setattr(ws_video, "load_estimator", OnePerson)
    with running(max_videos=1, max_errors=3) as one:
        one.video = one.stream.replace("stream", "video")
        yield one


def image(time: float, size: int = 64) -> bytes:
    """A message with a gray image."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (size, 48)).save(file, "JPEG")
    return TIME.pack(time) + file.getvalue()


async def receive_checked(ws, kind: type) -> dict:
    """Return the next message, which fits the schema of its kind only."""
    message = await receive_json(ws)
    assert type(TypeAdapter(VideoServer).validate_python(message)) is kind
    return message


def test_the_schemas_of_a_video_are_those_of_the_page(server):
    schema = httpx.get(f"{server.url}/v1/video/schema").json()
    kept = Path(__file__).parents[2] / "docs" / "video.schema.json"
    assert json.loads(kept.read_text()) == schema == message_schemas("video")
    assert "ImageAnswer" in httpx.get(f"{server.url}/docs").text


def test_images_are_answered_until_a_text_ends_the_video(server):
    async def client() -> None:
        async with connect(server.video) as ws:
            skeleton = await receive_checked(ws, Skeleton)
            assert len(skeleton["joints"]) == LAYOUT.num_joints and skeleton["people"] == 1
            for t in range(20):
                await ws.send(image(t / 30))
                message = await receive_checked(ws, ImageAnswer)
                assert message["time"] == t / 30 and (message["width"], message["height"]) == (
                    64,
                    48,
                )
                assert len(message["persons"][0]["joints"]) == LAYOUT.num_joints
            await ws.send(json.dumps({"end": True}))
            message = await receive_checked(ws, VideoEnd)
            assert message["end"] and "name" in message["main"]
            with pytest.raises(ConnectionClosed) as end:
                await ws.recv()
            assert end.value.rcvd.code == 1000

    asyncio.run(client())


def test_the_program_of_the_page_sends_a_video(server, tmp_path, monkeypatch, capsys):
    require_av()
    page = Path(__file__).parents[2] / "docs" / "serving.md"
    (program,) = [code for mark, code in blocks(page) if mark == "python video"]
    (tmp_path / "program.py").write_text(program.replace("127.0.0.1:8000", server.url[7:]))
    write_video(tmp_path / "video.mp4", [picture(90)] * 12)
    monkeypatch.chdir(tmp_path)
    runpy.run_path("program.py")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == LAYOUT.name and len(lines) == 14 and "'name':" in lines[-1]


@pytest.mark.parametrize("ends", [True, False])
def test_segments_of_a_video_are_events_even_if_the_client_leaves(monkeypatch, ends):
    monkeypatch.setattr(ws_video, "missing_requirement", lambda: None)
    monkeypatch.setattr(ws_video, "load_estimator", OnePerson)
    sent: list[tuple[str, Segment]] = []

    async def client(one) -> None:
        async with connect(one.stream.replace("stream", "video") + "?source=door") as ws:
            await receive_json(ws)
            for t in range(60):
                await ws.send(image(t / 30))
                await receive_json(ws)
            if ends:
                await ws.send("end")
                await receive_json(ws)

    def send_segments(source, segments) -> None:
        sent.extend((source, segment) for segment in segments)
        raise VideoError("cannot write events.jsonl: No space left on device")

    with running(send_segments=send_segments) as one:
        asyncio.run(client(one))
        deadline = time.monotonic() + 10
        while not sent and time.monotonic() < deadline:
            time.sleep(0.02)
    ((source, segment),) = sent
    assert (source, segment.start) == ("door", 0) and segment.end == pytest.approx(2, abs=0.05)


def test_wrong_images_are_rejected_and_many_of_them_end_the_video(server):
    async def client() -> None:
        async with connect(server.video) as ws:
            await receive_json(ws)
            await ws.send(image(1.0))
            assert "persons" in await receive_json(ws)
            for wrong, words in (
                (b"12", "8 bytes"),
                (image(1.0), "after 1 s"),
                (image(2.0, 4000), "1920 pixels"),
                (TIME.pack(3.0) + b"no image", "JPEG"),
            ):
                await ws.send(wrong)
                assert words in (await receive_checked(ws, StreamRejection))["error"]
            with pytest.raises(ConnectionClosed):
                await ws.recv()

    asyncio.run(client())


def test_videos_beyond_the_limit_are_rejected(server):
    async def clients() -> None:
        async with connect(server.video) as first, connect(server.video) as second:
            await receive_json(first)
            assert (await receive_json(second))["status"] == 503
            with pytest.raises(ConnectionClosed) as end:
                await second.recv()
            assert end.value.rcvd.code == 1013

    asyncio.run(clients())


def test_shutdown_sends_the_last_segments(server):
    async def client() -> None:
        async with connect(server.video) as ws:
            await receive_json(ws)
            await ws.send(image(0.0))
            await receive_json(ws)
            server.stop()
            assert (await receive_json(ws))["end"]
            with pytest.raises(ConnectionClosed) as end:
                await ws.recv()
            assert end.value.rcvd.code == 1001

    asyncio.run(client())


def test_a_missing_estimator_is_reported(monkeypatch):
    monkeypatch.setattr(ws_video, "missing_requirement", lambda: "install it")

    async def client(one) -> None:
        async with connect(one.stream.replace("stream", "video")) as ws:
            assert await receive_json(ws) == {"error": "install it", "status": 501}

    with running() as one:
        asyncio.run(client(one))


def test_the_window_of_the_server_is_that_of_videos(monkeypatch):
    windows = []

    class Recorded(ws_video.ActionPipeline):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            windows.append(self.window)

    monkeypatch.setattr(ws_video, "missing_requirement", lambda: None)
    monkeypatch.setattr(ws_video, "load_estimator", OnePerson)
    monkeypatch.setattr(ws_video, "ActionPipeline", Recorded)

    async def client(one) -> None:
        async with connect(one.stream.replace("stream", "video")) as ws:
            await receive_json(ws)

    for options in ({}, {"window": 5.0}):
        with running(**options) as one:
            asyncio.run(client(one))
    assert windows == [3.0, 5.0]


def test_a_taught_model_recognizes_the_actions_of_a_video(server):
    examples = {name: [{"joints": walk(seed=seed).tolist()}] for seed, name in enumerate("ab")}
    body = {"examples": examples}
    taught = httpx.post(f"{server.url}/v1/teach", json=body, timeout=60).json()

    async def client(model: str) -> dict:
        async with connect(f"{server.video}?model={model}") as ws:
            message = await receive_json(ws)
            for t in range(30 if "bones" in message else 0):
                await ws.send(image(t / 30))
                message = await receive_json(ws)
            return message

    answer = asyncio.run(client(taught["id"]))
    assert answer["persons"][0]["name"] in ("a", "b", "unknown")
    assert "no taught model 'other'" in asyncio.run(client("other"))["error"]
