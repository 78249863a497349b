"""Prepared arrays: what they were made by is found, stated or refused, and nothing is lost."""

from __future__ import annotations

import pickle
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from conftest import real_data
from kinegraph.clips.clip import Clip
from kinegraph.errors import ReadError
from kinegraph.readers import READERS, guess_reader, read_clips
from kinegraph.readers.stacked import READER
from kinegraph.skeleton.layouts import get_layout
from kinegraph.skeleton.space import IMAGE_SHARES, KINECT, PREPARATIONS
from kinegraph.training.recipe import load_recipe
from kinegraph.transforms import to_array
from kinegraph.transforms.fit_space import fit_space
from prepared_arrays import rows_ctrgcn, stack_2s_agcn, stack_kinetics, stack_stgcn, write_arrays


@cache
def recorded() -> tuple[Clip, ...]:
    """Return the real NTU samples as recorded; that of A058 has two persons."""
    return tuple(read_clips(real_data("ntu_samples"), "ntu", persons="agcn"))


def bodies(count: int = 2) -> tuple[Clip, ...]:
    """Return synthetic NTU clips, upright at 3 m, each with two persons."""
    rng = np.random.default_rng(1)
    pose = np.zeros((25, 3))
    pose[:, 1] = [0.5 if "shoulder" in j else 0.3 if "mid" in j else 0 for j in NTU.joints]
    pose[:, 0] = [0.2 * (("right" in joint) - ("left" in joint)) for joint in NTU.joints]
    moved = pose + rng.normal(0, 0.02, (count, 2, 12, 25, 3)) + [0.3, 0.1, 3]
    return tuple(Clip(j.astype(np.float32), NTU, id=f"c{i}") for i, j in enumerate(moved))


NTU = get_layout("ntu25")


def names(clips) -> tuple[list[str], list[int]]:
    return [clip.id + ".skeleton" for clip in clips], [clip.label for clip in clips]


def read(path: Path, **options) -> list[Clip]:
    plan = READER.scan(path, **options)
    return [clip for task in plan.tasks for clip in READER.read(task)]


def tensors(clips, recipe: str) -> dict[str, np.ndarray]:
    """Return the inputs of a recipe in evaluation, by id."""
    loaded = load_recipe(recipe)
    pipeline = loaded.pipeline()
    space = IMAGE_SHARES if loaded.confidence else KINECT
    fitted = (pipeline(fit_space(clip, space, pipeline), None) for clip in clips)
    return {c.id: to_array(c, loaded.persons, confidence=loaded.confidence) for c in fitted}


@pytest.mark.parametrize("stack", [stack_2s_agcn, stack_stgcn])
def test_shift_gcns_input_is_that_of_the_recordings(tmp_path, stack):
    expected = tensors(recorded(), "shiftgcn_ntu60_xsub")
    path = write_arrays(tmp_path, stack(recorded()), names(recorded()))
    clips = read(path)
    for clip in clips:
        made = tensors([clip], "shiftgcn_ntu60_xsub")[clip.id]
        np.testing.assert_allclose(made, expected[clip.id], atol=2e-6)
        assert clip.valid.all()  # the middle of the spine too, which is at the origin
        assert clip.space.prepared == ("agcn" if stack is stack_2s_agcn else "recorded")
    assert [clip.num_persons for clip in clips] == [1, 1, 2, 1]
    assert [clip.num_frames for clip in clips] == [clip.num_frames for clip in recorded()]
    assert dict(clips[2].meta)["camera"] == 3
    assert (clips[2].label, clips[2].fps, clips[2].meta["subject"]) == (57, 30.0, 8)
    assert READER.scan(path).classes[57] == "handshaking"


def test_ctrgcns_archive_gives_shift_gcns_input(tmp_path):
    rows, labels = rows_ctrgcn(recorded()), np.eye(60)[[clip.label for clip in recorded()]]
    np.savez_compressed(
        tmp_path / "NTU60_CS.npz",
        x_train=rows[:3], y_train=labels[:3], x_test=rows[3:], y_test=labels[3:],
    )  # fmt: skip
    assert guess_reader(tmp_path).name == "stacked"
    clips = read(tmp_path)
    assert [clip.meta["split"] for clip in clips] == ["train"] * 3 + ["test"]
    assert [clip.label for clip in clips] == [clip.label for clip in recorded()]
    assert [clip.num_frames for clip in clips] == [clip.num_frames for clip in recorded()]
    assert READER.scan(tmp_path).classes[57] == "handshaking"
    expected = list(tensors(recorded(), "shiftgcn_ntu60_xsub").values())
    for clip, wanted in zip(clips, expected, strict=True):
        assert clip.space == PREPARATIONS["ctrgcn"].result
        assert clip.valid.all()
        made = tensors([clip], "shiftgcn_ntu60_xsub")[clip.id]
        np.testing.assert_allclose(made, wanted, atol=2e-5)


@pytest.mark.parametrize("flip", [False, True])
def test_kinetics_arrays_give_the_tensors_of_the_json_files(tmp_path, flip):
    folder = real_data("kinetics_skeleton/kinetics_val")
    files = sorted(folder.glob("*.json"))[2:5]
    path = write_arrays(tmp_path, stack_kinetics(files, flip), ([f.name for f in files], [1, 2, 3]))
    clips = read(path)
    expected = tensors([clip for f in files for clip in read_clips(f)], "stgcn_kinetics")
    made = tensors(clips, "stgcn_kinetics")
    assert [clip.id for clip in clips] == [file.stem for file in files]
    assert clips[0].space == PREPARATIONS["kinetics"].result
    assert any("y grows upwards" in note for note in clips[0].notes) == flip
    for name, wanted in expected.items():
        np.testing.assert_array_equal(made[name], wanted)


def test_persons_of_unequal_lengths_stay_repeated(tmp_path):
    (clip,) = bodies(1)
    joints = clip.joints.copy()
    joints[1, 7:] = np.nan
    array = stack_2s_agcn([clip.with_joints(joints)])
    (found,) = read(write_arrays(tmp_path, array, [0]))
    assert found.num_frames == 84  # 7 times 12
    np.testing.assert_array_equal(found.joints, array[0, :, :84].transpose(3, 1, 2, 0))


def test_a_person_written_twice_is_one(tmp_path):
    rows = rows_ctrgcn(bodies(2))
    rows[0, :, 75:] = rows[0, :, :75]
    np.savez(tmp_path / "NTU120_CSub.npz", x_train=rows, y_train=np.eye(120)[[3, 4]])
    first, second = read(tmp_path, prepared="ctrgcn")
    assert (first.num_persons, second.num_persons) == (1, 2)
    assert first.notes == ("a second person equal to the first was left out",)
    assert not second.notes


def test_scores_above_1_are_capped_with_a_note(tmp_path):
    block = np.zeros((2, 3, 4, 18, 1), np.float32)
    block[:, :2] = np.random.default_rng(0).uniform(-0.4, 0.4, (2, 2, 4, 18, 1))
    block[:, 2], block[1, 2, 0] = 0.5, 1.2
    path = write_arrays(tmp_path, block, [0, 1])
    first, second = read(path)
    assert "scores above 1 were capped at 1" not in first.notes
    assert "scores above 1 were capped at 1" in second.notes
    assert second.confidence.max() == 1
    assert all("looks prepared as by 'kinetics'" in clip.notes[0] for clip in (first, second))
    assert not any(clip.notes for clip in read(path, prepared="kinetics")[:1])


def test_a_guess_is_marked_and_a_statement_is_not(tmp_path):
    path = write_arrays(tmp_path, stack_2s_agcn(bodies()), [0, 1])
    guessed, stated = read(path)[0], read(path, prepared="agcn")[0]
    assert guessed.space.describe().endswith("prepared: agcn [guess]")
    assert guessed.notes
    assert stated.space.describe().endswith("prepared: agcn")
    assert not stated.notes
    assert stated.valid.all()


def centered_only(clips) -> np.ndarray:
    """Return an array centered in every frame and not turned, as by no published tool."""
    stacked = stack_stgcn(clips)
    middle = stacked[:, :, :, 1:2, :1]
    return np.where((stacked != 0).any(axis=1, keepdims=True), stacked - middle, np.float32(0))


@pytest.mark.parametrize(
    ("array", "options", "reason"),
    [
        (stack_stgcn, {"prepared": "agcn"}, "does not fit the array, which has the first person"),
        (stack_2s_agcn, {"prepared": "stgcn"}, "looks prepared as by 'agcn'"),
        (stack_2s_agcn, {"prepared": "ctrgcn"}, "looks prepared as by 'agcn'"),
        (stack_2s_agcn, {"prepared": "kinetics"}, "expected x and y, or x, y and a score"),
        (stack_2s_agcn, {"prepared": "acgn"}, "did you mean 'agcn'"),
        (centered_only, {}, "at the origin in all frames.*--prepared recorded"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, array, options, reason):
    path = write_arrays(tmp_path, array(bodies()), [0, 1])
    with pytest.raises(Exception, match=reason):
        read(path, **options)


def test_a_centered_array_taken_as_it_is_keeps_the_center(tmp_path):
    path = write_arrays(tmp_path, centered_only(bodies()), [0, 1])
    assert all(clip.valid.all() for clip in read(path, prepared="recorded"))


def test_an_array_of_images_is_not_in_3d(tmp_path):
    path = write_arrays(tmp_path, np.ones((1, 3, 4, 18, 1), np.float32), [0])
    for prepared in ("agcn", "stgcn"):
        with pytest.raises(ReadError, match="--prepared kinetics"):
            read(path, prepared=prepared)


def test_arrays_of_one_source_are_of_one_space(tmp_path):
    write_arrays(tmp_path, stack_2s_agcn(bodies()), [0, 1])
    write_arrays(tmp_path, stack_stgcn(bodies()), [0, 1], "train_data", "train_label")
    with pytest.raises(ReadError, match="convert them to two stores"):
        read(tmp_path)


def test_channels_that_may_be_scores_are_asked_for(tmp_path):
    block = np.random.default_rng(0).uniform(0.1, 0.9, (2, 4, 9, 25, 1)).astype(np.float32)
    path = write_arrays(tmp_path, block, [0, 1])
    with pytest.raises(ReadError, match=r"4 channels: .*--confidence true"):
        read(path)
    clip = read(path, confidence=True, up="y")[0]
    assert clip.joints.shape[-1] == 3
    np.testing.assert_array_equal(clip.confidence[0], block[0, 3, ..., 0])


def test_images_around_zero_are_not_as_recorded(tmp_path):
    block = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 2, 9, 17, 1)).astype(np.float32)
    path = write_arrays(tmp_path, block, [0, 1])
    with pytest.raises(ReadError, match=r"on both sides of 0.*--prepared kinetics"):
        read(path)
    assert read(path, prepared="kinetics")[0].space == PREPARATIONS["kinetics"].result
    assert read(path, prepared="recorded")[0].space == IMAGE_SHARES


def test_figure_skating_is_not_ntu(tmp_path):
    block = np.random.default_rng(0).uniform(-0.9, 0.9, (2, 3, 9, 25, 1)).astype(np.float32)
    block[:, 2] = np.abs(block[:, 2])
    np.save(tmp_path / "train_data.npy", block)
    with pytest.raises(ReadError, match="convert fsd"):
        read(tmp_path)
    assert READERS["fsd"].scan(tmp_path).layout.name == "body25"


# --------------------------------------------------------------------- label files


def test_babels_labels(tmp_path):
    labels = ([3, 1], (["s0", "s1"], [0, 2], ["a", "b"]))
    path = write_arrays(
        tmp_path, stack_stgcn(bodies()), labels, "train_ntu_sk_60", "train_label_60"
    )
    (tmp_path / "train_label_120.pkl").write_bytes(pickle.dumps(labels))
    facts = [(clip.id, clip.label, clip.meta["split"]) for clip in read(path)]
    assert facts == [("s0_0_a", 3, "train"), ("s1_2_b", 1, "train")]


def test_a_label_file_that_is_not_read_is_named(tmp_path):
    path = write_arrays(tmp_path, stack_stgcn(bodies()), [0, 1], "clips", "other_labels")
    assert all("other_labels.pkl was not read" in clip.notes[0] for clip in read(path))
    assert [clip.label for clip in read(path, labels="other_labels.pkl")] == [0, 1]


def test_a_label_file_of_text_is_refused(tmp_path):
    path = write_arrays(tmp_path, stack_stgcn(bodies()), [0, 1])
    (tmp_path / "labels.txt").write_text("0\n1\n")
    with pytest.raises(ReadError, match=r"expected a label file \.pkl or \.pickle or \.npy"):
        read(path, labels="labels.txt")


def test_labels_may_be_one_hot_or_before_the_names(tmp_path):
    path = write_arrays(tmp_path, stack_stgcn(bodies()), np.eye(4)[[2, 3]])
    assert [clip.label for clip in read(path)] == [2, 3]
    write_arrays(tmp_path, stack_stgcn(bodies()), ([1, 0], ["a", "b"]))
    assert [(clip.id, clip.label) for clip in read(path)] == [("a", 1), ("b", 0)]


def test_two_label_files_that_fit_are_refused(tmp_path):
    path = write_arrays(tmp_path, stack_stgcn(bodies()), [0, 1], "clips_60_a", "label_60")
    (tmp_path / "a_label.pkl").write_bytes(pickle.dumps([0, 1]))
    with pytest.raises(ReadError, match="could be its labels; name one by --labels"):
        read(path)


def test_labels_of_some_actions_have_their_names(tmp_path):
    rows = ["S001C001P001R001A061.skeleton", "S001C001P001R001A120.skeleton"]
    path = write_arrays(tmp_path, stack_stgcn(bodies()), (rows, [0, 1]))
    assert READER.scan(path).classes[0] == "put on headphone"
    assert "rock-paper-scissors" in READER.scan(path).classes[1]
    write_arrays(tmp_path, stack_stgcn(bodies()), (rows, [60, 119]))
    assert len(READER.scan(path).classes) == 120


def test_a_bone_stream_is_refused_by_name(tmp_path):
    path = write_arrays(tmp_path, stack_stgcn(bodies()), [0, 1], "train_data_bone")
    with pytest.raises(ReadError, match="give the array of the joints"):
        read(path)


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"x_train": np.ones((2, 9, 60), np.float32)}, "name the layout"),
        ({"x_train": np.ones((2, 9, 2, 25, 3), np.float32)}, r"got the shape \(2, 9, 2, 25, 3\)"),
        ({"x": np.ones((2, 9, 150), np.float32)}, "expected the arrays x_train, y_train"),
        (
            {"x_train": np.ones((2, 9, 150), np.float32), "y_train": np.ones(3)},
            "y_train: expected 2 labels",
        ),
    ],
)
def test_archives_that_do_not_fit(tmp_path, arrays, reason):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ReadError, match=reason):
        read(tmp_path / "a.npz")


def test_two_archives_of_one_folder_are_refused(tmp_path):
    for name in ("NTU60_CS", "NTU60_CV"):
        np.savez(tmp_path / f"{name}.npz", x_train=np.ones((2, 9, 150), np.float32))
    with pytest.raises(ReadError, match=r"NTU60_CS\.npz and NTU60_CV\.npz usually hold the same"):
        read(tmp_path)
