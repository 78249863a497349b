"""What a client may ask for, so that no client is served at the cost of another."""

from __future__ import annotations

from dataclasses import dataclass

from kinegraph.errors import LiveError

MEBI = 2**20


@dataclass(frozen=True)
class Limits:
    """Upper bounds; whoever goes beyond is refused at once.

    Attributes:
        body: bytes of a request that is no JSON.
        json: bytes of a request that is JSON, which takes longer to read.
        unpacked: bytes that one array of an .npz may unpack to.
        frames: frames of a clip.
        rate: frames a second of a person.
        within: seconds in which frames should be answered; if that fails, nobody else is let in.
        persons: persons in all streams; None for as many as the machine has been found to have
            room for.
        connections: open connections.
        queue: frames of a person, and answers of a person, that wait.
        predictions: clips that wait to be answered.
        videos: streams of pictures, each with a pose estimator of its own.
        picture: bytes of a picture.
        message: bytes of any other message of a stream.
        patience: seconds until a client that began to say something has to have said it.
        idle: seconds after which a silent stream ends.
        errors: messages that may be refused, beyond as many that are not, before a stream ends.
    """

    body: int = 16 * MEBI
    json: int = 2 * MEBI
    unpacked: int = 64 * MEBI
    frames: int = 3000
    rate: float = 30.0
    within: float = 0.033
    persons: int | None = None
    connections: int = 512
    queue: int = 30
    predictions: int = 8
    videos: int = 2
    picture: int = MEBI
    message: int = MEBI // 4
    patience: float = 20.0
    idle: float = 120.0
    errors: int = 50

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not value > 0:
                raise LiveError(f"expected the limit {name} to be above 0, got {value}")


#: How much faster than its rate a person may be: clocks of cameras differ.
SLACK = 1.2
#: Seconds' worth of frames that may come at once, after as long a pause.
BURST = 0.5


class Pace:
    """How many frames a person may send now: as many a second as its rate, and short bursts."""

    def __init__(self, rate: float) -> None:
        self._rate = rate * SLACK
        self._most = max(1.0, self._rate * BURST)
        self._left = self._most
        self._then: float | None = None

    def allows(self, now: float) -> bool:
        """Whether one more frame may come, at a time in seconds; it counts if so."""
        passed = 0.0 if self._then is None else now - self._then
        self._then = now
        self._left = min(self._most, self._left + passed * self._rate)
        if self._left < 1:
            return False
        self._left -= 1
        return True
