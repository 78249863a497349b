"""Joint axes: which axes of a module's tensors are joints, so that weights fit another layout."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from torch import nn


class JointAxes(NamedTuple):
    """The joints of a tensor of a module.

    Attributes:
        axes: which axes of the tensor are joints; None: the joints are in another order or in
            parts, so that the tensor belongs to one layout.
        shape: the shape in which the tensor has these axes, None for its own.
    """

    axes: tuple[int, ...] | None
    shape: tuple[int, ...] | None = None


#: Of a matrix of joints for each partition, (K, V, V).
GRAPH = JointAxes((1, 2))


def find_joint_axes(model: nn.Module) -> Iterator[tuple[str, JointAxes]]:
    """Yield the name in the state dict and the joint axes of each tensor of a model that has any.

    A module with such tensors declares them: its method ``joint_axes`` returns their names and
    their `JointAxes`.
    """
    for path, module in model.named_modules():
        if declare := getattr(module, "joint_axes", None):
            yield from ((f"{path}.{name}".lstrip("."), axes) for name, axes in declare().items())
