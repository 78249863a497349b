"""Which model answers on a node, and how it computes: the same as where the command was given."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from contextlib import contextmanager
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
    """What settles, with the clips, the answers to their last bits.

    Attributes:
        run: a run's folder, a checkpoint file, or an exported one.
        digest: hash of its weights.
        threads: of PyTorch.
        device: cpu, cuda, ...
    """

    run: Path
    digest: str
    threads: int
    device: str

    @classmethod
    def from_run(cls, run: Path) -> Self:
        """The model of a run, as it would compute on this machine.

        Raises:
            CheckpointError: there is none.
        """
        return cls(run, _digest(run), torch.get_num_threads(), default_device().type)

    def fingerprint(self) -> dict[str, Any]:
        """For a job: versions, too, decide how a model computes."""
        return {**vars(self), "run": self.run.name, "versions": collect_versions()}

    def job_path(self, name: str) -> Path:
        """Where a job with this model has its shards: in the run, or beside the file."""
        inside = self.run.is_dir()
        return self.run / name if inside else self.run.with_name(f"{self.run.name}-{name}")

    @contextmanager
    def workers(self, cluster: str) -> Iterator[RayWorkers]:
        """The nodes of a cluster, each task with the threads and device of the model.

        Raises:
            ClusterError: the cluster cannot be reached.
        """
        with connect(cluster, threads=self.threads, gpu=self.device == "cuda") as workers:
            yield workers

    def configure(self) -> None:
        """Compute in this process as the model did where the command was given.

        Raises:
            ClusterError: the run, or the device, is another one here.
        """
        if (digest := _digest(self.run)) != self.digest:
            raise ClusterError(
                f"node {socket.gethostname()} sees another {self.run} ({digest[:8]}, not "
                f"{self.digest[:8]}): runs must lie on storage that all nodes share"
            )
        if (device := default_device().type) != self.device:
            raise ClusterError(
                f"node {socket.gethostname()} computes on {device}, this machine on {self.device}: "
                "give the command on a machine like the nodes"
            )
        torch.set_num_threads(self.threads)


def _digest(run: Path) -> str:
    path = find_checkpoint(run)
    digest = hashlib.sha256(path.read_bytes())
    weights = path.with_suffix(".bin")  # of OpenVINO's files
    if path.suffix == ".xml" and weights.is_file():
        digest.update(weights.read_bytes())
    return digest.hexdigest()
