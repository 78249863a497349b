"""Tracing of a network with `torch.export`: whole clips at once, or step by step.

Shapes: N clips, C channels, T frames, V joints, M persons, S streams, f frames of a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export

from kinegraph.errors import ExportError
from kinegraph.inference.backends.exported_model import Interface, StateSpec
from kinegraph.runtime.network import InferenceNetwork, PersonNetwork
from kinegraph.runtime.step import StepNetwork

#: Example sizes: none is one that networks treat in a special way, as they do 1.
CLIPS, PERSONS, FRAMES = 3, 2, 40


@dataclass(frozen=True)
class TracedNetwork:
    """A network to export.

    Attributes:
        network: inputs of the interface to its outputs.
        program: the same, as a graph of operations.
        interface: names and sizes of inputs and outputs.
    """

    network: nn.Module
    program: ExportedProgram
    interface: Interface


def trace_clips(network: InferenceNetwork) -> TracedNetwork:
    """Trace a network of whole clips, for any number of clips, frames and (mostly) persons."""
    frames, V = FRAMES + network.min_frames - 1, network.layout.num_joints
    x = torch.randn(CLIPS, network.in_channels, frames, V, network.persons or PERSONS)
    sizes: list[dict[int, Any]] = [{0: Dim.DYNAMIC, 2: Dim.DYNAMIC}]
    if network.persons is None:
        sizes[0][4] = Dim.DYNAMIC
    inputs, names = [x], ["x"]
    if network.takes_lengths:
        inputs.append(torch.full((CLIPS,), frames))
        names.append("lengths")
        sizes.append({0: Dim.DYNAMIC})
    program = _trace(network, inputs, tuple(sizes))
    interface = Interface(
        names, ["logits"], _min_frames(program), network.persons, lengths=network.takes_lengths
    )
    return TracedNetwork(network, program, interface)


def trace_steps(
    network: InferenceNetwork, persons: int, window: int | None = None
) -> TracedNetwork:
    """Trace a step network, for any number of streams.

    Args:
        network: of the model.
        persons: M.
        window: how many of the latest frames the classifier sees; None for all since the start.

    Raises:
        ExportError: the network is not local in time.
    """
    if not isinstance(network, PersonNetwork):
        raise ExportError(
            "the model is not local in time, so it has no step network: export it without "
            "--streaming"
        )
    step = _StreamRows(StepNetwork(network, persons, window))
    present, *state = step.initial_state(CLIPS)
    V, hop = network.layout.num_joints, network.hop
    start = torch.zeros(CLIPS, dtype=torch.int64)
    frames = torch.randn(CLIPS, network.in_channels, hop, V, persons)
    inputs = [frames, start, torch.full((CLIPS,), FRAMES), present, *state]
    rows = {0: Dim.DYNAMIC}
    program = _trace(step, inputs, (rows, rows, rows, rows, tuple(rows for _ in state)))
    names = [f"kept_{i}" for i in range(len(state))]
    interface = Interface(
        ("frames", "before", "end", "present", *names),
        ("logits", "present_next", *(f"{name}_next" for name in names)),
        persons=persons,
        hop=hop,
        delay=network.delay,
        kept=[
            StateSpec(tuple(t.shape[1:]), str(t.dtype).partition(".")[2], float(t.flatten()[0]))
            for t in state
        ],
    )
    return TracedNetwork(step, program, interface)


class _StreamRows(nn.Module):
    """A step network whose state (S, M, ...) has a row for each stream, not for each person."""

    def __init__(self, step: StepNetwork) -> None:
        super().__init__()
        self.step = step

    def forward(
        self, frames: Tensor, before: Tensor, end: Tensor, present: Tensor, *state: Tensor
    ) -> tuple[Tensor, ...]:
        rows = [tensor.flatten(0, 1) for tensor in state]
        logits, present, *rows = self.step(frames, before, end, present, *rows)
        return logits, present, *self._by_stream(rows)

    def initial_state(self, streams: int) -> tuple[Tensor, ...]:
        present, *rows = self.step.initial_state(streams)
        return present, *self._by_stream(rows)

    def _by_stream(self, rows: Sequence[Tensor]) -> list[Tensor]:
        return [tensor.unflatten(0, (-1, self.step.persons)) for tensor in rows]


def _trace(network: nn.Module, inputs: Sequence[Tensor], sizes: tuple[Any, ...]) -> ExportedProgram:
    with torch.no_grad():
        program = export(network, tuple(inputs), dynamic_shapes=sizes, strict=False)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names files of this machine
    return program


def _min_frames(program: ExportedProgram) -> int:
    """Return the length of the shortest clip for which the graph holds, as the tracer found it."""
    (name,) = [n for n in program.graph_signature.user_inputs if n == "x"]
    (node,) = [n for n in program.graph.nodes if n.op == "placeholder" and n.name == name]
    frames = node.meta["val"].shape[2].node.expr
    return int(program.range_constraints[frames].lower)
