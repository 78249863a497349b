"""Scoring on a cluster: whole batches of a store's clips, joined to the scores of one machine."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.scores import Scores
from kinegraph.clips.store import ClipStore
from kinegraph.cluster.sharding import Shard, ShardedJob, Task, fingerprint_files
from kinegraph.cluster.worker_model import WorkerModel
from kinegraph.inference.pose_errors import PoseErrors, PoseScorer
from kinegraph.inference.recognizer import Recognizer
from kinegraph.inference.trained_model import ProgressCallback, Scorer
from kinegraph.readers.convert import stat_files

MAX_BATCHES_PER_SHARD = 64


def score_on_cluster(
    cluster: str,
    run: Path,
    store: ClipStore,
    indices: NDArray[np.int64],
    *,
    scorer: type[Scorer[Any]] = Recognizer,
    batch_size: int,
    progress: ProgressCallback | None = None,
) -> Any:
    """Score clips of a store like ``scorer.score_store``, on a cluster's nodes.

    Batches hold the same clips as on one machine, and each task uses as many threads as PyTorch
    does here, because both change the last bits of sums.

    Args:
        cluster: see `kinegraph.cluster.ray_workers.connect`.
        run: a run's folder, a checkpoint file, or an exported one; on storage that all nodes
            share, like the store.
        progress: called with (clips done, clips in all).

    Returns:
        `Scores` or `PoseErrors`, as ``scorer.score_store``.

    Raises:
        ClusterError: the cluster cannot be reached, or a node cannot compute its shards.
    """
    model, name = WorkerModel.from_run(run), scorer.__name__.lower()
    facts = {
        "kind": name,
        "model": model.fingerprint(),
        "store": fingerprint_files(stat_files([store.path])),
        "batch_size": batch_size,
        "clips": hashlib.sha256(np.ascontiguousarray(indices).tobytes()).hexdigest(),
    }
    target, largest = model.job_path(name), MAX_BATCHES_PER_SHARD * batch_size
    job = ShardedJob.open(target, ".npy", facts, len(indices), largest, step=batch_size)

    def create_task(shard: Shard) -> Task:
        own = indices[shard.start : shard.stop]
        arguments = (scorer, model, store.path, own, batch_size)
        return Task(job, shard, score_shard, arguments, (job.folder, model.run, store.path))

    job.run(model.workers(cluster), create_task, progress)
    rows = np.concatenate(list(_load_rows(job)))
    job.delete()
    ids = tuple(store.ids[i] for i in indices)
    if scorer is PoseScorer:
        return PoseErrors(ids, *np.ascontiguousarray(rows.T))
    return Scores(ids, store.labels[indices], rows)


def score_shard(
    scorer: type[Scorer[Any]],
    model: WorkerModel,
    store: Path,
    indices: NDArray[np.int64],
    batch_size: int,
) -> bytes:
    """Return an .npy file of the logits or pose errors of clips, one row per clip."""
    fingerprint = fingerprint_files(stat_files([store]))
    loaded, clips = _load_scorer(scorer, model, store, fingerprint)  # type: ignore[arg-type]
    scored = loaded.score_store(clips, indices, batch_size=batch_size)
    if isinstance(scored, Scores):
        rows = scored.logits
    else:
        rows = np.stack([scored.error, scored.baseline], axis=1)
    content = io.BytesIO()
    np.save(content, rows)
    return content.getvalue()


@lru_cache(maxsize=1)  # a process computes many shards
def _load_scorer(
    scorer: type[Scorer[Any]], model: WorkerModel, store: Path, fingerprint: str
) -> tuple[Scorer[Any], ClipStore]:
    model.configure()
    return scorer.load(model.run), ClipStore(store)


def _load_rows(job: ShardedJob) -> Iterator[NDArray[np.float32]]:
    for shard in job.shards:
        with job.guard_read(shard):
            rows = np.load(job.shard_path(shard), allow_pickle=False)
            if len(rows) != shard.stop - shard.start:
                raise ValueError(f"it has {len(rows)} rows")
        yield rows
