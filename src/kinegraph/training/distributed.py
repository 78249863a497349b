"""Several processes as one training: how many, who leads, and how their figures become one.

Each process has a device of its own. They are started by `torchrun`, or on one machine by the
first of them (`kinegraph.training.launcher`).
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

import torch.distributed as dist
from lightning.fabric.plugins.environments import ClusterEnvironment
from torch import Tensor, nn

from kinegraph.errors import RecipeError
from kinegraph.training.devices import device_count, device_name
from kinegraph.training.recipe import TrainConfig

Content = TypeVar("Content")

#: How parameters are kept alike. Buffers are averaged once an epoch instead (`average_buffers`).
#: Parameters that a batch leaves out (AS-GCN's, in turn) must not be waited for; and as gradients
#: then always travel in the same buckets, a resumed training adds them up in the same order.
DDP_OPTIONS: dict[str, Any] = {"find_unused_parameters": True, "broadcast_buffers": False}

#: How long processes wait while the first evaluates a run before it goes on to the next stream.
BROADCAST_TIMEOUT = timedelta(days=7)


class ProcessLayout(NamedTuple):
    """How many processes train together.

    Attributes:
        local: on each machine, one a device.
        nodes: machines.
    """

    local: int
    nodes: int

    @property
    def size(self) -> int:
        """Processes in all."""
        return self.local * self.nodes


def is_rank_zero() -> bool:
    """Whether this is the process that writes files and speaks, as it is without any others."""
    return not launched_by_torchrun() or os.environ["RANK"] == "0"


def launched_by_torchrun() -> bool:
    """Whether `torchrun` started this process (or a first process, as its follower)."""
    return {"RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"} <= os.environ.keys()


def rank() -> int:
    """Which process of all this is, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def resolve_processes(settings: TrainConfig) -> ProcessLayout:
    """The processes that a recipe asks for.

    Raises:
        RecipeError: there are fewer devices, or other processes were started.
    """
    here = device_count()
    local, nodes = settings.devices, settings.nodes
    if launched_by_torchrun():
        return _started_crew(local, nodes)
    if nodes > 1:
        each = here or 1 if local == "auto" else local
        raise RecipeError(
            f"train.nodes={nodes} needs a start on every node, such as: torchrun --nnodes {nodes} "
            f"--nproc-per-node {each} --rdzv-backend c10d --rdzv-endpoint FIRST_NODE:29500 "
            "-m kinegraph train RECIPE ..."
        )
    if local == "auto":
        return ProcessLayout(here or 1, 1)
    if here is not None and local > here:
        raise RecipeError(f"train.devices={local}, but this machine has {here} ({device_name()})")
    return ProcessLayout(local, 1)


def _started_crew(local: int | str, nodes: int) -> ProcessLayout:
    each, total = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
    started = ProcessLayout(each, total // each)
    if started != (each if local == "auto" else local, nodes):
        raise RecipeError(
            f"torchrun started {started.local} processes on each of {started.nodes} nodes, the "
            f"recipe says train.devices={local} train.nodes={nodes}: give "
            f"train.devices={started.local} train.nodes={started.nodes}"
        )
    return started


def broadcast_from_rank_zero(content: Content) -> Content:
    """Meet the other processes; every one of them gets what the first one brings."""
    if not dist.is_initialized():
        dist.init_process_group()
        atexit.register(dist.destroy_process_group)
        _waiting.append(dist.new_group(backend="gloo", timeout=BROADCAST_TIMEOUT))
    brought = [content]
    dist.broadcast_object_list(brought, group=_waiting[0])
    return brought[0]


_waiting: list[Any] = []


class ExternalClusterEnvironment(ClusterEnvironment):
    """Tells Lightning that the processes are there already, and which one this is."""

    def __init__(self, crew: ProcessLayout) -> None:
        self.crew = crew

    @property
    def creates_processes_externally(self) -> bool:
        """Lightning starts none."""
        return True

    @property
    def main_address(self) -> str:
        """Not needed: the processes have met."""
        return ""

    @property
    def main_port(self) -> int:
        """Not needed: the processes have met."""
        return 0

    @staticmethod
    def detect() -> bool:
        """Part of the interface."""
        return dist.is_initialized()

    def world_size(self) -> int:
        """Processes in all."""
        return self.crew.size

    def set_world_size(self, size: int) -> None:
        """It is settled."""

    def global_rank(self) -> int:
        """Which process of all this is."""
        return rank()

    def set_global_rank(self, rank: int) -> None:
        """It is settled."""

    def local_rank(self) -> int:
        """Which process of this machine this is."""
        return self.global_rank() % self.crew.local

    def node_rank(self) -> int:
        """Which machine this is."""
        return self.global_rank() // self.crew.local


class MeanMetrics:
    """Means over the clips of all processes, whichever of them has seen which figures."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[Tensor, int]] = {}

    def add(self, name: str, total: Tensor, clips: int) -> None:
        """The sum of a figure over the clips of a batch; it stays on its device."""
        before, count = self._sums.get(name, (0, 0))
        self._sums[name] = (before + total.detach().float(), count + clips)

    def take(self) -> Mapping[str, float]:
        """The means so far, the same in every process; the next ones start afresh."""
        own = {name: (float(total), count) for name, (total, count) in self._sums.items()}
        self._sums = {}
        everyones: list[Any] = [own]
        if dist.is_initialized():
            everyones = [None] * dist.get_world_size()
            dist.all_gather_object(everyones, own)
        names = {name: None for sums in everyones for name in sums}
        found = {name: [sums[name] for sums in everyones if name in sums] for name in names}
        return {
            name: sum(total for total, _ in parts) / sum(count for _, count in parts)
            for name, parts in found.items()
        }


def average_buffers(module: nn.Module) -> None:
    """Let every process have the mean of all, such as of batch-norm's running statistics."""
    if not dist.is_initialized():
        return
    for buffer in module.buffers():
        if buffer.is_floating_point():
            dist.all_reduce(buffer)
            buffer /= dist.get_world_size()
