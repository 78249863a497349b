"""Inference layers as a graph: a layer may read the outputs of several earlier layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from kinegraph.ops.layers import InferenceLayer
from kinegraph.ops.step_context import Incremental, StepContext


class LayerGraph(nn.Module):
    """Layers in the order in which they are computed.

    In a stream, where branches of different delay meet, the faster ones wait for the slowest.

    Args:
        layers: at least one.
        inputs: for each layer, the numbers of the values that it reads. Value 0 is the features,
            those up to ``num_inputs`` are further inputs of the graph; then follow the outputs of
            the layers. The last layer's output is that of the graph.
        num_inputs: how many inputs the graph has.
    """

    def __init__(
        self,
        layers: Sequence[InferenceLayer],
        inputs: Sequence[tuple[int, ...]],
        num_inputs: int = 1,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.inputs = list(inputs)
        self.num_inputs = num_inputs
        last_use = {value: i for i, read in enumerate(self.inputs) for value in read}
        self._done = [[v for v in read if last_use[v] == i] for i, read in enumerate(self.inputs)]
        self._ahead: list[tuple[int, ...]] = []

    def forward(self, *inputs: Tensor) -> Tensor:
        """(n, T, V, C) and further inputs -> (n, T', V, C')."""
        values: dict[int, Tensor] = dict(enumerate(inputs))
        for i, layer in enumerate(self._each()):
            values[self.num_inputs + i] = layer(*(values[v] for v in self.inputs[i]))
            self._release(values, i)
        return values[self.num_inputs + len(self.inputs) - 1]

    def infer_delays(self, first: int) -> tuple[int, int]:
        """Compute for every layer which frame its first step begins with.

        Args:
            first: number of the first frame of the first step.

        Returns:
            the number of the first frame of the output, and how many frames of the clip make one.
        """
        values = {0: (first, 1)}
        self._ahead = []
        for i, layer in enumerate(self._each()):
            given = [values[v] for v in self.inputs[i]]
            slowest = min(first for first, _ in given)
            self._ahead.append(tuple(first - slowest for first, _ in given))
            values[self.num_inputs + i] = layer.infer_delay(slowest, given[0][1])
        return values[self.num_inputs + len(self.inputs) - 1]

    def run_incremental(self, x: Tensor, context: StepContext) -> Incremental[Tensor]:
        """(n, f, V, C) -> (n, f', V, C'), one layer after the other."""
        values = {0: x}
        for i, layer in enumerate(self._each()):
            read = [values[v] for v in self.inputs[i]]
            self._release(values, i)
            if len(read) == 1:
                y = layer.step(read[0], context)
            else:
                ahead = zip(read, self._ahead[i], strict=True)
                y = layer(*(context.prepend_history(v, a)[:, : v.shape[1]] for v, a in ahead))
            values[self.num_inputs + i] = y
            if layer.size:
                yield y.shape[1] * layer.size
        return y

    def _release(self, values: dict[int, Tensor], layer: int) -> None:
        for value in self._done[layer]:
            values.pop(value, None)

    def _each(self) -> Iterator[InferenceLayer]:
        return iter(self.layers)  # type: ignore[arg-type]
