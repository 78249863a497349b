"""Columns of a table of joints, understood by their names: joint, coordinate and confidence."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from kinegraph.errors import ReadError
from kinegraph.skeleton.joint_names import find_joint
from kinegraph.skeleton.layout import SkeletonLayout

COORDINATE_NAMES = ("x", "y", "z")

#: Names of a confidence, the most certain first.
CONFIDENCE_NAMES = (
    "score", "scores", "confidence", "conf", "likelihood", "visibility", "visible", "vis", "v",
    "c", "probability", "prob", "p", "presence", "s",
)  # fmt: skip

_NAME_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_]+")
_GENERAL_WORDS = {
    "joint", "joints", "j", "kp", "kpt", "kpts", "keypoint", "keypoints", "landmark", "landmarks",
    "lm", "point", "points", "pt", "pts", "marker", "node", "body", "pose", "skeleton", "part",
    "pos", "position", "coord", "coordinate", "px", "pixel", "pixels",
}  # fmt: skip
_PERSONS = {"person", "player", "individual", "track", "instance", "p", "id"}
_OTHER_THINGS = {"bbox", "bb", "box", "roi", "image", "img", "camera", "gaze", "center", "centroid"}
_MAX_JOINTS_SHOWN = 12


class ColumnMeaning(NamedTuple):
    """The meaning of the name of a column.

    Attributes:
        person: the person that it names, "" if none.
        point: the joint: an index of the layout, a number in the file's own count, or a text.
        kind: "named", "numbered", "bare" (a coordinate without a joint) or "unknown" (the layout
            has no such joint).
        part: an axis, or a name of a confidence.
    """

    person: str
    point: int | str
    kind: str
    part: str


Key = tuple[str, int, str]  # person, joint of the layout, axis or name of a confidence


@dataclass(frozen=True)
class FrameColumns:
    """Columns of the numbers of a table.

    Attributes:
        persons: names of the persons whose joints are in different columns; one "" as a rule.
        axes: the axes of every joint.
        confidence: the name of the confidence, "" if there is none.
        places: (person, joint, axis or confidence) -> index of the column.
        notes: sentences about what was guessed.
    """

    persons: tuple[str, ...]
    axes: tuple[str, ...]
    confidence: str
    places: Mapping[Key, int]
    notes: tuple[str, ...] = ()


def match_columns(
    names: Mapping[int, str], layout: SkeletonLayout, confidence: bool | None
) -> FrameColumns:
    """Return which column holds which number of which joint.

    Joints are named (x_nose, nose_x, nose.x) or numbered from 0 or 1 (x0, x1, joint3_y). Columns
    without such names are taken in their order if their number fits exactly, as a guess.

    Args:
        names: index -> name of the columns that may be of joints.
        layout: the layout of the joints.
        confidence: whether the last number of a joint is a confidence; None goes by the names.

    Raises:
        ReadError: the names contradict each other or the layout.
    """
    readings = {index: reading for index, name in names.items() if (reading := _read(name, layout))}
    kinds = {r.kind for r in readings.values() if r.part in COORDINATE_NAMES}
    if {"named", "numbered"} <= kinds:
        shown = [_example(readings, names, kind) for kind in ("named", "numbered")]
        raise ReadError(
            f"the column {shown[0]!r} names a joint and {shown[1]!r} numbers one: use one kind of "
            "names"
        )
    if "named" in kinds:
        return _match_named(readings, names, layout, confidence)
    if "numbered" in kinds:
        return _match_numbered(readings, names, layout, confidence)
    return _match_in_order(readings, names, layout, confidence)


def _read(name: str, layout: SkeletonLayout) -> ColumnMeaning | None:
    """Return the meaning of the name of a column, None if it is not of a joint."""
    words = _NAME_PART.findall(name)
    if words and len(words[-1]) > 1 and name[-1:].lower() in (*COORDINATE_NAMES, *"cvps"):
        joint = find_joint(layout, name[:-1])  # nosex
        if joint is not None and find_joint(layout, name) is None:
            return ColumnMeaning("", joint, "named", name[-1].lower())
    found = []
    for i, word in enumerate(words):
        part = word.lower()
        if part in COORDINATE_NAMES or part in CONFIDENCE_NAMES:
            person, point, kind = _find_point(words[:i] + words[i + 1 :], layout)
            found.append(ColumnMeaning(person, point, kind, part))
    known = [reading for reading in found if reading.kind != "unknown"]
    axes = [reading for reading in known or found if reading.part in COORDINATE_NAMES]
    if not known and not axes:
        return None
    return (axes or known)[0]


def _find_point(words: Sequence[str], layout: SkeletonLayout) -> tuple[str, int | str, str]:
    """Return (person, point, kind) of the words of a name without its coordinate."""
    if not words:
        return "", 0, "bare"
    joint = find_joint(layout, "_".join(words))
    if joint is not None:
        return "", joint, "named"
    short = [word for word in words if word.lower() not in _GENERAL_WORDS]
    if len(short) == 1 and short[0].isdecimal():
        return "", int(short[0]), "numbered"
    if len(words) > 2 and words[0].lower() in _PERSONS and words[1].isdecimal():
        _, point, kind = _find_point(words[2:], layout)
        return words[1], point, kind
    joint = find_joint(layout, "_".join(short)) if short else None
    if joint is not None:
        return "", joint, "named"
    return "", "_".join(words), "unknown"


def _match_named(
    readings: Mapping[int, ColumnMeaning],
    names: Mapping[int, str],
    layout: SkeletonLayout,
    confidence: bool | None,
) -> FrameColumns:
    unknown = _unknown_joints(readings)
    found = {r.point for r in readings.values() if r.kind == "named" and r.part in COORDINATE_NAMES}
    missing = [joint for i, joint in enumerate(layout.joints) if i not in found]
    if unknown and missing:
        raise ReadError(
            f"columns of {_join(unknown)}, which layout {layout.name!r} does not have, and none of "
            f"{_join(missing)}: name the columns as the joints, or use another layout (--layout)"
        )
    notes = [f"no columns for {_join(missing)}: these joints are absent"] if missing else []
    named = {index: r for index, r in readings.items() if r.kind == "named"}
    return _build(named, names, layout, confidence, notes)


def _match_numbered(
    readings: Mapping[int, ColumnMeaning],
    names: Mapping[int, str],
    layout: SkeletonLayout,
    confidence: bool | None,
) -> FrameColumns:
    numbered = {index: r for index, r in readings.items() if r.kind == "numbered"}
    numbers = {int(r.point) for r in numbered.values() if r.part in COORDINATE_NAMES}
    bare = Counter(
        r.part for r in readings.values() if r.kind == "bare" and r.part in COORDINATE_NAMES
    )
    if bare and max(bare.values()) == 1 and min(numbers) == 1:  # x, y, x.1, y.1, as pandas writes
        numbered |= {index: r for index, r in readings.items() if r.kind == "bare"}
        numbers.add(0)
    first, last, V = min(numbers), max(numbers), layout.num_joints
    if numbers != set(range(first, first + V)) or first > 1:
        gaps = sorted(set(range(first, last + 1)) - numbers)
        got = f"{len(numbers)} joints, from {first} to {last}"
        lacking = f" without {_join(map(str, gaps))}" if gaps else ""
        raise ReadError(
            f"expected columns of the {V} joints of layout {layout.name!r}, numbered from 0 or 1; "
            f"the columns are of {got}{lacking}"
        )
    shifted = {i: r._replace(point=int(r.point) - first) for i, r in numbered.items()}
    return _build(shifted, names, layout, confidence, [])


def _match_in_order(
    readings: Mapping[int, ColumnMeaning],
    names: Mapping[int, str],
    layout: SkeletonLayout,
    confidence: bool | None,
) -> FrameColumns:
    """Return the columns in their order: those of unknown joints by joint, else by their number."""
    readings = readings or _read_letters(names)
    unknown, V = _unknown_joints(readings), layout.num_joints
    if len(unknown) == V:
        order = {name: joint for joint, name in enumerate(unknown)}
        shifted = {
            i: r._replace(point=order[str(r.point)])
            for i, r in readings.items()
            if r.kind == "unknown" and r.point in order
        }
        note = (
            f"the columns name {_join(unknown)}: taken in this order for {_join(layout.joints)} "
            "[guess]"
        )
        return _build(shifted, names, layout, confidence, [note])
    bare = {i: r for i, r in readings.items() if r.kind == "bare"}
    if any(r.part in COORDINATE_NAMES for r in bare.values()):
        # x, y, x, y: the k-th of each is of joint k
        seen: Counter[str] = Counter()
        for i, r in bare.items():
            bare[i] = r._replace(point=seen[r.part])
            seen[r.part] += 1
        if {seen[axis] for axis in COORDINATE_NAMES if seen[axis]} == {V}:
            note = f"joints in the order of the layout: {_join(layout.joints)} [guess]"
            return _build(bare, names, layout, confidence, [note])
    return _match_by_count(names, layout, confidence)


def _read_letters(names: Mapping[int, str]) -> dict[int, ColumnMeaning]:
    """Return the meaning of names that all end, or all begin, with the letter of a coordinate."""
    for at, rest in ((-1, slice(None, -1)), (0, slice(1, None))):
        if all(len(name) > 1 and name[at].lower() in COORDINATE_NAMES for name in names.values()):
            return {
                index: ColumnMeaning("", name[rest], "unknown", name[at].lower())
                for index, name in names.items()
            }
    return {}


def _match_by_count(
    names: Mapping[int, str], layout: SkeletonLayout, confidence: bool | None
) -> FrameColumns:
    width, rest = divmod(len(names), layout.num_joints)
    if width == 4 and not rest and confidence is None:
        raise ReadError(
            "the names of the columns do not tell joints and coordinates, and there are 4 numbers "
            "for each joint: state --confidence true if the last one is its confidence, or "
            "--confidence false to leave it out"
        )
    if rest or width not in ((3, 4) if confidence else (2, 3, 4)):
        per_joint = "2 or 3 numbers and a confidence" if confidence else "2 or 3 numbers"
        example = f"x_{layout.joints[0]}, y_{layout.joints[0]}, ... or x0, y0, x1, y1, ..."
        raise ReadError(
            f"the names of the columns do not tell joints and coordinates, and {len(names)} "
            f"columns are not {per_joint} for each of the {layout.num_joints} joints of layout "
            f"{layout.name!r}: name them {example}; they are {_join(names.values())}"
        )
    axes = COORDINATE_NAMES[: min(3, width - bool(confidence))]
    parts = (*axes, *(("c",) if confidence else ()))
    columns = [*names]
    places = {
        ("", joint, part): columns[joint * width + k]
        for joint in range(layout.num_joints)
        for k, part in enumerate(parts)
    }
    return FrameColumns(
        ("",), axes, "c" if confidence else "", places,
        (f"{len(names)} columns taken in their order: {describe_order(layout, parts)} [guess]",),
    )  # fmt: skip


def describe_order(layout: SkeletonLayout, parts: Iterable[str]) -> str:
    """Return the order of numbers joint by joint in words, such as "x, y of nose, then ..."."""
    first, second = (*layout.joints, *layout.joints)[:2]
    return f"{', '.join(parts)} of {first}, then of {second}, and so on"


def _build(
    readings: Mapping[int, ColumnMeaning],
    names: Mapping[int, str],
    layout: SkeletonLayout,
    confidence: bool | None,
    notes: Iterable[str],
) -> FrameColumns:
    places: dict[Key, int] = {}
    for index, r in readings.items():
        key = (r.person, int(r.point), r.part)
        if key in places:
            what = f"{r.part} of {layout.joints[key[1]]}"
            raise ReadError(f"columns {names[places[key]]!r} and {names[index]!r} both give {what}")
        places[key] = index
    persons = tuple(dict.fromkeys(r.person for r in readings.values()))
    joints = sorted({joint for _, joint, part in places if part in COORDINATE_NAMES})
    wanted = _common_axes(places, persons, joints, layout)
    chosen = _choose_confidence(places, persons, joints)
    if confidence is False:
        chosen = ""
    elif confidence and not chosen:  # stated, but not named: the last number is one
        *axes, chosen = wanted
        if len(axes) < 2:
            raise ReadError("expected a third number for each joint, its confidence, found x and y")
        wanted = tuple(axes)
    kept = {key: index for key, index in places.items() if key[2] in (*wanted, chosen)}
    return FrameColumns(persons, wanted, chosen, kept, tuple(notes))


def _common_axes(
    places: Mapping[Key, int], persons: Sequence[str], joints: Sequence[int], layout: SkeletonLayout
) -> tuple[str, ...]:
    axes = tuple(axis for axis in COORDINATE_NAMES if any(part == axis for _, _, part in places))
    for person in persons:
        for joint in joints:
            lacking = [axis for axis in axes if (person, joint, axis) not in places]
            if lacking:
                whom = f" of person {person}" if person else ""
                raise ReadError(
                    f"no column for {' and '.join(lacking)} of {layout.joints[joint]}{whom}, which "
                    "other joints have"
                )
    if len(axes) < 2:
        raise ReadError(f"expected columns for x and y of each joint, found {axes[0]} only")
    return axes


def _choose_confidence(
    places: Mapping[Key, int], persons: Sequence[str], joints: Sequence[int]
) -> str:
    """Return the first name of a confidence that every joint has a column of, else ""."""
    for name in CONFIDENCE_NAMES:
        if all((person, joint, name) in places for person in persons for joint in joints):
            return name
    return ""


def _unknown_joints(readings: Mapping[int, ColumnMeaning]) -> list[str]:
    """Return the joints that columns name and the layout does not have."""
    axes = [r for r in readings.values() if r.kind == "unknown" and r.part in COORDINATE_NAMES]
    points = Counter(str(r.point) for r in axes)
    return [
        point
        for point, count in points.items()
        if count > 1 and not {word.lower() for word in point.split("_")} & _OTHER_THINGS
    ]


def _example(readings: Mapping[int, ColumnMeaning], names: Mapping[int, str], kind: str) -> str:
    return next(
        names[i] for i, r in readings.items() if r.kind == kind and r.part in COORDINATE_NAMES
    )


def _join(names: Iterable[str]) -> str:
    return list_columns([name[:20] for name in names], _MAX_JOINTS_SHOWN)


def list_columns(names: Sequence[str], shown: int = 40) -> str:
    """Return names as one text, those beyond the first by their number."""
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more} more" if more > 0 else "")
