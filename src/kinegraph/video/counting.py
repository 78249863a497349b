"""Repetitions of the persons in a video, camera or pose files."""

from __future__ import annotations

from dataclasses import replace

from kinegraph.inference.counting import RepetitionCount, RepetitionCounter
from kinegraph.video.estimators.base import PoseFrame
from kinegraph.video.resample import FrameResampler
from kinegraph.video.segmentation import Segment
from kinegraph.video.sources import FPS
from kinegraph.video.tracking import TrackedPose, Tracker


class PersonCounter:
    """Counts the repetitions of one tracked person, whose poses come at irregular times."""

    def __init__(self, first_time: float) -> None:
        self._resampler = FrameResampler(FPS)
        self._counter = RepetitionCounter(FPS, first_time)
        self._ended = first_time  # end of the last segment

    @property
    def latest(self) -> int:
        """The repetitions since the end of the last segment."""
        return self._counter.count_since(self._ended)

    def update(self, time: float, pose: TrackedPose) -> int:
        """Process a pose at a time in seconds; return the repetitions so far."""
        for joints, _ in self._resampler(time, pose.joints, pose.confidence):
            self._counter.push(joints)
        return self._counter.count

    def add_count(self, segment: Segment) -> Segment:
        """Return a segment of the person, which has ended, with its number of repetitions."""
        self._ended = segment.end
        return replace(segment, repetitions=self.result().between(segment.start, segment.end))

    def result(self) -> RepetitionCount:
        """Return the repetitions if the recording ends here."""
        return self._counter.result()


class VideoCounter:
    """Counts the repetitions of every person of consecutive pose frames.

    Args:
        tracker: assigns person numbers.
    """

    def __init__(self, tracker: Tracker | None = None) -> None:
        self._tracker = tracker or Tracker()
        self._persons: dict[int, PersonCounter] = {}
        self._counts: dict[int, int] = {}

    def __call__(self, frame: PoseFrame) -> dict[int, int]:
        """Process the next frame; return the counts that have risen, by person number."""
        risen = {}
        for pose in self._tracker(frame):
            counter = self._persons.setdefault(pose.person, PersonCounter(frame.time))
            count = counter.update(frame.time, pose)
            if count > self._counts.get(pose.person, 0):
                self._counts[pose.person] = risen[pose.person] = count
        return risen

    def results(self) -> dict[int, RepetitionCount]:
        """Return the repetitions by person number, if the recording ends here."""
        return {number: person.result() for number, person in sorted(self._persons.items())}
