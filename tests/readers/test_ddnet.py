"""DD-Net's JHMDB pickles: three folds of the same clips, 14 classes."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from conftest import real_data
from kinegraph.clips.clip import Clip
from kinegraph.errors import ReadError
from kinegraph.readers.ddnet import READER


def write(folder, name, poses, labels):
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(pickle.dumps({"pose": poses, "label": labels}))
    return folder / name


def read_all(source):
    plan = READER.scan(source)
    return plan, [clip for task in plan.tasks for clip in READER.read(task)]


def test_real_files():
    plan, clips = read_all(real_data("jhmdb14"))
    assert plan.layout.name == "jhmdb15"
    assert len(plan.classes) == 14
    assert len(clips) == 3 * 609
    assert len({clip.id for clip in clips}) == len(clips)
    for fold, train, test in ((1, 433, 176), (2, 433, 176), (3, 434, 175)):
        splits = [clip.meta["split"] for clip in clips if clip.meta["fold"] == fold]
        assert (splits.count("train"), splits.count("test")) == (train, test)
    assert all(clip.valid.all() and clip.joints.shape[0] == 1 for clip in clips)
    assert {clip.num_frames for clip in clips} <= set(range(15, 41))
    # every fold holds the same recordings
    digests = [{clip.digest for clip in clips if clip.meta["fold"] == fold} for fold in (1, 2, 3)]
    assert digests[0] == digests[1] == digests[2]


def test_one_real_file():
    path = real_data("jhmdb14") / "GT_test_1.pkl"
    plan, clips = read_all(path)
    assert READER.matches(path)
    assert clips[0].id == "1-test-0000"
    assert plan.classes[clips[0].label] == "clap"
    np.testing.assert_allclose(np.nanmin([c.joints.min() for c in clips]), -1.622, atol=1e-6)


def test_labels_are_those_of_all_files(tmp_path):
    pose = np.ones((4, 15, 2))
    write(tmp_path, "GT_train_1.pkl", [pose], ["wave"])
    write(tmp_path, "GT_test_1.pkl", [pose], ["clap"])
    plan, clips = read_all(tmp_path)
    assert plan.classes == ("clap", "wave")
    assert [(c.id, c.label) for c in clips] == [("1-test-0000", 0), ("1-train-0000", 1)]


def test_one_bad_clip_among_good_ones(tmp_path):
    good = np.ones((4, 15, 2))
    poses = [good, np.ones((4, 14, 2)), "pose", np.full((4, 15, 2), np.inf), good]
    write(tmp_path, "GT_test_2.pkl", poses, ["a"] * 5)
    _, clips = read_all(tmp_path)
    assert [isinstance(clip, Clip) for clip in clips] == [True, False, False, False, True]
    assert "GT_test_2.pkl: row 1: " in str(clips[1])
    assert "15 joints" in str(clips[1])


def test_refusals(tmp_path):
    with pytest.raises(ReadError, match="found none of them"):
        READER.scan(tmp_path)
    path = write(tmp_path, "GT_test_1.pkl", [1, 2], ["a"])
    with pytest.raises(ReadError, match="one label text per pose, got 1 for 2"):
        READER.scan(tmp_path)
    path.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(ReadError, match="a dictionary with pose and label"):
        READER.scan(tmp_path)
    path.write_bytes(b"")
    with pytest.raises(ReadError, match=r"GT_test_1\.pkl"):
        READER.scan(path)
    other = write(tmp_path, "train.pkl", [], [])
    assert not READER.matches(other)
    with pytest.raises(ReadError, match="found none of them"):
        READER.scan(other)
