"""Reader of Florence 3D Actions."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from conftest import real_data
from kinegraph.clips.clip import Clip
from kinegraph.errors import ReadError
from kinegraph.readers.florence3d import READER

NAME = "a09_s10_id215.txt"


def read(path: Path) -> Clip:
    (task,) = READER.scan(path).tasks
    (clip,) = READER.read(task)
    assert isinstance(clip, Clip)
    return clip


def lines(count: int) -> str:
    return "".join(f"{i}.5 -{i}.0e+00 {2000 + i} \n" for i in range(1, count + 1))


def write(folder: Path, text: str | bytes, name: str = NAME) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_clip(tmp_path: Path) -> None:
    clip = read(write(tmp_path, lines(30)))
    assert (clip.id, clip.label, clip.fps, clip.layout.name) == (NAME[:-4], 8, None, "florence15")
    assert dict(clip.meta) == {"subject": 10, "recording": 215}
    assert clip.joints.shape == (1, 2, 15, 3)
    assert clip.joints[0, 1, 2].tolist() == [18.5, -18.0, 2018.0]


def test_joints_at_zero_are_absent(tmp_path: Path) -> None:
    clip = read(write(tmp_path, lines(14) + "0 0 0\n"))
    assert np.argwhere(~clip.valid).tolist() == [[0, 0, 14]]


def test_a_file_of_another_name(tmp_path: Path) -> None:
    clip = read(write(tmp_path, lines(15), "mine.txt"))
    assert (clip.id, clip.label, dict(clip.meta)) == ("mine", None, {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        (lines(29), "15 lines for every frame, got 29 lines, which leaves 14"),
        (lines(30)[:-20], ":30: expected 3 numbers in a line, got"),
        (lines(15).replace("2007", "far"), ":7: expected a finite number, got 'far'"),
        (lines(15).replace("2007", "NaN"), ":7: expected a finite number, got 'NaN'"),
        (lines(15).replace("2007", "1e39"), "frame 0, joint 6: expected finite"),
        (lines(15).replace("2007", "2007 1"), ":7: expected 3 numbers in a line, got more"),
        (b"\x89PNG\r\n\x1a\n" + bytes(500), ":1: expected 3 numbers"),
    ],
)
def test_malformed(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ReadError, match=message) as error:
        read(path)
    assert str(error.value).startswith(str(path))


def test_matches(tmp_path: Path) -> None:
    assert READER.matches(write(tmp_path, lines(1)))
    assert not READER.matches(write(tmp_path, lines(1), "mine.txt"))
    assert not READER.matches(write(tmp_path, "1 2 3 4\n", "a01_s1_id1.txt"))
    assert not READER.matches(tmp_path / "a01_s1_id2.txt")


def test_real_clip_by_hand() -> None:
    path = real_data("florence3d") / "a01_s1_id1.txt"
    raw = path.read_text().split()
    clip = read(path)
    assert len(raw) == clip.num_frames * 45
    head = [-222.73712158203125, 540.9954223632812, 2832.409912109375]
    np.testing.assert_allclose(clip.joints[0, 0, 0], head, rtol=1e-6)
    np.testing.assert_allclose(clip.joints[0, -1, 14], [float(x) for x in raw[-3:]], rtol=1e-6)


def test_real_set() -> None:
    plan = READER.scan(real_data("florence3d"))
    assert len(plan.tasks) == 215 and not plan.refused
    clips = [clip for task in plan.tasks for clip in READER.read(task) if isinstance(clip, Clip)]
    assert Counter(int(clip.meta["subject"] or 0) % 2 for clip in clips) == {1: 109, 0: 106}
    assert {clip.label for clip in clips} == set(range(9)) and len(plan.classes or ()) == 9
    assert (min(c.num_frames for c in clips), max(c.num_frames for c in clips)) == (7, 34)
    assert all(clip.valid.all() for clip in clips)
