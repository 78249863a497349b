"""Shards merge into the bytes of one machine, whatever is wrong with the raw files."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from kinegraph.clips.clip import Clip
from kinegraph.cluster.convert import (
    CLIPS_SUFFIX,
    create_read_task,
    merge_conversion,
    open_conversion_job,
)
from kinegraph.cluster.sharding import ShardedJob
from kinegraph.errors import ClusterError, ReadError
from kinegraph.readers.convert import ConversionResult, convert, scan_source, store_results
from kinegraph.readers.reader import Reader
from line_reader import HINGE, READER
from workers_here import WorkersHere


@pytest.fixture
def raw(tmp_path):
    """Raw files with everything that can be wrong with them."""
    folder = tmp_path / "raw"
    folder.mkdir()
    for name, text in {
        "a": "0 3\nbad\n0 4",
        "b": "same 1 2\n1 5\nsame 1 2",
        "c": "bug",
        "d": "big 0 1",
        "e": "same 0 1",
        "f": "",
        "g": "7 1\n0 2\nstop",
        "h": "-1 9",
    }.items():
        (folder / f"{name}.txt").write_text(text)
    (folder / "i.bin").write_bytes(b"")
    (folder / "gone.txt").symlink_to(folder / "nowhere")
    return folder


def shards_of(
    raw: Path, target: Path, size: int, reader: Reader = READER
) -> tuple[ShardedJob, object]:
    """The job and the intake of a conversion."""
    intake = scan_source(reader, raw, target, {})
    return replace(open_conversion_job(intake, target), size=size), intake


def by_shards(raw: Path, target: Path, size: int, reader: Reader = READER) -> ConversionResult:
    """Convert as a cluster does."""
    job, intake = shards_of(raw, target, size, reader)
    job.run(WorkersHere(), partial(create_read_task, intake, job))
    done = store_results(intake, merge_conversion(intake, job), target)
    job.delete()
    return done


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_shards_give_the_bytes_and_the_refusals_of_one_machine(raw, tmp_path, size):
    one = convert(READER, raw, tmp_path / "one", workers=1)
    many = by_shards(raw, tmp_path / "many", size)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "many").read_bytes()
    assert replace(many, path=one.path) == one
    assert len(one.refused) == 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["many", "one", "raw"]


def flat(task, scale: float = 1.0):
    """Clips whose names say how many coordinates they have."""
    for line in task.path.read_text().split():
        name, D = line.split(":")
        yield Clip(np.ones((1, 2, 2, int(D))), HINGE, id=name)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_the_first_clip_of_all_settles_the_coordinates(tmp_path, size):
    """Within the second shard it would be another clip."""
    (tmp_path / "raw").mkdir()
    for name, text in {"a": "p:2", "b": "q:3 r:2", "c": "q:2 s:3", "d": "t:3 q:3"}.items():
        (tmp_path / "raw" / f"{name}.txt").write_text(text)
    reader = replace(READER, read=flat)
    one = convert(reader, tmp_path / "raw", tmp_path / "one", workers=1)
    many = by_shards(tmp_path / "raw", tmp_path / "many", size, reader)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "many").read_bytes()
    assert many.refused == one.refused
    assert [name for name, _ in one.refused] == ["q", "s", "t", "q"]


def test_finished_shards_are_kept_until_a_raw_file_changes(raw, tmp_path):
    job, intake = shards_of(raw, tmp_path / "a", 2)
    with pytest.raises(KeyboardInterrupt):
        job.run(WorkersHere(stop_after=2), partial(create_read_task, intake, job))
    again, intake = shards_of(raw, tmp_path / "a", 2)
    assert again == job
    assert len(again.unfinished_shards()) == 3
    (raw / "a.txt").write_text("1 3\nbad\n0 4")  # as long as before
    assert len(shards_of(raw, tmp_path / "a", 2)[0].unfinished_shards()) == 5


def test_a_shards_store_that_was_cut_short_is_made_again(raw, tmp_path):
    job, intake = shards_of(raw, tmp_path / "a", 100)
    job.run(WorkersHere(), partial(create_read_task, intake, job))
    clips = job.shard_path(job.shards[0], CLIPS_SUFFIX)
    clips.write_bytes(clips.read_bytes()[:-9])
    with pytest.raises(ClusterError, match=r"was damaged .* and has been deleted"):
        store_results(intake, merge_conversion(intake, job), tmp_path / "a")
    assert not (tmp_path / "a").exists()
    assert by_shards(raw, tmp_path / "a", 100).stored == 6


def test_nothing_usable_is_the_error_of_one_machine(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.txt").write_text("bad")
    with pytest.raises(ReadError, match=r"no usable clip in .*a.txt:1: bad line"):
        by_shards(tmp_path / "raw", tmp_path / "a", 1)
    assert not (tmp_path / "a").exists()


def test_a_full_disk_keeps_what_is_finished(raw, tmp_path, monkeypatch):
    job, intake = shards_of(raw, tmp_path / "a", 2)

    def full(file, schema):
        raise OSError(28, "No space left on device")

    def progress(done: int, total: int) -> None:
        if done > 2:
            monkeypatch.setattr("pyarrow.ipc.new_file", full)

    with pytest.raises(ClusterError, match=r"cannot write the store .*No space .*; 2 of 5 shards"):
        job.run(WorkersHere(), partial(create_read_task, intake, job), progress)
    assert len(job.unfinished_shards()) == 3
