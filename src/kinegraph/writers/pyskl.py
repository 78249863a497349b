"""Writer of the annotation pickles that PYSKL and MMAction2 read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kinegraph.clips.clip import Clip
from kinegraph.errors import StoreError
from kinegraph.readers.formats.pickle_file import dump_pickle, load_pickle
from kinegraph.transforms.fit_space import to_image_unit
from kinegraph.transforms.to_model_input import to_array
from kinegraph.writers.array_format import PARTS, ArrayFormat, WriteJob, WriteProgress

_DTYPES = ("float32", "float16")


def _write_pyskl(job: WriteJob, path: Path, progress: WriteProgress) -> None:
    """Write {"split": names by split, "annotations": one of each clip}, clip by clip.

    Splits are named like xsub_train and xsub_val, those of the data set's own split train and val.
    An annotation has frame_dir, label, total_frames, keypoint (M, T, V, D), and in 2D
    keypoint_score (M, T, V), img_shape and original_shape (height, width).
    """

    def report(annotations: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for done, annotation in enumerate(annotations, start=1):
            progress(done, len(job.indices))
            yield annotation

    dump_pickle(path, {"split": _splits(job)}, annotations=report(_annotations(job)))


def _splits(job: WriteJob) -> dict[str, list[str]]:
    return {
        part if protocol == "official" else f"{protocol}_{part}": [job.store.ids[i] for i in own]
        for protocol, pair in job.splits.items()
        for part, own in zip(PARTS, pair, strict=True)
        if len(own)
    }


def _annotations(job: WriteJob) -> Iterator[dict[str, Any]]:
    dtype = str(job.options.get("dtype", "float32"))
    if dtype not in _DTYPES:
        raise StoreError(f"--dtype: expected {' or '.join(_DTYPES)}, got {dtype!r}")
    for clip in job.clips(job.indices):
        yield _annotate(clip, job, np.dtype(dtype))


def _annotate(clip: Clip, job: WriteJob, dtype: np.dtype[Any]) -> dict[str, Any]:
    annotation: dict[str, Any] = {
        "frame_dir": clip.id,
        "label": clip.label,
        "total_frames": clip.num_frames,
    }
    size = 1, 1  # of an image whose coordinates are shares of it
    if clip.space.kind == "image" and clip.space.prepared == "recorded":
        if clip.meta.get("width") and clip.meta.get("height"):
            clip = to_image_unit(clip, "pixel")
            size = int(clip.meta["height"]), int(clip.meta["width"])  # type: ignore[arg-type]
        elif clip.space.unit == "pixel":
            raise StoreError(
                f"clip {clip.id!r} is in pixels of an image of unknown size, and PYSKL needs "
                "img_shape: convert the recordings with the size of the image"
            )
    array = to_array(clip, min(clip.num_persons, job.persons), confidence=job.with_confidence)
    values = array.transpose(3, 1, 2, 0).astype(dtype)
    if not np.isfinite(values).all():
        raise StoreError(f"clip {clip.id!r}: a coordinate exceeds float16: leave out --dtype")
    annotation["keypoint"] = np.ascontiguousarray(values[..., : clip.num_channels])
    if job.with_confidence:
        annotation["keypoint_score"] = np.ascontiguousarray(values[..., -1])
        annotation |= {"img_shape": size, "original_shape": size}
    return annotation


def _check_pyskl(job: WriteJob, path: Path) -> str:
    written = load_pickle(path)
    if written["split"] != _splits(job):
        return "split"
    for found, expected in zip(written["annotations"], _annotations(job), strict=True):
        same = found.keys() == expected.keys()
        if not same or not all(np.array_equal(found[key], expected[key]) for key in expected):
            return f"annotation {expected['frame_dir']!r}"
    return ""


PYSKL = ArrayFormat(
    name="pyskl",
    summary="annotation pickle with split, keypoint (M, T, V, D) and keypoint_score, as PYSKL and "
    "MMAction2 read it",
    suffix=".pkl",
    write=_write_pyskl,
    check=_check_pyskl,
    options={"dtype": f"type of the numbers: {' or '.join(_DTYPES)} (default float32)"},
)
