"""Frames of another space: the model of recorded clips, and of arrays that need whole clips."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from kinegraph.clips.clip import Clip
from kinegraph.errors import ClipError, ModelError
from kinegraph.inference.recognizer import Recognizer
from kinegraph.inference.session import RawFrame, SessionPool, open_session
from kinegraph.models import create_model
from kinegraph.reports.rest_pose import rest_pose
from kinegraph.skeleton.layouts import get_layout
from kinegraph.skeleton.space import KINECT, PREPARATIONS, Space
from kinegraph.training.checkpoint import CheckpointHeader

NTU = get_layout("ntu25")
FRAMES = 20
Y_DOWN_MM = Space("world", "-y", unit="mm")


def untrained(space: Space, transforms: tuple = ()) -> Recognizer:
    """Return a small network of random weights that was "trained" on clips of a space."""
    torch.manual_seed(0)
    options = {"channels": [8, 8], "strides": [1, 2]}
    model = create_model("stgcn", layout=NTU, num_classes=3, in_channels=3, **options)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.1, 0.5)
    header = CheckpointHeader(
        model={"name": "stgcn", "options": options},
        layout=NTU.to_dict(),
        num_classes=3,
        in_channels=3,
        classes=["a", "b", "c"],
        persons=1,
        confidence=False,
        stream="joint",
        transforms=list(transforms),
        reader={"name": "ntu", "options": {}},
        recipe={},
        training={"coordinates": 3},
        versions={},
        space=space.to_dict(),
    )
    return Recognizer(model, header)


def walk() -> Clip:
    """Return a body that sways, as a Kinect records it."""
    pose = np.concatenate([rest_pose(NTU), np.full((25, 1), 3.0)], axis=1)
    steps = np.random.default_rng(0).normal(0, 0.02, (1, FRAMES, 25, 3)).cumsum(axis=1)
    return Clip((pose + steps).astype(np.float32), NTU, space=KINECT)


def as_azure(clip: Clip) -> Clip:
    """Return the clip in millimeters with y down, x to the sensor's right."""
    turned = clip.joints * np.array([-1000, -1000, 1000], np.float32)
    return replace(clip, joints=turned, space=Y_DOWN_MM)


def follow(recognizer: Recognizer, clip: Clip, mode: str = "auto") -> np.ndarray:
    """Return the logits of a session after all frames of a clip."""
    session = open_session(recognizer, mode, None, FRAMES, space=clip.space)  # type: ignore[arg-type]
    for t in range(clip.num_frames):
        session.push(clip.joints[:, t])
    prediction = session.flush()
    assert prediction is not None
    return prediction.logits


@pytest.mark.parametrize("mode", ["step", "window"])
def test_axes_and_units_become_those_of_the_model(mode):
    recognizer, clip = untrained(KINECT), walk()
    wanted = recognizer(clip).logits
    np.testing.assert_allclose(follow(recognizer, as_azure(clip), mode), wanted, atol=1e-4)
    untold = replace(as_azure(clip), space=KINECT)
    assert np.abs(follow(recognizer, untold, mode) - wanted).max() > 0.1


@pytest.mark.parametrize("name", ["agcn", "ctrgcn"])
def test_a_model_of_prepared_arrays_takes_recorded_frames_in_windows(name):
    recognizer, clip = untrained(PREPARATIONS[name].result), walk()
    wanted = recognizer(clip).logits
    for given in (clip, as_azure(clip)):
        assert open_session(recognizer, space=given.space).mode == "window"
        np.testing.assert_allclose(follow(recognizer, given), wanted, atol=1e-4)
    with pytest.raises(ModelError, match=f"prepared as by '{name}', which needs whole clips"):
        open_session(recognizer, "step", space=KINECT)
    prepared = recognizer.preprocessor.fit(clip)
    assert prepared.space.prepared == name
    session = open_session(recognizer, "step", None, 1, space=prepared.space)
    for t in range(FRAMES):
        session.push(prepared.joints[:, t])
    assert session.mode == "step" and session.flush() is not None


def test_the_state_of_a_stream_keeps_its_space():
    recognizer, clip = untrained(PREPARATIONS["agcn"].result), walk()
    pool = SessionPool(recognizer, window=None)
    key, other = pool.open(space=KINECT), pool.open(space=KINECT)
    for t in range(FRAMES):
        pool.push_many({key: RawFrame(clip.joints[:, t])})
    pool.load_state_dict(other, pool.state_dict(key))
    wanted = recognizer(clip).logits
    for found in (pool.flush(other), pool.decode_snapshot(pool.snapshot(key))):
        np.testing.assert_allclose(found.logits, wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"kind": "world", "up": "-y"}, "state the unit of the frames' coordinates, m, cm or mm"),
        ("image", "a depth cannot be made from an image"),
    ],
)
def test_what_cannot_be_converted_is_refused_at_once(space, message):
    with pytest.raises(ModelError, match=message):
        open_session(untrained(KINECT), space=space)


def test_a_bad_frame_leaves_the_stream_as_it_was():
    recognizer, clip = untrained(KINECT), as_azure(walk())
    session = open_session(recognizer, space=clip.space)
    session.push(clip.joints[:, 0])
    for joints, message in (
        (np.zeros((25, 2)), "coordinates"),
        (np.zeros((24, 3)), "expected"),
        (np.full((25, 3), np.inf), "infinite"),
        ([[1, 2, 3], [1, 2]], "expected an array of numbers"),
        (5, "expected"),
    ):
        with pytest.raises(ClipError, match=message):
            session.push(joints)
    assert session.frames == 1
    session.push([])
    assert session.frames == 2
