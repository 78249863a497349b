"""Reader of UTD-MHAD."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from conftest import real_data
from kinegraph.clips.clip import Clip
from kinegraph.errors import ReadError
from kinegraph.readers.utd_mhad import READER

NAME = "a27_s8_t4_skeleton.mat"


def read(path: Path) -> Clip:
    (task,) = READER.scan(path).tasks
    (clip,) = READER.read(task)
    assert isinstance(clip, Clip)
    return clip


def write(folder: Path, d_skel: Any, name: str = NAME, variable: str = "d_skel") -> Path:
    savemat(folder / name, {variable: d_skel}, do_compression=True)
    return folder / name


def test_a_clip(tmp_path: Path) -> None:
    raw = np.arange(1, 241, dtype=float).reshape(20, 3, 4)
    clip = read(write(tmp_path, raw))
    assert (clip.id, clip.label, clip.fps) == ("a27_s8_t4_skeleton", 26, 30.0)
    assert dict(clip.meta) == {"subject": 8, "replication": 4}
    assert (clip.layout.name, clip.joints.shape) == ("utd_mhad20", (1, 4, 20, 3))
    assert clip.joints[0, 3, 5].tolist() == [raw[5, 0, 3], raw[5, 1, 3], raw[5, 2, 3]]


def test_one_frame(tmp_path: Path) -> None:
    assert read(write(tmp_path, np.ones((20, 3)))).joints.shape == (1, 1, 20, 3)


def test_a_file_of_another_name(tmp_path: Path) -> None:
    clip = read(write(tmp_path, np.ones((20, 3, 2)), "mine.mat"))
    assert (clip.id, clip.label, dict(clip.meta)) == ("mine", None, {})


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (np.ones((25, 3, 4)), r"shape \(20, 3, frames\), got \(25, 3, 4\)"),
        (np.ones((20, 4)), r"got \(20, 4, 1\)"),
        (np.ones((4, 20, 3)), r"got \(4, 20, 3\)"),
        (np.ones((20, 3, 0)), "at least one frame"),
        (np.full((20, 3, 2), np.nan), "frame 0, joint 0: expected finite"),
        ("letters", "numeric variable 'd_skel'"),
        ({"a": 1}, "numeric variable 'd_skel'"),
    ],
)
def test_malformed(tmp_path: Path, raw: Any, message: str) -> None:
    with pytest.raises(ReadError, match=message):
        read(write(tmp_path, raw))


def test_truncated_and_empty(tmp_path: Path) -> None:
    path = write(tmp_path, np.random.default_rng(0).normal(size=(20, 3, 9)))
    data = path.read_bytes()
    for size in (0, 60, 128, 131, 400, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(ReadError):
            read(path)


def test_another_variable(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="variable 'd_skel'; readable variables: d_iner"):
        read(write(tmp_path, np.ones((20, 6)), variable="d_iner"))


def test_matches(tmp_path: Path) -> None:
    assert READER.matches(write(tmp_path, np.ones((20, 3, 2))))
    assert not READER.matches(write(tmp_path, np.ones((20, 3, 2)), "0001.mat"))
    text = tmp_path / "a1_s1_t1_skeleton.mat"
    text.write_text("not MATLAB")
    assert not READER.matches(text)
    assert not READER.matches(tmp_path / "none_skeleton.mat")


def test_real_clip_by_hand() -> None:
    path = real_data("utd_mhad") / "Skeleton" / "a10_s1_t1_skeleton.mat"
    raw, clip = loadmat(path)["d_skel"], read(path)
    assert clip.num_frames == raw.shape[2]
    for frame, joint in ((0, 0), (7, 3), (raw.shape[2] - 1, 19)):
        expected = [float(np.float32(raw[joint, axis, frame])) for axis in range(3)]
        assert clip.joints[0, frame, joint].tolist() == expected
    head, hip, foot = clip.joints[0, 0, [0, 3, 19], 1]
    assert head > hip > foot


def test_real_set() -> None:
    plan = READER.scan(real_data("utd_mhad"))
    assert len(plan.tasks) == 861 and not plan.refused
    assert plan.classes is not None and len(plan.classes) == 27
    assert {task.info["label"] for task in plan.tasks} == set(range(27))
    odd = Counter(task.info["meta"]["subject"] % 2 for task in plan.tasks)
    assert odd == {1: 431, 0: 430}


@pytest.mark.slow
def test_every_real_clip() -> None:
    tasks = READER.scan(real_data("utd_mhad")).tasks
    clips = [clip for task in tasks for clip in READER.read(task)]
    assert all(isinstance(clip, Clip) and clip.valid.all() for clip in clips)
    frames = [clip.num_frames for clip in clips if isinstance(clip, Clip)]
    assert (min(frames), max(frames)) == (41, 125)
