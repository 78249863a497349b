"""From a folder of raw files to one clip store, with every refused file named and counted."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kinegraph.clips.clip import Clip
from kinegraph.clips.store import StoreWriter
from kinegraph.errors import ClipError, ReadError, StoreError
from kinegraph.readers.reader import Reader, ReadPlan, ReadTask

ConversionProgress = Callable[[int, int], None]

POOL_FROM_BYTES = 16 * 2**20  # below this, starting processes takes longer than reading
LARGEST_CHUNK = 16  # tasks that a process reads at a time
CHUNKS_PER_WORKER = 3  # read ahead of the writer; bounds the memory
REASONS_SHOWN = 3


@dataclass
class ConversionResult:
    """What a conversion did.

    Attributes:
        path: the store.
        stored: clips in it.
        per_class: clips by class name, or by label where classes have no names; 0 is listed too.
        unlabelled: clips without a label.
        persons: the persons of all clips, summed.
        frames: the frames of all clips, summed.
        refused: what was left out: (file relative to the source, or clip id; reason).
        rounding: the largest error of a stored coordinate, in the units of the clips; 0 but for
            float16.
    """

    path: Path
    stored: int = 0
    per_class: dict[str, int] = field(default_factory=dict)
    unlabelled: int = 0
    persons: int = 0
    frames: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)
    rounding: float = 0.0


@dataclass(frozen=True)
class Refusal:
    """Why a piece of a task is not a clip, or not in the store; travels between processes.

    Attributes:
        reason: a sentence.
        name: the clip's id, if it got so far.
    """

    reason: str
    name: str = ""


TaskResult = list[Clip | Refusal]


@dataclass(frozen=True)
class ConversionJob:
    """What a conversion will read, settled before the first clip is read.

    Attributes:
        reader: who reads it.
        source: a folder, or one raw file.
        options: the reader's options.
        plan: what the reader found there.
        stats: of each raw file; None where it cannot be asked (reading it will say why).
    """

    reader: Reader
    source: Path
    options: Mapping[str, Any]
    plan: ReadPlan
    stats: Mapping[Path, os.stat_result | None]

    @property
    def size(self) -> int:
        """Bytes of all raw files."""
        return sum(stat.st_size for stat in self.stats.values() if stat is not None)

    def name(self, path: Path) -> str:
        """A raw file's name in the store and in what is refused: relative to the source."""
        inside = self.source in path.parents
        return path.relative_to(self.source).as_posix() if inside else path.name

    def provenance(self) -> dict[str, Any]:
        """Where the clips come from, as the store says it."""
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
        """A store for these clips, or for some of them."""
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
        workers: processes that read; 1 reads in this one. None: all cores where it pays. With
            more than one, a script needs the usual ``if __name__ == "__main__":``.
        dtype: of the stored coordinates: float32, or float16 for half the bytes.
        progress: called with (tasks done, tasks in all).

    Raises:
        ReadError: the source is missing or not of this kind, or none of its clips is usable.
        StoreError: the store cannot be written.
        UnknownNameError: the reader has no such option.
    """
    job = scan_source(reader, Path(source), Path(store_path), options or {})
    processes = _processes(workers, len(job.plan.tasks), job.size)
    results = read_tasks(job, job.plan.tasks, processes)
    return store_results(job, results, Path(store_path), progress, dtype)


# --------------------------------------------------------------------- before reading


def scan_source(
    reader: Reader, source: Path, store_path: Path, options: Mapping[str, Any]
) -> ConversionJob:
    """Find out what there is to read, without reading it.

    Raises:
        ReadError: the source is missing or not of this kind.
        StoreError: the store would be written over a raw file.
        UnknownNameError: the reader has no such option.
    """
    plan = reader.plan(source, options)
    _spare_raw_files(source, plan, store_path)
    paths = {task.path for task in plan.tasks} | {path for path, _ in plan.refused}
    return ConversionJob(reader, source, dict(options), plan, stat_files(paths))


def _spare_raw_files(source: Path, plan: ReadPlan, store_path: Path) -> None:
    """Refuse to write the store over what it is made from."""
    target = store_path.resolve()
    if target == source.resolve() or any(target == task.path.resolve() for task in plan.tasks):
        raise StoreError(f"{store_path} is a raw file of the source; name another store to write")


def stat_files(paths: Iterable[Path]) -> dict[Path, os.stat_result | None]:
    """What the system knows of files; None where it cannot be asked."""
    return {path: path.stat() if path.exists() else None for path in paths}


# --------------------------------------------------------------------- reading


def _processes(workers: int | None, tasks: int, size: int) -> int:
    if workers is None:
        workers = _cores() if size >= POOL_FROM_BYTES else 1
    return max(1, min(workers, tasks))


def _cores() -> int:
    """The cores this process may use, which in a container can be fewer than the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def read_tasks(
    job: ConversionJob, tasks: Sequence[ReadTask], processes: int = 1
) -> Generator[tuple[ReadTask, TaskResult]]:
    """Every task with what it holds, in the order of the tasks."""
    if processes > 1:
        yield from _read_in_pool(job.reader, tasks, job.options, processes)
        return
    for task in tasks:
        yield task, _read_task(job.reader.read, task, job.options)


def _read_in_pool(
    reader: Reader, tasks: Sequence[ReadTask], options: Mapping[str, Any], processes: int
) -> Generator[tuple[ReadTask, TaskResult]]:
    size = max(1, min(LARGEST_CHUNK, len(tasks) // (4 * processes)))
    chunks = deque(tasks[i : i + size] for i in range(0, len(tasks), size))
    pending: deque[tuple[Sequence[ReadTask], Future[list[TaskResult]]]] = deque()
    # not fork: a parent with threads (progress bars, a server) could deadlock its children
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_ignore_interrupts)
    try:
        while chunks or pending:
            while chunks and len(pending) < CHUNKS_PER_WORKER * processes:
                chunk = chunks.popleft()
                pending.append((chunk, pool.submit(_read_chunk, reader.read, chunk, options)))
            chunk, future = pending.popleft()
            yield from zip(chunk, future.result(), strict=True)
    except BrokenProcessPool as error:
        raise ReadError(
            "a reading process was killed (too little memory, or a script without "
            '`if __name__ == "__main__":`); try again with workers=1'
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _ignore_interrupts() -> None:
    """Ctrl-C reaches the whole process group; only the parent should answer it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _read_chunk(
    read: Callable[..., Iterator[Clip | ReadError]],
    tasks: Sequence[ReadTask],
    options: Mapping[str, Any],
) -> list[TaskResult]:
    return [_read_task(read, task, options) for task in tasks]


def _read_task(
    read: Callable[..., Iterator[Clip | ReadError]], task: ReadTask, options: Mapping[str, Any]
) -> TaskResult:
    """What a task holds; whatever goes wrong in it is a refusal, never an exception."""
    result: TaskResult = []
    try:
        for clip in read(task, **options):
            result.append(Refusal(str(clip)) if isinstance(clip, ReadError) else clip)
    except (ReadError, ClipError) as error:
        result.append(Refusal(str(error)))
    except Exception as error:
        result.append(Refusal(f"unexpected {type(error).__name__}: {error}"))
    return result


# --------------------------------------------------------------------- storing


def store_results(
    job: ConversionJob,
    results: Generator[tuple[ReadTask, TaskResult]],
    store_path: Path,
    progress: ConversionProgress | None = None,
    dtype: str = "float32",
) -> ConversionResult:
    """Write what the tasks of a job hold, in their order, into one store.

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
                    _count(written, writer.classes, done)
            if progress is not None:
                progress(count, len(plan.tasks))
        if done.stored == 0:
            raise _nothing_stored(job.reader, job.source, done.refused)
        done.rounding = writer.rounding
    return done


def write_task_result(result: TaskResult, source: str, writer: StoreWriter) -> TaskResult:
    """Write the clips of one task; what comes back has a refusal for each that is not stored."""
    if not result:
        return [Refusal("no clip in it")]
    return [r if isinstance(r, Refusal) else _written(r, source, writer) for r in result]


def _written(clip: Clip, source: str, writer: StoreWriter) -> Clip | Refusal:
    try:
        writer.check(clip)
    except StoreError as error:
        return Refusal(str(error), clip.id)
    writer.write(clip, source)
    return clip


def _count(clip: Clip, classes: Sequence[str] | None, done: ConversionResult) -> None:
    done.stored += 1
    done.persons += clip.num_persons
    done.frames += clip.num_frames
    if clip.label is None:
        done.unlabelled += 1
        return
    name = str(clip.label) if classes is None else classes[clip.label]
    done.per_class[name] = done.per_class.get(name, 0) + 1


def _nothing_stored(reader: Reader, source: Path, refused: Sequence[tuple[str, str]]) -> ReadError:
    shown = "; ".join(f"{name}: {reason}" for name, reason in refused[:REASONS_SHOWN])
    shown = shown or "it holds no clip"
    more = "" if len(refused) <= REASONS_SHOWN else f"; and {len(refused) - REASONS_SHOWN} more"
    return ReadError(
        f"reader {reader.name!r} found no usable clip in {source}, nothing was stored: "
        f"{shown}{more}"
    )
