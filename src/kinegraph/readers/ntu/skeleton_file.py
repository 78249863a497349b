"""The `.skeleton` text format of NTU RGB+D: checked when read, written back without loss."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kinegraph.errors import ReadError
from kinegraph.readers.formats.raw_file import read_bytes

NUM_JOINTS = 25
JOINT_FIELDS = (
    "x", "y", "z", "depth_x", "depth_y", "color_x", "color_y",
    "orientation_w", "orientation_x", "orientation_y", "orientation_z", "tracking_state",
)  # fmt: skip
"""The twelve columns of a joint's line; x, y and z are meters from the sensor."""
BODY_FIELDS = (
    "clipped_edges", "hand_left_confidence", "hand_left_state", "hand_right_confidence",
    "hand_right_state", "is_restricted", "lean_x", "lean_y", "tracking_state",
)  # fmt: skip
"""The nine numbers after the body id in a body's first line."""
MAX_SKELETON_FRAMES = 100_000
"""An hour at 30 frames/s; a frame without bodies takes 2 bytes of a file, 600 of a clip."""

_LINES_PER_BODY = 2 + NUM_JOINTS


@dataclass(frozen=True, eq=False)
class Body:
    """One body in one frame, with every number of the file."""

    id: str  # the sensor's id as text; ids exceed 2^53, so floats would merge bodies
    state: tuple[float, ...]  # the nine numbers named in `BODY_FIELDS`
    values: NDArray[np.float64]  # (25, 12), the columns named in `JOINT_FIELDS`

    @property
    def joints(self) -> NDArray[np.float64]:
        """(25, 3): x, y, z in meters."""
        return self.values[:, :3]


@dataclass(frozen=True, eq=False)
class BodyDetections:
    """The joints of a recording, with one entry per body and frame, in file order."""

    num_frames: int  # T; a frame may have no body
    frames: NDArray[np.int64]  # (B,), the frame of each entry, ascending
    ids: Sequence[str]  # B, the sensor's body id of each entry, as text
    joints: NDArray[np.float64]  # (B, 25, 3), meters


@dataclass(frozen=True, eq=False)
class SkeletonRecording:
    """The content of a `.skeleton` file."""

    frames: Sequence[Sequence[Body]]  # per frame its bodies in file order; a frame may have none
    newline: str = "\r\n"  # the line ending of the file, "\r\n" in the published ones

    @property
    def detections(self) -> BodyDetections:
        """The joints alone, body by body."""
        found = [(t, body) for t, bodies in enumerate(self.frames) for body in bodies]
        return BodyDetections(
            len(self.frames),
            np.array([t for t, _ in found], dtype=np.int64),
            [body.id for _, body in found],
            np.array([body.joints for _, body in found]).reshape(-1, NUM_JOINTS, 3),
        )


def write_skeleton(path: Path | str, recording: SkeletonRecording) -> None:
    """Write a recording as a `.skeleton` file.

    Numbers are written in their shortest form ("0", "3.785547", "-7.257856E-05"), as in the
    published files; reading them back gives the same float64 values and body ids.
    """
    text = recording.newline.join([*_format_lines(recording), ""])
    Path(path).write_bytes(text.encode("ascii"))


def _format_lines(recording: SkeletonRecording) -> Iterator[str]:
    yield str(len(recording.frames))
    for bodies in recording.frames:
        yield str(len(bodies))
        for body in bodies:
            yield " ".join([body.id, *map(_format_number, body.state)])
            yield str(len(body.values))
            for row in body.values.tolist():
                yield " ".join(map(_format_number, row))


def _format_number(value: float) -> str:
    if value != value:
        return "NaN"
    return repr(float(value)).removesuffix(".0").upper()


def read_skeleton(path: Path, content: bytes | None = None) -> SkeletonRecording:
    """Parse a `.skeleton` file, or its content if that is given.

    Both kinds of line ends, spaces at the ends of lines and NaN columns are accepted.

    Raises:
        ReadError: the file cannot be opened, has another form, is cut off, or a body does not
            have 25 joints of 12 numbers; the message names the line.
    """
    return _SkeletonParser(path, read_bytes(path) if content is None else content).parse()


class _SkeletonParser:
    """A parser that reads line by line; ``row`` is the index of the next line."""

    def __init__(self, path: Path, content: bytes) -> None:
        self.path = path
        self.lines = content.split(b"\n")
        self.row = 0

    def parse(self) -> SkeletonRecording:
        if not self.lines[0].strip():
            raise self._error("expected the number of frames", 0)
        count = self._count("the number of frames", len(self.lines) - 1)
        if count > MAX_SKELETON_FRAMES:
            raise self._error(f"expected at most {MAX_SKELETON_FRAMES} frames, got {count}")
        frames = [self._frame() for _ in range(count)]
        for row in range(self.row, len(self.lines)):
            if rest := self.lines[row].strip():
                raise self._error(
                    f"expected the end after the last frame, got {_shorten(rest)}", row
                )
        return SkeletonRecording(frames, "\r\n" if self.lines[0].endswith(b"\r") else "\n")

    def _frame(self) -> list[Body]:
        most = (len(self.lines) - self.row) // _LINES_PER_BODY
        return [self._body() for _ in range(self._count("the number of bodies", most))]

    def _body(self) -> Body:
        body_id, *state = self._fields("a body's 10 fields", 1 + len(BODY_FIELDS))
        if not body_id.isdigit():
            raise self._error(f"expected a body id of digits, got {_shorten(body_id)}")
        numbers = self._numbers(state)
        joints = self._count("the number of joints")
        if joints != NUM_JOINTS:
            raise self._error(f"expected {NUM_JOINTS} joints, got {joints}")
        width = len(JOINT_FIELDS)
        values = [
            self._numbers(self._fields(f"a joint's {width} numbers", width))
            for _ in range(NUM_JOINTS)
        ]
        return Body(body_id.decode(), tuple(numbers), np.array(values))

    def _fields(self, what: str, count: int) -> list[bytes]:
        """Return the fields of the next line, which must have so many."""
        fields = self.lines[self.row].split() if self.row < len(self.lines) else []
        if len(fields) != count:
            if not fields and not b"".join(self.lines[self.row :]).strip():
                last = min(self.row, len(self.lines) - 1)
                raise self._error(f"expected {what}, but the file ends here; it is cut off", last)
            raise self._error(f"expected {what}, got {len(fields)} fields", self.row)
        self.row += 1
        return fields

    def _count(self, what: str, most: int | None = None) -> int:
        token = self._fields(what, 1)[0]
        # Python would compute a huge number from more than ten digits
        if not token.isdigit() or len(token) > 10:
            raise self._error(f"expected {what}, got {_shorten(token)}")
        count = int(token)
        if most is not None and count > most:
            raise self._error(
                f"{what} is {count}, but only {len(self.lines) - self.row} lines follow; "
                "the file is cut off or damaged"
            )
        return count

    def _numbers(self, tokens: Sequence[bytes]) -> list[float]:
        """Return the numbers of the line that was read last."""
        try:
            if b"_" not in self.lines[self.row - 1]:
                return list(map(float, tokens))
        except ValueError:
            pass
        return [self._number(token) for token in tokens]

    def _number(self, token: bytes) -> float:
        try:
            if b"_" not in token:
                return float(token)
        except ValueError:
            # NaN as Windows C libraries write it: -1.#IND, 1.#QNAN, -nan(ind)
            if token.lstrip(b"+-").lower().startswith((b"1.#", b"nan")):
                return float("nan")
        raise self._error(f"expected a number, got {_shorten(token)}")

    def _error(self, message: str, row: int | None = None) -> ReadError:
        """Return an error in a row, by default in the one that was read last."""
        return ReadError(f"{self.path}:{self.row if row is None else row + 1}: {message}")


def _shorten(token: bytes) -> str:
    text = token[:24].decode("ascii", "backslashreplace")
    return repr(text + "..." if len(token) > 24 else text)
