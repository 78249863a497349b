"""Streams of a step network: many at a time, each frame worked on once.

Shapes: S streams, M persons, C channels, V joints; state tensors have a row a stream or a person.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from kinegraph.errors import ModelError
from kinegraph.models.plain_network import PlainNetwork
from kinegraph.models.stepping import StepNetwork, check_window

FARTHEST = 1e9  # a coordinate in any unit; its square is still finite


def checked_frame(
    frame: Any, channels: int, joints: int, persons: int | None, device: torch.device
) -> Tensor:
    """A copy of a frame, in float32 on the device.

    Raises:
        ModelError: it is not (C, V, M), or holds what cannot be coordinates.
    """
    try:
        taken = torch.as_tensor(frame).detach().to(device, torch.float32, copy=True)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"expected a frame (C, V, M) of numbers, got {type(frame)}") from error
    given = tuple(taken.shape)
    if len(given) != 3 or given != (channels, joints, persons or given[2]) or not given[2]:
        raise ModelError(
            f"expected frames (C, V, M) = ({channels}, {joints}, {persons or 'M'}), got {given}"
        )
    if not bool((taken.abs() < FARTHEST).all()):
        raise ModelError(
            f"a frame holds values that are not finite, or beyond {FARTHEST:.0e}; absent joints "
            "are zero"
        )
    return taken


@dataclass
class _Line:
    """Where one stream is.

    Attributes:
        wait: frames by which its work is put off, so that other streams may go first.
        before: frames that have been worked on, with those before the clip.
        pushed: frames of the clip so far.
        pending: frames (C, V, M) that have not been worked on.
        logits: the latest answer.
    """

    wait: int
    before: int = 0
    pushed: int = 0
    pending: deque[Tensor] = field(default_factory=deque)
    logits: Tensor | None = None


class _Batch:
    """The state of several streams in common tensors, so that they are worked on together."""

    def __init__(self, step: StepNetwork, streams: int) -> None:
        self.step = step
        self.blank = list(step.blank(1))
        self.state = [torch.cat([tensor] * streams) for tensor in self.blank]

    def rows(self, numbers: list[int]) -> list[Tensor]:
        """The state of some streams; all of them in their order are not copied."""
        if numbers == list(range(len(self.state[0]))):
            return self.state
        return [t.index_select(0, self._index(numbers, t)) for t in self.state]

    def put(self, numbers: list[int], rows: list[Tensor]) -> None:
        """Replace the state of some streams."""
        if numbers == list(range(len(self.state[0]))):
            self.state = rows
            return
        for tensor, new in zip(self.state, rows, strict=True):
            tensor.index_copy_(0, self._index(numbers, tensor), new)

    def add(self) -> None:
        """One more stream that has not begun."""
        self.state = [torch.cat(pair) for pair in zip(self.state, self.step.blank(1), strict=True)]

    def _index(self, numbers: list[int], tensor: Tensor) -> Tensor:
        index = torch.tensor(numbers, dtype=torch.int64, device=tensor.device)
        if tensor is self.state[0]:
            return index
        persons = torch.arange(self.step.persons, device=tensor.device)
        return (index[:, None] * len(persons) + persons).flatten()


class StepStreams:
    """Streams whose frames are worked on once, a hop at a time, see `open_streams`.

    Args:
        network: of the model.
        window: frames that count, None for all.
        spread: whether streams take turns.

    Raises:
        ModelError: a window without frames.
    """

    def __init__(self, network: PlainNetwork, window: int | None, *, spread: bool) -> None:
        self.network = network
        self.window = window
        self.spread = spread
        self._lines: dict[int, _Line] = {}  # in the order of the batch's rows
        self._batch: _Batch | None = None  # from the first frame on, which says how many persons
        self._opened = 0
        if window is not None:
            check_window(window)

    def open(self) -> int:
        """Begin a stream; the key to it."""
        key = self._opened
        self._opened += 1
        self._lines[key] = _Line(wait=self._rarest_wait() if self.spread else 0)
        if self._batch is not None:
            self._batch.add()
        return key

    @torch.inference_mode()
    def push(self, frames: Mapping[int, Tensor]) -> dict[int, Tensor | None]:
        """The next frame (C, V, M) of some streams -> logits (classes,) or None of each."""
        lines = {key: self._line(key) for key in frames}
        taken = self._checked(frames)
        hop = self.network.hop
        for key, frame in taken.items():
            line = lines[key]
            if not line.pushed:  # the first hop ends with the first frame
                line.pending.extend([torch.zeros_like(frame)] * (hop - 1))
            line.pending.append(frame)
            line.pushed += 1
        due = [key for key, line in lines.items() if len(line.pending) >= hop + line.wait]
        if due:
            self._advance(due)
        return {key: line.logits for key, line in lines.items()}

    @torch.inference_mode()
    def flush(self, key: int) -> Tensor | None:
        """The logits (classes,) of all that was pushed; None if nothing was."""
        line, batch = self._line(key), self._batch
        if batch is None or not line.pushed:
            return None
        hop = self.network.hop
        last = hop - 1 + line.pushed + self.network.delay  # by then all features are known
        frames = list(line.pending)
        missing = max(last - line.before - len(frames), 0)
        missing += -(missing + len(frames)) % hop
        frames += [self._blank_frame(batch)] * missing
        present, *kept = batch.rows([self._row(key)])
        logits, *_ = batch.step.advance(
            torch.stack(frames, dim=1).unsqueeze(0),
            torch.tensor([line.before], device=present.device),
            torch.tensor([line.pushed], device=present.device),
            present,
            kept,
            mask=True,
        )
        return logits[0]

    def close(self, key: int) -> None:
        """End a stream and forget its frames."""
        self._line(key)
        rest = [self._row(other) for other in self._lines if other != key]
        if self._batch is not None:
            self._batch.state = self._batch.rows(rest)
        if not rest:
            self._batch = None
        del self._lines[key]

    def state_dict(self, key: int) -> dict[str, Tensor]:
        """All that the stream is, to go on with it later or elsewhere; copies."""
        line, batch = self._line(key), self._batch
        state = {"before": torch.tensor(line.before), "pushed": torch.tensor(line.pushed)}
        if batch is None or not line.pushed:
            return state
        pending = [*line.pending, self._blank_frame(batch)]  # a stack needs at least one
        state["pending"] = torch.stack(pending)[:-1]
        if line.logits is not None:
            state["logits"] = line.logits.clone()
        rows = batch.rows([self._row(key)])
        return {**state, **{f"kept.{i}": tensor.clone() for i, tensor in enumerate(rows)}}

    @torch.inference_mode()
    def load_state_dict(self, key: int, state: Mapping[str, Tensor]) -> None:
        """Put a stream where another was.

        Raises:
            ModelError: a state of a model of other sizes, of another number of persons, of
                another window, or of another kind of stream.
        """
        line = self._line(key)
        try:
            before, pushed = int(state["before"]), int(state["pushed"])
            frames = list(state["pending"]) if pushed else []
            fresh = _Line(line.wait, before, pushed, logits=_copy(state.get("logits")))
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            raise ModelError(f"this is no state of a stream of step networks: {error}") from error
        hop = self.network.hop
        given = before + len(frames)
        if before < 0 or before % hop or given != (pushed + hop - 1 if pushed else 0):
            raise ModelError("this is no state of a stream of step networks: frames are missing")
        batch = self._batch
        if pushed:
            fresh.pending = deque(self._checked(dict(enumerate(frames)), begin=False).values())
            batch = batch or self._new_batch(state)
        if batch is not None:
            rows = self._stored_rows(batch, state) if pushed else batch.blank
            batch.put([self._row(key)], rows)
        self._batch, self._lines[key] = batch, fresh

    def _line(self, key: int) -> _Line:
        if key not in self._lines:
            raise ModelError(f"no stream has the key {key!r}: open one first")
        return self._lines[key]

    def _row(self, key: int) -> int:
        return list(self._lines).index(key)

    def _rarest_wait(self) -> int:
        waits = [line.wait for line in self._lines.values()]
        return min(range(self.network.hop), key=waits.count)

    def _checked(self, frames: Mapping[int, Tensor], *, begin: bool = True) -> dict[int, Tensor]:
        """Copies of frames that all fit; a first frame decides how many persons there are."""
        persons = None if self._batch is None else self._batch.step.persons
        C, V = self.network.in_channels, self.network.layout.num_joints
        device, taken = next(self.network.parameters()).device, {}
        for key, frame in frames.items():
            taken[key] = checked_frame(frame, C, V, persons, device)
            persons = taken[key].shape[2]
        if persons is not None:
            self.network.check_persons(persons)
        if begin and self._batch is None and persons is not None:
            step = StepNetwork(self.network, persons, self.window)
            self._batch = _Batch(step, len(self._lines))
        return taken

    def _new_batch(self, state: Mapping[str, Tensor]) -> _Batch:
        present = state.get("kept.0")
        persons = 0 if present is None or present.ndim != 2 else present.shape[1]
        return _Batch(StepNetwork(self.network, persons, self.window), len(self._lines))

    def _stored_rows(self, batch: _Batch, state: Mapping[str, Tensor]) -> list[Tensor]:
        rows = [state.get(f"kept.{i}") for i in range(len(batch.blank))]
        alike = [
            row is not None and (row.shape, row.dtype) == (own.shape, own.dtype)
            for row, own in zip(rows, batch.blank, strict=True)
        ]
        if not all(alike) or f"kept.{len(rows)}" in state:
            raise ModelError(
                "this state is of another model, of another window, or of another number of persons"
            )
        device = batch.blank[0].device
        copies = [row.to(device, copy=True) for row in rows if row is not None]
        if any(bool(row.isnan().any()) for row in copies):
            raise ModelError("this state holds values that are no numbers")
        return copies

    def _blank_frame(self, batch: _Batch) -> Tensor:
        shape = (self.network.in_channels, self.network.layout.num_joints, batch.step.persons)
        return torch.zeros(shape, device=batch.state[0].device)

    def _advance(self, due: list[int]) -> None:
        """Work on the next hop of these streams."""
        if self._batch is None:
            return
        step, hop = self._batch.step, self.network.hop
        lines, numbers = [self._lines[key] for key in due], [self._row(key) for key in due]
        frames = torch.stack(
            [torch.stack([line.pending.popleft() for _ in range(hop)], dim=1) for line in lines]
        )
        before = torch.tensor([line.before for line in lines], device=frames.device)
        early = min(line.before for line in lines) < step.steady
        present, *kept = self._batch.rows(numbers)
        logits, *rows = step.advance(frames, before, None, present, kept, mask=early)
        self._batch.put(numbers, rows)
        for line, answer in zip(lines, logits, strict=True):
            line.before += hop
            line.logits = answer if line.before >= step.first_answer else None


def _copy(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.clone()
