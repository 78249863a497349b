"""Limits on what clients may send, and the token bucket that enforces a frame rate."""

from __future__ import annotations

from dataclasses import dataclass

from kinegraph.errors import ServerError

MIB = 2**20
RATE_TOLERANCE = 1.2
"""A person may send 20 % more frames than the frame rate, because camera clocks differ."""
BURST_S = 0.5
"""Seconds of frames that may arrive at once after a pause."""


@dataclass(frozen=True)
class Limits:
    """Upper limits; requests beyond them are rejected at once.

    Attributes:
        max_body_bytes: bytes of a request body that is not JSON.
        max_json_bytes: bytes of a JSON request body, which takes longer to parse.
        max_unpacked_bytes: bytes that one array of an .npz may unpack to.
        max_frames: frames of a clip.
        frame_rate: frames per second of a person.
        latency_target: seconds in which frames should be answered; while answers take longer,
            no further person is admitted.
        max_persons: persons of all connections; None for the capacity that is measured when the
            server starts.
        max_connections: open websocket connections.
        max_connections_per_address: requests and websockets of one client address.
        max_queued_frames: frames of a person that wait.
        max_queued_predictions: clips that wait for a prediction.
        max_videos: video connections, each with its own pose estimator.
        max_image_bytes: bytes of an image.
        max_message_bytes: bytes of any other websocket message.
        read_timeout: seconds in which a client must send a request or message that it began, and
            read an answer.
        idle_timeout: seconds without a message after which a websocket is closed.
        max_errors: rejected messages, beyond the number of accepted ones, after which a websocket
            is closed.
    """

    max_body_bytes: int = 16 * MIB
    max_json_bytes: int = 2 * MIB
    max_unpacked_bytes: int = 64 * MIB
    max_frames: int = 3000
    frame_rate: float = 30.0
    latency_target: float = 0.033
    max_persons: int | None = None
    max_connections: int = 512
    max_connections_per_address: int = 256
    max_queued_frames: int = 30
    max_queued_predictions: int = 8
    max_videos: int = 2
    max_image_bytes: int = MIB
    max_message_bytes: int = MIB // 4
    read_timeout: float = 20.0
    idle_timeout: float = 120.0
    max_errors: int = 50

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not value > 0:
                raise ServerError(f"expected the limit {name} to be above 0, got {value}")


class TokenBucket:
    """Rate limit of one person: the frame rate, with some tolerance and short bursts."""

    def __init__(self, frame_rate: float) -> None:
        self._rate = frame_rate * RATE_TOLERANCE
        self._size = max(1.0, self._rate * BURST_S)
        self._tokens = self._size
        self._updated: float | None = None

    def allow(self, now: float) -> bool:
        """Take one token at a time in seconds; return False if there is none."""
        elapsed = 0.0 if self._updated is None else now - self._updated
        self._updated = now
        self._tokens = min(self._size, self._tokens + elapsed * self._rate)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
