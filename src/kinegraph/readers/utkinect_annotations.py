"""Label files of UTKinect: the frames of each recording that show an action."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from kinegraph.errors import ReadError, unknown_name
from kinegraph.readers.formats.raw_file import read_bytes

LABEL_FILES = ("actionLabel_modified.txt", "actionLabel.txt")
"""Names of the label file, the corrected one first."""
MAX_LABEL_FILE_BYTES = 2**20
"""Maximum size of a label file; the published one has 4 kB."""

_RECORDING = re.compile(r"s\d\d_e\d\d")
_ACTION = re.compile(r"(\w+)\s*:\s*(\S+)\s+(\S+)")
_FRAME = re.compile(r"\d{1,9}")


class FrameRange(NamedTuple):
    """An action in a recording, by the frame numbers at the start of the recording's lines.

    Attributes:
        action: as the file writes it.
        label: its index in the class names.
        first: the first frame number.
        last: the last frame number, included.
    """

    action: str
    label: int
    first: int
    last: int


Ranges = dict[str, tuple[FrameRange, ...]]


def find_label_file(folder: Path) -> Path | None:
    """Return the label file of a folder, or None if it has none."""
    return next((folder / name for name in LABEL_FILES if (folder / name).is_file()), None)


def read_ranges(path: Path, classes: Sequence[str]) -> tuple[Ranges, list[tuple[str, str]]]:
    """Return the usable ranges by recording ("s01_e01"), and (recording, reason) for the others.

    A range is unusable if it has no frame numbers (the file has ``carry: NaN NaN`` once) or ends
    before it begins.

    Raises:
        ReadError: the file cannot be opened or has another format; the message names the line.
    """
    ranges: dict[str, list[FrameRange]] = {}
    unusable = []
    recording = None
    for where, line in _read_lines(path):
        if _RECORDING.fullmatch(line):
            recording = line
            ranges.setdefault(line, [])
        elif recording is None:
            raise ReadError(f"{where}: expected a recording as s01_e01 first, got {line[:40]!r}")
        else:
            found = _parse_range(line, classes, where)
            if isinstance(found, FrameRange):
                ranges[recording].append(found)
            else:
                unusable.append((recording, f"{where}: {recording}: {found}"))
    if not ranges:
        raise ReadError(f"{path}: expected recordings with frame ranges, the file is empty")
    return {name: tuple(found) for name, found in ranges.items()}, unusable


def _read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the lines that are not blank, each with file:line."""
    for number, line in enumerate(read_bytes(path, MAX_LABEL_FILE_BYTES).split(b"\n"), start=1):
        if text := line.decode("ascii", "backslashreplace").strip():
            yield f"{path}:{number}", text


def _parse_range(line: str, classes: Sequence[str], where: str) -> FrameRange | str:
    """Return the range that a line states, or the reason why it is unusable."""
    found = _ACTION.fullmatch(line)
    if found is None:
        raise ReadError(f"{where}: expected 'action: first last', got {line[:40]!r}")
    action, first, last = found.groups()
    if action not in classes:
        raise ReadError(f"{where}: {unknown_name('action', action[:40], classes)}")
    if first.lower() == last.lower() == "nan":
        return f"{action} has no frame range (NaN)"
    if not (_FRAME.fullmatch(first) and _FRAME.fullmatch(last)):
        raise ReadError(f"{where}: expected two frame numbers, got {first[:20]!r}, {last[:20]!r}")
    if int(first) > int(last):
        return f"{action} ends at frame {last}, before it begins at {first}"
    return FrameRange(action, classes.index(action), int(first), int(last))
