"""Streams of a step network: many at a time, each frame worked on once.

Shapes: S streams, M persons, C channels, V joints; state tensors have a row a stream or a person.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from math import inf
from typing import Any

import torch
from torch import Tensor

from kinegraph.errors import ModelError
from kinegraph.runtime.network import FastNetwork
from kinegraph.runtime.step import StepNetwork, check_window
from kinegraph.runtime.step_work import Rows, Stop, Work, never

TOGETHER = 8  # frames; fewer do not pay for what every call costs
MANY = 32  # persons whose frames are worked on in more than one thread
MOST = 3  # hops that may wait; then one is worked on at once, whoever waits for that
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
        before: frames that have been worked on, with those before the clip.
        pushed: frames of the clip so far.
        pending: frames (C, V, M) that have not been worked on, or not to the end.
        logits: the latest answer.
    """

    before: int = 0
    pushed: int = 0
    pending: deque[Tensor] = field(default_factory=deque)
    logits: Tensor | None = None


class StepStreams:
    """Streams whose frames are worked on once, a hop at a time, see `open_streams`.

    Args:
        network: of the model.
        window: frames that count, None for all.
        together: frames that are worked on at a time, at least.
        spread: whether the work is spread over frames, and streams wait for each other.

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
        self._rows: dict[int, Rows] = {}  # of a stream's key: where its row is
        self._under_way: Work | None = None
        self._latest: tuple[int, ...] = ()  # streams of the latest hop
        self._fresh: set[int] = set()  # streams with a frame that no work was done for
        self._opened = 0
        if window is not None:
            check_window(window)

    def open(self) -> int:
        """Begin a stream; the key to it."""
        key = self._opened
        self._opened += 1
        self._lines[key] = _Line()
        return key

    def push(self, frames: Mapping[int, Tensor]) -> dict[int, Tensor | None]:
        """The next frame (C, V, M) of some streams -> logits (classes,) or None of each."""
        self.take(frames)
        self.go_on()
        return {key: self.latest(key) for key in frames}

    @torch.inference_mode()
    def take(self, frames: Mapping[int, Tensor]) -> None:
        """The first part of `push`: take note of the next frame (C, V, M) of some streams."""
        lines = {key: self._line(key) for key in frames}
        _, taken = self._checked(frames)
        for key, frame in taken.items():
            line = lines[key]
            if not line.pushed:  # the first hop ends with the first frame
                line.pending.extend([torch.zeros_like(frame)] * (self.network.hop - 1))
            line.pending.append(frame)
            line.pushed += 1
        self._fresh |= taken.keys()

    @torch.inference_mode()
    def go_on(self, stop: Stop = never) -> None:
        """The second part of `push`: do the work that falls to what was taken.

        Args:
            stop: asked again and again; once it says so, the rest is left for the next time, if
                that is soon enough.
        """
        lines = {key: self._lines[key] for key in self._fresh if key in self._lines}
        self._fresh.clear()
        if self._step is not None:
            with single_thread(len(lines) * self._step.persons < MANY):
                self._go_on(self._step, lines, stop)

    def latest(self, key: int) -> Tensor | None:
        """The latest logits of a stream; the same tensor until there are others."""
        return self._line(key).logits

    def known(self, key: int) -> int:
        """After how many frames a stream whose work is not spread gives the latest logits."""
        return self._line(key).before - (self.network.hop - 1)

    def _go_on(self, step: StepNetwork, lines: Mapping[int, _Line], stop: Stop) -> None:
        """Begin the hop that is due, and do of it what falls to these frames."""
        if not self.spread:
            if due := [key for key, line in lines.items() if len(line.pending) >= self._size]:
                self._do(self._begun(step, due), inf, never)
            return
        if self._under_way and not self._gone_on(self._under_way, lines, stop):
            return
        if due := self._due():
            self._gone_on(self._begun(step, due), lines, stop)

    def _gone_on(self, work: Work, lines: Iterable[int], stop: Stop) -> bool:
        """Do what falls to the next frame of these streams -> whether that was all."""
        work.note(lines)
        if self._late(MOST):
            return self._do(work, inf, never)
        return self._do(work, work.frames(), stop)

    def _due(self) -> list[int]:
        """The streams whose next hop begins now: streams that went together wait for each other.

        So they stay together, whose frames come one after the other; but not for long.
        """
        waited_for = any(
            len(self._lines[key].pending) < self._size for key in self._latest if key in self._lines
        )
        if waited_for and not self._late(2):
            return []
        return [key for key, line in self._lines.items() if len(line.pending) >= self._size]

    def _late(self, hops: int) -> bool:
        """Whether the frames of so many hops wait somewhere, beside those that are worked on."""
        under_way = self._under_way.pushed if self._under_way else {}
        return any(
            len(line.pending) >= self._size * (hops + (key in under_way))
            for key, line in self._lines.items()
        )

    def _begun(self, step: StepNetwork, due: list[int]) -> Work:
        """The work on the next hop of these streams."""
        rows = self._together(step, due)
        late = min(len(self._lines[key].pending) for key in due) - self._size
        self._under_way = work = Work(rows.keys, late, self._steps(step, rows))
        self._latest = rows.keys
        return work

    def _steps(self, step: StepNetwork, rows: Rows) -> Generator[float, None, tuple[Tensor, ...]]:
        lines = [self._lines[key] for key in rows.keys]
        frames = torch.stack(
            [torch.stack(list(islice(line.pending, self._size)), dim=1) for line in lines]
        )
        before = torch.tensor([line.before for line in lines], device=frames.device)
        early = min(line.before for line in lines) < self.network.first_answer
        present, *kept = rows.tensors
        return step.work(frames, before, None, present, kept, mask=early)

    def _do(self, work: Work, frames: float, stop: Stop) -> bool:
        """Do what falls to so many of its frames; with all of it done the streams move on."""
        cost = 0.0 if self._step is None else self._step.cost / self.network.hop
        try:
            result = work.go_on(cost * frames if frames < self._size else inf, stop)
        except BaseException:
            self._under_way = None  # it is begun again with the next frame
            raise
        if result is None:
            return False
        self._under_way = None
        answers, *tensors = result
        kept = Rows(work.keys, tensors).part(work.pushed)
        for key, answer in zip(work.keys, answers, strict=True):
            if key in work.pushed:
                self._move_on(self._lines[key], answer)
                self._rows[key] = kept
        return True

    def _move_on(self, line: _Line, answer: Tensor) -> None:
        for _ in range(self._size):
            line.pending.popleft()
        line.before += self._size
        line.logits = answer if line.before >= self.network.first_answer else None

    def _together(self, step: StepNetwork, keys: list[int]) -> Rows:
        """The rows of some streams, in common tensors; nobody else's are left with them."""
        wanted, parts = set(keys), []
        sources = {id(self._rows[key]): self._rows[key] for key in keys if key in self._rows}
        for rows in sources.values():
            held = {key for key in rows.keys if self._rows.get(key) is rows}
            parts.append(rows.part(held & wanted))
            if others := held - wanted:
                rest = rows.part(others)
                self._rows.update(dict.fromkeys(rest.keys, rest))
        if fresh := tuple(key for key in keys if key not in self._rows):
            parts.append(Rows(fresh, [*step.blank(len(fresh))]))
        joined = parts[0] if len(parts) == 1 else Rows.joined(parts)
        self._rows.update(dict.fromkeys(joined.keys, joined))
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
        return self._rows[key].part({key}).tensors if key in self._rows else [*step.blank(1)]

    def close(self, key: int) -> None:
        """End a stream and forget its frames."""
        self._line(key)
        self._put_down(key)
        del self._lines[key]
        if not self._lines:
            self._step = None

    def _put_down(self, key: int) -> None:
        """Forget what is kept of a stream; its share of common work and rows is left unused."""
        self._rows.pop(key, None)
        if self._under_way:
            self._under_way.pushed.pop(key, None)
            self._under_way = self._under_way if self._under_way.pushed else None

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
        self._line(key)
        try:
            before, pushed = int(state["before"]), int(state["pushed"])
            frames = list(state["pending"]) if pushed else []
            fresh = _Line(before, pushed, logits=_copy(state.get("logits")))
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
            rows = Rows((key,), self._stored_rows(step, state))
        self._put_down(key)
        self._lines[key] = fresh
        if rows is not None:
            self._step, self._rows[key] = step, rows

    def _line(self, key: int) -> _Line:
        if key not in self._lines:
            raise ModelError(f"no stream has the key {key!r}: open one first")
        return self._lines[key]

    def _checked(
        self, frames: Mapping[int, Tensor], *, begin: bool = True
    ) -> tuple[StepNetwork | None, dict[int, Tensor]]:
        """Copies of frames that all fit; a first frame decides how many persons there are."""
        persons = None if self._step is None else self._step.persons
        C, V = self.network.in_channels, self.network.layout.num_joints
        taken = self._all_good(frames, (C, V, persons)) if persons else None
        if taken is None:
            taken = {}
            for key, frame in frames.items():
                taken[key] = checked_frame(frame, C, V, persons, self._device)
                persons = taken[key].shape[2]
        if persons is not None:
            self.network.check_persons(persons)
        if begin and self._step is None and persons is not None:
            self._step = StepNetwork(self.network, persons, self.window)
        return self._step, taken

    def _all_good(
        self, frames: Mapping[int, Tensor], shape: tuple[int, ...]
    ) -> dict[int, Tensor] | None:
        """Copies of frames as they should be, made at once; None if one of them is not."""
        given = list(frames.values())
        alike = {
            (frame.shape, frame.dtype, frame.device) if isinstance(frame, Tensor) else None
            for frame in given
        }
        if alike != {(shape, torch.float32, self._device)}:
            return None
        copies = torch.stack([frame.detach() for frame in given])
        if not bool((copies.abs() < FARTHEST).all()):
            return None
        return dict(zip(frames, copies.unbind(), strict=True))

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
