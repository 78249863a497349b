"""Worker pool for tests of sharded jobs: this process, which runs the last shards first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager

from kinegraph.cluster.sharding import Shard, Task


class WorkersHere(AbstractContextManager["WorkersHere"]):
    """Runs tasks in another order than that of the job, as the nodes of a cluster do.

    Attributes:
        seen: the finished shards.
        stop_after: number of shards after which Ctrl-C is pressed.
    """

    def __init__(self, stop_after: int | None = None) -> None:
        self.seen: list[Shard] = []
        self.stop_after = stop_after

    def __exit__(self, *_: object) -> None:
        """End the block."""

    def run_tasks(self, tasks: Iterable[Task]) -> Iterator[Shard]:
        for task in reversed(list(tasks)):
            if len(self.seen) == self.stop_after:
                raise KeyboardInterrupt
            assert all(path.exists() for path in task.required_paths)
            task.run()
            self.seen.append(task.shard)
            yield task.shard
