"""Sharded jobs: finished shards stay in a folder, from which an interrupted job continues."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

from kinegraph.errors import ClusterError, KinegraphError, StoreError
from kinegraph.files import atomic_path

#: Minimum number of shards, if the job has as many items.
MIN_SHARDS = 64
#: Seconds to wait until a file that another node wrote is visible here; NFS may take 30.
VISIBILITY_TIMEOUT_S = 60.0


class Shard(NamedTuple):
    """A range of a job's items, without ``stop``."""

    start: int
    stop: int


class Task(NamedTuple):
    """Computation of one shard on any node.

    Attributes:
        function: returns the content of the file that marks the shard as finished.
        arguments: of the function; picklable.
        required_paths: files and folders that the node must be able to read.
    """

    job: ShardedJob
    shard: Shard
    function: Callable[..., bytes]
    arguments: tuple[Any, ...]
    required_paths: tuple[Path, ...]

    def run(self) -> None:
        """Compute the shard, unless it is finished already."""
        if not self.job.shard_path(self.shard).exists():
            content = self.function(*self.arguments)
            with self.job.atomic_shard(self.shard) as draft:
                draft.write_bytes(content)


class WorkerPool(Protocol):
    """Runs tasks, in any order: see `kinegraph.cluster.ray_workers`."""

    def run_tasks(self, tasks: Iterable[Task]) -> Iterator[Shard]:
        """Yield the shard of each task when it is finished."""


@dataclass(frozen=True)
class ShardedJob:
    """Items 0 to ``total``, in shards of ``size``.

    Attributes:
        folder: folder of the finished shards, on storage that all nodes share.
        suffix: suffix of the file that marks a shard as finished.
        total: number of items.
        size: items per shard.
    """

    folder: Path
    suffix: str
    total: int
    size: int

    @classmethod
    def open(
        cls,
        target: Path,
        suffix: str,
        facts: Mapping[str, Any],
        total: int,
        largest: int,
        step: int = 1,
    ) -> Self:
        """Return a new job, or the same job again.

        Args:
            target: the result; the job's folder is beside it and has its name.
            suffix, total: see `ShardedJob`.
            facts: everything that determines the shards; a job with other facts has another folder.
            largest: maximum number of items per shard.
            step: shards start at multiples of it, whatever the size of the cluster.
        """
        size = max(step, min(largest, total // MIN_SHARDS) // step * step)
        key = json.dumps({**facts, "total": total, "size": size}, sort_keys=True, default=str)
        digest = hashlib.sha256(key.encode()).hexdigest()[:16]
        folder = target.absolute().with_name(f"{target.name}-{digest}.shards")
        return cls(folder, suffix, total, size)

    @property
    def shards(self) -> list[Shard]:
        """All shards, in order."""
        starts = range(0, self.total, self.size)
        return [Shard(start, min(start + self.size, self.total)) for start in starts]

    def shard_path(self, shard: Shard, suffix: str = "") -> Path:
        """Return the path of a shard's file; without suffix, of the one that marks it finished."""
        return self.folder / f"{shard.start:09d}-{shard.stop:09d}{suffix or self.suffix}"

    def unfinished_shards(self) -> list[Shard]:
        """Return the shards that are not finished."""
        names = {path.name for path in self.folder.iterdir()} if self.folder.is_dir() else set()
        return [shard for shard in self.shards if self.shard_path(shard).name not in names]

    @contextmanager
    def atomic_shard(self, shard: Shard, suffix: str = "") -> Iterator[Path]:
        """Yield a path to write a shard's file to; it is renamed when the block ends.

        Two nodes may write the same shard, if one of them was taken for dead.

        Raises:
            ClusterError: the file cannot be written.
        """
        path = self.shard_path(shard, suffix)
        try:
            with atomic_path(path) as draft:
                yield draft
        except OSError as error:
            raise ClusterError(f"cannot write {path}: {error.strerror or error}") from error

    def run(
        self,
        pool: AbstractContextManager[WorkerPool],
        create_task: Callable[[Shard], Task],
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Compute the unfinished shards; the pool is opened only if there are any.

        Args:
            progress: called with (items done, items in all).

        Raises:
            ClusterError: a node cannot compute its shards. Finished ones stay.
            KinegraphError: a clip is invalid, as on one machine.
            KeyboardInterrupt: the message says how to continue.
        """
        todo = self.unfinished_shards()
        if not todo:
            return
        remaining = sum(shard.stop - shard.start for shard in todo)
        with pool as workers:
            self._create_folder()
            try:
                for shard in workers.run_tasks(create_task(shard) for shard in todo):
                    self._wait_until_visible(shard)
                    remaining -= shard.stop - shard.start
                    if progress is not None:
                        progress(self.total - remaining, self.total)
            except ClusterError as error:
                raise ClusterError(f"{error}{self._resume_hint()}") from error
            except KinegraphError:
                self.delete()  # the clips stay invalid, so there is nothing to continue
                raise
            except KeyboardInterrupt:
                raise KeyboardInterrupt(f"interrupted{self._resume_hint()}") from None

    def _create_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ClusterError(f"cannot create {self.folder}: {error.strerror or error}") from error

    def _wait_until_visible(self, shard: Shard) -> None:
        deadline = time.monotonic() + VISIBILITY_TIMEOUT_S
        path = self.shard_path(shard)
        while not path.exists() and shard in self.unfinished_shards():  # NFS caches absence
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"a node wrote {path}, but it is not visible here: the folder must be on "
                    "storage that all nodes share"
                )
            time.sleep(0.1)

    def _resume_hint(self) -> str:
        done = len(self.shards) - len(self.unfinished_shards())
        if not done:
            self.delete()
            return ""
        return (
            f"; {done} of {len(self.shards)} shards are finished: the same command continues with "
            f"those in {self.folder}"
        )

    @contextmanager
    def guard_read(self, shard: Shard) -> Iterator[None]:
        """Delete a shard if reading it fails in this block, so that it is computed again.

        Raises:
            ClusterError: a file is damaged; the message names it.
        """
        try:
            yield
        except (OSError, EOFError, ValueError, KeyError, TypeError, StoreError) as error:
            path = self.shard_path(shard)
            path.unlink(missing_ok=True)
            raise ClusterError(
                f"{path} was damaged ({error}) and has been deleted{self._resume_hint()}"
            ) from error

    def delete(self) -> None:
        """Delete all shards."""
        shutil.rmtree(self.folder, ignore_errors=True)


def fingerprint_files(stats: Mapping[Path, os.stat_result | None]) -> str:
    """Return a hash of the paths, sizes and modification times of files."""
    listing = hashlib.sha256()
    for path in sorted(stats):
        stat = stats[path]
        changed = stat and (stat.st_size, stat.st_mtime_ns)
        listing.update(repr((os.fsencode(path.absolute()), changed)).encode())
    return listing.hexdigest()
