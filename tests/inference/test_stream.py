"""Raw frames in, named answers out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from conftest import made_up_clips, real_data
from kinegraph.clips.clip import Clip
from kinegraph.errors import ClipError, ModelError, UnknownNameError
from kinegraph.inference.recognizer import Recognizer
from kinegraph.models import create_model
from kinegraph.training.checkpoint import Header


def recognizer(
    transforms: list, model: str = "stgcn", stream: str = "joint", **options
) -> Recognizer:
    """An untrained network behind these transforms, on 2D JHMDB joints of two persons."""
    torch.manual_seed(0)
    options = {"channels": [8, 8], "strides": [1, 2], **options}
    clip = made_up_clips()[0]
    made = create_model(
        model, layout=clip.layout, num_classes=3, in_channels=clip.num_channels, **options
    )
    header = Header(
        model={"name": model, "options": options},
        layout=clip.layout.to_dict(),
        num_classes=3,
        in_channels=clip.num_channels,
        classes=["here", "there", "away"],
        persons=2,
        confidence=False,
        stream=stream,
        transforms=transforms,
        reader={"name": None, "options": {}},
        recipe={},
        training={},
        versions={},
    )
    return Recognizer(made, header)


def two_persons(frames: int = 30) -> Clip:
    """The second one comes late, the first is not seen for a moment."""
    joints = np.stack([np.resize(made_up_clips()[i].joints[0], (frames, 15, 2)) for i in (0, 9)])
    joints[1, :7] = np.nan
    joints[0, 12:15] = np.nan
    return Clip(joints, made_up_clips()[0].layout, id="two")


@pytest.mark.parametrize(
    "transforms",
    [
        [],
        [{"center": {"frame": "first"}}, "random_scale", {"zero_pad": {"frames": 300}}],
        [{"repeat_pad": {"frames": 300}}, "center", "stream"],
        ["flip_y", "mirror"],
    ],
)
def test_steps_are_about_the_clip_without_padding(transforms):
    asked = recognizer(transforms)
    clip = two_persons()
    live = asked.stream()
    assert live.mode == "step"
    answers = [live.push(clip.joints[:, t]) for t in range(clip.num_frames)]
    assert answers[0] is None and answers[-1] is not None
    bare = Recognizer(asked.model, asked.header)
    bare.pipeline = asked.pipeline.of_unknown_length()
    flushed = live.flush()
    assert flushed is not None
    np.testing.assert_allclose(flushed.logits, bare(clip).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("transforms", "options"),
    [
        ([{"crop_resize": {"frames": 16}}], {}),
        ([], {"model": "asgcn"}),
        (["stream"], {"stream": "joint_motion"}),
    ],
)
def test_windows_are_answered_as_clips_of_their_own(transforms, options):
    asked, clip = recognizer(transforms, **options), two_persons()
    live = asked.stream(window=10)
    assert live.mode == "window"
    for t in range(clip.num_frames):
        answer = live.push(clip.joints[:, t])
    latest = Clip(clip.joints[:, -10:], clip.layout)
    assert answer is not None
    np.testing.assert_allclose(answer.logits, asked(latest).logits, rtol=1e-4, atol=1e-5)
    if transforms:
        with pytest.raises(ModelError, match="take mode 'window'"):
            asked.stream("step")


def test_every_answers_to_all_frames_so_far_and_holds():
    asked, clip = recognizer([]), two_persons()
    live = asked.stream(every=5)
    answers = [live.push(clip.joints[:, t]) for t in range(12)]
    assert answers[:4] == [None] * 4
    assert answers[4] is answers[8] and answers[9] is answers[11] is not answers[4]
    other = asked.stream()
    for t in range(10):
        other.push(clip.joints[:, t])
    flushed = other.flush()
    assert flushed is not None
    np.testing.assert_array_equal(flushed.logits, answers[9].logits)


@pytest.mark.parametrize("mode", ["step", "window"])
def test_a_stored_stream_goes_on(mode):
    asked, clip = recognizer([{"center": {"frame": "first"}}]), two_persons()
    first, second = asked.stream(mode), asked.stream(mode)
    for t in range(13):
        first.push(clip.joints[:, t])
    second.load_state_dict(first.state_dict())
    for t in range(13, 30):
        expected, got = first.push(clip.joints[:, t]), second.push(clip.joints[:, t])
        assert (got is None) == (expected is None)
        if got is not None:
            np.testing.assert_array_equal(got.logits, expected.logits)
    assert second.frames == 30
    with pytest.raises(ModelError, match="no state"):
        second.load_state_dict({})


def test_frames_of_one_person_and_of_nobody():
    live = recognizer([]).stream()
    absent = np.full((15, 2), np.nan, np.float32)
    for _ in range(20):
        answer = live.push(absent)
    assert answer is not None and np.isfinite(answer.logits).all()
    assert live.push(np.ones((15, 2), np.float32)) is not None
    assert recognizer([]).stream("window").push(absent) is None


def test_what_does_not_fit_is_refused():
    asked = recognizer([])
    with pytest.raises(ClipError, match="has 15 joints"):
        asked.stream().push(np.zeros((1, 9, 2), np.float32))
    with pytest.raises(ClipError, match=r"\(persons, joints, coordinates\)"):
        asked.stream().push(np.zeros(9, np.float32))
    with pytest.raises(UnknownNameError, match="unknown stream mode"):
        asked.stream("frames")
    for options in ({"window": 0}, {"every": 0}, {"mode": "window", "window": 0}):
        with pytest.raises(ModelError, match="0"):
            asked.stream(**options)


def test_published_weights_name_raw_frames(tmp_path):
    from kinegraph.inference.imported import import_weights
    from kinegraph.readers import read_clip

    weights = real_data("weights") / "shift_gcn" / "ntu_ShiftGCN_joint_xsub.pt"
    file = real_data("ntu_samples") / "S001C003P008R002A058.skeleton"
    import_weights("shiftgcn", weights, tmp_path / "run", protocol="xsub")
    asked = Recognizer.load(tmp_path / "run")
    clip = read_clip(file, "ntu", **asked.header.reader["options"])
    live = asked.stream()
    for t in range(clip.num_frames):
        live.push(clip.joints[:, t])
    answer = live.flush()
    assert answer is not None and answer.name == asked(clip).name == "handshaking"
