"""Counter of the operations, parameters and memory traffic of a network."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry


@dataclass(frozen=True)
class NetworkCost:
    """The cost of one forward pass.

    Attributes:
        flops: floating-point operations, two for a multiply-add, of all matrix products and
            convolutions (PyTorch's `FlopCounterMode`).
        min_values: values that any implementation reads: every parameter, and the input.
        moved_values: values that the reference network moves at least: those, and the output of
            each matrix product or convolution, written once and read once.
        parameters: learned values.
    """

    flops: float
    min_values: float
    moved_values: float
    parameters: int


class _OutputCounter(TorchDispatchMode):
    """Counter of the values that matrix products and convolutions return."""

    def __init__(self) -> None:
        super().__init__()
        self.values = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func._overloadpacket in flop_registry and isinstance(result, Tensor):
            self.values += result.numel()
        return result


def count_cost(network: nn.Module, x: Tensor) -> NetworkCost:
    """Count the cost of a forward pass with x (N, C, T, V, M), in evaluation mode."""
    network = deepcopy(network).requires_grad_(False)  # the counter follows gradients otherwise
    outputs, operations = _OutputCounter(), FlopCounterMode(display=False)
    with torch.no_grad(), operations, outputs:  # inference mode would hide the inner operations
        network(x)
    parameters = sum(p.numel() for p in network.parameters() if p.is_floating_point())
    read = parameters + x.numel()
    flops = operations.get_total_flops()
    return NetworkCost(float(flops), float(read), float(read + 2 * outputs.values), parameters)
