"""Reader of MMPose predictions, on synthetic files of each of their forms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conftest import real_data
from kinegraph.errors import ReadError
from kinegraph.readers import guess_reader
from kinegraph.readers.mmpose import READER
from kinegraph.skeleton import Space, get_layout
from readers.pose_samples import body, places, read, write_json


def instance(x: float, joints: int = 17, **facts: Any) -> dict[str, Any]:
    pose = body(x, joints)
    scores = pose[:, 2].tolist()
    return {"keypoints": pose[:, :2].tolist(), "keypoint_scores": scores, "bbox_score": 1, **facts}


def meta(names: tuple[str, ...]) -> dict[str, Any]:
    named = {str(i): name for i, name in enumerate(names)}
    return {"dataset_name": "x", "num_keypoints": len(names), "keypoint_id2name": named}


def test_frames_of_a_video(tmp_path: Path) -> None:
    frames = [
        {"frame_id": t, "instances": [instance(100 + t)] if t != 2 else []} for t in (1, 2, 3)
    ]
    path = write_json(tmp_path / "dance.json", {"meta_info": {}, "instance_info": frames})
    assert guess_reader(path) is READER
    clip = read(READER, path)
    assert (clip.id, clip.layout.name, places(clip)) == ("dance", "coco17", [[101, None, 103]])
    assert clip.space == Space("image", unit="pixel")
    assert places(read(READER, write_json(path, frames))) == [[101, None, 103]]
    assert guess_reader(path) is READER


def test_lists_that_python_users_dump(tmp_path: Path) -> None:
    forms = {
        "results": [{"predictions": [[instance(100)]]}, {"predictions": [[instance(101)]]}],
        "frames": [[], [instance(100), instance(500)], [instance(500), instance(101)]],
        "image": [instance(100)],
    }
    found = {}
    for name, content in forms.items():
        path = write_json(tmp_path / f"{name}.json", content)
        assert guess_reader(path) is READER, name
        found[name] = sorted(places(read(READER, path)), key=str)
    assert found["results"] == [[100, 101]]
    assert found["frames"] == [[None, 100, 101], [None, 500, 500]]
    assert found["image"] == [[100]]


def test_a_folder_of_images_is_one_video(tmp_path: Path) -> None:
    for t in (9, 10):
        write_json(tmp_path / "predictions" / f"frame{t}.json", [instance(100 + t)])
    clip = read(READER, tmp_path)
    assert (clip.id, places(clip)) == ("predictions", [[109, 110]])
    assert guess_reader(tmp_path) is READER


def test_layout_by_the_names_of_joints(tmp_path: Path) -> None:
    names = get_layout("h36m17").joints
    frames = [{"frame_id": 0, "instances": [instance(100)]}]
    path = write_json(tmp_path / "a.json", {"meta_info": meta(names), "instance_info": frames})
    clip = read(READER, path)
    assert (clip.layout.name, clip.notes) == ("h36m17", ())
    write_json(path, {"meta_info": meta(("tail", *names[1:])), "instance_info": frames})
    with pytest.raises(ReadError, match="no registered layout has the joints tail, "):
        read(READER, path)
    assert read(READER, path, layout="coco17").layout.name == "coco17"


def test_three_dimensions(tmp_path: Path) -> None:
    """The 3D demo turns bodies upright along z; hips (1, 4) are below shoulders (11, 14)."""
    joints = [[0.01 * (v % 3), 0.0, 0.1 * v] for v in range(17)]
    frames = [
        {"frame_id": t, "instances": [{"keypoints": [joints], "keypoint_scores": [[0.9] * 17]}]}
        for t in range(3)
    ]
    info = {"meta_info": meta(get_layout("h36m17").joints), "instance_info": frames}
    clip = read(READER, write_json(tmp_path / "a.json", info))
    assert clip.joints.shape == (1, 3, 17, 3)
    assert (clip.space.kind, clip.space.up, clip.space.assumed) == ("world", "z", True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"instance_info": 3}, "expected a list of frames, got 3"),
        ([{"frame_id": 1, "instances": []}] * 2, "frame 1: expected a frame_id of its own, got 1"),
        ([{"frame_id": 1, "instances": 5}], "frame 1: expected a list of instances"),
        ([[{"keypoints": [[1, 2], [3]], "keypoint_scores": [1, 1]}]], r"keypoints: expected \[\[x"),
        ([[{"keypoints": [[1, 2]]}]], "expected keypoint_scores, found none"),
        (
            [[{"keypoints": [[1, 2]], "keypoint_scores": [1, 1]}]],
            "expected 1 keypoint_scores, got 2",
        ),
        ([[{"keypoints": [[1e300, 2]], "keypoint_scores": [1]}]], "expected finite numbers"),
        ([[7]], "expected keypoints, got 7"),
        ([[instance(1)], [instance(1, 26)]], "17 joints of layout 'coco17', found 26"),
    ],
)
def test_damage_is_named(content: Any, message: str, tmp_path: Path) -> None:
    path = write_json(tmp_path / "a.json", content)
    with pytest.raises(ReadError, match=message):
        read(READER, path)


def test_a_field_case() -> None:
    clip = read(READER, real_data("field_cases/23/in/results.json"))
    assert (clip.num_frames, clip.layout.name, clip.id) == (20, "coco17", "results")
