"""Reader of SBU Kinect Interaction."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from conftest import real_data
from kinegraph.clips.clip import Clip
from kinegraph.errors import ReadError
from kinegraph.readers.sbu import READER
from kinegraph.skeleton.layouts import get_layout

FOLDS = {
    1: "s01s02 s03s04 s05s02 s06s04",
    2: "s02s03 s02s07 s03s05 s05s03",
    3: "s01s03 s01s07 s07s01 s07s03",
    4: "s02s01 s02s06 s03s02 s03s06",
    5: "s04s02 s04s03 s04s06 s06s02 s06s03",
}


def read(path: Path) -> Clip:
    (task,) = READER.scan(path).tasks
    (clip,) = READER.read(task)
    assert isinstance(clip, Clip)
    return clip


def line(frame: int) -> str:
    return ",".join([str(frame), *(f"{0.01 * i:.2f}" for i in range(1, 91))])


def write(folder: Path, text: str | bytes, name: str = "s07s03/08/002/skeleton_pos.txt") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_clip(tmp_path: Path) -> None:
    clip = read(write(tmp_path, f"{line(5)}\r\n{line(6)}\r\n"))
    assert (clip.id, clip.label, clip.fps) == ("s07s03_08_002", 7, 15.0)
    assert dict(clip.meta) == {"pair": "s07s03", "replication": 2}
    assert (clip.layout.name, clip.joints.shape) == ("sbu15", (2, 2, 15, 3))
    # the second person's second joint is (0.49, 0.50, 0.51) in the file
    expected = [1280 - 2560 * 0.49, 960 - 1920 * 0.5, 10000 * 0.51 / 7.8125]
    np.testing.assert_allclose(clip.joints[1, 1, 1], expected, rtol=1e-5, atol=1e-4)


def test_joints_at_zero_are_absent(tmp_path: Path) -> None:
    fields = line(1).split(",")
    fields[4:7] = ["0", "0.0", "-0"]
    clip = read(write(tmp_path, ",".join(fields)))
    assert np.argwhere(~clip.valid).tolist() == [[0, 0, 1]]


def test_a_joint_that_comes_to_lie_at_zero_is_present(tmp_path: Path) -> None:
    fields = line(1).split(",")
    fields[4:7] = ["0.5", "0.5", "0"]
    assert read(write(tmp_path, ",".join(fields))).valid.all()


def test_a_file_of_another_name(tmp_path: Path) -> None:
    clip = read(write(tmp_path, line(1) + "\n", "mine.txt"))
    assert (clip.id, clip.label, dict(clip.meta)) == ("mine", None, {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        (line(1) + "\n" + line(2)[:100], ":2: expected 91 numbers in a line, got "),
        (line(1).replace(",", " "), ":1: expected 91 numbers in a line, got 1"),
        (line(1) + ",1", ":1: expected 91 numbers in a line, got more"),
        (line(1).replace("0.90", "abc"), ":1: expected a finite number, got 'abc'"),
        (line(1).replace("0.90", "nan"), ":1: expected a finite number, got 'nan'"),
        (line(1).replace("0.90", "1e38"), "frame 0, joint 14: expected finite"),
        (line(1).replace("0.90", "1e308"), "frame 0, joint 14: expected finite"),
        (b"\x00\xff" * 1000, ":1: expected 91 numbers"),
    ],
)
def test_malformed(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ReadError, match=message) as error:
        read(path)
    assert str(error.value).startswith(str(path))


def test_matches(tmp_path: Path) -> None:
    assert READER.matches(write(tmp_path, line(1), "mine.txt"))
    assert not READER.matches(write(tmp_path, line(1).replace(",", " "), "spaces.txt"))
    assert not READER.matches(write(tmp_path, line(1), "mine.csv"))
    assert not READER.matches(tmp_path / "none.txt")


def test_real_clip_by_hand() -> None:
    path = real_data("sbu") / "s01s02" / "01" / "001" / "skeleton_pos.txt"
    assert path.read_text().startswith("55,0.21496,0.32665,1.7849,0.21281,0.43903,1.7605,")
    clip = read(path)
    head = [1280 - 2560 * 0.21496, 960 - 1920 * 0.32665, 1.7849 * 1280]
    np.testing.assert_allclose(clip.joints[0, 0, 0], head, rtol=1e-5)
    last = path.read_text().splitlines()[-1].split(",")[-3:]
    right_foot = clip.joints[1, -1, 14]
    np.testing.assert_allclose(right_foot[2], float(last[2]) * 1280, rtol=1e-5)
    assert clip.joints[0, 0, 0, 1] > clip.joints[0, 0, 14, 1]  # y is up: head above foot


def test_real_set() -> None:
    plan = READER.scan(real_data("sbu"))
    assert len(plan.tasks) == 282 and not plan.refused
    clips = [clip for task in plan.tasks for clip in READER.read(task) if isinstance(clip, Clip)]
    assert len({clip.id for clip in clips}) == 282
    assert {clip.label for clip in clips} == set(range(8)) and len(plan.classes or ()) == 8
    assert all(clip.num_persons == 2 and clip.valid.all() for clip in clips)
    assert (min(c.num_frames for c in clips), max(c.num_frames for c in clips)) == (10, 46)


def test_real_folds() -> None:
    pairs = Counter(task.info["meta"]["pair"] for task in READER.scan(real_data("sbu")).tasks)
    assert set(pairs) == {pair for fold in FOLDS.values() for pair in fold.split()}
    sizes = [sum(pairs[pair] for pair in fold.split()) for fold in FOLDS.values()]
    assert sizes == [55, 52, 56, 54, 65]


def test_real_bodies_have_human_size() -> None:
    """The conversion is right to a few per cent only if a torso has the length of a torso."""
    clip = read(real_data("sbu") / "s01s02" / "01" / "001" / "skeleton_pos.txt")
    names = get_layout("sbu15").joints
    neck, hip = names.index("neck"), names.index("left_hip")
    length = np.linalg.norm(clip.joints[:, :, neck] - clip.joints[:, :, hip], axis=-1)
    assert 350 < np.median(length) < 650  # millimetres
