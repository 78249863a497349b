"""Servers of videos for tests: files with ranges, endless streams, and connections that break."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np
from PIL import Image

from http_server import run_http_server
from video.synthetic_videos import write_video


class VideoServer:
    """Answers requests for the files of a folder, and for paths with an answer of their own.

    Attributes:
        requests: paths that were asked for.
        breaks: number of further requests that break off after half of the file.
        answers: path -> function that writes the body of an answer without a length.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.requests, self.breaks = folder, [], 0
        self.answers: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
        self.types: dict[str, str] = {}

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer a GET request."""
        path = request.path.partition("?")[0]
        self.requests.append(request.path)
        if path in self.answers:
            request.send_response(200)
            request.send_header("content-type", self.types.get(path, "video/mp2t"))
            request.end_headers()
            self.answers[path](request)
            return
        file = self.folder / path.lstrip("/")
        if not file.is_file():
            request.send_error(404)
            return
        content = file.read_bytes()
        start = int((request.headers["range"] or "bytes=0-")[6:].split("-")[0])
        request.send_response(206 if request.headers["range"] else 200)
        request.send_header("content-length", str(len(content) - start))
        request.send_header("accept-ranges", "bytes")
        request.send_header("content-range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        request.end_headers()
        end = len(content)
        if self.breaks and end - start > end // 2:
            self.breaks -= 1
            end = start + (end - start) // 2
        request.wfile.write(content[start:end])


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, VideoServer]]:
    """Run a server in a thread; yield its address and the server."""
    served = VideoServer(folder)

    def get(request: BaseHTTPRequestHandler) -> None:
        with suppress(OSError):  # the client has left
            served.answer(request)

    with run_http_server(do_GET=get) as url:
        yield url, served


def send_jpegs(images: Sequence[np.ndarray], interval: float) -> Callable[..., None]:
    """Return an answer of JPEGs, as cameras send them: multipart/x-mixed-replace."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        for image in images:
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "JPEG", quality=95)
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {buffer.tell()}\r\n\r\n"
            request.wfile.write(head.encode() + buffer.getvalue() + b"\r\n")
            time.sleep(interval)

    return answer


def write_hls(folder: Path, images: Sequence[np.ndarray], fps: int = 10) -> Path:
    """Write a playlist and segments of a second."""
    lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:1", "#EXT-X-PLAYLIST-TYPE:VOD"]
    for start in range(0, len(images), fps):
        name, part = f"part{start}.ts", images[start : start + fps]
        times = [(start + k) / fps for k in range(len(part))]
        write_video(folder / name, part, times, fps)
        lines += [f"#EXTINF:{len(part) / fps:g},", name]
    path = folder / "list.m3u8"
    path.write_text("\n".join([*lines, "#EXT-X-ENDLIST", ""]))
    return path
