"""Reader of FSD-10 arrays: padding removed, confidence separate, untracked joints absent."""

from __future__ import annotations

import numpy as np
import pytest

from conftest import real_data
from kinegraph.errors import ReadError
from kinegraph.readers.stacked import FSD_READER as READER


def skaters(frames, rng):
    """(N, 3, 40, 25, 1) with that many real frames per clip."""
    block = np.zeros((len(frames), 3, 40, 25, 1))
    for row, count in enumerate(frames):
        block[row, :2, :count] = rng.uniform(-1, 1, (2, count, 25, 1))
        block[row, 2, :count] = rng.uniform(0.1, 1, (count, 25, 1))
    return block


def read_all(source, **options):
    plan = READER.scan(source, **options)
    return plan, [clip for task in plan.tasks for clip in READER.read(task)]


def test_real_example():
    path = real_data("fsd10") / "example_skeleton.npy"
    plan, (clip,) = read_all(path)
    assert READER.matches(path)
    assert plan.layout.name == "body25"
    assert plan.classes is None
    assert clip.joints.shape == (1, 117, 25, 2)
    assert clip.id == "example_skeleton"
    assert clip.label is None
    # 206 joints are (0, 0) with confidence 0
    assert (~clip.valid).sum() == 206
    assert np.all(clip.confidence[~clip.valid] == 0)
    raw = np.load(path)[:, :117, :, 0]
    np.testing.assert_allclose(np.nan_to_num(clip.joints[0]), raw[:2].transpose(1, 2, 0), atol=1e-6)


def test_frames_of_negative_sum_are_kept(tmp_path):
    block = skaters([5], np.random.default_rng(0))
    block[0, :, 4] = 0
    block[0, :, 4, 3, 0] = (-0.9, -0.8, 0.3)  # the sum of x, y and confidence is negative
    np.save(tmp_path / "train_data.npy", block)
    _, (clip,) = read_all(tmp_path)
    assert clip.num_frames == 5
    assert clip.valid[0, 4].sum() == 1


def test_labels_and_splits(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "train_data.npy", skaters([5, 9, 3], rng))
    np.save(tmp_path / "train_label.npy", np.array([4, 29, 0]))
    np.save(tmp_path / "test_A_data.npy", skaters([7], rng)[:1])
    _, clips = read_all(tmp_path)
    assert [(c.id, c.label, c.num_frames, c.meta["split"]) for c in clips] == [
        ("test_A_data", None, 7, "test"),
        ("train_data-000000", 4, 5, "train"),
        ("train_data-000001", 29, 9, "train"),
        ("train_data-000002", 0, 3, "train"),
    ]


def test_named_labels(tmp_path):
    np.save(tmp_path / "train_data.npy", skaters([5, 9], np.random.default_rng(0)))
    np.save(tmp_path / "other.npy", np.array([1, 2]))
    _, clips = read_all(tmp_path / "train_data.npy", labels="other.npy")
    assert [clip.label for clip in clips] == [1, 2]
    with pytest.raises(ReadError, match=r"none\.npy"):
        READER.scan(tmp_path, labels="none.npy")


def test_empty_row(tmp_path):
    np.save(tmp_path / "a.npy", skaters([5, 0, 2], np.random.default_rng(0)))
    _, clips = read_all(tmp_path)
    assert isinstance(clips[1], ReadError)
    assert "a.npy: row 1: no joint in any frame" in str(clips[1])
    assert [c.num_frames for c in (clips[0], clips[2])] == [5, 2]


def test_confidence_out_of_range(tmp_path):
    np.save(tmp_path / "a.npy", 3 * skaters([5], np.random.default_rng(0)))
    _, (error,) = read_all(tmp_path)
    assert "expected confidences in [0, 1]" in str(error)


def test_other_arrays_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((2, 3, 40, 25, 2)))
    assert not READER.matches(tmp_path / "a.npy")
    with pytest.raises(ReadError, match=r"shape \(2, 3, 40, 25, 2\)"):
        READER.scan(tmp_path / "a.npy")
    with pytest.raises(ReadError, match="found none"):
        READER.scan(tmp_path)
