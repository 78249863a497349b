"""What annotation files of recordings have in common: labels with a start and an end."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from kinegraph.errors import ReadError

MAX_TIME = 1e9  # frames or seconds; larger numbers are mistakes


class TimedLabel(NamedTuple):
    """A label of a recording.

    Attributes:
        label: name of the action.
        start: where it begins.
        end: where it ends; None for an action that is marked by a point in time.
        in_frames: whether start and end are frames, counted from 0, the end excluded; else seconds.
    """

    label: str
    start: float
    end: float | None
    in_frames: bool = False


Annotations = Mapping[str, Sequence[TimedLabel]]  # by the name of the recording


@dataclass(frozen=True)
class AnnotationFormat:
    """A format of annotation files.

    Attributes:
        name: as in `kinegraph.readers.annotations.ANNOTATION_FORMATS`.
        summary: one line about it.
        suffixes: of its files, in lower case; the first one is that of written files.
        matches: whether a file with such a suffix is of this format.
        read: returns the labels of a file; raises ReadError.
        write: returns the content of a file with these labels, all of them in seconds.
    """

    name: str
    summary: str
    suffixes: tuple[str, ...]
    matches: Callable[[Path], bool]
    read: Callable[[Path], Annotations]
    write: Callable[[Annotations], str]


def check_label(label: object, start: object, end: object, where: str) -> TimedLabel:
    """Return a label with checked values; a missing end is a point.

    Raises:
        ReadError: an empty label, times that are not numbers of 0 or more, an end before the start.
    """
    if not isinstance(label, str) or not label.strip():
        raise ReadError(f"{where}: expected the name of an action, got {str(label)[:40]!r}")
    for name, value in (("start", start), ("end", end)):
        if name == "end" and value is None:
            continue
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (is_number and math.isfinite(value) and 0 <= value <= MAX_TIME):  # type: ignore[arg-type,operator]
            raise ReadError(
                f"{where}: expected the {name} of {label.strip()[:40]!r} to be a number of 0 or "
                f"more, got {str(value)[:40]!r}"
            )
    if end is not None and end < start:  # type: ignore[operator]
        raise ReadError(f"{where}: {label.strip()[:40]!r} ends at {end}, before it begins, {start}")
    return TimedLabel(label.strip(), float(start), None if end is None else float(end))  # type: ignore[arg-type]
