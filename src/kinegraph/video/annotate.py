"""Annotated video frames and key frames of segments, drawn from cached poses."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.video.estimators.base import Image
from kinegraph.video.overlay import draw_person
from kinegraph.video.recording import WatchCache
from kinegraph.video.segmentation import Segment
from kinegraph.video.writer import VideoWriter

MAX_KEY_FRAMES = 48  # of more segments, the longest have one
_KEY_FRAME_PIXELS = 480  # longer side


class ActionLabels:
    """Labels of what each person does at a time, to be read in the order of time."""

    def __init__(self, segments: Iterable[Segment]) -> None:
        self._by_person: dict[int, list[Segment]] = {}
        for segment in sorted(segments, key=lambda s: s.start):
            self._by_person.setdefault(segment.person, []).append(segment)

    def at(self, person: int, time: float) -> str:
        """Return ``name 87 %``, with the person's number if there are several persons."""
        own = self._by_person.get(person, [])
        while own and own[0].end < time:
            own.pop(0)
        if not own or own[0].start > time + 1e-6:
            return ""
        share = "" if own[0].label is None else f" {own[0].probability:.0%}"
        return (f"{person}: " if len(self._by_person) > 1 else "") + own[0].name + share


def annotate(
    cache: WatchCache,
    layout: SkeletonLayout,
    segments: Sequence[Segment],
    until: float,
    writer: VideoWriter | None,
    key_frames: bool,
    progress: Callable[[int, int | None], None],
    total: int | None,
) -> dict[Segment, bytes]:
    """Draw skeletons and actions on all frames up to a time.

    Args:
        cache: frames and persons.
        layout: layout of the skeletons.
        segments: action segments.
        until: in seconds.
        writer: receives the annotated frames; None to draw only key frames.
        key_frames: whether to return a key frame of each segment.
        progress: called with (frames done, total if known).
        total: number of frames, if known.

    Returns:
        Segment -> JPEG of its middle, for the longest `MAX_KEY_FRAMES`.
    """
    labels = ActionLabels(segments)
    longest = sorted(segments, key=lambda s: -s.seconds)[:MAX_KEY_FRAMES] if key_frames else []
    wanted = sorted(longest, key=lambda s: s.middle)
    found: dict[Segment, bytes] = {}
    for done, (frame, persons) in enumerate(cache.replay(until), start=1):
        due = []
        while wanted and wanted[0].middle <= frame.time + 1e-6:
            due.append(wanted.pop(0))
        if writer is not None or due:
            image = frame.image
            for person, joints in persons:
                label = labels.at(person, frame.time)
                image = draw_person(image, joints, layout, person, label)
            if writer is not None:
                writer.write(image, frame.time)
            found |= dict.fromkeys(due, _encode_jpeg(image)) if due else {}
        progress(done, total)
    return found


def _encode_jpeg(image: Image) -> bytes:
    from PIL import Image as Pillow

    picture = Pillow.fromarray(np.ascontiguousarray(image))
    picture.thumbnail((_KEY_FRAME_PIXELS, _KEY_FRAME_PIXELS))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
