"""Session pools: each stream gives the results that it gives in a session of its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from conftest import made_up_clips, real_data
from inference.test_streaming_backends import recognizer, two_persons
from kinegraph.errors import (
    ClipError,
    ModelError,
    TransformError,
    UnexpectedError,
    UnknownNameError,
)
from kinegraph.inference.answer import Prediction
from kinegraph.inference.recognizer import Recognizer
from kinegraph.inference.session import (
    RawFrame,
    SessionPool,
    StreamResult,
    open_session,
    window_frames,
)
from kinegraph.readers import read_clip
from kinegraph.training.checkpoint import load_model

SIZED = {"width": 64.0, "height": 48.0}
STEPS = [
    [],
    ["center", "flip_y", "stream"],
    [{"center": {"frame": "first"}}, {"mask_confidence": {"threshold": 0.3}}, {"zero_pad": {}}],
    ["image_normalize"],
    ["hold_missing", {"center": {"person": "own"}}, {"skeleton_norm": {"joint": "belly"}}],
    ["pair_offsets", "join_persons", "hold_missing"],
]


def alone(asked: Recognizer, frames: list[RawFrame]) -> dict[int, np.ndarray]:
    """The logits that a stream of its own comes to, by how many frames they are about."""
    live, found = open_session(asked, meta=SIZED), []
    for frame in frames:
        answer = live.push(*frame)
        if answer is not None and not (found and np.array_equal(found[-1], answer.logits)):
            found.append(answer.logits)
    return {15 + 8 * i: logits for i, logits in enumerate(found)}


def frames_of(person: int, frames: int = 30) -> list[RawFrame]:
    """Two persons' frames, moved; every second stream states no confidence."""
    clip = two_persons(frames)
    joints, stated = clip.joints + np.float32(person), clip.confidence
    results = stated is not None and person % 2 == 0
    return [RawFrame(joints[:, t], stated[:, t] if results else None) for t in range(frames)]


def played(pool: SessionPool, people: dict[int, list[RawFrame]], starts: dict[int, int]) -> dict:
    """(every distinct answer with its frames, the last answer) of people who come and go."""
    keys: dict[int, int] = {}
    results: dict[int, dict[int, np.ndarray]] = {person: {} for person in people}
    ends: dict[int, Prediction | None] = {}
    for tick in range(200):
        now = {}
        for person, frames in people.items():
            t = tick - starts[person]
            if t == 0:
                keys[person] = pool.open(SIZED)
            if 0 <= t < len(frames):
                now[keys[person]] = frames[t]
            elif t == len(frames):
                ends[person] = pool.flush(keys[person])
                pool.close(keys.pop(person))
        found = pool.push_many(now)
        for person, key in keys.items():
            if key in found and found[key].prediction is not None:
                results[person][found[key].frames] = found[key].prediction.logits
    assert len(pool) == 0 and set(ends) == set(people)
    return {person: (results[person], ends[person]) for person in people}


def test_a_result_states_its_frames_after_its_stream_has_paused():
    pool = SessionPool(recognizer([]))
    paused, other = pool.open(SIZED), pool.open(SIZED)
    frames = {key: frames_of(key, 60) for key in (paused, other)}
    for t in range(22):
        pool.push_many({key: RawFrame(*frames[key][t]) for key in (paused, other)})
    for t in range(22, 50):
        pool.push_many({other: RawFrame(*frames[other][t])})
    results = pool.push_many({paused: RawFrame(*frames[paused][22])})[paused]
    key = pool.open(SIZED)
    always = [pool.push_many({key: RawFrame(*frame)})[key] for frame in frames[paused][:40]]
    logits = {one.frames: one.prediction.logits for one in always if one.prediction}
    assert results.frames == 19
    np.testing.assert_allclose(results.prediction.logits, logits[19], rtol=0, atol=1e-5)


@pytest.mark.parametrize("transforms", STEPS)
def test_steps_together_are_steps_alone(transforms):
    asked = recognizer(transforms)
    masks = any("mask_confidence" in step for step in transforms)
    people = {p: frames_of(p, 40 + p) for p in range(0, 12, 2 if masks else 1)}
    pool = SessionPool(asked)
    assert pool.mode == "step"
    found = played(pool, people, {p: 5 * p for p in people})
    for person, frames in people.items():
        results, end = found[person]
        expected = alone(asked, frames)
        assert list(results) == list(range(11, max(results) + 1, 4)) and len(results) >= 6
        for so_far in set(results) & set(expected):
            np.testing.assert_allclose(results[so_far], expected[so_far], rtol=0, atol=1e-5)
        assert len(expected) > 1 and max(results) + 8 > max(expected)
        live = open_session(asked, meta=SIZED)
        for frame in frames:
            live.push(*frame)
        np.testing.assert_allclose(end.logits, live.flush().logits, rtol=0, atol=1e-5)


def test_windows_together_are_windows_alone():
    asked = recognizer([{"resize": {"frames": 8}}])
    pool = SessionPool(asked, window=0.3, every=4)
    assert pool.mode == "window"
    people = {p: frames_of(p) for p in range(5)}
    found = played(pool, people, {p: 3 * p for p in people})
    for person, frames in people.items():
        results, end = found[person]
        live = open_session(asked, window=0.3, every=1)
        answers = [live.push(*frame) for frame in frames]
        assert len(results) >= 7 and set(np.diff(list(results))) == {4}
        for after, logits in results.items():
            np.testing.assert_allclose(logits, answers[after - 1].logits, rtol=0, atol=1e-5)
        np.testing.assert_allclose(end.logits, answers[-1].logits, rtol=0, atol=1e-5)


def test_a_stream_is_resampled_from_its_stated_rate():
    asked = recognizer(["resample"])
    clip = replace(two_persons(12), confidence=None, fps=10.0)
    live = open_session(asked, every=1, fps=10.0, window=None)
    assert live.mode == "window"
    answers = [live.push(clip.joints[:, t]) for t in range(12)]
    np.testing.assert_allclose(answers[-1].logits, asked(clip).logits, atol=1e-5)
    alike = [open_session(asked, every=1, fps=30.0, window=None).push(clip.joints[:, 0])]
    assert alike[0] is not None
    again = open_session(asked, every=1, fps=10.0, window=None)
    again.load_state_dict(live.state_dict())
    np.testing.assert_allclose(again.flush().logits, answers[-1].logits, atol=1e-6)
    with pytest.raises(ModelError, match="transforms resample of this run need the whole clip"):
        open_session(asked, "step")


def test_a_clip_of_unknown_rate_is_refused_if_the_training_clips_were_resampled():
    asked = recognizer(["resample"])
    unknown = replace(two_persons(12), fps=None)
    assert asked(unknown)  # the rate of the training clips is unknown too
    known = Recognizer(asked.model, replace(asked.header, fps=25.0))
    with pytest.raises(TransformError, match="state its frames per second"):
        known(unknown)


@pytest.mark.parametrize("transforms", [[], [{"resize": {"frames": 8}}]])
def test_a_bad_frame_affects_its_own_stream_only(transforms):
    asked = recognizer(transforms)
    pool = SessionPool(asked)
    good, bad = pool.open(), pool.open()
    live = open_session(asked, every=1)
    wrong = [np.zeros((15, 3)), np.full((15, 2), np.inf), "text", [[["a"]]], {}, None]
    for i, frame in enumerate(frames_of(1)):
        live.push(*frame)
        found = pool.push_many({good: frame, bad: RawFrame(wrong[i % len(wrong)])})
        assert isinstance(found[bad], ClipError) and isinstance(found[good], StreamResult)
    np.testing.assert_allclose(pool.flush(good).logits, live.flush().logits, atol=1e-5)
    assert pool.flush(bad) is None


@pytest.mark.parametrize(
    ("transforms", "part"),
    [
        ([], "_validator"),
        ([], "_backend._preprocessor"),
        ([{"resize": {"frames": 8}}], "_validator"),
        ([{"resize": {"frames": 8}}], "_backend._recognizer"),
    ],
)
def test_an_unexpected_failure_of_a_frame_affects_its_own_stream_only(transforms, part):
    """Whatever fails at one frame, the frames of the others are answered as without it."""
    pool, other = (SessionPool(recognizer(transforms), every=1) for _ in range(2))
    owner = pool._backend if part.startswith("_backend") else pool
    name = part.rpartition(".")[2]
    original = getattr(owner, name)
    poison = np.float32(123.5)

    class Failing:
        """A part that fails where it meets the poison."""

        def __getattr__(self, attribute):
            return getattr(original, attribute)

        def __call__(self, given, *rest):
            arrays = [one.joints for one in given] if isinstance(given, list) else [given]
            if any(np.any(array == poison) for array in arrays):
                raise ZeroDivisionError("poison")
            return original(given, *rest)

        def batch(self, clip):
            if np.any(clip.joints == poison):
                raise ZeroDivisionError("poison")
            return original.batch(clip)

    setattr(owner, name, Failing())
    keys, expected = [pool.open() for _ in range(3)], [other.open() for _ in range(2)]
    frames = [frames_of(1), frames_of(3)]
    bad = RawFrame(np.full(frames[0][0].joints.shape, poison))
    for t in range(30):
        found = pool.push_many({keys[0]: frames[0][t], keys[1]: bad, keys[2]: frames[1][t]})
        assert isinstance(found[keys[1]], UnexpectedError)
        wanted = other.push_many({k: f[t] for k, f in zip(expected, frames, strict=True)})
        for key, same in ((keys[0], expected[0]), (keys[2], expected[1])):
            prediction = wanted[same].prediction
            assert found[key].frames == wanted[same].frames
            if prediction is not None:
                np.testing.assert_allclose(
                    found[key].prediction.logits, prediction.logits, atol=1e-5
                )
    assert prediction is not None


def test_too_large_coordinates_are_refused_alone():
    pool = SessionPool(recognizer([]))
    near, far = pool.open(), pool.open()
    frame = frames_of(1)[0]
    found = pool.push_many({far: RawFrame(frame.joints * 1e20), near: frame})
    assert isinstance(found[far], ClipError) and "1e+09" in str(found[far])
    assert isinstance(found[near], StreamResult)


def test_a_snapshot_is_decoded_later():
    asked = recognizer([])
    pool = SessionPool(asked)
    key = pool.open()
    assert pool.flush(key) is None
    frames, live = frames_of(1), open_session(asked)
    for frame in frames[:20]:
        pool.push_many({key: frame})
        live.push(*frame)
    later = pool.snapshot(key)
    for frame in frames[20:]:
        pool.push_many({key: frame})
    pool.close(key)
    np.testing.assert_allclose(
        pool.decode_snapshot(later).logits, live.flush().logits, rtol=0, atol=1e-5
    )


def renamed_after(pool: SessionPool, first: np.ndarray, then: np.ndarray, name: str) -> list[int]:
    """The frames of the second action, from 1, after which the prediction has this name."""
    key = pool.open()
    found = []
    for t, joints in enumerate(np.concatenate([first, then])):
        result = pool.push_many({key: RawFrame(joints)})[key]
        assert isinstance(result, StreamResult)
        best = result.prediction and result.prediction.accepted
        if t >= len(first) and best and best.name == name:
            found.append(t + 1 - len(first))
    return found


def poses(label: int, frames: int) -> np.ndarray:
    """(T, 1, V, D): a class of the made-up clips for any time."""
    mean = np.mean([clip.joints.mean(axis=1) for clip in made_up_clips()[label::3]], axis=0)
    noise = np.random.default_rng(label).normal(0, 0.1, (frames, *mean.shape))
    return (mean + noise).astype(np.float32)


@pytest.mark.parametrize("transforms", [["stream"], [{"resize": {"frames": 8}}, "stream"]])
def test_a_new_action_is_named_within_four_seconds(tiny_run, transforms):
    model, header = load_model(tiny_run)
    asked = Recognizer(model, replace(header, transforms=transforms))
    assert header.fps == 30.0 and header.stream_window_seconds == 3.0
    minute, seconds = poses(0, 1800), poses(1, 135)
    named = renamed_after(SessionPool(asked), minute, seconds, "there")
    assert named and named[0] < 120 and len(named) >= 135 - 120
    if transforms == ["stream"]:  # all frames since the start are mostly those of the first action
        assert not renamed_after(SessionPool(asked, window=None), minute[:600], seconds, "there")


def test_golf_swings_after_pullups_are_named_within_four_seconds():
    asked = Recognizer.load("penn-action")
    labels = real_data("penn_action") / "labels"
    pullup, swing = (
        read_clip(labels / name, "penn_action").joints[0, :, None]
        for name in ("1156.mat", "0811.mat")
    )
    pullups = np.resize(np.concatenate([pullup, pullup[::-1]]), (600, 1, 13, 2))
    swings = np.resize(swing, (150, 1, 13, 2))
    named = renamed_after(SessionPool(asked), pullups, swings, "golf_swing")
    assert named and named[0] < 120


def test_a_window_is_in_seconds_at_the_frame_rate_of_the_stream():
    header = recognizer([]).header
    assert window_frames(header, "auto") == 90 and window_frames(header, 0.001) == 1
    assert window_frames(header, None) is None and window_frames(header, "auto", 15) == 45
    trained = replace(header, fps=15.0, stream_window_seconds=2.0)
    assert window_frames(trained, "auto") == 30 and window_frames(trained, 1.0, 60) == 60


def test_invalid_options_are_refused():
    asked = recognizer([{"resize": {"frames": 8}}])
    with pytest.raises(UnknownNameError, match="stream mode"):
        SessionPool(asked, "stpe")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="need the whole clip"):
        SessionPool(asked, "step")
    with pytest.raises(ModelError, match="every to be 1 or more"):
        SessionPool(asked, every=0)
    with pytest.raises(ModelError, match="expected window to be a finite number above 0"):
        SessionPool(asked, window=0)
    with pytest.raises(ModelError, match="open one first"):
        SessionPool(asked).push_many({3: frames_of(0)[0]})
