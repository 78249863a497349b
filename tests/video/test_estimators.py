"""The estimators that come along: their coordinates, who is absent, what is said without them."""

from __future__ import annotations

import builtins
from dataclasses import replace

import numpy as np
import pytest

from conftest import real_data
from kinegraph.errors import VideoError
from kinegraph.video.decode import VideoFile
from kinegraph.video.estimators.base import load_estimator
from kinegraph.video.estimators.mediapipe import _Person, _Region, _search_areas
from kinegraph.video.estimators.rtmlib import RtmlibPoses
from video.synthetic_videos import require_av


def mediapipe_poses():
    """The estimator, or a loud skip."""
    pytest.importorskip("mediapipe", reason="NOT TESTED: the extra `video` is not installed")
    return load_estimator("mediapipe")


def test_mediapipe_sees_nobody_in_a_blank_picture_and_says_nothing(capfd):
    estimator = mediapipe_poses()
    frame = estimator(np.full((48, 64, 3), 128, np.uint8), 1.5)
    estimator.close()
    assert (frame.time, frame.width, frame.height) == (1.5, 64, 48)
    assert frame.joints.shape == (0, 33, 2) and frame.confidence.shape == (0, 33)
    assert capfd.readouterr() == ("", "")


def test_mediapipe_sees_a_person_where_the_person_is():
    path = real_data("videos") / "ta_chi.mp4"
    require_av()
    estimator = mediapipe_poses()
    frames = [estimator(p.image, p.time) for p, _ in zip(VideoFile(path), range(5), strict=False)]
    estimator.close()
    joints = frames[-1].joints
    assert joints.shape == (1, 33, 2)
    seen = joints[~np.isnan(joints[..., 0])]
    assert (seen >= 0).all() and (seen <= [340, 256]).all()
    index = estimator.layout.index
    ankle, shoulder = joints[0, index("left_ankle")], joints[0, index("left_shoulder")]
    assert ankle[1] > shoulder[1] + 50  # a standing person, upright


def test_mediapipe_finds_and_follows_several_persons():
    path = real_data("videos") / "ta_chi.mp4"
    require_av()
    alone = [p for p, _ in zip(VideoFile(path), range(8), strict=False)]
    width = alone[0].image.shape[1]
    for people, expected in ((6, 2), (1, 1)):
        estimator = load_estimator("mediapipe", people)
        assert estimator.people == people
        for n, frame in enumerate(alone):  # a search in each of the four areas, and twice none
            image = np.concatenate([frame.image, frame.image], axis=1)
            found = estimator(image, 0.15 * n)
        estimator.close()
        assert found.joints.shape == (expected, 33, 2)
        places = np.sort(np.nanmean(found.joints[..., 0], axis=1))
        assert np.ptp(places) == pytest.approx(width * (expected - 1), abs=0.05 * width)


def test_mediapipe_does_not_see_a_part_of_a_body_as_another_person():
    marks = np.random.default_rng(0).uniform(0, 100, (33, 3)).astype(np.float32)
    body = _Person(marks, _Region(50, 50, 200, 0))
    for scale, shift, double in ((0.3, 20, True), (1, 5, True), (1, 60, False), (0.3, 120, False)):
        other = _Person(scale * marks + np.float32(shift), _Region(50, 50, 200, 0))
        assert body.overlaps(other) == other.overlaps(body) == double


def test_mediapipe_smooths_the_visibility_of_a_person_who_is_followed():
    path = real_data("videos") / "ta_chi.mp4"
    require_av()
    frame = next(iter(VideoFile(path)))
    estimator = mediapipe_poses()
    estimator(frame.image, 0)
    (person,) = estimator._followed
    hidden = replace(person, marks=person.marks * np.float32([1, 1, 0]))
    followed = estimator._find_landmarks(frame.image, person.region, hidden)
    alone = estimator._find_landmarks(frame.image, person.region)
    estimator.close()
    np.testing.assert_allclose(followed.marks[:, 2], 0.1 * alone.marks[:, 2], rtol=1e-4)
    np.testing.assert_array_equal(followed.marks[:, :2], alone.marks[:, :2])


def test_mediapipe_searches_squares_of_long_images():
    assert _search_areas(100, 110) == [(0, 0, 100, 110)]
    areas = _search_areas(100, 300)
    assert areas == [(0, 0, 100, 300), (0, 0, 100, 100), (0, 100, 100, 200), (0, 200, 100, 300)]
    assert _search_areas(300, 100)[-1] == (200, 0, 300, 100)


def test_rtmlib_is_given_blue_first_and_gives_several_persons():
    given = []

    def body(image):
        given.append(image)
        joints = np.full((3, 17, 2), 10.0)
        joints[0, 0] = (-1, 5)  # outside
        scores = np.full((3, 17), 0.9)
        scores[1, 3] = 0.1
        scores[2] = 0.05
        return joints, scores

    estimator = RtmlibPoses(body)
    image = np.zeros((48, 64, 3), np.uint8)
    image[..., 0] = 255  # red
    frame = estimator(image, 2.0)
    assert given[0][0, 0].tolist() == [0, 0, 255]
    assert frame.joints.shape == (2, 17, 2)
    assert np.isnan(frame.joints[..., 0]).sum() == 2
    assert np.isnan(frame.joints[0, 0]).all() and np.isnan(frame.joints[1, 3]).all()
    assert frame.confidence[1, 3] == 0 and frame.confidence[1, 4] == np.float32(0.9)


def test_rtmlib_keeps_the_most_certain_persons():
    scores = np.repeat([[0.5], [0.9], [0.7]], 17, axis=1)
    joints = np.ones((3, 17, 2)) * [[[1.0]], [[2.0]], [[3.0]]]
    frame = RtmlibPoses(lambda _: (joints, scores), 2)(np.zeros((8, 8, 3), np.uint8), 0)
    assert frame.joints[:, 0, 0].tolist() == [2, 3]


def test_rtmlib_that_sees_nobody():
    estimator = RtmlibPoses(lambda _: (np.zeros((0, 17, 2)), np.zeros((0, 17))))
    assert estimator(np.zeros((4, 4, 3), np.uint8), 0).joints.shape == (0, 17, 2)


@pytest.mark.parametrize(
    ("name", "install"), [("mediapipe", r".*\[video\]'"), ("rtmlib", "rtmlib onnxruntime")]
)
def test_a_package_that_is_missing_is_named_with_what_brings_it(monkeypatch, name, install):
    real = builtins.__import__

    def without(module, *rest):
        if module.split(".")[0] == name:
            raise ModuleNotFoundError(f"No module named {module!r}")
        return real(module, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(VideoError, match=rf"{name} is not installed.*pip install {install}"):
        load_estimator(name)
