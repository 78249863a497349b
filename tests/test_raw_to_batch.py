"""Real samples from raw file to batch: values read off the files by hand, and by other means."""

from __future__ import annotations

import json

import numpy as np
import pytest

import kinegraph as kg
from conftest import real_data
from kinegraph.training.recipe import load_recipe
from kinegraph.transforms import to_array


def batch_of(path, recipe_name: str, **options) -> np.ndarray:
    """(C, T, V, M) of the first clip of a raw file, as the recipe prepares it for evaluation."""
    recipe = load_recipe(recipe_name)
    clip = recipe.pipeline()(kg.read_clip(path, **options), None)
    return to_array(clip, recipe.persons, confidence=recipe.confidence)


def test_an_ntu_file_with_two_bodies():
    path = real_data("ntu_samples") / "S001C003P008R002A058.skeleton"
    x = batch_of(path, "stgcn_ntu60_xsub", persons="stgcn")
    assert x.shape == (3, 300, 25, 2)
    np.testing.assert_allclose(x[:, 0, 0, 0], [0.7201789, 0.1647426, 3.561895], rtol=1e-6)
    lines = path.read_text().splitlines()
    second_body = [float(word) for word in lines[4 + 25 + 2].split()[:3]]
    np.testing.assert_allclose(x[:, 0, 0, 1], second_body, rtol=1e-6)
    assert np.abs(x[:, 69]).min() > 0  # the last of the file's 70 frames
    assert not x[:, 70:].any()


def test_a_kinetics_clip_with_several_persons():
    path = real_data("kinetics_skeleton") / "kinetics_val" / "__lt03EF4ao.json"
    x = batch_of(path, "stgcn_kinetics")
    assert x.shape == (3, 300, 18, 2)
    # frame 11, neck: the person of total score 12.039 comes before that of 5.985
    np.testing.assert_allclose(x[:, 11, 1, 0], [0.636 - 0.5, 0.644 - 0.5, 0.796], atol=1e-6)
    np.testing.assert_allclose(x[:, 11, 1, 1], [0.284 - 0.5, 0.614 - 0.5, 0.629], atol=1e-6)
    unseen = json.loads(path.read_text())["data"][10]["skeleton"][0]["score"]
    for joint, score in enumerate(unseen):
        assert x[:, 11, joint, 0].any() == (score > 0)


def test_a_figure_skating_clip():
    path = real_data("fsd10") / "example_skeleton.npy"
    x = batch_of(path, "stgcn_fsd_paddle")
    assert x.shape == (2, 350, 25, 1)
    # frame 5: nose (-0.09093281, -0.23002222), mid hip (-0.05417031, 0.00677917)
    np.testing.assert_allclose(x[:, 5, 0, 0], [-0.0367625, -0.23680139], atol=1e-7)
    # the released order: zeros behind the 117 frames, then all joints minus the hip, missing or not
    padded = np.zeros((2, 350, 25, 1))
    padded[:, :117] = np.load(path)[:2, :117]
    np.testing.assert_allclose(x, padded - padded[:, :, 8:9], atol=1e-7)
    missing = ~padded.any(axis=0)[:117, :, 0]
    assert missing.sum() == 206
    assert x[:, :117, :, 0][:, missing].any(axis=0).all()


@pytest.mark.parametrize(
    ("name", "label"),
    [("S001C001P001R001A001", "drink water"), ("S002C001P003R001A003", "brushing teeth")],
)
def test_labels_lead_to_names(name, label):
    from kinegraph.readers.class_names import class_names

    clip = kg.read_clip(real_data("ntu_samples") / f"{name}.skeleton")
    assert class_names("ntu60")[clip.label] == label
