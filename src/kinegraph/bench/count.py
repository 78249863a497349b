"""The one counter of the work that a network does: operations, parameters and bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry


@dataclass(frozen=True)
class Work:
    """What has to be done for one answer.

    Attributes:
        flops: floating-point operations, two for a multiply-add, of all matrix products and
            convolutions (PyTorch's `FlopCounterMode`).
        least: numbers that have to be read whatever is done: every parameter, and the input.
        moved: numbers that the plain implementation moves at least: those, and what each matrix
            product or convolution gives, once written and once read.
        parameters: numbers that are learnt.
    """

    flops: float
    least: float
    moved: float
    parameters: int


class _Results(TorchDispatchMode):
    """Counts what counted operations give."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func._overloadpacket in flop_registry and isinstance(result, Tensor):
            self.numbers += result.numel()
        return result


def count(network: nn.Module, x: Tensor) -> Work:
    """The work of a forward pass of a plain implementation in evaluation mode.

    Args:
        network: (N, C, T, V, M) -> (N, classes).
        x: the input.
    """
    results, operations = _Results(), FlopCounterMode(display=False)
    with torch.no_grad(), operations, results:  # inference mode would hide what is within
        network(x)
    parameters = sum(p.numel() for p in network.parameters() if p.is_floating_point())
    least = parameters + x.numel()
    flops = operations.get_total_flops()
    return Work(float(flops), float(least), float(least + 2 * results.numbers), parameters)
