"""Parser of .skeleton files: against a line-by-line reference, its writer, and damaged files."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from conftest import real_data
from kinegraph.errors import ReadError
from kinegraph.readers.ntu.skeleton_file import (
    MAX_SKELETON_FRAMES,
    Body,
    SkeletonRecording,
    read_skeleton,
    write_skeleton,
)
from skeleton_recording import recording_from_joints

FRAMES = {
    "S001C001P001R001A001": 103,
    "S001C001P001R001A011": 82,
    "S001C003P008R002A058": 70,
    "S002C001P003R001A003": 100,
}


def line_by_line(path: Path) -> list[list[tuple[str, list[float], list[list[float]]]]]:
    """The dumbest parser that is right for good files."""
    lines = iter(path.read_text().splitlines())
    frames = []
    for _ in range(int(next(lines))):
        bodies = []
        for _ in range(int(next(lines))):
            body_id, *state = next(lines).split()
            rows = [[float(x) for x in next(lines).split()] for _ in range(int(next(lines)))]
            bodies.append((body_id, [float(x) for x in state], rows))
        frames.append(bodies)
    return frames


def synthetic_recording(persons: int = 2, frames: int = 4) -> SkeletonRecording:
    joints = np.random.default_rng(0).normal(size=(persons, frames, 25, 3)).astype(np.float32)
    joints[:, 1] = np.nan
    joints[0, 2, 3] = np.nan
    return recording_from_joints(joints, ["72057594037944738", "72057594037944739"][:persons])


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines()


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """Four frames of two bodies, the second frame empty: 1 + 4 + 6 * 27 lines."""
    path = tmp_path / "S001C001P001R001A001.skeleton"
    write_skeleton(path, synthetic_recording())
    return path


@pytest.mark.parametrize("name", FRAMES)
def test_real_files_parse_as_line_by_line(name: str) -> None:
    path = real_data("ntu_samples") / f"{name}.skeleton"
    recording, expected = read_skeleton(path), line_by_line(path)
    assert len(recording.frames) == len(expected) == FRAMES[name]
    for bodies, wanted in zip(recording.frames, expected, strict=True):
        assert [body.id for body in bodies] == [body_id for body_id, _, _ in wanted]
        for body, (_, state, rows) in zip(bodies, wanted, strict=True):
            assert list(body.state) == state
            np.testing.assert_array_equal(body.values, rows)


@pytest.mark.parametrize("name", FRAMES)
def test_real_files_are_written_back_byte_for_byte(name: str, tmp_path: Path) -> None:
    path = real_data("ntu_samples") / f"{name}.skeleton"
    write_skeleton(tmp_path / "copy.skeleton", read_skeleton(path))
    assert (tmp_path / "copy.skeleton").read_bytes() == path.read_bytes()


def test_written_file_has_crlf_empty_frames_and_long_ids(good: Path, tmp_path: Path) -> None:
    content = good.read_bytes()
    assert content.startswith(b"4\r\n2\r\n72057594037944738 0 ")
    assert content.count(b"\r\n") == content.count(b"\n") == 1 + 4 + 6 * 27
    recording = read_skeleton(good)
    assert [len(bodies) for bodies in recording.frames] == [2, 0, 2, 2]
    assert [body.id for body in recording.frames[0]] == ["72057594037944738", "72057594037944739"]
    write_skeleton(tmp_path / "again.skeleton", recording)
    assert (tmp_path / "again.skeleton").read_bytes() == content


def test_joints_survive_as_float32(good: Path) -> None:
    joints = np.random.default_rng(0).normal(size=(2, 4, 25, 3)).astype(np.float32)
    body = read_skeleton(good).frames[3][1]
    np.testing.assert_array_equal(body.joints.astype(np.float32), joints[1, 3])
    assert np.isnan(read_skeleton(good).frames[2][0].joints[3]).all()


def test_plain_newlines_are_kept(tmp_path: Path) -> None:
    recording = SkeletonRecording(synthetic_recording().frames, newline="\n")
    write_skeleton(tmp_path / "a.skeleton", recording)
    assert b"\r" not in (tmp_path / "a.skeleton").read_bytes()
    assert read_skeleton(tmp_path / "a.skeleton").newline == "\n"


def test_trailing_spaces_and_blank_last_lines_do_not_matter(good: Path) -> None:
    expected = read_skeleton(good).frames[3][0].values
    good.write_text(" \r\n".join(lines_of(good)) + " \r\n\r\n \r\n")
    np.testing.assert_array_equal(read_skeleton(good).frames[3][0].values, expected)


@pytest.mark.parametrize("word", ["NaN", "nan", "-1.#IND", "1.#QNAN", "-nan(ind)"])
def test_nan_columns_are_read(good: Path, word: str, tmp_path: Path) -> None:
    lines = lines_of(good)
    fields = lines[4].split()
    lines[4] = " ".join([*fields[:5], word, *fields[6:]])
    good.write_text("\r\n".join(lines))
    recording = read_skeleton(good)
    assert np.argwhere(np.isnan(recording.frames[0][0].values)).tolist() == [[0, 5]]
    write_skeleton(tmp_path / "again.skeleton", recording)
    again = read_skeleton(tmp_path / "again.skeleton").frames[0][0].values
    np.testing.assert_array_equal(again, recording.frames[0][0].values)


def test_numbers_keep_their_published_form(tmp_path: Path) -> None:
    values = np.zeros((25, 12))
    values[0, :4] = [3.785547, -7.257856e-05, 1036.233, -0.0]
    body = Body("1", (0, 1, 1, 1, 1, 0, 0.02764709, 0.05745083, 2), values)
    write_skeleton(tmp_path / "a.skeleton", SkeletonRecording([[body]]))
    lines = lines_of(tmp_path / "a.skeleton")
    assert lines[2] == "1 0 1 1 1 1 0 0.02764709 0.05745083 2"
    assert lines[4] == "3.785547 -7.257856E-05 1036.233 -0 0 0 0 0 0 0 0 0"


DAMAGE = {
    # line (from 1), its new text, what the message says
    "26 joints": (4, "26", ":4: expected 25 joints, got 26"),
    "24 joints": (4, "24", ":4: expected 25 joints, got 24"),
    "a billion frames": (1, "1000000000", ":1: the number of frames is 1000000000, but only"),
    "a line of digits": (1, "9" * 5000, ":1: expected the number of frames, got '9999"),
    "a billion bodies": (2, "1000000000", ":2: the number of bodies is 1000000000, but only"),
    "negative frames": (1, "-4", ":1: expected the number of frames, got '-4'"),
    "NaN frames": (1, "nan", ":1: expected the number of frames, got 'nan'"),
    "frames in letters": (1, "four", ":1: expected the number of frames, got 'four'"),
    "one frame too many": (1, "5", ": expected the number of bodies, but the file ends here"),
    "one frame too few": (1, "3", ": expected the end after the last frame, got '2'"),
    "a letter in a joint": (10, "1 2 x 4 5 6 7 8 9 10 11 12", ":10: expected a number, got 'x'"),
    "an underscore": (10, "1_0 2 3 4 5 6 7 8 9 10 11 12", ":10: expected a number, got '1_0'"),
    "11 numbers": (10, "1 2 3 4 5 6 7 8 9 10 11", ":10: expected a joint's 12 numbers, got 11"),
    "13 numbers": (10, "1 2 3 4 5 6 7 8 9 0 1 2 3", ":10: expected a joint's 12 numbers, got 13"),
    "a joint left out": (10, "", ":10: expected a joint's 12 numbers, got 0"),
    "9 fields": (3, "1 0 1 1 1 1 0 0 0", ":3: expected a body's 10 fields, got 9"),
    "an id in letters": (3, "abc 0 1 1 1 1 0 0 0 2", ":3: expected a body id of digits, got 'abc'"),
    "a state in letters": (3, "1 0 1 1 ? 1 0 0 0 2", ":3: expected a number, got '?'"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_named_with_its_line(case: str, good: Path) -> None:
    number, text, message = DAMAGE[case]
    lines = lines_of(good)
    lines[number - 1] = text
    good.write_text("\r\n".join(lines))
    with pytest.raises(ReadError) as caught:
        read_skeleton(good)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{good}:")


@pytest.mark.parametrize("kept", [0, 1, 2, 3, 4, 20, 30, 120, 160])
def test_every_cut_is_noticed(kept: int, good: Path) -> None:
    good.write_text("\r\n".join(lines_of(good)[:kept]))
    with pytest.raises(ReadError, match=r"S001C001P001R001A001\.skeleton:\d+: "):
        read_skeleton(good)


@pytest.mark.parametrize("content", [b"", b"\r\n", b"\n" * 9, b"\x00\xff" * 500, b"PK\x03\x04"])
def test_what_is_no_text_of_frames(content: bytes, good: Path) -> None:
    good.write_bytes(content)
    with pytest.raises(ReadError, match=r"skeleton:1: expected the number of frames"):
        read_skeleton(good)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "no.skeleton", tmp_path):
        with pytest.raises(ReadError, match="cannot be opened"):
            read_skeleton(path)


def test_memory_stays_near_the_size_of_the_file(good: Path) -> None:
    count = 1_000_000
    good.write_bytes(b"%d\n" % count + b"0\n" * count)
    tracemalloc.start()
    try:
        with pytest.raises(ReadError, match=f"at most {MAX_SKELETON_FRAMES} frames, got {count}"):
            read_skeleton(good)
        assert tracemalloc.get_traced_memory()[1] < 20 * good.stat().st_size
    finally:
        tracemalloc.stop()
