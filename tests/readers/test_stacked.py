"""Reader of stacked arrays: rows, persons and frames without padding, and label files."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from conftest import real_data
from kinegraph.clips.clip import Clip
from kinegraph.errors import ReadError, UnknownNameError
from kinegraph.readers import stacked
from kinegraph.readers.stacked import READER
from kinegraph.skeleton.layouts import get_layout


def stack(rows=4, channels=3, frames=10, joints=25, persons=2):
    rng = np.random.default_rng(0)
    shape = (rows, channels, frames, joints, persons)
    return rng.uniform(0.1, 1, shape).astype(np.float32)


def read_all(source, **options):
    plan = READER.scan(source, **options)
    return plan, [clip for task in plan.tasks for clip in READER.read(task)]


def test_real_clip():
    path = real_data("ntu_samples") / "stacked_one_clip.npy"
    plan, (clip,) = read_all(path)
    assert READER.matches(path)
    assert plan.layout.name == "ntu25"
    assert clip.joints.shape == (1, 72, 25, 3)
    assert clip.id == "stacked_one_clip"
    assert clip.valid.all()
    raw = np.load(path)
    np.testing.assert_array_equal(clip.joints[0], raw[:, :72, :, 0].transpose(1, 2, 0))


def test_padding_is_taken_off(tmp_path):
    block = stack(3)
    block[0, :, 6:] = 0  # trailing frames
    block[1, :, :, :, 0] = 0  # the first person
    block[2, :, 4, 7, 1] = 0  # a joint
    block[2, :, 5] = 0  # a frame in between
    np.save(tmp_path / "clips.npy", block)
    _, clips = read_all(tmp_path)
    assert [clip.joints.shape[:2] for clip in clips] == [(2, 6), (1, 10), (2, 10)]
    np.testing.assert_array_equal(clips[1].joints[0], block[1, ..., 1].transpose(1, 2, 0))
    assert not clips[2].valid[:, 5].any()
    assert not clips[2].valid[1, 4, 7]
    assert (~clips[2].valid).sum() == 2 * 25 + 1


def test_names_and_labels_from_a_pickle(tmp_path):
    np.save(tmp_path / "train_data_joint.npy", stack(2))
    np.save(tmp_path / "val_data_joint.npy", stack(3))
    labels = (["S001.skeleton", "S002.skeleton"], [7, 8])
    (tmp_path / "train_label.pkl").write_bytes(pickle.dumps(labels))
    (tmp_path / "val_label.pkl").write_bytes(pickle.dumps([3, 4, 5]))
    _, clips = read_all(tmp_path)
    assert [(clip.id, clip.label, clip.meta["split"]) for clip in clips] == [
        ("S001", 7, "train"),
        ("S002", 8, "train"),
        ("val_data_joint-000000", 3, "test"),
        ("val_data_joint-000001", 4, "test"),
        ("val_data_joint-000002", 5, "test"),
    ]


def test_two_labels_are_no_names(tmp_path):
    np.save(tmp_path / "clips.npy", stack(2))
    (tmp_path / "clips_label.pkl").write_bytes(pickle.dumps((5, 6)))
    assert [clip.label for clip in read_all(tmp_path)[1]] == [5, 6]


def test_repeated_names_are_numbered(tmp_path):
    np.save(tmp_path / "clips.npy", stack(2))
    (tmp_path / "clips_label.pkl").write_bytes(pickle.dumps((np.array(["a", "a"]), [5, 6])))
    assert [clip.id for clip in read_all(tmp_path)[1]] == ["a#0", "a#1"]


def test_units_are_row_ranges(tmp_path, monkeypatch):
    monkeypatch.setattr(stacked, "_TASK_BYTES", 2 * 8 * 3 * 10 * 25 * 2)
    np.save(tmp_path / "clips.npy", stack(5))
    np.save(tmp_path / "clips_label.npy", np.arange(5))
    plan, clips = read_all(tmp_path)
    assert [task.info["rows"] for task in plan.tasks] == [range(2), range(2, 4), range(4, 5)]
    assert [(clip.id, clip.label) for clip in clips] == [(f"clips-{i:06d}", i) for i in range(5)]


def test_confidence(tmp_path):
    block = stack(1, joints=18)
    block[0, :2, 0, 0, 0] = 0
    np.save(tmp_path / "clips.npy", block)
    plan, (clip,) = read_all(tmp_path, confidence=True)
    assert plan.layout.name == "openpose18"
    assert clip.joints.shape == (2, 10, 18, 2)
    np.testing.assert_array_equal(clip.confidence[1], block[0, 2, :, :, 1])
    with pytest.raises(ReadError, match="--confidence true"):
        READER.scan(tmp_path)
    _, (plain,) = read_all(tmp_path, up="y")
    assert plain.joints.shape == (2, 10, 18, 3)
    assert plain.confidence is None


def test_chosen_layout(tmp_path):
    np.save(tmp_path / "clips.npy", stack(1))
    layout = get_layout("body25")
    assert read_all(tmp_path, layout="body25", up="y")[1][0].layout == layout
    assert read_all(tmp_path, layout=layout, up="y")[1][0].layout == layout
    with pytest.raises(UnknownNameError, match="ntu25"):
        READER.scan(tmp_path, layout="ntu-25")
    with pytest.raises(ReadError, match=r"V=17.*'coco17'.*\(1, 3, 10, 25, 2\)"):
        READER.scan(tmp_path, layout="coco17")


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ([1], "expected 2 labels"),
        ([1, -2], "row 1: expected a whole number of 0 or more, got -2"),
        ([1.5, 2], "row 0: expected a whole number"),
        (["a", "b"], "labels as numbers"),
        ([None, 1], "row 0"),
        ([10**400, 1], "labels as numbers"),
        ({"a": 1}, "labels as numbers"),
        ((["a"], [1, 2]), "expected 2 names, got 1"),
        ((["a", ["b"]], [[1], 2]), "labels as numbers"),
    ],
)
def test_labels_that_do_not_fit(tmp_path, labels, reason):
    np.save(tmp_path / "clips.npy", stack(2))
    (tmp_path / "clips_label.pkl").write_bytes(pickle.dumps(labels))
    with pytest.raises(ReadError, match=rf"clips_label\.pkl: .*{reason}"):
        READER.scan(tmp_path)


def test_unknown_number_of_joints(tmp_path):
    np.save(tmp_path / "clips.npy", stack(2, joints=21))
    assert not READER.matches(tmp_path / "clips.npy")
    with pytest.raises(ReadError, match="21 joints; name the layout"):
        READER.scan(tmp_path)


def test_derived_streams_are_refused(tmp_path):
    for name in ("train_data_joint", "train_data_bone", "train_data_joint_motion"):
        np.save(tmp_path / f"{name}.npy", stack(1))
    plan = READER.scan(tmp_path)
    assert [task.path.name for task in plan.tasks] == ["train_data_joint.npy"]
    assert [path.name for path, _ in plan.refused] == [
        "train_data_bone.npy",
        "train_data_joint_motion.npy",
    ]


def test_two_arrays_of_the_same_clips(tmp_path):
    for name in ("train_data_joint", "train_data_joint_pad"):
        np.save(tmp_path / f"{name}.npy", stack(1))
    np.save(tmp_path / "train_label.npy", [1])
    with pytest.raises(ReadError, match=r"share the labels train_label\.npy"):
        READER.scan(tmp_path)


def test_bad_rows_among_good_ones(tmp_path):
    block = stack(4)
    block[1] = 0
    block[2, 0, 3, 4, 0] = np.inf
    block[3, 0, 3, 4, 0] = np.nan
    np.save(tmp_path / "clips.npy", block)
    _, clips = read_all(tmp_path)
    assert [isinstance(clip, Clip) for clip in clips] == [True, False, False, True]
    assert "row 1: no joint" in str(clips[1])
    assert "row 2: " in str(clips[2])
    assert np.argwhere(~clips[3].valid).tolist() == [[0, 3, 4]]


def test_truncated_array(tmp_path):
    np.save(tmp_path / "clips.npy", stack(2))
    data = (tmp_path / "clips.npy").read_bytes()
    (tmp_path / "clips.npy").write_bytes(data[: len(data) // 2])
    with pytest.raises(ReadError, match="the file holds"):
        READER.scan(tmp_path / "clips.npy")
    with pytest.raises(ReadError, match=r"found none; clips\.npy was refused: .*the file holds"):
        READER.scan(tmp_path)
    np.save(tmp_path / "whole.npy", stack(2))
    plan = READER.scan(tmp_path)
    assert [task.path.name for task in plan.tasks] == ["whole.npy"]
    assert "the file holds" in dict(plan.refused)[tmp_path / "clips.npy"]
