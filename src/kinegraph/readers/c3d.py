"""Reader of motion capture in .c3d files: markers and joints by name, through the package ezc3d.

The file states the unit, the rate and often which axis points up (POINT:Y_SCREEN). A point without
a valid residual is absent in that frame.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from kinegraph.errors import ReadError, install_command
from kinegraph.readers.formats.raw_file import read_head
from kinegraph.readers.named_points import PointTracks, tracks_reader

_UNITS = ("m", "cm", "mm")
_BLOCK_BYTES, _HEAD_WORDS_BYTES = 512, 18
_BIG_ENDIAN, _DEC = 86, 85  # processor types; 84 is Intel
_SIGN_BYTES = {_BIG_ENDIAN: 12, _DEC: 13}
_C3D_MAGIC = 0x50  # the second byte of every .c3d file


def read_c3d(path: Path) -> PointTracks:
    """Return the points of a .c3d file.

    Raises:
        ReadError: the package ezc3d is not installed, or the file is damaged or has no points.
    """
    try:
        import ezc3d
    except ImportError as error:
        raise ReadError(
            f"{path}: .c3d files need the package ezc3d ({error}): {install_command('mocap')}"
        ) from error
    if not _is_c3d(path):
        raise ReadError(f"{path}: expected a .c3d file, but it does not begin as one")
    _check_stated_size(path)
    try:
        content = ezc3d.c3d(str(path))
        facts = content["parameters"]["POINT"]
        points, residuals = content["data"]["points"], content["data"]["meta_points"]["residuals"]
        names = [name for key in facts if key.startswith("LABELS") for name in _values(facts, key)]
        fps = float((_values(facts, "RATE") or [0])[0])
    # the C++ library raises OSError, ValueError, IndexError, MemoryError, ...
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ReadError(f"{path}: cannot be read as a .c3d file: {reason:.200}") from error
    if 0 in points.shape or len(names) < points.shape[1]:
        raise ReadError(
            f"{path}: expected named points in at least one frame, got {points.shape[1]} points "
            f"with {len(names)} names in {points.shape[2]} frames"
        )
    positions = points[:3].transpose(2, 1, 0)
    absent = (residuals[0].T < 0) | (positions == 0).all(axis=-1)
    positions = np.where(absent[..., None], np.nan, positions).astype(np.float32)
    own = tuple(str(name).rpartition(":")[2].strip() for name in names[: points.shape[1]])
    return PointTracks(own, positions[None], fps=fps or None, stated=_describe_space(facts))


def _check_stated_size(path: Path) -> None:
    """Refuse a file that is smaller than its header states; the library would read fewer frames.

    The processor type in the parameter block states the order of bytes and where the sign of the
    scale is: negative for numbers of 4 bytes, else they have 2.
    """
    head = read_head(path, _HEAD_WORDS_BYTES)
    if len(head) < _HEAD_WORDS_BYTES:
        raise ReadError(f"{path}: it ends before its header does: it is cut off")
    block = max(0, _BLOCK_BYTES * (head[0] - 1))
    processor = read_head(path, block + 4)[-1]
    points, analogs, first, last, start = struct.unpack(
        ">4H6xH" if processor == _BIG_ENDIAN else "<4H6xH", head[2:]
    )
    width = 4 if head[_SIGN_BYTES.get(processor, 15)] & 0x80 else 2
    frames = last - first + 1
    needed = _BLOCK_BYTES * (start - 1) + frames * width * (4 * points + analogs)
    size = path.stat().st_size
    if needed > size:
        raise ReadError(
            f"{path}: {frames} frames need {needed} bytes, it has {size}: it is cut off"
        )


def _values(facts: Any, key: str) -> list[Any]:
    return list(facts[key]["value"]) if key in facts else []


def _describe_space(facts: Any) -> dict[str, str]:
    """Return what the file states of its coordinates, as options of `SpaceOptions`."""
    stated = {"space": "world"}
    unit = str((_values(facts, "UNITS") or [""])[0]).strip().lower()
    if unit in _UNITS:
        stated["unit"] = unit
    up = str((_values(facts, "Y_SCREEN") or [""])[0]).strip().lower().removeprefix("+")
    if up.removeprefix("-") in ("x", "y", "z"):
        stated["up"] = up
    return stated


def _is_c3d(path: Path) -> bool:
    head = read_head(path, 2)
    return len(head) == 2 and head[1] == _C3D_MAGIC


READER = tracks_reader(
    "c3d",
    "motion capture in .c3d files (with the extra mocap), points by name",
    (".c3d",),
    lambda path: path.suffix.lower() == ".c3d" and _is_c3d(path),
    read_c3d,
)
