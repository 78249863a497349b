"""Events: lines of JSON in a file, and one signed POST each to a webhook, repeated if it fails."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from http_server import run_http_server
from kinegraph.errors import VideoError
from kinegraph.video.events import EventFile, Webhook, open_outputs, to_event
from kinegraph.video.segmentation import Segment

SEGMENTS = [Segment(k, float(k), k + 1.5, 3, "squat", 0.91) for k in range(1, 4)]


class Receiver:
    """A server that answers POSTs with the given statuses, and then with 204."""

    def __init__(self, statuses: list[int]) -> None:
        self.statuses, self.posts = statuses, []


@contextmanager
def receiving(*statuses: int) -> Iterator[tuple[str, Receiver]]:
    """Run a receiver in a thread."""
    receiver = Receiver(list(statuses))

    def post(request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["content-length"]))
        status = receiver.statuses.pop(0) if receiver.statuses else 204
        receiver.posts.append((status, dict(request.headers), body))
        request.send_response(status)
        request.send_header("location", "/elsewhere")
        request.send_header("content-length", "0")
        request.end_headers()

    with run_http_server(do_POST=post) as url:
        yield f"{url}/hook", receiver


def events() -> list[dict]:
    return [to_event("camera 0", segment) for segment in SEGMENTS]


def test_every_segment_is_a_line_of_json(tmp_path):
    path, sent = tmp_path / "events.jsonl", events()
    for half in (sent[:1], sent[1:]):  # a second run appends
        with closing(EventFile(path)) as file:
            for event in half:
                file.send(event)
                assert json.loads(path.read_text().splitlines()[-1]) == event
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines == sent and len({line["id"] for line in lines}) == 3
    assert lines[0]["source"] == "camera 0" and lines[0]["name"] == "squat"


def test_every_segment_is_one_signed_post():
    sent = events()
    with receiving() as (url, receiver), closing(Webhook(url, "a secret")) as hook:
        for event in sent:
            hook.send(event)
        hook.close()
    assert [json.loads(body) for _, _, body in receiver.posts] == sent
    for _, headers, body in receiver.posts:
        lower = {name.lower(): value for name, value in headers.items()}
        signed = lower["x-kinegraph-timestamp"].encode() + b"." + body
        digest = hmac.new(b"a secret", signed, hashlib.sha256).hexdigest()
        assert lower["x-kinegraph-signature"] == f"sha256={digest}"
        assert lower["content-type"] == "application/json"


@pytest.mark.parametrize("statuses", [[500], [503, 429, 408], [502, 502, 502]])
def test_a_failed_post_is_repeated(statuses):
    sent = events()
    with receiving(*statuses) as (url, receiver):
        hook = Webhook(url, delays=(0.01,) * 3)
        for event in sent:
            hook.send(event)
        hook.close()
    delivered = [json.loads(body) for status, _, body in receiver.posts if status == 204]
    assert delivered == sent and hook.lost == 0
    assert len(receiver.posts) == len(sent) + len(statuses)


@pytest.mark.parametrize("status", [400, 404, 302, 307])
def test_a_refused_post_is_given_up_and_the_next_one_sent(status, caplog):
    sent = events()
    with receiving(status) as (url, receiver), caplog.at_level(logging.WARNING):
        hook = Webhook(url, delays=(0.01,))
        for event in sent:
            hook.send(event)
        hook.close()
    assert [post[0] for post in receiver.posts] == [status, 204, 204] and hook.lost == 1
    assert sent[0]["id"] in caplog.text and f"status {status}" in caplog.text


def test_a_receiver_that_is_absent_delays_nothing(caplog):
    with receiving() as (url, _):
        pass
    hook = Webhook(url, delays=(0.01,))
    for event in events():
        hook.send(event)
    hook.close()
    assert hook.lost == 3 and "was not delivered" in caplog.text


@pytest.mark.parametrize("url", ["", "example.org", "file:///etc/passwd", "http://", "http://[::1"])
def test_a_webhook_has_an_http_address(url):
    with pytest.raises(VideoError, match="expected a webhook such as"):
        Webhook(url)


def test_a_webhook_has_no_password_and_shows_none():
    for url in ("http://user:secret@127.0.0.1/hook", "ftp://user:secret@127.0.0.1/hook"):
        with pytest.raises(VideoError, match="expected a webhook") as error:
            Webhook(url)
        assert "secret@" not in str(error.value)


def test_an_answer_that_is_not_http_is_a_failure(caplog):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        hook = Webhook(f"http://127.0.0.1:{listening.getsockname()[1]}/", delays=())
        hook.send(events()[0])
        connection, _ = listening.accept()
        with connection:
            connection.recv(10_000)
            connection.sendall(b"no protocol at all\r\n\r\n")
        hook.close()
    assert hook.lost == 1 and "was not delivered" in caplog.text


def test_events_that_are_not_delivered_in_time_are_reported(monkeypatch, caplog):
    monkeypatch.setattr("kinegraph.video.events.CLOSE_TIMEOUT_S", 0.1)
    with receiving(*[500] * 10) as (url, _):
        hook = Webhook(url, delays=(0.5, 30.0))
        for event in events():
            hook.send(event)
        hook.close()
        hook._thread.join(5)
    assert hook.lost == 3 and caplog.text.count("was not delivered") == 3


def test_events_go_to_every_output(tmp_path):
    path = tmp_path / "events.jsonl"
    with receiving() as (url, receiver):
        with open_outputs(path, url, "a secret") as send:
            send("door", SEGMENTS)
        posted = [json.loads(body) for _, _, body in receiver.posts]
    assert posted == [json.loads(line) for line in path.read_text().splitlines()]
    assert [event["source"] for event in posted] == ["door"] * 3
    with open_outputs(None, None) as send:
        send("door", SEGMENTS)


def test_an_unwritable_file_is_one_sentence(tmp_path):
    with pytest.raises(VideoError, match="cannot write"):
        EventFile(tmp_path)
    full = Path("/dev/full")
    if full.exists():
        with closing(EventFile(full)) as file, pytest.raises(VideoError, match="No space"):
            file.send(events()[0])
