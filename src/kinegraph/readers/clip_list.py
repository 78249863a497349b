"""The list of a user's clips, clips.csv: files, labels and other facts."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from os.path import relpath
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from kinegraph.clips.clip import MetaValue
from kinegraph.errors import ReadError
from kinegraph.readers.formats.table_file import CsvFile, open_csv
from kinegraph.readers.reader import ReadPlan, ReadTask
from kinegraph.skeleton.layout import SkeletonLayout

CLIPS_FILE = "clips.csv"
CLASSES_FILE = "classes.txt"

_FILE_NAMES = (
    "file",
    "filename",
    "file_name",
    "filepath",
    "file_path",
    "path",
    "clip",
    "name",
)
_LABEL_NAMES = (
    "label", "class", "class_name", "label_name", "action", "activity", "category", "gesture",
)  # fmt: skip
_SPLITS = {
    "training": "train", "validation": "val", "valid": "val", "dev": "val", "testing": "test",
}  # fmt: skip

_INTEGER = re.compile(r"-?\d{1,15}")
_PLAIN_INTEGER = re.compile(r"-?(0|[1-9]\d{0,14})")
_REAL = re.compile(r"-?\d+(\.\d*)?([eE][-+]?\d{1,2})?")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]|\\\\")


class ListRow(NamedTuple):
    """A row of the list whose file was found."""

    where: str
    path: Path
    name: str
    cells: Mapping[str, str]


def find_clip_list(folder: Path) -> Path | None:
    """Return the file clips.csv of a folder, in any case, or None."""
    if not folder.is_dir():
        return None
    return next((f for f in sorted(folder.iterdir()) if f.name.lower() == CLIPS_FILE), None)


def read_clip_list(path: Path, layout: SkeletonLayout, suffixes: Sequence[str]) -> ReadPlan:
    """Return the files that ``clips.csv`` lists as tasks with label and meta.

    Its columns are ``file``, ``label`` (a name or a number, empty if unknown) and any others,
    which become meta: numbers if all rows of a column are numbers, otherwise text. Classes are the
    names in ``classes.txt``, one per line, or else the distinct label names, sorted; labels that
    are numbers without ``classes.txt`` have no names.

    Args:
        path: the list.
        layout: the layout of the clips.
        suffixes: lower-case suffixes of files that can be clips.

    Raises:
        ReadError: the file is not a table, has no column ``file``, or has both names and numbers
            as labels.
    """
    table = open_csv(path)
    header, lines, notes = _read_column_names(table, suffixes)
    rows, refused, found_notes = _find_files(path, header, lines, suffixes)
    notes += found_notes + _note_unlisted(path, [row.path for row in rows], suffixes)
    labels = [row.cells.get("label", "") for row in rows]
    classes, tasks = _find_classes(path, labels), []
    columns = [name for name in (rows[0].cells if rows else ()) if name not in ("file", "label")]
    meta = {name: _convert_column([row.cells[name] for row in rows]) for name in columns}
    if "split" in meta:
        meta["split"] = [_parse_split(value) for value in meta["split"]]
    for index, (row, label) in enumerate(zip(rows, labels, strict=True)):
        facts = {name: v[index] for name, v in meta.items() if v[index] is not None}
        info: dict[str, Any] = {"id": row.name, "meta": facts, "notes": notes}
        try:
            info["label"] = _parse_label(row.where, label, classes)
        except ReadError as error:
            refused.append((row.path, str(error)))
        else:
            tasks.append(ReadTask(row.path, info))
    return ReadPlan(tasks, layout, classes, tuple(refused))


def _note_unlisted(path: Path, listed: Sequence[Path], suffixes: Sequence[str]) -> list[str]:
    """Return a note about the files of the list's folder that it does not list."""
    known = set(map(os.path.realpath, (*listed, path)))
    found = [file for file in path.parent.rglob("*") if file.suffix.lower() in suffixes]
    count = sum(file.is_file() and os.path.realpath(file) not in known for file in found)
    return [f"{count} files of the folder are not listed in {path.name}: left out"] if count else []


def list_clip_files(source: Path, suffixes: Sequence[str]) -> list[Path]:
    """Return the sorted files of such suffixes below a folder, but for clips.csv; or the one file.

    Args:
        source: a folder, or one file with any suffix.
        suffixes: lower-case suffixes.

    Raises:
        ReadError: there is none.
    """
    if source.is_file():
        return [source]
    found = [path for path in sorted(source.rglob("*")) if path.suffix.lower() in suffixes]
    files = [path for path in found if path.is_file() and path != find_clip_list(source)]
    if not files:
        raise ReadError(f"{source}: expected {', '.join(suffixes)} files, found none")
    return files


def plan_clip_files(
    source: Path, suffixes: Sequence[str], layout: SkeletonLayout, facts: Mapping[str, Any]
) -> ReadPlan:
    """Return a plan with one task per file, labeled by the clips.csv of the folder if it has one.

    Args:
        source: a folder, or one file.
        suffixes: lower-case suffixes of files that can be clips.
        layout: the layout of the clips.
        facts: what every task states.

    Raises:
        ReadError: as `read_clip_list` and `list_clip_files`.
    """
    folder, clip_list = source.parent if source.is_file() else source, find_clip_list(source)
    if clip_list is None:
        plan = ReadPlan([ReadTask(path) for path in list_clip_files(source, suffixes)], layout)
    else:
        plan = read_clip_list(clip_list, layout, suffixes)
    tasks = [
        ReadTask(task.path, {"id": name_clip(folder, task.path), **task.info, **facts})
        for task in plan.tasks
    ]
    return replace(plan, tasks=tasks)


Lines = list[tuple[int, list[str]]]


def _read_column_names(
    table: CsvFile, suffixes: Sequence[str]
) -> tuple[list[str], Lines, list[str]]:
    """Return the names of the columns, lower-case and as documented, the rows, and notes."""
    lines, notes = list(table.rows()), [*table.notes]
    header = [name.strip().lower() for name in lines[0][1]] if lines else []
    if header and len(header) <= 2 and header[0].endswith(tuple(suffixes)):
        notes.append(f"{table.path.name} has no column names: taken as file, label [guess]")
        return ["file", "label"][: len(header)], lines, notes
    for wanted, names in (("file", _FILE_NAMES), ("label", _LABEL_NAMES)):
        found = next((name for name in names if name in header), wanted)
        if found != wanted and header.count(found) == 1:
            header[header.index(found)] = wanted
            if wanted == "label":
                notes.append(f"column {found} of {table.path.name} is taken for the label")
    if "file" not in header or len(set(header)) < len(header):
        is_joined = any(re.search(r"\bfile\w*\W+\w", name) for name in header)
        hint = "; separate the columns by commas, semicolons or tabs" if is_joined else ""
        raise ReadError(
            f"{table.path}:1: expected distinct column names with 'file' among them, "
            f"got {', '.join(lines[0][1] if lines else [])[:200]!r}{hint}"
        )
    if "label" not in header:
        notes.append(f"{table.path.name} has no column label: its clips have none")
    return header, lines[1:], notes


def _find_files(
    path: Path, header: Sequence[str], lines: Lines, suffixes: Sequence[str]
) -> tuple[list[ListRow], list[tuple[Path, str]], list[str]]:
    """Return the usable rows, (file, reason) of the others, and notes."""
    rows: list[ListRow] = []
    refused: list[tuple[Path, str]] = []
    finder, taken = _FileFinder(path.parent, suffixes), set[str]()
    for number, values in lines:
        values = values[: len(header)] + [v for v in values[len(header) :] if v.strip()]
        cells = dict(zip(header, (value.strip() for value in values), strict=False))
        text, where = cells.get("file", ""), f"{path.name}:{number}"
        try:
            if len(values) != len(header):
                raise ReadError(f"expected {len(header)} columns, got {len(values)}")
            file = finder.find(text)
            name = name_clip(path.parent, file)
            if name in taken:
                raise ReadError("a clip of this name is already listed")
        except ReadError as error:
            refused.append((path.parent / text, f"{where}: {error}"))
        else:
            taken.add(name)
            rows.append(ListRow(where, file, name, cells))
    return rows, refused, finder.notes


class _FileFinder:
    """Files of a folder by the paths that a list, perhaps of another computer, gives them."""

    def __init__(self, folder: Path, suffixes: Sequence[str]) -> None:
        self._folder, self._suffixes = folder, suffixes
        self._guessed = False

    @property
    def notes(self) -> list[str]:
        """A sentence if files were found by the ends of their paths."""
        note = "listed paths that do not exist here were found in the folder by their ends [guess]"
        return [note] if self._guessed else []

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        files: dict[str, list[Path]] = {}
        for file in sorted(self._folder.rglob("*")):
            if file.suffix.lower() in self._suffixes and file.is_file():
                files.setdefault(file.name.lower(), []).append(file)
        return files

    def find(self, text: str) -> Path:
        """Return the file of a row.

        A path is relative to the folder, or absolute. One that does not exist is found by the names
        at its end, if only one file of the folder has them; slashes may be backslashes, and a
        suffix may be missing.

        Raises:
            ReadError: no file, or several files, have this path.
        """
        if not text:
            raise ReadError("the row names no file")
        plain = text.replace("\\", "/")
        try:
            for path in (self._folder / text, self._folder / plain):
                if path.is_file():
                    return self._check_suffix(path)
                same = [
                    path.with_name(path.name + suffix) for suffix in self._suffixes if path.name
                ]
                if len(completed := [file for file in same if file.is_file()]) == 1:
                    return completed[0]
        except (OSError, ValueError) as error:
            raise ReadError(f"not a path of a file: {error}") from None
        self._check_suffix(PurePosixPath(plain))
        is_absolute = bool(_DRIVE.match(text)) or plain.startswith("/")
        found = self._find_by_end(PurePosixPath(plain).parts, is_absolute)
        self._guessed = True
        return found

    def _check_suffix(self, path: Any) -> Any:
        if path.suffix.lower() not in self._suffixes:
            raise ReadError(f"expected a file of type {', '.join(self._suffixes)}")
        return path

    def _find_by_end(self, parts: Sequence[str], is_absolute: bool) -> Path:
        """Return the only file of that name whose path shares the most parts at the end.

        The file of a relative path shares all of its own parts.
        """
        files = self._by_name.get(parts[-1].lower(), [])
        shared = [_count_shared(parts, file.relative_to(self._folder).parts) for file in files]
        best = [
            file
            for file, n in zip(files, shared, strict=True)
            if n == max(shared) and (is_absolute or n == len(file.relative_to(self._folder).parts))
        ]
        if not best:
            raise ReadError("the file does not exist")
        if len(best) > 1:
            shown = ", ".join(file.relative_to(self._folder).as_posix() for file in best[:3])
            raise ReadError(f"the file does not exist, and several have its name: {shown}")
        return best[0]


def _count_shared(first: Sequence[str], second: Sequence[str]) -> int:
    """Return how many parts at the end of two paths are the same."""
    same = [a.lower() == b.lower() for a, b in zip(reversed(first), reversed(second), strict=False)]
    return same.index(False) if False in same else len(same)


def name_clip(folder: Path, file: Path) -> str:
    """Return the path from the folder without its suffix; of a file outside, without the dots."""
    name = PurePosixPath(Path(relpath(file, folder)).as_posix())
    parts = [part for part in name.with_suffix("").parts if part != ".."]
    return "/".join(parts)


def _parse_split(value: MetaValue) -> MetaValue:
    text = str(value).lower()
    return None if value is None else _SPLITS.get(text, text)


def _find_classes(path: Path, labels: Iterable[str]) -> tuple[str, ...] | None:
    if (path.parent / CLASSES_FILE).is_file():
        return _read_class_file(path.parent / CLASSES_FILE)
    distinct = sorted({label for label in labels if label})
    numbers = [label for label in distinct if _INTEGER.fullmatch(label)]
    names = [label for label in distinct if not _INTEGER.fullmatch(label)]
    if names and numbers:
        raise ReadError(
            f"{path}: labels are names ({names[0]!r}) and numbers ({numbers[0]!r}); "
            f"use one kind, or list the class names in {CLASSES_FILE}, one per line"
        )
    return tuple(names) or None


def _read_class_file(path: Path) -> tuple[str, ...]:
    lines = open_csv(path).text.splitlines()
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
