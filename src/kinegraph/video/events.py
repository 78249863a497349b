"""Events of a source: every segment as a line of JSON in a file, and to a webhook."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import logging
import queue
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import urlsplit

from kinegraph.errors import VideoError
from kinegraph.video.segmentation import Segment

STANDARD_OUTPUT = Path("-")
POST_TIMEOUT_S = 10.0
RETRY_DELAYS_S = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before each further attempt to deliver an event."""
CLOSE_TIMEOUT_S = 30.0
"""Seconds at the end in which the last events are delivered."""
MAX_QUEUED_EVENTS = 1000
RETRIED_STATUSES = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
"""Statuses below 500 of a receiver that may accept the event later."""

Event = dict[str, Any]


def to_event(source: str, segment: Segment) -> Event:
    """Return a segment as an event, with the name of its source and an id of its own."""
    return {"id": uuid.uuid4().hex, "source": source, **segment.to_dict()}


class EventFile:
    """Appends events to a file, one line of JSON each, which is there at once.

    Args:
        path: path of the file; "-" for standard output.

    Raises:
        VideoError: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIO = sys.stdout
        if path == STANDARD_OUTPUT:
            return
        try:
            self._file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise VideoError(f"cannot write {path}: {error.strerror}") from error

    def send(self, event: Event) -> None:
        """Append an event."""
        try:
            self._file.write(json.dumps(event) + "\n")
            self._file.flush()
        except BrokenPipeError:
            raise  # the reader of standard output wants no more
        except OSError as error:
            raise VideoError(f"cannot write {self._path}: {error.strerror}") from error

    def close(self) -> None:
        """Close the file."""
        if self._file is sys.stdout:
            return
        with suppress(OSError):  # `send` has reported it
            self._file.close()


class Webhook:
    """Sends each event in an HTTP POST of its own, in order, by another thread.

    A POST that fails for a reason that may pass is repeated; other ones are logged and given up.

    Args:
        url: address of the receiver, http or https.
        secret: key of the signature, see `signature`; None for none.
        delays: seconds before each further attempt.

    Raises:
        VideoError: the address is not one of http or https.
    """

    def __init__(
        self, url: str, secret: str | None = None, delays: tuple[float, ...] = RETRY_DELAYS_S
    ) -> None:
        self._url, self._secret, self._delays = url, secret, delays
        try:
            parts = urlsplit(url)
            is_valid = parts.scheme in ("http", "https") and bool(parts.hostname)
        except ValueError:
            is_valid = False
        if not is_valid:
            raise VideoError("expected a webhook such as https://example.org/hook")
        if "@" in parts.netloc:
            raise VideoError(
                "expected a webhook without user and password: sign its POSTs with a secret"
            )
        self._opener = urllib.request.build_opener(_NoRedirects)
        self._queue: queue.Queue[Event | None] = queue.Queue(MAX_QUEUED_EVENTS)
        self._stop = threading.Event()
        self.lost = 0
        self._thread = threading.Thread(target=self._run, name="webhook", daemon=True)
        self._thread.start()

    def send(self, event: Event) -> None:
        """Queue an event; if the queue is full, it is lost."""
        try:
            self._queue.put_nowait(event)
        except queue.Full:
            self._lose(event, f"{MAX_QUEUED_EVENTS} events are queued")

    def close(self) -> None:
        """Deliver the queued events, for at most `CLOSE_TIMEOUT_S`."""
        deadline = time.monotonic() + CLOSE_TIMEOUT_S
        with suppress(queue.Full):
            self._queue.put(None, timeout=CLOSE_TIMEOUT_S)
        self._thread.join(max(0.0, deadline - time.monotonic()))
        self._stop.set()
        with suppress(queue.Empty):
            while event := self._queue.get_nowait():
                self._lose(event, f"not within {CLOSE_TIMEOUT_S:g} s at the end")

    def _run(self) -> None:
        while not self._stop.is_set() and (event := self._queue.get()) is not None:
            self._deliver(event)

    def _deliver(self, event: Event) -> None:
        reason = ""
        for delay in (0.0, *self._delays):
            if self._stop.wait(delay):
                break
            try:
                self._post(json.dumps(event).encode())
                return
            except urllib.error.HTTPError as error:
                error.close()
                reason = f"status {error.code}"
                if error.code < 500 and error.code not in RETRIED_STATUSES:
                    break
            except (OSError, ValueError, http.client.HTTPException) as error:
                reason = str(error) or type(error).__name__
        self._lose(event, reason)

    def _post(self, body: bytes) -> None:
        headers = {"content-type": "application/json", "user-agent": "kinegraph"}
        if self._secret is not None:
            timestamp = str(int(time.time()))
            headers["x-kinegraph-timestamp"] = timestamp
            headers["x-kinegraph-signature"] = signature(self._secret, timestamp, body)
        request = urllib.request.Request(self._url, body, headers, method="POST")
        with self._opener.open(request, timeout=POST_TIMEOUT_S):
            pass

    def _lose(self, event: Event, reason: str) -> None:
        self.lost += 1
        message = "the event %s was not delivered to the webhook: %s"
        logging.getLogger(__name__).warning(message, event["id"], reason)


@contextmanager
def open_outputs(
    events: Path | None, webhook: str | None, secret: str | None = None
) -> Iterator[Callable[[str, Sequence[Segment]], None]]:
    """Open the receivers of events; yield a function that sends them segments of a source.

    Args:
        events: path of a file, see `EventFile`.
        webhook, secret: see `Webhook`.
    """
    with ExitStack() as stack:
        outputs: list[EventFile | Webhook] = []
        if events is not None:
            outputs.append(stack.enter_context(closing(EventFile(events))))
        if webhook is not None:
            outputs.append(stack.enter_context(closing(Webhook(webhook, secret))))
        lock = threading.Lock()

        def send(source: str, segments: Sequence[Segment]) -> None:
            with lock:
                for event in [to_event(source, segment) for segment in segments]:
                    for output in outputs:
                        output.send(event)

        yield send


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """Return the signature of a POST: HMAC-SHA256 of the timestamp, a dot and the body."""
    message = timestamp.encode() + b"." + body
    return "sha256=" + hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Takes a redirect as a failure: it would turn the POST into a GET."""

    def redirect_request(self, *arguments: Any) -> None:
        return None
