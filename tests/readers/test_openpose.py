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
from kinegraph.readers.pose_files import USUAL_LAYOUTS
from kinegraph.skeleton import Space
from kinegraph.skeleton.layouts import get_layout


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


@pytest.mark.parametrize("up", [-1, 1])
def test_bodies_upside_down_are_noted(up: int, tmp_path: Path) -> None:
    body = person(100)
    for joint, name in enumerate(get_layout("body25").joints):
        height = 100 if "shoulder" in name else 0 if "hip" in name else 50
        body["pose_keypoints_2d"][3 * joint + 1] = 400 + up * height
    write_frame(tmp_path, 0, body)
    noted = [note for note in read(tmp_path, layout="body25").notes if "upside down" in note]
    assert len(noted) == (up == 1)


@pytest.mark.parametrize(("joints", "layout"), USUAL_LAYOUTS.items())
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
    assert dict(clip.meta, notes=None) == {"width": 400, "height": 800, "notes": None}
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


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"_keypoints\.json: line 1: expected JSON"),
        ('{"people": [', r"_keypoints\.json: line 1: expected JSON"),
        ("[1]", r'frame 0: expected {"people": \[\.\.\.\]}, got 1'),
        ('{"people": [3]}', r"people\[0\]: expected pose_keypoints_2d, got 3"),
        ('{"people": [{}]}', r"people\[0\]: pose_keypoints_2d: expected a list of numbers"),
        (json.dumps({"people": [person(1, 24)]}), r"people of 24 joints.*25 \(body25\).*--layout"),
        (json.dumps({"people": [{"pose_keypoints_2d": [1, 2]}]}), "x, y, score of each joint"),
        (json.dumps({"people": [person(1, 25), person(1, 18)]}), "25 joints of.*found 18"),
        (json.dumps({"people": []}), "expected a person in at least one frame"),
        (json.dumps({"people": [person(1, confidence=0)]}), "expected a person in at least"),
        ('{"people": [{"pose_keypoints_2d": [' + "1e999," * 74 + "1]}]}", "finite numbers"),
    ],
)
def test_damage_is_named(content: str, message: str, tmp_path: Path) -> None:
    path = write_frame(tmp_path, 0)
    path.write_text(content)
    with pytest.raises(ReadError, match=message):
        read(path)


def test_a_damaged_frame_among_good_ones_is_named(tmp_path: Path) -> None:
    write_frame(tmp_path, 0, person(1))
    write_frame(tmp_path, 1).write_text('{"people": [')
    with pytest.raises(ReadError, match=r"1_keypoints\.json: line 1: expected JSON"):
        read(tmp_path)


def test_the_guess_of_the_layout_is_noted(tmp_path: Path) -> None:
    write_frame(tmp_path, 0, person(100))
    assert read(tmp_path).notes == (
        "the layout body25 is a guess by the 25 joints; BODY_25B is --layout body25b",
    )
    clip = read(tmp_path, layout="body25b")
    assert (clip.layout.name, clip.notes) == ("body25b", ())
    with pytest.raises(ReadError, match=r"26 joints of layout 'halpe26', found 25 joints"):
        read(tmp_path, layout="halpe26")


def test_a_layout_file_for_other_joints(tmp_path: Path) -> None:
    file = tmp_path / "stick.json"
    file.write_text(json.dumps({"name": "stick", "joints": ["a", "b"], "bones": [["a", "b"]],
                                "center": "b"}))  # fmt: skip
    write_frame(tmp_path / "v", 0, person(100, 2))
    assert read(tmp_path / "v", layout=str(file)).layout.joints == ("a", "b")


@pytest.mark.parametrize(
    "names",
    [
        ("cam01_000000.json", "cam01_000001.json", "cam01_000010.json"),
        ("cam01.0030.json", "cam01.0031.json", "cam01.0040.json"),
        ("frame8.json", "frame9.json", "frame18.json"),
        ("0010.json", "0011.JSON", "0020.json"),
        ("0010_cam02.json", "0011_cam02.json", "0020_cam02.json"),
        ("v 000000000005_keypoints.json", "v 6_keypoints.json", "v 15_keypoints.json"),
    ],
)
def test_names_of_other_programs(names: tuple[str, ...], tmp_path: Path) -> None:
    for x, name in enumerate(names):
        (tmp_path / name).write_text(json.dumps({"people": [person(100 + x)]}))
    (tmp_path / "calibration.json").write_text("{}")
    x = read(tmp_path).joints[0, :, 0, 0]
    np.testing.assert_array_equal(x[[0, 1, -1]], [100, 101, 102])
    assert len(x) == 11 and np.isnan(x[2:-1]).all()


def test_names_without_numbers_are_listed(tmp_path: Path) -> None:
    (tmp_path / "first.json").write_text(json.dumps({"people": [person(1)]}))
    with pytest.raises(ReadError, match=r"cam01.0030.json.*has 1 .json files, such as first.json"):
        READER.scan(tmp_path)


def test_empty_entries_are_nobody(tmp_path: Path) -> None:
    for number in range(3):
        write_frame(tmp_path, number, {"pose_keypoints_2d": []}, person(100 + number),
                    {"pose_keypoints_2d": None}, person(500))  # fmt: skip
    assert read(tmp_path).joints[:, :, 0, 0].tolist() in (
        [[100, 101, 102], [500] * 3],
        [[500] * 3, [100, 101, 102]],
    )


def test_persons_keep_their_place_over_empty_frames(tmp_path: Path) -> None:
    for number in range(8):
        people = [person(100, confidence=0.6), person(500)][:: -1 if number > 4 else 1]
        write_frame(tmp_path, number, *(people if number not in (3, 4) else ()))
    x = read(tmp_path).joints[:, [0, 7], 0, 0]
    assert x.tolist() == [[100, 100], [500, 500]]


def test_old_keys(tmp_path: Path) -> None:
    write_frame(tmp_path, 0, {"pose_keypoints": person(100, 18)["pose_keypoints_2d"]})
    assert read(tmp_path).layout.name == "openpose18"


def test_missing_numbers_are_unseen_joints(tmp_path: Path) -> None:
    someone = person(100)
    someone["pose_keypoints_2d"][3:6] = [float("nan"), float("nan"), None]
    write_frame(tmp_path, 0, someone)
    assert np.argwhere(~read(tmp_path).valid).tolist() == [[0, 0, 1]]


def test_one_file_of_all_frames(tmp_path: Path) -> None:
    frames = [{"people": [person(x)], "canvas_width": 640, "canvas_height": 480} for x in (7, 8)]
    (tmp_path / "dance.json").write_text(json.dumps(frames))
    for source in (tmp_path, tmp_path / "dance.json"):
        clip = read(source)
        assert clip.id == "dance"
        assert clip.joints[0, :, 0, 0].tolist() == [7, 8]
        assert dict(clip.meta, notes=None) == {"width": 640, "height": 480, "notes": None}


def test_shares_of_the_image_are_a_guess(tmp_path: Path) -> None:
    write_frame(tmp_path, 0, person(0.25))
    assert read(tmp_path).space == Space("image", unit="share")
    assert read(tmp_path).space.assumed
    assert not read(tmp_path, unit="share").space.assumed
    write_frame(tmp_path, 1, person(400))
    with pytest.raises(ReadError, match=r"expected shares of the image.*a coordinate is 800"):
        read(tmp_path, unit="share")


def test_scores_above_one_are_capped_with_a_note(tmp_path: Path) -> None:
    write_frame(tmp_path, 0, person(100, confidence=1.04))
    clip = read(tmp_path, layout="body25")
    assert clip.confidence is not None and clip.confidence.max() == 1
    assert clip.notes == ("scores above 1 were capped at 1",)


def test_persons_that_are_left_out_are_noted(tmp_path: Path) -> None:
    write_frame(tmp_path, 0, *(person(100 * m, confidence=m / 10) for m in range(1, 6)))
    clip = read(tmp_path, layout="body25", candidates=4)
    assert clip.joints[:, 0, 0, 0].tolist() == [400, 300]
    assert clip.notes == (
        "frames of more than 4 poses were cut (--candidates)",
        "more than the 2 persons with most score are left out",
    )
    assert read(tmp_path, max_persons=5).num_persons == 5


def test_rate_and_deeper_folders(tmp_path: Path) -> None:
    for name in ("s1/a", "s2/a"):
        write_frame(tmp_path / name, 0, person(1))
    plan = READER.scan(tmp_path, fps=25)
    assert [task.info["id"] for task in plan.tasks] == ["s1/a", "s2/a"]
    (clip,) = READER.read(plan.tasks[1])
    assert isinstance(clip, Clip) and (clip.id, clip.fps) == ("s2/a", 25)
    with pytest.raises(ReadError, match="fps to be frames per second above 0"):
        READER.scan(tmp_path, fps=0)


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
        with pytest.raises(ReadError, match=r"expected frames named like video_.*has no .json"):
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
