"""Segments of one person of a video by a segmentation run, which names every frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip
from kinegraph.inference.frame_converter import open_converter
from kinegraph.inference.segment_stream import SegmentationStream
from kinegraph.skeleton.joint_mapping import convert_joints
from kinegraph.skeleton.space import Space
from kinegraph.video.estimators.base import Array, PoseFrame
from kinegraph.video.resample import FrameResampler
from kinegraph.video.segmentation import Segment
from kinegraph.video.sources import FPS
from kinegraph.video.tracking import TrackedPose

if TYPE_CHECKING:
    from kinegraph.inference.segment import Segmenter
    from kinegraph.skeleton.layout import SkeletonLayout

_PIXELS = Space("image", unit="pixel")


class SegmentedPerson:
    """The frames of one person, segmented at the end as a recording, or one by one.

    Args:
        number: of the person.
        segmenter: names the frames.
        layout: of the poses.
        frame: the first one with the person.
        is_live: whether frames are segmented one by one, which needs a run with a causal head.

    Raises:
        ModelError: joints of an image cannot be converted to those of the model, or the run has no
            stream.
    """

    prediction = None  # it predicts no window of frames

    def __init__(
        self,
        number: int,
        segmenter: Segmenter,
        layout: SkeletonLayout,
        frame: PoseFrame,
        *,
        is_live: bool,
    ) -> None:
        self.number = number
        self.first_time = self.last_time = frame.time
        self._segmenter, self._layouts = segmenter, (layout, segmenter.layout)
        size = {"width": frame.width, "height": frame.height}
        self._meta = size if frame.has_size else {}
        # raises if poses of an image do not fit
        open_converter(segmenter, None, _PIXELS, self._meta, in_steps=is_live)
        stream = SegmentationStream(segmenter, self._meta, space=_PIXELS) if is_live else None
        self._stream = stream
        self._resampler = FrameResampler(FPS)
        self._frames: list[tuple[Array, Array]] = []  # those to be segmented at the end
        self._start: float | None = None  # time of the first frame with a joint
        self._named = 0  # frames
        self._run: list[NDArray[np.float32]] = []  # their latest ones with the same label

    def update(self, time: float, pose: TrackedPose) -> Iterator[Segment]:
        """Process a pose and yield the segments that have ended."""
        self.last_time = time
        for joints, confidence in self._resampler(time, pose.joints, pose.confidence):
            held, sure = self._convert(joints, confidence)
            if self._start is None:
                if not np.isfinite(held).any():
                    continue
                self._start = self._resampler.next_time - 1 / FPS
            if self._stream is None:
                self._frames.append((held, sure))
            else:
                yield from self._add(self._stream.push(held, sure))

    def finish(self, end: float) -> Iterator[Segment]:
        """Yield the remaining segments; ``end`` is not needed, as every frame is named."""
        if self._start is None:
            return
        yield from self._add(self._segment_all() if self._stream is None else self._stream.finish())
        if self._run:
            yield self._end_run()

    def _convert(self, joints: Array, confidence: Array) -> tuple[Array, Array]:
        """Return (1, V, 2) and (1, V) in the layout of the model."""
        held, sure = convert_joints(joints[None], *self._layouts, confidence[None])
        return held, np.ones(held.shape[:2], np.float32) if sure is None else sure

    def _segment_all(self) -> NDArray[np.float32]:
        joints, confidence = map(np.concatenate, zip(*self._frames, strict=True))
        clip = Clip(
            joints[None],
            self._segmenter.layout,
            confidence[None],
            id=f"person {self.number}",
            fps=float(FPS),
            meta=self._meta,
            space=_PIXELS,
        )
        return self._segmenter(clip).probabilities

    def _add(self, rows: Iterable[NDArray[np.float32]]) -> Iterator[Segment]:
        for row in rows:
            if self._run and row.argmax() != self._run[0].argmax():
                yield self._end_run()
            self._run.append(row)
            self._named += 1

    def _end_run(self) -> Segment:
        run, self._run = np.stack(self._run), []
        label = int(run[0].argmax())
        start = (self._start or 0.0) + (self._named - len(run)) / FPS
        return Segment(
            self.number,
            start,
            start + len(run) / FPS,
            None if label == self._segmenter.background else label,
            self._segmenter.classes[label],
            float(run[:, label].mean()),
        )
