"""Segmentation of a stream: it equals the whole recording, late by the stated delay."""

import numpy as np
import pytest
import torch

from kinegraph.clips.clip import Clip
from kinegraph.errors import ModelError
from kinegraph.inference.segment import Segmenter
from kinegraph.inference.segment_stream import SegmentationStream, backbone_reach
from kinegraph.skeleton.layouts import get_layout
from kinegraph.training.checkpoint import CheckpointHeader
from kinegraph.transforms.input_streams import stream_width

LAYOUT = get_layout("kinect20")


def segmenter(transforms=("center",), head=None, stream="joint", **model):
    """Return an untrained run whose batch norms have seen a batch."""
    options = {"channels": [4, 4], "strides": [1, 1], "temporal_kernel": 3, **model}
    name = options.pop("name", "stgcn")
    head = head or {"name": "causal", "layers": 2, "channels": 4, "delay": 2, "smooth": 1}
    channels = 3 * stream_width(stream)
    steps = [*transforms] if "stream" in transforms else [*transforms, "stream"]
    header = CheckpointHeader(
        model={"name": name, "options": options, "head": head},
        layout=LAYOUT.to_dict(), num_classes=3, in_channels=channels, persons=1,
        classes=["a", "b", "background"], confidence=False, stream=stream, transforms=steps,
        reader={"name": None, "options": {}}, recipe={}, training={"coordinates": 3}, versions={},
        objective={"name": "segmentation"},
    )  # fmt: skip
    torch.manual_seed(0)
    network = header.build_model()
    network.train()(torch.randn(2, channels, 32, 20, 1))
    return Segmenter(network.eval(), header)


@pytest.mark.parametrize("frames", [1, 2, 37])
@pytest.mark.parametrize("step", [1, 2, 3])
@pytest.mark.parametrize("strides", [[1, 1], [1, 2]])
def test_a_stream_equals_the_whole_recording(frames, step, strides):
    steps = ["center"] if step == 1 else [{"downsample": {"step": step}}, "center"]
    run = segmenter(steps, strides=strides)
    joints = np.random.default_rng(0).normal(size=(1, frames, 20, 3)).astype(np.float32)
    whole = run(Clip(joints, LAYOUT, id="r")).probabilities
    stream = SegmentationStream(run)
    rows, answered = [], 0
    for number in range(frames):
        rows.append(stream.push(joints[0, number]))
        answered += len(rows[-1])
        assert answered <= number + 1
        assert number - answered < stream.delay  # frame `answered` waits for so many frames
    rows.append(stream.finish())
    np.testing.assert_allclose(np.concatenate(rows), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("frames", [1, 2, 3, 37])
@pytest.mark.parametrize("stream", ["joint_motion", "joint+joint_motion", "bone+velocity"])
@pytest.mark.parametrize("steps", [["center"], [{"downsample": {"step": 3}}, "center"]])
def test_a_stream_with_motion_waits_for_the_frames_that_it_reads(frames, stream, steps):
    run = segmenter(steps, stream=stream)
    joints = np.random.default_rng(0).normal(size=(1, frames, 20, 3)).astype(np.float32)
    joints[0, frames // 2, 4] = np.nan
    whole = run(Clip(joints, LAYOUT, id="r")).probabilities
    session = SegmentationStream(run)
    rows = []
    for number in range(frames):
        rows.append(session.push(joints[0, number]))
        assert number - sum(map(len, rows)) < session.delay
    rows.append(session.finish())
    np.testing.assert_allclose(np.concatenate(rows), whole, rtol=1e-5, atol=1e-5)


def test_the_delay_counts_the_frames_that_motion_reads():
    # the backbone reads 2 frames ahead, the head another 3
    found = [
        SegmentationStream(segmenter(stream=name)).delay
        for name in ("joint", "joint_motion", "velocity")
    ]
    assert found == [5, 6, 7]


def test_the_reach_of_a_backbone_is_measured():
    assert backbone_reach(segmenter().model) == (2, 2)
    assert backbone_reach(segmenter(temporal_kernel=1).model) == (0, 0)
    # a frame shares the feature of the first frame of its pair, which reads two frames around it
    assert backbone_reach(segmenter(strides=[1, 2]).model) == (3, 2)


def test_runs_that_have_no_stream_are_refused():
    with pytest.raises(ModelError, match="a stream needs a causal head"):
        SegmentationStream(segmenter(head={"name": "linear"}))
    with pytest.raises(ModelError, match="need the whole clip"):
        SegmentationStream(segmenter([{"resize": {"frames": 8}}]))
    with pytest.raises(ModelError, match="stream joint_motion of this run need the whole clip"):
        SegmentationStream(segmenter(["stream", "center"], stream="joint_motion"))


def test_a_backbone_that_reads_the_whole_recording_is_refused():
    run = segmenter(name="asgcn", future=0)
    with pytest.raises(ModelError, match="read the whole recording"):
        SegmentationStream(run)
