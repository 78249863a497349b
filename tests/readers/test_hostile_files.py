"""Hostile and damaged files: a refusal for each bad unit, and memory bounded by the file's size."""

from __future__ import annotations

import io
import os
import pickle
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from kinegraph.errors import ReadError
from kinegraph.readers import get_reader, read_clips
from kinegraph.readers.convert import convert
from kinegraph.readers.formats import numpy_file
from kinegraph.readers.formats.json_file import read_json
from kinegraph.readers.formats.mat_file import read_mat
from kinegraph.readers.formats.numpy_file import iterate_npz_rows, list_npz, open_npy, read_npz
from kinegraph.readers.formats.raw_file import read_bytes, read_head
from reader_samples import SOURCES


def annotation(name: object, **changed: object) -> dict[str, object]:
    joints = np.random.default_rng(0).normal(size=(1, 4, 17, 2)).astype(np.float32)
    return {"frame_dir": name, "label": 1, "keypoint": joints, **changed}


BAD_ANNOTATIONS = [
    None,
    7,
    "text",
    [],
    {},
    annotation(5),
    annotation("bad", label=[1]),
    annotation("bad", label="1" * 10**5),
    annotation("bad", label=10**300),
    annotation("bad", keypoint=None),
    annotation("bad", keypoint=np.zeros((1, 4, 17, 2), np.float32)),
    annotation("bad", keypoint=np.ones((1, 4, 5, 2), np.float32)),
    annotation("bad", keypoint_score="high"),
    annotation("bad", keypoint_score=[[1], [1, 2]]),
    annotation("bad", img_shape=(2**70, -1)),
    annotation("bad", img_shape=np.zeros(3)),
]


@pytest.mark.parametrize("bad", BAD_ANNOTATIONS, ids=lambda value: str(value)[:20])
@pytest.mark.parametrize("place", [0, 3])
def test_one_bad_annotation_is_one_refusal(bad, place, tmp_path):
    annotations = [annotation(f"clip {i}") for i in range(6)]
    annotations.insert(place, bad)
    source = tmp_path / "some.pkl"
    source.write_bytes(pickle.dumps(annotations))
    result = convert(get_reader("pyskl"), source, tmp_path / "it.arrow")
    assert (result.stored, len(result.refused)) == (6, 1), result.refused
    assert all(len(reason) < 500 for _, reason in result.refused)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_pipes_are_refused_at_once(tmp_path):
    for suffix in (".npy", ".npz", ".json", ".mat", ".csv", ".txt", ".gz"):
        pipe = tmp_path / f"pipe{suffix}"
        os.mkfifo(pipe)
        assert read_head(pipe) == b""
        for read in (open_npy, list_npz, read_json, read_mat, read_bytes):
            with pytest.raises(ReadError):
                read(pipe)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_in_place_of_a_list_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "S001C001P001R001A001.skeleton").write_text("0\n")
    with pytest.raises(ReadError, match="not a regular file"):
        get_reader("ntu").scan(tmp_path, missing=str(tmp_path / "pipe"))


def test_a_file_of_very_many_arrays_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(numpy_file, "MAX_ARRAYS", 3)
    for count in (3, 4):
        np.savez(tmp_path / f"{count}.npz", *np.zeros((count, 2)))
    assert len(list_npz(tmp_path / "3.npz")) == 3
    for read in (list_npz, lambda path: read_npz(path, ["arr_0"])):
        with pytest.raises(ReadError, match="at most 3 arrays, got 4"):
            read(tmp_path / "4.npz")


def test_a_table_without_a_last_line_break_has_a_note(tmp_path):
    SOURCES["florence3d"](tmp_path, False)
    path = sorted(tmp_path.iterdir())[0]
    assert read_clips(path)[0].notes == ()
    whole = path.read_bytes()
    for cut in (1, 2, 3):  # a number lost a digit, which no count of values can show
        path.write_bytes(whole[:-cut])
        assert read_clips(path)[0].notes == (
            "the last line has no line break: the file may be cut short",
        )


def write_npy(path: Path, header: str, data: bytes = bytes(64)) -> Path:
    text = header.encode().ljust(117) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data)
    return path


@pytest.mark.parametrize("shape", ["(True, 4)", "(4, True)", "(-1, 4)", "(2.0, 4)", "(None,)", "4"])
def test_shapes_are_whole_numbers(shape, tmp_path):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}"
    with pytest.raises(ReadError):
        open_npy(write_npy(tmp_path / "it.npy", header))


def traced_peak(read) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(ReadError):
            read()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_small_files_do_not_unpack_to_much(tmp_path):
    zeros = io.BytesIO()
    np.save(zeros, np.zeros((1, 2**25 + 2**20), np.float64))
    path = tmp_path / "it.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", zeros.getvalue())
    assert traced_peak(lambda: read_npz(path, ["x"])) < 2**26
    assert traced_peak(lambda: list(iterate_npz_rows(path, "x"))) < 2**26
    mat = tmp_path / "it.mat"
    savemat(mat, {"x": np.zeros(2**23, np.int8)}, do_compression=True)
    assert traced_peak(lambda: read_mat(mat)) < 2**27
    many = tmp_path / "it.json"
    many.write_text("[" + "[]," * 1_500_000 + "0]")
    assert traced_peak(lambda: read_json(many)) < 2**24


def test_arrays_of_one_file_share_a_limit(tmp_path):
    path = tmp_path / "it.npz"
    np.savez_compressed(path, **{f"x{i}": np.zeros(2**23, np.float32) for i in range(6)})
    assert traced_peak(lambda: read_npz(path, list(list_npz(path)))) < 2**28
