"""Clips of another space than the model's: converted, prepared, or refused with a sentence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kinegraph.clips.clip import Clip
from kinegraph.errors import TransformError
from kinegraph.skeleton import KINECT, Space, get_layout
from kinegraph.skeleton.space import PREPARATIONS
from kinegraph.transforms import Pipeline
from kinegraph.transforms.fit_space import fit_space

AGCN = [{"repeat_pad": {"frames": 300}}, {"prenormalize": {"faithful": True}}]
AZURE = Space("world", "-y", "z", unit="mm")
PIXELS, SHARES = Space("image", unit="pixel"), Space("image", unit="share")


def walk(space: Space, layout: str = "ntu25", **fields) -> Clip:
    rng = np.random.default_rng(0)
    D = 2 if space.kind == "image" else 3
    joints = rng.normal(size=(1, 20, get_layout(layout).num_joints, D)).astype(np.float32)
    return Clip(joints, get_layout(layout), id="walk", space=space, **fields)


def test_axes_and_units_of_another_sensor():
    kinect = walk(KINECT)
    azure = kinect.with_joints(kinect.joints * np.array([-1000, -1000, 1000], np.float32))
    fitted = fit_space(azure.with_space(AZURE), KINECT, Pipeline())
    np.testing.assert_allclose(fitted.joints, kinect.joints, rtol=1e-6)
    assert fitted.space == KINECT
    unknown = fit_space(kinect.with_space(replace(KINECT, unit=None)), KINECT, Pipeline())
    assert unknown.joints is not None and unknown.space.unit is None  # no unit is invented


def test_prepared_clips_are_not_prepared_again():
    pipeline = Pipeline.from_list(AGCN)
    raw = walk(KINECT)
    prepared = pipeline(raw)
    assert prepared.space == PREPARATIONS["agcn"].result
    again = pipeline(fit_space(prepared, KINECT, pipeline))
    np.testing.assert_array_equal(again.joints, prepared.joints)
    # a model of prepared arrays, whose recipe prepares nothing, gets recorded clips prepared
    plain, wanted = Pipeline(), prepared.space
    once = fit_space(raw, wanted, plain)
    np.testing.assert_array_equal(once.joints, prepared.joints[:, :20])
    np.testing.assert_array_equal(pipeline(once).joints, prepared.joints)
    # and one whose recipe prepares does it itself
    assert fit_space(raw, wanted, pipeline).space == KINECT


def test_a_step_that_prepares_in_another_way_refuses():
    clip = walk(PREPARATIONS["fsd"].result, "body25")
    for step in ("kinetics_normalize", "image_normalize"):
        with pytest.raises(TransformError, match=r"prepared as by 'fsd' .* position and size"):
            Pipeline.from_list([step])(clip)
    shares = walk(PREPARATIONS["kinetics"].result, "coco17")
    same = Pipeline.from_list(["kinetics_normalize", "image_normalize"])(shares)
    np.testing.assert_array_equal(same.joints, shares.joints)
    centered = Pipeline.from_list(AGCN)(walk(PREPARATIONS["ctrgcn"].result))
    np.testing.assert_allclose(centered.joints, Pipeline.from_list(AGCN)(walk(KINECT)).joints)


def test_a_preparation_that_loses_what_the_model_needs():
    prepared = walk(PREPARATIONS["agcn"].result)
    with pytest.raises(TransformError, match=r"prepared as by .agcn. .* position and rotation"):
        fit_space(prepared, KINECT, Pipeline())
    centered = walk(PREPARATIONS["ctrgcn"].result)
    with pytest.raises(TransformError, match="needs their position"):
        fit_space(centered, KINECT, Pipeline())
    moved = fit_space(centered, KINECT, Pipeline.from_list(["center"]))  # position does not count
    np.testing.assert_array_equal(moved.joints, centered.joints)


def test_kinetics_from_pixels_shares_and_prepared_arrays():
    pipeline = Pipeline.from_list(["kinetics_normalize"])
    size = {"width": 640, "height": 480}
    shares = walk(SHARES, "openpose18")
    pixels = shares.with_joints(shares.joints * np.array([640, 480], np.float32))
    pixels = replace(pixels.with_space(PIXELS), meta=size)
    expected = pipeline(fit_space(shares, SHARES, pipeline))
    for clip in (pixels, expected):
        made = pipeline(fit_space(clip, SHARES, pipeline))
        np.testing.assert_allclose(made.joints, expected.joints, atol=1e-6)
        assert made.space == PREPARATIONS["kinetics"].result
    with pytest.raises(TransformError, match="state the size of the image"):
        pipeline(fit_space(replace(pixels, meta={}), SHARES, pipeline))
    with pytest.raises(TransformError, match="is not published"):
        fit_space(shares, PREPARATIONS["fsd"].result, Pipeline())


def test_images_and_worlds_are_not_mixed_up():
    flat, deep = walk(PIXELS, "coco17"), walk(AZURE, "coco17")
    with pytest.raises(TransformError, match="a depth cannot be made from an image"):
        fit_space(flat, KINECT, Pipeline())
    with pytest.raises(TransformError, match="add the transform layout with a camera"):
        fit_space(deep, PIXELS, Pipeline())
    camera = Pipeline.from_list([{"layout": {"to": "coco17", "camera": "front"}}])
    seen = camera(fit_space(deep, PIXELS, camera))
    np.testing.assert_array_equal(seen.joints, deep.joints[..., :2])  # x right, y down, as images
    unstated = Clip(deep.joints, get_layout("coco17"), id="xyc")
    with pytest.raises(TransformError, match="If the last is a confidence"):
        fit_space(unstated, PIXELS, camera)
