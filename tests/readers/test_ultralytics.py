"""Reader of Ultralytics poses: labels, JSON of results and arrays, all synthetic."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinegraph.errors import ReadError
from kinegraph.readers import guess_reader
from kinegraph.readers.ultralytics import READER
from kinegraph.skeleton import Space
from readers.pose_samples import body, places, read, write_json


def label(x: float, *extra: str, channels: int = 3, joints: int = 17) -> str:
    """Return a line of a label file; joint v is at (x + v, 2 x) thousandths of the image."""
    pose = body(x, joints)[:, :channels] / [1000, 1000, 1][:channels]
    return " ".join(["0", "0.5", "0.5", "0.2", "0.4", *(f"{v:g}" for v in pose.ravel()), *extra])


def write_labels(folder: Path, frames: dict[int, list[str]], name: str = "video") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, lines in frames.items():
        (folder / f"{name}_{number}.txt").write_text("\n".join(lines))
    return folder


def test_labels_are_shares_of_the_image(tmp_path: Path) -> None:
    folder = write_labels(tmp_path / "labels", {9: [label(100)], 10: [], 12: [label(103)]})
    clip = read(READER, folder, fps=25)
    assert (clip.id, clip.layout.name, clip.fps) == ("video", "coco17", 25)
    assert clip.joints[0, :, 0].tolist()[0] == pytest.approx([0.1, 0.2])
    assert places(clip) == [[0.1, None, None, 0.1]]
    assert clip.space == Space("image", unit="share") and not clip.space.assumed
    assert guess_reader(folder) is READER and guess_reader(folder / "video_9.txt") is READER
    sized = read(READER, folder, width=640, height=480)
    assert (sized.meta["width"], sized.meta["height"]) == (640, 480)


@pytest.mark.parametrize("channels", [2, 3])
@pytest.mark.parametrize("conf", [(), ("0.87",)])
def test_track_ids_at_the_end(channels: int, conf: tuple[str, ...], tmp_path: Path) -> None:
    frames = {
        t: [label(100, *conf, str(1 + t % 2), channels=channels),
            label(600, *conf, str(2 - t % 2), channels=channels)]
        for t in range(4)
    }  # fmt: skip
    clip = read(READER, write_labels(tmp_path, frames))
    assert sorted(places(clip)) == [[0.1, 0.6] * 2, [0.6, 0.1] * 2]


def test_a_confidence_is_no_track_id(tmp_path: Path) -> None:
    frames = {t: [label(x, "0.5") for x in (100, 600)[:: (-1) ** t]] for t in range(4)}
    assert sorted(places(read(READER, write_labels(tmp_path, frames)))) == [[0.1] * 4, [0.6] * 4]


def test_videos_in_one_folder_are_told_apart_by_their_names(tmp_path: Path) -> None:
    for name in ("run", "walk"):
        write_labels(tmp_path / "labels", {1: [label(100)], 2: [label(101)]}, name)
    (tmp_path / "labels" / "classes.txt").write_text("person")
    plan = READER.plan(tmp_path, {})
    assert [task.info["id"] for task in plan.tasks] == ["run", "walk"]
    assert [clip.num_frames for task in plan.tasks for clip in READER.read(task)] == [2, 2]


def test_own_joints_need_a_layout(tmp_path: Path) -> None:
    folder = write_labels(tmp_path, {0: [label(100, joints=26)]})
    with pytest.raises(ReadError, match=r"each of 17 joints, got 83 numbers.*--layout"):
        READER.scan(folder)
    assert read(READER, folder, layout="halpe26").layout.name == "halpe26"


def results(x: float, **facts: Any) -> list[dict[str, Any]]:
    pose = body(x)
    keypoints = {"x": pose[:, 0].tolist(), "y": pose[:, 1].tolist(), "visible": pose[:, 2].tolist()}
    box = {"x1": 0, "y1": 0, "x2": 9, "y2": 9}
    return [
        {
            "name": "person",
            "class": 0,
            "confidence": 0.9,
            "box": box,
            **facts,
            "keypoints": keypoints,
        }
    ]


def test_json_of_results(tmp_path: Path) -> None:
    forms = {
        "lists": [results(100), [], results(102)],
        "texts": [json.dumps(results(100), indent=2), "[]", json.dumps(results(102))],
        "numbered": {"4": results(100), "6": results(102)},
    }
    for name, content in forms.items():
        path = write_json(tmp_path / f"{name}.json", content)
        assert guess_reader(path) is READER, name
        clip = read(READER, path)
        assert (places(clip), clip.space) == ([[100, None, 102]], Space("image", unit="pixel"))
    for t in range(2):
        write_json(tmp_path / "frames" / f"f{t}.json", results(100 + t, track_id=3))
    assert places(read(READER, tmp_path / "frames")) == [[100, 101]]


def test_arrays_of_keypoints(tmp_path: Path) -> None:
    frames = np.stack([np.stack([body(100 + t), body(500)]) for t in range(3)])
    frames[1, 1] = 0  # nobody
    np.savez(tmp_path / "all.npz", keypoints=frames)
    np.savez(tmp_path / "single.npz", *[frames[0], frames[1, :1], frames[2]])
    for name in ("all", "single"):
        path = tmp_path / f"{name}.npz"
        assert guess_reader(path) is READER
        assert places(read(READER, path)) == [[100, 101, 102], [500, None, 500]]
    one = read(READER, _save(tmp_path / "one.npz", keypoints=frames[:, 0]))
    assert places(one) == [[100, 101, 102]]
    assert "an array of three axes is read as frames of one person" in one.notes


def _save(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 0.5 0.5 0.2 0.4\n", "got 5 numbers"),
        (label(1).replace("0.9", "nan", 1), "finite numbers"),
        (label(1) + " 1 2 3", "got 59 numbers"),
        ("person 0.1", r"video_0\.txt:1: expected numbers"),
    ],
)
def test_damaged_labels(text: str, message: str, tmp_path: Path) -> None:
    folder = write_labels(tmp_path, {0: [text], 1: [label(1)]})
    with pytest.raises(ReadError, match=message):
        read(READER, folder)


def test_damaged_results(tmp_path: Path) -> None:
    short = results(1)
    short[0]["keypoints"]["y"] = [1]
    for content, message in (
        ([short], "as many y as x"),
        ([[{"keypoints": []}]], "expected keypoints of x, y and visible"),
        (["{"], "expected JSON"),
        (7, "expected a list of frames, got 7"),
    ):
        with pytest.raises(ReadError, match=message):
            read(READER, write_json(tmp_path / "a.json", content))
