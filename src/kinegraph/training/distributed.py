"""Distributed data parallel training: process layout, rank, and sums over all processes.

Each process has one device. The processes are started by `torchrun`, or on one machine by
`kinegraph.training.launcher`.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

import torch.distributed as dist
from lightning.fabric.plugins.environments import LightningEnvironment
from torch import Tensor, nn

from kinegraph.errors import RecipeError
from kinegraph.training.devices import device_count, device_name
from kinegraph.training.recipe import TrainConfig

Content = TypeVar("Content")

#: Options of Lightning's DDPStrategy. Buffers are averaged once an epoch instead of broadcast
#: (`average_buffers`). A batch may leave parameters unused (those of AS-GCN, in turn), so DDP must
#: not wait for their gradients; gradients then always use the same buckets, so that a resumed
#: training adds them up in the same order.
DDP_OPTIONS: dict[str, Any] = {"find_unused_parameters": True, "broadcast_buffers": False}

#: Time to wait for rank 0, which evaluates a run before it continues with the next stream.
BROADCAST_TIMEOUT = timedelta(days=7)


class ProcessLayout(NamedTuple):
    """Number of processes that train together.

    Attributes:
        per_node: processes on each machine, one per device.
        nodes: machines.
    """

    per_node: int
    nodes: int

    @property
    def world_size(self) -> int:
        """Number of all processes."""
        return self.per_node * self.nodes


def is_rank_zero() -> bool:
    """Return whether this process writes the files and prints: rank 0, or a single process."""
    return not launched_by_torchrun() or os.environ["RANK"] == "0"


def launched_by_torchrun() -> bool:
    """Return whether `torchrun`, or our launcher, has started this process."""
    return {"RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"} <= os.environ.keys()


def get_rank() -> int:
    """Return the rank of this process, 0 for a single process."""
    return dist.get_rank() if dist.is_initialized() else 0


def resolve_processes(settings: TrainConfig) -> ProcessLayout:
    """Return the process layout that a recipe asks for.

    Raises:
        RecipeError: there are fewer devices, or torchrun started other processes.
    """
    available = device_count()
    devices, nodes = settings.devices, settings.nodes
    if isinstance(devices, list):
        _check_device_ids(devices, available)
    per_node = len(devices) if isinstance(devices, list) else devices
    if launched_by_torchrun():
        return _check_started(per_node, nodes)
    if nodes > 1:
        started = available or 1 if per_node == "auto" else per_node
        raise RecipeError(
            f"train.nodes={nodes} needs a start on every node, such as: torchrun --nnodes {nodes} "
            f"--nproc-per-node {started} --rdzv-backend c10d --rdzv-endpoint FIRST_NODE:29500 "
            "-m kinegraph train RECIPE ..."
        )
    if per_node == "auto":
        return ProcessLayout(available or 1, 1)
    if available is not None and per_node > available:
        raise RecipeError(
            f"train.devices={per_node}, but this machine has {available} ({device_name()})"
        )
    return ProcessLayout(per_node, 1)


def _check_device_ids(ids: list[int], available: int | None) -> None:
    if available is None:
        raise RecipeError(
            f"train.devices={ids} names accelerators, but this machine has none: set a number of "
            "processes"
        )
    if max(ids) >= available:
        raise RecipeError(
            f"train.devices={ids}, but the devices of this machine are "
            f"{', '.join(map(str, range(available)))} ({device_name()})"
        )


def _check_started(per_node: int | str, nodes: int) -> ProcessLayout:
    local_world_size = int(os.environ["LOCAL_WORLD_SIZE"])
    started = ProcessLayout(local_world_size, int(os.environ["WORLD_SIZE"]) // local_world_size)
    if started != (started.per_node if per_node == "auto" else per_node, nodes):
        raise RecipeError(
            f"torchrun started {started.per_node} processes on each of {started.nodes} nodes, but "
            f"the recipe has train.devices={per_node} train.nodes={nodes}: set "
            f"train.devices={started.per_node} train.nodes={started.nodes}"
        )
    return started


def broadcast_from_rank_zero(content: Content) -> Content:
    """Return the content of rank 0 in every process, which joins the process group if necessary."""
    if not dist.is_initialized():
        dist.init_process_group()
        atexit.register(dist.destroy_process_group)
        _broadcast_group.append(dist.new_group(backend="gloo", timeout=BROADCAST_TIMEOUT))
    contents = [content]
    dist.broadcast_object_list(contents, group=_broadcast_group[0])
    return contents[0]


_broadcast_group: list[Any] = []


class ExternalClusterEnvironment(LightningEnvironment):
    """Processes that are running already and have joined the process group."""

    def __init__(self, layout: ProcessLayout) -> None:
        super().__init__()
        self.layout = layout

    @property
    def creates_processes_externally(self) -> bool:
        return True

    def local_rank(self) -> int:
        return get_rank() % self.layout.per_node

    def node_rank(self) -> int:
        return get_rank() // self.layout.per_node

    def teardown(self) -> None:
        """Keep the environment variables, which the next training needs."""


class MeanMetrics:
    """Means over the clips of all processes; a process may lack some of the metrics."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[Tensor, int]] = {}

    def add(self, name: str, total: Tensor, clips: int) -> None:
        """Add the sum of a metric over the clips of a batch; it stays on its device."""
        before, count = self._sums.get(name, (0, 0))
        self._sums[name] = (before + total.detach().float(), count + clips)

    def compute_and_reset(self) -> Mapping[str, float]:
        """Return the means, equal in every process, and start again at zero."""
        own = {name: (float(total), count) for name, (total, count) in self._sums.items()}
        self._sums = {}
        gathered: list[Any] = [own]
        if dist.is_initialized():
            gathered = [None] * dist.get_world_size()
            dist.all_gather_object(gathered, own)
        names = {name: None for sums in gathered for name in sums}
        parts = {name: [sums[name] for sums in gathered if name in sums] for name in names}
        return {
            name: sum(total for total, _ in pairs) / sum(count for _, count in pairs)
            for name, pairs in parts.items()
        }


def average_buffers(module: nn.Module) -> None:
    """Replace floating point buffers, such as batch norm statistics, by their mean over processes.

    Without a process group they stay unchanged.
    """
    if not dist.is_initialized():
        return
    for buffer in module.buffers():
        if buffer.is_floating_point():
            dist.all_reduce(buffer)
            buffer /= dist.get_world_size()
