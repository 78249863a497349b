"""MATLAB 5 files: equal to scipy, and refusal of sizes and types that do not fit."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from conftest import real_data
from kinegraph.errors import ReadError
from kinegraph.readers.formats.mat_file import is_mat_file, read_mat

HEADER = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"


def element(kind: int, content: bytes, size: int | None = None) -> bytes:
    padded = content if kind == 15 else content + b"\0" * (-len(content) % 8)
    return struct.pack("<II", kind, len(content) if size is None else size) + padded


def matrix(shape: tuple[int, ...], data: bytes, name: bytes = b"x", matlab_class: int = 6) -> bytes:
    flags = element(6, struct.pack("<II", matlab_class, 0))
    sizes = element(5, struct.pack(f"<{len(shape)}i", *shape))
    return element(14, flags + sizes + element(1, name) + data)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(HEADER + content)
    return path


@pytest.mark.parametrize("compressed", [False, True])
def test_what_scipy_writes(tmp_path: Path, compressed: bool) -> None:
    rng = np.random.default_rng(0)
    variables: dict[str, Any] = {
        "doubles": rng.normal(size=(4, 3, 5)),
        "singles": rng.normal(size=(2, 2)).astype(np.float32),
        "one": np.int32(-7),
        "word": "bench_press",
        "a_rather_long_name": np.arange(3, dtype=np.uint8)[None],
        "complex": np.ones((2, 2)) * 1j,
        "nested": {"a": 1},
    }
    path = tmp_path / "v.mat"
    savemat(path, variables, do_compression=compressed)
    mat = read_mat(path)
    for name in ("doubles", "singles", "a_rather_long_name"):
        np.testing.assert_array_equal(mat.array(name), variables[name])
        assert mat.array(name).dtype == np.float64
    assert (mat.number("one"), mat.text("word")) == (-7.0, "bench_press")
    assert "complex" not in mat.variables and "nested" not in mat.variables


@pytest.mark.parametrize(
    "name", ["utd_mhad/Skeleton/a21_s8_t2_skeleton.mat", "penn_action/labels/0623.mat"]
)
def test_real_files_agree_with_scipy(name: str) -> None:
    path = real_data(name)
    mat, expected = read_mat(path), loadmat(path)
    names = {key for key in expected if not key.startswith("__")}
    assert set(mat.variables) == names
    for key in names:
        if expected[key].dtype.kind == "U":
            assert mat.text(key) == str(expected[key][0])
        else:
            np.testing.assert_array_equal(mat.array(key), expected[key])


def test_big_endian(tmp_path: Path) -> None:
    flags = struct.pack(">IIII", 6, 8, 6, 0)
    sizes = struct.pack(">IIii", 5, 8, 1, 2)
    name = struct.pack(">HHcxxx", 1, 1, b"x")  # a small element: size before type
    data = struct.pack(">IIdd", 9, 16, 1.5, -2.0)
    body = flags + sizes + name + data
    path = tmp_path / "v.mat"
    path.write_bytes(HEADER[:126] + b"MI" + struct.pack(">II", 14, len(body)) + body)
    assert read_mat(path).array("x").tolist() == [[1.5, -2.0]]


def test_other_variables_are_named(tmp_path: Path) -> None:
    path = tmp_path / "v.mat"
    savemat(path, {"a": np.ones(3), "b": "text"})
    with pytest.raises(ReadError, match="a numeric variable 'x'; readable variables: a, b"):
        read_mat(path).array("x")
    with pytest.raises(ReadError, match="expected a text variable 'a'"):
        read_mat(path).text("a")
    with pytest.raises(ReadError, match="to be one number"):
        read_mat(path).number("a")


DOUBLES = element(9, struct.pack("<2d", 1, 2))
SMALL_FLAGS = element(
    14, struct.pack("<HHI", 6, 4, 6) + matrix((2, 1), DOUBLES)[24:] + element(5, b"")
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (matrix((3, 1), DOUBLES), r"cannot reshape array of size 2"),
        (matrix((17, 1), DOUBLES), r"claims the shape \(17, 1\), 16 bytes are there"),
        (matrix((10**9, 10**9), DOUBLES), "claims the shape"),
        (matrix((-1, -2), DOUBLES), "claims the shape"),
        (matrix((1,) * 40 + (2,), DOUBLES), "claims the shape"),
        (matrix((2, 1), element(9, b"12345678", size=4_000_000_000)), "claims 4000000000 bytes"),
        (matrix((2, 1), element(99, b"12345678")), "unknown data type 99"),
        (matrix((2, 1), element(8, b"12345678")), "unknown data type 8"),
        (matrix((2, 1), element(9, b"12345678"), matlab_class=4), "unknown data type 9"),
        (matrix((1, 10**8), element(4, b""), matlab_class=4), "0 bytes are there"),
        (matrix((2, 1), DOUBLES + DOUBLES), "unusual structure"),
        (matrix((2, 1), b""), "damaged"),
        (SMALL_FLAGS, "unusual structure"),
        (element(14, b"", size=2**31), "claims 2147483648 bytes"),
        (element(14, b"123"), "damaged"),
        (element(15, b"not zlib at all"), "damaged"),
        (element(15, zlib.compress(matrix((2, 1), DOUBLES))[:-20]), "claims"),
        (struct.pack("<HHI", 1, 9, 0), "an element claims 9 bytes"),
        (b"abc", "damaged"),
    ],
)
def test_damaged(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(ReadError, match=message):
        read_mat(write(tmp_path / "v.mat", content))


def test_a_compression_bomb_is_not_unpacked(tmp_path: Path) -> None:
    bomb = element(15, zlib.compress(bytes(100 << 20), 9))
    path = write(tmp_path / "v.mat", bomb)
    assert path.stat().st_size < 200_000
    tracemalloc.start()
    with pytest.raises(ReadError, match="unpack to more than"):
        read_mat(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 80 << 20


@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n\x1a\n" + bytes(200), b"text" * 100])
def test_other_formats(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "v.mat"
    path.write_bytes(content)
    assert not is_mat_file(path)
    with pytest.raises(ReadError, match="expected a MATLAB 5 file"):
        read_mat(path)


def test_missing(tmp_path: Path) -> None:
    assert not is_mat_file(tmp_path / "none.mat")
    with pytest.raises(ReadError, match="cannot be opened"):
        read_mat(tmp_path / "none.mat")


def test_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kinegraph.readers.formats.mat_file.MAX_FILE_BYTES", 200)
    with pytest.raises(ReadError, match="at most 200 bytes"):
        read_mat(write(tmp_path / "v.mat", bytes(100)))


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "v.mat"
    savemat(path, {"x": np.arange(40.0).reshape(8, 5)}, do_compression=True)
    data = path.read_bytes()
    for size in range(128, len(data), 7):
        path.write_bytes(data[:size])
        with pytest.raises(ReadError):
            read_mat(path).array("x")
