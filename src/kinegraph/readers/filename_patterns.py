"""File name patterns: action, subject and other facts from the paths of raw files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from kinegraph.errors import ReadError
from kinegraph.readers.class_names import class_names
from kinegraph.readers.reader import ReadPlan, ReadTask
from kinegraph.skeleton.layouts import get_layout


def compile_path_pattern(tail: str) -> re.Pattern[str]:
    """Return a pattern for whole paths that end in ``tail``; its named groups are facts."""
    return re.compile(rf"(?s:.*/)?{tail}")


def parse_path(path: Path, pattern: re.Pattern[str]) -> dict[str, int | str]:
    """Return the named groups of a path, numbers as int; empty if the pattern does not match."""
    found = pattern.fullmatch(path.absolute().as_posix())
    groups = found.groupdict() if found else {}
    return {key: int(text) if text.isdecimal() else text for key, text in groups.items()}


def find_files(source: Path, pattern: re.Pattern[str], example: str) -> list[Path]:
    """Return the matching files below a folder, sorted; or the single file, whatever its name.

    Raises:
        ReadError: no file matches.
    """
    if source.is_file():
        return [source]
    files = sorted(p for p in source.rglob("*") if parse_path(p, pattern) and p.is_file())
    if not files:
        raise ReadError(f"{source}: expected a folder with files like {example}, found none")
    return files


def plan_named_files(
    source: Path,
    pattern: re.Pattern[str],
    example: str,
    layout: str,
    class_set: str,
    labels: Mapping[int, int] | None = None,
) -> ReadPlan:
    """Return a plan with one task per file, its label and meta from the file's path.

    Args:
        source: a folder, or one file; without a matching path it has no label and no meta.
        pattern: a pattern with the group ``action``; its other groups become meta.
        example: a matching name, for messages.
        layout: name of the layout.
        class_set: name of the class set.
        labels: label by action number; None if action 1 is label 0 and so on.

    Raises:
        ReadError: no file matches.
    """
    classes = class_names(class_set)
    labels = labels or {label + 1: label for label in range(len(classes))}
    tasks, refused = [], []
    for path in find_files(source, pattern, example):
        facts = parse_path(path, pattern)
        if not facts:
            tasks.append(ReadTask(path))
        elif (action := int(facts.pop("action"))) in labels:
            tasks.append(ReadTask(path, {"label": labels[action], "meta": facts}))
        else:
            known = ", ".join(map(str, labels))
            refused.append((path, f"{path}: expected one of the actions {known}, got {action}"))
    return ReadPlan(tasks, get_layout(layout), classes, tuple(refused))
