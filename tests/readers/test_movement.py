"""Poses to and from movement, and the files that it loads; a stand-in where it is absent."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kinegraph.clips.clip import Clip
from kinegraph.errors import ClipError, ReadError
from kinegraph.readers import guess_reader, read_clip
from kinegraph.readers.movement import from_movement, to_movement
from kinegraph.skeleton import get_layout
from kinegraph.skeleton.space import Space

HAS_MOVEMENT = importlib.util.find_spec("movement") is not None
needs_movement = pytest.mark.skipif(not HAS_MOVEMENT, reason="PACKAGE ABSENT: movement")


def clip_of(persons: int = 2, frames: int = 5, dims: int = 2, scored: bool = True) -> Clip:
    rng = np.random.default_rng(0)
    joints = rng.normal(size=(persons, frames, 17, dims)).astype(np.float32)
    joints[0, 1, 3] = np.nan
    confidence = rng.uniform(size=joints.shape[:3]).astype(np.float32) if scored else None
    space = Space("image", unit="pixel") if dims == 2 else Space("world", "-y", unit="m")
    layout = get_layout("coco17")
    return Clip(joints, layout, confidence, id="mouse", fps=30.0, space=space)


class Variable:
    """An array with named axes, as far as xarray's is used here."""

    def __init__(self, values: Any, dims: tuple[str, ...], names: tuple[str, ...]) -> None:
        self.values, self.dims = np.asarray(values), dims
        self.coords = {dims[2]: SimpleNamespace(values=names)} if len(dims) == 4 else {}

    def transpose(self, *dims: str) -> np.ndarray:
        return self.values.transpose([self.dims.index(name) for name in dims])


class Dataset(dict):
    """A dataset of position and confidence, with attributes, as far as xarray's is used here."""

    def __init__(self, clip: Clip, ending: str = "s", **attrs: Any) -> None:
        dims = ("time", "space", f"keypoint{ending}", f"individual{ending}")
        joints = clip.joints.transpose(1, 3, 2, 0)
        self.position = Variable(joints, dims, clip.layout.joints)
        if clip.confidence is not None:
            confidence = clip.confidence.transpose(1, 2, 0)
            self.confidence = self["confidence"] = Variable(confidence, (dims[0], *dims[2:]), ())
        self.attrs = attrs


@pytest.mark.parametrize("ending", ["s", ""])
def test_a_dataset_becomes_a_clip(ending: str) -> None:
    clip = clip_of()
    found = from_movement(Dataset(clip, ending, fps=30), label=3, id="mouse", meta={"cage": 2})
    np.testing.assert_array_equal(found.joints, clip.joints)
    np.testing.assert_array_equal(found.confidence, clip.confidence)
    assert (found.layout.name, found.label, found.id, found.fps) == ("coco17", 3, "mouse", 30.0)
    assert dict(found.meta) == {"cage": 2}
    assert found.space == Space("image", unit="pixel") and not found.space.assumed
    assert from_movement(Dataset(clip_of(scored=False))).fps is None
    assert from_movement(Dataset(clip), layout="coco17_paddle").layout.name == "coco17_paddle"


def test_what_is_not_a_dataset_of_poses() -> None:
    with pytest.raises(ReadError, match=r"expected a movement poses dataset .*got dict"):
        from_movement({})
    with pytest.raises(ReadError, match="joints of layout 'ntu25'; it lacks spine_base"):
        from_movement(Dataset(clip_of()), layout="ntu25")


@pytest.mark.skipif(HAS_MOVEMENT, reason="movement is installed")
def test_without_the_package_a_sentence_says_how_to_install_it(tmp_path: Path) -> None:
    with pytest.raises(
        ReadError, match=r"to_movement needs the package movement .*pip install .*\[movement\]"
    ):
        to_movement(clip_of())
    path = tmp_path / "a.slp"
    path.write_bytes(b"\x89HDF\r\n\x1a\n")
    assert guess_reader(path).name == "sleap"
    with pytest.raises(ReadError, match=r"a\.slp: this kind of file needs the package movement"):
        read_clip(path)


@needs_movement
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dims", [2, 3])
def test_to_movement_and_back(dims: int) -> None:
    clip = clip_of(dims=dims)
    dataset = to_movement(clip)
    assert dataset.sizes["time"] == 5 and dataset.attrs["fps"] == 30
    found = from_movement(dataset, id="mouse")
    np.testing.assert_array_equal(found.joints, clip.joints)
    np.testing.assert_array_equal(found.confidence, clip.confidence)
    assert (found.layout, found.fps, found.id) == (clip.layout, 30.0, "mouse")
    assert found.space == clip.space
    assert from_movement(to_movement(clip_of(scored=False))).confidence is None


def test_one_coordinate_is_refused() -> None:
    flat = Clip(np.zeros((1, 2, 17, 1)), get_layout("coco17"))
    with pytest.raises(ClipError, match="expected 2 or 3 coordinates, got 1"):
        to_movement(flat)


@needs_movement
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("reader", "save", "name", "persons"),
    [
        ("sleap", "to_sleap_analysis_file", "a.h5", 2),
        ("deeplabcut", "to_dlc_file", "a.h5", 1),
        ("deeplabcut", "to_dlc_file", "a.csv", 1),
        ("lightning_pose", "to_lp_file", "a.csv", 1),
        ("nwb", "to_nwb_file", "a.nwb", 1),
    ],
)
def test_files_that_movement_writes(
    tmp_path: Path, reader: str, save: str, name: str, persons: int
) -> None:
    from movement.io import save_poses

    clip, path = clip_of(persons), tmp_path / name
    if reader == "nwb":
        from pynwb import NWBHDF5IO

        with NWBHDF5IO(path, "w") as file:
            file.write(save_poses.to_nwb_file(to_movement(clip)))
    else:
        options = {"split_individuals": False} if reader == "deeplabcut" else {}
        getattr(save_poses, save)(to_movement(clip), path, **options)
    if reader == "lightning_pose":
        path = path.with_name("a_person_0.csv")
    found = read_clip(path, reader)
    np.testing.assert_allclose(found.joints, clip.joints, rtol=1e-5)
    assert found.layout.name == "coco17" and found.confidence is not None
    seen = clip.valid
    np.testing.assert_allclose(found.confidence[seen], clip.confidence[seen], rtol=1e-5)
    if reader != "lightning_pose":
        assert guess_reader(path).name == reader
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ReadError):
        read_clip(path, reader)
