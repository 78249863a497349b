"""Tables of joints: .csv files with one row per frame and person, whose columns have names."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinegraph.errors import ReadError
from kinegraph.readers.formats.numpy_file import to_float32
from kinegraph.readers.formats.table_file import CsvFile, open_csv
from kinegraph.readers.frame_columns import (
    CONFIDENCE_NAMES,
    COORDINATE_NAMES,
    FrameColumns,
    list_columns,
    match_columns,
)
from kinegraph.skeleton.layout import SkeletonLayout

MAX_CELLS_PER_ROW = 20
"""Maximum cells (frame, person) per row of the table; frames without a row are absent."""

_FREE_CELLS = 1000
_MAX_FPS = 1000
_FRAME_NAMES = {
    "frame", "frames", "frameid", "frameidx", "frameindex", "frameno", "framenum", "framenumber",
    "framenr",
}  # fmt: skip
_PERSON_NAMES = {
    "person", "personid", "personidx", "personindex", "track", "trackid", "tracks", "individual",
    "individuals", "player", "playerid", "body", "bodyid", "skeletonid", "pid", "tid", "instance",
    "instanceid", "animal",
}  # fmt: skip
_JOINT_NAMES = {
    "joint", "jointname", "jointid", "jointidx", "jointindex", "keypoint", "keypointname",
    "keypointid", "landmark", "landmarkname", "landmarkid", "landmarkindex", "bodypart", "part",
    "point", "pointid", "marker", "node", "type",
}  # fmt: skip
_SECONDS_PER_UNIT = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_TIME_NAMES = {
    **dict.fromkeys(("timestamp", "timestamps", "time", "t", "ts"), ""),
    **dict.fromkeys(("times", "timesec", "timeseconds", "seconds", "sec", "secs"), "s"),
    **dict.fromkeys(("timems", "timestampms", "ms", "msec", "milliseconds"), "ms"),
    **dict.fromkeys(("timeus", "timestampus", "us", "microseconds"), "us"),
    **dict.fromkeys(("timens", "timestampns", "ns", "nanoseconds"), "ns"),
}
_FPS_NAMES = {"fps", "framerate", "framespersecond"}


@dataclass(frozen=True)
class FrameTable:
    """The joints of a table.

    Attributes:
        joints: (M, T, V, D); NaN where a cell or a row is missing.
        confidence: (M, T, V), or None.
        fps: the frame rate that a column states or time stamps show, or None.
        notes: sentences about what was guessed or left out.
    """

    joints: NDArray[np.float32]
    confidence: NDArray[np.float32] | None
    fps: float | None
    notes: tuple[str, ...]


class _Roles(NamedTuple):
    """Columns that do not hold joints: index of the column, or None."""

    frame: int | None
    person: int | None
    time: int | None
    fps: int | None


def read_frame_table(
    path: Path, layout: SkeletonLayout, confidence: bool | None = None
) -> FrameTable:
    """Return the joints of a table.

    The columns are understood by their names, see `match_columns`. A column ``frame`` holds frame
    numbers (without it each row is the next frame), a column ``person`` the names of persons,
    ``timestamp`` the time, ``fps`` the frame rate. Other columns are left out.

    Args:
        path: the .csv file.
        layout: the layout of the joints.
        confidence: whether the last number of a joint is a confidence; None goes by the names.

    Raises:
        ReadError: the file is not a table, a cell is not a number, the columns do not fit the
            layout, a frame occurs twice, or frame numbers are so far apart that most frames would
            be empty.
    """
    table = open_csv(path)
    header, rows = _split_header(table)
    header, rows = _widen(path, header, rows)
    header, time_notes = _find_unnamed_time(table, header, rows, layout)
    roles = _find_roles(header, rows)
    names = {i: name for i, name in enumerate(header) if i not in roles}
    try:
        columns = match_columns(names, layout, confidence)
    except ReadError as error:
        raise ReadError(f"{path}: {error}{_hint_at_list(header)}") from None
    times = _read_times(header, rows, roles.time)
    frames = _number_frames(path, rows, roles, times)
    values = _arrange_rows(path, columns, layout, _parse_values(table, rows, columns), frames)
    fps, rate_note = _find_rate(table, header, rows, roles, times, frames)
    used = {*columns.places.values(), roles.frame, roles.person, roles.fps}
    used |= {roles.time} if rate_note else set()
    left_out = [name or f"column {i + 1}" for i, name in enumerate(header) if i not in used]
    notes = [*table.notes, *time_notes, *columns.notes]
    if aside := ([f"left out: {list_columns(left_out)}"] if left_out else []) + rate_note:
        notes.append("; ".join(aside))
    joints, score = values[..., : len(columns.axes)], values[..., len(columns.axes) :]
    return FrameTable(joints, score[..., 0] if columns.confidence else None, fps, tuple(notes))


Rows = Sequence[tuple[int, list[str]]]


def _split_header(table: CsvFile) -> tuple[list[str], Rows]:
    """Return the names of the columns, empty ones for a table of numbers only, and the rows."""
    rows = list(table.rows())
    if not rows:
        raise ReadError(f"{table.path}: expected a first line with column names, the file is empty")
    header = [name.strip() for name in rows[0][1]]
    if _are_column_numbers(header):  # as pandas writes them, with or without its index
        header, rows = ["" if name else "frame" for name in header], rows[1:]
    elif all(table.parse_number(name) is not None for name in header):
        header = [""] * len(header)
    else:
        rows = rows[1:]
        if rows and sum(map(_is_part, rows[0][1])) > len(header) // 2:  # as pandas writes two
            parts = [cell.strip() for cell in rows[0][1]]
            header = [f"{a}_{b}" if b else a for a, b in zip(header, parts, strict=False)]
            rows = rows[1:]
    if not rows:
        raise ReadError(f"{table.path}: expected at least one frame, the table has no rows")
    for i, (number, cells) in enumerate(rows):
        if len(cells) == len(header) + 1 and not cells[-1].strip():
            rows[i] = number, cells[:-1]  # a separator at the end of the line
        elif len(cells) != len(header):
            raise ReadError(
                f"{table.path}:{number}: expected {len(header)} columns, got {len(cells)}"
            )
    return header, rows


def _are_column_numbers(header: Sequence[str]) -> bool:
    numbers = header[1:] if not header[0] else header
    return len(numbers) > 1 and list(numbers) == [str(i) for i in range(len(numbers))]


def _is_part(cell: str) -> bool:
    return cell.strip().lower() in (*COORDINATE_NAMES, *CONFIDENCE_NAMES)


def _widen(path: Path, header: list[str], rows: Rows) -> tuple[list[str], Rows]:
    """Return a table of one row per joint, which has a column of joints, with one row per frame."""
    plain = [_squeeze_name(name) for name in header]
    joint = next((i for i, name in enumerate(plain) if name in _JOINT_NAMES), None)
    parts = [i for i, name in enumerate(header) if _is_part(name)]
    if joint is None or not {"x", "y"} <= {header[i].lower() for i in parts}:
        return header, rows
    facts = [i for i in range(len(header)) if i != joint and i not in parts]
    if not {plain[i] for i in facts} & {*_FRAME_NAMES, *_TIME_NAMES}:
        raise ReadError(f"{path}: a table of one row per joint needs a column 'frame'")
    keys = [i for i in facts if plain[i] in (*_FRAME_NAMES, *_TIME_NAMES, *_PERSON_NAMES, "id")]
    names = list(dict.fromkeys(cells[joint].strip() for _, cells in rows))
    place = {name: len(facts) + k * len(parts) for k, name in enumerate(names)}
    wide: dict[tuple[str, ...], tuple[int, list[str]]] = {}
    for number, cells in rows:
        key = tuple(cells[i] for i in keys)
        empty = [""] * (len(names) * len(parts))
        _, row = wide.setdefault(key, (number, [cells[i] for i in facts] + empty))
        start = place[cells[joint].strip()]
        if any(row[start : start + len(parts)]):
            where = f"joint {cells[joint].strip()!r:.40}"
            raise ReadError(f"{path}:{number}: {where} is given twice for one frame and person")
        row[start : start + len(parts)] = [cells[i] for i in parts]
    named = [f"{header[i]}_{name}" for name in names for i in parts]
    return [header[i] for i in facts] + named, list(wide.values())


def _find_unnamed_time(
    table: CsvFile, header: list[str], rows: Rows, layout: SkeletonLayout
) -> tuple[list[str], list[str]]:
    """Return the columns of a table without names, the first one as a time, and a note of it."""
    V = layout.num_joints
    if any(header) or (len(header) - 1) % V or not len(header) % V or len(rows) < 2:
        return header, []
    times = [table.parse_number(cells[0]) or 0.0 for _, cells in rows]
    if not all(before < after for before, after in pairwise(times)):
        return header, []
    note = "the first column, which increases, is taken for the time [guess]"
    return ["timestamp", *header[1:]], [note]


def _squeeze_name(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


def _find_roles(header: Sequence[str], rows: Rows) -> _Roles:
    plain = [_squeeze_name(name) for name in header]

    def find(names: Iterable[str]) -> int | None:
        return next((i for i, name in enumerate(plain) if name in names), None)

    frame, person = find(_FRAME_NAMES), find(_PERSON_NAMES)
    if person is None and frame is not None and (number := find({"id"})) is not None:
        frames = [cells[frame] for _, cells in rows]
        person = number if len(set(frames)) < len(frames) else None  # else it numbers the rows
    return _Roles(frame, person, find(_TIME_NAMES), find(_FPS_NAMES))


def _hint_at_list(header: Sequence[str]) -> str:
    is_list = {name.lower() for name in header} & {"file", "filename", "path"}
    return "; a list of clips is named clips.csv" if is_list else ""


def _parse_values(table: CsvFile, rows: Rows, columns: FrameColumns) -> NDArray[np.float32]:
    """Return the numbers of the columns that are used, (rows, columns), in ascending order."""
    used = sorted(columns.places.values())
    values = np.empty((len(rows), len(used)))
    for r, (number, cells) in enumerate(rows):
        for k, index in enumerate(used):
            value = table.parse_number(cells[index])
            if value is None:
                raise ReadError(
                    f"{table.path}:{number}: expected a number, got {cells[index].strip()!r:.80}"
                )
            values[r, k] = value
    return to_float32(values)


def _number_frames(
    path: Path, rows: Rows, roles: _Roles, times: NDArray[np.float64] | None
) -> list[tuple[str, int]]:
    """Return (person, frame) of each row."""
    persons = ["" if roles.person is None else cells[roles.person].strip() for _, cells in rows]
    if roles.frame is not None:
        frames = [_parse_frame_number(f"{path}:{n}", cells[roles.frame]) for n, cells in rows]
    elif len(set(persons)) == 1:
        frames = list(range(len(rows)))
    elif times is not None:
        frames = np.unique(times, return_inverse=True)[1].tolist()
    else:
        raise ReadError(f"{path}: a column 'person' needs a column 'frame'")
    seen: set[tuple[str, int]] = set()
    for (number, _), key in zip(rows, zip(persons, frames, strict=True), strict=True):
        if key in seen:
            hint = "; several clips need a file each"
            if roles.person is None:
                hint = f"; name the column of the persons 'person'{hint}"
            raise ReadError(f"{path}:{number}: frame {key[1]} is given twice for one person{hint}")
        seen.add(key)
    return list(zip(persons, frames, strict=True))


def _parse_frame_number(where: str, cell: str) -> int:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if abs(value) < 2**31 and value.is_integer():
        return int(value)
    raise ReadError(f"{where}: expected a frame number, got {cell.strip()!r:.80}")


def _arrange_rows(
    path: Path,
    columns: FrameColumns,
    layout: SkeletonLayout,
    values: NDArray[np.float32],
    places: Sequence[tuple[str, int]],
) -> NDArray[np.float32]:
    """Return (M, T, V, width), persons in the order in which they appear."""
    persons = {name: m for m, name in enumerate(dict.fromkeys(person for person, _ in places))}
    first = min(frame for _, frame in places)
    num_frames = max(frame for _, frame in places) - first + 1
    if len(persons) * num_frames > MAX_CELLS_PER_ROW * len(places) + _FREE_CELLS:
        raise ReadError(
            f"{path}: {len(places)} rows for {len(persons)} persons over {num_frames} frames; "
            "check the columns 'frame' and 'person'"
        )
    parts = (*columns.axes, *([columns.confidence] if columns.confidence else []))
    shape = (len(persons), len(columns.persons), num_frames, layout.num_joints, len(parts))
    filled = np.full(shape, np.nan, dtype=np.float32)
    rows = [persons[person] for person, _ in places], [frame - first for _, frame in places]
    order = {index: k for k, index in enumerate(sorted(columns.places.values()))}
    for (person, joint, part), index in columns.places.items():
        where = columns.persons.index(person), joint, parts.index(part)
        filled[rows[0], where[0], rows[1], where[1], where[2]] = values[:, order[index]]
    return filled.reshape(-1, *shape[2:])


def _read_times(
    header: Sequence[str], rows: Rows, column: int | None
) -> NDArray[np.float64] | None:
    """Return the time of each row in the file's unit, or None if there is none that can be read."""
    if column is None:
        return None
    times = []
    for _, cells in rows:
        cell = cells[column].strip().replace(",", ".")
        try:
            times.append(float(cell))
        except ValueError:
            try:
                times.append(datetime.fromisoformat(cell).timestamp())
            except ValueError:
                return None
    return np.array(times) if np.isfinite(times).all() else None


def _find_rate(
    table: CsvFile,
    header: Sequence[str],
    rows: Rows,
    roles: _Roles,
    times: NDArray[np.float64] | None,
    frames: Sequence[tuple[str, int]],
) -> tuple[float | None, list[str]]:
    """Return the frame rate of the table, and a note if time stamps show it."""
    if roles.fps is not None:
        stated = {table.parse_number(cells[roles.fps]) for _, cells in rows}
        rate = stated.pop() if len(stated) == 1 else None
        if rate is None or not 0 < rate < math.inf:
            raise ReadError(f"{table.path}: expected column {header[roles.fps]!r} to be one number")
        return rate, []
    if times is None or roles.time is None:
        return None, []
    step = _regular_step(np.array([frame for _, frame in frames]), times)
    if step is None:
        return None, []
    name = header[roles.time]
    unit = _TIME_NAMES[_squeeze_name(name)]
    guess = "" if unit else " [guess]"
    unit = unit or _guess_unit(step)
    rate = 1 / (step * _SECONDS_PER_UNIT[unit])
    if not 1 <= rate <= _MAX_FPS or (guess and step == 1):  # 1, 2, 3: a counter
        return None, []
    rate = float(f"{rate:.4g}")
    return rate, [f"{rate:g} frames/s by the column {name}, in {unit}{guess}"]


def _regular_step(frames: NDArray[np.int64], times: NDArray[np.float64]) -> float | None:
    """Return the time from frame to frame if it is regular, but for rounding, else None."""
    span = int(frames.max() - frames.min())
    if span == 0:
        return None
    first, last = int(frames.argmin()), int(frames.argmax())
    step = float(times[last] - times[first]) / span
    off = np.abs(times - times[first] - step * (frames - frames[first]))
    return step if step > 0 and bool((off < 0.5 * step).all()) else None


def _guess_unit(step: float) -> str:
    return "s" if step < 1 else "ms" if step < 1000 else "us" if step < 1e6 else "ns"
