"""Prediction on a cluster: shards of recordings, answered in the order of one machine."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from kinegraph.cluster.sharding import (
    Progress,
    Shard,
    ShardedJob,
    Task,
    WorkerPool,
    fingerprint_files,
)
from kinegraph.cluster.worker_model import WorkerModel
from kinegraph.errors import ClusterError, KinegraphError
from kinegraph.inference.inputs import InputSource, open_input
from kinegraph.inference.predict import Predictor
from kinegraph.readers.convert import stat_files

PIECES = 256  # of a shard at most

Told = dict[str, Any]


class PredictionJob(NamedTuple):
    """What a node needs to know of a job.

    Attributes:
        model: with what.
        top: how many guesses are told.
    """

    model: WorkerModel
    top: int


class FilePart(NamedTuple):
    """What a shard holds of one file: the file's number, and the pieces."""

    number: int
    recordings: InputSource


class InputFiles:
    """The files, and how their pieces are counted: on and on, one file after the other.

    Attributes:
        files: what lies in each, or why it cannot be read.
        begins: the number of each file's first piece, and last the number of all pieces.
    """

    def __init__(self, paths: Sequence[Path], reader: str | None, predictor: Predictor) -> None:
        self.files = [_open(path, reader, predictor) for path in paths]
        lengths = (len(f.parts) if isinstance(f, InputSource) else 0 for f in self.files)
        self.begins = [0, *accumulate(lengths)]

    def parts(self, shard: Shard) -> list[FilePart]:
        """What a shard holds."""
        parts = []
        number = bisect_right(self.begins, shard.start) - 1
        while number < len(self.files) and self.begins[number] < shard.stop:
            file, begin = self.files[number], self.begins[number]
            if isinstance(file, InputSource) and file.parts:
                part = file.slice(max(0, shard.start - begin), shard.stop - begin)
                parts.append(FilePart(number, part))
            number += 1
        return parts


def _open(path: Path, reader: str | None, predictor: Predictor) -> InputSource | KinegraphError:
    try:
        return open_input(path, reader, predictor.run)
    except KinegraphError as error:
        return error


def predict_files(
    predictor: Predictor,
    run: Path,
    files: Sequence[Path],
    reader: str | None = None,
    *,
    cluster: str,
    progress: Progress | None = None,
) -> Iterator[Told | KinegraphError]:
    """As `kinegraph.inference.predict.predict_files`, but answered by a cluster's nodes.

    Files and run lie on storage that all nodes share. The call returns when all shards are
    finished; the answers are read from them one by one.

    Args:
        predictor: of the run.
        run: a run's folder, a checkpoint file, or an exported one.
        files: raw files, folders of them, and stores.
        reader: a reader's name; None takes stores as such and guesses the reader of other files.
        cluster: see `kinegraph.cluster.ray_workers.connect`.
        progress: called with (raw files or stored clips done, all of them).

    Raises:
        ClusterError: the cluster cannot be reached, or a node cannot do its part.
    """
    prediction = PredictionJob(WorkerModel.from_run(run), predictor.top)
    opened = InputFiles(files, reader, predictor)
    job = open_job(prediction, opened)
    if job.unfinished_shards():
        with prediction.model.workers(cluster) as workers:
            predict_shards(prediction, opened, job, workers, progress)
    return merge_shards(opened, job)


def open_job(prediction: PredictionJob, opened: InputFiles) -> ShardedJob:
    """The job of answering these files: the same one as long as run and files are."""
    facts = {
        "model": prediction.model.fingerprint(),
        "top": prediction.top,
        "files": [_facts(file) for file in opened.files if isinstance(file, InputSource)],
    }
    beside = prediction.model.job_path("predict")
    return ShardedJob.open(beside, ".json", facts, opened.begins[-1], largest=PIECES)


def _facts(recordings: InputSource) -> list[Any]:
    options = {name: str(value) for name, value in recordings.options.items()}
    reader = recordings.reader and recordings.reader.name
    return [
        reader,
        options,
        len(recordings.parts),
        fingerprint_files(stat_files(recordings.list_files())),
    ]


def predict_shards(
    prediction: PredictionJob,
    opened: InputFiles,
    job: ShardedJob,
    workers: WorkerPool,
    progress: Progress | None,
) -> None:
    """Have the shards answered that are not finished.

    Raises:
        ClusterError: a node cannot do its part.
    """

    def task(shard: Shard) -> Task:
        parts = opened.parts(shard)
        files = {path for part in parts for path in part.recordings.list_files() if path.exists()}
        required_paths = (job.folder, prediction.model.run, *files)
        return Task(predict_shard, (prediction, parts, job, shard), required_paths)

    job.run(workers, task, progress)


def predict_shard(
    prediction: PredictionJob, parts: Sequence[FilePart], job: ShardedJob, shard: Shard
) -> None:
    """Answer a shard: for each of its files the number, the answers, and an error or null."""
    if job.shard_path(shard).exists():
        return
    predictor = _predictor(prediction)
    found = [(number, *_answers(predictor, recordings)) for number, recordings in parts]
    with job.atomic_shard(shard) as draft:
        draft.write_text(json.dumps(found))


def _answers(predictor: Predictor, recordings: InputSource) -> tuple[list[Told], str | None]:
    answers = []
    try:
        for clip in recordings.read_clips():
            answers.append(predictor(clip))
    except KinegraphError as error:
        return answers, str(error)
    return answers, None


@lru_cache(maxsize=1)
def _predictor(prediction: PredictionJob) -> Predictor:
    """Loaded once a process, which has many shards to answer."""
    prediction.model.configure()
    return Predictor.load(prediction.model.run, prediction.top)


def merge_shards(opened: InputFiles, job: ShardedJob) -> Iterator[Told | KinegraphError]:
    """The answers in the order of the files; nothing more of a file after its first error."""
    entries = _Entries(job)
    for number, file in enumerate(opened.files):
        if isinstance(file, KinegraphError):
            yield file
            continue
        try:
            yield from file.require_any(entries.of(number))
        except ClusterError:
            raise
        except KinegraphError as error:
            yield error
    job.delete()


class _Entries:
    """What the shards hold, read once and in their order."""

    def __init__(self, job: ShardedJob) -> None:
        self._coming = (entry for shard in job.shards for entry in _load(job, shard))
        self._next = next(self._coming, None)

    def of(self, number: int) -> Iterator[Told]:
        """The answers for one file.

        Raises:
            KinegraphError: what went wrong with it.
        """
        failed = None
        while self._next is not None and self._next[0] == number:
            _, answers, error = self._next
            if failed is None:
                yield from answers
                failed = error
            self._next = next(self._coming, None)
        if failed is not None:
            raise KinegraphError(failed)


def _load(job: ShardedJob, shard: Shard) -> list[tuple[int, list[Told], str | None]]:
    with job.guard_read(shard):
        entries = json.loads(job.shard_path(shard).read_text())
        return [(int(number), list(answers), error) for number, answers, error in entries]
