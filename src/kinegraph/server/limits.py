"""What a client may ask for, so that no client is served at the cost of another."""

from __future__ import annotations

from dataclasses import dataclass

from kinegraph.errors import LiveError

MIB = 2**20


@dataclass(frozen=True)
class Limits:
    """Upper bounds; whoever goes beyond is refused at once.

    Attributes:
        max_body_bytes: bytes of a request that is no JSON.
        max_json_bytes: bytes of a request that is JSON, which takes longer to read.
        max_unpacked_bytes: bytes that one array of an .npz may unpack to.
        max_frames: frames of a clip.
        frame_rate: frames a second of a person.
        latency_target: seconds in which frames should be answered; while answers take longer,
            no further person is admitted.
        max_persons: persons in all streams; None for as many as the machine has been found to have
            room for.
        max_connections: open connections.
        max_queued_frames: frames of a person, and answers of a person, that wait.
        max_queued_predictions: clips that wait to be answered.
        max_videos: streams of pictures, each with a pose estimator of its own.
        max_image_bytes: bytes of a picture.
        max_message_bytes: bytes of any other message of a stream.
        read_timeout: seconds until a client that began to say something has to have said it.
        idle_timeout: seconds after which a silent stream ends.
        max_errors: messages that may be refused, beyond as many that are not, before a stream ends.
    """

    max_body_bytes: int = 16 * MIB
    max_json_bytes: int = 2 * MIB
    max_unpacked_bytes: int = 64 * MIB
    max_frames: int = 3000
    frame_rate: float = 30.0
    latency_target: float = 0.033
    max_persons: int | None = None
    max_connections: int = 512
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
                raise LiveError(f"expected the limit {name} to be above 0, got {value}")


#: How much faster than its rate a person may be: clocks of cameras differ.
RATE_TOLERANCE = 1.2
#: Seconds' worth of frames that may come at once, after as long a pause.
BURST_S = 0.5


class TokenBucket:
    """How many frames a person may send now: as many a second as its rate, and short bursts."""

    def __init__(self, rate: float) -> None:
        self._rate = rate * RATE_TOLERANCE
        self._most = max(1.0, self._rate * BURST_S)
        self._left = self._most
        self._then: float | None = None

    def allow(self, now: float) -> bool:
        """Whether one more frame may come, at a time in seconds; it counts if so."""
        passed = 0.0 if self._then is None else now - self._then
        self._then = now
        self._left = min(self._most, self._left + passed * self._rate)
        if self._left < 1:
            return False
        self._left -= 1
        return True
