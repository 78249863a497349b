"""Reader of Penn Action."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from conftest import real_data
from kinegraph.clips.clip import Clip
from kinegraph.errors import ReadError, UnknownNameError
from kinegraph.readers.penn_action import READER


def read(path: Path, **options: str) -> Clip:
    (task,) = READER.scan(path, **options).tasks
    (clip,) = READER.read(task)
    assert isinstance(clip, Clip)
    return clip


def variables(frames: int = 4, **changed: Any) -> dict[str, Any]:
    x = 100 + np.arange(frames * 13, dtype=float).reshape(frames, 13)
    made = {
        "action": "bowl",
        "pose": "left",
        "x": x,
        "y": x + 0.5,
        "visibility": np.ones((frames, 13), np.uint8),
        "train": -1,
        "bbox": np.ones((frames, 4)),
        "dimensions": np.array([[360, 480, frames]], np.uint16),
        "nframes": frames,
        **changed,
    }
    return {name: value for name, value in made.items() if value is not None}


def write(folder: Path, content: dict[str, Any], name: str = "0001.mat") -> Path:
    savemat(folder / name, content, do_compression=True)
    return folder / name


def partly_visible() -> dict[str, Any]:
    content = variables()
    content["visibility"][0, :3] = 0
    for axis in ("x", "y"):
        content[axis][0, 1] = 0.75  # (1, 1) in a video that was resized
        content[axis][0, 4] = 0.75  # a visible joint is never a placeholder
    return content


def test_a_clip(tmp_path: Path) -> None:
    clip = read(write(tmp_path, variables()))
    assert (clip.id, clip.label, clip.fps, clip.layout.name) == ("0001", 3, None, "penn13")
    assert dict(clip.meta) == {"split": "test", "view": "left", "width": 480, "height": 360}
    assert clip.joints.shape == (1, 4, 13, 2)
    assert clip.joints[0, 2, 5].tolist() == [131.0, 131.5]
    assert clip.confidence is not None and (clip.confidence == 1).all()


def test_invisible_joints_are_dropped_or_kept(tmp_path: Path) -> None:
    path = write(tmp_path, partly_visible())
    dropped, kept = read(path), read(path, invisible="keep")
    assert np.argwhere(~dropped.valid).tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 2]]
    assert np.argwhere(~kept.valid).tolist() == [[0, 0, 1]]
    assert kept.joints[0, 0, 2].tolist() == [102.0, 102.5]
    for clip in (dropped, kept):
        assert clip.confidence is not None
        assert clip.confidence[0, 0, :5].tolist() == [0, 0, 0, 1, 1]
        assert clip.joints[0, 0, 4].tolist() == [0.75, 0.75]


def test_frames_are_the_rows(tmp_path: Path) -> None:
    assert read(write(tmp_path, variables(nframes=999))).num_frames == 4


def test_options_are_checked(tmp_path: Path) -> None:
    path = write(tmp_path, variables())
    with pytest.raises(UnknownNameError, match=r"'kep' .did you mean 'keep'"):
        READER.scan(path, invisible="kep")
    assert set(READER.options) == {"invisible"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x": np.ones((4, 14))}, r"x of shape \(frames, 13\), got \(4, 14\)"),
        ({"x": np.ones((4, 13, 2))}, "x of shape"),
        ({"y": np.ones((5, 13))}, "one shape"),
        ({"visibility": np.full((4, 13), 2.0)}, "visibility to be 0 or 1"),
        ({"x": np.full((4, 13), np.inf)}, "frame 0, joint 0: expected finite"),
        ({"x": "letters"}, "numeric variable 'x'"),
        ({"x": None}, "numeric variable 'x'"),
        ({"action": "bowling"}, "unknown action 'bowling'.*did you mean 'bowl'"),
        ({"action": 3}, "text variable 'action'"),
        ({"train": 0}, "train to be 1 or -1, got 0"),
        ({"train": np.ones(3)}, "to be one number"),
        ({"dimensions": np.ones(2)}, "height, width and frames"),
        ({name: np.zeros((0, 13)) for name in ("x", "y", "visibility")}, "at least one frame"),
    ],
)
def test_malformed(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    path = write(tmp_path, variables(**changed))
    with pytest.raises(ReadError, match=message) as error:
        read(path)
    assert str(error.value).startswith(str(path))


def test_truncated_and_empty(tmp_path: Path) -> None:
    path = write(tmp_path, variables())
    data = path.read_bytes()
    for size in (0, 100, 128, 200, len(data) // 2):
        path.write_bytes(data[:size])
        with pytest.raises(ReadError):
            read(path)


def test_matches(tmp_path: Path) -> None:
    assert READER.matches(write(tmp_path, variables()))
    assert not READER.matches(write(tmp_path, variables(), "a1_s1_t1_skeleton.mat"))
    (tmp_path / "0002.mat").write_text("not MATLAB")
    assert not READER.matches(tmp_path / "0002.mat")


def test_real_clip_by_hand() -> None:
    path = real_data("penn_action") / "labels" / "0001.mat"
    raw, clip = loadmat(path), read(path, invisible="keep")
    assert clip.joints.shape == (1, 151, 13, 2)
    assert (clip.label, clip.meta["split"], clip.meta["view"]) == (0, "test", "back")
    assert (clip.meta["width"], clip.meta["height"]) == (480, 360)
    for frame, joint in np.argwhere(raw["visibility"])[[0, 500, -1]]:
        expected = [np.float32(raw[axis][frame, joint]) for axis in "xy"]
        assert clip.joints[0, frame, joint].tolist() == expected
    np.testing.assert_array_equal(
        clip.confidence[0] if clip.confidence is not None else None, raw["visibility"]
    )


def test_real_set_size() -> None:
    plan = READER.scan(real_data("penn_action"))
    assert len(plan.tasks) == 2326 and not plan.refused
    assert plan.classes is not None and len(plan.classes) == 15


@pytest.mark.slow
def test_every_real_clip() -> None:
    tasks = READER.scan(real_data("penn_action")).tasks
    dropped = [clip for task in tasks for clip in READER.read(task) if isinstance(clip, Clip)]
    assert Counter(clip.meta["split"] for clip in dropped) == {"train": 1258, "test": 1068}
    assert Counter(clip.meta["view"] for clip in dropped) == {
        "front": 612, "back": 604, "right": 597, "left": 513,
    }  # fmt: skip
    labels = Counter(clip.label for clip in dropped)
    assert sorted(labels) == list(range(15)) and (labels[11], labels[6]) == (231, 82)
    assert (min(c.num_frames for c in dropped), max(c.num_frames for c in dropped)) == (18, 663)
    assert sum(int((~clip.valid).sum()) for clip in dropped) == 469_501


@pytest.mark.slow
def test_every_real_placeholder() -> None:
    tasks = READER.scan(real_data("penn_action"), invisible="keep").tasks
    clips = (clip for task in tasks for clip in READER.read(task))
    absent = sum(int((~clip.valid).sum()) for clip in clips if isinstance(clip, Clip))
    assert absent == 187_352
