"""How a trained network becomes a traced program: whole clips at once, or step by step.

Shapes: N clips, C channels, T frames, V joints, M persons, S streams, f frames of a hop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export

from kinegraph.errors import ExportError
from kinegraph.inference.backends.exported_model import Interface, Kept
from kinegraph.runtime.layers import Affine
from kinegraph.runtime.network import FastNetwork
from kinegraph.runtime.step import StepNetwork

#: Sizes that are traced are none that networks treat in a way of their own, as they do 1.
CLIPS, PERSONS, FRAMES = 3, 2, 40


@dataclass(frozen=True)
class Traced:
    """A network to export.

    Attributes:
        network: inputs of the interface to its outputs.
        program: the same, as a graph of operations.
        interface: what goes in and out.
    """

    network: nn.Module
    program: ExportedProgram
    interface: Interface


def trace_clips(network: nn.Module) -> Traced:
    """A network of whole clips, of any number of clips, frames and (mostly) persons."""
    persons = _fixed_persons(network)
    lengths = bool(getattr(network, "takes_lengths", False))
    frames = FRAMES + getattr(network, "future", 0)
    V = network.layout.num_joints
    x = torch.randn(CLIPS, network.in_channels, frames, V, persons or PERSONS)
    sizes: list[dict[int, Any]] = [{0: Dim.DYNAMIC, 2: Dim.DYNAMIC}]
    if persons is None:
        sizes[0][4] = Dim.DYNAMIC
    inputs, names = [x], ["x"]
    if lengths:
        inputs.append(torch.full((CLIPS,), frames))
        names.append("lengths")
        sizes.append({0: Dim.DYNAMIC})
    program = _trace(network, inputs, tuple(sizes))
    interface = Interface(
        tuple(names), ("logits",), _least_frames(program), persons, lengths=lengths
    )
    return Traced(network, program, interface)


def trace_steps(network: nn.Module, persons: int) -> Traced:
    """A step network, of any number of streams.

    Raises:
        ExportError: the network is not local in time.
    """
    if not isinstance(network, FastNetwork):
        raise ExportError(
            f"{type(network).__name__} is not local in time, so that it has no step network: "
            "export it without --streaming"
        )
    step = _StreamRows(StepNetwork(network, persons))
    present, *kept = step.blank(CLIPS)
    V, hop = network.layout.num_joints, network.hop
    start = torch.zeros(CLIPS, dtype=torch.int64)
    frames = torch.randn(CLIPS, network.in_channels, hop, V, persons)
    inputs = [frames, start, torch.full((CLIPS,), FRAMES), present, *kept]
    rows = {0: Dim.DYNAMIC}
    program = _trace(step, inputs, (rows, rows, rows, rows, tuple(rows for _ in kept)))
    names = [f"kept_{i}" for i in range(len(kept))]
    interface = Interface(
        ("frames", "before", "end", "present", *names),
        ("logits", "present_next", *(f"{name}_next" for name in names)),
        persons=persons,
        hop=hop,
        delay=network.delay,
        kept=tuple(_describe(tensor) for tensor in kept),
    )
    return Traced(step, program, interface)


class _StreamRows(nn.Module):
    """A step network whose state has a row for each stream, not for each person."""

    def __init__(self, step: StepNetwork) -> None:
        super().__init__()
        self.step = step

    def forward(
        self, frames: Tensor, before: Tensor, end: Tensor, present: Tensor, *kept: Tensor
    ) -> tuple[Tensor, ...]:
        """See `StepNetwork.forward`; kept are (S, M, ...)."""
        rows = [tensor.flatten(0, 1) for tensor in kept]
        logits, present, *rows = self.step(frames, before, end, present, *rows)
        return logits, present, *self._by_stream(rows)

    def blank(self, streams: int) -> tuple[Tensor, ...]:
        """See `StepNetwork.blank`; kept are (S, M, ...)."""
        present, *rows = self.step.blank(streams)
        return present, *self._by_stream(rows)

    def _by_stream(self, rows: Sequence[Tensor]) -> list[Tensor]:
        return [tensor.unflatten(0, (-1, self.step.persons)) for tensor in rows]


def _trace(network: nn.Module, inputs: Sequence[Tensor], sizes: tuple[Any, ...]) -> ExportedProgram:
    with torch.no_grad():
        program = export(network, tuple(inputs), dynamic_shapes=sizes, strict=False)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # names files of this machine
    return program


def _describe(kept: Tensor) -> Kept:
    """A blank tensor in words: it is full of one value."""
    return Kept(tuple(kept.shape[1:]), str(kept.dtype).partition(".")[2], float(kept.flatten()[0]))


def _fixed_persons(network: nn.Module) -> int | None:
    """M, where a network normalises the persons of a clip together."""
    together = [m for m in network.modules() if isinstance(m, Affine) and m.scale.ndim == 3]
    return len(together[0].scale) if together else None


def _least_frames(program: ExportedProgram) -> int:
    """The shortest clip for which the graph holds, as the tracer found it."""
    (name,) = [n for n in program.graph_signature.user_inputs if n == "x"]
    (node,) = [n for n in program.graph.nodes if n.op == "placeholder" and n.name == name]
    frames = node.meta["val"].shape[2].node.expr
    return int(program.range_constraints[frames].lower)
