"""Detection of the actions in a source, from its first frame to its last one."""

from __future__ import annotations

import time
from collections.abc import Callable

from kinegraph.errors import KinegraphError
from kinegraph.video.pipeline import ActionPipeline
from kinegraph.video.recording import WatchCache
from kinegraph.video.segmentation import Segment, WatchResult
from kinegraph.video.sources import Source


def detect(
    source: Source,
    pipeline: ActionPipeline,
    result: WatchResult,
    on_segments: Callable[[list[Segment]], None],
    *,
    cache: WatchCache | None = None,
    seconds: float | None = None,
    on_frame: Callable[[], None] = lambda: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Process a source to its end, or until Ctrl-C, and fill in the result.

    Args:
        source: frames with poses.
        pipeline: names the actions.
        result: segments and number of frames, at any time; an error after the first frame ends
            the source and is kept here.
        on_segments: called with the segments that have ended.
        cache: receives the frames and their persons.
        seconds: where to stop; None for the end.
        on_frame: called after each frame.
        should_stop: asked for each frame, and several times a second while a source is silent.

    Raises:
        KinegraphError: the source delivers no frames, or a receiver of results has failed.
    """

    def add(segments: list[Segment]) -> None:
        result.segments += segments
        on_segments(segments)

    began = time.monotonic()
    try:
        for frame, pose in source.frames():
            is_silent = frame is None and pose is None
            now = pose.time if pose else frame.time if frame else time.monotonic() - began
            if should_stop() or (seconds is not None and now > seconds):
                result.interrupted = should_stop()
                break
            if is_silent:
                continue
            if frame is not None and cache is not None:
                cache.add_frame(frame)
            if pose is not None:
                tracked, ended = pipeline(pose)
                if cache is not None:
                    cache.add_persons(now, tracked)
                add(ended)
            result.frames, result.end_time = result.frames + 1, now
            on_frame()
    except KeyboardInterrupt:
        result.interrupted = True
    except KinegraphError as error:
        if not result.frames:
            raise
        result.error = error
    result.end_time = max(result.end_time, pipeline.end_time)
    add(pipeline.finish())
    result.segments.sort(key=lambda s: (s.start, s.person))
