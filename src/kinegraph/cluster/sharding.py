"""A job cut into shards: finished ones stay in a folder, where an interrupted job goes on."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

from kinegraph.errors import ClusterError, KinegraphError, StoreError
from kinegraph.files import atomic_path

Progress = Callable[[int, int], None]

MIN_SHARDS = 64  # that a small job is cut into at least, if it has as many pieces
#: Seconds to wait until a file that another node wrote is visible here; NFS may take 30.
VISIBILITY_TIMEOUT_S = 60.0


class Shard(NamedTuple):
    """Some of a job's pieces, from one to before another."""

    start: int
    stop: int


class Task(NamedTuple):
    """What a node is to do.

    Attributes:
        function: a function that is called with the arguments.
        arguments: can be pickled.
        needs: files and folders that the node must see.
    """

    function: Callable[..., None]
    arguments: tuple[Any, ...]
    required_paths: tuple[Path, ...]


class WorkerPool(Protocol):
    """Whoever does tasks, in any order: see `kinegraph.cluster.ray_workers`."""

    def run_tasks(self, tasks: Iterable[tuple[Shard, Task]]) -> Iterator[Shard]:
        """Yields each shard when its task is done."""


@dataclass(frozen=True)
class ShardedJob:
    """Pieces 0 to ``total``, in shards of ``size``.

    Attributes:
        folder: where finished shards are; on storage that all nodes share.
        suffix: of the file by which a shard is known to be finished.
        total: pieces.
        size: pieces of a shard.
    """

    folder: Path
    suffix: str
    total: int
    size: int

    @classmethod
    def open(
        cls,
        beside: Path,
        suffix: str,
        facts: Mapping[str, Any],
        total: int,
        *,
        largest: int,
        step: int = 1,
    ) -> Self:
        """A new job, or the same one again.

        Args:
            beside: what is made; the job's folder is beside it and named after it.
            suffix: of the file by which a shard is known to be finished.
            facts: all that decides what the shards hold; another job has another folder.
            total: pieces.
            largest: pieces of a shard at most.
            step: shards begin at multiples of it. Their borders depend on no cluster's size.
        """
        size = max(step, min(largest, total // MIN_SHARDS) // step * step)
        told = json.dumps({**facts, "total": total, "size": size}, sort_keys=True, default=str)
        mark = hashlib.sha256(told.encode()).hexdigest()[:16]
        folder = beside.absolute().with_name(f"{beside.name}-{mark}.shards")
        return cls(folder, suffix, total, size)

    @property
    def shards(self) -> list[Shard]:
        """All of them, in order."""
        starts = range(0, self.total, self.size)
        return [Shard(start, min(start + self.size, self.total)) for start in starts]

    def shard_path(self, shard: Shard, suffix: str = "") -> Path:
        """A file of a shard; the one that says it is finished unless a suffix is given."""
        return self.folder / f"{shard.start:09d}-{shard.stop:09d}{suffix or self.suffix}"

    def unfinished_shards(self) -> list[Shard]:
        """The shards that are still to be done."""
        names = {path.name for path in self.folder.iterdir()} if self.folder.is_dir() else set()
        return [shard for shard in self.shards if self.shard_path(shard).name not in names]

    @contextmanager
    def atomic_shard(self, shard: Shard, suffix: str = "") -> Iterator[Path]:
        """A name to write a shard's file under; it gets its own when it is whole and on disk.

        Two nodes may be at the same shard, one of them given up for dead: neither writes into the
        other's file.

        Raises:
            ClusterError: the file cannot be written.
        """
        path = self.shard_path(shard, suffix)
        try:
            with atomic_path(path, unique=True) as draft:
                yield draft
        except OSError as error:
            raise ClusterError(f"cannot write {path}: {error.strerror or error}") from error

    def run(
        self, workers: WorkerPool, task: Callable[[Shard], Task], progress: Progress | None
    ) -> None:
        """Have all shards done that are not finished.

        Raises:
            ClusterError: a node cannot do its part. What is finished stays.
            KinegraphError: a clip cannot be worked on, as on one machine.
            KeyboardInterrupt: with a message that says how to go on.
        """
        self._make_folder()
        todo = self.unfinished_shards()
        left = sum(shard.stop - shard.start for shard in todo)
        try:
            for shard in workers.run_tasks((shard, task(shard)) for shard in todo):
                self._await(shard)
                left -= shard.stop - shard.start
                if progress is not None:
                    progress(self.total - left, self.total)
        except ClusterError as error:
            raise ClusterError(f"{error}{self._resume_hint()}") from error
        except KinegraphError:
            self.delete()  # what is wrong with the clips will be so again
            raise
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"interrupted{self._resume_hint()}") from None

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ClusterError(f"cannot make {self.folder}: {error.strerror or error}") from error

    def _await(self, shard: Shard) -> None:
        """Wait until the folder shows what another node has written."""
        deadline = time.monotonic() + VISIBILITY_TIMEOUT_S
        path = self.shard_path(shard)
        while not path.exists() and shard in self.unfinished_shards():  # NFS caches absence
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"a node wrote {path}, but it is not seen here: the folder must "
                    "lie on storage that all nodes share"
                )
            time.sleep(0.1)

    def _resume_hint(self) -> str:
        done = len(self.shards) - len(self.unfinished_shards())
        if not done:
            self.delete()
            return ""
        return (
            f"; {done} of {len(self.shards)} shards are finished: the same command goes on with "
            f"those in {self.folder}"
        )

    @contextmanager
    def guard_read(self, shard: Shard) -> Iterator[None]:
        """Whatever goes wrong with a shard's files inside is an error that names them.

        Raises:
            ClusterError: a file is damaged; the shard counts as unfinished from now on.
        """
        try:
            yield
        except (OSError, EOFError, ValueError, KeyError, TypeError, StoreError) as error:
            self.shard_path(shard).unlink(missing_ok=True)
            path, hint = self.shard_path(shard), self._resume_hint()
            raise ClusterError(f"{path} was damaged ({error}) and is removed{hint}") from error

    def delete(self) -> None:
        """Remove the shards: they are merged."""
        shutil.rmtree(self.folder, ignore_errors=True)


def fingerprint_files(stats: Mapping[Path, os.stat_result | None]) -> str:
    """A hash of files by where they are, how large, and when they changed: for a job's facts."""
    listing = hashlib.sha256()
    for path in sorted(stats):
        stat = stats[path]
        changed = stat and (stat.st_size, stat.st_mtime_ns)
        listing.update(repr((os.fsencode(path.absolute()), changed)).encode())
    return listing.hexdigest()
