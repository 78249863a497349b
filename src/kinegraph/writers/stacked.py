"""Writer of stacked arrays with label files: ST-GCN, AS-GCN, 2s-AGCN and Shift-GCN."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from kinegraph.errors import StoreError
from kinegraph.readers.formats.numpy_file import open_npy
from kinegraph.readers.formats.pickle_file import dump_pickle, load_pickle
from kinegraph.readers.ntu.reader import parse_recording_name
from kinegraph.writers.array_format import ArrayFormat, WriteJob, WriteProgress


def _write_stacked(job: WriteJob, path: Path, progress: WriteProgress) -> None:
    """Write ``{train,val}_data.npy`` (N, 3, T, V, M) and ``{train,val}_label.pkl``.

    The name is ``data_joint`` for the convention of 2s-AGCN. A label file is a pickle of (names,
    labels); names of NTU recordings end in .skeleton.
    """
    path.mkdir()
    total, done = sum(map(len, job.parts.values())), 0
    for part, indices in job.parts.items():
        shape = (len(indices), 3, job.frames, job.store.layout.num_joints, job.persons)
        with _array_path(job, path, part).open("wb") as file:
            header: Any = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)  # type: ignore[no-untyped-call]
            for array in job.arrays(indices):
                file.write(array.astype("<f4", order="C").tobytes())
                done += 1
                progress(done, total)
        dump_pickle(path / f"{part}_label.pkl", _names_and_labels(job, indices))


def _array_path(job: WriteJob, folder: Path, part: str) -> Path:
    usual = "data_joint" if job.space.prepared == "agcn" else "data"
    name = str(job.options.get("name", usual))
    if not name.replace("_", "").isalnum() or "data" not in name:
        raise StoreError(f"--name: expected a name such as data or data_joint_pad, got {name!r}")
    return folder / f"{part}_{name}.npy"


def _names_and_labels(job: WriteJob, indices: Any) -> tuple[list[str], list[int]]:
    names = [job.store.ids[i] for i in indices]
    names = [name + ".skeleton" if parse_recording_name(name) else name for name in names]
    return names, [int(job.store.labels[i]) for i in indices]


def _check_stacked(job: WriteJob, path: Path) -> str:
    for part, indices in job.parts.items():
        array_path = _array_path(job, path, part)
        written = open_npy(array_path)
        for row, expected in enumerate(job.arrays(indices)):
            if not np.array_equal(written[row], expected):
                return f"{array_path.name}: row {row}"
        if load_pickle(path / f"{part}_label.pkl") != _names_and_labels(job, indices):
            return f"{part}_label.pkl"
    return ""


STACKED = ArrayFormat(
    name="stacked",
    summary="folder of {train,val}_data.npy (N, C, T, V, M) and {train,val}_label.pkl, as ST-GCN, "
    "AS-GCN, 2s-AGCN and Shift-GCN read them",
    suffix="",
    write=_write_stacked,
    check=_check_stacked,
    options={"name": "name of the arrays after train_ and val_ (default data, or data_joint)"},
)
