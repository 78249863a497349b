"""Video frames and key frames of segments, with skeletons and labels from cached poses."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from kinegraph.reports.style import HUES
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.video.estimators.base import Array, Image
from kinegraph.video.recording import WatchCache
from kinegraph.video.segmentation import Segment, WatchResult
from kinegraph.video.writer import VideoWriter

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

MAX_KEY_FRAMES = 48  # of more segments, the longest have one
_KEY_FRAME_PIXELS = 480  # longer side
_BACKGROUND = (20, 24, 30)


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
    result: WatchResult,
    writer: VideoWriter | None,
    progress: Callable[[int, int | None], None],
    *,
    key_frames: bool,
) -> dict[Segment, bytes]:
    """Draw skeletons and actions on all frames of a result.

    Args:
        cache: frames and persons.
        result: action segments.
        writer: receives the annotated frames; None to draw only key frames.
        progress: called with (frames done, number of frames).
        key_frames: whether to return a key frame of each segment.

    Returns:
        Segment -> JPEG of its middle, for the longest `MAX_KEY_FRAMES`.
    """
    labels = ActionLabels(result.segments)
    longest = (
        sorted(result.segments, key=lambda s: -s.seconds)[:MAX_KEY_FRAMES] if key_frames else []
    )
    wanted = sorted(longest, key=lambda s: s.middle)
    found: dict[Segment, bytes] = {}
    for done, (frame, persons) in enumerate(cache.replay(result.end_time), start=1):
        due = []
        while wanted and wanted[0].middle <= frame.time + 1e-6:
            due.append(wanted.pop(0))
        if writer is not None or due:
            image = frame.image
            for person, joints in persons:
                label = labels.at(person, frame.time)
                image = draw_person(image, joints, cache.source.layout, person, label)
            if writer is not None:
                writer.write(image, frame.time)
            found |= dict.fromkeys(due, _encode_jpeg(image)) if due else {}
        progress(done, result.frames)
    return found


def _encode_jpeg(image: Image) -> bytes:
    from PIL import Image as Pillow

    picture = Pillow.fromarray(np.ascontiguousarray(image))
    picture.thumbnail((_KEY_FRAME_PIXELS, _KEY_FRAME_PIXELS))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def draw_person(
    image: Image, joints: Array, layout: SkeletonLayout, person: int, label: str
) -> Image:
    """Return a copy of an image with a skeleton (V, 2) in pixels and a label above its head."""
    from PIL import Image as Pillow
    from PIL import ImageDraw as Draw

    picture = Pillow.fromarray(image)
    canvas = Draw.Draw(picture)
    unit = max(1.0, min(image.shape[:2]) / 256)
    color = HUES[(person - 1) % len(HUES)]
    _draw_bones(canvas, joints, layout, color, unit)
    seen = joints[~np.isnan(joints[:, 0])]
    if label and len(seen):
        _draw_label(canvas, label, seen, color, unit, picture.size)
    return np.asarray(picture)


def _draw_bones(
    canvas: ImageDraw, joints: Array, layout: SkeletonLayout, color: str, unit: float
) -> None:
    there = ~np.isnan(joints[:, 0])
    for width, tint in ((3.4 * unit, _BACKGROUND), (2.0 * unit, color)):
        for child, parent in layout.bones:
            if there[child] and there[parent]:
                ends = [tuple(map(float, joints[joint])) for joint in (child, parent)]
                canvas.line(ends, fill=tint, width=max(1, round(width)))
    for x, y in joints[there]:
        r = 1.8 * unit
        canvas.ellipse((x - r, y - r, x + r, y + r), fill="white", outline=color)


def _draw_label(
    canvas: ImageDraw, label: str, seen: Array, color: str, unit: float, size: Sequence[int]
) -> None:
    """Draw the label above the skeleton, inside the image."""
    font = _font(round(12 * unit))
    left, top, right, bottom = canvas.textbbox((0, 0), label, font=font)
    pad = 3 * unit
    width, height = right - left + 2 * pad, bottom - top + 2 * pad
    x = float(np.clip(seen[:, 0].mean() - width / 2, 0, max(0, size[0] - width)))
    y = float(np.clip(seen[:, 1].min() - height - 10 * unit, 0, max(0, size[1] - height)))
    canvas.rectangle((x, y, x + width, y + height), fill=_BACKGROUND)
    canvas.rectangle((x, y, x + 2 * unit, y + height), fill=color)
    canvas.text((x + pad - left + unit, y + pad - top), label, font=font, fill="white")


@cache
def _font(size: int) -> Any:
    """Load the font that matplotlib ships: it covers more than Latin."""
    from matplotlib import get_data_path
    from PIL import ImageFont

    return ImageFont.truetype(f"{get_data_path()}/fonts/ttf/DejaVuSans.ttf", max(9, size))
