"""The dense array holds the clips of the store, and gives the same crops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kinegraph.bench.dense import dense_crops, write_dense
from kinegraph.clips import Clip, ClipStore, StoreWriter
from kinegraph.skeleton import get_layout


def made_up_store(path: Path) -> ClipStore:
    layout, rng = get_layout("ntu25"), np.random.default_rng(0)
    with StoreWriter(path, layout) as writer:
        for i, (persons, frames) in enumerate([(1, 70), (2, 300), (1, 20), (2, 90)]):
            joints = rng.normal(size=(persons, frames, 25, 3))
            joints[0, 5, 3] = np.nan
            writer.write(Clip(joints, layout, id=str(i)))
    return ClipStore(path)


def test_the_dense_array_is_the_store_with_zeros(tmp_path: Path) -> None:
    store = made_up_store(tmp_path / "a.arrow")
    dense = write_dense(store, tmp_path / "a.npy")
    assert dense.shape == (4, 3, 300, 25, 2)
    assert (dense.size * 4) / (tmp_path / "a.arrow").stat().st_size > 2
    for i, clip in enumerate(store):
        persons, frames = clip.num_persons, clip.num_frames
        joints = dense[i].transpose(3, 1, 2, 0)
        np.testing.assert_array_equal(joints[:persons, :frames], np.nan_to_num(clip.joints))
        assert not joints[persons:].any()
        assert not joints[:, frames:].any()


@pytest.mark.parametrize("frames", [1, 64])
def test_crops_of_both_are_the_same(tmp_path: Path, frames: int) -> None:
    store = made_up_store(tmp_path / "a.arrow")
    dense = write_dense(store, tmp_path / "a.npy")
    indices, starts = [3, 0, 1, 1, 2], [26, 6, 0, 236, 19]
    wanted = dense_crops(dense, indices, starts, frames)
    crops = store.read_crops(indices, starts, frames)
    got = np.zeros((5, 2, frames, 25, 3), np.float32)
    got[crops.rows, crops.persons] = np.nan_to_num(crops.joints)
    np.testing.assert_array_equal(got.transpose(0, 4, 2, 3, 1), wanted)
