"""The `.skeleton` text of NTU RGB+D, parsed without trust and written back without loss."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kinegraph.errors import ReadError

NUM_JOINTS = 25
JOINT_FIELDS = (
    "x", "y", "z", "depth_x", "depth_y", "colour_x", "colour_y",
    "orientation_w", "orientation_x", "orientation_y", "orientation_z", "tracking_state",
)  # fmt: skip
"""The twelve columns of a joint's line; x, y and z are metres from the sensor."""
BODY_FIELDS = (
    "clipped_edges", "hand_left_confidence", "hand_left_state", "hand_right_confidence",
    "hand_right_state", "is_restricted", "lean_x", "lean_y", "tracking_state",
)  # fmt: skip
"""The nine numbers after the body id in a body's first line."""

MAX_FRAMES = 100_000
"""An hour at 30 frames a second; a frame without bodies takes 2 bytes of a file, 600 of a clip."""

LINES_PER_BODY = 2 + NUM_JOINTS

_NUM_FIELDS = len(JOINT_FIELDS)
_TRACKED = 2.0


@dataclass(frozen=True, eq=False)
class Body:
    """One body in one frame, every number of the file.

    Attributes:
        id: the sensor's id as text; it exceeds 2^53, so a float would merge bodies.
        state: the nine numbers named in `BODY_FIELDS`.
        values: (25, 12) float64, the columns named in `JOINT_FIELDS`.
    """

    id: str
    state: tuple[float, ...]
    values: NDArray[np.float64]

    @property
    def joints(self) -> NDArray[np.float64]:
        """(25, 3): x, y, z in metres."""
        return self.values[:, :3]


@dataclass(frozen=True, eq=False)
class SkeletonRecording:
    """All that a `.skeleton` file says.

    Attributes:
        frames: per frame its bodies in file order; a frame may have none.
        newline: the line ending of the file, "\\r\\n" in the published ones.
    """

    frames: Sequence[Sequence[Body]]
    newline: str = field(default="\r\n")

    @classmethod
    def from_joints(cls, joints: ArrayLike, ids: Sequence[str] | None = None) -> SkeletonRecording:
        """A recording that holds these joints: what `write_skeleton` needs for made-up data.

        Args:
            joints: (M, T, 25, 3) metres; a person whose joints are all NaN in a frame is left
                out of it, a single NaN joint is written as "NaN". Values are kept to float32.
            ids: one body id per person; by default 72057594037927936, ...937, and so on.

        Raises:
            ReadError: an array of another shape, ids of another number.
        """
        values = _shortest_float64(joints)
        if values.ndim != 4 or values.shape[2:] != (NUM_JOINTS, 3):
            raise ReadError(
                f"expected joints of shape (persons, frames, 25, 3), got {values.shape}"
            )
        ids = [str(2**56 + m) for m in range(len(values))] if ids is None else list(ids)
        if len(ids) != len(values):
            raise ReadError(f"expected {len(values)} body ids, one a person, got {len(ids)}")
        return cls([_bodies_of_frame(values[:, t], ids) for t in range(values.shape[1])])

    @property
    def detections(self) -> BodyDetections:
        """The joints alone, body by body."""
        found = [(t, body) for t, bodies in enumerate(self.frames) for body in bodies]
        joints = [body.joints for _, body in found]
        return BodyDetections(
            len(self.frames),
            np.array([t for t, _ in found], dtype=np.int64),
            [body.id for _, body in found],
            np.stack(joints) if joints else np.zeros((0, NUM_JOINTS, 3)),
        )


@dataclass(frozen=True, eq=False)
class BodyDetections:
    """What a clip needs of a recording: who was where, one entry a body in a frame, in file order.

    Attributes:
        num_frames: T; a frame may have no body.
        frames: the frame of each of the B bodies, ascending.
        ids: of each body, the sensor's id as text.
        joints: (B, 25, 3) float64, metres.
    """

    num_frames: int
    frames: NDArray[np.int64]
    ids: Sequence[str]
    joints: NDArray[np.float64]


def _shortest_float64(joints: ArrayLike) -> NDArray[np.float64]:
    """float64 numbers with the shortest text of the float32 ones (0.1, not 0.10000000149)."""
    return np.asarray(joints, dtype=np.float32).astype("U32").astype(np.float64)


def _bodies_of_frame(joints: NDArray[np.float64], ids: Sequence[str]) -> list[Body]:
    present = ~np.isnan(joints).all(axis=(1, 2))
    return [_body(joints[m], ids[m]) for m in np.flatnonzero(present).tolist()]


def _body(joints: NDArray[np.float64], body_id: str) -> Body:
    values = np.zeros((NUM_JOINTS, _NUM_FIELDS))
    values[:, :3] = joints
    values[:, -1] = _TRACKED
    return Body(body_id, (*[0.0] * (len(BODY_FIELDS) - 1), _TRACKED), values)


# --------------------------------------------------------------------- writing


def write_skeleton(path: Path | str, recording: SkeletonRecording) -> None:
    """Write a recording as a `.skeleton` file.

    Numbers are written in their shortest form ("0", "3.785547", "-7.257856E-05"), which is that
    of the published files; reading them back gives the same float64 values and body ids.
    """
    text = recording.newline.join([*_lines(recording), ""])
    Path(path).write_bytes(text.encode("ascii"))


def _lines(recording: SkeletonRecording) -> Iterator[str]:
    yield str(len(recording.frames))
    for bodies in recording.frames:
        yield str(len(bodies))
        for body in bodies:
            yield " ".join([body.id, *map(_number_text, body.state)])
            yield str(len(body.values))
            for row in body.values.tolist():
                yield " ".join(map(_number_text, row))


def _number_text(value: float) -> str:
    if value != value:
        return "NaN"
    return repr(float(value)).removesuffix(".0").upper()


# --------------------------------------------------------------------- reading


def read_skeleton(path: Path | str) -> SkeletonRecording:
    """Parse a `.skeleton` file.

    Line ends of either kind, spaces at the ends of lines and NaN columns are accepted.

    Raises:
        ReadError: the file cannot be opened, is no text of this form, is cut off, or has
            something else than 25 joints of 12 numbers; the message names the line.
    """
    path = Path(path)
    return parse_skeleton(path, read_bytes(path))


def read_bytes(path: Path) -> bytes:
    """All of a file.

    Raises:
        ReadError: the file cannot be opened.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ReadError(f"{path}: cannot be opened: {error.strerror}") from error


def parse_skeleton(path: Path, content: bytes) -> SkeletonRecording:
    """Parse the content of a `.skeleton` file; the path is for the messages.

    Raises:
        ReadError: as `read_skeleton` does.
    """
    return _Parser(path, content).recording()


class _Parser:
    """Walks the lines once, then turns all joint lines into numbers at once."""

    def __init__(self, path: Path, content: bytes) -> None:
        self.path = path
        self.lines = content.split(b"\n")
        self.newline = "\r\n" if self.lines[0].endswith(b"\r") else "\n"
        self.row = 0
        self.joint_rows: list[int] = []  # of each body, the index of its first joint line

    def recording(self) -> SkeletonRecording:
        if not b"".join(self.lines[:1]).strip():
            raise self._error("expected the number of frames", 0)
        count = self._count("the number of frames", len(self.lines) - 1)
        if count > MAX_FRAMES:
            raise self._error(f"expected at most {MAX_FRAMES} frames, got {count}", 0)
        headers = [self._frame() for _ in range(count)]
        self._expect_end()
        values = iter(self._joint_values())
        frames = [[Body(i, state, next(values)) for i, state in bodies] for bodies in headers]
        return SkeletonRecording(frames, self.newline)

    def _frame(self) -> list[tuple[str, tuple[float, ...]]]:
        most = (len(self.lines) - self.row) // LINES_PER_BODY
        return [self._header() for _ in range(self._count("the number of bodies", most))]

    def _header(self) -> tuple[str, tuple[float, ...]]:
        body_id, *state = self._tokens("a body's 10 fields", 1 + len(BODY_FIELDS))
        row = self.row - 1
        if not body_id.isdigit():
            raise self._error(f"expected a body id of digits, got {_shown(body_id)}", row)
        numbers = tuple(self._number(token, row) for token in state)
        joints = self._count("the number of joints")
        if joints != NUM_JOINTS:
            raise self._error(f"expected {NUM_JOINTS} joints, got {joints}", self.row - 1)
        if self.row + NUM_JOINTS > len(self.lines):
            raise self._cut_off(f"{NUM_JOINTS} joints", len(self.lines) - 1)
        self.joint_rows.append(self.row)
        self.row += NUM_JOINTS
        return body_id.decode(), numbers

    def _joint_values(self) -> NDArray[np.float64]:
        """(bodies, 25, 12)."""
        shape = (len(self.joint_rows), NUM_JOINTS, _NUM_FIELDS)
        if not self.joint_rows:
            return np.zeros(shape)
        rows = [line for r in self.joint_rows for line in self.lines[r : r + NUM_JOINTS]]
        try:
            values = np.loadtxt(rows, dtype=np.float64, comments=None, ndmin=2, encoding="latin1")
        except ValueError:
            values = np.zeros(0)
        if values.shape != (len(rows), _NUM_FIELDS):
            values = self._joint_values_by_line()
        return values.reshape(shape)

    def _joint_values_by_line(self) -> NDArray[np.float64]:
        """The same for files that numpy does not take: finds the line that is wrong."""
        values = []
        for first in self.joint_rows:
            for self.row in range(first, first + NUM_JOINTS):
                row = self.row
                tokens = self._tokens("a joint's 12 numbers", _NUM_FIELDS)
                values.append([self._number(token, row) for token in tokens])
        return np.array(values, dtype=np.float64)

    def _tokens(self, what: str, count: int) -> list[bytes]:
        if self.row >= len(self.lines):
            raise self._cut_off(what, self.row - 1)
        tokens = self.lines[self.row].split()
        if not tokens and not b"".join(self.lines[self.row :]).strip():
            raise self._cut_off(what, self.row)
        if len(tokens) != count:
            raise self._error(f"expected {what}, got {len(tokens)} fields", self.row)
        self.row += 1
        return tokens

    def _count(self, what: str, most: int | None = None) -> int:
        token = self._tokens(what, 1)[0]
        # more than ten digits would only make Python compute a huge number
        if not token.isdigit() or len(token) > 10:
            raise self._error(f"expected {what}, got {_shown(token)}", self.row - 1)
        count = int(token)
        if most is not None and count > most:
            raise self._error(
                f"{what} is {count}, but only {len(self.lines) - self.row} lines follow; "
                "the file is cut off or damaged",
                self.row - 1,
            )
        return count

    def _number(self, token: bytes, row: int) -> float:
        if b"_" not in token:
            try:
                return float(token)
            except ValueError:
                # how Windows C libraries write a number that is none: -1.#IND, 1.#QNAN, -nan(ind)
                if token.lstrip(b"+-").lower().startswith((b"1.#", b"nan")):
                    return float("nan")
        raise self._error(f"expected a number, got {_shown(token)}", row)

    def _expect_end(self) -> None:
        for row in range(self.row, len(self.lines)):
            if self.lines[row].strip():
                got = _shown(self.lines[row].strip())
                raise self._error(f"expected the end after the last frame, got {got}", row)

    def _cut_off(self, what: str, row: int) -> ReadError:
        return self._error(f"expected {what}, but the file ends here; it is cut off", row)

    def _error(self, message: str, row: int) -> ReadError:
        return ReadError(f"{self.path}:{row + 1}: {message}")


def _shown(token: bytes) -> str:
    text = token[:24].decode("ascii", "backslashreplace")
    return repr(text + "..." if len(token) > 24 else text)
