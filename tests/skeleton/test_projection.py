"""Projections of 3D joints onto an image."""

from __future__ import annotations

import numpy as np
import pytest

from kinegraph.errors import LayoutError, UnknownNameError
from kinegraph.skeleton import CameraProjection, get_projection

POINTS = np.array([[1.0, 2.0, 4.0], [-1.0, 0.5, 2.0], [np.nan] * 3], np.float32)


def test_from_the_front_depth_counts_for_nothing_and_both_axes_turn():
    seen = CameraProjection()(POINTS)
    np.testing.assert_allclose(seen[:2], [[-1, -2], [1, -0.5]])
    assert np.isnan(seen[2]).all()
    assert get_projection("front") == CameraProjection()


def test_a_pinhole_divides_by_the_depth():
    np.testing.assert_allclose(CameraProjection(focal=2.0)(POINTS)[:2], [[-0.5, -1], [1, -0.5]])
    np.testing.assert_allclose(CameraProjection(1.0, distance=4.0)(POINTS)[0], [-0.125, -0.25])


def test_what_is_behind_a_pinhole_is_absent():
    behind = np.array([[1.0, 1.0, -1.0], [1.0, 1.0, 0.0], [1.0, 1.0, 1.0]], np.float32)
    assert np.isnan(get_projection("pinhole")(behind)).all(axis=1).tolist() == [True, True, False]


def test_flat_joints_and_unknown_cameras_are_rejected():
    with pytest.raises(LayoutError, match="joints of 3 coordinates, got 2"):
        CameraProjection()(POINTS[:, :2])
    with pytest.raises(UnknownNameError, match=r"unknown camera 'fron' \(did you mean 'front'"):
        get_projection("fron")
