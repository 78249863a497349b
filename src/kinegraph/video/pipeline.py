"""Pipeline from pose frames to action segments: tracking, recognition, segmentation."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from kinegraph.errors import VideoError
from kinegraph.inference.segment import Segmenter
from kinegraph.inference.segment_stream import SegmentationStream
from kinegraph.inference.session import open_session
from kinegraph.skeleton.joint_mapping import convert_joints
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.space import Space
from kinegraph.video.counting import PersonCounter
from kinegraph.video.estimators.base import Array, PoseFrame
from kinegraph.video.motion import SETTLING_FRAMES, STILL_MOTION, measure_motion
from kinegraph.video.person_segmentation import SegmentedPerson
from kinegraph.video.resample import FrameResampler
from kinegraph.video.segmentation import ActionSegmenter, Segment
from kinegraph.video.sources import FPS
from kinegraph.video.tracking import TrackedPose, Tracker

if TYPE_CHECKING:
    from kinegraph.inference.answer import Prediction
    from kinegraph.inference.recognizer import Recognizer

PREDICTION_INTERVAL_FRAMES = 8
MAX_FRAME_SECONDS = 0.2  # longest duration of one frame
MIN_VISIBLE_SECONDS = 0.25  # persons visible for less are errors of the estimator


class ActionPipeline:
    """Turns pose frames into action segments, each returned as soon as it has ended.

    Each person has a streaming session. A prediction refers to a window of seconds around a
    moment, so it is known half a window later. A segmentation run instead names every frame of a
    person, who is a recording.

    Args:
        recognizer: the trained model.
        layout: layout of the pose frames.
        tracker: assigns person numbers.
        window: seconds; None for the default of the run.
        is_live: whether the source has no end of its own; a segmentation run then names the frames
            one by one, for which it needs a causal head.

    Raises:
        LayoutError: the layout shares no joints with the model's, or the model needs depth.
        ModelError: a live source and a segmentation run without a stream.
        VideoError: the model needs two persons together.
    """

    def __init__(
        self,
        recognizer: Recognizer | Segmenter,
        layout: SkeletonLayout,
        tracker: Tracker | None = None,
        window: float | None = None,
        *,
        is_live: bool = False,
    ) -> None:
        if recognizer.pipeline.joins_persons:
            raise VideoError(
                "the model names what two persons do together (step 'join_persons'), but each "
                "person of a video is recognized alone: use it on clips of two persons"
            )
        empty = np.full((1, layout.num_joints, 2), np.nan, np.float32)
        convert_joints(empty, layout, recognizer.layout)  # raises if the layouts do not fit
        if isinstance(recognizer, Segmenter) and is_live:
            SegmentationStream(recognizer)  # raises if it cannot be a stream
        self.recognizer = recognizer
        self.layout = layout
        self._is_live = is_live
        self.window = window or recognizer.header.stream_window_seconds
        self._tracker = tracker or Tracker()
        self._persons: dict[int, PersonState | SegmentedPerson] = {}
        self._counters: dict[int, PersonCounter] = {}
        self._time, self._step = -1.0, 1 / FPS

    def __call__(self, frame: PoseFrame) -> tuple[list[TrackedPose], list[Segment]]:
        """Process the next frame; return its persons and the segments that have ended."""
        if self._time >= 0:
            self._step = min(frame.time - self._time, MAX_FRAME_SECONDS)
        self._time = frame.time
        poses = self._tracker(frame)
        ended: list[Segment] = []
        for pose in poses:
            if pose.person not in self._persons:
                self._persons[pose.person] = self._open(pose.person, frame)
                self._counters[pose.person] = PersonCounter(frame.time)
            counter = self._counters[pose.person]
            counter.update(frame.time, pose)
            found = self._persons[pose.person].update(frame.time, pose)
            ended += [counter.add_count(segment) for segment in found]
        left = [p for p in self._persons.values() if frame.time - p.last_time > self._tracker.gap]
        return poses, ended + [segment for person in left for segment in self._end(person)]

    @property
    def end_time(self) -> float:
        """End of the last frame in seconds."""
        return max(self._time, 0.0) + self._step

    def finish(self) -> list[Segment]:
        """Return the segments of the persons visible at the end."""
        return [one for person in list(self._persons.values()) for one in self._end(person)]

    def latest(self) -> dict[int, Prediction]:
        """Return the newest predictions by person number."""
        return {n: p.prediction for n, p in self._persons.items() if p.prediction is not None}

    def repetitions(self) -> dict[int, int]:
        """Return the repetitions since the end of the last segment, by person number."""
        return {number: counter.latest for number, counter in self._counters.items()}

    def _open(self, number: int, frame: PoseFrame) -> PersonState | SegmentedPerson:
        if isinstance(self.recognizer, Segmenter):
            return SegmentedPerson(
                number, self.recognizer, self.layout, frame, is_live=self._is_live
            )
        return PersonState(number, self, self.recognizer, frame)

    def _end(self, person: PersonState | SegmentedPerson) -> list[Segment]:
        """Return the last segments of a person; those visible too briefly have none."""
        del self._persons[person.number]
        counter = self._counters.pop(person.number)
        end = person.last_time + self._step
        is_brief = end - person.first_time < MIN_VISIBLE_SECONDS
        return [] if is_brief else [counter.add_count(segment) for segment in person.finish(end)]


class PersonState:
    """The resampler, session and segmenter of one person."""

    def __init__(
        self, number: int, pipeline: ActionPipeline, recognizer: Recognizer, frame: PoseFrame
    ) -> None:
        self.number = number
        self.first_time = self.last_time = frame.time
        self.prediction: Prediction | None = None
        self._layouts = (pipeline.layout, recognizer.layout)
        self._resampler = FrameResampler(FPS)
        seconds = pipeline.window
        self._window = max(1, round(seconds * FPS))
        self._recent: deque[Array] = deque(maxlen=self._window)
        # a prediction counts for the middle of its window, until halfway to the next one
        self._lag = seconds / 2 - PREDICTION_INTERVAL_FRAMES / FPS / 2
        size = {"width": frame.width, "height": frame.height}
        self._session = open_session(
            recognizer,
            "auto",
            seconds,
            PREDICTION_INTERVAL_FRAMES,
            size if frame.has_size else None,
            fps=FPS,
            space=Space("image", unit="pixel"),
        )
        self._segmenter = ActionSegmenter(number, recognizer)
        self._segmented = self.first_time

    def update(self, time: float, pose: TrackedPose) -> Iterator[Segment]:
        """Process a pose and yield the segments that have ended."""
        self.last_time = time
        for joints, confidence in self._resampler(time, pose.joints, pose.confidence):
            yield from self._push(joints, confidence)

    def finish(self, end: float) -> Iterator[Segment]:
        """Yield the remaining segments."""
        if (prediction := self._session.flush()) is None:
            return
        yield from self._segment_until(end, prediction, self._is_still())
        yield from self._segmenter.finish()

    def _push(self, joints: Array, confidence: Array) -> list[Segment]:
        held, sure = convert_joints(joints[None], *self._layouts, confidence[None])
        if not np.isfinite(held).any() and not self._session.frames:
            return []
        prediction = self._session.push(held, sure)
        if self._session.frames <= SETTLING_FRAMES:
            self._recent.clear()
        self._recent.append(held[0])
        if prediction is None or self._session.frames % PREDICTION_INTERVAL_FRAMES:
            return []
        is_still = self._is_still()
        self.prediction = replace(prediction, is_confident=False) if is_still else prediction
        if self._session.frames < self._window:
            return []
        time = self._resampler.next_time - self._lag
        return self._segment_until(time, prediction, is_still)

    def _is_still(self) -> bool:
        return measure_motion(self._recent) < STILL_MOTION

    def _segment_until(self, time: float, prediction: Prediction, is_still: bool) -> list[Segment]:
        start, self._segmented = self._segmented, max(time, self._segmented)
        if start >= time:
            return []
        return self._segmenter(start, self._segmented, prediction, is_still=is_still)
