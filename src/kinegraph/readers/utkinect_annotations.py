"""Reads which frames of UTKinect's recordings show which action."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from kinegraph.errors import ReadError, unknown_name

FILES = ("actionLabel_modified.txt", "actionLabel.txt")
"""Names of the label file, the corrected one first."""

MAX_BYTES = 2**20
"""Largest label file that is read; the published one has 4 kB."""

_RECORDING = re.compile(r"s\d\d_e\d\d")
_ACTION = re.compile(r"(\w+)\s*:\s*(\S+)\s+(\S+)")
_FRAME = re.compile(r"\d{1,9}")


class FrameRange(NamedTuple):
    """One action in a recording, by the frame numbers that the recording's lines begin with.

    Attributes:
        action: as the file writes it.
        label: its place among the classes.
        first: its first frame number.
        last: its last frame number, included.
    """

    action: str
    label: int
    first: int
    last: int


Ranges = dict[str, tuple[FrameRange, ...]]
Unusable = list[tuple[str, str]]


def find_label_file(folder: Path) -> Path | None:
    """The label file of a folder, or None if it has none."""
    return next((folder / name for name in FILES if (folder / name).is_file()), None)


def read_ranges(path: Path, classes: Sequence[str]) -> tuple[Ranges, Unusable]:
    """The usable ranges by recording ("s01_e01"), and (recording, reason) for every other.

    A range is unusable if it has no frame numbers (the file has ``carry: NaN NaN`` once) or ends
    before it begins.

    Raises:
        ReadError: the file cannot be opened or is no label file; the message names the line.
    """
    ranges: dict[str, list[FrameRange]] = {}
    unusable: Unusable = []
    recording = None
    for where, line in _lines(path):
        if _RECORDING.fullmatch(line):
            recording = line
            ranges.setdefault(line, [])
        elif recording is None:
            raise ReadError(f"{where}: expected a recording as s01_e01 first, got {line[:40]!r}")
        else:
            range_ = _range(line, classes, where)
            if isinstance(range_, FrameRange):
                ranges[recording].append(range_)
            else:
                unusable.append((recording, f"{where}: {recording}: {range_}"))
    if not ranges:
        raise ReadError(f"{path}: expected recordings with frame ranges, the file is empty")
    return {name: tuple(found) for name, found in ranges.items()}, unusable


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """The lines that are not blank, each with file:line."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ReadError(f"{path}: cannot be opened: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise ReadError(f"{path}: expected a label file of at most {MAX_BYTES} bytes")
    for number, line in enumerate(data.split(b"\n"), start=1):
        if text := line.decode("ascii", "backslashreplace").strip():
            yield f"{path}:{number}", text


def _range(line: str, classes: Sequence[str], where: str) -> FrameRange | str:
    """The range that a line states, or why it states none."""
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
