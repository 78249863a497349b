"""PYSKL and MMAction2 annotations: one, a list, or a list with named splits."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest

from conftest import real_data
from kinegraph.clips.clip import Clip
from kinegraph.errors import ReadError
from kinegraph.readers.pyskl import READER
from kinegraph.skeleton.layouts import get_layout


def annotation(name="a", label=0, joints=17, **changes):
    rng = np.random.default_rng(len(name))
    content = {
        "frame_dir": name,
        "label": label,
        "keypoint": rng.uniform(1, 200, (2, 5, joints, 2)).astype(np.float16),
        "keypoint_score": rng.uniform(0.1, 1, (2, 5, joints)).astype(np.float16),
        "total_frames": 5,
        "img_shape": (240, 320),
        "original_shape": (240, 320),
    }
    return {**content, **changes}


@pytest.fixture
def write(tmp_path):
    def write(content, name="set.pkl"):
        (tmp_path / name).write_bytes(pickle.dumps(content))
        return tmp_path / name

    return write


def read_all(source, **options):
    plan = READER.scan(source, **options)
    return plan, [clip for task in plan.tasks for clip in READER.read(task)]


def test_real_annotation():
    path = real_data("pyskl_format") / "ucf101_one_clip.pkl"
    plan, (clip,) = read_all(path)
    assert READER.matches(path)
    assert plan.layout.name == "coco17"
    assert clip.joints.shape == (2, 163, 17, 2)
    assert clip.id == "v_ApplyEyeMakeup_g01_c01"
    assert clip.label == 0
    assert dict(clip.meta) == {"width": 340, "height": 256}
    # 2533 joints of the second person are (0, 0) with score 0
    assert (~clip.valid).sum() == 2533
    assert np.all(clip.confidence[~clip.valid] == 0)
    assert np.nanmax(clip.joints) > 352


def test_list_of_annotations(write):
    plan, clips = read_all(write([annotation("a", 3), annotation("bb", None)]))
    assert [(clip.id, clip.label) for clip in clips] == [("a", 3), ("bb", None)]
    assert len(plan.tasks) == 1
    assert "split" not in clips[0].meta


def test_three_dimensions_without_score(write):
    skeleton = np.ones((2, 5, 25, 3), dtype=np.float16)
    skeleton[1] = 0
    skeleton[0, 2, 4] = 0
    plan, (clip,) = read_all(write([annotation(keypoint=skeleton, keypoint_score=None)]))
    assert plan.layout.name == "ntu25_pyskl"
    assert clip.joints.shape == (1, 5, 25, 3)
    assert clip.confidence is None
    assert np.argwhere(~clip.valid).tolist() == [[0, 2, 4]]


def test_zero_score_is_absent_and_scores_above_one_are_cut(write):
    score = np.full((2, 5, 17), 1.2)
    score[0, 0, 0] = 0
    _, (clip,) = read_all(write(annotation(keypoint_score=score)))
    assert np.argwhere(~clip.valid).tolist() == [[0, 0, 0]]
    assert clip.confidence.max() == 1


def test_chosen_layout(write):
    assert read_all(write(annotation(joints=25)), layout="body25")[0].layout.name == "body25"
    layout = get_layout("body25")
    assert read_all(write(annotation(joints=25)), layout=layout)[0].layout is layout
    with pytest.raises(ReadError, match="13 joints; name the layout"):
        READER.scan(write(annotation(joints=13)))
    assert read_all(write(annotation(joints=13)), layout="penn13")[0].layout.name == "penn13"


def splits(**named):
    return {"split": named, "annotations": [annotation("a"), annotation("bb"), annotation("ccc")]}


def test_only_pair_of_splits_is_taken(write):
    _, clips = read_all(write(splits(train1=["a", "bb"], test1=["ccc"])))
    assert [clip.meta["split"] for clip in clips] == ["train", "train", "test"]
    assert clips[2].meta["split:test1"] is True
    assert "split:train1" not in clips[2].meta
    _, clips = read_all(write(splits(train=["a"], val=["bb"])))
    assert [clip.meta.get("split") for clip in clips] == ["train", "val", None]


def test_chosen_pair_of_splits(write):
    named = {"xsub_train": ["a"], "xsub_val": ["bb", "ccc"]}
    named |= {"xview_train": ["bb"], "xview_val": ["a"]}
    path = write(splits(**named))
    _, clips = read_all(path, split="xview")
    assert [clip.meta.get("split") for clip in clips] == ["val", "train", None]
    assert clips[1].meta["split:xsub_val"] is True
    _, clips = read_all(path)
    assert all("split" not in clip.meta for clip in clips)
    assert clips[0].notes == ("splits xsub, xview: choose one with --split to train by them",)
    assert not read_all(path, split="xview")[1][0].notes
    with pytest.raises(ReadError, match="no pair of splits 'xset'; it has xsub, xview"):
        READER.scan(path, split="xset")


def test_numbered_pair(write):
    named = {"train1": ["a"], "test1": ["bb"], "train2": ["bb"], "test2": ["a"]}
    _, clips = read_all(write(splits(**named)), split=2)
    assert [clip.meta.get("split") for clip in clips] == ["test", "train", None]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"keypoint": np.ones((5, 17, 2))}, r"got shape \(5, 17, 2\)"),
        ({"keypoint": None}, "expected keypoint"),
        ({"keypoint": None, "raw_file": "x"}, "in other files"),
        ({"keypoint": np.zeros((2, 5, 17, 2))}, "no joint of any person"),
        ({"keypoint": np.ones((2, 5, 18, 2))}, r"scores of shape \(2, 5, 18\)"),
        ({"keypoint": np.ones((2, 5, 18, 2)), "keypoint_score": None}, "17 joints"),
        ({"keypoint": np.full((2, 5, 17, 2), np.inf)}, "infinite"),
        ({"keypoint_score": np.ones((2, 5))}, "expected scores"),
        ({"label": [1, 2]}, "one whole number"),
        ({"label": True}, "one whole number"),
        ({"label": -1}, "0 or more"),
        ({"frame_dir": 7}, "frame_dir"),
        ({"img_shape": ("x", 2)}, "img_shape"),
    ],
)
def test_bad_annotation_among_good_ones(write, changes, reason):
    _, clips = read_all(write([annotation("a"), annotation("bb", **changes), annotation("ccc")]))
    assert [isinstance(clip, Clip) for clip in clips] == [True, False, True]
    with pytest.raises(ReadError, match=rf"set\.pkl: annotation 1: .*{reason}"):
        raise clips[1]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([], "expected annotations"),
        ([1], "expected annotations"),
        ({"annotations": 3}, "expected annotations"),
        ({"annotations": [annotation()], "split": [1]}, "expected splits"),
        ({"annotations": [annotation()], "split": {"train": [1]}}, "expected splits"),
        ({"keypoint": 3}, "annotation 0: expected keypoint"),
    ],
)
def test_other_pickles(write, content, reason):
    with pytest.raises(ReadError, match=reason):
        READER.scan(write(content))


def test_folder(write, tmp_path):
    write([annotation("a")], "one.pkl")
    write([annotation("bb")], "two.pickle")
    write({"other": 1}, "other.pkl")
    plan, clips = read_all(tmp_path)
    assert [task.path.name for task in plan.tasks] == ["one.pkl", "two.pickle"]
    assert [clip.id for clip in clips] == ["a", "bb"]
    with pytest.raises(ReadError, match="found none"):
        READER.scan(tmp_path / "none")


def test_malicious_annotation(tmp_path, write):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'executed'}",)

    with pytest.raises(ReadError, match="nothing was executed"):
        READER.scan(write([annotation(label=Evil())]))
    assert not (tmp_path / "executed").exists()
