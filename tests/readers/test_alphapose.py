"""Reader of AlphaPose results, on synthetic files of each of their forms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import real_data
from kinegraph.errors import ReadError
from kinegraph.readers import guess_reader
from kinegraph.readers.alphapose import READER
from kinegraph.skeleton import Space
from readers.pose_samples import body, places, read, write_json


def person(image: Any, x: float, joints: int = 17, **facts: Any) -> dict[str, Any]:
    keypoints = body(x, joints).ravel().tolist()
    return {"image_id": image, "category_id": 1, "keypoints": keypoints, "score": 2.5, **facts}


def test_frames_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    people = [person(f"{n}.jpg", 100 + n) for n in (0, 1, 10, 11, 2)]
    path = write_json(tmp_path / "alphapose-results.json", people)
    clip = read(READER, path)
    assert places(clip) == [[100, 101, 102, *[None] * 7, 110, 111]]
    assert (clip.layout.name, clip.space) == ("coco17", Space("image", unit="pixel"))
    assert clip.confidence is not None and clip.confidence[0, 0, 0] == np.float32(0.9)
    assert guess_reader(path).name == "alphapose"
    write_json(path, [dict(sorted(one.items(), reverse=True)) for one in people])
    assert guess_reader(path).name == "alphapose"


@pytest.mark.parametrize("write", [int, float, lambda n: [n], lambda n: [[float(n)]]])
def test_persons_by_track_id(write: Any, tmp_path: Path) -> None:
    """The two people cross, which matching by place cannot follow without their ids."""
    people = []
    for t in range(5):
        both = [person(f"{t}.jpg", 100, idx=write(7 - t % 2)), person(f"{t}.jpg", 900, idx=write(6 + t % 2))]  # noqa: E501  # fmt: skip
        people += both[:: (-1) ** t]
    path = write_json(tmp_path / "a.json", people)
    assert sorted(places(read(READER, path))) == [[100, 900, 100, 900, 100], [900, 100, 900, 100, 900]]  # noqa: E501  # fmt: skip
    matched = read(READER, path, tracking="match")
    assert sorted(places(matched)) == [[100] * 5, [900] * 5]


def test_ids_that_do_not_tell_persons_apart_are_left_out(tmp_path: Path) -> None:
    people = [person(f"{t}.jpg", x, idx=0) for t in range(3) for x in (100, 900)[:: (-1) ** t]]
    clip = read(READER, write_json(tmp_path / "a.json", people))
    assert sorted(places(clip)) == [[100] * 3, [900] * 3]
    assert any("two poses of a frame share" in note for note in clip.notes)


def test_a_track_that_begins_where_another_ends_is_the_same_person(tmp_path: Path) -> None:
    """Trackers give a person a new id after losing it for a moment."""
    people = [person(f"{t}.jpg", 100 + t, idx=t // 4) for t in range(12) if t != 7]
    clip = read(READER, write_json(tmp_path / "a.json", people))
    assert places(clip) == [[*range(100, 107), None, *range(108, 112)]]
    jumping = [person(f"{t}.jpg", 100 + 300 * (t // 4), idx=t // 4) for t in range(8)]
    assert read(READER, write_json(tmp_path / "b.json", jumping)).num_persons == 2


@pytest.mark.parametrize(("joints", "layout"), [(26, "halpe26"), (136, "halpe136"), (133, "coco_wholebody133")])  # noqa: E501  # fmt: skip
def test_layout_by_number_of_joints(joints: int, layout: str, tmp_path: Path) -> None:
    path = write_json(tmp_path / "a.json", [person("0.jpg", 100, joints)])
    assert read(READER, path).layout.name == layout
    assert guess_reader(path) is READER


def test_the_forms_by_image(tmp_path: Path) -> None:
    keypoints = [body(100 + t, 18).ravel().tolist() for t in range(2)]
    cmu = {f"{t}.jpg": {"version": "AlphaPose v0.3", "bodies": [{"joints": k}]} for t, k in enumerate(keypoints)}  # noqa: E501  # fmt: skip
    people = {f"{t}.jpg": {"version": "AlphaPose v0.3", "people": [{"pose_keypoints_2d": k}]} for t, k in enumerate(keypoints)}  # noqa: E501  # fmt: skip
    tracked = {f"{t}.jpg": [{"keypoints": k, "idx": 1}] for t, k in enumerate(keypoints)}
    for name, content in (("cmu", cmu), ("open", people), ("tracked", tracked)):
        path = write_json(tmp_path / f"{name}.json", content)
        assert guess_reader(path) is READER, name
        clip = read(READER, path)
        assert (clip.layout.name, places(clip)) == ("openpose18", [[100, 101]])
    for t in range(2):
        write_json(tmp_path / "sep" / f"{t}.json", cmu[f"{t}.jpg"])
    assert places(read(READER, tmp_path / "sep")) == [[100, 101]]


def test_a_folder_of_results_is_named_by_its_folders(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write_json(tmp_path / name / "alphapose-results.json", [person("0.jpg", 1)])
    (tmp_path / "labels.csv").write_text("a,walk\nb,jump\n")
    plan = READER.plan(tmp_path, {})
    assert [(task.info["id"], task.info["label"]) for task in plan.tasks] == [("a", 1), ("b", 0)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"keypoints": [1, 2, 3]}], r"\[0\]: expected image_id and keypoints"),
        ([person("nose.jpg", 1)], "image names with a frame number.*'nose.jpg'"),
        (
            [person("a_1.jpg", 1), person("b_1.jpg", 1)],
            "'a_1.jpg' and 'b_1.jpg' are both of frame 1",
        ),
        ([{"image_id": "0.jpg", "keypoints": [1, 2]}], "0.jpg: person 0: keypoints: expected x, y"),
        ([{"image_id": "0.jpg", "keypoints": None}], "expected a list of numbers, got None"),
        ([person("0.jpg", 1, 20)], "people of 20 joints.*--layout"),
        ([], "expected a list of persons"),
        ("text", "expected a list of persons"),
    ],
)
def test_damage_is_named(content: Any, message: str, tmp_path: Path) -> None:
    path = write_json(tmp_path / "a.json", content)
    with pytest.raises(ReadError, match=message):
        read(READER, path)


def test_a_folder_without_results_says_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ReadError, match=r"none of its 1 file is one, such as notes\.txt"):
        READER.plan(tmp_path, {})


def test_a_field_case_with_lost_frames() -> None:
    clip = read(READER, real_data("field_cases/22/in/alphapose-results.json"))
    assert (clip.num_persons, clip.num_frames, clip.layout.name) == (2, 20, "coco17")
    assert np.flatnonzero(~clip.valid.any(axis=(0, 2))).tolist() == [7, 8, 9]
