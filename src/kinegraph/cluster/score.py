"""Scoring on a cluster: whole batches of a store's clips, joined to the scores of one machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.store import ClipStore
from kinegraph.cluster.sharding import Shard, ShardedJob, Task, WorkerPool, fingerprint_files
from kinegraph.cluster.worker_model import WorkerModel
from kinegraph.inference.pose_errors import PoseErrors, PoseScorer
from kinegraph.inference.recognizer import Recognizer
from kinegraph.inference.scores import Scores
from kinegraph.inference.trained_model import ProgressCallback
from kinegraph.readers.convert import stat_files

BATCHES = 64  # of a shard at most

Kind = type[Recognizer] | type[PoseScorer]
Indices = NDArray[np.int64]


class ScoringJob(NamedTuple):
    """What a node needs to know of a job.

    Attributes:
        kind: who scores.
        model: with what.
        store: the clips.
        batch_size: clips at a time.
    """

    kind: Kind
    model: WorkerModel
    store: Path
    batch_size: int


@dataclass(frozen=True)
class ClusterScorer:
    """Scores clips of a store on a cluster's nodes: the ``score`` of `evaluate_run`.

    Batches hold the same clips as on one machine, and each task takes as many threads as PyTorch
    does here, because sums depend on both in their last bits.

    Attributes:
        cluster: see `kinegraph.cluster.ray_workers.connect`.
        run: a run's folder, a checkpoint file, or an exported one; on storage that all nodes
            share, like the store.
    """

    cluster: str
    run: Path

    def scores(
        self,
        store: ClipStore,
        indices: Indices,
        *,
        batch_size: int,
        progress: ProgressCallback | None,
    ) -> Scores:
        """As `Recognizer.score_store`.

        Raises:
            ClusterError: the cluster cannot be reached, or a node cannot do its part.
        """
        logits = self._rows(Recognizer, store, indices, batch_size, progress)
        return Scores(tuple(store.ids[i] for i in indices), store.labels[indices], logits)

    def poses(
        self,
        store: ClipStore,
        indices: Indices,
        *,
        batch_size: int,
        progress: ProgressCallback | None,
    ) -> PoseErrors:
        """As `PoseScorer.score_store`.

        Raises:
            ClusterError: the cluster cannot be reached, or a node cannot do its part.
        """
        rows = self._rows(PoseScorer, store, indices, batch_size, progress)
        return PoseErrors(tuple(store.ids[i] for i in indices), *np.ascontiguousarray(rows.T))

    def _rows(
        self,
        kind: Kind,
        store: ClipStore,
        indices: Indices,
        batch_size: int,
        progress: ProgressCallback | None,
    ) -> NDArray[np.float32]:
        scoring = ScoringJob(kind, WorkerModel.from_run(self.run), store.path, batch_size)
        job = open_job(scoring, indices)
        if job.unfinished_shards():
            with scoring.model.workers(self.cluster) as workers:
                score_shards(scoring, indices, job, workers, progress)
        rows = np.concatenate(list(_finished(job)))
        job.delete()
        return rows


def open_job(scoring: ScoringJob, indices: Indices) -> ShardedJob:
    """The job of scoring these clips: the same one as long as run and store are."""
    kind = scoring.kind.__name__.lower()
    facts = {
        "kind": kind,
        "model": scoring.model.fingerprint(),
        "store": fingerprint_files(stat_files([scoring.store])),
        "batch_size": scoring.batch_size,
        "clips": hashlib.sha256(np.ascontiguousarray(indices).tobytes()).hexdigest(),
    }
    sizes = {"largest": BATCHES * scoring.batch_size, "step": scoring.batch_size}
    return ShardedJob.open(scoring.model.job_path(kind), ".npy", facts, len(indices), **sizes)


def score_shards(
    scoring: ScoringJob,
    indices: Indices,
    job: ShardedJob,
    workers: WorkerPool,
    progress: ProgressCallback | None,
) -> None:
    """Have the shards scored that are not finished.

    Raises:
        ClusterError: a node cannot do its part.
    """

    def task(shard: Shard) -> Task:
        clips = indices[shard.start : shard.stop]
        required_paths = (job.folder, scoring.model.run, scoring.store)
        return Task(score_shard, (scoring, clips, job, shard), required_paths)

    job.run(workers, task, progress)


def score_shard(scoring: ScoringJob, indices: Indices, job: ShardedJob, shard: Shard) -> None:
    """Score the clips of a shard."""
    if job.shard_path(shard).exists():
        return
    scorer, store = _opened(scoring, fingerprint_files(stat_files([scoring.store])))
    found = scorer.score_store(store, indices, batch_size=scoring.batch_size)
    with job.atomic_shard(shard) as draft, draft.open("wb") as file:
        np.save(file, _as_rows(found))


def _as_rows(found: Scores | PoseErrors) -> NDArray[np.float32]:
    """(N, columns): a clip a row."""
    if isinstance(found, Scores):
        return found.logits
    return np.stack([found.error, found.baseline], axis=1)


@lru_cache(maxsize=1)
def _opened(scoring: ScoringJob, stamp: str) -> tuple[Recognizer | PoseScorer, ClipStore]:
    """Opened once a process, which has many shards to score."""
    scoring.model.configure()
    return scoring.kind.load(scoring.model.run), ClipStore(scoring.store)


def _finished(job: ShardedJob) -> Iterator[NDArray[np.float32]]:
    for shard in job.shards:
        with job.guard_read(shard):
            rows = np.load(job.shard_path(shard), allow_pickle=False)
            if len(rows) != shard.stop - shard.start:
                raise ValueError(f"it has {len(rows)} rows")
        yield rows
