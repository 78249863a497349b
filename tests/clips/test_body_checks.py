"""Checks of bodies: problems are found in altered bodies, and none in healthy ones."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from conftest import real_data
from kinegraph.clips.body_checks import BodyChecker, BodyProblem
from kinegraph.clips.clip import Clip
from kinegraph.readers import read_clips
from kinegraph.skeleton import KINECT, Space, get_layout

IMAGE = Space("image", unit="pixel")
#: A standing body that faces the camera: x to the right, y down.
STANDING = {
    "nose": (0, -170), "eye": (3, -175), "ear": (8, -172), "shoulder": (18, -145),
    "elbow": (25, -115), "wrist": (28, -90), "hip": (10, -95), "knee": (11, -50), "ankle": (12, -8),
}  # fmt: skip


def standing(frames: int = 30) -> np.ndarray:
    """Return COCO joints (1, T, 17, 2) of a body that sways and waves."""
    rng = np.random.default_rng(0)
    places = []
    for name in get_layout("coco17").joints:
        side, _, part = name.rpartition("_")
        x, y = STANDING[part]
        places.append((-x if side == "right" else x, y))
    body = np.array(places, np.float32) + rng.normal(scale=1, size=(frames, 17, 2))
    return (body + 300).astype(np.float32)[None]


def clip(joints: np.ndarray, layout: str = "coco17", space: Space = IMAGE, **facts) -> Clip:
    confidence = np.full(joints.shape[:3], 0.9, np.float32)
    return Clip(joints, get_layout(layout), confidence, space=space, **facts)


def problems(*clips: Clip, rates: tuple[float, ...] = (30.0,)) -> list[BodyProblem]:
    checker = BodyChecker(clips[0].layout, clips[0].space)
    for one in clips:
        checker.measure(one)
    return checker.find_problems(rates)


def texts(*clips: Clip) -> str:
    return "; ".join(problem.text for problem in problems(*clips))


def test_a_drawn_body_is_healthy() -> None:
    assert problems(clip(standing())) == []


@pytest.mark.parametrize(
    ("reader", "path"),
    [
        ("ntu", "ntu_samples/S001C003P008R002A058.skeleton"),
        ("kinetics", "kinetics_skeleton/kinetics_val"),
        ("fsd", "fsd10/example_skeleton.npy"),
        ("pyskl", "pyskl_format/ucf101_one_clip.pkl"),
        ("nw_ucla", "nw_ucla/all_sqe/a08_s03_e02_v03.json"),
        ("utd_mhad", "utd_mhad/Skeleton/a1_s1_t1_skeleton.mat"),
        ("penn_action", "penn_action/labels/0001.mat"),
        ("florence3d", "florence3d"),
    ],
)
def test_real_bodies_are_healthy(reader: str, path: str) -> None:
    assert problems(*read_clips(real_data(path), reader)[:40]) == []


def test_body25_for_body25b() -> None:
    people = read_clips(real_data("field_cases/07/in/clip"), "openpose", layout="body25")
    (found,) = problems(*people)
    assert found.severity == "warning" and not found.clips
    assert "do not fit layout 'body25': left_ear and left_eye are 5.6 limbs" in found.text
    assert "they fit body25b (--layout body25b)" in found.text
    right = read_clips(real_data("field_cases/07/in/clip"), "openpose", layout="body25b")
    assert problems(*right) == []


@pytest.mark.parametrize(
    ("path", "layout", "text"),
    [
        (
            "nw_ucla/all_sqe/a08_s03_e02_v03.json",
            "utd_mhad20",
            "_hip and hip_center are .* they fit kinect20",
        ),
        ("ntu_samples/S001C001P001R001A001.skeleton", "azure_kinect32", "left and right"),
        ("ntu_samples/S001C001P001R001A001.skeleton", "smpl22", "left_elbow are .* limbs apart"),
        ("kinetics_skeleton/kinetics_val", "coco17", "left and right knee to ankle differ"),
    ],
)
def test_joints_in_the_order_of_another_layout(path: str, layout: str, text: str) -> None:
    wrong = []
    for one in read_clips(real_data(path)):
        count = get_layout(layout).num_joints
        joints = np.resize(np.arange(one.num_joints), count)  # cut, or some again
        wrong.append(replace(one, joints=one.joints[:, :, joints], confidence=None,
                             layout=get_layout(layout)))  # fmt: skip
    (found,) = problems(*wrong)
    assert "do not fit layout" in found.text
    assert re.search(text, found.text), found.text


def test_bones_whose_lengths_vary() -> None:
    """Elbows that jump between two places, as of two tracked objects."""
    (body,) = read_clips(real_data("ntu_samples/S001C001P001R001A001.skeleton"))
    joints = np.array(body.joints)
    for name in ("left_elbow", "right_elbow"):
        joints[:, ::2, body.layout.index(name), 1] += 0.4
    assert "varies by" in texts(replace(body, joints=joints))


ALTER: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "upside down": (lambda j: j * np.float32([-1, -1, 1]), "upside-down bodies.*where y points up"),
    "mirrored": (lambda j: j * np.float32([-1, 1, 1]), "left and right are mirrored"),
    "away towards": (lambda j: j * np.float32([1, 1, -1]), "left and right are mirrored"),
}


@pytest.mark.parametrize(("alter", "text"), ALTER.values(), ids=ALTER)
def test_bodies_of_another_space(alter, text: str) -> None:
    bodies = read_clips(real_data("ntu_samples"), "ntu")
    found = problems(*(replace(body, joints=alter(body.joints)) for body in bodies))
    assert re.search(text, found[0].text)
    assert found[0].clips == (0, 1, 2, 3)
    turned = replace(KINECT, up="z", away="-y")
    upright = [replace(b, joints=b.joints[..., [0, 2, 1]] * np.float32([1, -1, 1]), space=turned)
               for b in bodies]  # fmt: skip
    assert problems(*upright) == []


def test_images_upside_down_or_mirrored() -> None:
    joints = standing()
    assert "upside-down bodies: heads are below hips where y points down" in texts(
        clip(joints * np.float32([1, -1]))
    )
    swapped = joints * np.float32([-1, 1])
    assert "in 30 of 30 frames that show a face, the left shoulder is on the left" in texts(
        clip(swapped)
    )
    hidden = Clip(swapped, get_layout("coco17"), np.full((1, 30, 17), 0.2, np.float32), space=IMAGE)
    assert problems(hidden) == []  # from behind, faces are uncertain


def test_one_handstand_among_many_is_no_problem() -> None:
    many = [clip(standing()) for _ in range(3)]
    assert problems(*many, clip(standing() * np.float32([1, -1]))) == []


def test_a_third_number_that_is_a_confidence() -> None:
    joints = np.concatenate([standing(), np.full((1, 30, 17, 1), 0.7, np.float32)], axis=-1)
    (found,) = problems(Clip(joints, get_layout("coco17"), space=IMAGE))
    assert found.severity == "error" and "it is a confidence" in found.text


def test_mixed_units_and_rates() -> None:
    bodies = read_clips(real_data("ntu_samples"), "ntu")
    mixed = replace(bodies[0], joints=bodies[0].joints * 100)
    found = problems(mixed, *bodies[1:], rates=(30.0, 30.0, 25.0, float("nan")))
    assert [(one.severity, one.clips) for one in found] == [("warning", (0,)), ("note", ())]
    assert "units are mixed" in found[0].text
    assert "frame rates differ: 30 in 2, 25 in 1, unknown in 1 clips" in found[1].text


def test_own_layouts_without_limbs_are_not_judged() -> None:
    hand = get_layout("hand21")
    rng = np.random.default_rng(0)
    joints = rng.normal(size=(1, 9, 21, (hand.default_space(3).kind == "image" and 2) or 3))
    assert problems(Clip(joints.astype(np.float32), hand)) == []
