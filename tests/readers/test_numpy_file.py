"""Headers of .npy and .npz files that do not fit the bytes are refused."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from kinegraph.errors import ReadError
from kinegraph.readers.formats.numpy_file import open_npy, read_npy_shape, read_npz, to_float32


def header(shape, descr="<f8", version=(1, 0)):
    file = io.BytesIO()
    fields = {"descr": descr, "fortran_order": False, "shape": shape}
    writers = {(1, 0): np.lib.format.write_array_header_1_0}
    writers[2, 0] = np.lib.format.write_array_header_2_0
    writers[version](file, fields)
    return file.getvalue()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f8", ">f4", "<f2", "<i8", "|u1"])
def test_arrays_are_mapped(tmp_path, order, dtype):
    array = np.asarray(np.arange(12).reshape(3, 4), dtype=dtype, order=order)
    np.save(tmp_path / "a.npy", array)
    opened = open_npy(tmp_path / "a.npy")
    assert isinstance(opened, np.memmap)
    np.testing.assert_array_equal(opened, array)
    assert read_npy_shape(tmp_path / "a.npy") == (3, 4)


def test_newer_header_version(tmp_path):
    (tmp_path / "a.npy").write_bytes(header((2,), version=(2, 0)) + np.ones(2).tobytes())
    assert open_npy(tmp_path / "a.npy").tolist() == [1, 1]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "cannot be read as a .npy"),
        (b"letters, no array", "magic"),
        (header((10**12,)), "claims the shape"),
        (header((10**12, 10**12)), "claims the shape"),
        (header((3,)) + bytes(23), "24 bytes.*holds 23"),
        (header((-3,)) + bytes(24), "not empty"),
        (header((0, 3)), "not empty"),
        (header((2,), "<U3") + bytes(24), "array of numbers"),
        (header((2,), "|b1") + bytes(2), "array of numbers"),
        (header((2,), "<c16") + bytes(32), "array of numbers"),
        (header((2,), [("a", "<f8")]) + bytes(16), "array of numbers"),
        (header((2,), "|O") + b"\x80\x03N.", "array of numbers"),
        (b"\x93NUMPY\x03\x00" + header((2,))[8:], "version 1.0 or 2.0"),
        (b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535, "header is damaged"),
        (b"\x93NUMPY\x01\x00\x10\x27" + b"(" * 10000, "header is damaged"),
        (b"\x93NUMPY\x01\x00\x04\x00{[1:", "header is damaged"),
        (b"\x93NUMPY\x01\x00\x10\x00" + b"__import__('os')", "header is damaged"),
    ],
)
def test_damaged_npy(tmp_path, data, reason):
    path = tmp_path / "a.npy"
    path.write_bytes(data)
    with pytest.raises(ReadError, match=f"(?s)a\\.npy.*{reason}"):
        open_npy(path)
    assert read_npy_shape(path) is None


def test_object_npy_is_not_unpickled(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ReadError, match="expected an array of numbers, got Python objects"):
        open_npy(path)


def test_missing_npy(tmp_path):
    with pytest.raises(ReadError, match="No such file"):
        open_npy(tmp_path / "none.npy")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path, save):
    save(tmp_path / "a.npz", joints=np.ones((2, 3)), fps=25, other=np.array(["text"]))
    arrays = read_npz(tmp_path / "a.npz", ("joints", "fps"))
    assert sorted(arrays) == ["fps", "joints"]
    assert arrays["joints"].shape == (2, 3)
    assert arrays["fps"].shape == ()


def test_npz_without_the_array(tmp_path):
    np.savez(tmp_path / "a.npz", pose=np.ones(3))
    with pytest.raises(ReadError, match="found pose"):
        read_npz(tmp_path / "a.npz", ("joints",))


def test_zip_bomb_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / "bomb.npz"
    size = 2**28
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("joints.npy", header((size // 8,)) + bytes(size))
    assert path.stat().st_size < 2**19
    with pytest.raises(ReadError, match=r"would unpack from \d+ bytes to 26843"):
        read_npz(path, ("joints",))


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        (header((10**12,)), "claims the shape"),
        (b"no array", "magic"),
        (header((1,), "|O") + b"N.", "array of numbers"),
    ],
)
def test_damaged_npz_member(tmp_path, member, reason):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("joints.npy", member)
    with pytest.raises(ReadError, match=reason):
        read_npz(tmp_path / "a.npz", ("joints",))


def test_damaged_npz(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, joints=np.random.default_rng(0).random((20, 5, 3)))
    data = path.read_bytes()
    for broken in (b"", b"PK", data[: len(data) // 2], data[:80] + b"XXXX" + data[84:]):
        path.write_bytes(broken)
        with pytest.raises(ReadError, match=r"a\.npz"):
            read_npz(path, ("joints",))


def test_numbers_beyond_float32_become_infinite_quietly():
    assert np.isinf(to_float32(np.array([1e300]))).all()
