"""Readers of the tables of DeepLabCut and Lightning Pose: body parts of animals in a video.

Their .csv files have three or four header lines (scorer, individuals, bodyparts, coords), then a
line per frame. Their .h5 files are read by the package movement.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kinegraph.errors import ReadError
from kinegraph.readers.formats.raw_file import read_head
from kinegraph.readers.formats.table_file import read_csv_rows
from kinegraph.readers.movement import load_tracks
from kinegraph.readers.named_points import PointTracks, tracks_reader

_COORDS = ("x", "y", "z")
_MAX_GAP = 20  # frames per row: more are a column that does not hold frame numbers


def read_dlc_table(path: Path) -> PointTracks:
    """Return the tracks of a .csv file in DeepLabCut's form.

    Raises:
        ReadError: the file is not of this form; the message names the line.
    """
    header, rows = _read_header_and_rows(path)
    columns = [i for i, coord in enumerate(header["coords"]) if coord in (*_COORDS, "likelihood")]
    parts = list(dict.fromkeys(header["bodyparts"][i] for i in columns))
    individuals = list(dict.fromkeys(header["individuals"][i] for i in columns))
    width = 2 + ("z" in header["coords"])
    values = np.full((len(individuals), len(rows), len(parts), width + 1), np.nan)
    for i in columns:
        m, k = individuals.index(header["individuals"][i]), parts.index(header["bodyparts"][i])
        coord = header["coords"][i]
        values[m, :, k, width if coord == "likelihood" else _COORDS.index(coord)] = rows[:, i]
    scored = "likelihood" in header["coords"]
    values = _place_frames(values, rows[:, 0]).astype(np.float32)
    confidence = values[..., width] if scored else None
    pixels = {"space": "image", "unit": "pixel"} if width == 2 else {}
    return PointTracks(tuple(parts), values[..., :width], confidence, stated=pixels)


def _read_header_and_rows(path: Path) -> tuple[dict[str, list[str]], NDArray[np.float64]]:
    """Return the header lines by their first word, and the numbers (T, columns); NaN if empty."""
    header: dict[str, list[str]] = {}
    rows: list[list[float]] = []
    for number, cells in read_csv_rows(path):
        if "coords" not in header:
            key = cells[0].strip().lower()
            if key not in ("scorer", "individuals", "bodyparts", "coords"):
                raise ReadError(
                    f"{path}:{number}: expected the lines scorer, bodyparts and coords of a "
                    f"DeepLabCut table, got {cells[0]!r:.40}"
                )
            header[key] = [cell.strip() for cell in cells]
            continue
        if len(cells) != len(header["coords"]):
            raise ReadError(
                f"{path}:{number}: expected {len(header['coords'])} columns, got {len(cells)}"
            )
        rows.append(_parse_cells(cells, header["coords"], f"{path}:{number}"))
    if "bodyparts" not in header or not rows:
        raise ReadError(f"{path}: expected the lines bodyparts and coords, and at least one frame")
    header["coords"] = [coord.lower() for coord in header["coords"]]
    header.setdefault("individuals", [""] * len(header["coords"]))
    if len({len(cells) for cells in header.values()}) > 1:
        raise ReadError(f"{path}: expected header lines of the same number of columns")
    return header, np.array(rows)


def _parse_cells(cells: Sequence[str], coords: Sequence[str], where: str) -> list[float]:
    """Return numbers; the first is a frame number, or NaN if the frame is named by its image."""
    numbers = []
    for cell, coord in zip(cells, coords, strict=True):
        try:
            numbers.append(float(cell) if cell.strip() else np.nan)
        except ValueError:
            if coord.lower() in (*_COORDS, "likelihood"):
                raise ReadError(f"{where}: expected a number, got {cell.strip()!r:.40}") from None
            numbers.append(np.nan)
    return numbers


def _place_frames(values: NDArray[np.float64], numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the values (M, T, K, C) at their frame numbers; frames between them are absent."""
    if np.isnan(numbers).any() or (np.diff(numbers) < 1).any():
        return values
    places = (numbers - numbers[0]).astype(np.int64)
    if places[-1] >= _MAX_GAP * len(places):
        return values
    placed = np.full((len(values), places[-1] + 1, *values.shape[2:]), np.nan)
    placed[:, places] = values
    return placed


def read_tracks(path: Path) -> PointTracks:
    """Return the tracks of a table, or of a .h5 file by the package movement.

    Raises:
        ReadError: as `read_dlc_table` and `load_tracks` do.
    """
    is_hdf5 = path.suffix.lower() == ".h5"
    return load_tracks(path, "DeepLabCut") if is_hdf5 else read_dlc_table(path)


def is_dlc_table(path: Path) -> bool:
    """Return whether a file is a .csv that begins as DeepLabCut's tables do."""
    return path.suffix.lower() == ".csv" and read_head(path, 7).lower() == b"scorer,"


def _matches(path: Path) -> bool:
    is_hdf5 = path.suffix == ".h5" and read_head(path, 4) == b"\x89HDF"
    return is_dlc_table(path) or (is_hdf5 and b"df_with_missing" in read_head(path, 1 << 16))


DEEPLABCUT = tracks_reader(
    "deeplabcut",
    "DeepLabCut and Lightning Pose tables (.csv; .h5 with the extra movement)",
    (".csv", ".h5"),
    _matches,
    read_tracks,
)
LIGHTNING_POSE = tracks_reader(
    "lightning_pose",
    "Lightning Pose tables (.csv), the same as those of DeepLabCut",
    (".csv",),
    lambda path: False,  # the reader deeplabcut takes them
    read_dlc_table,
)
