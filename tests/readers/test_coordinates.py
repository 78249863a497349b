"""Raw coordinates as joints of a clip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kinegraph.errors import ReadError
from kinegraph.readers.reader import ReadTask

TASK = ReadTask(Path("clip.txt"))


def test_only_joints_that_are_all_zero_are_absent() -> None:
    raw = np.array([[[0.0, 0.0, 0.0], [0.0, 0.5, 0.0], [-0.0, 0.0, 0.0]]])
    joints = TASK.to_joints(raw)
    assert joints.dtype == np.float32
    assert np.isnan(joints).all(axis=-1).tolist() == [[True, False, True]]
    assert joints[0, 1].tolist() == [0.0, 0.5, 0.0]
    assert not np.isnan(raw).any()


def test_zeros_may_be_kept() -> None:
    joints = TASK.to_joints(np.zeros((1, 2, 3)), zeros_absent=False)
    assert joints.tolist() == np.zeros((1, 2, 3)).tolist()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
def test_numbers_that_are_not_finite_are_refused(value: float) -> None:
    raw = np.ones((2, 4, 5, 3))
    raw[1, 2, 3, 0] = value
    with pytest.raises(ReadError, match=r"clip\.txt: frame 2, joint 3: expected finite"):
        TASK.to_joints(raw)


def test_no_frames() -> None:
    with pytest.raises(ReadError, match="at least one frame"):
        TASK.to_joints(np.zeros((0, 5, 3)))
