"""Benchmark of conversion: `.skeleton` text to a store on one core."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from kinegraph.bench.fixtures import find_skeleton_files
from kinegraph.bench.reference.ntu import read_ntu_line_by_line
from kinegraph.bench.result import DEFAULT_OPTIONS, BenchOptions, BenchResult, summarize_comparison
from kinegraph.bench.timing import time_interleaved
from kinegraph.clips.clip import Clip
from kinegraph.clips.store import ClipStore
from kinegraph.clips.writer import StoreWriter
from kinegraph.errors import BenchError
from kinegraph.readers import get_reader
from kinegraph.readers.convert import convert
from kinegraph.skeleton.layouts import get_layout


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
