"""Raw frames in, named answers out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from conftest import made_up_clips, real_data
from kinegraph.clips.clip import Clip
from kinegraph.errors import ClipError, ModelError, TransformError, UnknownNameError
from kinegraph.inference.answer import Prediction
from kinegraph.inference.recognizer import Recognizer
from kinegraph.inference.session import StreamingSession, open_session
from kinegraph.models import create_model
from kinegraph.skeleton.space import IMAGE_SHARES, Space
from kinegraph.training.checkpoint import CheckpointHeader
from kinegraph.transforms import Pipeline, to_array

PIXELS = Space("image", unit="pixel")
SPACES = {2: Space("image"), 3: Space()}  # of two_persons


def recognizer(
    transforms: list,
    model: str = "stgcn",
    stream: str = "joint",
    *,
    confidence: bool = False,
    coordinates: int = 2,
    space: Space | None = None,
    **options,
) -> Recognizer:
    """An untrained network behind these transforms, on JHMDB's joints of two persons."""
    torch.manual_seed(0)
    options = {"channels": [8, 8], "strides": [1, 2], **options}
    clip = made_up_clips()[0]
    pipeline = Pipeline.from_list(transforms, stream)
    layout, channels = pipeline.output_layout(clip.layout), pipeline.output_channels(coordinates)
    channels += confidence
    made = create_model(model, layout=layout, num_classes=3, in_channels=channels, **options)
    header = CheckpointHeader(
        model={"name": model, "options": options},
        layout=layout.to_dict(),
        num_classes=3,
        in_channels=channels,
        classes=["here", "there", "away"],
        persons=pipeline.output_persons(2),
        confidence=confidence,
        stream=stream,
        transforms=transforms,
        reader={"name": None, "options": {}},
        recipe={},
        training={},
        versions={},
        space=(space or SPACES[coordinates]).to_dict(),
    )
    return Recognizer(made, header)


MIDDLE = made_up_clips()[0].layout.index("belly")


def two_persons(frames: int = 30, coordinates: int = 2) -> Clip:
    """Both walk away; the second comes late and half, the first is not seen for a moment."""
    rng = np.random.default_rng(5)
    places, steps = rng.normal(size=(2, 1, 15, coordinates)), np.arange(frames)[:, None, None]
    joints = places + 0.2 * steps + 0.1 * rng.normal(size=(2, frames, 15, coordinates))
    joints[1, :7] = np.nan
    joints[1, 7:11, MIDDLE] = np.nan
    joints[0, 12:17] = np.nan
    joints[0, 20:24, MIDDLE] = np.nan
    joints[0, :3, 9] = np.nan
    sure, space = rng.uniform(0.1, 1, (2, frames, 15)), SPACES[coordinates]
    return Clip(joints, made_up_clips()[0].layout, sure, id="two", space=space)


def prepared(asked: Recognizer, clip: Clip) -> torch.Tensor:
    """(1, C, T, V, M): each frame as it is in the clip that ends with it."""
    pipeline, frames = asked.pipeline.without_length_steps(), []
    for t in range(clip.num_frames):
        assert clip.confidence is not None
        so_far = replace(
            clip, joints=clip.joints[:, : t + 1], confidence=clip.confidence[:, : t + 1]
        )
        frames.append(
            to_array(pipeline(so_far), asked.header.persons, asked.header.confidence)[:, -1]
        )
    return torch.from_numpy(np.stack(frames, axis=1))[None]


def assert_same(answer: Prediction | None, logits: np.ndarray | torch.Tensor) -> None:
    """Equal, measured by the largest logit: those of an untrained network are small."""
    expected = np.asarray(logits).ravel()
    assert answer is not None
    np.testing.assert_allclose(answer.logits, expected, rtol=0, atol=1e-4 * abs(expected).max())


OWN_PLACE = {"frame": "first", "person": "own"}
CAUSAL = [  # nothing changes when more of the clip is known
    [],
    [{"center": {**OWN_PLACE, "joint": "neck"}}, "random_scale", {"zero_pad": {"frames": 99}}],
    [{"center": {"frame": "first"}}, "stream"],
    [{"mask_confidence": {"threshold": 0.5}}, "flip_y", "mirror"],
    [{"forget_confidence": {"threshold": 0.5}}, {"body_normalize": {"lead": 8}}, "hold_missing"],
    ["hold_missing", {"body_normalize": {"lead": 2}}, "random_crop", "random_speed"],
    [{"pair_offsets": {"to": "joint"}}],
    ["pair_offsets", "join_persons", "stream"],
    ["join_persons", "hold_missing", "stream"],
]
LATE = [
    ["center", "stream"],
    [{"mask_confidence": {"threshold": 0.7}}, {"center": OWN_PLACE}],
    [{"center": {"person": "own"}}, {"mask_confidence": {"threshold": 0.7}}, {"center": {}}],
    ["kinetics_normalize", {"skeleton_norm": {"joint": "belly"}}, {"repeat_pad": {"frames": 99}}],
]


@pytest.mark.parametrize("transforms", CAUSAL + LATE)
@pytest.mark.parametrize("confidence", [False, True])
def test_steps_are_about_the_frames_as_prepared(transforms, confidence):
    asked = recognizer(transforms, confidence=confidence, space=IMAGE_SHARES)
    clip = two_persons().with_space(IMAGE_SHARES)
    live = open_session(asked)
    assert live.mode == "step"
    answers = follow(live, clip)
    assert answers[0] is None and answers[-1] is not None
    with torch.no_grad():
        assert_same(live.flush(), asked.model(prepared(asked, clip)))
    if transforms in CAUSAL:
        steps = asked.pipeline.without_length_steps().to_list()
        unpadded = Recognizer(asked.model, replace(asked.header, transforms=steps))
        assert_same(live.flush(), unpadded(clip).logits)


def test_steps_turn_as_the_first_frames_say():
    axes = {"zaxis": ["belly", "neck"], "xaxis": ["left_shoulder", "right_shoulder"]}
    asked = recognizer([{"prenormalize": {"joint": "belly", **axes}}, "stream"], coordinates=3)
    clip, live = two_persons(coordinates=3), open_session(asked)
    follow(live, clip)
    with torch.no_grad():
        assert_same(live.flush(), asked.model(prepared(asked, clip)))


def follow(live: StreamingSession, clip: Clip, start: int = 0, stop: int | None = None) -> list:
    """The answers to some frames of a clip."""
    assert clip.confidence is not None
    stop = clip.num_frames if stop is None else stop
    return [live.push(clip.joints[:, t], clip.confidence[:, t]) for t in range(start, stop)]


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
    live = open_session(asked, window=1 / 3)
    assert live.mode == "window"
    answer = follow(live, clip)[-1]
    assert_same(answer, asked(replace(clip, joints=clip.joints[:, -10:], confidence=None)).logits)
    with pytest.raises(ModelError, match=r"use mode 'window'|ASGCN is not local in time"):
        open_session(asked, "step")


def test_every_answers_to_all_frames_so_far_and_holds():
    asked, clip = recognizer([]), two_persons()
    live = open_session(asked, window=None, every=5)
    answers = [live.push(clip.joints[:, t]) for t in range(12)]
    assert answers[:4] == [None] * 4
    assert answers[4] is answers[8] and answers[9] is answers[11] is not answers[4]
    other = open_session(asked, window=None)
    for t in range(10):
        other.push(clip.joints[:, t])
    flushed = other.flush()
    assert flushed is not None
    np.testing.assert_array_equal(flushed.logits, answers[9].logits)


def test_windows_run_the_network_only_when_an_answer_is_due(monkeypatch):
    asked, clip = recognizer([]), two_persons()
    runs, logits = [], asked.logits
    monkeypatch.setattr(asked, "logits", lambda batch: runs.append(len(batch.x)) or logits(batch))
    live = open_session(asked, "window", every=5)
    answers = follow(live, clip, 0, 12)
    assert runs == [1, 1] and answers[3] is None and answers[4] is answers[8]
    first = replace(clip, joints=clip.joints[:, :10], confidence=None)
    assert_same(answers[9], asked(first).logits)


def test_transforms_choose_among_all_persons_of_a_window():
    asked, clip = recognizer(["persons"]), two_persons()
    joints = np.concatenate([clip.joints * 0.01, clip.joints])
    live = open_session(asked, window=8 / 30)
    for t in range(20):
        count = 2 if t == 15 else 4
        answer = live.push(joints[:count, t])
    latest = joints[:, 12:20].copy()
    latest[2:, 3] = np.nan
    assert_same(answer, asked(replace(clip, joints=latest, confidence=None)).logits)
    again = open_session(asked, window=8 / 30)
    again.load_state_dict(live.state_dict())
    assert_same(again.flush(), answer.logits)


@pytest.mark.parametrize("mode", ["step", "window"])
@pytest.mark.parametrize("every", [None, 5])
def test_a_stored_stream_goes_on(mode, every):
    transforms = [{"center": {"frame": "first"}}, {"center": {"person": "own"}}]
    asked, clip = recognizer(transforms), two_persons()
    first, second = open_session(asked, mode, every=every), open_session(asked, mode, every=every)
    follow(first, clip, 0, 13)
    follow(second, clip, 20, 30)
    second.load_state_dict(first.state_dict())
    for t in range(13, 30):
        expected, got = follow(first, clip, t, t + 1)[0], follow(second, clip, t, t + 1)[0]
        assert (got is None) == (expected is None)
        if got is not None:
            np.testing.assert_array_equal(got.logits, expected.logits)
    assert second.frames == 30
    fresh = open_session(asked, mode, every=every)
    second.load_state_dict(fresh.state_dict())
    assert second.frames == 0 and second.flush() is None
    assert second.push(clip.joints[:, 9]) is None or mode == "window"


@pytest.mark.parametrize("mode", ["step", "window"])
def test_states_that_do_not_fit_change_nothing(mode):
    asked, clip = recognizer(["center"]), two_persons()
    live = open_session(asked, mode)
    follow(live, clip, 0, 10)
    state, flushed = live.state_dict(), live.flush()
    other = "window" if mode == "step" else "step"
    follow(strange := open_session(asked, other), clip, 0, 5)
    raw = "seen.0" if mode == "step" else "joints"
    wrong = [
        {},
        strange.state_dict(),
        {**state, "frames": torch.tensor(-1)},
        {**state, "frames": torch.ones(2)},
        {**state, "latest": torch.ones(5)},
        {**state, raw: state[raw][:, :, :9]},
        {**state, raw: state[raw][..., 0]},
        {**state, raw: None},
    ]
    if mode == "window":
        wrong.append({**state, "confidence": state["confidence"][:, 1:]})
    for broken in wrong:
        with pytest.raises(ModelError, match="state"):
            live.load_state_dict(broken)
    assert_same(live.flush(), flushed.logits)
    assert live.frames == 10


def test_frames_of_one_person_and_of_nobody():
    live = open_session(recognizer([]))
    absent = np.full((15, 2), np.nan, np.float32)
    for nobody in (absent, [], np.zeros((0, 15, 2))) * 14:
        answer = live.push(nobody)
    assert answer is not None and np.isfinite(answer.logits).all()
    assert live.push(np.ones((15, 2), np.float32), np.ones(15)) is not None
    assert live.push([], []) is not None
    assert open_session(recognizer([]), "window").push(absent) is None


FRAME = np.ones((2, 15, 2), np.float32)


@pytest.mark.parametrize("mode", ["step", "window"])
@pytest.mark.parametrize(
    ("joints", "confidence", "message"),
    [
        (np.zeros((1, 9, 2)), None, r"\(M, 15, 2\), or \(15, 2\) of one person, got \(1, 9, 2\)"),
        (np.zeros((2, 15, 3)), None, r"got \(2, 15, 3\)"),
        (np.zeros((1, 2, 15, 2)), None, r"got \(1, 2, 15, 2\)"),
        (np.zeros(9), None, r"got \(9,\)"),
        ("walking", None, "array of numbers"),
        (None, None, r"got \(\)"),
        ([[[1.0], [2.0, 3.0]]], None, "array of numbers"),
        ([[[10**400, 0]] * 15], None, "array of numbers"),
        ([[[1e39, 0]] * 15], None, "infinite"),
        (FRAME, np.ones(15), r"expected confidences \(2, 15\)"),
        (FRAME, np.ones((1, 15)), r"got \(1, 15\)"),
        (FRAME, np.ones((15, 2)), r"got \(15, 2\)"),
        (FRAME, np.full((2, 15), np.nan), "finite"),
        (FRAME * [[[3e38, 1]], [[-3e38, 1]]], np.ones((2, 15)), "infinite"),
        (FRAME, None, "has no confidence"),
    ],
)
def test_a_refused_frame_leaves_the_stream_as_it_was(mode, joints, confidence, message):
    asked, clip = recognizer([{"mask_confidence": {"threshold": 0.3}}, "center"]), two_persons()
    live, other = open_session(asked, mode, every=4), open_session(asked, mode, every=4)
    for stream in (live, other):
        follow(stream, clip, 0, 9)
    with pytest.raises((ClipError, TransformError), match=message):
        live.push(joints, confidence)
    answers = zip(follow(live, clip, 9), follow(other, clip, 9), strict=True)
    for got, expected in answers:
        np.testing.assert_array_equal(got.logits, expected.logits)
    assert live.frames == other.frames == 30


def test_transforms_are_told_the_size_of_the_images():
    asked, clip = recognizer(["image_normalize"], space=PIXELS), two_persons()
    clip = clip.with_space(PIXELS)
    for mode in ("step", "window"):
        live = open_session(asked, mode, meta={"width": 640, "height": 480})
        follow(live, clip)
        sized = replace(clip, meta={"width": 640, "height": 480})
        assert_same(live.flush(), asked(sized).logits)
        with pytest.raises(TransformError, match="state the size of the image"):
            open_session(asked, mode).push(clip.joints[:, 20])


def test_a_broken_model_is_not_hidden_by_windows():
    asked = recognizer([])
    with torch.no_grad():
        next(asked.model.parameters()).fill_(float("nan"))
    with pytest.raises(ModelError, match="does not agree"):
        open_session(asked)


def test_streams_that_cannot_be_are_refused():
    asked = recognizer([])
    with pytest.raises(UnknownNameError, match="unknown stream mode"):
        open_session(asked, "frames")
    for options in ({"every": 0}, {"window": 0}, {"window": float("nan")}, {"fps": -1.0}):
        (name,) = options
        with pytest.raises(ModelError, match=f"expected .*{name}"):
            open_session(asked, **options)
    for mode in ("step", "window"):
        with pytest.raises(ModelError, match="1 to 100000 frames, got 300000"):
            open_session(asked, mode, window=10_000)
    broken = replace(asked.header, stream_window_seconds="long")
    with pytest.raises(ModelError, match="expected window to be a finite number above 0"):
        open_session(Recognizer(asked.model, broken))


def test_published_weights_name_raw_frames(tmp_path):
    from kinegraph.inference.import_weights import import_weights
    from kinegraph.readers import read_clip

    weights = real_data("weights") / "shift_gcn" / "ntu_ShiftGCN_joint_xsub.pt"
    file = real_data("ntu_samples") / "S001C003P008R002A058.skeleton"
    import_weights("shiftgcn", weights, tmp_path / "run", protocol="xsub")
    asked = Recognizer.load(tmp_path / "run")
    clip = read_clip(file, "ntu", **asked.header.reader["options"])
    live = open_session(asked)
    for t in range(clip.num_frames):
        live.push(clip.joints[:, t])
    answer = live.flush()
    assert answer is not None and answer.name == asked(clip).name == "handshaking"
