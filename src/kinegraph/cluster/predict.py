"""Prediction on a cluster: shards of input clips, answered in the order of one machine."""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from heapq import merge
from itertools import accumulate, groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from kinegraph.cluster.sharding import Shard, ShardedJob, Task, fingerprint_files
from kinegraph.cluster.worker_model import WorkerModel
from kinegraph.errors import ClusterError, KinegraphError
from kinegraph.inference.inputs import InputSource, open_input
from kinegraph.inference.predict import Predictor
from kinegraph.inference.trained_model import ProgressCallback
from kinegraph.readers.convert import stat_files

MAX_PARTS_PER_SHARD = 256

#: A file's number, answers for some of its clips, and the error that ended them, if any.
Entry = tuple[int, list[dict[str, Any]], str | None]


class InputFiles:
    """The sources of all files, with their parts numbered consecutively.

    Attributes:
        sources: the source of each file, or the error of opening it.
        starts: the number of each file's first part, and last the number of all parts.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        reader: str | None,
        predictor: Predictor,
        stated: Mapping[str, Any] | None = None,
    ) -> None:
        self.sources = [_open(path, reader, predictor, stated) for path in paths]
        lengths = (len(s.parts) if isinstance(s, InputSource) else 0 for s in self.sources)
        self.starts = [0, *accumulate(lengths)]

    def slice(self, shard: Shard) -> list[tuple[int, InputSource]]:
        """Return the files' numbers and parts in a shard."""
        slices = []
        first = bisect_right(self.starts, shard.start) - 1
        for number in range(first, bisect_left(self.starts, shard.stop)):
            source, start = self.sources[number], self.starts[number]
            if isinstance(source, InputSource) and source.parts:
                part = source.slice(max(0, shard.start - start), shard.stop - start)
                slices.append((number, part))
        return slices


def _open(
    path: Path, reader: str | None, predictor: Predictor, stated: Mapping[str, Any] | None
) -> InputSource | KinegraphError:
    try:
        return open_input(path, reader, predictor.run, stated)
    except KinegraphError as error:
        return error


def predict_on_cluster(
    predictor: Predictor,
    run: Path,
    files: Sequence[Path],
    reader: str | None = None,
    stated: Mapping[str, Any] | None = None,
    *,
    cluster: str,
    progress: ProgressCallback | None = None,
) -> Iterator[dict[str, Any] | KinegraphError]:
    """Predict like `kinegraph.inference.predict.predict_files`, on a cluster's nodes.

    Files and run must be on storage that all nodes share. The call returns when all shards are
    finished; the answers are read from them one by one.

    Args:
        run: a run's folder, a checkpoint file, or an exported one.
        files: raw files, folders of them, and stores.
        reader, stated: see `kinegraph.inference.inputs.open_input`.
        cluster: see `kinegraph.cluster.ray_workers.connect`.
        progress: called with (raw files or stored clips done, all of them).

    Raises:
        ClusterError: the cluster cannot be reached, or a node cannot compute its shards.
    """
    model, inputs = WorkerModel.from_run(run), InputFiles(files, reader, predictor, stated)
    job = open_prediction_job(model, predictor.top, inputs)
    create_task = partial(create_predict_task, model, predictor.top, inputs, job)
    job.run(model.workers(cluster), create_task, progress)
    return merge_predictions(inputs, job)


def open_prediction_job(model: WorkerModel, top: int, inputs: InputFiles) -> ShardedJob:
    """Return the job of these predictions, the same one as long as run and files do not change."""
    sources = [source for source in inputs.sources if isinstance(source, InputSource)]
    facts = {"model": model.fingerprint(), "top": top, "files": [_facts(s) for s in sources]}
    target, total = model.job_path("predict"), inputs.starts[-1]
    return ShardedJob.open(target, ".json", facts, total, MAX_PARTS_PER_SHARD)


def _facts(source: InputSource) -> list[Any]:
    stated = {**source.options, **source.facts}
    options = {name: str(value) for name, value in stated.items()}
    reader, files = source.reader and source.reader.name, stat_files(source.list_files())
    return [reader, options, len(source.parts), fingerprint_files(files)]


def create_predict_task(
    model: WorkerModel, top: int, inputs: InputFiles, job: ShardedJob, shard: Shard
) -> Task:
    """Return the task that answers a shard."""
    slices = inputs.slice(shard)
    files = {path for _, source in slices for path in source.list_files() if path.exists()}
    required_paths = (job.folder, model.run, *files)
    return Task(job, shard, predict_shard, (model, top, slices), required_paths)


def predict_shard(model: WorkerModel, top: int, slices: Sequence[tuple[int, InputSource]]) -> bytes:
    """Return the entries of a shard as JSON, one for each of its files."""
    predictor = _load_predictor(model, top)
    return json.dumps([_predict(predictor, *part) for part in slices]).encode()


def _predict(predictor: Predictor, number: int, source: InputSource) -> Entry:
    answers: list[dict[str, Any]] = []
    try:
        for clip in source.read_clips():
            answers.append(predictor(clip))
    except KinegraphError as error:
        return number, answers, str(error)
    return number, answers, None


@lru_cache(maxsize=1)  # a process computes many shards
def _load_predictor(model: WorkerModel, top: int) -> Predictor:
    model.configure()
    return Predictor.load(model.run, top)


def merge_predictions(
    inputs: InputFiles, job: ShardedJob
) -> Iterator[dict[str, Any] | KinegraphError]:
    """Yield the answers in the order of the files, each file up to its first error."""
    entries = (entry for shard in job.shards for entry in _load_predictions(job, shard))
    empty: Iterator[Entry] = ((number, [], None) for number in range(len(inputs.sources)))
    number = itemgetter(0)
    for i, own_entries in groupby(merge(empty, entries, key=number), key=number):
        source = inputs.sources[i]
        if isinstance(source, KinegraphError):
            yield source
            continue
        try:
            yield from source.require_any(_answers(own_entries))
        except ClusterError:
            raise
        except KinegraphError as error:
            yield error
    job.delete()


def _answers(entries: Iterable[Entry]) -> Iterator[dict[str, Any]]:
    """Yield the answers of a file, then raise its error, if any."""
    for _, answers, error in entries:
        yield from answers
        if error is not None:
            raise KinegraphError(error)


def _load_predictions(job: ShardedJob, shard: Shard) -> list[Entry]:
    with job.guard_read(shard):
        entries = json.loads(job.shard_path(shard).read_text())
        return [(int(number), list(answers), error) for number, answers, error in entries]
