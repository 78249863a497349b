"""Fast parser of .skeleton files: equal to the careful parser, to the last bit."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from conftest import real_data
from kinegraph.errors import ReadError
from kinegraph.readers.ntu import fast_parser as ntu_joints
from kinegraph.readers.ntu.fast_parser import read_joints
from kinegraph.readers.ntu.skeleton_file import (
    Body,
    BodyDetections,
    SkeletonRecording,
    read_skeleton,
    write_skeleton,
)
from skeleton_recording import recording_from_joints

#: Numbers as the sensor writes them, and as nobody should.
FORMS = (
    *("0", "-0", "0.5", "-0.5", "3.785547", "-7.257856E-05", "7.2E-05", "5E-07", "12.25"),
    *("0.12345678", "0.123456789", "-0.0001234567", "9.99999999", "0.00000001", "1036.233"),
    *("5.0E-324", "0.30000001", "0.1", "00.5", "100000000000000000000.5", "0." + "3" * 40),
)
ALPHABET = b"0123456789.-E e+\r\n\tNa_x"


def crowd(frames: int = 12, newline: str = "\r\n", seed: int = 0) -> SkeletonRecording:
    """Up to three bodies a frame, with values of every size."""
    rng = np.random.default_rng(seed)

    def body(m: int) -> Body:
        sizes = 10.0 ** rng.integers(-7, 3, size=(25, 12))
        values = (rng.normal(size=(25, 12)) * sizes).astype(np.float32)
        state = tuple(rng.integers(0, 2, 9).astype(float).tolist())
        return Body(str(2**56 + m), state, values.astype("U32").astype(np.float64))

    return SkeletonRecording(
        [[body(m) for m in range(rng.integers(0, 4))] for _ in range(frames)], newline
    )


def assert_equal(got: BodyDetections, wanted: BodyDetections) -> None:
    assert got.num_frames == wanted.num_frames
    assert list(got.ids) == list(wanted.ids)
    np.testing.assert_array_equal(got.frames, wanted.frames)
    assert got.joints.shape == wanted.joints.shape
    assert got.joints.tobytes() == wanted.joints.tobytes()


@pytest.fixture
def only_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The careful parser is out of reach."""

    def careful(path: Path, content: bytes) -> SkeletonRecording:
        raise ReadError(f"{path} took the careful way")

    monkeypatch.setattr(ntu_joints, "read_skeleton", careful)


def test_real_files_take_the_quick_way(only_quick: None) -> None:
    paths = sorted(real_data("ntu_samples").glob("*.skeleton"))
    assert len(paths) == 4
    for path in paths:
        assert_equal(read_joints(path), read_skeleton(path).detections)


@pytest.mark.parametrize("newline", ["\r\n", "\n"])
@pytest.mark.parametrize("block", [4096, 1 << 16])
def test_synthetic_files_take_the_fast_path(
    newline: str, block: int, tmp_path: Path, only_quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ntu_joints, "BLOCK_BYTES", block)
    path = tmp_path / "a.skeleton"
    write_skeleton(path, crowd(40, newline))
    assert_equal(read_joints(path), read_skeleton(path).detections)


@pytest.mark.parametrize("column", [0, 2, 7])
def test_every_form_of_a_number(column: int, tmp_path: Path, only_quick: None) -> None:
    path = tmp_path / "a.skeleton"
    write_skeleton(path, recording_from_joints(np.ones((1, 1, 25, 3))))
    lines = path.read_text().splitlines()
    for row, form in enumerate(FORMS):
        fields = lines[4 + row].split()
        lines[4 + row] = " ".join([*fields[:column], form, *fields[column + 1 :]])
    path.write_text("\n".join([*lines, ""]))
    joints = read_joints(path).joints
    assert joints.tobytes() == read_skeleton(path).detections.joints.tobytes()
    if column < 3:
        assert joints[0, : len(FORMS), column].tolist() == [float(form) for form in FORMS]


@pytest.mark.parametrize("newline", ["\r\n", "\n"])
@pytest.mark.parametrize("frames", [[], [[]], [[], []]])
def test_frames_without_bodies(frames: list[list[Body]], newline: str, tmp_path: Path) -> None:
    path = tmp_path / "a.skeleton"
    write_skeleton(path, SkeletonRecording(frames, newline))
    assert_equal(read_joints(path), SkeletonRecording(frames).detections)
    assert read_joints(path).joints.shape == (0, 25, 3)


@pytest.mark.parametrize("ending", ["", " ", "\r\n\r\n"])
def test_unusual_endings_are_read_too(ending: str, tmp_path: Path) -> None:
    path = tmp_path / "a.skeleton"
    write_skeleton(path, crowd())
    path.write_bytes(path.read_bytes().rstrip() + ending.encode())
    assert_equal(read_joints(path), crowd().detections)


UNUSUAL = {
    # a word of one column, and what the careful parser says of it: None if it reads it
    "two dots": ("1.2.3", "expected a number, got '1.2.3'"),
    "a minus inside": ("1-2", "expected a number, got '1-2'"),
    "an exponent of none": ("1E-", "expected a number, got '1E-'"),
    "no mantissa": ("E-05", "expected a number, got 'E-05'"),
    "two exponents": ("1E-05E-05", "expected a number, got '1E-05E-05'"),
    "a broken exponent": ("1E-0.5", "expected a number, got '1E-0.5'"),
    "a letter": ("O.5", "expected a number, got 'O.5'"),
    "a lone minus": ("-", "expected a number, got '-'"),
    "a lone dot": (".", "expected a number, got '.'"),
    "no whole part": (".5", None),
    "no fraction": ("5.", None),
    "a plus": ("+0.5", None),
    "a positive exponent": ("5E+01", None),
    "no number": ("NaN", None),
}


@pytest.mark.parametrize("column", [1, 11])
@pytest.mark.parametrize("case", UNUSUAL)
def test_what_is_unusual_is_left_to_the_careful_parser(
    case: str, column: int, tmp_path: Path
) -> None:
    word, message = UNUSUAL[case]
    path = tmp_path / "a.skeleton"
    write_skeleton(path, crowd(seed=3))
    lines = path.read_text().splitlines()
    fields = lines[10].split()
    lines[10] = " ".join([*fields[:column], word, *fields[column + 1 :]])
    path.write_text("\r\n".join([*lines, ""]), newline="")
    if message is None:
        assert_equal(read_joints(path), read_skeleton(path).detections)
        return
    with pytest.raises(ReadError) as caught:
        read_joints(path)
    assert str(caught.value) == f"{path}:11: {message}"


def test_damaged_files_fare_as_with_the_careful_parser(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ntu_joints, "BLOCK_BYTES", 4096)
    path = tmp_path / "a.skeleton"
    write_skeleton(path, crowd(2))
    good, rng, refused = path.read_bytes(), random.Random(0), 0
    for _ in range(200):
        content = bytearray(good)
        place = rng.randrange(len(content))
        content[place : place + rng.randrange(3)] = bytes(rng.choices(ALPHABET, k=rng.randrange(3)))
        path.write_bytes(content)
        try:
            wanted = read_skeleton(path).detections
        except ReadError as error:
            refused += 1
            with pytest.raises(ReadError) as caught:
                read_joints(path)
            assert str(caught.value) == str(error)
        else:
            assert_equal(read_joints(path), wanted)
    assert 50 < refused < 180


def test_a_line_without_end(tmp_path: Path) -> None:
    path = tmp_path / "a.skeleton"
    path.write_bytes(b"1\n" + b"9" * 200_000 + b"\n")
    with pytest.raises(ReadError, match=":2: expected the number of bodies, got '9999"):
        read_joints(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="cannot be opened"):
        read_joints(tmp_path / "no.skeleton")
