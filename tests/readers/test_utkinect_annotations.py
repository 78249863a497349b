"""Label files of UTKinect."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import real_data
from kinegraph.errors import ReadError
from kinegraph.readers.class_names import class_names
from kinegraph.readers.utkinect import (
    MAX_LABEL_FILE_BYTES,
    FrameRange,
    find_label_file,
    read_ranges,
)

CLASSES = ("walk", "carry")


def test_ranges(tmp_path: Path) -> None:
    path = tmp_path / "actionLabel.txt"
    path.write_text("s01_e01\nwalk: 252 390\ncarry:  1 2 \n\ns10_e02\r\ncarry:  NaN NaN\nwalk: 9 8")
    ranges, unusable = read_ranges(path, CLASSES)
    assert ranges == {
        "s01_e01": (FrameRange("walk", 0, 252, 390), FrameRange("carry", 1, 1, 2)),
        "s10_e02": (),
    }
    assert unusable == [
        ("s10_e02", f"{path}:6: s10_e02: carry has no frame range (NaN)"),
        ("s10_e02", f"{path}:7: s10_e02: walk ends at frame 8, before it begins at 9"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "the file is empty"),
        (b"walk: 1 2\n", ":1: expected a recording as s01_e01 first"),
        (b"s01_e01\nwalk: 1\n", ":2: expected 'action: first last', got 'walk: 1'"),
        (b"s01_e01\nwalk: 1 x\n", ":2: expected two frame numbers, got '1', 'x'"),
        (b"s01_e01\nwalk: 1 NaN\n", ":2: expected two frame numbers"),
        (b"s01_e01\nwalk: 1 " + b"9" * 9999, ":2: expected two frame numbers"),
        (b"s01_e01\nwalks: 1 2\n", ":2: unknown action 'walks' .did you mean 'walk'"),
        (b"s01_e01\n\xff\x00\n", r":2: expected 'action: first last', got '\\\\xff"),
        (b"\n" * (MAX_LABEL_FILE_BYTES + 1), "at most 1048576 bytes"),
    ],
)
def test_malformed(tmp_path: Path, text: bytes, message: str) -> None:
    path = tmp_path / "actionLabel.txt"
    path.write_bytes(text)
    with pytest.raises(ReadError, match=message):
        read_ranges(path, CLASSES)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="cannot be opened"):
        read_ranges(tmp_path / "actionLabel.txt", CLASSES)


def test_the_corrected_file_comes_first(tmp_path: Path) -> None:
    assert find_label_file(tmp_path) is None
    (tmp_path / "actionLabel.txt").touch()
    assert find_label_file(tmp_path) == tmp_path / "actionLabel.txt"
    (tmp_path / "actionLabel_modified.txt").touch()
    assert find_label_file(tmp_path) == tmp_path / "actionLabel_modified.txt"


def test_real_files_differ_in_seven_ranges() -> None:
    folder = real_data("utkinect") / "joints"
    read = [
        read_ranges(folder / name, class_names("utkinect"))
        for name in ("actionLabel.txt", "actionLabel_modified.txt")
    ]
    flat = [{(rec, r) for rec, ranges in found.items() for r in ranges} for found, _ in read]
    assert [len(ranges) for ranges in flat] == [199, 199]
    changed = sorted((rec, r.action) for rec, r in flat[1] - flat[0])
    assert changed == [
        ("s01_e02", "walk"), ("s03_e01", "push"), ("s07_e01", "pull"), ("s07_e02", "pull"),
        ("s09_e01", "push"), ("s10_e01", "carry"), ("s10_e02", "pull"),
    ]  # fmt: skip
    for _, unusable in read:
        assert [recording for recording, _ in unusable] == ["s10_e02"]
