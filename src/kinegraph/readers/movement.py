"""Poses to and from the package movement, and readers of the files that it loads.

movement (Sirmpilatze et al. 2025, https://movement.neuroinformatics.dev) loads the poses of animals
that DeepLabCut, SLEAP, Lightning Pose and others track. It is imported on first use.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip
from kinegraph.errors import ClipError, ReadError, install_command
from kinegraph.readers.formats.raw_file import read_head
from kinegraph.readers.named_points import PointTracks, make_clip, tracks_reader
from kinegraph.readers.reader import ReadTask
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.space import Space

_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_HDF5_HEAD_BYTES = 1 << 16
_SPACE_KEY = "kinegraph_space"
_LOADERS = {
    "DeepLabCut": "from_dlc_file",
    "LightningPose": "from_lp_file",
    "SLEAP": "from_sleap_file",
    "NWB": "from_nwb_file",
}


def from_movement(dataset: Any, layout: str | SkeletonLayout = "", **facts: Any) -> Clip:
    """Return the clip of a movement poses dataset; its individuals become persons.

    Args:
        dataset: an `xarray.Dataset` with position (time, space, keypoints, individuals) and
            confidence (time, keypoints, individuals).
        layout: a layout that has joints of the keypoints' names, or a layout file; by default the
            largest registered one whose joints are all among the keypoints.
        facts: the clip's label, id, meta and space; two coordinates are pixels by default.

    Raises:
        ReadError: the dataset has no poses, or the layout does not fit the keypoints.
    """
    tracks = _read_dataset(dataset, Path("dataset"))
    if _SPACE_KEY in dataset.attrs:
        facts.setdefault("space", Space.from_dict(json.loads(dataset.attrs[_SPACE_KEY])))
    return make_clip(ReadTask(Path("dataset"), {"layout": layout, "id": "", **facts}), tracks)


def to_movement(clip: Clip) -> Any:
    """Return a clip as a movement poses dataset; keypoints are joints, individuals persons.

    The attribute kinegraph_space keeps the clip's space for `from_movement`.

    Raises:
        ReadError: the package movement is not installed.
        ClipError: the clip has coordinates other than 2D or 3D.
    """
    if clip.num_channels not in (2, 3):
        raise ClipError(f"clip {clip.id!r}: expected 2 or 3 coordinates, got {clip.num_channels}")
    confidence = None if clip.confidence is None else clip.confidence.transpose(1, 2, 0)
    dataset = _import_load_poses("to_movement").from_numpy(
        position_array=clip.joints.transpose(1, 3, 2, 0).copy(),
        confidence_array=confidence,
        individual_names=[f"person_{number}" for number in range(clip.num_persons)],
        keypoint_names=list(clip.layout.joints),
        fps=clip.fps,
        source_software="kinegraph",
    )
    dataset.attrs[_SPACE_KEY] = json.dumps(clip.space.to_dict())
    return dataset


def load_tracks(path: Path, software: str) -> PointTracks:
    """Return the tracks of a file that movement loads.

    Args:
        path: the file.
        software: the program that wrote it: DeepLabCut, LightningPose, SLEAP or NWB.

    Raises:
        ReadError: the package movement is not installed or refuses the file.
    """
    load = getattr(_import_load_poses(f"{path}: this kind of file"), _LOADERS[software])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = load(path)
    # movement raises whatever the package beneath it raises: ValueError, KeyError, OSError, ...
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ReadError(f"{path}: movement cannot load it as {software}: {reason:.300}") from error
    return _read_dataset(dataset, path)


def _import_load_poses(user: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from movement.io import load_poses
    except ImportError as error:
        raise ReadError(
            f"{user} needs the package movement ({error}): {install_command('movement')}"
        ) from error
    return load_poses


def _read_dataset(dataset: Any, path: Path) -> PointTracks:
    position = getattr(dataset, "position", None)
    # versions of movement differ in the plural of the names
    wanted = ("individual", "time", "keypoint", "space")
    found = {key: [d for d in getattr(position, "dims", ()) if d.startswith(key)] for key in wanted}
    if position is None or any(len(dims) != 1 for dims in found.values()):
        raise ReadError(
            f"{path}: expected a movement poses dataset with position (time, space, keypoints, "
            f"individuals), got {getattr(position, 'dims', type(dataset).__name__)}"
        )
    axes = [found[key][0] for key in wanted]
    confidence: NDArray[np.float32] | None = None
    if "confidence" in dataset:
        confidence = np.array(dataset.confidence.transpose(*axes[:3]), np.float32)
        confidence = None if np.isnan(confidence).all() else confidence
    fps = dataset.attrs.get("fps")
    names = tuple(str(name) for name in position.coords[axes[2]].values)
    joints = np.array(position.transpose(*axes), np.float32)
    pixels = {"space": "image", "unit": "pixel"} if joints.shape[-1] == 2 else {}
    return PointTracks(names, joints, confidence, None if fps is None else float(fps), pixels)


def _load_sleap(path: Path) -> PointTracks:
    return load_tracks(path, "SLEAP")


def _load_nwb(path: Path) -> PointTracks:
    return load_tracks(path, "NWB")


def _is_hdf5(path: Path) -> bool:
    return read_head(path, len(_HDF5_MAGIC)) == _HDF5_MAGIC


SLEAP = tracks_reader(
    "sleap",
    "SLEAP predictions (.slp or analysis .h5), with the extra movement",
    (".slp", ".h5"),
    lambda path: (
        path.suffix in (".slp", ".h5")
        and _is_hdf5(path)
        and (path.suffix == ".slp" or b"track_occupancy" in read_head(path, _HDF5_HEAD_BYTES))
    ),
    _load_sleap,
)
NWB = tracks_reader(
    "nwb",
    "poses (ndx-pose) in NWB files, with the extra movement",
    (".nwb",),
    lambda path: path.suffix == ".nwb" and _is_hdf5(path),
    _load_nwb,
)
