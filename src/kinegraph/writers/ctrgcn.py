"""Writer of the .npz files that CTR-GCN and its successors read."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from kinegraph.errors import StoreError
from kinegraph.readers.formats.numpy_file import iterate_npz_rows, read_npz
from kinegraph.writers.array_format import ArrayFormat, WriteJob, WriteProgress

_NTU_JOINTS = 25
_MEMBER_BY_PART = {"train": "train", "val": "test"}


def _write_ctrgcn(job: WriteJob, path: Path, progress: WriteProgress) -> None:
    """Write x_train (N, T, M V 3) float32, y_train (N, classes) one-hot, x_test and y_test.

    Raises:
        StoreError: the clips are not of two persons of NTU's joints in 3D at most.
    """
    layout = job.store.layout
    if layout.num_joints != _NTU_JOINTS or job.store.num_channels != 3 or job.persons != 2:
        raise StoreError(
            f"CTR-GCN's arrays hold 2 persons of {_NTU_JOINTS} joints in 3D, the store has "
            f"{layout.num_joints} joints (layout {layout.name!r}) of {job.store.num_channels} "
            f"coordinates and the arrays {job.persons} persons: use --to stacked or pyskl"
        )
    total, done = sum(map(len, job.parts.values())), 0
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for part, indices in job.parts.items():
            name = _MEMBER_BY_PART[part]
            with archive.open(f"x_{name}.npy", "w", force_zip64=True) as file:
                _write_header(file, (len(indices), job.frames, 6 * _NTU_JOINTS), "<f4")
                for row in _person_rows(job, indices):
                    file.write(row.astype("<f4").tobytes())
                    done += 1
                    progress(done, total)
            labels = _one_hot(job, indices)
            with archive.open(f"y_{name}.npy", "w", force_zip64=True) as file:
                _write_header(file, labels.shape, "<f8")
                file.write(labels.astype("<f8").tobytes())


def _write_header(file: IO[bytes], shape: tuple[int, ...], dtype: str) -> None:
    header: Any = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)  # type: ignore[no-untyped-call]


def _person_rows(job: WriteJob, indices: Iterable[int]) -> Iterator[NDArray[np.float32]]:
    """Yield clips as (T, 150): per frame the joints of the first person, then of the second."""
    for array in job.arrays(indices):
        yield np.ascontiguousarray(array.transpose(1, 3, 2, 0)).reshape(job.frames, -1)


def _one_hot(job: WriteJob, indices: Iterable[int]) -> NDArray[np.float64]:
    return np.eye(job.store.num_classes)[[int(job.store.labels[i]) for i in indices]]


def _check_ctrgcn(job: WriteJob, path: Path) -> str:
    for part, indices in job.parts.items():
        name = _MEMBER_BY_PART[part]
        pairs = zip(iterate_npz_rows(path, f"x_{name}"), _person_rows(job, indices), strict=True)
        for row, (written, expected) in enumerate(pairs):
            if not np.array_equal(written, expected):
                return f"x_{name}: row {row}"
        if not np.array_equal(read_npz(path, [f"y_{name}"])[f"y_{name}"], _one_hot(job, indices)):
            return f"y_{name}"
    return ""


CTRGCN_NPZ = ArrayFormat(
    name="ctrgcn",
    summary="x_train (N, T, 150), y_train one-hot, x_test and y_test in one file, such as "
    "NTU60_CS.npz",
    suffix=".npz",
    write=_write_ctrgcn,
    check=_check_ctrgcn,
)
