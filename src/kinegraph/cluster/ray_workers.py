"""Workers on the nodes of a Ray cluster, with a short timeout for an unreachable cluster."""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

from kinegraph.cluster.sharding import Shard, Task
from kinegraph.errors import ClusterError, KinegraphError, install_command

LOCAL_ADDRESS = "local"
ADDRESS_PATTERN = re.compile(r"(?:ray://)?(?P<host>\[[^\]]+\]|[^:/\[\]]+):(?P<port>\d{1,5})")
CONNECT_TIMEOUT_S = 5.0
#: Retries of a shard whose worker process died.
MAX_RETRIES = 3
#: Tasks submitted per free slot: one waits while another one is computed.
TASKS_PER_SLOT = 2
#: Seconds without a finished task after which the nodes are counted again.
POLL_INTERVAL_S = 10.0
#: Bytes of Ray's object store; it stays small because shards are exchanged as files.
OBJECT_STORE_BYTES = 128 * 2**20


@dataclass(frozen=True)
class RayWorkers:
    """Runs tasks on the nodes of the cluster to which this process is connected.

    Attributes:
        address: the address as the user gave it, for messages.
        threads: CPUs per task.
        gpu: whether a task uses a GPU, if there are any.
    """

    address: str
    threads: int = 1
    gpu: bool = False

    def run_tasks(self, tasks: Iterable[Task]) -> Iterator[Shard]:
        """Yield the shard of each task when it is finished. Few tasks are in memory at a time.

        Raises:
            KinegraphError: the error of a task.
            ClusterError: the workers of one shard died repeatedly, or no node is left.
        """
        ray = _import_ray()
        gpus = int(self.gpu and ray.cluster_resources().get("GPU", 0) >= 1)
        options = {"num_cpus": self.threads, "num_gpus": gpus, "max_retries": MAX_RETRIES}
        remote = ray.remote(**options)(_run_task)
        facts = (Path.cwd(), _node_versions())
        tasks = iter(tasks)
        pending: dict[Any, Shard] = {}
        while True:
            free = max(0, TASKS_PER_SLOT * self._count_slots(gpus) - len(pending))
            pending |= {remote.remote(task, *facts): task.shard for task in islice(tasks, free)}
            if not pending:
                return
            for finished in ray.wait(list(pending), timeout=POLL_INTERVAL_S)[0]:
                shard = pending.pop(finished)
                self._raise_task_error(finished, shard)
                yield shard

    def _count_slots(self, gpus: int) -> int:
        """Return the number of tasks that can run at the same time, at least one."""
        nodes = [node["Resources"] for node in _import_ray().nodes() if node["Alive"]]
        slots = 0
        for node in nodes:
            by_cpu = int(node.get("CPU", 0)) // self.threads
            slots += min(by_cpu, int(node.get("GPU", 0))) if gpus else by_cpu
        if not slots:
            most = max((int(node.get("CPU", 0)) for node in nodes), default=0)
            raise ClusterError(
                f"no node of cluster {self.address!r} has the {self.threads} CPUs that a task "
                f"needs (the largest has {most}): start Ray on its nodes, or set "
                f"OMP_NUM_THREADS={max(1, most)} for this command"
            )
        return slots

    def _raise_task_error(self, finished: Any, shard: Shard) -> None:
        """Raise the error of a finished task, if there is one."""
        ray = _import_ray()
        try:
            ray.get(finished)
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
                f"items {shard.start} to {shard.stop - 1} ended {MAX_RETRIES + 1} workers, the "
                f"last error: {_ray_message(error)}"
            ) from error


@contextmanager
def connect(address: str, *, threads: int = 1, gpu: bool = False) -> Iterator[RayWorkers]:
    """Connect to a cluster for the duration of the block.

    Args:
        address: HOST:PORT or ray://HOST:PORT of a running cluster, ``auto`` for the one that runs
            on this machine, or ``local`` for all cores of this machine.
        threads, gpu: see `RayWorkers`.

    Raises:
        ClusterError: Ray is not installed, or the cluster cannot be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray = _import_ray()
    if address not in (LOCAL_ADDRESS, "auto"):
        _require_reachable(address)
    own: dict[str, Any] = {}
    if address == LOCAL_ADDRESS:
        own = {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
    with Path(os.devnull).open("w") as devnull, redirect_stdout(devnull):
        # Ray prints a line on standard output for every lost worker
        try:
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **own)
        except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
            raise ClusterError(f"cannot join cluster {address!r}: {_ray_message(error)}") from error
        try:
            yield RayWorkers(address, threads, gpu)
        finally:
            ray.shutdown()


def _import_ray() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise ClusterError(
            f"--cluster needs Ray, which is not installed: {install_command('cluster')}"
        ) from error
    return ray


def _ray_message(error: Exception) -> str:
    """Return the first line of Ray's message; the rest is about flags of its own command."""
    if isinstance(error, ConnectionError) and "running Ray instance" in str(error):
        return "no cluster runs on this machine: start one with `ray start --head`"
    return str(error).strip().splitlines()[0]


def _require_reachable(address: str) -> None:
    """Check the address within seconds; Ray would try for two minutes."""
    found = ADDRESS_PATTERN.fullmatch(address)
    if found is None:
        raise ClusterError(
            f"{address!r} is not the address of a cluster: expected HOST:PORT, ray://HOST:PORT, "
            "auto or local"
        )
    host, port = found["host"].strip("[]"), int(found["port"])
    try:
        socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(
            f"no cluster responds at {address} ({error}): start one with `ray start --head`, "
            "which prints its address"
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
            raise ClusterError(f"the server at {address} is not Ray") from error
        try:
            channel.unary_unary("/ray.rpc.NodeInfoGcsService/CheckAlive")(
                b"", timeout=CONNECT_TIMEOUT_S
            )
        except grpc.RpcError as error:
            needs_token = error.code() == grpc.StatusCode.UNAUTHENTICATED
            if needs_token and os.environ.get("RAY_AUTH_MODE") != "token":
                raise ClusterError(
                    f"the cluster at {address} requires a token: copy it from the cluster's nodes "
                    "to this machine, and set RAY_AUTH_MODE=token"
                ) from error


# --------------------------------------------------------------------- on a node


def _run_task(task: Task, working_folder: Path, versions: dict[str, str]) -> None:
    """Run a task on this node, in the working folder of the command."""
    for name, installed in _node_versions().items():
        if installed != versions[name]:
            raise ClusterError(
                f"node {socket.gethostname()} has {name} {installed}, but the command runs with "
                f"{versions[name]}: install the same version on every node"
            )
    _require_path(working_folder)
    os.chdir(working_folder)
    for path in task.required_paths:
        _require_path(path)
    task.run()


def _require_path(path: Path) -> None:
    if not path.exists():
        raise ClusterError(
            f"node {socket.gethostname()} cannot read {path}: the files of a cluster job must be "
            "on storage that all nodes share, under the same path"
        )


def _node_versions() -> dict[str, str]:
    """Return the versions of the packages that determine the bits of a result."""
    return {name: version(name) for name in ("kinegraph", "numpy", "pyarrow", "torch")}
