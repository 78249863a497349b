"""Repetitions of tracked persons, from pose frames at irregular times."""

from __future__ import annotations

import numpy as np

from kinegraph.inference.recognizer import Recognizer
from kinegraph.readers.synthetic.body import BodyProportions, Pose
from kinegraph.skeleton import get_layout
from kinegraph.video.counting import VideoCounter
from kinegraph.video.estimators.base import PoseFrame
from kinegraph.video.pipeline import ActionPipeline


def pose_frames(squats: int) -> list[PoseFrame]:
    """Frames of two persons at irregular times: one squats, the other one stands."""
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.uniform(0.02, 0.06, 50 * squats))
    down = np.stack([0.5 - 0.5 * np.cos(np.pi * times), np.zeros(len(times))])
    persons = []
    for shares, x in zip(down, (200, 600), strict=True):
        pose = Pose(BodyProportions(), len(times))
        pose.root[:, 1] -= 0.45 * pose.body.hip_height * shares
        persons.append(np.array([x, 400]) + pose.joints()[..., :2] * [150, -150])
    joints = np.stack(persons, axis=1).astype(np.float32)
    sure = np.ones(joints.shape[1:3], np.float32)
    return [PoseFrame(t, own, sure, 800, 480) for t, own in zip(times, joints, strict=True)]


def test_segments_of_watch_have_the_repetitions(tiny_run):
    recognizer = Recognizer.load(tiny_run)
    frames = pose_frames(5)
    layout = get_layout("ntu25")
    pipeline, counter = ActionPipeline(recognizer, layout), VideoCounter()
    segments, shown = [], []
    for frame in frames:
        segments += pipeline(frame)[1]
        counter(frame)
        shown.append(pipeline.repetitions())
    segments += pipeline.finish()
    results = counter.results()
    for person, result in results.items():
        own = [segment for segment in segments if segment.person == person]
        assert sum(segment.repetitions for segment in own) == result.count
    (one,) = [person for person, result in results.items() if result.count]
    counts = [known.get(one, 0) for known in shown]
    assert counts[0] == 0 and max(counts) == results[one].count


def test_each_tracked_person_is_counted_at_the_times_of_the_video():
    counter, risen = VideoCounter(), []
    frames = pose_frames(5)
    for frame in frames:
        risen += [(person, count) for person, count in counter(frame).items()]
    seconds = frames[-1].time
    results = counter.results()
    (one,) = [person for person, result in results.items() if result.count]
    assert len(results) == 2
    assert abs(results[one].count - seconds / 2) <= 1
    assert risen == [(one, count) for count in range(2, results[one].count + 1)]
    assert all(0 <= r.start < r.end <= seconds for r in results[one].repetitions)
