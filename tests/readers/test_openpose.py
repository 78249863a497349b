"""Reader of OpenPose output, on synthetic folders of frames."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinegraph.clips.clip import Clip
from kinegraph.errors import ReadError, UnknownNameError
from kinegraph.readers.formats.json_file import MAX_FRAMES
from kinegraph.readers.openpose import READER
from kinegraph.readers.person_selection import PoseSelection
from kinegraph.readers.reader import ReadTask
from kinegraph.skeleton import Space


def person(x: float, joints: int = 25, confidence: float = 0.5) -> dict[str, Any]:
    return {"person_id": [-1], "pose_keypoints_2d": [x, 2 * x, confidence] * joints}


def write_frame(folder: Path, number: int, *people: dict[str, Any], name: str = "v") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}_{number:012d}_keypoints.json"
    path.write_text(json.dumps({"version": 1.3, "people": list(people)}))
    return path


def read(source: Path, **options: Any) -> Clip:
    (task,) = READER.scan(source, **options).tasks
    (clip,) = READER.read(task)
    assert isinstance(clip, Clip)
    return clip


@pytest.mark.parametrize(("joints", "layout"), [(25, "body25"), (18, "openpose18"), (17, "coco17")])
def test_layout_by_number_of_joints(joints: int, layout: str, tmp_path: Path) -> None:
    write_frame(tmp_path / "walk", 0)
    path = write_frame(tmp_path / "walk", 1, person(100, joints))
    clip = read(tmp_path / "walk")
    assert (clip.layout.name, clip.id, clip.label) == (layout, "walk", None)
    assert clip.joints.shape == (1, 2, joints, 2)
    assert READER.matches(path)


def test_pixels_with_the_size_of_the_image(tmp_path: Path) -> None:
    write_frame(tmp_path, 0, person(100))
    assert read(tmp_path).joints[0, 0, 0].tolist() == [100, 200]
    clip = read(tmp_path, width=400, height=800)
    assert clip.joints[0, 0, 0].tolist() == [100, 200]
    assert dict(clip.meta) == {"width": 400, "height": 800}
    assert clip.space == Space("image", unit="pixel")
    assert clip.confidence is not None and (clip.confidence == 0.5).all()


def test_frames_count_from_the_first_file_and_gaps_are_absent(tmp_path: Path) -> None:
    for number in (10, 7, 8):
        write_frame(tmp_path, number, person(number))
    clip = read(tmp_path)
    np.testing.assert_array_equal(clip.joints[0, :, 0, 0], [7, 8, np.nan, 10])


def test_unseen_joints_are_absent(tmp_path: Path) -> None:
    someone = person(100)
    someone["pose_keypoints_2d"][3:6] = [0, 0, 0]
    write_frame(tmp_path, 0, someone)
    assert np.argwhere(~read(tmp_path).valid).tolist() == [[0, 0, 1]]


def test_persons_are_linked_by_default(tmp_path: Path) -> None:
    for t in range(6):
        people = [person(10, confidence=0.4 + t % 2 * 0.2), person(500)]
        write_frame(tmp_path, t, *people[:: -1 if t % 3 else 1])
    x = read(tmp_path).joints[..., 0, 0]
    assert sorted(x.tolist()) == [[10] * 6, [500] * 6]
    assert read(tmp_path, tracking="none").joints[0, :, 0, 0].tolist() == [500, 10] * 3
    assert read(tmp_path, max_persons=1).num_persons == 1
    assert read(tmp_path, candidates=1).num_persons == 1


def test_a_folder_of_clips_with_labels(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        write_frame(tmp_path / name, 0, person(1))
    (tmp_path / "empty").mkdir()
    plan = READER.scan(tmp_path)
    assert [(task.path.name, task.info["label"]) for task in plan.tasks] == [
        ("a", None),
        ("b", None),
        ("c", None),
    ]
    (tmp_path / "labels.csv").write_text("clip,label\r\na,3\r\nb,0\r\n\r\n")
    plan = READER.scan(tmp_path)
    assert [task.info["label"] for task in plan.tasks] == [3, 0, None]
    assert plan.classes is None
    (tmp_path / "labels.csv").write_text("a,walk\nb,jump\nc,walk\n")
    plan = READER.scan(tmp_path)
    assert [task.info["label"] for task in plan.tasks] == [1, 0, 1]
    assert plan.classes == ("jump", "walk")
    (clip,) = READER.read(plan.tasks[0])
    assert isinstance(clip, Clip) and clip.label == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"a,1,2\n", r"labels\.csv:1: expected clip,label"),
        (b"a,\n", r"labels\.csv:1: expected clip,label"),
        (b"a,1\nb,walk\n", "either numbers or names"),
        (b"a,100000\n", "labels below 100000"),
        (b"a," + b"9" * 5000, "labels below 100000"),
        (b"\xff\xfe", r"cannot be read as a \.csv table"),
    ],
)
def test_damaged_labels(text: bytes, message: str, tmp_path: Path) -> None:
    write_frame(tmp_path / "a", 0, person(1))
    (tmp_path / "labels.csv").write_bytes(text)
    with pytest.raises(ReadError, match=message):
        READER.scan(tmp_path)


def test_one_file_is_a_clip_of_one_frame(tmp_path: Path) -> None:
    clip = read(write_frame(tmp_path, 12, person(1)))
    assert (clip.num_frames, clip.id) == (1, "v_000000000012")


def damaged_clip(tmp_path: Path, content: str) -> ReadTask:
    path = write_frame(tmp_path, 0)
    path.write_text(content)
    selection = PoseSelection(max_persons=2, tracking="match", candidates=10)
    return ReadTask(tmp_path, {"selection": selection, "size": (1, 1)})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"_keypoints\.json:1: expected JSON"),
        ('{"people": [', r"_keypoints\.json:1: expected JSON"),
        ("[]", r'expected {"people": \[\.\.\.\]}, got a list of 0'),
        ('{"people": [3]}', r"people\[0\]: expected pose_keypoints_2d, got 3"),
        ('{"people": [{}]}', r"people\[0\]: pose_keypoints_2d: expected a list of numbers"),
        (
            json.dumps({"people": [person(1, 26)]}),
            "expected x, y, confidence of 17, 18 or 25 joints, got 78 numbers",
        ),
        (json.dumps({"people": [person(1, 25), person(1, 18)]}), "found 18 and 25"),
        (json.dumps({"people": []}), "found no person"),
        (json.dumps({"people": [person(1, confidence=0)]}), "expected a person in at least"),
        ('{"people": [{"pose_keypoints_2d": [' + "1e999," * 74 + "1]}]}", "finite numbers"),
    ],
)
def test_damage_is_named(content: str, message: str, tmp_path: Path) -> None:
    task = damaged_clip(tmp_path, content)
    with pytest.raises(ReadError, match=message):
        list(READER.read(task))


def test_absurd_frame_numbers(tmp_path: Path) -> None:
    write_frame(tmp_path, 0, person(1))
    write_frame(tmp_path, 10**11, person(1))
    with pytest.raises(ReadError, match=f"at most {MAX_FRAMES} frames, but their numbers run"):
        read(tmp_path)


def test_two_videos_in_one_folder(tmp_path: Path) -> None:
    write_frame(tmp_path, 0, person(1), name="first")
    write_frame(tmp_path, 0, person(1), name="second")
    with pytest.raises(ReadError, match="both of frame 0; give each video its own folder"):
        read(tmp_path)


def test_sources_without_frames(tmp_path: Path) -> None:
    for source in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ReadError, match="expected a folder of files like video_"):
            READER.scan(source)
    write_frame(tmp_path, 0)
    with pytest.raises(ReadError, match="expected a person in at least one frame"):
        READER.scan(tmp_path)
    (tmp_path / "notes.json").write_text("{}")
    with pytest.raises(ReadError, match=r"notes\.json"):
        READER.scan(tmp_path / "notes.json")


@pytest.mark.parametrize("size", [(640, None), (None, 480), (0, 480), (640, -1), ("640", 480)])
def test_size_is_checked(size: tuple[Any, Any], tmp_path: Path) -> None:
    write_frame(tmp_path, 0, person(1))
    with pytest.raises(ReadError, match="expected width and height of the video in pixels"):
        READER.scan(tmp_path, width=size[0], height=size[1])


def test_options_are_checked(tmp_path: Path) -> None:
    write_frame(tmp_path, 0, person(1))
    with pytest.raises(UnknownNameError, match="unknown tracking 'iou'"):
        READER.scan(tmp_path, tracking="iou")
    with pytest.raises(ReadError, match="max_persons to be a whole number"):
        READER.scan(tmp_path, max_persons=0)
