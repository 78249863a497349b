"""The nodes of a Ray cluster as workers: reached quickly or not at all, and silent."""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Any

from kinegraph.cluster.sharding import Shard, Task
from kinegraph.errors import ClusterError, KinegraphError

LOCAL_ADDRESS = "local"
ADDRESS_PATTERN = re.compile(r"(?:ray://)?(?P<host>\[[^\]]+\]|[^:/\[\]]+):(?P<port>\d{1,5})")
CONNECT_TIMEOUT_S = 5.0  # seconds until an address counts as unreachable
MAX_RETRIES = 3  # of a shard whose worker died
TASKS_PER_SLOT = 2  # tasks a place that are handed out: one is waiting while one is worked on
POLL_INTERVAL_S = 10.0  # seconds without news after which nodes are counted again
OBJECT_STORE_BYTES = 128 * 2**20  # bytes; shards travel by files


@dataclass(frozen=True)
class RayWorkers:
    """Does tasks on the nodes of the cluster that this process is connected to.

    Attributes:
        address: as it was given, for messages.
        threads: CPUs that each task takes.
        gpu: whether a task takes a GPU, if there are any.
    """

    address: str
    threads: int = 1
    gpu: bool = False

    def run_tasks(self, tasks: Iterable[tuple[Shard, Task]]) -> Iterator[Shard]:
        """Yields each shard when its task is done. Few tasks wait, so few are held in memory.

        Raises:
            KinegraphError: what a task raised.
            ClusterError: workers died over one shard again and again, or no node is left.
        """
        ray = _ray()
        gpus = int(self.gpu and ray.cluster_resources().get("GPU", 0) >= 1)
        remote = ray.remote(num_cpus=self.threads, num_gpus=gpus, max_retries=MAX_RETRIES)(
            _run_task
        )
        facts = (Path.cwd(), _node_versions())
        tasks = iter(tasks)
        pending: dict[Any, Shard] = {}
        while True:
            room = max(0, TASKS_PER_SLOT * self._places(gpus) - len(pending))
            pending |= {remote.remote(task, *facts): shard for shard, task in islice(tasks, room)}
            if not pending:
                return
            for done in ray.wait(list(pending), timeout=POLL_INTERVAL_S)[0]:
                shard = pending.pop(done)
                self._check(done, shard)
                yield shard

    def _places(self, gpus: int) -> int:
        """Tasks that can be worked on at the same time.

        Raises:
            ClusterError: none.
        """
        nodes = [node["Resources"] for node in _ray().nodes() if node["Alive"]]
        places = 0
        for node in nodes:
            by_cpu = int(node.get("CPU", 0)) // self.threads
            places += min(by_cpu, int(node.get("GPU", 0))) if gpus else by_cpu
        if not places:
            most = max((int(node.get("CPU", 0)) for node in nodes), default=0)
            raise ClusterError(
                f"no node of cluster {self.address!r} has the {self.threads} CPUs that a task "
                f"takes (the largest has {most}): start Ray on its nodes, or set "
                f"OMP_NUM_THREADS={max(1, most)} for this command"
            )
        return places

    def _check(self, done: Any, shard: Shard) -> None:
        """Raise what a task raised."""
        ray = _ray()
        try:
            ray.get(done)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, KinegraphError):
                raise error.cause from None
            if "No module named 'kinegraph" in str(error) or isinstance(error.cause, ImportError):
                raise ClusterError(
                    f"node {error.ip} cannot import kinegraph: install the same version on every "
                    "node"
                ) from error
            raise
        except ray.exceptions.RayError as error:
            raise ClusterError(
                f"pieces {shard.start} to {shard.stop - 1} ended {MAX_RETRIES + 1} workers, the "
                f"last one so: {_reason(error)}"
            ) from error


@contextmanager
def connect(address: str, *, threads: int = 1, gpu: bool = False) -> Iterator[RayWorkers]:
    """The nodes of a cluster, while the block lasts.

    Args:
        address: HOST:PORT or ray://HOST:PORT of a running one, ``auto`` for the one that runs on
            this machine, or ``local`` for all cores of this machine.
        threads: CPUs that each task takes.
        gpu: whether a task takes a GPU, if there are any.

    Raises:
        ClusterError: Ray is not installed, or the cluster cannot be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray = _ray()
    if address not in (LOCAL_ADDRESS, "auto"):
        _require_reachable(address)
    own: dict[str, Any] = {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        # Ray tells on standard output of every worker that is lost
        try:
            ray.init(
                address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                **(own if address == LOCAL_ADDRESS else {}),
            )
        except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
            raise ClusterError(f"cannot join cluster {address!r}: {_reason(error)}") from error
        try:
            yield RayWorkers(address, threads, gpu)
        finally:
            ray.shutdown()


def _ray() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise ClusterError(
            "--cluster needs Ray, which is not installed: pip install 'kinegraph[cluster]'"
        ) from error
    return ray


def _reason(error: Exception) -> str:
    """The first line of what Ray says; its advice on flags is for another command."""
    if isinstance(error, ConnectionError) and "running Ray instance" in str(error):
        return "none runs on this machine: start one with `ray start --head`"
    return str(error).strip().splitlines()[0]


def _require_reachable(address: str) -> None:
    """Ray itself would try for two minutes."""
    found = ADDRESS_PATTERN.fullmatch(address)
    if found is None:
        raise ClusterError(
            f"{address!r} is no address of a cluster: expected HOST:PORT, ray://HOST:PORT, auto "
            "or local"
        )
    host, port = found["host"].strip("[]"), int(found["port"])
    try:
        socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(
            f"no cluster answers at {address} ({error}): start one with `ray start --head`, which "
            "prints its address"
        ) from error
    if os.environ.get("RAY_USE_TLS", "0") == "0":
        _require_grpc(address, f"{found['host']}:{port}")


def _require_grpc(address: str, target: str) -> None:
    import grpc

    with grpc.insecure_channel(target) as channel:
        try:
            if address.startswith("ray://"):
                grpc.channel_ready_future(channel).result(timeout=CONNECT_TIMEOUT_S)
                return
            channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=CONNECT_TIMEOUT_S)
        except (grpc.FutureTimeoutError, grpc.RpcError) as error:
            raise ClusterError(f"what answers at {address} is not Ray") from error
        try:
            channel.unary_unary("/ray.rpc.NodeInfoGcsService/CheckAlive")(
                b"", timeout=CONNECT_TIMEOUT_S
            )
        except grpc.RpcError as error:
            asked = error.code() == grpc.StatusCode.UNAUTHENTICATED
            if asked and os.environ.get("RAY_AUTH_MODE") != "token":
                raise ClusterError(
                    f"the cluster at {address} asks for a token: have it on this machine as on the "
                    "cluster's nodes, and set RAY_AUTH_MODE=token"
                ) from error


# --------------------------------------------------------------------- on a node


def _run_task(task: Task, home: Path, versions: dict[str, str]) -> None:
    """Do a task on this node as it would be done where the command was given."""
    for name, found in _node_versions().items():
        if found != versions[name]:
            raise ClusterError(
                f"node {socket.gethostname()} has {name} {found}, but where the command was given "
                f"it is {versions[name]}: install the same version on every node"
            )
    _require_seen(home)
    os.chdir(home)
    for path in task.required_paths:
        _require_seen(path)
    task.function(*task.arguments)


def _require_seen(path: Path) -> None:
    if not path.exists():
        raise ClusterError(
            f"node {socket.gethostname()} does not see {path}: what a cluster works on must lie on "
            "storage that all nodes share, under the same path"
        )


def _node_versions() -> dict[str, str]:
    """Of what decides the bits of a result."""
    found = {}
    for name in ("kinegraph", "numpy", "pyarrow", "torch"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found
