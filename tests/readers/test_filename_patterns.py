"""Raw files whose paths state the facts of a clip."""

from __future__ import annotations

from pathlib import Path

import pytest

from kinegraph.errors import ReadError
from kinegraph.readers.filename_patterns import (
    compile_path_pattern,
    find_files,
    parse_path,
    plan_named_files,
)

PATTERN = compile_path_pattern(r"a(?P<action>\d\d)_(?P<pair>s\ds\d)\.txt")
EXAMPLE = "a01_s1s2.txt"


def test_facts_are_the_named_groups() -> None:
    assert parse_path(Path("x/a07_s1s2.txt"), PATTERN) == {"action": 7, "pair": "s1s2"}
    assert parse_path(Path("x/ba07_s1s2.txt"), PATTERN) == {}
    assert parse_path(Path("a07_s1s2.txt.gz"), PATTERN) == {}


def test_files_come_sorted_from_any_depth(tmp_path: Path) -> None:
    for name in ("b/a01_s1s2.txt", "a/a02_s1s2.txt", "a/a01_s1s2.txt", "a/readme.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a03_s1s2.txt").mkdir()  # a folder of that name is no file
    found = [p.relative_to(tmp_path).as_posix() for p in find_files(tmp_path, PATTERN, EXAMPLE)]
    assert found == ["a/a01_s1s2.txt", "a/a02_s1s2.txt", "b/a01_s1s2.txt"]


def test_nothing_found(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").touch()
    with pytest.raises(ReadError, match=r"files like a01_s1s2\.txt, found none"):
        find_files(tmp_path, PATTERN, EXAMPLE)
    with pytest.raises(ReadError, match="found none"):
        find_files(tmp_path / "missing", PATTERN, EXAMPLE)


def test_tasks_have_label_and_meta(tmp_path: Path) -> None:
    for name in ("a01_s1s2.txt", "a09_s1s2.txt", "a10_s1s2.txt", "a00_s1s2.txt"):
        (tmp_path / name).touch()
    found = plan_named_files(tmp_path, PATTERN, EXAMPLE, "florence15", "florence3d")
    assert [u.info for u in found.tasks] == [
        {"label": 0, "meta": {"pair": "s1s2"}},
        {"label": 8, "meta": {"pair": "s1s2"}},
    ]
    assert [path.name for path, _ in found.refused] == ["a00_s1s2.txt", "a10_s1s2.txt"]
    assert "expected one of the actions 1, 2, 3, 4, 5, 6, 7, 8, 9, got 10" in found.refused[1][1]


def test_a_file_of_another_name_has_no_label(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.touch()
    found = plan_named_files(path, PATTERN, EXAMPLE, "florence15", "florence3d")
    assert [(u.path, dict(u.info)) for u in found.tasks] == [(path, {})]
