"""Skeletons over time to who did what: told apart, brought to a model's clock and joints, named."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from kinegraph.inference.session import open_session
from kinegraph.skeleton.joint_mapping import convert_joints
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.video.estimators.base import Array, PoseFrame
from kinegraph.video.resample import FrameResampler
from kinegraph.video.segmentation import ActionSegmenter, Segment
from kinegraph.video.sources import FPS
from kinegraph.video.tracking import TrackedPose, Tracker

if TYPE_CHECKING:
    from kinegraph.inference.answer import Prediction
    from kinegraph.inference.recognizer import Recognizer

ANSWER_INTERVAL_S = 0.25  # seconds between answers
MAX_FRAME_SECONDS = 0.2  # seconds for which a frame counts at most
MIN_VISIBLE_SECONDS = 0.25  # seconds: who is seen for less is a mistake of whoever looked


class ActionPipeline:
    """Frames of skeletons in, segments out as soon as they are over.

    Each person has a stream of its own. An answer is about the ``window`` of seconds around a
    moment, so it is known half a window later.

    Args:
        recognizer: who answers.
        layout: of the skeletons that come.
        tracker: who tells persons apart.
        window: seconds; None for as many as the run states.
        every: seconds between answers.

    Raises:
        LayoutError: the skeletons have no joint in common with the model's, or lack its depth.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        layout: SkeletonLayout,
        tracker: Tracker | None = None,
        window: float | None = None,
        every: float = ANSWER_INTERVAL_S,
    ) -> None:
        nobody = np.full((1, layout.num_joints, 2), np.nan, np.float32)
        convert_joints(nobody, layout, recognizer.layout)  # refuses what cannot be, at once
        self.recognizer = recognizer
        self.layout = layout
        self.window = window or recognizer.header.stream_window_seconds
        self.every = every
        self._tracker = tracker or Tracker()
        self._persons: dict[int, PersonState] = {}
        self._time, self._step = -1.0, 1 / FPS

    def __call__(self, frame: PoseFrame) -> tuple[list[TrackedPose], list[Segment]]:
        """Who is seen in the next frame, and the segments that are over by now."""
        if self._time >= 0:
            self._step = min(frame.time - self._time, MAX_FRAME_SECONDS)
        self._time = frame.time
        seen = self._tracker(frame)
        told: list[Segment] = []
        for one in seen:
            if one.person not in self._persons:
                self._persons[one.person] = PersonState(one.person, self, frame)
            told += self._persons[one.person].see(frame.time, one)
        left = [p for p in self._persons.values() if frame.time - p.seen > self._tracker.gap]
        return seen, told + [segment for person in left for segment in self._end(person)]

    @property
    def until(self) -> float:
        """When the last frame is over, in seconds."""
        return max(self._time, 0.0) + self._step

    def finish(self) -> list[Segment]:
        """The segments of those who were there to the end."""
        return [one for person in list(self._persons.values()) for one in self._end(person)]

    def latest(self) -> dict[int, Prediction]:
        """Person -> the newest answer, for all who are there and have one."""
        return {n: p.answer for n, p in self._persons.items() if p.answer is not None}

    def _end(self, person: PersonState) -> list[Segment]:
        del self._persons[person.number]
        return list(person.finish(person.seen + self._step))


class PersonState:
    """One person's way from sightings to segments."""

    def __init__(self, number: int, watcher: ActionPipeline, frame: PoseFrame) -> None:
        self.number = number
        self.since = self.seen = frame.time
        self.answer: Prediction | None = None
        self._layouts = (watcher.layout, watcher.recognizer.layout)
        self._clock = FrameResampler(FPS)
        self._window = max(1, round(watcher.window * FPS))
        self._half = watcher.window / 2
        meta = {"width": frame.width, "height": frame.height}
        every = max(1, round(watcher.every * FPS))
        self._stream = open_session(
            watcher.recognizer, "auto", watcher.window, every, meta, fps=FPS
        )
        self._every = every
        self._segmenter = ActionSegmenter(number, watcher.recognizer)
        self._told = self.since

    def see(self, time: float, sighting: TrackedPose) -> Iterator[Segment]:
        self.seen = time
        for joints, confidence in self._clock(time, sighting.joints, sighting.confidence):
            yield from self._push(joints, confidence)

    def finish(self, end: float) -> Iterator[Segment]:
        if end - self.since < MIN_VISIBLE_SECONDS or (answer := self._stream.flush()) is None:
            return
        yield from self._until(end, answer)
        yield from self._segmenter.finish()

    def _push(self, joints: Array, confidence: Array) -> list[Segment]:
        held, sure = convert_joints(joints[None], *self._layouts, confidence[None])
        if not np.isfinite(held).any() and not self._stream.frames:
            return []
        answer = self._stream.push(held, sure)
        due = self._stream.frames % self._every == 0
        if answer is None or not due:
            return []
        self.answer = answer
        if self._stream.frames < self._window:
            return []
        return self._until(self._clock.time - self._half + self._every / FPS / 2, answer)

    def _until(self, time: float, answer: Prediction) -> list[Segment]:
        start, self._told = self._told, max(time, self._told)
        return self._segmenter(start, self._told, answer) if self._told > start else []
