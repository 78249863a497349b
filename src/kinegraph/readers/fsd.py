"""Reads the figure-skating arrays of the FSD-10 competition: BODY_25 joints of one skater."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kinegraph.clips.clip import Clip
from kinegraph.errors import ReadError
from kinegraph.readers.formats.numpy_file import read_npy_shape
from kinegraph.readers.reader import Reader, ReadPlan, ReadTask
from kinegraph.readers.stacked import Shape, find_stacked_arrays, make_row_tasks, read_rows
from kinegraph.skeleton.layouts import get_layout

LAYOUT = "body25"


def scan(source: Path, labels: str = "") -> ReadPlan:
    """Arrays (N, 3, T, 25, 1) in a folder, or one such file; (3, T, 25, 1) is a single clip.

    Channels are x and y in [-1, 1], then the confidence. A clip ends with its last frame that
    has any number but zero. The 30 classes have no public names.

    Args:
        source: a .npy file, or a folder of them.
        labels: the label file, relative to the array's folder; by default ``train_label.npy``
            beside ``train_data.npy``.

    Raises:
        ReadError: no such array, labels that do not fit.
    """
    files, refused = find_stacked_arrays(source, _is_fsd)
    layout = get_layout(LAYOUT)
    return ReadPlan(make_row_tasks(files, layout, labels), layout, refused=refused)


def read(task: ReadTask, labels: str = "") -> Iterator[Clip | ReadError]:
    """The clips of a range of rows; options as for `scan`."""
    return read_rows(task, get_layout(LAYOUT), confidence=True)


def _is_fsd(shape: Shape) -> bool:
    return len(shape) in (4, 5) and shape[-4] == 3 and shape[-2:] == (25, 1)


def _matches(path: Path) -> bool:
    return _is_fsd(read_npy_shape(path) or ())


READER = Reader(
    name="fsd",
    summary="FSD-10 figure skating, competition arrays (N, 3, T, 25, 1) with confidence",
    scan=scan,
    read=read,
    matches=_matches,
    options={"labels": "the label file, relative to the array's folder"},
    dataset_only=frozenset({"labels"}),
    protocols=("official", "every-seventh", "holdout"),
)
