"""Conversion of raw files to one clip store; refused files are reported with their reasons."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from kinegraph.clips.clip import Clip
from kinegraph.clips.intervals import parse_intervals
from kinegraph.clips.store import is_store
from kinegraph.clips.writer import StoreWriter
from kinegraph.errors import ClipError, ReadError, StoreError
from kinegraph.processes import start_pool_worker
from kinegraph.readers.label_recordings import RecordingLabels
from kinegraph.readers.reader import Reader, ReadPlan, ReadResults, ReadTask

ConversionProgress = Callable[[int, int], None]
ReadFunction = Callable[[ReadTask], ReadResults]

MIN_POOL_BYTES = 16 * 2**20  # below this, starting processes takes longer than reading
MAX_CHUNK_TASKS = 16  # tasks that a process reads at a time
CHUNKS_PER_WORKER = 3  # prefetched chunks; they bound the memory
MAX_REASONS_SHOWN = 3


@dataclass
class ConversionResult:
    """The result of a conversion.

    Attributes:
        path: the store.
        stored: number of clips in it.
        per_class: clips, and actions of recordings, by class name, or by label if classes have no
            names; includes zeros.
        unlabeled: number of clips without a label and without intervals.
        persons: total persons of all clips.
        frames: total frames of all clips.
        refused: (file relative to the source, or clip id; reason) of what was left out.
        rounding: maximum error of a stored coordinate, in the units of the clips; 0 except for
            float16.
        notes: sentence about what was changed or guessed -> number of clips that it concerns.
    """

    path: Path
    stored: int = 0
    per_class: dict[str, int] = field(default_factory=dict)
    unlabeled: int = 0
    persons: int = 0
    frames: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)
    rounding: float = 0.0
    notes: dict[str, int] = field(default_factory=dict)


class Refusal(NamedTuple):
    """The reason why a part of a task is not a clip, or not in the store."""

    reason: str
    name: str = ""  # the clip's id, if it is known


TaskResult = list[Clip | Refusal]


@dataclass(frozen=True)
class ConversionJob:
    """The input of a conversion, known before the first clip is read.

    Attributes:
        reader: the reader of the source.
        source: a folder, or one raw file.
        options: the reader's options.
        plan: the reader's plan of the source.
        stats: file statistics of each raw file; None if the system has none.
    """

    reader: Reader
    source: Path
    options: Mapping[str, Any]
    plan: ReadPlan
    stats: Mapping[Path, os.stat_result | None]

    def name(self, path: Path) -> str:
        """Return the name of a raw file in the store and in messages, relative to the source."""
        inside = self.source in path.parents
        return path.relative_to(self.source).as_posix() if inside else path.name

    def provenance(self) -> dict[str, Any]:
        """Return the origin of the clips, for the store's header."""
        sizes = {path: -1 if s is None else s.st_size for path, s in self.stats.items()}
        listing = "".join(sorted(f"{self.name(path)}\t{n}\n" for path, n in sizes.items()))
        plain = (str, int, float, bool, type(None))
        return {
            "reader": self.reader.name,
            "options": {k: v if isinstance(v, plain) else str(v) for k, v in self.options.items()},
            "protocols": list(self.reader.protocols),
            "source": self.source.resolve().name,
            "source_sha256": hashlib.sha256(listing.encode(errors="backslashreplace")).hexdigest(),
        }

    def writer(self, store_path: Path, dtype: str = "float32") -> StoreWriter:
        """Return the writer of a store for these clips."""
        plan = self.plan
        return StoreWriter(store_path, plan.layout, plan.classes, self.provenance(), dtype)


def convert(
    reader: Reader,
    source: str | Path,
    store_path: str | Path,
    *,
    options: Mapping[str, Any] | None = None,
    workers: int | None = None,
    dtype: str = "float32",
    progress: ConversionProgress | None = None,
    labels: RecordingLabels | None = None,
) -> ConversionResult:
    """Read every raw file of a source and write its clips into one store.

    A bad file is refused and the others are stored. Clips are stored in the order of the
    reader's plan, whichever process finishes first: converting twice gives equal bytes. An older
    store is replaced only at the end.

    Args:
        reader: the reader of this kind of source.
        source: a folder of raw files, or one raw file.
        store_path: the store to write.
        options: the reader's options.
        workers: number of reading processes; 1 reads in this process. None: all cores if the
            source is large enough. With more than one, a script needs the usual
            ``if __name__ == "__main__":``.
        dtype: type of the stored coordinates: float32, or float16 for half the size.
        progress: called with (tasks done, total tasks).
        labels: interval labels of the recordings; their actions are the classes of the store.

    Raises:
        ReadError: the source is missing or not of this kind, or none of its clips is usable.
        StoreError: the store cannot be written.
        UnknownNameError: the reader has no such option.
    """
    job = scan_source(reader, Path(source), Path(store_path), options or {})
    size = sum(stat.st_size for stat in job.stats.values() if stat is not None)
    results = read_tasks(job, job.plan.tasks, _count_workers(workers, len(job.plan.tasks), size))
    if labels is None:
        return store_results(job, results, Path(store_path), progress, dtype)
    job = replace(job, plan=replace(job.plan, classes=labels.classes))
    done = store_results(
        job, _label_results(job, results, labels), Path(store_path), progress, dtype
    )
    unused = [
        (name, f"{labels.path} has labels of it, but it is not there") for name in labels.unused()
    ]
    done.refused += unused
    return done


def _label_results(
    job: ConversionJob,
    results: Generator[tuple[ReadTask, TaskResult]],
    labels: RecordingLabels,
) -> Generator[tuple[ReadTask, TaskResult]]:
    """Yield the results with interval labels; a recording that they do not fit is refused."""
    with closing(results):
        for task, result in results:
            labeled: TaskResult = []
            for item in result:
                if isinstance(item, Clip):
                    try:
                        item = labels.add_to(item, job.name(task.path))
                    except ReadError as error:
                        item = Refusal(str(error), item.id)
                labeled.append(item)
            yield task, labeled


def scan_source(
    reader: Reader, source: Path, store_path: Path, options: Mapping[str, Any]
) -> ConversionJob:
    """Return the job of converting a source; no clip is read yet.

    Raises:
        ReadError: the source is missing or not of this kind.
        StoreError: the store would overwrite a file that is not a store.
        UnknownNameError: the reader has no such option.
    """
    plan = reader.plan(source, options)
    # Path.resolve raises an error for a link to itself
    target, *raw = map(os.path.realpath, (store_path, source, *(task.path for task in plan.tasks)))
    if target in raw:
        raise StoreError(f"{store_path} is a raw file of the source; choose another store path")
    if store_path.is_file() and store_path.stat().st_size and not is_store(store_path):
        raise StoreError(f"{store_path} exists and is not a store; choose another store path")
    paths = {task.path for task in plan.tasks} | {path for path, _ in plan.refused}
    return ConversionJob(reader, source, dict(options), plan, stat_files(paths))


def stat_files(paths: Iterable[Path]) -> dict[Path, os.stat_result | None]:
    """Return the file statistics of files; None if a file does not exist."""
    found: dict[Path, os.stat_result | None] = {}
    for path in paths:
        try:
            found[path] = path.stat()
        except (OSError, ValueError):  # a list may name what cannot be a path
            found[path] = None
    return found


def _count_workers(workers: int | None, tasks: int, size: int) -> int:
    if workers is None:
        workers = _count_cores() if size >= MIN_POOL_BYTES else 1
    return max(1, min(workers, tasks))


def _count_cores() -> int:
    """Return the cores of this process, which in a container can be fewer than the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def read_tasks(
    job: ConversionJob, tasks: Sequence[ReadTask], workers: int = 1
) -> Generator[tuple[ReadTask, TaskResult]]:
    """Yield every task with its result, in the order of the tasks."""
    if workers > 1:
        yield from _read_in_pool(job.reader.read, tasks, workers)
        return
    for task in tasks:
        yield task, _read_task(job.reader.read, task)


def _read_in_pool(
    read: ReadFunction, tasks: Sequence[ReadTask], workers: int
) -> Generator[tuple[ReadTask, TaskResult]]:
    size = max(1, min(MAX_CHUNK_TASKS, len(tasks) // (4 * workers)))
    chunks = deque(tasks[i : i + size] for i in range(0, len(tasks), size))
    pending: deque[tuple[Sequence[ReadTask], Future[list[TaskResult]]]] = deque()
    # not fork: a parent with threads (progress bars, a server) could deadlock its children
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    pool = ProcessPoolExecutor(workers, context, start_pool_worker)
    try:
        while chunks or pending:
            while chunks and len(pending) < CHUNKS_PER_WORKER * workers:
                chunk = chunks.popleft()
                pending.append((chunk, pool.submit(_read_chunk, read, chunk)))
            chunk, future = pending.popleft()
            yield from zip(chunk, future.result(), strict=True)
    except BrokenProcessPool as error:
        raise ReadError(
            "a reading process was killed (too little memory, or a script without "
            '`if __name__ == "__main__":`); try again with workers=1'
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _read_chunk(read: ReadFunction, tasks: Sequence[ReadTask]) -> list[TaskResult]:
    return [_read_task(read, task) for task in tasks]


def _read_task(read: ReadFunction, task: ReadTask) -> TaskResult:
    """Return the clips of a task; every failure is a refusal, never an exception."""
    result: TaskResult = []
    try:
        for clip in read(task):
            result.append(Refusal(str(clip)) if isinstance(clip, ReadError) else clip)
    except (ReadError, ClipError) as error:
        result.append(Refusal(str(error)))
    except Exception as error:
        result.append(Refusal(f"unexpected {type(error).__name__}: {error}"))
    return result


def store_results(
    job: ConversionJob,
    results: Generator[tuple[ReadTask, TaskResult]],
    store_path: Path,
    progress: ConversionProgress | None = None,
    dtype: str = "float32",
) -> ConversionResult:
    """Write the results of a job's tasks, in their order, into one store.

    Raises:
        ReadError: none of the clips is usable.
        StoreError: the store cannot be written.
    """
    plan = job.plan
    done = ConversionResult(store_path, per_class=dict.fromkeys(plan.classes or (), 0))
    done.refused += [(job.name(path), reason) for path, reason in plan.refused]
    # closing() ends the reading processes at once when writing fails or is interrupted
    with closing(results), job.writer(store_path, dtype) as writer:
        for count, (task, result) in enumerate(results, start=1):
            name = job.name(task.path)
            for written in write_task_result(result, name, writer):
                if isinstance(written, Refusal):
                    done.refused.append((written.name or name, written.reason))
                else:
                    _count_clip(written, writer.classes, done)
            if progress is not None:
                progress(count, len(plan.tasks))
        if done.stored == 0:
            raise ReadError(
                f"reader {job.reader.name!r} found no usable clip in {job.source}, nothing was "
                f"stored: {_summarize_refused(done.refused)}"
            )
        done.rounding = writer.rounding
    return done


def write_task_result(result: TaskResult, source: str, writer: StoreWriter) -> TaskResult:
    """Write the clips of one task; return the result with a refusal for each that is not stored."""
    written: TaskResult = []
    for item in result or [Refusal("no clip in it")]:
        if isinstance(item, Clip):
            try:
                writer.check(item)
            except StoreError as error:
                item = Refusal(str(error), item.id)
            else:
                writer.write(item, source)
        written.append(item)
    return written


def _count_clip(clip: Clip, classes: Sequence[str] | None, done: ConversionResult) -> None:
    done.stored += 1
    done.persons += clip.num_persons
    done.frames += clip.num_frames
    for note in clip.notes:
        done.notes[note] = done.notes.get(note, 0) + 1
    intervals = parse_intervals(clip.meta, clip.num_frames)
    labels = [one.label for one in intervals or ()]
    if clip.label is not None:
        labels.append(clip.label)
    elif intervals is None:
        done.unlabeled += 1
    for label in labels:
        name = str(label) if classes is None else classes[label]
        done.per_class[name] = done.per_class.get(name, 0) + 1


def _summarize_refused(refused: Sequence[tuple[str, str]]) -> str:
    shown = "; ".join(f"{name}: {reason}" for name, reason in refused[:MAX_REASONS_SHOWN])
    more = len(refused) - MAX_REASONS_SHOWN
    return (shown or "it holds no clip") + (f"; and {more} more" if more > 0 else "")
