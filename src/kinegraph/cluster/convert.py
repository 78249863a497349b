"""Conversion on a cluster: shards of the reader's plan, merged into the store of one machine."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from kinegraph.clips.store import ClipStore
from kinegraph.cluster.ray_workers import connect
from kinegraph.cluster.sharding import Shard, ShardedJob, Task, fingerprint_files
from kinegraph.errors import ClusterError, StoreError
from kinegraph.readers.convert import (
    ConversionJob,
    ConversionProgress,
    ConversionResult,
    Refusal,
    TaskResult,
    read_tasks,
    scan_source,
    store_results,
    write_task_result,
)
from kinegraph.readers.reader import Reader, ReadPlan, ReadTask

MAX_TASKS_PER_SHARD = 256
CLIPS_SUFFIX = ".arrow"


def convert_on_cluster(
    reader: Reader,
    source: str | Path,
    store_path: str | Path,
    *,
    cluster: str,
    options: Mapping[str, Any] | None = None,
    dtype: str = "float32",
    progress: ConversionProgress | None = None,
) -> ConversionResult:
    """Convert like `kinegraph.readers.convert.convert`, to the same bytes, on a cluster's nodes.

    Source and store must be on storage that all nodes share. Finished shards are kept beside the
    store until the store is written; after an interruption the same call continues with them.

    Args:
        reader, source, options: see `kinegraph.readers.convert.convert`.
        cluster: see `kinegraph.cluster.ray_workers.connect`.
        dtype: type of the stored coordinates; shards always hold float32, so that coordinates are
            rounded only once.
        progress: called with (tasks done, tasks in all), while reading, then while storing.

    Raises:
        ClusterError: the cluster cannot be reached, or a node cannot compute its shards.
        ReadError, StoreError, UnknownNameError: as on one machine.
    """
    conversion = scan_source(reader, Path(source), Path(store_path), options or {})
    job = open_conversion_job(conversion, Path(store_path))
    job.run(connect(cluster), partial(create_read_task, conversion, job), progress)
    merged = merge_conversion(conversion, job)
    result = store_results(conversion, merged, Path(store_path), progress, dtype)
    job.delete()
    return result


def open_conversion_job(conversion: ConversionJob, store_path: Path) -> ShardedJob:
    """Return the job of a conversion, the same one as long as no raw file changes."""
    plan = conversion.plan
    facts = {
        "provenance": conversion.writer(store_path).provenance,
        "layout": plan.layout.to_dict(),
        "classes": plan.classes,
        "files": fingerprint_files(conversion.stats),
    }
    return ShardedJob.open(store_path, ".json", facts, len(plan.tasks), MAX_TASKS_PER_SHARD)


def create_read_task(conversion: ConversionJob, job: ShardedJob, shard: Shard) -> Task:
    """Return the task that reads a shard."""
    part = _slice(conversion, shard)
    present = [path for path, stat in part.stats.items() if stat is not None]
    return Task(
        job, shard, read_shard, (part, job, shard), (job.folder, conversion.source, *present)
    )


def _slice(conversion: ConversionJob, shard: Shard) -> ConversionJob:
    tasks = conversion.plan.tasks[shard.start : shard.stop]
    plan = ReadPlan(tasks, conversion.plan.layout, conversion.plan.classes)
    return replace(conversion, plan=plan, stats={t.path: conversion.stats[t.path] for t in tasks})


class _NothingToStoreError(Exception):
    """Raised to leave the block of a store writer without a store."""


def read_shard(part: ConversionJob, job: ShardedJob, shard: Shard) -> bytes:
    """Write the clips of a shard to a store of their own, and return the refusals as JSON."""
    entries = []
    try:
        with job.atomic_shard(shard, CLIPS_SUFFIX) as draft, part.writer(draft) as writer:
            for task, result in read_tasks(part, part.plan.tasks):
                written = write_task_result(result, part.name(task.path), writer)
                entries.append(
                    [(r.reason, r.name) if isinstance(r, Refusal) else None for r in written]
                )
            if not len(writer):
                raise _NothingToStoreError
    except _NothingToStoreError:
        pass
    except StoreError as error:  # about the file; errors of clips are refusals
        raise ClusterError(str(error)) from error
    return json.dumps(entries).encode()


def merge_conversion(
    conversion: ConversionJob, job: ShardedJob
) -> Generator[tuple[ReadTask, TaskResult]]:
    """Yield every task with its result, as `kinegraph.readers.convert.read_tasks` does.

    A clip that its shard accepted may repeat an id of another shard, or have another number of
    coordinates than the first clip of all; the merged store then refuses it, as on one machine.
    But a shard refuses clips whose number of coordinates differs from *its* first clip: if that
    clip differs from the first of all, the shard is read again.
    """
    coordinates = None
    for shard in job.shards:
        part = _slice(conversion, shard)
        with job.guard_read(shard):
            entries, clips = _load_store_shard(job, shard)
        coordinates = coordinates or (clips and clips.num_channels)
        if clips and clips.num_channels != coordinates:
            yield from read_tasks(part, part.plan.tasks)
            continue
        stored = iter(clips or ())
        for task, refusals in zip(part.plan.tasks, entries, strict=True):
            yield task, [Refusal(*entry) if entry else next(stored) for entry in refusals]


def _load_store_shard(job: ShardedJob, shard: Shard) -> tuple[list[list[Any]], ClipStore | None]:
    """Return the entries of each task (None for a stored clip) and the store of a shard."""
    entries = json.loads(job.shard_path(shard).read_text())
    stored = sum(entry is None for task_entries in entries for entry in task_entries)
    clips = ClipStore(job.shard_path(shard, CLIPS_SUFFIX)) if stored else None
    if len(entries) != shard.stop - shard.start or stored != len(clips or ()):
        raise ValueError("its store and its list of clips do not match")
    return entries, clips
