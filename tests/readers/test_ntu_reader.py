"""Reader of NTU RGB+D: names, scan, clips."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from conftest import real_data
from kinegraph.clips.clip import Clip
from kinegraph.errors import ReadError, UnknownNameError
from kinegraph.readers import guess_reader
from kinegraph.readers.ntu.reader import READER, parse_recording_name
from kinegraph.readers.ntu.skeleton_file import (
    SkeletonRecording,
    read_skeleton,
    write_skeleton,
)
from kinegraph.readers.reader import ReadTask
from skeleton_recording import recording_from_joints


def read(path: Path, **options: object) -> Clip:
    plan = READER.scan(path, **options)
    (clip,) = READER.read(plan.tasks[0])
    assert isinstance(clip, Clip)
    return clip


def write(folder: Path, name: str, frames: int = 3) -> Path:
    path = folder / f"{name}.skeleton"
    write_skeleton(path, recording_from_joints(np.ones((1, frames, 25, 3))))
    return path


def test_meta_from_name() -> None:
    expected = {"setup": 1, "camera": 3, "subject": 8, "replication": 2, "label": 57}
    assert parse_recording_name("S001C003P008R002A058") == expected
    assert parse_recording_name("/a/b/S001C003P008R002A058.skeleton") == expected
    assert parse_recording_name("S032C003P106R002A120")["label"] == 119


@pytest.mark.parametrize(
    "name", ["", "jump", "S001C003P008R002A000", "S001C003P008R002A058_copy", "S1C3P8R2A58"]
)
def test_other_names_say_nothing(name: str) -> None:
    assert parse_recording_name(name) == {}


@pytest.mark.parametrize(
    ("name", "frames", "persons", "label"),
    [
        ("S001C001P001R001A001", 103, 1, 0),
        ("S001C001P001R001A011", 82, 1, 10),
        ("S001C003P008R002A058", 70, 2, 57),
        ("S002C001P003R001A003", 100, 1, 2),
    ],
)
def test_real_clips(name: str, frames: int, persons: int, label: int) -> None:
    clip = read(real_data("ntu_samples") / f"{name}.skeleton")
    assert clip.joints.shape == (persons, frames, 25, 3)
    assert (clip.id, clip.label, clip.fps, clip.layout.name) == (name, label, 30.0, "ntu25")
    assert dict(clip.meta) == {k: v for k, v in parse_recording_name(name).items() if k != "label"}
    assert clip.valid.all()


def test_scan_of_the_real_folder() -> None:
    plan = READER.scan(real_data("ntu_samples"))
    assert [task.path.stem for task in plan.tasks] == sorted(task.path.stem for task in plan.tasks)
    assert len(plan.tasks) == 4
    assert plan.classes is not None
    assert [plan.classes[task.info["label"]] for task in plan.tasks] == [
        "drink water",
        "reading",
        "handshaking",
        "brushing teeth",
    ]
    assert pickle.loads(pickle.dumps(plan.tasks)) == plan.tasks
    assert all(READER.matches(task.path) for task in plan.tasks)


def test_published_list_of_missing_names_is_left_out(tmp_path: Path) -> None:
    missing = real_data("ntu_names") / "ntu_missing.txt"
    write(tmp_path, "S001C002P005R002A008")
    write(tmp_path, "S001C002P005R002A009")
    plan = READER.scan(tmp_path, missing=missing)
    assert [task.path.stem for task in plan.tasks] == ["S001C002P005R002A009"]
    ((path, reason),) = plan.refused
    assert path.stem == "S001C002P005R002A008"
    assert reason.startswith("S001C002P005R002A008 is in the list")


def test_classes_follow_the_largest_label(tmp_path: Path) -> None:
    write(tmp_path, "S001C001P001R001A060")
    assert len(READER.scan(tmp_path).classes or ()) == 60
    write(tmp_path, "S018C001P001R001A061")
    assert len(READER.scan(tmp_path).classes or ()) == 120
    write(tmp_path, "S018C001P001R001A121")
    assert READER.scan(tmp_path).classes is None


def test_any_name_can_be_read(tmp_path: Path) -> None:
    clip = read(write(tmp_path, "my jump"))
    assert (clip.id, clip.label, dict(clip.meta)) == ("my jump", None, {})
    assert READER.scan(tmp_path).classes is None


def test_reading_without_a_scan_gives_the_same_facts(tmp_path: Path) -> None:
    (clip,) = READER.read(ReadTask(write(tmp_path, "S001C003P008R002A058")))
    assert isinstance(clip, Clip)
    assert (clip.label, clip.meta["camera"]) == (57, 3)


def test_a_name_in_two_folders_is_read_once(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder, "S001C001P001R001A001")
    plan = READER.scan(tmp_path)
    assert [task.path.parent.name for task in plan.tasks] == ["a"]
    assert plan.refused[0][1].startswith("another file has this name")


def test_no_body_in_any_frame(tmp_path: Path) -> None:
    path = tmp_path / "a.skeleton"
    write_skeleton(path, SkeletonRecording([[], []]))
    with pytest.raises(ReadError, match="expected a body in at least one frame"):
        read(path)


def test_sources_without_recordings(tmp_path: Path) -> None:
    for source in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ReadError, match=r"expected \.skeleton or \.skeleton\.npy files"):
            READER.scan(source)


def test_options_are_checked(tmp_path: Path) -> None:
    path = write(tmp_path, "a")
    with pytest.raises(UnknownNameError, match="did you mean 'agcn'"):
        READER.scan(path, persons="agn")
    for wrong in (0, -1, 1.5, "2", True):
        with pytest.raises(ReadError, match="max_persons to be a whole number of 1 or more"):
            READER.scan(path, max_persons=wrong)
    with pytest.raises(ReadError, match=r"none\.txt: cannot be opened"):
        READER.scan(path, missing=tmp_path / "none.txt")


def test_matches_reads_the_first_line(tmp_path: Path) -> None:
    assert READER.matches(write(tmp_path, "a"))
    (tmp_path / "b.skeleton").write_bytes(b"\x00\x01\x02")
    (tmp_path / "c.txt").write_bytes(b"103\r\n")
    for name in ("b.skeleton", "c.txt", "d.skeleton"):
        assert not READER.matches(tmp_path / name)


def save_npy(path: Path, recording: SkeletonRecording, **others: object) -> Path:
    """Save a recording as the data set's txt2npy.py does: body m of each frame in skel_body{m}."""
    most = max(map(len, recording.frames))
    bodies = np.zeros((most, len(recording.frames), 25, 3))
    for t, found in enumerate(recording.frames):
        for m, body in enumerate(found):
            bodies[m, t] = body.joints
    content = {"file_name": path.name[:20], "nbodys": [1], "njoints": 25, "rgb_body0": bodies[0]}
    content |= {f"skel_body{m}": body for m, body in enumerate(bodies)} | others
    np.save(path, np.array(content))
    return path


@pytest.mark.parametrize("name", ["S001C003P008R002A058", "S001C001P001R001A001"])
def test_a_real_recording_saved_as_npy_is_the_same_clip(tmp_path: Path, name: str) -> None:
    source = real_data("ntu_samples") / f"{name}.skeleton"
    path = save_npy(tmp_path / f"{name}.skeleton.npy", read_skeleton(source))
    for persons in ("tracks", "stgcn", "agcn"):
        clip, expected = read(path, persons=persons), read(source, persons=persons)
        np.testing.assert_array_equal(clip.joints, expected.joints)
        assert (clip.id, clip.label, clip.meta) == (name, expected.label, expected.meta)
    assert READER.matches(path)
    assert guess_reader(tmp_path).name == "ntu"


def test_npy_files_that_are_not_recordings(tmp_path: Path) -> None:
    path = tmp_path / "S001C001P001R001A001.skeleton.npy"
    recording = recording_from_joints(np.ones((1, 3, 25, 3)))
    save_npy(path, recording, skel_body1=np.ones((3, 20, 3)))
    with pytest.raises(ReadError, match=r"of one shape \(frames, 25, 3\), got .*20"):
        read(path)
    np.save(path, np.array({"a": 1}))
    with pytest.raises(ReadError, match=r"expected skel_body0.*got none"):
        read(path)
    np.save(path, np.array([{}, {}]))
    with pytest.raises(ReadError, match=r"expected one object, got an array of objects"):
        read(path)
    np.save(path, np.ones((3, 25, 3)))
    with pytest.raises(ReadError, match="expected a pickled object, got the type float64"):
        read(path)
    np.save(path, np.array({"skel_body0": Path("x")}))
    with pytest.raises(ReadError, match=r"nothing was executed|which no pickle of arrays needs"):
        read(path)
    path.write_bytes(path.read_bytes()[:150])
    with pytest.raises(ReadError):
        read(path)
