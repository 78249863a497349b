"""Videos of URLs and of standard input: all of their frames, or those in real time."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from fractions import Fraction
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest

from kinegraph.errors import VideoError
from kinegraph.video import frame_reader, network_video
from kinegraph.video.frame_reader import FrameReader
from kinegraph.video.network_video import NetworkVideo, is_network_video, name_network_video
from video.synthetic_videos import picture, require_av, write_video
from video.video_servers import send_jpegs, serving, write_hls

av = require_av()

NOISE = np.random.default_rng(0).integers(0, 255, (60, 48, 64, 3), dtype=np.uint8)


def read(video: NetworkVideo) -> list:
    """Return all frames."""
    return [frame for frame in video if frame is not None]


@pytest.fixture
def quick(monkeypatch):
    """Give up servers that do not answer after half a second."""
    monkeypatch.setattr(network_video, "OPEN_TIMEOUT_S", 0.5)
    monkeypatch.setattr(network_video, "READ_TIMEOUT_S", 0.5)


@contextmanager
def silent() -> Iterator[int]:
    """Open a port that accepts connections and answers nothing."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


@pytest.mark.parametrize("name", ["a.mp4", "a.ts", "list.m3u8"])
def test_a_file_of_a_server_has_all_its_frames(tmp_path, name):
    images = [picture(n) for n in range(0, 180, 6)]
    write_video(tmp_path / "a.mp4", images, fps=10, options={"movflags": "+faststart"})
    write_video(tmp_path / "a.ts", images, fps=10)
    write_hls(tmp_path, images)
    with serving(tmp_path) as (url, _):
        video = NetworkVideo(f"{url}/{name}")
        frames = read(video)
    assert [frame.time for frame in frames] == pytest.approx(np.arange(30) / 10, abs=1e-3)
    levels = [int(frame.image[-8, -8, 0]) for frame in frames]
    assert levels == pytest.approx(range(0, 180, 6), abs=4)
    assert not video.live and video.warning == "" and video.duration == pytest.approx(3, abs=0.15)


@pytest.mark.parametrize(("name", "breaks"), [("a.mp4", 3), ("a.ts", 2)])
def test_a_file_whose_connection_breaks_has_all_its_frames(tmp_path, caplog, name, breaks):
    write_video(tmp_path / name, NOISE, options={"movflags": "+faststart"})
    with serving(tmp_path) as (url, server), caplog.at_level(logging.WARNING):
        server.breaks = breaks
        video = NetworkVideo(f"{url}/{name}", live=False, delays=(0.01,))
        frames = read(video)
    assert [frame.time for frame in frames] == pytest.approx(np.arange(60) / 30, abs=1e-3)
    assert server.breaks == 0 and "connection lost (" in caplog.text


def test_a_truncated_file_of_a_server_ends_with_a_warning(tmp_path):
    whole = write_video(tmp_path / "a.mp4", NOISE, fps=15, options={"movflags": "+faststart"})
    (tmp_path / "b.mp4").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with serving(tmp_path) as (url, _):
        video = NetworkVideo(f"{url}/b.mp4", delays=(0.01,))
        assert 20 < len(read(video)) < 40
    assert "b.mp4 is truncated after" in video.warning and "of 4.0 s" in video.warning


def test_a_live_video_goes_on_after_a_break(tmp_path, caplog):
    part = write_video(tmp_path / "a.ts", [picture(90)] * 8).read_bytes()
    with serving(tmp_path) as (url, server), caplog.at_level(logging.WARNING):
        server.answers["/live"] = lambda request: request.wfile.write(part)
        video = NetworkVideo(f"{url}/live?token=secret", delays=(0.6,))
        with closing(iter(video)) as frames:
            found = list(islice((frame for frame in frames if frame), 20))
    assert video.live
    times = np.array([frame.time for frame in found])
    assert (np.diff(times) > 0).all()
    gaps = np.flatnonzero(np.diff(times) > 0.2)
    assert len(found) == 20 and list(gaps) == [7, 15]
    assert "connecting again in 0.6 s" in caplog.text
    assert "connected again after" in caplog.text and "secret" not in caplog.text


def test_a_lost_live_video_is_given_up(tmp_path):
    part = write_video(tmp_path / "a.ts", [picture(90)] * 20).read_bytes()
    with serving(tmp_path) as (url, server):
        server.answers["/live"] = lambda request: request.wfile.write(part)
        video = NetworkVideo(f"{url}/live", delays=(0.05, 0.1), reconnect=0.4)
        server.answers["/live"] = lambda request: None
        seen = []
        with pytest.raises(VideoError, match=r"lost after 0\.6 s and could not be restored within"):
            seen += read(video)
    attempts = server.requests.count("/live") - 1
    assert 2 <= attempts <= 5


def test_a_camera_of_jpegs_has_the_times_of_their_arrival(tmp_path):
    images = [picture(n) for n in range(0, 200, 10)]
    with serving(tmp_path) as (url, server):
        server.answers["/camera"] = send_jpegs(images, 0.05)
        server.types["/camera"] = "multipart/x-mixed-replace;boundary=frame"
        video = NetworkVideo(f"{url}/camera")
        with closing(iter(video)) as frames:
            found = list(islice((frame for frame in frames if frame), 18))
    assert video.live and found[-1].time > 0.6  # the first ones were buffered
    assert int(found[-1].image[-8, -8, 0]) >= 150


@pytest.mark.parametrize("scheme", ["http", "https", "rtsp"])
def test_a_server_that_never_answers_is_one_sentence(quick, scheme):
    with silent() as port:
        begun = time.monotonic()
        with pytest.raises(VideoError) as error:
            NetworkVideo(f"{scheme}://admin:secret@127.0.0.1:{port}/x?pw=secret")
        assert time.monotonic() - begun < 10
    name = f"{scheme}://127.0.0.1:{port}/x"
    assert str(error.value) == f"{name} cannot be opened as a video: no answer for 0.5 s"
    assert error.value.__cause__ is None and error.value.__suppress_context__


def test_a_server_that_falls_silent_is_lost(tmp_path, quick, caplog):
    part = write_video(tmp_path / "a.ts", [picture(90)] * 20).read_bytes()

    def answer(request):
        request.wfile.write(part)
        request.wfile.flush()
        time.sleep(2)

    with serving(tmp_path) as (url, server), caplog.at_level(logging.WARNING):
        server.answers["/live"] = answer
        video = NetworkVideo(f"{url}/live", delays=(0.1,), reconnect=0.0)
        with pytest.raises(VideoError, match=r"could not be restored.*no answer for 0\.5 s"):
            read(video)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("rtsp://u:secret@127.0.0.1:9/x", "rtsp://127.0.0.1:9/x cannot be opened as a video: Conn"),
        ("http://127.0.0.1:9/a.m3u8?secret", "http://127.0.0.1:9/a.m3u8 cannot be opened as a vid"),
        ("ftp://u:secret@host/a", "begins with one of rtsp://, rtsps://, http://, https://"),
        ("file:///etc/passwd", "expected a URL with a host"),
        ("http://", "expected a URL with a host"),
        ("rtsp://u:secret@host:port/", "expected a URL with a host"),
        ("concat:///etc/passwd|x", "expected a URL with a host"),
    ],
)
def test_a_url_that_cannot_be_opened_is_one_sentence_without_secrets(url, said):
    with pytest.raises(VideoError) as error:
        NetworkVideo(url)
    assert said in str(error.value) and "secret" not in str(error.value)


def test_a_playlist_of_a_server_reads_no_local_files(tmp_path):
    local = write_video(tmp_path / "a.ts", [picture(90)] * 20)
    text = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{local}\n#EXT-X-ENDLIST\n"
    (tmp_path / "a.m3u8").write_text(text)
    with serving(tmp_path) as (url, _), pytest.raises(VideoError):
        read(NetworkVideo(f"{url}/a.m3u8"))


def test_an_mp4_with_its_index_at_the_end_needs_a_server_with_ranges(tmp_path):
    content = write_video(tmp_path / "a.mp4", NOISE).read_bytes()
    with serving(tmp_path) as (url, server):
        assert len(read(NetworkVideo(f"{url}/a.mp4"))) == 60
        server.answers["/b.mp4"] = lambda request: request.wfile.write(content)
        with pytest.raises(VideoError, match=r"b\.mp4.*; an mp4 file must begin"):
            read(NetworkVideo(f"{url}/b.mp4", reconnect=0.0))


def test_what_is_no_video_is_one_sentence(tmp_path):
    (tmp_path / "a.html").write_text("<html>" + "no video at all\n" * 500)
    with serving(tmp_path) as (url, _):
        for name in ("a.html", "absent.mp4"):
            with pytest.raises(VideoError, match=f"{name} cannot be opened as a video: "):
                NetworkVideo(f"{url}/{name}")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("rtsp://admin:p%40ss@10.0.0.8:554/Streaming/1?pw=x#y", "rtsp://10.0.0.8:554/Streaming/1"),
        ("https://example.org/live.m3u8?token=x", "https://example.org/live.m3u8"),
        ("http://user@[::1]:80/a", "http://[::1]:80/a"),
        ("-", "standard input"),
    ],
)
def test_a_name_has_no_secrets(url, name):
    assert is_network_video(url) and name_network_video(url) == name


@pytest.mark.parametrize("text", ["a.mp4", "C:\\a.mp4", "0", "camera:0", "a-b", "/dev/video0"])
def test_what_is_not_a_url(text):
    assert not is_network_video(text)


# --------------------------------------------------------------------- standard input

READ_STANDARD_INPUT = """
from kinegraph.video.network_video import NetworkVideo
video = NetworkVideo("-")
frames = [frame for frame in video if frame is not None]
print(video.name, video.live, len(frames), round(frames[-1].time, 2))
"""


def read_standard_input(**options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", READ_STANDARD_INPUT]
    return subprocess.run(command, capture_output=True, timeout=60, check=False, **options)


def test_standard_input_is_a_video_piped_or_redirected(tmp_path):
    piped = write_video(tmp_path / "a.ts", [picture(90)] * 40).read_bytes()
    assert read_standard_input(input=piped).stdout == b"standard input False 40 1.3\n"
    path = write_video(tmp_path / "a.mp4", [picture(90)] * 40)  # its index is at the end
    with path.open("rb") as file:
        assert read_standard_input(stdin=file).stdout == b"standard input False 40 1.3\n"


def test_standard_input_without_a_video_is_one_sentence(tmp_path):
    for content in (b"", b"no video at all\n" * 100):
        found = read_standard_input(input=content).stderr.decode().splitlines()[-1]
        assert found.startswith("kinegraph.errors.VideoError: standard input cannot be opened as a")


# --------------------------------------------------------------------- rtsp, without a server


class FakeContainer:
    """Delivers frames at their times, and then an error."""

    format = SimpleNamespace(name="rtsp")
    duration = None

    def __init__(self, frames, error):
        self.frames, self.error, self.closed = frames, error, False
        stream = SimpleNamespace(duration=None, time_base=None, average_rate=Fraction(30))
        self.streams = SimpleNamespace(video=[stream])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.closed = True

    def demux(self, _):
        for number in range(self.frames):
            frame = av.VideoFrame.from_ndarray(picture(90), format="rgb24")
            frame.pts, frame.time_base = 3000 * number + 77, Fraction(1, 90_000)
            yield SimpleNamespace(decode=lambda frame=frame: [frame])
        if self.error:
            raise self.error


def test_rtsp_is_read_by_tcp_with_timeouts_and_connects_again(monkeypatch, caplog):
    lost = av.error.FFmpegError(110, "Connection timed out", "rtsp://u:secret@host/x")
    refused = av.error.ConnectionRefusedError(111, "Connection refused", "rtsp://u:secret@host/x")
    made = [FakeContainer(5, lost), refused, FakeContainer(4, None), FakeContainer(3, lost)]
    calls = []

    def open_fake(url, **options):
        calls.append((url, options))
        found = made[len(calls) - 1] if len(calls) <= len(made) else refused
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(av, "open", open_fake)
    video = NetworkVideo("rtsp://u:secret@host/x", delays=(0.05, 0.1), reconnect=0.5)
    found = []
    with caplog.at_level(logging.WARNING), pytest.raises(VideoError, match="Connection refused"):
        found.extend(frame for frame in video if frame is not None)
    assert video.live and video.name == "rtsp://host/x"
    url, options = calls[0]
    assert url == "rtsp://u:secret@host/x" and options["options"]["rtsp_flags"] == "prefer_tcp"
    assert options["timeout"] == (network_video.OPEN_TIMEOUT_S, network_video.READ_TIMEOUT_S)
    times = np.array([frame.time for frame in found])
    assert len(times) == 12 and (np.diff(times) > 0).all()
    assert all(one.closed for one in made if isinstance(one, FakeContainer))
    assert "connection lost (Connection timed out); connecting again in 0.05 s" in caplog.text
    assert "connection lost (cannot be opened as a video: Connection refused)" in caplog.text
    assert "secret" not in caplog.text


# --------------------------------------------------------------------- real time


def made_frames(count: int, interval: float, fps: float = 100.0):
    for number in range(count):
        time.sleep(interval)
        yield number / fps, number


def test_late_frames_of_a_live_source_are_dropped_evenly(monkeypatch):
    monkeypatch.setattr(frame_reader, "MAX_LAG_S", 0.1)
    reader = FrameReader(made_frames(150, 0.01), "a camera", live=True)
    seen = []
    for item in reader:
        if item is not None:
            seen.append(item[1])
            time.sleep(0.03)
    assert len(seen) + reader.dropped == 150 and 50 < reader.dropped < 120
    assert max(np.diff(seen)) <= 12
    assert reader.describe_dropped().endswith(f"dropped: {reader.dropped}")


def test_frames_of_other_sources_wait():
    reader = FrameReader(made_frames(40, 0.0), "a file", live=False)
    seen = []
    for item in reader:
        if item is not None:
            seen.append(item[1])
            time.sleep(0.03)
    assert seen == list(range(40)) and reader.describe_dropped() == ""


def test_frames_that_come_in_bursts_are_not_late(monkeypatch):
    monkeypatch.setattr(frame_reader, "MAX_LAG_S", 0.1)

    def bursts():
        for number in range(60):
            if number % 20 == 0:
                time.sleep(0.25)
            yield number / 100, number

    reader = FrameReader(bursts(), "a playlist", live=True)
    seen = [item[1] for item in reader if item is not None]
    assert seen == list(range(60)) and reader.dropped == 0


def test_a_reader_that_is_left_ends_its_thread():
    closed = []

    def frames():
        try:
            for number in range(10_000):
                yield number / 30, number
        finally:
            closed.append(True)

    reader = FrameReader(frames(), "a file", live=False)
    with closing(iter(reader)) as items:
        assert next(items) == (0.0, 0)
    assert closed == [True] and not reader._thread.is_alive()


def test_a_silent_source_gives_its_reader_time_to_stop():
    reader = FrameReader(made_frames(1, 0.5), "a camera", live=True)
    assert list(reader).count(None) >= 1
