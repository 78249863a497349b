"""What readers conclude of the coordinates: stated, guessed, or refused."""

from __future__ import annotations

import numpy as np
import pytest

from kinegraph.errors import ReadError
from kinegraph.readers.space_options import SpaceOptions
from kinegraph.skeleton import KINECT, SkeletonLayout, Space, get_layout
from kinegraph.skeleton.space import PREPARATIONS


def body(layout: str, up: tuple[float, ...]) -> np.ndarray:
    """Return one frame: hips at the origin, shoulders at ``up``."""
    joints = get_layout(layout).joints
    height = [1.0 if "shoulder" in joint else 0.0 if "hip" in joint else 0.4 for joint in joints]
    return (np.array(height)[:, None] * np.array(up)).astype(np.float32)[None]


@pytest.mark.parametrize(
    ("layout", "up", "stated", "expected"),
    [
        ("ntu25", (0, 0.5, 0), {}, KINECT),
        ("ntu25", (0, 500, 0), {}, Space("world", "y", unit="mm")),
        ("ntu25", (0, -50, 0), {"up": "-y"}, Space("world", "-y", unit="cm")),
        ("ntu25", (0, 0.5, 0), {"prepared": "stgcn"}, KINECT),
        ("ntu25", (0, 0.5, 0), {"prepared": "agcn"}, PREPARATIONS["agcn"].result),
        ("coco17", (0, -90), {}, Space("image", unit="pixel")),
        ("coco17", (0, -0.2), {}, Space("image", unit="share")),
        ("coco17", (0, 0, 0.5), {"space": "world"}, Space("world", "z", unit="m")),
        ("mediapipe33", (0, -90, 3), {}, Space("image", unit="pixel")),
        ("mediapipe33", (0, -0.5, 0), {"up": "-y"}, Space("world", "-y", unit="m")),
        ("mediapipe33", (0, -0.5, 0.1), {}, Space("world", "-y", unit="m")),  # hips at the origin
    ],
)
def test_spaces(layout, up, stated, expected):
    found = SpaceOptions(**stated).resolve(body(layout, up), get_layout(layout))
    assert found == expected
    assert found.assumed == (stated.get("prepared") not in ("agcn",))


@pytest.mark.parametrize(
    ("layout", "up", "stated", "message"),
    [
        ("coco17", (0, -90, 0.9), {}, "is a layout of images .*--confidence true.*--up=-y"),
        ("ntu25", (0, -0.5, 0), {}, "bodies point along -y, but y points up in layout 'ntu25'"),
        ("ntu25", (0, 0.5, 0), {"up": "q"}, "unknown up 'q'"),
        ("ntu25", (0, 0.5, 0), {"unit": "pixel"}, "no unit 'pixel'"),
        ("coco17", (0, -9), {"space": "image", "unit": "pixels"}, "no unit 'pixels'"),
        ("coco17", (0, 90), {}, "these bodies stand along y: negate y"),
    ],
)
def test_refusals(layout, up, stated, message):
    with pytest.raises(ReadError, match=message):
        SpaceOptions(**stated).resolve(body(layout, up), get_layout(layout))


def test_an_own_layout_states_its_space_or_is_refused():
    own = SkeletonLayout("own", ("hip", "head"), ((1, 0),), 0)
    joints = np.ones((1, 2, 3), np.float32)
    assert SpaceOptions().resolve(joints, own) == Space()
    with pytest.raises(ReadError, match=r"the third is from 1 to 1: .* --confidence true"):
        SpaceOptions().resolve(joints * np.array([300, 200, 1], np.float32), own)
    assert SpaceOptions(up="z").resolve(joints, own).up == "z"
    assert SpaceOptions().resolve(joints[..., :2], own).kind == "image"
