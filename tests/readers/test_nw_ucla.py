"""Reader of NW-UCLA."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import real_data
from kinegraph.clips.clip import Clip
from kinegraph.errors import ReadError
from kinegraph.readers.nw_ucla import READER
from kinegraph.readers.reader import ReadTask

NAME = "a08_s02_e03_v01.json"


def read(path: Path) -> Clip:
    (task,) = READER.scan(path).tasks
    (clip,) = READER.read(task)
    assert isinstance(clip, Clip)
    return clip


def content(frames: int = 2, **changed: Any) -> dict[str, Any]:
    joints = np.arange(1, frames * 60 + 1, dtype=float).reshape(frames, 20, 3).tolist()
    return {"file_name": NAME[:-5], "skeletons": joints, "label": 7, **changed}


def write(folder: Path, text: str | bytes, name: str = NAME) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_clip(tmp_path: Path) -> None:
    clip = read(write(tmp_path, json.dumps(content())))
    assert (clip.id, clip.label, clip.fps, clip.layout.name) == (NAME[:-5], 6, None, "kinect20")
    assert dict(clip.meta) == {"subject": 2, "replication": 3, "camera": 1}
    assert clip.joints.shape == (1, 2, 20, 3)
    assert clip.joints[0, 1, 2].tolist() == [67, 68, 69]


def test_joints_at_zero_are_absent(tmp_path: Path) -> None:
    raw = content()
    raw["skeletons"][1][4] = [0.0, 0.0, 0.0]
    assert np.argwhere(~read(write(tmp_path, json.dumps(raw))).valid).tolist() == [[0, 1, 4]]


def test_a_file_of_another_name(tmp_path: Path) -> None:
    clip = read(write(tmp_path, json.dumps(content()), "mine.json"))
    assert (clip.id, clip.label, dict(clip.meta)) == ("mine", 6, {})
    raw = content()
    del raw["label"]
    assert read(write(tmp_path, json.dumps(raw), "mine.json")).label is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected JSON"),
        (json.dumps(content())[:200], "expected JSON"),
        (b"\xff\xfe\x00", "expected JSON"),
        ("[1, 2]", "JSON object with 'skeletons'"),
        ('{"data": []}', "JSON object with 'skeletons'"),
        ("[" * 100_000, "expected JSON"),
        (json.dumps(content(skeletons="walk")), "expected a list of frames"),
        (json.dumps(content(skeletons=[])), "at least one frame"),
        (
            json.dumps(content(skeletons=[[[1, 2, 3]] * 20, [[1, 2, 3]] * 19])),
            "frame 1: .* 20 ",
        ),
        (json.dumps(content(skeletons=[[[1, 2]] * 20])), r"shape \(1, 20, 2\)"),
        (json.dumps(content(skeletons=[[1] * 20])), r"shape \(1, 20\)"),
        (json.dumps(content(skeletons=[[[1, 2, 3]] * 19 + [[1]]])), "numbers"),
        (json.dumps(content(skeletons=[[["x", 2, 3]] * 20])), "numbers"),
        (json.dumps(content(skeletons=[[[None, 2, 3]] * 20])), "finite"),
        (json.dumps(content(skeletons=[[{}] * 20])), "numbers"),
        (
            json.dumps(content(skeletons=[[[float("nan"), 2, 3]] * 20])),
            "frame 0, joint 0: ",
        ),
        (json.dumps(content(skeletons=[[[10**400, 2, 3]] * 20])), "numbers"),
        (json.dumps(content(label=8)), "name is 7, in its content 8"),
        (json.dumps(content(label=11)), "label from 1 to 10, got 11"),
        (json.dumps(content(label="7")), "label from 1 to 10, got '7'"),
    ],
)
def test_malformed(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ReadError, match=message) as error:
        read(path)
    assert str(error.value).startswith(str(path))


def test_actions_that_are_not_in_the_set_are_refused(tmp_path: Path) -> None:
    write(tmp_path, json.dumps(content()))
    write(tmp_path, json.dumps(content()), "a07_s01_e01_v01.json")
    plan = READER.scan(tmp_path)
    assert [u.path.name for u in plan.tasks] == [NAME]
    assert [path.name for path, _ in plan.refused] == ["a07_s01_e01_v01.json"]


def test_matches(tmp_path: Path) -> None:
    assert READER.matches(write(tmp_path, json.dumps(content()), "mine.json"))
    assert not READER.matches(write(tmp_path, json.dumps(content()), "mine.txt"))
    assert not READER.matches(write(tmp_path, '{"data": [{"skeleton": []}]}'))
    assert not READER.matches(write(tmp_path, ""))
    assert not READER.matches(tmp_path / "none.json")


def test_real_clips_by_hand() -> None:
    path = real_data("nw_ucla") / "all_sqe" / "a01_s01_e00_v01.json"
    first = [float(x) for x in re.findall(r"-?\d+\.\d+", path.read_text()[:4000])[:60]]
    clip = read(path)
    np.testing.assert_allclose(clip.joints[0, 0].ravel(), first, rtol=1e-6)
    np.testing.assert_allclose(clip.joints[0, 0, 3], [-0.66144, 0.867156, 2.99039], rtol=1e-6)
    lost = read(path.with_name("a04_s04_e02_v01.json"))
    joints_lost = [[0, 45, joint] for joint in (0, 1, 12, 13, 16, 17)]
    assert np.argwhere(~lost.valid).tolist() == joints_lost


def test_real_set() -> None:
    plan = READER.scan(real_data("nw_ucla"))
    assert len(plan.tasks) == 1484 and not plan.refused
    assert plan.classes is not None and len(plan.classes) == 10
    cameras = Counter(task.info["meta"]["camera"] for task in plan.tasks)
    assert cameras == {1: 516, 2: 504, 3: 464}
    labels = Counter(task.info["label"] for task in plan.tasks)
    assert sorted(labels) == list(range(10)) and min(labels.values()) > 100


@pytest.mark.slow
def test_every_real_clip() -> None:
    tasks = READER.scan(real_data("nw_ucla")).tasks
    clips = [clip for task in tasks for clip in READER.read(ReadTask(task.path, task.info))]
    frames = sorted(clip.num_frames for clip in clips)
    assert (frames[:3], frames[-1]) == ([1, 1, 6], 201)
    assert sum(int((~clip.valid).sum()) for clip in clips) == 12
