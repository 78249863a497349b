"""What several streams of a step network share: rows of common tensors, and work under way.

Shapes: state tensors have a row a stream or a person, the persons of a stream one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Stop = Callable[[], bool]


@dataclass(frozen=True)
class Rows:
    """What is kept of several streams, in common tensors, so that they are worked on together.

    Attributes:
        keys: of the streams.
        tensors: as `StepNetwork.blank` of so many streams.
    """

    keys: tuple[int, ...]
    tensors: list[Tensor]

    def part(self, keys: Collection[int]) -> Rows:
        """The rows of some of the streams, in the same order; those of all are not copied."""
        places = [place for place, key in enumerate(self.keys) if key in keys]
        if len(places) == len(self.keys):
            return self
        chosen = torch.tensor(places, dtype=torch.int64)
        tensors = [_by_stream(t, len(self.keys))[chosen].flatten(0, 1) for t in self.tensors]
        return Rows(tuple(self.keys[place] for place in places), tensors)

    @staticmethod
    def joined(every: Sequence[Rows]) -> Rows:
        """Those of all streams of several."""
        keys = tuple(key for rows in every for key in rows.keys)
        return Rows(keys, [torch.cat(t) for t in zip(*(r.tensors for r in every), strict=True)])


def _by_stream(tensor: Tensor, streams: int) -> Tensor:
    return tensor.unflatten(0, (streams, -1))


class Work:
    """A hop of several streams, on its way through the network.

    Args:
        keys: of the streams.
        late: frames that have come since it could have begun.
        steps: see `StepNetwork.work`.

    Attributes:
        pushed: of each stream that is still there: how many frames since it began.
    """

    def __init__(
        self, keys: tuple[int, ...], late: int, steps: Generator[float, None, tuple[Tensor, ...]]
    ) -> None:
        self.keys = keys
        self.pushed = dict.fromkeys(keys, late)
        self._steps = steps
        self._done = self._step = 0.0

    def frames(self) -> float:
        """How much should be done by now: evenly as frames come, and in time for the foremost."""
        pushed = self.pushed.values()
        return max(sum(pushed) / len(pushed), max(pushed) - 1)

    def note(self, keys: Iterable[int]) -> None:
        """One more frame of some streams."""
        self.pushed.update((key, self.pushed[key] + 1) for key in keys if key in self.pushed)

    def go_on(self, until: float, stop: Stop) -> list[Tensor] | None:
        """Work until so much is done, in what the steps yield, or until it has to stop.

        Returns:
            the result, if all is done.
        """
        try:
            # to the nearest step: the next is taken to be as long as the latest
            while self._done + self._step / 2 < until and not stop():
                self._step = next(self._steps)
                self._done += self._step
        except StopIteration as end:
            return list(end.value)
        return None


def never() -> bool:
    """Work to the end."""
    return False
