"""Videos of a URL or of standard input, which may stall, break off, or have no end."""

from __future__ import annotations

import io
import logging
import math
import re
import sys
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from kinegraph.errors import VideoError
from kinegraph.video.decode import (
    MAX_MISSING_S,
    VideoFrame,
    decode_frames,
    fit_image,
    has_video,
    open_av,
    stated_duration,
    to_upright_image,
    truncation_warning,
)
from kinegraph.video.frame_reader import FrameReader, TimedFrame

if TYPE_CHECKING:
    from av.container import InputContainer

STANDARD_INPUT = "-"
SCHEMES = ("rtsp", "rtsps", "http", "https")
OPEN_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 15.0
"""Seconds without a packet after which a connection is lost; segments of HLS may have 10 s."""
RECONNECT_DELAYS_S = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Seconds before each attempt to connect again; the last one is repeated."""
RECONNECT_S = 300.0
"""Seconds after which a lost connection is given up."""
MAX_AHEAD_S = 60.0
"""Seconds by which a live video may be ahead of the clock, as buffered HLS is."""
_PROTOCOLS = "http,https,httpproxy,tcp,udp,rtp,srtp,tls,crypto"  # no files: a playlist may name any
_MP4_HINT = (
    "; an mp4 file must begin with its index (ffmpeg -movflags +faststart), or come from a server "
    "that supports ranges, or be a local file"
)
_MIN_STEP_S = 1 / 30
_UNTIMED_FORMATS = frozenset({"mpjpeg", "mjpeg", "jpeg_pipe", "h264", "hevc"})
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


class NetworkVideo:
    """The frames of a URL or of standard input, upright; it can be iterated once.

    A live video keeps real time: late frames are dropped, and its time is that of the clock since
    the first frame. All frames of other videos are read, as fast as possible. A connection that
    breaks off is opened again after some time; that and its end are logged.

    Args:
        source: a URL of one of `SCHEMES`, or "-".
        live: whether it is live; None for RTSP, and for other URLs that state no duration.
        reconnect: seconds after which a lost connection is given up.
        delays: seconds before each attempt to connect again; the last one is repeated.

    Attributes:
        name: the URL without user, password and query, or "standard input".
        live: whether it is live.
        duration: in seconds, None if it is not stated.
        frame_count: number of frames, estimated; None if unknown.

    Raises:
        VideoError: it cannot be opened within `OPEN_TIMEOUT_S`, or contains no video.
    """

    def __init__(
        self,
        source: str,
        live: bool | None = None,
        reconnect: float = RECONNECT_S,
        delays: tuple[float, ...] = RECONNECT_DELAYS_S,
    ) -> None:
        self._source, self._reconnect_s, self._delays = source, reconnect, delays
        self._is_piped = source == STANDARD_INPUT
        self.name = name_network_video(source)
        self._container: InputContainer | None = self._open()
        self._hint = _MP4_HINT if "mp4" in self._container.format.name else ""
        stream = self._container.streams.video[0]
        self.duration = stated_duration(self._container, stream)
        has_no_end = source.lower().startswith("rtsp") or not self.duration
        self.live = (has_no_end and not self._is_piped) if live is None else live
        rate = stream.average_rate
        self.frame_count = round(self.duration * rate) if self.duration and rate else None
        stream.thread_type = "SLICE" if self.live else "AUTO"  # threads for frames delay them
        self._reader = FrameReader(self._read(), self.name, live=self.live)
        self._stop = threading.Event()
        self._last = -1.0
        self._attempts, self._lost_at = 0, 0.0

    @property
    def warning(self) -> str:
        """A sentence about dropped or missing frames, or ""."""
        duration = None if self.live else self.duration
        missing = truncation_warning(self.name, self._last, duration)
        return "; ".join(filter(None, [self._reader.describe_dropped(), missing]))

    def __iter__(self) -> Iterator[VideoFrame | None]:
        """Yield the frames, and None several times a second while there is none.

        Raises:
            VideoError: there is no first frame, or the connection was lost and not restored.
        """
        size = None
        try:
            for item in self._reader:
                if item is None:
                    yield None
                    continue
                image = to_upright_image(item[1])
                size = size or image.shape[:2]
                yield VideoFrame(item[0], fit_image(image, *size))
        finally:
            self._stop.set()

    def _read(self) -> Generator[TimedFrame]:
        """Yield the frames of one connection after the other."""
        container, start, clock = self._container, None, LiveClock()
        while container is not None:
            before, error = self._last, None
            arrival_only = container.format.name in _UNTIMED_FORMATS
            clock.start_connection()
            arrival = time.monotonic()
            try:
                with container:
                    self._seek(container, start)
                    for when, frame in decode_frames(container, start):
                        if self.live:
                            when = clock(math.nan if arrival_only else when)
                        elif self._last < 0 and frame.time is not None:
                            start = frame.time - when
                        if when > self._last:
                            self._report_connection()
                            self._last = when
                            yield when, frame
                        arrival = time.monotonic()
            except open_av().error.FFmpegError as caught:
                error = caught
            silence = time.monotonic() - arrival
            reason = describe_error(error, silence, READ_TIMEOUT_S) if error else "it has ended"
            if self._last < 0:
                raise VideoError(f"{self.name} delivers no frames: {reason}{self._hint}")
            if error is None and self._has_ended(has_news=self._last > before):
                return
            container = None if self._is_piped else self._reconnect(reason)

    def _seek(self, container: InputContainer, start: float | None) -> None:
        """Go on after the last frame, if this is not the first connection to a file."""
        if start is not None and self._last >= 0:
            # without a seek all frames up to there are read again
            with suppress(open_av().error.FFmpegError):
                container.seek(round(1e6 * (start + self._last)))

    def _has_ended(self, *, has_news: bool) -> bool:
        """Return whether the end of a connection is that of the video."""
        if self._is_piped:
            return True
        is_whole = not self.duration or self._last >= self.duration - MAX_MISSING_S
        return not self.live and (is_whole or not has_news)

    def _reconnect(self, reason: str) -> InputContainer | None:
        """Return a new connection; None if no more frames are wanted."""
        if not self._attempts:
            self._lost_at = time.monotonic()
        while True:
            delay = self._delays[min(self._attempts, len(self._delays) - 1)]
            if time.monotonic() - self._lost_at + delay > self._reconnect_s:
                raise VideoError(
                    f"{self.name}: the connection was lost after {self._last:.1f} s and could not "
                    f"be restored within {self._reconnect_s:g} s: {reason}{self._hint}"
                )
            message = "%s: connection lost (%s); connecting again in %g s"
            logging.getLogger(__name__).warning(message, self.name, reason, delay)
            if self._stop.wait(delay):
                return None
            self._attempts += 1
            try:
                return self._open()
            except VideoError as error:
                reason = str(error).removeprefix(f"{self.name} ")

    def _report_connection(self) -> None:
        if self._attempts:
            self._attempts = 0
            seconds = time.monotonic() - self._lost_at
            message = "%s: connected again after %.0f s"
            logging.getLogger(__name__).warning(message, self.name, seconds)

    def _open(self) -> InputContainer:
        av = open_av()
        what: Any = open_standard_input() if self._is_piped else self._source
        began = time.monotonic()
        try:
            container = av.open(
                what,
                metadata_errors="ignore",
                options={"protocol_whitelist": _PROTOCOLS, "rtsp_flags": "prefer_tcp"},
                timeout=None if self._is_piped else (OPEN_TIMEOUT_S, READ_TIMEOUT_S),
            )
        except (av.error.FFmpegError, OSError, ValueError) as error:
            reason = describe_error(error, time.monotonic() - began, OPEN_TIMEOUT_S)
            # the message of the cause has the password
            raise VideoError(f"{self.name} cannot be opened as a video: {reason}") from None
        if not has_video(container):
            container.close()
            raise VideoError(f"{self.name} cannot be opened as a video: it has no video stream")
        return container


class LiveClock:
    """Times of the frames of a live video, in seconds since the first one.

    They are those of the video. When it is connected again, or its clock jumps ahead, they go on at
    the time that has passed.
    """

    def __init__(self) -> None:
        self._began: float | None = None
        self._offset: float | None = None
        self._last = 0.0

    def start_connection(self) -> None:
        """Begin a connection, whose times have another zero."""
        self._offset = None

    def __call__(self, when: float) -> float:
        """Return the time of a frame that has just arrived.

        Args:
            when: time since the first frame of the connection; NaN for that of its arrival.
        """
        now = time.monotonic()
        if self._began is None:
            self._began, self._offset = now, -when
        passed = now - self._began
        if math.isnan(when):
            return passed
        if self._offset is None or when + self._offset > passed + MAX_AHEAD_S:
            self._offset = max(passed, self._last + _MIN_STEP_S) - when
        self._last = when + self._offset
        return self._last


def is_network_video(source: str) -> bool:
    """Return whether a text means a URL or standard input, not a file or a camera."""
    return source == STANDARD_INPUT or _URL.match(source) is not None


def name_network_video(url: str) -> str:
    """Return a URL without user, password, query and fragment, which may be secret.

    Raises:
        VideoError: it is neither a URL of one of `SCHEMES` nor "-".
    """
    if url == STANDARD_INPUT:
        return "standard input"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or parts.scheme not in SCHEMES:
        schemes = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise VideoError(f"expected a URL with a host that begins with one of {schemes}")
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}" + ("" if port is None else f":{port}") + parts.path


def describe_error(error: Exception, seconds: float, timeout: float) -> str:
    """Return the reason of an error of FFmpeg, without the URL that its message contains.

    Args:
        error: the error; not all formats keep the type of a timeout.
        seconds, timeout: time that was needed, and the time limit.
    """
    if seconds >= timeout or isinstance(error, open_av().error.ExitError):
        return f"no answer for {timeout:g} s"
    return str(getattr(error, "strerror", None) or type(error).__name__)


def open_standard_input() -> Any:
    """Open standard input as a file of bytes.

    Raises:
        VideoError: it is a terminal, or closed.
    """
    if sys.stdin is None or sys.stdin.isatty():
        raise VideoError("expected a video on standard input, found a terminal")
    # without a buffer: a thread that waits for a buffered one aborts the exit of the interpreter
    return io.FileIO(sys.stdin.fileno(), closefd=False)
