"""Registry of readers: names, recognition of files, and reading clips."""

from __future__ import annotations

import importlib.util
import inspect

import numpy as np
import pytest

import kinegraph.readers
from conftest import real_data
from kinegraph.clips.splits import get_protocol
from kinegraph.errors import ReadError, UnknownNameError
from kinegraph.readers import (
    READERS,
    get_reader,
    guess_reader,
    read_clip,
    read_clips,
)
from kinegraph.readers.reader import Reader
from kinegraph.readers.space_options import SPACE_OPTIONS
from test_docs import ROOT, blocks

DOCS = ROOT / "docs" / "add-a-dataset.md"


def test_names():
    assert len(READERS) == len(kinegraph.readers._ALL_READERS)
    assert {"ntu", "kinetics", "arrays", "synthetic"} <= set(READERS)
    for name, reader in READERS.items():
        assert get_reader(name) is reader
        assert reader.name == name
    with pytest.raises(UnknownNameError, match=r"unknown reader 'nut' \(did you mean 'ntu'\?\)"):
        get_reader("nut")


def test_public_names_exist():
    assert all(hasattr(kinegraph.readers, name) for name in kinegraph.readers.__all__)


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_scan_takes_the_options_that_are_declared(reader):
    _, *options = inspect.signature(reader.scan).parameters.values()
    named = [o for o in options if o.kind is not o.VAR_KEYWORD]
    shared = [] if named == options else list(SPACE_OPTIONS)
    assert [o.name for o in named] + shared == list(reader.options)
    assert all(o.default is not inspect.Parameter.empty for o in named)
    assert len(inspect.signature(reader.read).parameters) == 1


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_protocols_exist(reader):
    assert reader.protocols
    assert all(get_protocol(name).name == name for name in reader.protocols)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("ntu", "ntu_samples/S001C001P001R001A001.skeleton"),
        ("stacked", "ntu_samples/stacked_one_clip.npy"),
        ("fsd", "fsd10/example_skeleton.npy"),
        ("pyskl", "pyskl_format/ucf101_one_clip.pkl"),
        ("ddnet", "jhmdb14/GT_test_1.pkl"),
        ("ddnet", "jhmdb14"),
        ("kinetics", "kinetics_skeleton/kinetics_val"),
        ("nw_ucla", "nw_ucla/all_sqe"),
        ("utd_mhad", "utd_mhad/Skeleton"),
        ("penn_action", "penn_action/labels"),
        ("sbu", "sbu"),
        ("florence3d", "florence3d"),
        ("utkinect", "utkinect/joints"),
    ],
)
def test_real_files_are_recognised(name, path):
    source = real_data(path)
    if name == "stacked":
        with pytest.raises(ReadError, match="could be read by stacked or arrays"):
            guess_reader(source)
        return
    assert guess_reader(source).name == name


@pytest.fixture
def odd_files(tmp_path):
    """Files that no reader should choke on, whatever their names promise."""
    names = ["a.json", "a.txt", "a.mat", "a.skeleton", "a.npy", "a.npz", "a.csv", "a.pkl"]
    names += ["GT_test_1.pkl.txt", "skeleton_pos.txt", "noname", "a01_s01_e01_v01.json"]
    for name in names:
        (tmp_path / name).write_bytes(b"\xff\x00 nothing of the kind")
        (tmp_path / f"empty_{name}").write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_matching_never_raises(reader, odd_files):
    for path in [odd_files, odd_files / "missing", *odd_files.iterdir()]:
        assert reader.matches(path) in (True, False)


def test_unknown_files(tmp_path):
    path = tmp_path / "some.bin"
    path.write_bytes(bytes(100))
    with pytest.raises(
        ReadError, match=r"some\.bin: no reader recognizes .*with --reader: ntu, .*, synthetic"
    ):
        guess_reader(path)
    with pytest.raises(ReadError, match="does not exist"):
        guess_reader(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ReadError, match="empty is an empty folder: expected raw files"):
        guess_reader(tmp_path / "empty")
    with pytest.raises(ReadError, match="choose one with --reader"):
        guess_reader(tmp_path)


def test_ambiguous_file(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((3, 30, 25, 2)))
    with pytest.raises(
        ReadError, match="by stacked or arrays; choose one, such as --reader stacked"
    ):
        guess_reader(tmp_path / "a.npy")


def test_read_clips(tmp_path):
    for name, frames in (("a", 3), ("b", 4)):
        np.save(tmp_path / f"{name}.npy", np.ones((frames, 17, 2)))
    clips = read_clips(tmp_path, layout="coco17")
    assert [clip.num_frames for clip in clips] == [3, 4]
    assert read_clip(tmp_path / "b.npy", "arrays", layout="coco17", fps=25).fps == 25
    assert read_clip(str(tmp_path), "arrays", layout="coco17").id == "a"


def test_read_clips_refuses(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((3, 17, 2)))
    np.save(tmp_path / "b.npy", np.zeros((3, 17, 2)))
    with pytest.raises(ReadError, match=r"b\.npy: no joint was seen"):
        read_clips(tmp_path, layout="coco17")
    assert read_clip(tmp_path, layout="coco17").id == "a"
    with pytest.raises(UnknownNameError, match=r"unknown option of reader 'arrays': 'layuot'"):
        read_clips(tmp_path, "arrays", layuot="coco17")
    with pytest.raises(ReadError, match="does not exist"):
        read_clips(tmp_path / "none", "arrays")
    (tmp_path / "clips.csv").write_text("file,label\nnone.npy,1\n")
    with pytest.raises(
        ReadError, match=r"no usable clip in .*clips\.csv:2: the file does not exist"
    ):
        read_clips(tmp_path, "arrays", layout="coco17")


def test_a_yielded_error_is_raised(tmp_path):
    block = np.ones((2, 3, 5, 25, 2))
    block[0] = 0
    np.save(tmp_path / "a.npy", block)
    with pytest.raises(ReadError, match="row 0"):
        read_clip(tmp_path, "stacked")


def test_documented_reader_works(tmp_path):
    """The example of docs/add-a-dataset.md, as it stands there."""
    (code,) = [block for mark, block in blocks(DOCS) if mark == "python reader"]
    (tmp_path / "stick.py").write_text(code)
    spec = importlib.util.spec_from_file_location("stick", tmp_path / "stick.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    reader = module.READER
    assert isinstance(reader, Reader)
    (tmp_path / "a.stick").write_text("1 2 0 0 5 6\n7 8 9 1 2 3\n")
    plan = reader.scan(tmp_path)
    (clip,) = reader.read(plan.tasks[0])
    assert clip.joints.shape == (1, 2, 3, 2)
    assert np.argwhere(~clip.valid).tolist() == [[0, 0, 1]]
    (tmp_path / "a.stick").write_text("1 2 3\n")
    with pytest.raises(ReadError, match="6 numbers a line"):
        next(reader.read(plan.tasks[0]))
