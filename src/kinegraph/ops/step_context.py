"""The state of layers that are given a clip a few frames at a time.

Shapes: n folded persons, f frames of a step, V joints, C channels.

A stream gives the layers f frames at a time. A layer that looks at neighboring frames then needs
only the last few frames of the step before, which are kept as state. `InferenceLayer.infer_delay`
returns for every layer the number of its first frame in the first step. Frames with negative
numbers lie before the clip: they, and those after its end, are padding for every layer that looks
at neighboring frames, as they are in a whole clip.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

#: A computation in small parts: yields the size of each part, in multiplications of one joint.
Incremental = Generator[float, None, T]


def drain(job: Incremental[T]) -> T:
    """Return the result of an incremental computation."""
    while True:
        try:
            next(job)
        except StopIteration as stop:
            result: T = stop.value
            return result


class StepContext:
    """A few frames on their way through the layers, and the state from one step to the next.

    Args:
        before: (n,) frames of earlier steps.
        end: (n,) frames of the whole clip, where it is known that it ends; None: not yet.
        state: tensors of the step before, in the order of the layers; None for the first step.
        mask: whether frames may lie outside the clip.

    Attributes:
        first_state: what the layers read in the first step, in their order.
        next_state: the tensors for the next step, in the order of the layers.
    """

    def __init__(
        self, before: Tensor, end: Tensor | None, state: Iterable[Tensor] | None, *, mask: bool
    ) -> None:
        self.before = before
        self.end = end
        self.mask = mask
        self.first_state: list[Tensor] = []
        self.next_state: list[Tensor] = []
        self._state: Iterator[Tensor] | None = None if state is None else iter(state)

    def inside(self, first: int, frames: int, rate: int, early: int = 0, late: int = 0) -> Tensor:
        """Return (n, frames) bool: which frames of a layer lie in the clip.

        Args:
            first: number of the first frame of the first step at this layer.
            frames: of this step at this layer.
            rate: frames of the clip for one of this layer.
            early: how many of the clip's first frames do not count.
            late: how many of its last.
        """
        start = torch.div(self.before, rate, rounding_mode="floor") + first
        number = start[:, None] + torch.arange(frames, device=start.device)
        inside = number >= early
        if self.end is not None:
            length = torch.div(self.end + rate - 1, rate, rounding_mode="floor")
            inside = inside & (number < length[:, None] - late)
        return inside

    def read_state(
        self,
        shape: Sequence[int],
        like: Tensor,
        fill: float = 0.0,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Return the state of this layer: ``shape`` full of ``fill`` in the first step."""
        if self._state is not None:
            return next(self._state)
        self.first_state.append(like.new_full(shape, fill, dtype=dtype or like.dtype))
        return self.first_state[-1]

    def write_state(self, tensor: Tensor) -> None:
        """Keep a tensor for the next step."""
        self.next_state.append(tensor)

    def prepend_history(self, x: Tensor, frames: int, fill: float = 0.0) -> Tensor:
        """(n, f, V, C) -> (n, frames + f, V, C): the last ``frames`` frames before, then x."""
        if not frames:
            return x
        past = self.read_state((x.shape[0], frames, *x.shape[2:]), x, fill)
        joined = torch.cat([past, x], dim=1)
        self.write_state(joined[:, joined.shape[1] - frames :])
        return joined


def fill_outside(x: Tensor, inside: Tensor, fill: float = 0.0) -> Tensor:
    """(n, f, ...) and (n, f) bool -> x, with ``fill`` where not inside, whatever was there."""
    return x.masked_fill(~inside.view(*inside.shape, *[1] * (x.ndim - 2)), fill)
