"""Model of a worker process: the same weights, threads and device as where the command runs."""

from __future__ import annotations

import hashlib
import socket
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch

from kinegraph.cluster.ray_workers import RayWorkers, connect
from kinegraph.errors import ClusterError
from kinegraph.training.checkpoint import collect_versions, find_checkpoint
from kinegraph.training.devices import default_device


@dataclass(frozen=True)
class WorkerModel:
    """Everything that, with the clips, determines the bits of the results.

    Attributes:
        run: a run's folder, a checkpoint file, or an exported one.
        digest: SHA-256 of its weights.
        threads: number of PyTorch threads.
        device: type of the device, such as cpu or cuda.
    """

    run: Path
    digest: str
    threads: int
    device: str

    @classmethod
    def from_run(cls, run: Path) -> Self:
        """Return the model of a run with the threads and the device of this machine.

        Raises:
            CheckpointError: there is no checkpoint.
        """
        return cls(run, _digest(run), torch.get_num_threads(), default_device().type)

    def fingerprint(self) -> dict[str, Any]:
        """Return the facts that identify the model, with the versions of the packages."""
        return {**vars(self), "run": self.run.name, "versions": collect_versions()}

    def job_path(self, name: str) -> Path:
        """Return where a job with this model keeps its shards: in the run, or beside the file."""
        is_folder = self.run.is_dir()
        return self.run / name if is_folder else self.run.with_name(f"{self.run.name}-{name}")

    def workers(self, cluster: str) -> AbstractContextManager[RayWorkers]:
        """Connect to a cluster whose tasks use the threads and the device of the model.

        Raises:
            ClusterError: the cluster cannot be reached.
        """
        return connect(cluster, threads=self.threads, gpu=self.device == "cuda")

    def configure(self) -> None:
        """Configure this worker process to compute as the model does where the command runs.

        Raises:
            ClusterError: the run or the device differs here.
        """
        if (digest := _digest(self.run)) != self.digest:
            raise ClusterError(
                f"node {socket.gethostname()} reads a different {self.run} ({digest[:8]}, expected "
                f"{self.digest[:8]}): runs must be on storage that all nodes share"
            )
        if (device := default_device().type) != self.device:
            raise ClusterError(
                f"node {socket.gethostname()} computes on {device}, this machine on {self.device}: "
                "run the command on a machine like the nodes"
            )
        torch.set_num_threads(self.threads)


def _digest(run: Path) -> str:
    path = find_checkpoint(run)
    digest = hashlib.sha256(path.read_bytes())
    weights = path.with_suffix(".bin")  # OpenVINO stores weights in a second file
    if path.suffix == ".xml" and weights.is_file():
        digest.update(weights.read_bytes())
    return digest.hexdigest()
