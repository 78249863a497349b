"""Synthetic recordings: as long as NTU's, and full of numbers."""

from __future__ import annotations

import numpy as np

from kinegraph.bench.fixtures import write_synthetic_ntu_files, write_synthetic_store
from kinegraph.clips.store import ClipStore
from kinegraph.readers.ntu.skeleton_file import read_skeleton


def test_a_store_as_long_as_ntu(tmp_path):
    store = ClipStore(write_synthetic_store(tmp_path / "a.arrow", 200))
    assert 65 < np.median(store.frames) < 85
    assert set(store.persons) == {1, 2}
    again = write_synthetic_store(tmp_path / "b.arrow", 200)
    assert again.read_bytes() == store.path.read_bytes()


def test_texts_whose_columns_are_all_filled(tmp_path):
    paths = write_synthetic_ntu_files(tmp_path / "raw", 2)
    bodies = [body for frame in read_skeleton(paths[0]).frames for body in frame]
    assert len(paths) == 2
    assert all((body.values != 0).all() for body in bodies)
    assert 2000 < paths[0].stat().st_size / len(bodies) < 5000
