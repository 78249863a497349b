"""Spaces: axes, conversions between them, guesses from bodies."""

from __future__ import annotations

import numpy as np
import pytest

from kinegraph.errors import LayoutError, SpaceError
from kinegraph.skeleton import KINECT, CameraProjection, SkeletonLayout, Space, get_layout
from kinegraph.skeleton.body_axes import find_up_axis, trunk_length
from kinegraph.skeleton.space import PREPARATIONS

AZURE = Space("world", "-y", "z", unit="mm")
OPENGL = Space("world", "y", "-z")
LAB = Space("world", "z", "y")

# One metre to the right of the viewer, two below, three away: in the axes of each space.
POINTS = {
    KINECT: (-1, -2, 3),
    AZURE: (1, 2, 3),
    OPENGL: (1, -2, -3),
    LAB: (1, 3, -2),
    Space("world", "y", "z", "left"): (1, -2, 3),
    Space("image"): (1, 2, 3),
}


@pytest.mark.parametrize("space", POINTS, ids=Space.describe)
def test_camera_axes_are_right_down_away(space):
    assert (space.camera_axes @ np.array(POINTS[space])).tolist() == [1, 2, 3]
    flat = CameraProjection()(np.array([POINTS[space]], np.float32), space)
    assert flat.tolist() == [[1, 2]]


@pytest.mark.parametrize("source", POINTS, ids=Space.describe)
@pytest.mark.parametrize("target", POINTS, ids=Space.describe)
def test_rotations_between_spaces(source, target):
    turned = source.rotation_to(target) @ np.array(POINTS[source], np.float32)
    assert turned.tolist() == list(POINTS[target])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "wrold"}, "did you mean 'world'"),
        ({"kind": "world"}, "needs the axis that points up"),
        ({"kind": "world", "up": "w"}, "unknown up 'w'"),
        ({"kind": "world", "up": "y", "away": "-y"}, "up and away must be two axes"),
        ({"kind": "image", "up": "y"}, "belong to the space world"),
        ({"kind": "image", "unit": "mm"}, "image coordinates have no unit 'mm'"),
        ({"kind": "image", "prepared": "kinetic"}, "did you mean 'kinetics'"),
        ({"kind": "image", "axis": "y"}, "unknown field of a space: 'axis'"),
        (3, "expected the fields of a space"),
    ],
)
def test_mistakes(fields, message):
    with pytest.raises(SpaceError, match=message):
        Space.from_dict(fields)


def test_as_plain_data():
    for space in (*POINTS, *(preparation.result for preparation in PREPARATIONS.values())):
        assert Space.from_dict(space.to_dict()) == space
    assert Space("image") == Space("image", assumed=True)
    assert Space("image", unit="pixel", assumed=True).describe().endswith("[guess]")
    with pytest.raises(SpaceError, match="axes are not stated"):
        KINECT.rotation_to(Space())


def test_the_usual_space_of_layouts():
    assert get_layout("ntu25").default_space(3).up == "y"
    assert get_layout("ntu25").default_space(2).kind == "image"
    assert get_layout("coco17").default_space(3).kind == "unstated"  # or is it a confidence?
    assert get_layout("mediapipe33").default_space(3).kind == "image"  # its z is a depth
    own = {"name": "own", "joints": ["a", "b"], "bones": [[1, 0]], "center": 0}
    assert SkeletonLayout.from_dict(own).default_space(3).kind == "unstated"
    lab = SkeletonLayout.from_dict({**own, "space": {"kind": "world", "up": "z"}})
    assert lab.default_space(3) == LAB
    assert SkeletonLayout.from_dict(lab.to_dict()).space == LAB
    with pytest.raises(LayoutError, match=r"'own': .*needs the axis"):
        SkeletonLayout.from_dict({**own, "space": "world"})


def standing(up: np.ndarray, layout: str = "coco17") -> np.ndarray:
    """Return one frame of a body whose joints are stacked along ``up``, hips at the origin."""
    joints = get_layout(layout).joints
    heights = {"shoulder": 0.5, "hip": 0.0}
    height = [next((h for part, h in heights.items() if part in j), 0.2) for j in joints]
    return (np.array(height)[:, None] * up).astype(np.float32)[None]


def test_the_axis_that_bodies_point_along():
    coco = get_layout("coco17")
    for axis, up in {"y": (0, 1, 0), "-y": (0, -1, 0), "z": (0, 0, 1), "-x": (-1, 0, 0)}.items():
        assert find_up_axis(standing(np.array(up)), coco) == axis
    assert find_up_axis(standing(np.array([1, 1, 1])), coco) is None  # along no axis
    assert find_up_axis(np.full((2, 17, 3), np.nan, np.float32), coco) is None
    assert find_up_axis(np.ones((2, 21, 3), np.float32), get_layout("hand21")) is None
    assert trunk_length(standing(np.array([0, 0, 3])), coco) == pytest.approx(1.5)
