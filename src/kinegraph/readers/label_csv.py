"""Reads clips.csv, the list by which users label their own array files."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kinegraph.clips.clip import MetaValue
from kinegraph.errors import ReadError

NAME = "clips.csv"
CLASSES = "classes.txt"

_WHOLE = re.compile(r"-?\d{1,15}")
_PLAIN_WHOLE = re.compile(r"-?(0|[1-9]\d{0,14})")
_NUMBER = re.compile(r"-?\d+(\.\d*)?([eE][-+]?\d{1,2})?")


@dataclass(frozen=True)
class ListedClip:
    """One row: a file with what the list says of it."""

    path: Path
    label: int | None
    meta: Mapping[str, MetaValue]


@dataclass
class ClipList:
    """A whole list: its clips, the class names by label, and the rows that are no clips."""

    clips: list[ListedClip] = field(default_factory=list)
    classes: tuple[str, ...] | None = None
    refused: list[tuple[Path, str]] = field(default_factory=list)


@dataclass(frozen=True)
class _Row:
    where: str
    path: Path
    label: str
    rest: tuple[str, ...]


def read_clip_list(folder: Path, suffixes: Sequence[str]) -> ClipList:
    """The clips that ``clips.csv`` lists.

    Its columns are ``file`` (relative to the folder, inside of it), ``label`` (a name or a
    number, empty if unknown) and any others, which become meta: numbers where all rows of a
    column are numbers, otherwise texts. Classes are the names in ``classes.txt``, one a line, or
    else the distinct label names, sorted; labels that are numbers without ``classes.txt`` have no
    names.

    Args:
        folder: where clips.csv is.
        suffixes: of files that can be read.

    Raises:
        ReadError: no table, no column ``file``, labels of which some are names and some numbers.
    """
    result = ClipList()
    header, rows = _table(folder / NAME, suffixes, result)
    result.classes = _classes(folder, [row.label for row in rows if row.label])
    columns = [_typed(values) for values in zip(*(row.rest for row in rows), strict=True)]
    for index, row in enumerate(rows):
        meta = {key: column[index] for key, column in zip(header, columns, strict=True)}
        try:
            label = _label(row, result.classes)
        except ReadError as error:
            result.refused.append((row.path, str(error)))
        else:
            facts = {key: value for key, value in meta.items() if value is not None}
            result.clips.append(ListedClip(row.path, label, facts))
    return result


def _table(
    path: Path, suffixes: Sequence[str], result: ClipList
) -> tuple[tuple[str, ...], list[_Row]]:
    """The names of the meta columns, and the usable rows."""
    lines = read_csv_rows(path)
    _, header = next(lines, (0, []))
    header = [name.strip() for name in header]
    if "file" not in header or len(set(header)) < len(header):
        hint = "; separate the columns by commas" if any(";" in name for name in header) else ""
        raise ReadError(
            f"{path}:1: expected distinct column names with 'file' among them, "
            f"got {', '.join(header)[:200]!r}{hint}"
        )
    rows: list[_Row] = []
    taken: set[Path] = set()
    for number, cells in lines:
        where, named = f"{path.name}:{number}", path.parent / _cell(header, cells, "file")
        reason = _unusable(path.parent, named, suffixes, len(header), cells, taken)
        if reason:
            result.refused.append((named, f"{where}: {reason}"))
            continue
        taken.add(named.with_suffix(""))
        rest = tuple(c.strip() for h, c in _others(header, cells))
        rows.append(_Row(where, named, _cell(header, cells, "label"), rest))
    return tuple(h for h, _ in _others(header, header)), rows


def read_csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The lines of a .csv file that are not blank, with their numbers.

    Raises:
        ReadError: the file is missing or no text.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file)
            for cells in lines:
                if any(cell.strip() for cell in cells):
                    yield lines.line_num, cells
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ReadError(f"{path}: cannot be read as a .csv table: {error}") from error


def _others(header: Sequence[str], cells: Sequence[str]) -> Iterator[tuple[str, str]]:
    pairs = zip(header, cells, strict=True)
    return ((h, c) for h, c in pairs if h not in ("file", "label"))


def _cell(header: Sequence[str], cells: Sequence[str], name: str) -> str:
    index = header.index(name) if name in header else len(cells)
    return cells[index].strip() if index < len(cells) else ""


def _unusable(
    folder: Path,
    path: Path,
    suffixes: Sequence[str],
    width: int,
    cells: Sequence[str],
    taken: set[Path],
) -> str:
    """Why a row is no clip; empty if it is one."""
    if len(cells) != width:
        return f"expected {width} columns, got {len(cells)}"
    if path == folder:
        return "no file is named"
    if "\0" in str(path) or not path.resolve().is_relative_to(folder.resolve()):
        return "the file lies outside of the folder"
    if path.suffix not in suffixes:
        return f"expected a file of type {', '.join(suffixes)}"
    if not path.is_file():
        return "there is no such file"
    if path.with_suffix("") in taken:
        return "a clip of this name is already listed"
    return ""


def _classes(folder: Path, labels: Sequence[str]) -> tuple[str, ...] | None:
    if (folder / CLASSES).is_file():
        return _class_file(folder / CLASSES)
    names = sorted({label for label in labels if not _WHOLE.fullmatch(label)})
    numbers = sorted({label for label in labels if _WHOLE.fullmatch(label)})
    if names and numbers:
        raise ReadError(
            f"{folder / NAME}: labels are names ({names[0]!r}) and numbers ({numbers[0]!r}); "
            f"use one kind, or list the class names in {CLASSES}, one a line"
        )
    return tuple(names) or None


def _class_file(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ReadError(f"{path}: cannot be read as class names: {error}") from error
    names = [line.strip() for line in lines if line.strip()]
    repeated = [name for index, name in enumerate(names) if name in names[:index]]
    if not names or repeated:
        what = f"{repeated[0]!r} twice" if repeated else "none"
        raise ReadError(f"{path}: expected distinct class names, one a line, got {what}")
    return tuple(names)


def _label(row: _Row, classes: tuple[str, ...] | None) -> int | None:
    if not row.label:
        return None
    if classes is not None and row.label in classes:
        return classes.index(row.label)
    if not _WHOLE.fullmatch(row.label):
        raise ReadError(f"{row.where}: {CLASSES} does not list the label {row.label!r}")
    label = int(row.label)
    if label < 0 or (classes is not None and label >= len(classes)):
        largest = f" and below {len(classes)}" if classes else ""
        raise ReadError(f"{row.where}: expected a label of 0 or more{largest}, got {label}")
    return label


def _typed(cells: Sequence[str]) -> list[MetaValue]:
    """A column as whole numbers, else as numbers, else as texts; empty cells as None."""
    filled = [cell for cell in cells if cell]
    # 007 stays a text: as a number it would lose its zeros
    if all(_PLAIN_WHOLE.fullmatch(cell) for cell in filled):
        return [int(cell) if cell else None for cell in cells]
    if all(_NUMBER.fullmatch(cell) and not re.match(r"-?0\d", cell) for cell in filled):
        return [float(cell) if cell else None for cell in cells]
    return [cell or None for cell in cells]
