"""The server over real sockets: answers, rejections and shutdown."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import socket
import subprocess
import sys
import zipfile
from functools import cache
from pathlib import Path

import httpx
import numpy as np
import pytest
from pydantic import TypeAdapter
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from inference.test_session import alone
from inference.test_streaming_backends import recognizer
from kinegraph.errors import ServerError
from kinegraph.inference.recognizer import Recognizer
from kinegraph.inference.session import RawFrame, open_session
from kinegraph.server.auth import SUBPROTOCOL, TOKEN_PREFIX
from kinegraph.server.errors import RequestRejectedError
from kinegraph.server.limits import Limits, TokenBucket
from kinegraph.server.message_schemas import (
    Client,
    EndAnswer,
    FlushAnswer,
    FrameAnswer,
    Server,
    StreamRejection,
    message_schemas,
)
from kinegraph.server.protocol import HEADER, MAGIC, PERSON_HEADER, decode_binary
from kinegraph.server.schemas import ClipPayload
from kinegraph.server.serve import create_server, open_socket
from server.serving import receive_json, running, walk

TOKEN = "a token of letters"


def token_subprotocol(token: str) -> str:
    """Encode a token as a browser does."""
    return TOKEN_PREFIX + base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")


@pytest.fixture(scope="module")
def server():
    """A server with a high rate limit."""
    with running(frame_rate=2000.0) as one:
        yield one


def npz(**arrays) -> bytes:
    """Return an .npz file of arrays."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


# --------------------------------------------------------------------- clips


def test_predict_equals_the_command_line(server):
    trained, clip = recognizer([]), walk()
    from kinegraph.clips.clip import Clip
    from kinegraph.inference.predict import Predictor

    expected = Predictor(trained, None, 2)(Clip(clip[None], trained.layout, id="w", fps=30.0))
    body = {"joints": clip.tolist(), "id": "w", "fps": 30}
    answer = httpx.post(f"{server.url}/v1/predict?top=2", json=body)
    assert answer.status_code == 200 and set(answer.json()) == set(expected)
    assert len(answer.json()["top"]) == 2 and answer.json()["id"] == "w"
    np.testing.assert_allclose(answer.json()["logits"], expected["logits"], atol=1e-6)
    packed = httpx.post(
        f"{server.url}/v1/predict",
        content=npz(joints=clip[None], fps=np.array(30.0)),
        headers={"content-type": "application/x-npz"},
    )
    np.testing.assert_allclose(packed.json()["logits"], expected["logits"], atol=1e-6)


def test_persons_and_frames_in_the_wrong_order_are_refused(server):
    joints = np.zeros((40, 2, 15, 2)).tolist()
    answer = httpx.post(f"{server.url}/v1/predict", json={"joints": joints})
    assert answer.status_code == 400 and "40 persons of 2 frames" in answer.text


def test_null_joints_are_missing(server):
    clip = walk()
    gaps = clip.copy()
    gaps[3, 2] = np.nan
    listed = clip.tolist()
    listed[3][2] = None
    url = f"{server.url}/v1/predict"
    kinds = {"content-type": "application/octet-stream"}
    packed = httpx.post(url, content=npz(joints=gaps), headers=kinds).json()
    for joints in (listed, [listed]):
        assert httpx.post(url, json={"joints": joints}).json()["logits"] == packed["logits"]


def test_the_first_frame_may_be_null_as_a_whole_or_joint_by_joint(server):
    listed = walk().tolist()
    answers = []
    for first in (None, [None] * 15, [[None, None]] * 15):
        answer = httpx.post(f"{server.url}/v1/predict", json={"joints": [first, *listed[1:]]})
        assert answer.status_code == 200, answer.text
        answers.append(answer.json()["logits"])
    assert answers[0] == answers[1] == answers[2]


def test_wrong_stream_options_are_rejected(server):
    async def client(query: str) -> dict:
        async with connect(f"{server.stream}?{query}") as ws:
            message = await receive_json(ws)
            with pytest.raises(ConnectionClosed):
                await ws.recv()
            return message

    for query in ("top=x", "top=-1", "logits=7"):
        message = asyncio.run(client(query))
        assert message["status"] == 422 and query.partition("=")[0] in message["error"]


def bomb() -> bytes:
    """Return a small file that unpacks to a very large array."""
    file = io.BytesIO()
    with (
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("joints.npy", "w", force_zip64=True) as member,
    ):
        np.lib.format.write_array_header_1_0(
            member, {"descr": "<f4", "fortran_order": False, "shape": (10**7, 15, 2)}
        )
        for _ in range(100):
            member.write(bytes(10**6))
    return file.getvalue()


def many_entries() -> bytes:
    """Return a file with too many entries."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for i in range(200):
            archive.writestr(f"{i}.npy", b"")
    return file.getvalue()


JSON, NPZ = "application/json", "application/x-npz"
BAD = {
    "text": (JSON, b"hello", 400, "as JSON"),
    "binary": (JSON, b"\xff\xfe\x00", 400, "as JSON"),
    "deep": (JSON, b"[" * 100_000, 400, "as JSON"),
    "list": (JSON, b"[]", 400, "joints"),
    "no joints": (JSON, b"{}", 400, "joints"),
    "null": (JSON, b'{"joints": null}', 400, "joints"),
    "words": (JSON, b'{"joints": [["a"]]}', 400, "numbers"),
    "null upon null": (JSON, b'{"joints": [[null], [[null, 1], [2]]]}', 400, "numbers"),
    "only null": (JSON, b'{"joints": [null, null]}', 400, "numbers|no joint|shape"),
    "ragged": (JSON, b'{"joints": [[[1, 2], [1]]]}', 400, "numbers"),
    "flat": (JSON, b'{"joints": [1, 2]}', 400, "shape"),
    "nothing": (JSON, b'{"joints": [[[null, null]]]}', 400, "no joint"),
    "infinite": (JSON, b'{"joints": [[[1e999, 0]]]}', 400, "infinite|joints"),
    "other layout": (JSON, b'{"joints": [[[1, 2]]], "layout": "ntu-25"}', 400, "did you mean"),
    "unknown key": (JSON, b'{"joints": [[[1, 2]]], "jiont": 3}', 400, "unknown key"),
    "fps": (JSON, b'{"joints": [[[1, 2]]], "fps": -1}', 400, "fps"),
    "meta": (JSON, b'{"joints": [[[1, 2]]], "meta": {"a": []}}', 400, "meta"),
    "too many joints": (NPZ, npz(joints=np.ones((5, 99, 2))), 400, "15 joints"),
    "no zip": (NPZ, b"PK\x03\x04 nothing", 400, "npz"),
    "objects": (NPZ, npz(joints=np.array([{}], dtype=object)), 400, "numbers"),
    "bomb": (NPZ, bomb(), 400, "unpack"),
    "many entries": (NPZ, many_entries(), 400, "at most 64"),
    "too many frames": (NPZ, npz(joints=np.ones((4000, 15, 2), np.float32)), 413, "3000 frames"),
    "too long": (JSON, b" " * (2**21 + 1), 413, "bytes"),
    "another kind": ("text/csv", b"1,2", 415, "text/csv"),
}


@pytest.mark.parametrize(("kind", "body", "status", "words"), BAD.values(), ids=list(BAD))
def test_a_bad_clip_is_rejected_with_a_reason(server, kind, body, status, words):
    answer = httpx.post(f"{server.url}/v1/predict", content=body, headers={"content-type": kind})
    assert answer.status_code == status
    assert set(answer.json()) == {"error"} and re.search(words, answer.json()["error"])


def test_errors_of_every_kind_are_json(server):
    for answer, status in (
        (httpx.get(f"{server.url}/nothing"), 404),
        (httpx.put(f"{server.url}/v1/predict"), 405),
        (httpx.post(f"{server.url}/v1/predict?top=x"), 422),
        (httpx.get(f"{server.url}/page/../app.py"), 404),
    ):
        assert answer.status_code == status and set(answer.json()) == {"error"}


def test_clips_beyond_the_queue_are_rejected_at_once():
    with running(max_queued_predictions=1) as one:
        one.service._queued_predictions = 1
        answer = httpx.post(f"{one.url}/v1/predict", json={"joints": walk().tolist()})
        assert answer.status_code == 429 and answer.headers["retry-after"]
        one.service._queued_predictions = 0


# --------------------------------------------------------------------- description of the server


def test_model_health_metrics_and_openapi(server):
    about = httpx.get(f"{server.url}/v1/model").json()
    assert about["classes"] == ["here", "there", "away"] and about["name"] == "two"
    assert len(about["layout"]["joints"]) == 15 and about["coordinates"] == 2
    assert about["stream"]["mode"] == "step" and about["stream"]["capacity"] == 8
    assert httpx.get(f"{server.url}/health").json()["status"] == "ok"
    assert "kinegraph_frames_total" in httpx.get(f"{server.url}/metrics").text
    openapi = httpx.get(f"{server.url}/openapi.json").json()
    assert {"/v1/predict", "/v1/model", "/health", "/metrics"} <= set(openapi["paths"])
    assert "#/$defs" not in json.dumps(openapi)  # references that lead nowhere
    for path, answer in {
        "/v1/predict": "ClipPrediction",
        "/v1/model": "ModelInfo",
        "/health": "HealthStatus",
    }.items():
        (route,) = openapi["paths"][path].values()
        bodies = {status: one["content"] for status, one in route["responses"].items()}
        for status, name in (("200", answer), ("401", "ErrorBody")):
            (body,) = bodies[status].values()
            assert body["schema"] == {"$ref": f"#/components/schemas/{name}"}
    fields = openapi["components"]["schemas"]["ClipPrediction"]["properties"]
    assert set(fields) == {"id", "is_confident", "top", "logits", "read_as"}


def test_the_docs_page_describes_everything_without_other_sites(server):
    page = httpx.get(f"{server.url}/docs")
    assert page.status_code == 200 and "<script" not in page.text
    assert not re.search(r"(src|href)=.https?:", page.text)
    openapi = httpx.get(f"{server.url}/openapi.json").json()
    for path, methods in openapi["paths"].items():
        for method in methods:
            assert f"{method.upper()} {path}" in page.text
    links = set(re.findall(r'href="#(\w+)"', page.text))
    assert {"ClipPrediction", "HealthStatus", "ErrorBody"} <= links
    assert links <= set(re.findall(r'id="(\w+)"', page.text))
    for name in ("ClipPrediction", "HealthStatus", "ErrorBody"):
        assert openapi["components"]["schemas"][name]["examples"]
    example = openapi["paths"]["/v1/predict"]["post"]["requestBody"]["content"][JSON]["example"]
    ClipPayload.model_validate_json(json.dumps(example))


def test_messages_of_a_stream_fit_their_schemas(server):
    schema = httpx.get(f"{server.url}/v1/stream/schema").json()
    kept = Path(__file__).parents[2] / "docs" / "stream.schema.json"
    assert json.loads(kept.read_text()) == schema == message_schemas("stream")
    sent = [{"person": "a", "joints": one.tolist(), "time": t / 30} for t, one in enumerate(walk())]
    sent += [{"person": "a", "flush": True}, {"person": "a", "end": True}, {"person": "a"}]
    text = TypeAdapter(Client)
    received = set()

    async def client() -> None:
        async with connect(f"{server.stream}?logits=true&top=2") as ws:
            for one in sent:
                text.validate_json(json.dumps(one))
                await ws.send(json.dumps(one))
                answer = TypeAdapter(Server).validate_python(await receive_json(ws))
                received.add(type(answer))

    asyncio.run(client())
    assert received == {FrameAnswer, FlushAnswer, EndAnswer, StreamRejection}


def test_the_page_loads_nothing_from_other_sites(server):
    page = httpx.get(server.url)
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for name in ("", "page/page.js", "page/page.css", "page/icon.svg"):
        text = httpx.get(f"{server.url}/{name}").text.replace("http://www.w3.org/2000/svg", "")
        assert text and "http://" not in text and "https://" not in text


# --------------------------------------------------------------------- streams


def packed(people: dict[int, np.ndarray], time_: float = float("nan")) -> bytes:
    """Return a binary message with one frame per person."""
    parts = [
        PERSON_HEADER.pack(k, time_) + joints.astype("<f4").tobytes()
        for k, joints in people.items()
    ]
    return HEADER.pack(MAGIC, 0, 1, len(people)) + b"".join(parts)


@cache
def reference() -> Recognizer:
    """Return the model of the servers, for the same frames without a server."""
    asked = recognizer([])
    open_session(asked)
    return asked


reference()  # a model must not be traced while a server runs


def assert_answers(messages: list[dict], frames: np.ndarray) -> None:
    """Compare every answer with that of the same frames without a server."""
    expected = alone(reference(), [RawFrame(joints) for joints in frames])
    distinct = {m["frames"]: m["logits"] for m in messages if m.get("name") and "frame" in m}
    assert len(distinct) >= 3
    assert set(distinct) & set(expected)
    for so_far in set(distinct) & set(expected):
        np.testing.assert_allclose(distinct[so_far], expected[so_far], rtol=0, atol=1e-5)


def test_many_persons_of_many_connections_get_their_own_answers(server):
    async def client(seed: int) -> tuple[dict, dict]:
        people = {"a": walk(40, 3 * seed), 7: walk(40, 3 * seed + 1)}
        messages: dict = {"a": [], 7: []}
        async with connect(f"{server.stream}?logits=true&top=2") as ws:
            for t in range(40):
                message_text = {"person": "a", "joints": people["a"][t].tolist(), "time": t / 30}
                await ws.send(json.dumps(message_text))
                await ws.send(packed({7: people[7][t]}))
                await asyncio.sleep(0.002)
            for person in people:
                await ws.send(json.dumps({"person": person, "flush": True}))
                await ws.send(json.dumps({"person": person, "end": True}))
            while not all(messages[p] and "end" in messages[p][-1] for p in people):
                message = await receive_json(ws)
                assert "error" not in message, message
                messages[message["person"]].append(message)
        return people, messages

    async def all_clients() -> list:
        return await asyncio.gather(*(client(seed) for seed in range(3)))

    # offline answers come after the server's: to trace a network disturbs the other threads
    for people, messages in asyncio.run(all_clients()):
        for person, own in messages.items():
            frames = [m for m in own if "frame" in m]
            assert [m["frame"] for m in frames] == list(range(40))
            assert ("time" in frames[0]) == (person == "a")
            assert_answers(own, people[person])
            end, live = own[-1], open_session(reference())
            for joints in people[person]:
                live.push(joints)
            answer = live.flush()
            np.testing.assert_allclose(end["logits"], answer.logits, rtol=0, atol=1e-5)
            assert (end["name"], end["frames"], len(end["top"])) == (answer.name, 40, 2)
            assert any("flush" in m for m in own)
    assert server.service.persons == 0


def test_a_flush_that_fails_is_answered(server, monkeypatch):
    def fail(snapshot) -> None:
        raise ValueError("not expected")

    async def client() -> dict:
        async with connect(server.stream) as ws:
            await ws.send(packed({1: walk(1)[0]}))
            await receive_json(ws)
            await ws.send(json.dumps({"person": 1, "flush": True}))
            return await receive_json(ws)

    monkeypatch.setattr(server.service._flush_executor._pool, "decode_snapshot", fail)
    answer = asyncio.run(client())
    assert answer["status"] == 500 and "a flush failed" in answer["error"]


ONE = walk(1)[0].tolist()
HUGE = "1" + "0" * 400


def message(**fields: str) -> str:
    """Return a frame of one person, with fields in JSON."""
    whole = {"person": "1", "joints": json.dumps(ONE), **fields}
    return "{" + ", ".join(f'"{name}": {value}' for name, value in whole.items()) + "}"


def nested(depth: int, before: list | None = None) -> str:
    """Return a frame with a list that is nested too deep, after valid joints."""
    inner = "[" * depth + "0" + "]" * depth
    return message(joints=f"[{', '.join([*map(json.dumps, before or ()), inner])}]")


WRONG = {
    "no JSON": ("hello", "as JSON"),
    "deep": ("[" * 50_000, "as JSON"),
    "a number": ("3", "person"),
    "no person": (json.dumps({"joints": ONE}), "person"),
    "a list": (json.dumps({"person": [], "joints": ONE}), "person"),
    "a long name": (json.dumps({"person": "x" * 100, "joints": ONE}), "1 to 64"),
    "no request": (json.dumps({"person": 1}), "joints"),
    "unknown key": (json.dumps({"person": 1, "jionts": ONE}), "unknown key"),
    "too many joints": (json.dumps({"person": 1, "joints": [[0, 0]] * 99}), "(15, 2)"),
    "text": (json.dumps({"person": 1, "joints": "text"}), "joints"),
    "nested": (nested(150), "nested more than 4 deep"),
    "nested beside numbers": (nested(30, [ONE[0]] * 14), "different lengths"),
    "nested beside nothing": (nested(30, [None] * 14), "nested more than 4 deep"),
    "ragged": (json.dumps({"person": 1, "joints": [[0, 0]] * 14 + [[0]]}), "lengths"),
    "flat": (json.dumps({"person": 1, "joints": [0] * 30}), "shape (30,)"),
    "digits in strings": (json.dumps({"person": 1, "joints": [["1", "2"]] * 15}), "not numbers"),
    "objects": (json.dumps({"person": 1, "joints": {"x": [1]}}), "not numbers"),
    "nulls for many numbers": (
        message(joints=f"[{'null,' * 20_000}{[0] * 20_000}]"),
        "at most 16777216",
    ),
    "a huge joint": (message(joints=f"[[{HUGE}, 0]]"), "too large"),
    "a huge time": (message(time=HUGE), "finite number"),
    "a huge person": (message(person=HUGE), "unsigned integer"),
    "a huge fact": (message(person="2", meta=f'{{"width": {HUGE}}}'), "finite numbers"),
    "an endless number": (message(time=HUGE * 20), "as JSON"),
    "a nested confidence": (
        json.dumps({"person": 1, "joints": ONE, "confidence": [[[1]]]}),
        "one number per joint",
    ),
    "infinite": (json.dumps({"person": 1, "joints": [[1e999, 0]] * 15}), "infinite"),
    "far away": (json.dumps({"person": 1, "joints": [[1e30, 0]] * 15}), "1e+09"),
    "confidence": (json.dumps({"person": 1, "joints": ONE, "confidence": [1]}), "confidences"),
    "a long time": (json.dumps({"person": 1, "joints": ONE, "time": 1e999}), "time"),
    "end without frames": (json.dumps({"person": 99, "end": True}), "send a frame first"),
    "flush": (json.dumps({"person": 1, "flush": 3}), "true or false"),
    "meta": (json.dumps({"person": 1, "joints": ONE, "meta": [1]}), "meta"),
    "too long": (json.dumps({"person": 1, "joints": ONE, "meta": {"a": "x" * 2**18}}), "at most"),
    "empty": (b"", "KGF1"),
    "another format": (b"KGF2" + bytes(40), "KGF1"),
    "cut off": (packed({1: walk(1)[0]})[:-1], "bytes"),
    "too many persons": (HEADER.pack(MAGIC, 0, 255, 65535), "bytes"),
    "unknown flags": (HEADER.pack(MAGIC, 2, 1, 1) + bytes(132), "flags"),
}


def test_wrong_messages_are_rejected_without_loss_of_others(server):
    frames = walk(40)

    async def client() -> list[dict]:
        messages = []
        async with connect(f"{server.stream}?logits=true") as ws:
            wrong = list(WRONG.values())
            assert len(wrong) <= 40
            for t in range(40):
                await ws.send(json.dumps({"person": "good", "joints": frames[t].tolist()}))
                if t < len(wrong):
                    await ws.send(wrong[t][0])
                    while "error" not in (message := await receive_json(ws)):
                        messages.append(message)
                    assert wrong[t][1] in message["error"] and message["status"] >= 400
            await ws.send(json.dumps({"person": "good", "end": True}))
            while "end" not in (message := await receive_json(ws)):
                messages.append(message)
        return messages

    messages = asyncio.run(client())
    assert len(messages) == 40
    assert_answers(messages, frames)


def test_times_must_increase_and_null_joints_are_missing(server):
    async def client() -> None:
        async with connect(server.stream) as ws:
            joints = [None, *ONE[1:]]
            for time_, fine in ((0.1, True), (0.2, True), (0.2, False), (0.1, False), (None, True)):
                await ws.send(json.dumps({"person": 1, "time": time_, "joints": joints}))
                message = await receive_json(ws)
                assert ("error" not in message) == fine
                assert fine or "not after 0.2" in message["error"]
            await ws.send(json.dumps([{"person": 1, "joints": ONE}, {"person": 2, "joints": ONE}]))
            assert {(await receive_json(ws))["person"] for _ in range(2)} == {1, 2}

    asyncio.run(client())


def test_frames_above_the_rate_are_rejected_and_end_the_stream():
    async def client(one) -> int:
        async with connect(one.stream) as ws:
            errors = 0
            try:
                for _ in range(100):
                    await ws.send(json.dumps({"person": 1, "joints": ONE}))
                while True:
                    errors += (await receive_json(ws)).get("status") == 429
            except ConnectionClosed as end:
                assert end.rcvd is not None and end.rcvd.code == 1008
            return errors

    with running(frame_rate=10.0, max_errors=20) as one:
        assert 20 <= asyncio.run(client(one)) <= 30
        assert httpx.get(f"{one.url}/health").json()["persons"] == 0


def test_persons_beyond_the_capacity_are_rejected():
    async def clients(one) -> None:
        message_text = json.dumps({"person": 1, "joints": ONE})
        async with connect(one.stream) as first, connect(one.stream) as second:
            for ws in (first, second):
                await ws.send(message_text)
                assert "error" not in await receive_json(ws)
            async with connect(one.stream) as third:
                await third.send(message_text)
                refused = await receive_json(third)
                assert (
                    refused["status"] == 503
                    and "at capacity (2 of 2 streams in use)" in refused["error"]
                )
                with pytest.raises(ConnectionClosed) as end:
                    await third.recv()
                assert end.value.rcvd.code == 1013
            await first.send(json.dumps({"person": 2, "joints": ONE}))
            assert (await receive_json(first))["status"] == 503
            await first.send(message_text)
            assert "error" not in await receive_json(first)

    with running(max_persons=2) as one:
        asyncio.run(clients(one))


def test_connections_beyond_the_limit_are_rejected():
    async def clients(one) -> None:
        async with connect(one.stream), connect(one.stream), connect(one.stream) as third:
            assert (await receive_json(third))["status"] == 503
            with pytest.raises(ConnectionClosed) as end:
                await third.recv()
            assert end.value.rcvd.code == 1013

    with running(max_connections=2) as one:
        asyncio.run(clients(one))


def test_an_idle_connection_is_closed():
    async def client(one) -> None:
        async with connect(one.stream) as ws:
            assert (await receive_json(ws))["status"] == 408
            with pytest.raises(ConnectionClosed):
                await ws.recv()

    with running(idle_timeout=0.2) as one:
        asyncio.run(client(one))


def test_a_client_that_does_not_read_delays_no_other():
    """One client sends and never reads, another one does both."""

    async def never_reads(one, stop: asyncio.Event) -> None:
        async with connect(f"{one.stream}?logits=true&top=3", max_queue=1) as ws:
            for i in range(4000):
                if stop.is_set():
                    break
                await ws.send(packed({k: walk(1)[0] for k in range(4)}))
                await asyncio.sleep(0 if i % 20 else 0.002)
            ws.transport.abort()

    async def reads(one, stop: asyncio.Event) -> int:
        answers = 0
        async with connect(one.stream) as ws, asyncio.timeout(60):
            for joints in walk(60):
                await ws.send(packed({1: joints}))
                assert "error" not in await receive_json(ws)
                answers += 1
                await asyncio.sleep(0.01)
        stop.set()
        return answers

    async def both(one) -> int:
        stop = asyncio.Event()
        return (await asyncio.gather(reads(one, stop), never_reads(one, stop)))[0]

    with running(frame_rate=5000.0, max_errors=10**6) as one:
        assert asyncio.run(both(one)) == 60


def test_window_mode_answers_every_few_frames():
    async def client(one) -> None:
        async with connect(f"{one.stream}?logits=true") as ws:
            for joints in walk(30):
                await ws.send(packed({1: joints}))
            messages = [await receive_json(ws) for _ in range(30)]
        assert len({m["frames"] for m in messages if m["name"]}) >= 6

    with running([{"resize": {"frames": 8}}], every=4, frame_rate=2000.0) as one:
        assert one.service.mode == "window"
        asyncio.run(client(one))


def test_shutdown_answers_received_frames_and_closes():
    async def client(one) -> None:
        async with connect(one.stream) as ws:
            for joints in walk(20):
                await ws.send(packed({1: joints}))
            await ws.send(json.dumps({"person": 1, "end": True}))
            assert (await receive_json(ws))["frame"] == 0
            one.stop()
            messages = []
            try:
                while True:
                    messages.append(await receive_json(ws))
            except ConnectionClosed as end:
                assert end.rcvd.code == 1001
            assert messages[-1]["end"] and messages[-1]["frames"] == 20

    with running(frame_rate=2000.0) as one:
        asyncio.run(client(one))


# --------------------------------------------------------------------- access control


def test_other_origins_and_host_names_are_rejected(server):
    for headers, status in (
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": ""}, 403),
        ({"origin": "http://[::1"}, 403),
        ({"origin": "http://localhost:99999"}, 403),
        ({"origin": f"http://user@{server.url.partition('//')[2]}"}, 403),
        ({"origin": "//" + "x" * 5000}, 403),
        ({"host": "evil.example"}, 421),
        ({"host": f"evil.example:{server.port}"}, 421),
        ({"host": f"localhost:{server.port}"}, 200),
        ({"host": "[::1]"}, 200),
        ({"origin": server.url}, 200),
    ):
        answer = httpx.get(f"{server.url}/health", headers=headers)
        assert answer.status_code == status, headers
        assert status == 200 or answer.json()["error"]

    async def foreign_origin() -> None:
        with pytest.raises(InvalidStatus) as refused:
            await connect(server.stream, origin="https://evil.example")
        assert refused.value.response.status_code == 403
        async with connect(server.stream, origin=server.url):
            pass

    asyncio.run(foreign_origin())


def test_pages_of_allowed_origins_have_access():
    ours, other = "https://app.example", "https://evil.example"
    with running(origins=[ours, "http://localhost:3000"]) as one:
        for origin, status in ((ours, 200), ("http://localhost:3000", 200), (other, 403)):
            answer = httpx.get(f"{one.url}/v1/model", headers={"origin": origin})
            assert answer.status_code == status
            allowed = answer.headers.get("access-control-allow-origin")
            assert allowed == (origin if status == 200 else None)
        asked = {
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization,content-type",
        }
        for origin, status in ((ours, 200), (other, 400)):
            answer = httpx.options(f"{one.url}/v1/predict", headers={"origin": origin} | asked)
            assert answer.status_code == status

        async def clients() -> None:
            async with connect(one.stream, origin=ours):
                pass
            with pytest.raises(InvalidStatus):
                await connect(one.stream, origin=other)

        asyncio.run(clients())


@pytest.mark.parametrize("origin", ["*", "example.org", "ftp://a", "http://a/b", "http://[::1", ""])
def test_origins_that_no_browser_sends_are_refused(origin):
    with pytest.raises(ServerError, match="expected an origin such as"):
        create_server(reference(), origins=[origin])


def test_a_proxy_is_an_address():
    with pytest.raises(ServerError, match="expected the IP address of a proxy, got 'nginx'"):
        create_server(reference(), proxies=["nginx"])


def test_a_token_is_required_and_accepted_in_three_ways():
    with running(token=TOKEN) as one:
        for headers, status in (
            ({}, 401),
            ({"authorization": "Bearer wrong"}, 401),
            ({"authorization": f"Basic {TOKEN}"}, 401),
            ({"authorization": f"Bearer {TOKEN}"}, 200),
            ({"authorization": f"Bearer {TOKEN}", "host": "example.org"}, 200),
        ):
            assert httpx.get(f"{one.url}/v1/model", headers=headers).status_code == status
        assert httpx.get(f"{one.url}/metrics").status_code == 401
        assert httpx.get(one.url).status_code == httpx.get(f"{one.url}/health").status_code == 200

        async def clients() -> None:
            with pytest.raises(InvalidStatus):
                await connect(one.stream)
            with pytest.raises(InvalidStatus):
                await connect(one.stream, subprotocols=[SUBPROTOCOL, token_subprotocol("wrong")])
            async with connect(
                one.stream, subprotocols=[SUBPROTOCOL, token_subprotocol(TOKEN)]
            ) as browser:
                assert browser.subprotocol == SUBPROTOCOL
            headers = {"authorization": f"Bearer {TOKEN}"}
            async with connect(one.stream, additional_headers=headers):
                pass

        asyncio.run(clients())


def test_addresses_beyond_loopback_require_a_token():
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org"):
        with pytest.raises(ServerError, match="--token"):
            open_socket(host, 0, None)
    with pytest.raises(ServerError, match="8 characters"):
        open_socket("127.0.0.1", 0, "short")
    with (
        open_socket("127.0.0.1", 0, None) as taken,
        pytest.raises(ServerError, match="another --port"),
    ):
        open_socket("127.0.0.1", taken.getsockname()[1], None)


# --------------------------------------------------------------------- on the wire


def test_invalid_http_closes_the_connection(server):
    for request in (b"hello\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 20_000):
        with socket.create_connection(("127.0.0.1", server.port), 5) as raw:
            raw.settimeout(5)
            try:
                raw.sendall(request)
                assert raw.recv(65536).startswith(b"HTTP/1.1 400")
            except ConnectionError:
                pass
    assert httpx.get(f"{server.url}/health").status_code == 200


def handshake(port: int) -> socket.socket:
    """Open a websocket without a client library."""
    raw = socket.create_connection(("127.0.0.1", port), 5)
    raw.sendall(
        f"GET /v1/stream HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    assert raw.recv(4096).startswith(b"HTTP/1.1 101")
    return raw


def test_a_message_of_too_many_fragments_closes_the_connection(server):
    with handshake(server.port) as raw:
        raw.sendall(b"\x01\x80\0\0\0\0")  # a text that goes on
        part = b"\x00\x80\0\0\0\0"  # and on, with nothing in it
        raw.settimeout(5)
        try:
            for _ in range(50):
                raw.sendall(part * 100)
            last = raw.recv(4096)
        except ConnectionError:
            last = b""
        assert not last or b"\x03\xf1" in last  # 1009
    assert httpx.get(f"{server.url}/health").json()["status"] == "ok"


def test_a_huge_message_closes_the_connection(server):
    async def client() -> None:
        async with connect(server.stream) as ws:
            with pytest.raises(ConnectionClosed):
                await ws.send("x" * 2**22)
                await ws.recv()

    asyncio.run(client())


# --------------------------------------------------------------------- units


def test_token_bucket_allows_the_rate_and_short_bursts():
    pace = TokenBucket(30)
    allowed = [pace.allow(0.0) for _ in range(30)]
    assert 10 < sum(allowed) < 25
    assert sum(pace.allow(1 + t / 60) for t in range(600)) == pytest.approx(36 * 10, abs=25)
    assert all(TokenBucket(30).allow(t / 30) for t in range(100))


def test_limits_must_be_positive():
    with pytest.raises(ServerError, match="limit frame_rate"):
        Limits(frame_rate=0)


def test_binary_messages_are_decoded():
    joints, sure = walk(2), np.ones((1, 15), "<f4")
    body = HEADER.pack(MAGIC, 1, 1, 2)
    for k in (4, 5):
        body += (
            PERSON_HEADER.pack(k, k / 10) + joints[k - 4].astype("<f4").tobytes() + sure.tobytes()
        )
    decoded = decode_binary(body, 15, 2)
    assert [(one.person, one.time) for one in decoded] == [(4, 0.4), (5, 0.5)]
    np.testing.assert_array_equal(decoded[1].frame.joints[0], joints[1])
    np.testing.assert_array_equal(decoded[1].frame.confidence, sure)
    with pytest.raises(RequestRejectedError):
        decode_binary(body[:-4], 15, 2)


def test_a_shutdown_that_hangs_is_limited():
    code = """
import socket, threading
from kinegraph.server import serve

class Hanging:
    should_exit = False

    def run(self, sockets):
        self.should_exit = True
        threading.Event().wait()

serve.SHUTDOWN_TIMEOUT_S = 0.2
serve.run_server(Hanging(), socket.socket())
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (1, "the shutdown took longer than 0.2 s\n")
