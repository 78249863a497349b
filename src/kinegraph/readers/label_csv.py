"""The file clips.csv, in which users list and label their own array files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from kinegraph.clips.clip import MetaValue
from kinegraph.errors import ReadError
from kinegraph.readers.formats.csv_file import read_csv_rows
from kinegraph.readers.reader import ReadPlan, ReadTask
from kinegraph.skeleton.layout import SkeletonLayout

CLIPS_FILE = "clips.csv"
CLASSES_FILE = "classes.txt"

_INTEGER = re.compile(r"-?\d{1,15}")
_PLAIN_INTEGER = re.compile(r"-?(0|[1-9]\d{0,14})")
_REAL = re.compile(r"-?\d+(\.\d*)?([eE][-+]?\d{1,2})?")


class _ListRow(NamedTuple):
    where: str
    path: Path
    cells: Mapping[str, str]


def read_clip_list(folder: Path, suffixes: Sequence[str], layout: SkeletonLayout) -> ReadPlan:
    """Return the files that ``clips.csv`` lists as tasks with label and meta.

    Its columns are ``file`` (relative to the folder, inside of it), ``label`` (a name or a
    number, empty if unknown) and any others, which become meta: numbers if all rows of a column
    are numbers, otherwise text. Classes are the names in ``classes.txt``, one per line, or else
    the distinct label names, sorted; labels that are numbers without ``classes.txt`` have no
    names.

    Args:
        folder: the folder of clips.csv.
        suffixes: suffixes of files that can be read.
        layout: the layout of the plan.

    Raises:
        ReadError: the file is not a table, has no column ``file``, or has both names and numbers
            as labels.
    """
    rows, refused = _read_list_rows(folder / CLIPS_FILE, suffixes)
    labels = [row.cells.get("label", "") for row in rows]
    classes, tasks = _find_classes(folder, labels), []
    columns = [name for name in (rows[0].cells if rows else ()) if name not in ("file", "label")]
    meta = {name: _convert_column([row.cells[name] for row in rows]) for name in columns}
    for index, (row, label) in enumerate(zip(rows, labels, strict=True)):
        facts = {name: v[index] for name, v in meta.items() if v[index] is not None}
        try:
            number = _parse_label(row.where, label, classes)
        except ReadError as error:
            refused.append((row.path, str(error)))
        else:
            tasks.append(ReadTask(row.path, {"label": number, "meta": facts}))
    return ReadPlan(tasks, layout, classes, tuple(refused))


def _read_list_rows(
    path: Path, suffixes: Sequence[str]
) -> tuple[list[_ListRow], list[tuple[Path, str]]]:
    """Return the usable rows, and (file, reason) of the others."""
    lines = read_csv_rows(path)
    _, header = next(lines, (0, []))
    header = [name.strip() for name in header]
    if "file" not in header or len(set(header)) < len(header):
        hint = "; separate the columns by commas" if any(";" in name for name in header) else ""
        raise ReadError(
            f"{path}:1: expected distinct column names with 'file' among them, "
            f"got {', '.join(header)[:200]!r}{hint}"
        )
    rows: list[_ListRow] = []
    refused: list[tuple[Path, str]] = []
    taken: set[Path] = set()
    for number, values in lines:
        cells = dict(zip(header, (value.strip() for value in values), strict=False))
        file, where = path.parent / cells.get("file", ""), f"{path.name}:{number}"
        reason = _find_fault(path.parent, file, suffixes, taken)
        if len(values) != len(header):
            reason = f"expected {len(header)} columns, got {len(values)}"
        if reason:
            refused.append((file, f"{where}: {reason}"))
        else:
            taken.add(file.with_suffix(""))
            rows.append(_ListRow(where, file, cells))
    return rows, refused


def _find_fault(folder: Path, path: Path, suffixes: Sequence[str], taken: set[Path]) -> str:
    if path == folder:
        return "the row names no file"
    if "\0" in str(path) or not path.resolve().is_relative_to(folder.resolve()):
        return "the file is outside of the folder"
    if path.suffix not in suffixes:
        return f"expected a file of type {', '.join(suffixes)}"
    if not path.is_file():
        return "the file does not exist"
    return "a clip of this name is already listed" if path.with_suffix("") in taken else ""


def _find_classes(folder: Path, labels: Iterable[str]) -> tuple[str, ...] | None:
    if (folder / CLASSES_FILE).is_file():
        return _read_class_file(folder / CLASSES_FILE)
    distinct = sorted({label for label in labels if label})
    numbers = [label for label in distinct if _INTEGER.fullmatch(label)]
    names = [label for label in distinct if not _INTEGER.fullmatch(label)]
    if names and numbers:
        raise ReadError(
            f"{folder / CLIPS_FILE}: labels are names ({names[0]!r}) and numbers ({numbers[0]!r}); "
            f"use one kind, or list the class names in {CLASSES_FILE}, one per line"
        )
    return tuple(names) or None


def _read_class_file(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ReadError(f"{path}: cannot be read as class names: {error}") from error
    names = [line.strip() for line in lines if line.strip()]
    repeated = [name for index, name in enumerate(names) if name in names[:index]]
    if not names or repeated:
        got = f"{repeated[0]!r} twice" if repeated else "none"
        raise ReadError(f"{path}: expected distinct class names, one per line, got {got}")
    return tuple(names)


def _parse_label(where: str, text: str, classes: tuple[str, ...] | None) -> int | None:
    if not text:
        return None
    if classes is not None and text in classes:
        return classes.index(text)
    if not _INTEGER.fullmatch(text):
        raise ReadError(f"{where}: {CLASSES_FILE} does not list the label {text!r}")
    label = int(text)
    if label < 0 or (classes is not None and label >= len(classes)):
        limit = f" and below {len(classes)}" if classes else ""
        raise ReadError(f"{where}: expected a label of 0 or more{limit}, got {label}")
    return label


def _convert_column(cells: Sequence[str]) -> list[MetaValue]:
    """Return a column as integers, else as real numbers, else as text; None for empty cells."""
    filled = [cell for cell in cells if cell]
    # 007 stays text: as a number it would lose its zeros
    if all(_PLAIN_INTEGER.fullmatch(cell) for cell in filled):
        return [int(cell) if cell else None for cell in cells]
    if all(_REAL.fullmatch(cell) and not re.match(r"-?0\d", cell) for cell in filled):
        return [float(cell) if cell else None for cell in cells]
    return [cell or None for cell in cells]
