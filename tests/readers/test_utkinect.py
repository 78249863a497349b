"""Reader of UTKinect-Action3D."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from conftest import real_data
from kinegraph.clips.clip import Clip
from kinegraph.clips.intervals import parse_intervals
from kinegraph.errors import ReadError, UnknownNameError
from kinegraph.readers.utkinect import READER

LABELS = "s01_e02\nwalk: 12 16\nsitDown: 17 100\ncarry: NaN NaN\npull: 11 11\n"
NUMBERS = (10, 12, 12, 16, 18)


def read(source: Path, **options: str) -> list[Clip | ReadError]:
    plan = READER.scan(source, **options)
    return [clip for task in plan.tasks for clip in READER.read(task)]


def read_one(path: Path, **options: str) -> Clip:
    (clip,) = read(path, **options)
    assert isinstance(clip, Clip)
    return clip


def line(number: object, row: int = 0) -> str:
    return "  ".join([str(number), *(f"{row + 0.01 * i:.2f}" for i in range(1, 61))]) + " \n"


def write(
    folder: Path,
    text: str | bytes = "".join(line(n, row) for row, n in enumerate(NUMBERS)),
    name: str = "joints_s01_e02.txt",
) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def write_labels(folder: Path, text: str = LABELS, name: str = "actionLabel.txt") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_segments(tmp_path: Path) -> None:
    write(tmp_path)
    labels = write_labels(tmp_path)
    plan = READER.scan(tmp_path)
    assert plan.refused == ((labels, f"{labels}:4: s01_e02: carry has no frame range (NaN)"),)
    walk, sit, pull = read(tmp_path)
    assert isinstance(walk, Clip) and isinstance(sit, Clip)
    assert (walk.id, walk.label, walk.fps, walk.layout.name) == (
        "s01_e02_walk",
        0,
        None,
        "kinect20",
    )
    assert dict(walk.meta) == {"subject": 1, "replication": 2}
    assert walk.joints.shape == (1, 2, 20, 3)  # frames 12 and 16; the second 12 is left out
    np.testing.assert_allclose(walk.joints[0, :, 0, 0], [1.01, 3.01], rtol=1e-6)
    assert (sit.id, sit.label, sit.num_frames) == ("s01_e02_sitDown", 1, 1)
    assert isinstance(pull, ReadError)
    assert str(pull).endswith("expected frames from 11 to 11 (pull), found none")


def test_recordings(tmp_path: Path) -> None:
    path = write(tmp_path)
    write_labels(tmp_path)
    for source in (tmp_path, path):
        clip = read_one(source, what="recordings")
        assert (clip.id, clip.label, clip.num_frames) == ("s01_e02", None, 4)
        assert parse_intervals(clip.meta, 4) == ((0, 1, 3), (1, 3, 4))
    assert READER.scan(tmp_path, what="recordings").refused == ()


def test_the_corrected_labels_are_used(tmp_path: Path) -> None:
    write(tmp_path)
    write_labels(tmp_path)
    write_labels(tmp_path, "s01_e02\nwalk: 10 18\n", "actionLabel_modified.txt")
    assert read_one(tmp_path).num_frames == 4


def test_a_folder_needs_labels_for_segments(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(ReadError, match=r"expected actionLabel\.txt beside the recordings"):
        READER.scan(tmp_path)
    clip = read_one(tmp_path, what="recordings")
    assert (clip.label, clip.num_frames, "intervals" in clip.meta) == (None, 4, False)


def test_a_recording_without_ranges_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    stray = write(tmp_path, name="joints_s09_e09.txt")
    write_labels(tmp_path, "s01_e02\nwalk: 10 18\n")
    plan = READER.scan(tmp_path)
    assert [u.path.name for u in plan.tasks] == ["joints_s01_e02.txt"]
    assert [path for path, _ in plan.refused] == [stray]
    assert "expected frame ranges of s09_e09, found none" in plan.refused[0][1]


def test_one_file(tmp_path: Path) -> None:
    path = write(tmp_path)
    assert (read_one(path).id, read_one(path).label) == ("s01_e02", None)
    mine = write(tmp_path, name="mine.txt")
    assert (read_one(mine).id, dict(read_one(mine).meta)) == ("mine", {})
    write_labels(tmp_path)
    assert len(READER.scan(path).tasks) == 1
    assert [c.label for c in read(path) if isinstance(c, Clip)] == [0, 1]


def test_joints_at_zero_are_absent(tmp_path: Path) -> None:
    clip = read_one(write(tmp_path, "7 " + "0 0 0 " + "1 0 0 " * 19))
    assert np.argwhere(~clip.valid).tolist() == [[0, 0, 0]]


def test_options_are_checked(tmp_path: Path) -> None:
    path = write(tmp_path)
    with pytest.raises(UnknownNameError, match=r"'segment' .did you mean 'segments'"):
        READER.scan(path, what="segment")
    assert set(READER.options) == {"what"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        (line(1) + line(2)[:99], ":2: expected 61 numbers in a line, got "),
        (line("1 1"), ":1: expected 61 numbers in a line, got more"),
        (line(1) + line("two"), ":2: expected a finite number, got 'two'"),
        (line(1) + line("NaN"), ":2: expected a finite number, got 'NaN'"),
        (line(1) + line(3) + line(2), "increasing frame numbers, got 2 after 3"),
        (line(1).replace("0.60", "1e300"), "frame 0, joint 19: expected finite"),
        (b"\x00" * 5000, ":1: expected 61 numbers"),
    ],
)
def test_malformed(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ReadError, match=message) as error:
        read(path)
    assert str(error.value).startswith(str(path))


def test_absurd_frame_numbers_cost_nothing(tmp_path: Path) -> None:
    clip = read_one(write(tmp_path, line(1) + line(10**18)))
    assert clip.num_frames == 2


def test_malformed_labels(tmp_path: Path) -> None:
    write(tmp_path)
    write_labels(tmp_path, "s01_e02\nrun: 1 2\n")
    with pytest.raises(ReadError, match=r"actionLabel\.txt:2: unknown action 'run'"):
        READER.scan(tmp_path)


def test_matches(tmp_path: Path) -> None:
    assert READER.matches(write(tmp_path, name="mine.txt"))
    assert not READER.matches(write(tmp_path, "1 2 3\n", "joints_s01_e01.txt"))
    assert not READER.matches(write_labels(tmp_path))
    assert not READER.matches(write(tmp_path, name="mine.csv"))


def test_real_segments() -> None:
    source = real_data("utkinect")
    plan = READER.scan(source)
    assert len(plan.tasks) == 20 and len(plan.classes or ()) == 10
    assert [path.name for path, _ in plan.refused] == ["actionLabel_modified.txt"]
    assert "s10_e02: carry has no frame range (NaN)" in plan.refused[0][1]
    clips = [clip for clip in read(source) if isinstance(clip, Clip)]
    assert len({clip.id for clip in clips}) == len(clips) == 199
    assert Counter(int(clip.meta["subject"] or 0) % 2 for clip in clips) == {1: 100, 0: 99}
    assert Counter(clip.label for clip in clips) == {n: 19 if n == 4 else 20 for n in range(10)}
    assert (min(c.num_frames for c in clips), max(c.num_frames for c in clips)) == (5, 110)
    assert all(clip.valid.all() for clip in clips)


def test_real_segment_by_hand() -> None:
    path = real_data("utkinect") / "joints" / "joints_s01_e01.txt"
    rows = {}
    for text in path.read_text().splitlines():
        number, *joints = text.split()
        rows.setdefault(int(number), joints)
    inside = [joints for number, joints in rows.items() if 252 <= number <= 390]  # walk
    (walk,) = (c for c in read(path) if isinstance(c, Clip) and c.id == "s01_e01_walk")
    assert walk.num_frames == len(inside)
    np.testing.assert_allclose(walk.joints[0].reshape(-1, 60), np.float32(inside), rtol=1e-6)


def test_real_recordings() -> None:
    clips = [c for c in read(real_data("utkinect"), what="recordings") if isinstance(c, Clip)]
    assert len(clips) == 20 and all(clip.label is None for clip in clips)
    assert (clips[0].id, clips[0].num_frames) == ("s01_e01", 545)
    intervals = [parse_intervals(clip.meta, clip.num_frames) or () for clip in clips]
    assert sum(map(len, intervals)) == 199
    lengths = {c.id: c.num_frames for c in read(real_data("utkinect")) if isinstance(c, Clip)}
    label, start, stop = intervals[0][0]
    assert (label, stop - start) == (0, lengths["s01_e01_walk"])
