"""Forward kinematics and Euler angles, against scipy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from kinegraph.skeleton.kinematics import euler_rotations, forward_kinematics

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("axes", ["zxy", "zyx", "xyz", "yxz", "xzy", "yzx", "x", "y", "z", "zxz"])
def test_rotations_are_those_of_scipy(axes: str) -> None:
    degrees = RNG.uniform(-180, 180, (4, 3, len(axes)))
    expected = Rotation.from_euler(axes.upper(), degrees.reshape(12, -1), degrees=True).as_matrix()
    found = euler_rotations(degrees, axes)
    np.testing.assert_allclose(found, expected.reshape(4, 3, 3, 3), atol=1e-12)


def test_no_axes_are_the_identity() -> None:
    np.testing.assert_array_equal(euler_rotations(np.empty((2, 0)), ""), [np.eye(3)] * 2)


def test_a_chain_by_hand() -> None:
    offsets = np.array([[1.0, 2, 3], [0, 10, 0], [0, 5, 0], [1, 0, 0]])
    rotations = euler_rotations(np.array([[[90.0], [-90], [45], [0]]]), "z")
    joints = forward_kinematics(rotations, offsets, (-1, 0, 1, 0))
    expected = [[1, 2, 3], [-9, 2, 3], [-9, 7, 3], [1, 3, 3]]
    np.testing.assert_allclose(joints, [expected], atol=1e-12)
