"""How fast `.skeleton` text becomes a store: one core, against reading it line by line."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from kinegraph.bench.fixtures import skeleton_files
from kinegraph.bench.reference.ntu import read_ntu_line_by_line
from kinegraph.bench.result import Result, timed_result
from kinegraph.bench.timing import Progress, interleave
from kinegraph.clips.clip import Clip
from kinegraph.clips.store import ClipStore, StoreWriter
from kinegraph.errors import BenchError
from kinegraph.readers import get_reader
from kinegraph.readers.convert import convert
from kinegraph.skeleton.layouts import get_layout


def bench_convert(raw: Path, *, rounds: int = 5, progress: Progress | None = None) -> Result:
    """All `.skeleton` files of a folder to one store, checks, digests and meta included in ours.

    Args:
        raw: the folder.
        rounds: how often each side converts it.
        progress: called with (rounds done, rounds in all).

    Raises:
        BenchError: the folder has no such file, or the two stores differ.
        ReadError: none of the files can be read.
    """
    files = skeleton_files(raw)
    with TemporaryDirectory(prefix="kinegraph-bench-") as name:
        theirs, ours = Path(name) / "plain.arrow", Path(name) / "ours.arrow"

        def convert_plainly(_: int) -> None:
            line_by_line(files, theirs)

        def convert_ours(_: int) -> None:
            convert(get_reader("ntu"), raw, ours, workers=1)

        comparison = interleave(convert_plainly, convert_ours, rounds, progress)
        _check_same(ClipStore(theirs), ClipStore(ours))
        megabytes = sum(path.stat().st_size for path in files) / 1e6
    return timed_result(
        f"{len(files)} .skeleton files of {megabytes:.1f} MB to a store, one core",
        comparison,
        item="files",
        names=("line by line", "kinegraph convert, one process"),
        each=(len(files), len(files)),
        figures={"MB a file": megabytes / len(files)},
    )


def line_by_line(files: list[Path], store: Path) -> None:
    """The files read plainly, and written into a store as any clips."""
    layout = get_layout("ntu25")
    with StoreWriter(store, layout, None, {"reader": "plain"}) as writer:
        for path in files:
            writer.write(Clip(read_ntu_line_by_line(path), layout, id=path.stem))


def _check_same(theirs: ClipStore, ours: ClipStore) -> None:
    for clip in ours:
        number = theirs.find(clip.id)
        if not np.array_equal(theirs.joints(number), clip.joints, equal_nan=True):
            raise BenchError(f"the two readers say different things of {clip.id!r}")
