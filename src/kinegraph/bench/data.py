"""How many bytes clips take, and how fast crops of them are read, beside a dense array."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinegraph.bench.dense import FRAMES, PERSONS, dense_crops, write_dense
from kinegraph.bench.result import Result, Side, timed_result
from kinegraph.bench.timing import Progress, Spread, interleave
from kinegraph.clips.store import ClipStore, Crops, StoreWriter
from kinegraph.errors import BenchError

CROP = 64
CROPS_A_ROUND = 512


def bench_bytes(store: ClipStore) -> Result:
    """A store's clips as float32 and as float16, against the array (N, C, 300, V, 2) float32.

    The ratio is that of the float16 store; its largest rounding error is told with it.
    """
    with TemporaryDirectory(prefix="kinegraph-bench-") as folder:
        files = {dtype: Path(folder) / f"{dtype}.arrow" for dtype in ("float32", "float16")}
        for dtype, path in files.items():
            _copy(store, path, dtype)
        sizes = {dtype: path.stat().st_size for dtype, path in files.items()}
        error = ClipStore(files["float16"]).rounding
    numbers = len(store) * store.num_channels * FRAMES * store.layout.num_joints * PERSONS
    taken = {"dense float32": 4 * numbers, **{f"store {name}": s for name, s in sizes.items()}}
    sides = (
        Side(name, Spread.of([size / 1e6]), {"bytes a clip": size // len(store)})
        for name, size in taken.items()
    )
    return Result(
        f"{len(store)} clips on disk",
        "MB",
        tuple(sides),
        Spread.of([taken["dense float32"] / sizes["float16"]]),
        {
            "ratio in float32": taken["dense float32"] / sizes["float32"],
            "largest error": error,
            "median frames": float(np.median(store.frames)),
        },
    )


def bench_crops(store: ClipStore, *, rounds: int = 11, progress: Progress | None = None) -> Result:
    """Random crops of 64 frames of up to two persons, in batches, as arrays of their own.

    Args:
        store: the clips; those that are long enough.
        rounds: how often each side reads 512 crops; the same ones on both sides.
        progress: called with (rounds done, rounds in all).

    Raises:
        BenchError: no clip is long enough, or the two sides do not give the same frames.
    """
    frames = np.minimum(store.frames, FRAMES)
    long = np.flatnonzero(frames >= CROP)
    if not len(long):
        raise BenchError(f"{store.path}: expected clips of {CROP} frames or more, found none")
    rng = np.random.default_rng(0)
    chosen = [rng.choice(long, CROPS_A_ROUND) for _ in range(rounds)]
    starts = [rng.integers(0, frames[clips] - CROP + 1) for clips in chosen]
    with TemporaryDirectory(prefix="kinegraph-bench-") as folder:
        array = write_dense(store, Path(folder) / "dense.npy")

        def dense(number: int) -> NDArray[np.float32]:
            return dense_crops(array, chosen[number], starts[number], CROP)

        def packed(number: int) -> Crops:
            return store.read_crops(chosen[number], starts[number], CROP, persons=PERSONS)

        _check_same(dense(0), packed(0))
        comparison = interleave(dense, packed, rounds, progress)
    return timed_result(
        f"random crops of {CROP} frames from {len(store)} clips, {store.dtype}",
        comparison,
        item="crops",
        names=("dense float32, memory-mapped", "store"),
        each=(CROPS_A_ROUND, CROPS_A_ROUND),
    )


def _copy(store: ClipStore, path: Path, dtype: str) -> None:
    """The same clips in another file."""
    facts: dict[str, Any] = {"reader": "bench"}
    with StoreWriter(path, store.layout, store.classes, facts, dtype) as writer:
        for clip in store:
            writer.write(clip)


def _check_same(dense: NDArray[np.float32], packed: Crops) -> None:
    """Dense crops are (n, C, T, V, 2) with zeros, packed ones (R, T, V, C) with NaN."""
    theirs = dense[packed.rows, ..., packed.persons].transpose(0, 2, 3, 1)
    if not np.array_equal(theirs, np.nan_to_num(packed.joints)):
        raise BenchError("the two sides do not give the same frames; nothing was timed")
