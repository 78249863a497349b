"""Conversion on a cluster: shards of the reader's plan, merged into the store of one machine."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kinegraph.clips.clip import Clip
from kinegraph.clips.store import ClipStore
from kinegraph.cluster.ray_workers import connect
from kinegraph.cluster.sharding import (
    Progress,
    Shard,
    ShardedJob,
    Task,
    WorkerPool,
    fingerprint_files,
)
from kinegraph.errors import ClusterError, StoreError
from kinegraph.readers.convert import (
    ConversionJob,
    ConversionResult,
    Refusal,
    TaskResult,
    read_tasks,
    scan_source,
    store_results,
    write_task_result,
)
from kinegraph.readers.reader import Reader, ReadPlan, ReadTask

UNITS = 256  # of a shard at most
CLIPS = ".arrow"
OUTCOME = ".json"


def convert(
    reader: Reader,
    source: str | Path,
    store_path: str | Path,
    *,
    cluster: str,
    options: Mapping[str, Any] | None = None,
    dtype: str = "float32",
    progress: Progress | None = None,
) -> ConversionResult:
    """As `kinegraph.readers.convert.convert`, with the same bytes, but read by a cluster's nodes.

    Source and store lie on storage that all nodes share. Finished shards wait beside the store,
    where the same call goes on after an interruption.

    Args:
        reader: the reader of this kind of source.
        source: a folder of raw files, or one raw file.
        store_path: the store to write.
        cluster: see `kinegraph.cluster.ray_workers.connect`.
        options: the reader's options.
        dtype: of the stored coordinates; shards always hold float32, so that nothing is rounded
            twice.
        progress: called with (tasks done, tasks in all), as they are read, then as they are
            stored.

    Raises:
        ClusterError: the cluster cannot be reached, or a node cannot do its part.
        ReadError, StoreError, UnknownNameError: as on one machine.
    """
    intake = scan_source(reader, Path(source), Path(store_path), options or {})
    job = open_job(intake, Path(store_path))
    if job.unfinished_shards():
        with connect(cluster) as workers:
            read_shards(intake, job, workers, progress)
    done = store_results(intake, merge_shards(intake, job), Path(store_path), progress, dtype)
    job.delete()
    return done


def open_job(intake: ConversionJob, store_path: Path) -> ShardedJob:
    """The job that an intake is: the same one as long as no raw file changes."""
    plan = intake.plan
    facts = {
        "provenance": intake.writer(store_path).provenance,
        "layout": plan.layout.to_dict(),
        "classes": plan.classes,
        "files": fingerprint_files(intake.stats),
    }
    return ShardedJob.open(store_path, OUTCOME, facts, len(plan.tasks), largest=UNITS)


def read_shards(
    intake: ConversionJob, job: ShardedJob, workers: WorkerPool, progress: Progress | None
) -> None:
    """Have the shards read that are not finished.

    Raises:
        ClusterError: a node cannot do its part.
    """

    def task(shard: Shard) -> Task:
        part = _part(intake, shard)
        there = {path for path, stat in part.stats.items() if stat is not None}
        return Task(read_shard, (part, job, shard), (job.folder, intake.source, *there))

    job.run(workers, task, progress)


def _part(intake: ConversionJob, shard: Shard) -> ConversionJob:
    tasks = intake.plan.tasks[shard.start : shard.stop]
    plan = ReadPlan(tasks, intake.plan.layout, intake.plan.classes)
    stats = {task.path: intake.stats[task.path] for task in tasks}
    return replace(intake, plan=plan, stats=stats)


class _NothingToStoreError(Exception):
    """Leaves the block that writes a store without one."""


def read_shard(part: ConversionJob, job: ShardedJob, shard: Shard) -> None:
    """Read the tasks of a shard into a store of their own, and note what became of each clip."""
    if job.shard_path(shard).exists():
        return
    outcome = []
    try:
        with job.atomic_shard(shard, CLIPS) as draft, part.writer(draft) as writer:
            for task, result in read_tasks(part, part.plan.tasks):
                outcome.append(write_task_result(result, part.name(task.path), writer))
            if not len(writer):
                raise _NothingToStoreError
    except _NothingToStoreError:
        pass
    except StoreError as error:  # of the file: what is wrong with a clip was noted
        raise ClusterError(str(error)) from error
    with job.atomic_shard(shard) as draft:
        draft.write_text(json.dumps([[_noted(r) for r in result] for result in outcome]))


def _noted(result: Clip | Refusal) -> tuple[str, str] | None:
    return (result.reason, result.name) if isinstance(result, Refusal) else None


def merge_shards(intake: ConversionJob, job: ShardedJob) -> Generator[tuple[ReadTask, TaskResult]]:
    """Every task with what it holds, as `kinegraph.readers.convert.read_tasks` gives it.

    Clips that fit a shard's store may still repeat an id of another shard, or have other
    coordinates than its clips; the store that they are merged into refuses them then, as on one
    machine. Within a shard the first clip settled the coordinates, and clips that differ from it
    were dropped: if the first clip of all differs too, the shard is read anew.
    """
    coordinates = None
    for shard in job.shards:
        part = _part(intake, shard)
        with job.guard_read(shard):
            noted, clips = _load(job, shard)
        coordinates = coordinates or (clips and clips.num_channels)
        if clips and clips.num_channels != coordinates:
            yield from read_tasks(part, part.plan.tasks)
            continue
        stored = iter(clips or ())
        for task, entries in zip(part.plan.tasks, noted, strict=True):
            yield task, [Refusal(*entry) if entry else next(stored) for entry in entries]


def _load(job: ShardedJob, shard: Shard) -> tuple[list[list[Any]], ClipStore | None]:
    """For each task what became of its clips, null for those in the shard's store; the store."""
    noted = json.loads(job.shard_path(shard).read_text())
    stored = sum(entry is None for entries in noted for entry in entries)
    clips = ClipStore(job.shard_path(shard, CLIPS)) if stored else None
    if len(noted) != shard.stop - shard.start or stored != len(clips or ()):
        raise ValueError("it holds other clips than it says")
    return noted, clips
