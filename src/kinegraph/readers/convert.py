"""From a folder of raw files to one clip store, with every refused file named and counted."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kinegraph.clips.clip import Clip
from kinegraph.clips.store import StoreWriter
from kinegraph.errors import ClipError, ReadError, StoreError
from kinegraph.readers.reader import Plan, Reader, Unit

Progress = Callable[[int, int], None]

POOL_FROM_BYTES = 16 * 2**20  # below this, starting processes takes longer than reading
LARGEST_CHUNK = 16  # units that a process reads at a time
CHUNKS_PER_WORKER = 3  # read ahead of the writer; bounds the memory
REASONS_SHOWN = 3


@dataclass
class Conversion:
    """What a conversion did.

    Attributes:
        path: the store.
        stored: clips in it.
        per_class: clips by class name, or by label where classes have no names; 0 is listed too.
        unlabelled: clips without a label.
        persons: the persons of all clips, summed.
        frames: the frames of all clips, summed.
        refused: what was left out: (file relative to the source, or clip id; reason).
    """

    path: Path
    stored: int = 0
    per_class: dict[str, int] = field(default_factory=dict)
    unlabelled: int = 0
    persons: int = 0
    frames: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class _Refusal:
    """Why a piece of a unit is not a clip; travels between processes."""

    reason: str


_Result = list[Clip | _Refusal]


def convert(
    reader: Reader,
    source: str | Path,
    store_path: str | Path,
    *,
    options: Mapping[str, Any] | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Conversion:
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
        progress: called with (units done, units in all).

    Raises:
        ReadError: the source is missing or not of this kind, or none of its clips is usable.
        StoreError: the store cannot be written.
        UnknownNameError: the reader has no such option.
    """
    source, store_path = Path(source), Path(store_path)
    options = dict(options or {})
    plan = reader.plan(source, options)
    _spare_raw_files(source, plan, store_path)
    sizes = _sizes(plan)
    provenance = _provenance(reader, source, options, sizes)
    done = Conversion(store_path, per_class=dict.fromkeys(plan.classes or (), 0))
    done.refused += [(_relative(path, source), reason) for path, reason in plan.refused]
    results = _results(reader, plan.units, options, _processes(workers, plan.units, sizes))
    # closing() ends the reading processes at once when writing fails or is interrupted
    with (
        closing(results),
        StoreWriter(store_path, plan.layout, plan.classes, provenance) as writer,
    ):
        for count, (unit, result) in enumerate(results, start=1):
            _store(result, _relative(unit.path, source), writer, done)
            if progress is not None:
                progress(count, len(plan.units))
        if done.stored == 0:
            raise _nothing_stored(reader, source, done.refused)
    return done


# --------------------------------------------------------------------- before reading


def _spare_raw_files(source: Path, plan: Plan, store_path: Path) -> None:
    """Refuse to write the store over what it is made from."""
    target = store_path.resolve()
    if target == source.resolve() or any(target == unit.path.resolve() for unit in plan.units):
        raise StoreError(f"{store_path} is a raw file of the source; name another store to write")


def _sizes(plan: Plan) -> dict[Path, int]:
    """Bytes per raw file; -1 where it cannot be asked (reading it will say why)."""
    paths = {unit.path for unit in plan.units} | {path for path, _ in plan.refused}
    return {path: path.stat().st_size if path.exists() else -1 for path in paths}


def _provenance(
    reader: Reader, source: Path, options: Mapping[str, Any], sizes: Mapping[Path, int]
) -> dict[str, Any]:
    lines = sorted(f"{_relative(path, source)}\t{size}\n" for path, size in sizes.items())
    listing = "".join(lines).encode(errors="backslashreplace")
    plain = (str, int, float, bool, type(None))
    return {
        "reader": reader.name,
        "options": {k: v if isinstance(v, plain) else str(v) for k, v in options.items()},
        "protocols": list(reader.protocols),
        "source": source.resolve().name,
        "source_sha256": hashlib.sha256(listing).hexdigest(),
    }


def _relative(path: Path, source: Path) -> str:
    return path.relative_to(source).as_posix() if source in path.parents else path.name


# --------------------------------------------------------------------- reading


def _processes(workers: int | None, units: Sequence[Unit], sizes: Mapping[Path, int]) -> int:
    if workers is None:
        pays = sum(sizes.values()) >= POOL_FROM_BYTES
        workers = _cores() if pays else 1
    return max(1, min(workers, len(units)))


def _cores() -> int:
    """The cores this process may use, which in a container can be fewer than the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _results(
    reader: Reader, units: Sequence[Unit], options: Mapping[str, Any], processes: int
) -> Generator[tuple[Unit, _Result]]:
    """Every unit with what it holds, in the order of the units."""
    if processes > 1:
        yield from _read_in_pool(reader, units, options, processes)
        return
    for unit in units:
        yield unit, _read_unit(reader.read, unit, options)


def _read_in_pool(
    reader: Reader, units: Sequence[Unit], options: Mapping[str, Any], processes: int
) -> Generator[tuple[Unit, _Result]]:
    size = max(1, min(LARGEST_CHUNK, len(units) // (4 * processes)))
    chunks = deque(units[i : i + size] for i in range(0, len(units), size))
    pending: deque[tuple[Sequence[Unit], Future[list[_Result]]]] = deque()
    # not fork: a parent with threads (progress bars, a server) could deadlock its children
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_ignore_interrupts)
    try:
        while chunks or pending:
            while chunks and len(pending) < CHUNKS_PER_WORKER * processes:
                chunk = chunks.popleft()
                pending.append((chunk, pool.submit(_read_units, reader.read, chunk, options)))
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


def _read_units(
    read: Callable[..., Iterator[Clip | ReadError]],
    units: Sequence[Unit],
    options: Mapping[str, Any],
) -> list[_Result]:
    return [_read_unit(read, unit, options) for unit in units]


def _read_unit(
    read: Callable[..., Iterator[Clip | ReadError]], unit: Unit, options: Mapping[str, Any]
) -> _Result:
    """What a unit holds; whatever goes wrong in it is a refusal, never an exception."""
    result: _Result = []
    try:
        for clip in read(unit, **options):
            result.append(_Refusal(str(clip)) if isinstance(clip, ReadError) else clip)
    except (ReadError, ClipError) as error:
        result.append(_Refusal(str(error)))
    except Exception as error:
        result.append(_Refusal(f"unexpected {type(error).__name__}: {error}"))
    return result


# --------------------------------------------------------------------- storing


def _store(result: _Result, source: str, writer: StoreWriter, done: Conversion) -> None:
    if not result:
        done.refused.append((source, "no clip in it"))
    for clip in result:
        if isinstance(clip, _Refusal):
            done.refused.append((source, clip.reason))
            continue
        try:
            writer.check(clip)
        except StoreError as error:
            done.refused.append((clip.id or source, str(error)))
            continue
        writer.write(clip, source)
        _count(clip, writer.classes, done)


def _count(clip: Clip, classes: Sequence[str] | None, done: Conversion) -> None:
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
