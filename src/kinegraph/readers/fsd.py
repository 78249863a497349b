"""Reader of the FSD-10 competition arrays of figure skating: BODY_25 joints of one skater.

Channels are x and y in [-1, 1], then the confidence. A clip ends with its last frame that has a
number other than zero. The 30 classes have no public names.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kinegraph.clips.clip import Clip
from kinegraph.errors import ReadError
from kinegraph.readers.formats.numpy_file import read_npy_shape
from kinegraph.readers.reader import Reader, ReadPlan, ReadTask
from kinegraph.readers.stacked import (
    LABELS_HELP,
    Shape,
    find_stacked_arrays,
    is_fsd_shape,
    make_row_tasks,
    read_rows,
)
from kinegraph.skeleton.layouts import get_layout

_LAYOUT = "body25"


def _scan(source: Path, labels: str = "") -> ReadPlan:
    files, refused = find_stacked_arrays(source, _is_fsd)
    layout = get_layout(_LAYOUT)
    return ReadPlan(make_row_tasks(files, layout, labels), layout, refused=refused)


def _read(task: ReadTask, labels: str = "") -> Iterator[Clip | ReadError]:
    return read_rows(task, get_layout(_LAYOUT), confidence=True)


def _is_fsd(shape: Shape) -> bool:
    return len(shape) in (4, 5) and is_fsd_shape(shape)


def _matches(path: Path) -> bool:
    return _is_fsd(read_npy_shape(path) or ())


READER = Reader(
    name="fsd",
    summary="FSD-10 figure skating, competition arrays (N, 3, T, 25, 1) with confidence",
    scan=_scan,
    read=_read,
    matches=_matches,
    options={"labels": LABELS_HELP},
    dataset_only=frozenset({"labels"}),
    protocols=("official", "every-seventh", "holdout"),
)
