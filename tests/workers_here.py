"""Workers for the tests of jobs: this process, which takes the last shards first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kinegraph.cluster.sharding import Shard, Task


class WorkersHere:
    """Does tasks in another order than a job has them, as nodes of a cluster do.

    Attributes:
        seen: the shards that were done.
        stop_after: how many are done until somebody presses Ctrl-C.
    """

    def __init__(self, stop_after: int | None = None) -> None:
        self.seen: list[Shard] = []
        self.stop_after = stop_after

    def run_tasks(self, tasks: Iterable[tuple[Shard, Task]]) -> Iterator[Shard]:
        for shard, task in reversed(list(tasks)):
            if len(self.seen) == self.stop_after:
                raise KeyboardInterrupt
            assert all(path.exists() for path in task.required_paths)
            task.function(*task.arguments)
            self.seen.append(shard)
            yield shard
