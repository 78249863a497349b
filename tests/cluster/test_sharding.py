"""A job's shards are finished or not there, and a job is recognised by all that it depends on."""

from __future__ import annotations

import os

import pytest

from kinegraph.cluster import sharding as job_module
from kinegraph.cluster.sharding import Shard, ShardedJob, Task, fingerprint_files
from kinegraph.errors import ClusterError, ReadError
from kinegraph.readers.convert import stat_files
from workers_here import WorkersHere


def a_job(tmp_path, total: int = 10, **facts) -> ShardedJob:
    """A job of pieces that are numbers."""
    return ShardedJob.open(tmp_path / "sum", ".txt", facts, total, largest=4)


def sum_of(shard: Shard) -> bytes:
    """The work of these tests."""
    return str(sum(range(*shard))).encode()


def finish(job: ShardedJob, workers: WorkersHere, progress=None) -> None:
    """Have the job done."""
    job.run(workers, lambda shard: Task(job, shard, sum_of, (shard,), (job.folder,)), progress)


@pytest.mark.parametrize(
    ("total", "step", "largest", "size", "last"),
    [
        (0, 1, 256, 1, None),
        (10, 1, 256, 1, (9, 10)),
        (1484, 1, 256, 23, (1472, 1484)),
        (10**6, 1, 256, 256, (999_936, 10**6)),
        (464, 64, 4096, 64, (448, 464)),
        (20_000, 64, 4096, 256, (19_968, 20_000)),
        (10**6, 64, 4096, 4096, (999_424, 10**6)),
    ],
)
def test_shards_hold_all_pieces_and_begin_at_whole_batches(
    tmp_path, total, step, largest, size, last
):
    job = ShardedJob.open(tmp_path / "a", ".txt", {}, total, largest=largest, step=step)
    shards = job.shards
    assert job.size == size
    assert [i for shard in shards for i in (shard.start, shard.stop)][1:-1:2] == [
        shard.start for shard in shards[1:]
    ]
    assert (shards[-1] if shards else None) == last
    assert all(shard.start % step == 0 for shard in shards)


def test_another_fact_is_another_job(tmp_path):
    job = a_job(tmp_path, reader="ntu", seed=1)
    assert a_job(tmp_path, seed=1, reader="ntu") == job
    others = [a_job(tmp_path, reader="ntu", seed=2), a_job(tmp_path, 11, reader="ntu", seed=1)]
    assert len({job.folder, *(other.folder for other in others)}) == 3
    assert job.folder.parent == tmp_path
    assert job.folder.name.startswith("sum-")


def test_all_shards_are_done_and_told_of(tmp_path):
    told = []
    job = a_job(tmp_path)
    finish(job, WorkersHere(), lambda *counts: told.append(counts))
    assert job.unfinished_shards() == []
    assert [job.shard_path(shard).read_text() for shard in job.shards] == [
        str(i) for i in range(10)
    ]
    assert told == [(i, 10) for i in range(1, 11)]
    job.delete()
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_job_goes_on_where_it_was(tmp_path):
    job = a_job(tmp_path)
    with pytest.raises(KeyboardInterrupt, match=r"interrupted; 3 of 10 shards .*sum-.*\.shards"):
        finish(job, WorkersHere(stop_after=3))
    told = []
    workers = WorkersHere()
    finish(a_job(tmp_path), workers, lambda *counts: told.append(counts))
    assert sorted(workers.seen) == job.shards[:7]
    assert told[0] == (4, 10)


def test_a_job_without_a_finished_shard_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt, match=r"^interrupted$"):
        finish(a_job(tmp_path), WorkersHere(stop_after=0))
    assert list(tmp_path.iterdir()) == []


def test_a_draft_that_fails_is_no_shard(tmp_path):
    job = a_job(tmp_path)
    job.folder.mkdir()
    with pytest.raises(ZeroDivisionError), job.atomic_shard(job.shards[0]) as draft:
        draft.write_text("half")
        raise ZeroDivisionError
    with (
        pytest.raises(ClusterError, match=r"cannot write .*No space"),
        job.atomic_shard(job.shards[0]),
    ):
        raise OSError(28, os.strerror(28))
    assert list(job.folder.iterdir()) == []
    assert len(job.unfinished_shards()) == 10


def test_two_nodes_at_one_shard_do_not_write_into_each_other(tmp_path):
    job = a_job(tmp_path)
    job.folder.mkdir()
    with job.atomic_shard(job.shards[0]) as one, job.atomic_shard(job.shards[0]) as two:
        one.write_text("whole")
        two.write_text("whole")
    assert [path.read_text() for path in job.folder.iterdir()] == ["whole"]


def test_a_shard_that_is_seen_on_its_node_only(tmp_path, monkeypatch):
    monkeypatch.setattr(job_module, "VISIBILITY_TIMEOUT_S", 0.0)
    monkeypatch.setattr(Task, "run", lambda task: None)
    job = a_job(tmp_path)
    with pytest.raises(ClusterError, match=r"is not visible here: .* storage that all nodes share"):
        finish(job, WorkersHere())


def test_a_damaged_shard_is_done_again(tmp_path):
    job = a_job(tmp_path)
    finish(job, WorkersHere())
    damaged = r"was damaged \(no number\) and has been deleted; 9 of 10"
    with pytest.raises(ClusterError, match=damaged), job.guard_read(job.shards[4]):
        raise ValueError("no number")
    assert job.unfinished_shards() == [job.shards[4]]


@pytest.mark.parametrize(("error", "kept"), [(ClusterError, 2), (ReadError, 0)])
def test_shards_are_kept_for_troubles_that_pass(tmp_path, error, kept):
    job = a_job(tmp_path)

    def work(shard: Shard) -> bytes:
        if shard.start == 7:
            raise error("trouble")
        return sum_of(shard)

    with pytest.raises(error, match=r"^trouble"):
        job.run(WorkersHere(), lambda shard: Task(job, shard, work, (shard,), ()))
    assert 10 - len(job.unfinished_shards()) == kept
    assert job.folder.exists() == bool(kept)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    job = ShardedJob.open(tmp_path / "file" / "sum", ".txt", {}, 3, largest=4)
    with pytest.raises(ClusterError, match=r"cannot create .*sum-.*: Not a directory"):
        finish(job, WorkersHere())


def test_files_are_told_apart_by_what_changes_them(tmp_path):
    path = tmp_path / "a"
    path.write_text("1")
    stamps = [
        fingerprint_files(stat_files([path, tmp_path / "none"])),
        fingerprint_files(stat_files([path])),
    ]
    os.utime(path, (1, 1))
    stamps.append(fingerprint_files(stat_files([path])))
    assert len(set(stamps)) == 3
    assert fingerprint_files(stat_files([path])) == stamps[-1]
