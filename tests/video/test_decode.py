"""Pictures with their times, whatever the file."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from kinegraph.errors import ReadError, VideoError
from kinegraph.video.decode import Camera, VideoFile, parse_camera_index
from video.synthetic_videos import add_rotation, picture, require_av, write_video

require_av()


def test_pictures_come_upright_in_their_order_with_their_times(tmp_path):
    path = write_video(tmp_path / "a.mp4", [picture(n) for n in range(0, 200, 10)])
    video = VideoFile(path)
    assert (video.width, video.height, video.frame_count) == (64, 48, 20)
    assert video.duration == pytest.approx(20 / 30, abs=1e-3)
    for _ in range(2):  # it can be gone through again
        pictures = list(video)
        assert [p.time for p in pictures] == pytest.approx([n / 30 for n in range(20)], abs=1e-4)
        assert [int(p.image[-8, -8, 0]) for p in pictures] == pytest.approx(
            range(0, 200, 10), abs=4
        )
        assert pictures[0].image[4, 4].min() > 240
    assert video.warning == ""


def test_times_are_those_of_the_file_even_or_not(tmp_path):
    times = [0.0, 0.05, 0.3, 0.31, 2.0]
    path = write_video(tmp_path / "a.mkv", [picture(9)] * 5, [t + 7 for t in times])
    assert [p.time for p in VideoFile(path)] == pytest.approx(times, abs=2e-3)


def test_a_turned_recording_is_turned_back(tmp_path):
    path = write_video(tmp_path / "a.mp4", [picture(20)] * 3)
    add_rotation(path)
    video = VideoFile(path)
    assert (video.width, video.height) == (48, 64)
    image = next(iter(video)).image
    assert image[4, -4].min() > 230 and image[4, 4].max() < 60  # what was left is now right


def test_pictures_of_another_size_are_fitted_into_the_first(tmp_path):
    small = write_video(tmp_path / "a.ts", [picture(80)] * 30)
    large = write_video(tmp_path / "b.ts", [picture(80, 48, 128)] * 30)
    both = tmp_path / "c.ts"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    pictures = list(VideoFile(both))
    assert len(pictures) == 60 and {p.image.shape for p in pictures} == {(48, 64, 3)}
    last = pictures[-1].image
    assert last[2].max() < 20 and abs(int(last[28, 60, 0]) - 80) < 12  # black above, whole


def test_a_recording_that_breaks_off_is_read_as_far_as_it_goes(tmp_path):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (48, 64, 3), dtype=np.uint8) for _ in range(120)]
    whole = write_video(tmp_path / "a.mp4", images, options={"movflags": "+faststart"})
    half = tmp_path / "half.mp4"
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    video = VideoFile(half)
    pictures = list(video)
    assert 40 < len(pictures) < 80
    assert "is truncated after" in video.warning and "of 4.0 s" in video.warning


def test_damage_in_the_middle_costs_what_is_damaged(tmp_path):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (48, 64, 3), dtype=np.uint8) for _ in range(60)]
    path = write_video(tmp_path / "a.mkv", images)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = bytes(3000)
    path.write_bytes(content)
    assert 40 < len(list(VideoFile(path))) <= 60


def test_recordings_that_were_joined_go_on(tmp_path):
    part = write_video(tmp_path / "a.ts", [picture(9)] * 30)
    joined = tmp_path / "b.ts"
    joined.write_bytes(part.read_bytes() * 2)
    times = [p.time for p in VideoFile(joined)]
    assert len(times) == 60 and np.diff(times).min() > 0
    assert times[-1] == pytest.approx(59 / 30, abs=0.1)


@pytest.mark.parametrize("content", [b"", b"no video at all\n" * 200, bytes(range(256)) * 40])
@pytest.mark.parametrize("name", ["a.mp4", "a.txt"])
def test_what_is_no_video_is_refused(tmp_path, content, name):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ReadError, match=r"a\.(mp4|txt): expected a video"):
        VideoFile(path)


def test_a_playlist_fetches_nothing(tmp_path):
    path = tmp_path / "a.m3u8"
    path.write_text("#EXTM3U\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(ReadError, match="expected a video"):
        VideoFile(path)


def test_a_file_that_is_not_there_is_said_to_be_missing(tmp_path):
    with pytest.raises(ReadError, match="found no such file"):
        VideoFile(tmp_path / "a.mp4")


def test_memory_does_not_grow_with_the_length(tmp_path):
    path = write_video(tmp_path / "a.mp4", [picture(n % 200) for n in range(900)])
    video = VideoFile(path)
    tracemalloc.start()
    seen = sum(1 for _ in video)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seen == 900 and peak < 2_000_000  # the pictures are 8 MB


def test_a_camera_that_is_not_there_is_said_to_be_missing():
    pytest.importorskip("cv2", reason="NOT TESTED: the extra `video` is not installed")
    with pytest.raises(VideoError, match="camera 99 delivers no frames"):
        Camera(99)


@pytest.mark.parametrize(
    ("text", "index"),
    [("0", 0), ("/dev/video2", 2), ("camera", None), ("camera:1", 1), ("a.mp4", None)],
)
def test_what_means_a_camera(text, index):
    assert parse_camera_index(text) == index
