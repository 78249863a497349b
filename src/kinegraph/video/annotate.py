"""Goes through what was watched once more, and draws on it who did what."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.video.estimators.base import Image
from kinegraph.video.overlay import draw_person
from kinegraph.video.recording import Persons, WatchCache
from kinegraph.video.segmentation import Segment
from kinegraph.video.writer import VideoWriter

MAX_KEY_FRAMES = 48  # on a page; of more segments, the longest have one
_WIDEST = 480  # pixels of a key frame

ProgressCallback = Callable[[int, int | None], None]


class Labels:
    """What each person does at a time, asked for in the order of time."""

    def __init__(self, segments: Iterable[Segment]) -> None:
        self._of: dict[int, list[Segment]] = {}
        for segment in sorted(segments, key=lambda s: s.start):
            self._of.setdefault(segment.person, []).append(segment)
        self.several = len(self._of) > 1

    def at(self, person: int, time: float) -> str:
        """``name 87 %``, with the person's number where there are several."""
        own = self._of.get(person, [])
        while own and own[0].end < time:
            own.pop(0)
        if not own or own[0].start > time + 1e-6:
            return ""
        share = "" if own[0].label is None else f" {own[0].probability:.0%}"
        return (f"{person}: " if self.several else "") + own[0].name + share


def annotate(
    cache: WatchCache,
    layout: SkeletonLayout,
    segments: Sequence[Segment],
    until: float,
    film: VideoWriter | None,
    key_frames: bool,
    progress: ProgressCallback,
    total: int | None,
) -> dict[Segment, bytes]:
    """Draw all pictures up to a time.

    Args:
        notebook: of what was seen.
        layout: of the skeletons.
        segments: who did what.
        until: in seconds.
        film: takes the pictures, if they are wanted.
        key_frames: whether a picture of each segment is wanted.
        progress: called with (pictures done, all of them if known).
        total: how many pictures there are, if known.

    Returns:
        Segment -> JPEG of its middle, for the longest `KEY_FRAMES`.
    """
    labels = Labels(segments)
    longest = sorted(segments, key=lambda s: -s.seconds)[:MAX_KEY_FRAMES] if key_frames else []
    wanted = sorted(longest, key=_middle)
    found: dict[Segment, bytes] = {}
    for done, (picture, persons) in enumerate(cache.again(until), start=1):
        due = []
        while wanted and _middle(wanted[0]) <= picture.time + 1e-6:
            due.append(wanted.pop(0))
        if film is not None or due:
            drawn = _drawn(picture.image, persons, layout, labels, picture.time)
            if film is not None:
                film.write(drawn, picture.time)
            found |= dict.fromkeys(due, _jpeg(drawn)) if due else {}
        progress(done, total)
    return found


def _middle(segment: Segment) -> float:
    return (segment.start + segment.end) / 2


def _drawn(
    image: Image, persons: Persons, layout: SkeletonLayout, labels: Labels, time: float
) -> Image:
    for person, joints in persons:
        image = draw_person(image, joints, layout, person, labels.at(person, time))
    return image


def _jpeg(image: Image) -> bytes:
    from PIL import Image as Pillow

    picture = Pillow.fromarray(np.ascontiguousarray(image))
    picture.thumbnail((_WIDEST, _WIDEST))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
