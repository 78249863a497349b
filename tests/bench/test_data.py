"""Benchmarks of stores: bytes, dense arrays, and crops that hold the same frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kinegraph.bench import data
from kinegraph.bench.data import bench_bytes, bench_crops, read_dense_crops, write_dense_array
from kinegraph.bench.result import BenchOptions
from kinegraph.clips.clip import Clip
from kinegraph.clips.store import ClipStore
from kinegraph.clips.writer import StoreWriter
from kinegraph.errors import BenchError
from kinegraph.skeleton import get_layout


def test_bytes(synthetic_store):
    result = bench_bytes(ClipStore(synthetic_store))
    dense = 30 * 3 * 300 * 25 * 2 * 4
    assert [side.name for side in result.sides] == [
        "dense float32",
        "store float32",
        "store float16",
    ]
    assert result.sides[0].amount.median == dense / 1e6
    assert result.figures["ratio in float32"] == pytest.approx(
        dense / synthetic_store.stat().st_size, rel=0.01
    )
    assert result.ratio.median > 1.7 * result.figures["ratio in float32"]
    assert 0 < result.figures["largest error"] < 0.01


def test_crops(synthetic_store):
    result = bench_crops(ClipStore(synthetic_store), BenchOptions(rounds=2))
    assert result.figures["rounds"] == 2
    assert all(side.figures["crops/s"] > 0 for side in result.sides)


def test_crops_that_differ_are_not_timed(synthetic_store, monkeypatch):
    crops = data.read_dense_crops
    monkeypatch.setattr(data, "read_dense_crops", lambda *given: crops(*given) + 1)
    with pytest.raises(BenchError, match="do not return the same frames"):
        bench_crops(ClipStore(synthetic_store), BenchOptions(rounds=1))


def test_clips_that_are_all_too_short(tiny_store):
    with pytest.raises(BenchError, match="expected clips of 64 frames or more, found none"):
        bench_crops(ClipStore(tiny_store))


def write_ntu_store(path: Path) -> ClipStore:
    layout, rng = get_layout("ntu25"), np.random.default_rng(0)
    with StoreWriter(path, layout) as writer:
        for i, (persons, frames) in enumerate([(1, 70), (2, 300), (1, 20), (2, 90)]):
            joints = rng.normal(size=(persons, frames, 25, 3))
            joints[0, 5, 3] = np.nan
            writer.write(Clip(joints, layout, id=str(i)))
    return ClipStore(path)


def test_the_dense_array_is_the_store_with_zeros(tmp_path: Path) -> None:
    store = write_ntu_store(tmp_path / "a.arrow")
    dense = write_dense_array(store, tmp_path / "a.npy")
    assert dense.shape == (4, 3, 300, 25, 2)
    assert (dense.size * 4) / (tmp_path / "a.arrow").stat().st_size > 2
    for i, clip in enumerate(store):
        persons, frames = clip.num_persons, clip.num_frames
        joints = dense[i].transpose(3, 1, 2, 0)
        np.testing.assert_array_equal(joints[:persons, :frames], np.nan_to_num(clip.joints))
        assert not joints[persons:].any()
        assert not joints[:, frames:].any()


@pytest.mark.parametrize("frames", [1, 64])
def test_crops_of_both_sides_are_the_same(tmp_path: Path, frames: int) -> None:
    store = write_ntu_store(tmp_path / "a.arrow")
    dense = write_dense_array(store, tmp_path / "a.npy")
    indices, starts = [3, 0, 1, 1, 2], [26, 6, 0, 236, 19]
    wanted = read_dense_crops(dense, indices, starts, frames)
    crops = store.read_crops(indices, starts, frames)
    got = np.zeros((5, 2, frames, 25, 3), np.float32)
    got[crops.rows, crops.persons] = np.nan_to_num(crops.joints)
    np.testing.assert_array_equal(got.transpose(0, 4, 2, 3, 1), wanted)
