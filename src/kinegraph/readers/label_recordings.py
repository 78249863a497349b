"""Interval labels from an annotation file, added to the recordings that a reader reads."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path, PurePosixPath

from kinegraph.clips.clip import Clip
from kinegraph.clips.intervals import INTERVALS_KEY, Interval, pack_intervals
from kinegraph.errors import ReadError
from kinegraph.readers.annotations import read_annotations
from kinegraph.readers.annotations.records import TimedLabel


class RecordingLabels:
    """The labels of an annotation file, by recording.

    A recording is found by its id, or by the name of its file; both the file's and the stated name
    may have folders and a suffix.

    Args:
        path: the annotation file, see `kinegraph.readers.annotations`.
        point_frames, point_seconds: length of the interval around an action that is marked by a
            point in time; at most one of both.

    Attributes:
        classes: names of the actions, sorted.

    Raises:
        ReadError: the file cannot be read; it has points and their length is not stated, or stated
            twice.
    """

    def __init__(
        self, path: Path, point_frames: int | None = None, point_seconds: float | None = None
    ) -> None:
        if point_frames is not None and point_seconds is not None:
            raise ReadError("expected --point-frames or --point-seconds, got both")
        self.path = path
        self.point_frames, self.point_seconds = point_frames, point_seconds
        self._labels = read_annotations(path)
        every = [one for labels in self._labels.values() for one in labels]
        is_stated = point_frames is not None or point_seconds is not None
        if not is_stated and any(one.end is None for one in every):
            raise ReadError(
                f"{path}: some actions have no end: state with --point-frames or --point-seconds "
                "how long the action around such a point is"
            )
        self.classes = tuple(sorted({one.label for one in every}))
        if not self.classes:
            raise ReadError(f"{path}: expected labels of actions, found none")
        self._found: set[str] = set()
        stems = [PurePosixPath(name.replace("\\", "/")).stem for name in self._labels]
        counts = Counter(stems)
        #: Recordings by their names, and by these without folders and suffix where they differ.
        self._names = {
            stem: name for stem, name in zip(stems, self._labels, strict=True) if counts[stem] == 1
        } | {name: name for name in self._labels}

    def add_to(self, clip: Clip, source: str) -> Clip:
        """Return a recording with its intervals, as it is if the file does not name it.

        Args:
            clip: the recording.
            source: name of its raw file.

        Raises:
            ReadError: seconds without a frame rate; an action after the end of the recording.
        """
        file = PurePosixPath(source)
        names = (clip.id, source, file.name, file.stem)
        name = next((self._names[n] for n in names if n in self._names), None)
        clip = replace(clip, label=None)
        if name is None:
            return clip
        if name in self._found:
            raise ReadError(
                f"recording {clip.id!r}: the labels of {name!r} are already those of another one"
            )
        self._found.add(name)
        intervals = [self._to_interval(one, clip) for one in self._labels[name]]
        return replace(clip, meta={**clip.meta, INTERVALS_KEY: pack_intervals(intervals)})

    def unused(self) -> list[str]:
        """Return the recordings of the file that were not read."""
        return [name for name in self._labels if name not in self._found]

    def _to_interval(self, one: TimedLabel, clip: Clip) -> Interval:
        rate = 1.0 if one.in_frames else clip.fps
        if rate is None:
            raise ReadError(
                f"recording {clip.id!r}: {self.path} has seconds, and its frame rate is unknown: "
                "state it with --fps, if the reader has this option, or give start_frame and "
                "stop_frame"
            )
        start = round(one.start * rate)
        if one.end is None:
            length = self._point_length(clip)
            start = max(0, start - length // 2)
            stop = start + length
        else:
            stop = max(start + 1, round(one.end * rate))
        if start >= clip.num_frames:
            raise ReadError(
                f"recording {clip.id!r}: {one.label!r} begins at frame {start}, after its "
                f"{clip.num_frames} frames"
            )
        return Interval(self.classes.index(one.label), start, min(stop, clip.num_frames))

    def _point_length(self, clip: Clip) -> int:
        """Return the frames of the interval around a point."""
        if self.point_seconds is None:
            return self.point_frames or 1
        if clip.fps is None:
            raise ReadError(
                f"recording {clip.id!r}: --point-seconds needs its frame rate, which is unknown: "
                "state it with --fps, if the reader has this option, or give --point-frames"
            )
        return max(1, round(self.point_seconds * clip.fps))
