"""The reference parser of NTU text returns what the product's reader returns."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from conftest import real_data
from kinegraph.bench.reference.ntu import read_ntu_line_by_line
from kinegraph.clips.clip import Clip
from kinegraph.readers.ntu.reader import READER
from kinegraph.readers.ntu.skeleton_file import write_skeleton
from kinegraph.readers.reader import ReadTask
from skeleton_recording import recording_from_joints


def assert_same(path: Path) -> None:
    (clip,) = READER.read(ReadTask(path))
    assert isinstance(clip, Clip)
    np.testing.assert_array_equal(read_ntu_line_by_line(path), clip.joints)


def test_real_files() -> None:
    paths = sorted(real_data("ntu_samples").glob("*.skeleton"))
    assert len(paths) == 4
    for path in paths:
        assert_same(path)


def test_persons_who_come_go_and_are_partly_seen(tmp_path: Path) -> None:
    joints = np.random.default_rng(0).normal(size=(3, 20, 25, 3)).cumsum(axis=1)
    joints[0, :5] = np.nan
    joints[1, 12:] = np.nan
    joints[2, 7, 3] = 0
    write_skeleton(tmp_path / "a.skeleton", recording_from_joints(joints))
    assert_same(tmp_path / "a.skeleton")
