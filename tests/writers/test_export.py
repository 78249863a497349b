"""Stores as other tools read them: the released arrays, read back, and refused in one sentence."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest

from conftest import real_data
from kinegraph.clips.clip import Clip
from kinegraph.clips.store import ClipStore
from kinegraph.clips.writer import StoreWriter
from kinegraph.errors import KinegraphError, ProtocolError, StoreError
from kinegraph.readers import read_clips
from kinegraph.skeleton.layouts import get_layout
from kinegraph.skeleton.space import IMAGE_SHARES, KINECT
from kinegraph.transforms import Pipeline, to_array
from kinegraph.writers import get_array_format
from kinegraph.writers.array_format import ArrayFormat
from kinegraph.writers.export import export_store
from prepared_arrays import rows_ctrgcn, stack_2s_agcn, stack_kinetics, stack_stgcn


def write_store(path, clips, classes=None, protocols=("xsub",)):
    """Write clips into a store; return its path."""
    provenance = {"reader": "ntu", "options": {}, "protocols": list(protocols)}
    with StoreWriter(path, clips[0].layout, classes, provenance) as writer:
        for clip in clips:
            writer.write(clip)
    return path


def made_up(layout="ntu25", coordinates=3, count=4, persons=2, frames=9) -> list[Clip]:
    """Return clips of noise, of the subjects 1 (training), 3, 1, 3; half of them labeled 1."""
    rng = np.random.default_rng(0)
    space = KINECT if coordinates == 3 else IMAGE_SHARES
    shape = persons, frames, get_layout(layout).num_joints, coordinates
    return [
        Clip(
            rng.uniform(0.1, 0.9, shape).astype(np.float32), get_layout(layout), None, i // 2,
            f"c{i}", None, {"subject": 1 + i % 2 * 2}, space=space,
        )
        for i in range(count)
    ]  # fmt: skip


def real_ntu() -> list[Clip]:
    return read_clips(real_data("ntu_samples"), "ntu", persons="agcn")


@pytest.mark.parametrize(
    ("prepared", "stack", "name"),
    [
        ("agcn", stack_2s_agcn, "data_joint"),
        ("stgcn", stack_stgcn, "data"),
        ("", stack_stgcn, "data"),
    ],
)
def test_stacked_arrays_are_the_released_ones(tmp_path, prepared, stack, name):
    clips = real_ntu()
    store = write_store(tmp_path / "s.arrow", clips, ["x"] * 60)
    options = {"prepared": prepared} if prepared else {}
    result = export_store(get_array_format("stacked"), store, tmp_path / "out", options=options)
    assert result.counts == {"xsub": {"train": 3, "val": 1}}
    for part, own in (("train", [0, 1, 2]), ("val", [3])):
        array = np.load(tmp_path / "out" / f"{part}_{name}.npy")
        expected = stack([clips[i] for i in own])
        assert (array.shape, array.dtype) == (expected.shape, np.float32)
        np.testing.assert_allclose(array, expected, atol=2e-6)
        names, labels = pickle.loads((tmp_path / "out" / f"{part}_label.pkl").read_bytes())
        assert names == [clips[i].id + ".skeleton" for i in own]
        assert labels == [clips[i].label for i in own]
        assert all(type(label) is int for label in labels)


def test_kinetics_arrays_are_the_released_ones(tmp_path):
    folder = real_data("kinetics_skeleton/kinetics_val")
    files = sorted(folder.glob("*.json"))[4:]
    clips = [clip for file in files for clip in read_clips(file)]
    store = write_store(tmp_path / "s.arrow", clips, protocols=["official"])
    export_store(
        get_array_format("stacked"), store, tmp_path / "out", options={"prepared": "kinetics"}
    )
    made = np.load(tmp_path / "out" / "val_data.npy")
    expected = stack_kinetics(files)
    np.testing.assert_array_equal(made, np.minimum(expected, 1))  # confidences are at most 1


def test_ctrgcns_file_is_the_released_one(tmp_path):
    clips = real_ntu()
    store = write_store(tmp_path / "s.arrow", clips, ["x"] * 60)
    options = {"prepared": "ctrgcn"}
    export_store(get_array_format("ctrgcn"), store, tmp_path / "NTU60_CS.npz", options=options)
    made = np.load(tmp_path / "NTU60_CS.npz")
    assert sorted(made) == ["x_test", "x_train", "y_test", "y_train"]
    np.testing.assert_allclose(made["x_train"], rows_ctrgcn(clips[:3]), atol=2e-6)
    assert made["x_train"].dtype == np.float32
    np.testing.assert_array_equal(made["y_train"], np.eye(60)[[0, 10, 57]])


def test_a_pyskl_pickle(tmp_path):
    clips = made_up("coco17", 2, persons=1)
    sized = [dataclasses.replace(c, meta={**c.meta, "width": 640, "height": 480}) for c in clips]
    store = write_store(tmp_path / "s.arrow", sized, protocols=["xsub", "holdout"])
    result = export_store(
        get_array_format("pyskl"), store, tmp_path / "a.pkl", options={"dtype": "float16"}
    )
    assert "the score of a present joint is 1" in result.notes[0]
    content = pickle.loads((tmp_path / "a.pkl").read_bytes())
    assert type(content["annotations"]) is list
    assert content["split"] == {"xsub_train": ["c0", "c2"], "xsub_val": ["c1", "c3"]}
    first = content["annotations"][0]
    assert list(first) == [
        "frame_dir", "label", "total_frames", "keypoint", "keypoint_score", "img_shape",
        "original_shape",
    ]  # fmt: skip
    assert (first["label"], first["total_frames"], first["img_shape"]) == (0, 9, (480, 640))
    assert (first["keypoint"].shape, first["keypoint"].dtype) == ((1, 9, 17, 2), np.float16)
    expected = clips[0].joints * np.float32([640, 480])
    np.testing.assert_allclose(first["keypoint"], expected, rtol=1e-3)
    assert first["keypoint_score"].shape == (1, 9, 17)


def test_a_prepared_pyskl_pickle_keeps_the_joint_at_the_origin(tmp_path):
    store = write_store(tmp_path / "s.arrow", made_up())
    options = {"prepared": "agcn"}
    export_store(get_array_format("pyskl"), store, tmp_path / "a.pkl", options=options)
    found = read_clips(tmp_path / "a.pkl", "pyskl", prepared="agcn")
    expected = [Pipeline.prepare(clip, "agcn") for clip in made_up()]
    for clip, wanted in zip(found, expected, strict=True):
        assert clip.valid.all()
        np.testing.assert_array_equal(clip.joints, wanted.joints)


WAYS = [
    ("stacked", "out", "ntu25", 3),
    ("stacked", "out", "openpose18", 2),
    ("ctrgcn", "a.npz", "ntu25", 3),
    ("pyskl", "a.pkl", "ntu25", 3),
    ("pyskl", "a.pkl", "openpose18", 2),
]


@pytest.mark.parametrize(("writer", "target", "layout", "coordinates"), WAYS)
def test_what_is_written_is_read_back_as_the_clips(tmp_path, writer, target, layout, coordinates):
    clips = made_up(layout, coordinates)
    gap = clips[1].joints.copy()
    gap[0, 3:5] = gap[1, :2] = gap[1, 4, 7] = np.nan
    clips[1] = clips[1].with_joints(gap)
    store = write_store(tmp_path / "s.arrow", clips)
    export_store(get_array_format(writer), store, tmp_path / target)
    reader = "pyskl" if writer == "pyskl" else "stacked"
    known = {"prepared": "recorded", "layout": layout}
    if coordinates == 2:
        known |= {"space": "image", "unit": "share"}
        known |= {"confidence": True} if reader == "stacked" else {}
    else:
        known |= {"up": "y", "unit": "m"}
    found = read_clips(tmp_path / target, reader, **known)
    if writer != "pyskl":  # the training clips come first
        clips = [clips[i] for i in (0, 2, 1, 3)]
    for clip, expected in zip(found, clips, strict=True):
        np.testing.assert_array_equal(clip.joints, expected.joints)
        assert (clip.label, clip.space) == (expected.label, expected.space)
        if writer != "ctrgcn":
            assert clip.id == expected.id
        split = "train" if expected.meta["subject"] == 1 else "test"
        assert clip.meta.get("split") in (split, {"test": "val"}.get(split))


def refuse(tmp_path, clips, reason, writer="stacked", target="out", protocol=None, **options):
    """Assert that an export is refused, and that nothing is left."""
    store = write_store(tmp_path / "s.arrow", clips)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(KinegraphError, match=reason):
        export_store(
            get_array_format(writer), store, tmp_path / target, protocol=protocol, options=options
        )
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"frames": 5}, "clip 'c0' has 9 frames, the arrays 5: give --frames 9"),
        ({"frames": 0}, "expected frames to be a whole number"),
        ({"prepared": "kinetics"}, "is a convention of 2D clips"),
        ({"prepared": "agnc"}, "did you mean 'agcn'"),
        ({"prepared": "agcn", "frames": 9}, "have 300 frames"),
        ({"protocol": "xview"}, "needs the meta key 'camera'"),
        ({"name": "a/b"}, "expected a name such as"),
        ({"nam": "data"}, "did you mean 'name'"),
        ({"target": "s.arrow"}, "exists"),
        ({"writer": "pyskl"}, r"ends in \.pkl"),
        ({"writer": "pyskl", "target": "a.pkl", "dtype": "f2"}, "float32 or float16, got 'f2'"),
        ({"target": "absent/out"}, "does not exist; create it first"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, options, reason):
    refuse(tmp_path, made_up(), reason, **options)


def test_too_many_persons_are_refused_or_left_out(tmp_path):
    clips = made_up(persons=3)
    refuse(tmp_path, clips, "has 3 persons, the arrays 2: give --persons 3, or --persons 2")
    options = {"persons": 2}
    export_store(
        get_array_format("stacked"), tmp_path / "s.arrow", tmp_path / "out", options=options
    )
    made = np.load(tmp_path / "out" / "train_data.npy")
    np.testing.assert_array_equal(made[0, :, :9], to_array(clips[0], 2))


def test_other_joints_than_ntus_are_refused_by_ctrgcn(tmp_path):
    reason = "2 persons of 25 joints in 3D, the store has 20 joints"
    refuse(tmp_path, made_up("kinect20"), reason, writer="ctrgcn", target="a.npz")


def test_a_prepared_store_is_not_taken_for_a_recorded_one(tmp_path):
    clips = [clip.with_space(dataclasses.replace(KINECT, prepared="ctrgcn")) for clip in made_up()]
    refuse(tmp_path, clips, "prepared as by 'ctrgcn', which cannot be undone", prepared="stgcn")
    # the position is lost, which 2s-AGCN's preparation removes anyhow
    options = {"prepared": "agcn"}
    export_store(
        get_array_format("stacked"), tmp_path / "s.arrow", tmp_path / "out", options=options
    )
    assert (tmp_path / "out" / "val_data_joint.npy").is_file()


def test_pixels_of_unknown_size_are_no_pyskl_annotation(tmp_path):
    clips = [
        clip.with_space(dataclasses.replace(IMAGE_SHARES, unit="pixel"))
        for clip in made_up("coco17", 2)
    ]
    refuse(tmp_path, clips, "image of unknown size", writer="pyskl", target="a.pkl")


def test_clips_without_label_or_split_are_counted(tmp_path):
    first, *others = made_up(count=5)
    clips = [dataclasses.replace(first, label=None), *others]
    store = write_store(tmp_path / "s.arrow", clips, protocols=[])
    result = export_store(get_array_format("stacked"), store, tmp_path / "out")
    assert result.counts == {"all": {"train": 4, "val": 0}}
    assert "states no split" in result.notes[0]
    assert "1 clips without a label were left out" in result.notes[1]
    unlabeled = [dataclasses.replace(clip, label=None) for clip in clips]
    refuse(tmp_path, unlabeled, "no clip of the split has a label", target="other")


def test_an_unequal_file_never_appears(tmp_path):
    def write(job, path, progress):
        path.write_text("wrong")

    broken = ArrayFormat("broken", "", ".txt", write, lambda job, path: "row 3")
    store = write_store(tmp_path / "s.arrow", made_up())
    with pytest.raises(StoreError, match="row 3 does not read back as it was written"):
        export_store(broken, store, tmp_path / "a.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["s.arrow"]


def test_an_empty_split_is_refused(tmp_path):
    clips = [dataclasses.replace(clip, meta={"split": "none"}) for clip in made_up()]
    store = write_store(tmp_path / "s.arrow", clips)
    with pytest.raises(ProtocolError, match="leaves train and test empty"):
        export_store(get_array_format("stacked"), store, tmp_path / "out", protocol="official")
    assert len(ClipStore(store)) == 4
