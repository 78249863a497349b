"""Streams of a step network: many at a time, each frame worked on once.

Shapes: S streams, M persons, C channels, V joints; state tensors have a row a stream or a person.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from math import inf
from typing import Any

import torch
from torch import Tensor

from kinegraph.errors import ModelError
from kinegraph.models.fast_network import FastNetwork
from kinegraph.models.stepping import StepNetwork, check_window

TOGETHER = 8  # frames; fewer do not pay for what every call costs
MANY = 32  # persons whose frames are worked on in more than one thread
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
        pending: frames (C, V, M) that have not been worked on, or not to the end.
        logits: the latest answer.
    """

    wait: int
    before: int = 0
    pushed: int = 0
    pending: deque[Tensor] = field(default_factory=deque)
    logits: Tensor | None = None


@dataclass(frozen=True)
class _Rows:
    """What is kept of several streams, in common tensors, so that they are worked on together.

    Attributes:
        keys: of the streams.
        tensors: as `StepNetwork.blank` of so many streams.
    """

    keys: tuple[int, ...]
    tensors: list[Tensor]

    def of(self, keys: tuple[int, ...]) -> list[Tensor]:
        """The rows of some of the streams; those of all are not copied."""
        if keys == self.keys:
            return self.tensors
        chosen = torch.tensor([self.keys.index(key) for key in keys], dtype=torch.int64)
        return [_by_stream(t, len(self.keys))[chosen].flatten(0, 1) for t in self.tensors]

    @staticmethod
    def joined(every: Sequence[_Rows]) -> _Rows:
        """Those of all streams of several."""
        keys = tuple(key for rows in every for key in rows.keys)
        return _Rows(keys, [torch.cat(t) for t in zip(*(r.tensors for r in every), strict=True)])


def _by_stream(tensor: Tensor, streams: int) -> Tensor:
    return tensor.unflatten(0, (streams, -1))


class _Work:
    """A hop of several streams, on its way through the network.

    Args:
        keys: of the streams.
        steps: see `StepNetwork.work`.
    """

    def __init__(
        self, keys: tuple[int, ...], steps: Generator[float, None, tuple[Tensor, ...]]
    ) -> None:
        self.keys = keys
        self._steps = steps
        self._done = 0.0

    def go_on(self, until: float) -> list[Tensor] | None:
        """Work until so much is done, in what the steps yield -> the result, if that is all."""
        try:
            while self._done < until:
                self._done += next(self._steps)
        except StopIteration as stop:
            return list(stop.value)
        return None


class StepStreams:
    """Streams whose frames are worked on once, a hop at a time, see `open_streams`.

    Args:
        network: of the model.
        window: frames that count, None for all.
        together: frames that are worked on at a time, at least.
        spread: whether the work is spread over frames, and streams take turns.

    Raises:
        ModelError: a window without frames, or no frames together.
    """

    def __init__(
        self, network: FastNetwork, window: int | None, *, together: int, spread: bool
    ) -> None:
        self.network = network
        self.window = window
        self.spread = spread
        check_window(together)
        self._device = next(network.parameters()).device
        self._size = -(-together // network.hop) * network.hop
        self._lines: dict[int, _Line] = {}
        self._step: StepNetwork | None = None  # from the first frame on, which says of how many
        self._rows: dict[int, _Rows] = {}  # of a stream's key: where its row is
        self._works: dict[int, _Work] = {}  # of a stream's key: what is under way
        self._opened = 0
        if window is not None:
            check_window(window)

    def open(self) -> int:
        """Begin a stream; the key to it."""
        key = self._opened
        self._opened += 1
        self._lines[key] = _Line(wait=self._rarest_wait() if self.spread else 0)
        return key

    @torch.inference_mode()
    def push(self, frames: Mapping[int, Tensor]) -> dict[int, Tensor | None]:
        """The next frame (C, V, M) of some streams -> logits (classes,) or None of each."""
        lines = {key: self._line(key) for key in frames}
        step, taken = self._checked(frames)
        hop = self.network.hop
        for key, frame in taken.items():
            line = lines[key]
            if not line.pushed:  # the first hop ends with the first frame
                line.pending.extend([torch.zeros_like(frame)] * (hop - 1))
            line.pending.append(frame)
            line.pushed += 1
        if step is not None:
            with single_thread(len(frames) * step.persons < MANY):
                self._go_on(step, lines)
        return {key: line.logits for key, line in lines.items()}

    def _go_on(self, step: StepNetwork, lines: Mapping[int, _Line]) -> None:
        """Begin the hops that are due, and do of each what falls to this frame."""
        late = {key: len(line.pending) - self._size - line.wait for key, line in lines.items()}
        due = tuple(sorted(k for k in lines if late[k] >= 0 and k not in self._works))
        if due:
            work = _Work(due, self._steps(step, due))
            self._works.update(dict.fromkeys(due, work))
        shares: dict[_Work, int] = {}
        for key in lines:
            if (under_way := self._works.get(key)) is not None:
                share = late[key] + 1 if self.spread else self._size
                shares[under_way] = max(share, shares.get(under_way, 0))
        for under_way, share in shares.items():
            self._work(under_way, share)

    def _steps(
        self, step: StepNetwork, due: tuple[int, ...]
    ) -> Generator[float, None, tuple[Tensor, ...]]:
        """The work on the next hop of these streams."""
        lines = [self._lines[key] for key in due]
        frames = torch.stack(
            [torch.stack(list(islice(line.pending, self._size)), dim=1) for line in lines]
        )
        before = torch.tensor([line.before for line in lines], device=frames.device)
        early = min(line.before for line in lines) < self.network.first_answer
        present, *kept = self._together(step, due).tensors
        return step.work(frames, before, None, present, kept, mask=early)

    def _work(self, work: _Work, frames: int) -> None:
        """Do what falls to so many of its frames; a stream moves on when all of it is done."""
        cost = 0.0 if self._step is None else self._step.cost / self.network.hop
        try:
            result = work.go_on(cost * frames if frames < self._size else inf)
        except BaseException:
            self._forget(work)  # it is begun again with the next frame
            raise
        if result is None:
            return
        going = tuple(key for key in work.keys if self._works.get(key) is work)
        self._forget(work)
        answers, *rows = result
        kept = _Rows(work.keys, rows)
        kept = _Rows(going, kept.of(going))
        for key, answer in zip(work.keys, answers, strict=True):
            if key in going:
                self._move_on(self._lines[key], answer)
                self._rows[key] = kept

    def _move_on(self, line: _Line, answer: Tensor) -> None:
        for _ in range(self._size):
            line.pending.popleft()
        line.before += self._size
        line.logits = answer if line.before >= self.network.first_answer else None

    def _forget(self, work: _Work) -> None:
        for key in work.keys:
            if self._works.get(key) is work:
                del self._works[key]

    def _together(self, step: StepNetwork, keys: tuple[int, ...]) -> _Rows:
        """The rows of some streams, in common tensors; nobody else's are left with them."""
        where = {self._rows[key].keys: self._rows[key] for key in keys if key in self._rows}
        if list(where) == [keys]:
            return where[keys]
        for rows in where.values():
            others = [key for key in rows.keys if key not in keys]
            rest = tuple(key for key in others if self._rows.get(key) is rows)
            if rest:
                self._rows.update(dict.fromkeys(rest, _Rows(rest, rows.of(rest))))
        parts = [
            _Rows((key,), self._rows[key].of((key,)) if key in self._rows else [*step.blank(1)])
            for key in keys
        ]
        joined = _Rows.joined(parts)
        self._rows.update(dict.fromkeys(keys, joined))
        return joined

    @torch.inference_mode()
    def flush(self, key: int) -> Tensor | None:
        """The logits (classes,) of all that was pushed; None if nothing was."""
        line, step = self._line(key), self._step
        if step is None or not line.pushed:
            return None
        hop = self.network.hop
        last = hop - 1 + line.pushed + self.network.delay  # by then all features are known
        frames = list(line.pending)
        missing = max(last - line.before - len(frames), 0)
        missing += -(missing + len(frames)) % hop
        frames += [self._blank_frame(step)] * missing
        present, *kept = self._own(step, key)
        logits, *_ = step.advance(
            torch.stack(frames, dim=1).unsqueeze(0),
            torch.tensor([line.before], device=present.device),
            torch.tensor([line.pushed], device=present.device),
            present,
            kept,
            mask=True,
        )
        return logits[0]

    def _own(self, step: StepNetwork, key: int) -> list[Tensor]:
        """The rows of one stream."""
        return self._rows[key].of((key,)) if key in self._rows else [*step.blank(1)]

    def close(self, key: int) -> None:
        """End a stream and forget its frames."""
        self._line(key)
        self._put_down(key)
        del self._lines[key]
        if not self._lines:
            self._step = None

    def _put_down(self, key: int) -> None:
        """Forget what is kept of a stream; its share of common work and rows is left unused."""
        self._works.pop(key, None)
        self._rows.pop(key, None)

    def state_dict(self, key: int) -> dict[str, Tensor]:
        """All that the stream is, to go on with it later or elsewhere; copies."""
        line, step = self._line(key), self._step
        state = {"before": torch.tensor(line.before), "pushed": torch.tensor(line.pushed)}
        if step is None or not line.pushed:
            return state
        pending = [*line.pending, self._blank_frame(step)]  # a stack needs at least one
        state["pending"] = torch.stack(pending)[:-1]
        if line.logits is not None:
            state["logits"] = line.logits.clone()
        rows = self._own(step, key)
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
        rows = None
        if pushed:
            _, taken = self._checked(dict(enumerate(frames)), begin=False)
            fresh.pending = deque(taken.values())
            step = self._step or self._new_step(state)
            rows = _Rows((key,), self._stored_rows(step, state))
        self._put_down(key)
        self._lines[key] = fresh
        if rows is not None:
            self._step, self._rows[key] = step, rows

    def _line(self, key: int) -> _Line:
        if key not in self._lines:
            raise ModelError(f"no stream has the key {key!r}: open one first")
        return self._lines[key]

    def _rarest_wait(self) -> int:
        waits = [line.wait for line in self._lines.values()]
        return min(range(self.network.hop), key=waits.count)

    def _checked(
        self, frames: Mapping[int, Tensor], *, begin: bool = True
    ) -> tuple[StepNetwork | None, dict[int, Tensor]]:
        """Copies of frames that all fit; a first frame decides how many persons there are."""
        persons = None if self._step is None else self._step.persons
        C, V = self.network.in_channels, self.network.layout.num_joints
        taken = {}
        for key, frame in frames.items():
            taken[key] = checked_frame(frame, C, V, persons, self._device)
            persons = taken[key].shape[2]
        if persons is not None:
            self.network.check_persons(persons)
        if begin and self._step is None and persons is not None:
            self._step = StepNetwork(self.network, persons, self.window)
        return self._step, taken

    def _new_step(self, state: Mapping[str, Tensor]) -> StepNetwork:
        present = state.get("kept.0")
        persons = 0 if present is None or present.ndim != 2 else present.shape[1]
        return StepNetwork(self.network, persons, self.window)

    def _stored_rows(self, step: StepNetwork, state: Mapping[str, Tensor]) -> list[Tensor]:
        blank = step.blank(1)
        rows = [state.get(f"kept.{i}") for i in range(len(blank))]
        alike = [
            row is not None and (row.shape, row.dtype) == (own.shape, own.dtype)
            for row, own in zip(rows, blank, strict=True)
        ]
        if not all(alike) or f"kept.{len(rows)}" in state:
            raise ModelError(
                "this state is of another model, of another window, or of another number of persons"
            )
        device = blank[0].device
        copies = [row.to(device, copy=True) for row in rows if row is not None]
        if any(bool(row.isnan().any()) for row in copies):
            raise ModelError("this state holds values that are no numbers")
        return copies

    def _blank_frame(self, step: StepNetwork) -> Tensor:
        shape = (self.network.in_channels, self.network.layout.num_joints, step.persons)
        return torch.zeros(shape, device=self._device)


def _copy(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.clone()


@contextmanager
def single_thread(wanted: bool) -> Iterator[None]:
    """One thread for a while: to wait for another costs more than the small products of a hop."""
    threads = torch.get_num_threads()
    if not wanted or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
