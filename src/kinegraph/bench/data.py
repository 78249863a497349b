"""Benchmarks of data: size of a clip store, random crops, and conversion of `.skeleton` text."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from kinegraph.bench.baselines import CLIP_FRAMES, CLIP_PERSONS
from kinegraph.bench.fixtures import find_skeleton_files
from kinegraph.bench.reference.ntu import read_ntu_line_by_line
from kinegraph.bench.result import (
    DEFAULT_OPTIONS,
    BenchOptions,
    BenchResult,
    BenchSide,
    summarize_comparison,
)
from kinegraph.bench.timing import Spread, time_interleaved
from kinegraph.clips.clip import Clip
from kinegraph.clips.store import ClipStore, Crops
from kinegraph.clips.writer import StoreWriter
from kinegraph.errors import BenchError
from kinegraph.readers import get_reader
from kinegraph.readers.convert import convert
from kinegraph.skeleton.layouts import get_layout

CROP_FRAMES = 64
CROPS_PER_ROUND = 512


def bench_bytes(store: ClipStore) -> BenchResult:
    """Compare the size of a store in float32 and float16 with an array (N, C, 300, V, 2) float32.

    The ratio is that of the float16 store; its largest rounding error is among the figures.
    """
    with TemporaryDirectory(prefix="kinegraph-bench-") as folder:
        files = {dtype: Path(folder) / f"{dtype}.arrow" for dtype in ("float32", "float16")}
        for dtype, path in files.items():
            with StoreWriter(path, store.layout, store.classes, {"reader": "bench"}, dtype) as copy:
                for clip in store:
                    copy.write(clip)
        sizes = {dtype: path.stat().st_size for dtype, path in files.items()}
        error = ClipStore(files["float16"]).rounding
    dense = 4 * int(np.prod(_dense_shape(store)))
    bytes_of = {"dense float32": dense, **{f"store {name}": s for name, s in sizes.items()}}
    sides = (
        BenchSide(name, Spread.of([size / 1e6]), {"bytes a clip": size // len(store)})
        for name, size in bytes_of.items()
    )
    return BenchResult(
        f"{len(store)} clips on disk",
        "MB",
        tuple(sides),
        Spread.of([dense / sizes["float16"]]),
        {
            "ratio in float32": dense / sizes["float32"],
            "largest error": error,
            "median frames": float(np.median(store.frames)),
        },
    )


def bench_crops(store: ClipStore, options: BenchOptions = DEFAULT_OPTIONS) -> BenchResult:
    """Read random crops of 64 frames of up to two persons; the same 512 on both sides a round.

    Raises:
        BenchError: no clip is long enough, or the two sides do not return the same frames.
    """
    frames = np.minimum(store.frames, CLIP_FRAMES)
    long = np.flatnonzero(frames >= CROP_FRAMES)
    if not len(long):
        raise BenchError(
            f"{store.path}: expected clips of {CROP_FRAMES} frames or more, found none"
        )
    rng, rounds = np.random.default_rng(0), options.rounds or 11
    chosen = [rng.choice(long, CROPS_PER_ROUND) for _ in range(rounds)]
    starts = [rng.integers(0, frames[clips] - CROP_FRAMES + 1) for clips in chosen]
    with TemporaryDirectory(prefix="kinegraph-bench-") as folder:
        array = write_dense_array(store, Path(folder) / "dense.npy")

        def dense(number: int) -> NDArray[np.float32]:
            return read_dense_crops(array, chosen[number], starts[number], CROP_FRAMES)

        def packed(number: int) -> Crops:
            crops = (chosen[number], starts[number], CROP_FRAMES)
            return store.read_crops(*crops, persons=CLIP_PERSONS)

        _check_same_crops(dense(0), packed(0))
        comparison = time_interleaved(dense, packed, rounds, options.progress)
    return summarize_comparison(
        f"random crops of {CROP_FRAMES} frames from {len(store)} clips, {store.dtype}",
        comparison,
        item="crops",
        names=("dense float32, memory-mapped", "store"),
        items_per_round=(CROPS_PER_ROUND, CROPS_PER_ROUND),
    )


def write_dense_array(store: ClipStore, path: Path) -> NDArray[np.float32]:
    """Write a .npy file of (N, C, 300, V, 2), as released code prepares data sets, and map it."""
    dense = np.lib.format.open_memmap(path, "w+", np.float32, _dense_shape(store))
    for i, clip in enumerate(store):
        joints = np.nan_to_num(clip.joints[:CLIP_PERSONS, :CLIP_FRAMES])
        dense[i, :, : joints.shape[1], :, : joints.shape[0]] = joints.transpose(3, 1, 2, 0)
    dense.flush()
    return np.load(path, mmap_mode="r")


def read_dense_crops(
    dense: NDArray[np.float32], indices: Iterable[int], starts: Iterable[int], frames: int
) -> NDArray[np.float32]:
    """Return (n, C, frames, V, M): one crop of each of these clips."""
    crops = [dense[i, :, t : t + frames] for i, t in zip(indices, starts, strict=True)]
    return np.stack(crops)


def _dense_shape(store: ClipStore) -> tuple[int, ...]:
    joints = store.layout.num_joints
    return len(store), store.num_channels, CLIP_FRAMES, joints, CLIP_PERSONS


def _check_same_crops(dense: NDArray[np.float32], packed: Crops) -> None:
    """Compare dense crops (n, C, T, V, 2) with zeros and packed ones (R, T, V, C) with NaN."""
    theirs = dense[packed.rows, ..., packed.persons].transpose(0, 2, 3, 1)
    if not np.array_equal(theirs, np.nan_to_num(packed.joints)):
        raise BenchError("the two sides do not return the same frames; nothing was timed")


def bench_convert(raw: Path, options: BenchOptions = DEFAULT_OPTIONS) -> BenchResult:
    """Convert all `.skeleton` files of a folder; ours includes checks, digests and metadata.

    Raises:
        BenchError: the folder has no such file, or the two stores differ.
        ReadError: none of the files can be read.
    """
    files = find_skeleton_files(raw)
    with TemporaryDirectory(prefix="kinegraph-bench-") as name:
        theirs, ours = Path(name) / "reference.arrow", Path(name) / "ours.arrow"
        comparison = time_interleaved(
            lambda _: convert_line_by_line(files, theirs),
            lambda _: convert(get_reader("ntu"), raw, ours, workers=1),
            options.rounds or 5,
            options.progress,
        )
        _check_same_clips(ClipStore(theirs), ClipStore(ours))
    megabytes = sum(path.stat().st_size for path in files) / 1e6
    return summarize_comparison(
        f"{len(files)} .skeleton files of {megabytes:.1f} MB to a store, one core",
        comparison,
        item="files",
        names=("line by line", "kinegraph convert, one process"),
        items_per_round=(len(files), len(files)),
        figures={"MB a file": megabytes / len(files)},
    )


def convert_line_by_line(files: list[Path], store: Path) -> None:
    """Read files line by line and write their clips into a store."""
    layout = get_layout("ntu25")
    with StoreWriter(store, layout, None, {"reader": "reference"}) as writer:
        for path in files:
            writer.write(Clip(read_ntu_line_by_line(path), layout, id=path.stem))


def _check_same_clips(theirs: ClipStore, ours: ClipStore) -> None:
    for clip in ours:
        number = theirs.find(clip.id)
        if not np.array_equal(theirs.joints(number), clip.joints, equal_nan=True):
            raise BenchError(f"the two readers return different joints for {clip.id!r}")
