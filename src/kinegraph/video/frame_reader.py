"""A thread that reads the frames of a source ahead, and drops late ones to keep real time."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av import VideoFrame as AVFrame

MAX_LAG_S = 0.5
"""Seconds that a frame of a live source may wait for those before it; later ones are dropped."""
MAX_QUEUED_FRAMES = 8
IDLE_INTERVAL_S = 0.2
REPORT_INTERVAL_S = 60.0
"""Seconds between two messages about dropped frames."""
READER_STOP_TIMEOUT_S = 1.0

TimedFrame = tuple[float, "AVFrame"]


class FrameReader:
    """Iterates over frames that another thread reads.

    A frame is late if it comes more than `MAX_LAG_S` later than it would have come if frames took
    no time to process, counted from the last moment at which the source was waited for. So a source
    that delivers seconds of frames at once, as HLS does, has no late frames.

    Args:
        frames: time in seconds, and frame; advanced in the other thread only.
        name: of the source, for messages.
        live: whether late frames are dropped.

    Attributes:
        dropped: number of dropped frames.
    """

    def __init__(self, frames: Generator[TimedFrame], name: str, *, live: bool) -> None:
        self.dropped = 0
        self._frames, self._name, self._live = frames, name, live
        self._queue: queue.Queue[TimedFrame | Exception | None] = queue.Queue(MAX_QUEUED_FRAMES)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, name="frames", daemon=True)

    def __iter__(self) -> Iterator[TimedFrame | None]:
        """Yield the frames, and None several times a second while there is none.

        Raises:
            Exception: whatever ended the frames.
        """
        self._thread.start()
        zero = reported = time.monotonic()  # zero: when a frame of time 0 is on time
        try:
            while True:
                was_empty = self._queue.empty()
                try:
                    item = self._queue.get(timeout=IDLE_INTERVAL_S)
                except queue.Empty:
                    yield None
                    continue
                if item is None:
                    return
                if isinstance(item, Exception):
                    raise item
                now = time.monotonic()
                if was_empty:
                    zero = now - item[0]
                elif self._live and now - zero - item[0] > MAX_LAG_S:
                    self.dropped += 1
                    continue
                yield item
                if self.dropped and now - reported > REPORT_INTERVAL_S:
                    reported = now
                    logging.getLogger(__name__).warning(
                        "%s: %s so far", self._name, self.describe_dropped()
                    )
        finally:
            self._stop.set()
            self._thread.join(READER_STOP_TIMEOUT_S)

    def describe_dropped(self) -> str:
        """Return the number of dropped frames in words, or ""."""
        return f"frames that came too late and were dropped: {self.dropped}" if self.dropped else ""

    def _read(self) -> None:
        last: Exception | None = None
        try:
            for item in self._frames:
                self._put(item)
                if self._stop.is_set():
                    return
        except Exception as error:  # it is raised in the thread of the consumer
            last = error
        finally:
            self._frames.close()
        self._put(last)

    def _put(self, item: TimedFrame | Exception | None) -> None:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=IDLE_INTERVAL_S)
                return
            except queue.Full:
                continue
