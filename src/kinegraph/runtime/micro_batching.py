"""Streams of one step network, computed in batches, with the work spread over frames.

Shapes: S streams, M persons, C channels, V joints; state tensors have a row a stream or a person,
the persons of a stream one after the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from math import inf
from typing import Any

import torch
from torch import Tensor

from kinegraph.errors import ModelError
from kinegraph.ops.persons import check_persons
from kinegraph.ops.step_context import Incremental, drain
from kinegraph.runtime.network import InferenceNetwork, PersonNetwork
from kinegraph.runtime.step import StepNetwork, check_window

CHUNK_FRAMES = 8  # frames of a stream in one batch; fewer do not pay for what every call costs
MULTITHREAD_MIN_PERSONS = 32  # with fewer, waiting for a second thread costs more than it saves
MAX_BACKLOG_CHUNKS = 3  # chunks that may wait; then one is computed at once
MAX_COORDINATE = 1e9  # in any unit; its square is still finite

StopCondition = Callable[[], bool]


def no_stop() -> bool:
    """Compute to the end."""
    return False


def validate_frame(network: InferenceNetwork, frame: Any, persons: int | None) -> Tensor:
    """Return a copy of a frame, in float32 on the network's device.

    Raises:
        ModelError: it is not (C, V, M), or holds values that cannot be coordinates.
    """
    try:
        copied = torch.as_tensor(frame).detach().to(network.device, torch.float32, copy=True)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"expected a frame (C, V, M) of numbers, got {type(frame)}") from error
    given, (C, V) = tuple(copied.shape), (network.in_channels, network.layout.num_joints)
    if len(given) != 3 or given != (C, V, persons or given[2]) or not given[2]:
        raise ModelError(f"expected frames (C, V, M) = ({C}, {V}, {persons or 'M'}), got {given}")
    if not bool((copied.abs() < MAX_COORDINATE).all()):
        raise ModelError(
            f"a frame holds values that are not finite, or beyond {MAX_COORDINATE:.0e}; absent "
            "joints are zero"
        )
    return copied


@dataclass(frozen=True)
class BatchedState:
    """The state of several streams, in common tensors.

    Attributes:
        keys: of the streams.
        tensors: as `StepNetwork.initial_state` of so many streams.
    """

    keys: tuple[int, ...]
    tensors: list[Tensor]

    def select(self, keys: Collection[int]) -> BatchedState:
        """Return the rows of some of the streams, in the same order; all of them without a copy."""
        places = [place for place, key in enumerate(self.keys) if key in keys]
        if len(places) == len(self.keys):
            return self
        chosen, streams = torch.tensor(places, dtype=torch.int64), len(self.keys)
        tensors = [t.unflatten(0, (streams, -1))[chosen].flatten(0, 1) for t in self.tensors]
        return BatchedState(tuple(self.keys[place] for place in places), tensors)

    @staticmethod
    def concatenate(states: Sequence[BatchedState]) -> BatchedState:
        """Return the rows of all streams of several states."""
        keys = tuple(key for state in states for key in state.keys)
        tensors = [torch.cat(rows) for rows in zip(*(s.tensors for s in states), strict=True)]
        return BatchedState(keys, tensors)


class IncrementalJob:
    """One chunk of frames of several streams, on its way through the network.

    Args:
        keys: of the streams.
        backlog: frames that have come since it could have begun.
        steps: see `StepNetwork.run_incremental`.

    Attributes:
        pushed: for each stream that is still open: how many frames since it began.
    """

    def __init__(
        self, keys: tuple[int, ...], backlog: int, steps: Incremental[tuple[Tensor, ...]]
    ) -> None:
        self.keys = keys
        self.pushed = dict.fromkeys(keys, backlog)
        self._steps = steps
        self._done = self._step = 0.0

    def due_frames(self) -> float:
        """Return how many frames' share is due: as frames come, and in time for the fastest."""
        pushed = self.pushed.values()
        return max(sum(pushed) / len(pushed), max(pushed) - 1)

    def advance(self, until: float, stop: StopCondition) -> list[Tensor] | None:
        """Compute until so much is done, in what the steps yield, or until ``stop`` says so.

        Returns:
            the result, if all is done.
        """
        try:
            # to the nearest step: the next is estimated to be as long as the latest
            while self._done + self._step / 2 < until and not stop():
                self._step = next(self._steps)
                self._done += self._step
        except StopIteration as end:
            return list(end.value)
        return None


@dataclass
class _StreamState:
    """The progress of one stream: its queued frames and latest logits.

    Attributes:
        before: frames that have been computed, with those before the clip.
        pushed: frames of the clip so far.
        pending: frames (C, V, M) that have not been computed, or not to the end.
        logits: the latest result.
    """

    before: int = 0
    pushed: int = 0
    pending: deque[Tensor] = field(default_factory=deque)
    logits: Tensor | None = None


class StepStreams:
    """A `StreamBatch` whose frames are computed once, a chunk at a time, see `open_streams`.

    Args:
        network: of the model.
        window: frames that count, None for all.
        chunk: frames that are computed at a time, at least.
        amortize: whether the work is spread over frames, and streams wait for each other.

    Raises:
        ModelError: a window or a chunk without frames.
    """

    def __init__(
        self, network: PersonNetwork, window: int | None, *, chunk: int, amortize: bool
    ) -> None:
        check_window(chunk)
        if window is not None:
            check_window(window)
        self.network = network
        self.window = window
        self.amortize = amortize
        self._device = network.device
        self._chunk = -(-chunk // network.hop) * network.hop
        self._streams: dict[int, _StreamState] = {}
        self._step: StepNetwork | None = None  # from the first frame on, which fixes M
        self._states: dict[int, BatchedState] = {}  # of a stream's key: where its rows are
        self._running_job: IncrementalJob | None = None
        self._latest: tuple[int, ...] = ()  # streams of the latest chunk
        self._updated: set[int] = set()  # streams with a frame for which no work was done
        self._opened = 0

    def open(self) -> int:
        key = self._opened
        self._opened += 1
        self._streams[key] = _StreamState()
        return key

    def push(self, frames: Mapping[int, Tensor]) -> dict[int, Tensor | None]:
        self.enqueue(frames)
        self.step()
        return {key: self.latest(key) for key in frames}

    @torch.inference_mode()
    def enqueue(self, frames: Mapping[int, Tensor]) -> None:
        """Queue the next frame (C, V, M) of some streams: the first part of `push`."""
        streams = {key: self._stream(key) for key in frames}
        checked = self._validate(frames)
        for key, frame in checked.items():
            stream = streams[key]
            if not stream.pushed:  # the first step ends with the first frame
                stream.pending.extend([torch.zeros_like(frame)] * (self.network.hop - 1))
            stream.pending.append(frame)
            stream.pushed += 1
        self._updated |= checked.keys()

    @torch.inference_mode()
    def step(self, stop: StopCondition = no_stop) -> None:
        """Do the share of the work that is due for the queued frames: the second part of `push`.

        Args:
            stop: asked between layers; once it returns True, the rest is left for the next call,
                unless too many frames wait already.
        """
        streams = {key: self._streams[key] for key in self._updated if key in self._streams}
        self._updated.clear()
        if self._step is not None:
            with single_thread(len(streams) * self._step.persons < MULTITHREAD_MIN_PERSONS):
                self._work(self._step, streams, stop)

    def latest(self, key: int) -> Tensor | None:
        """Return the latest logits of a stream; the same tensor until there are others."""
        return self._stream(key).logits

    def frames_of_latest(self, key: int) -> int:
        """Return after how many frames a stream without amortized work gives the latest logits."""
        return self._stream(key).before - (self.network.hop - 1)

    def _work(
        self, step: StepNetwork, streams: Mapping[int, _StreamState], stop: StopCondition
    ) -> None:
        """Start the next batch if ready and run its share of work for these frames."""
        if not self.amortize:
            if due := [key for key, s in streams.items() if len(s.pending) >= self._chunk]:
                self._advance(self._start_job(step, due), inf, no_stop)
            return
        if self._running_job and not self._continue_job(self._running_job, streams, stop):
            return
        if due := self._due_streams():
            self._continue_job(self._start_job(step, due), streams, stop)

    def _continue_job(self, job: IncrementalJob, keys: Iterable[int], stop: StopCondition) -> bool:
        """Do what is due for the next frame of these streams; return whether that was all."""
        job.pushed.update((key, job.pushed[key] + 1) for key in keys if key in job.pushed)
        if self._is_late(MAX_BACKLOG_CHUNKS):
            return self._advance(job, inf, no_stop)
        return self._advance(job, job.due_frames(), stop)

    def _due_streams(self) -> list[int]:
        """Return the streams whose next chunk begins now.

        Streams of one batch wait for each other for a short time, so that they stay together
        though their frames come one after the other.
        """
        wait = any(
            len(self._streams[key].pending) < self._chunk
            for key in self._latest
            if key in self._streams
        )
        if wait and not self._is_late(2):
            return []
        return [key for key, s in self._streams.items() if len(s.pending) >= self._chunk]

    def _is_late(self, chunks: int) -> bool:
        """Return whether so many chunks wait in a stream, beside the one that is computed."""
        running = self._running_job.pushed if self._running_job else {}
        return any(
            len(stream.pending) >= self._chunk * (chunks + (key in running))
            for key, stream in self._streams.items()
        )

    def _start_job(self, step: StepNetwork, due: list[int]) -> IncrementalJob:
        state = self._gather_state(step, due)
        streams = [self._streams[key] for key in state.keys]
        backlog = min(len(s.pending) for s in streams) - self._chunk
        frames = torch.stack(
            [torch.stack(list(islice(s.pending, self._chunk)), dim=1) for s in streams]
        )
        before = torch.tensor([s.before for s in streams], device=frames.device)
        early = min(s.before for s in streams) < self.network.first_answer
        present, *kept = state.tensors
        steps = step.run_incremental(frames, before, None, present, kept, mask=early)
        self._running_job = job = IncrementalJob(state.keys, backlog, steps)
        self._latest = state.keys
        return job

    def _advance(self, job: IncrementalJob, frames: float, stop: StopCondition) -> bool:
        """Do the share of so many of its frames; with all of it done the streams move on."""
        cost = 0.0 if self._step is None else self._step.cost / self.network.hop
        try:
            result = job.advance(cost * frames if frames < self._chunk else inf, stop)
        except BaseException:
            self._running_job = None  # it is started again with the next frame
            raise
        if result is None:
            return False
        self._running_job = None
        logits, *tensors = result
        state = BatchedState(job.keys, tensors).select(job.pushed)
        for key, row in zip(job.keys, logits, strict=True):
            if key in job.pushed:
                self._states[key], stream = state, self._streams[key]
                for _ in range(self._chunk):
                    stream.pending.popleft()
                stream.before += self._chunk
                stream.logits = row if stream.before >= self.network.first_answer else None
        return True

    def _gather_state(self, step: StepNetwork, keys: list[int]) -> BatchedState:
        """Return the rows of some streams in common tensors; rows of others are separated."""
        wanted, parts = set(keys), []
        sources = {id(self._states[key]): self._states[key] for key in keys if key in self._states}
        for state in sources.values():
            held = {key for key in state.keys if self._states.get(key) is state}
            parts.append(state.select(held & wanted))
            if others := held - wanted:
                rest = state.select(others)
                self._states.update(dict.fromkeys(rest.keys, rest))
        if new := tuple(key for key in keys if key not in self._states):
            parts.append(BatchedState(new, [*step.initial_state(len(new))]))
        joined = parts[0] if len(parts) == 1 else BatchedState.concatenate(parts)
        self._states.update(dict.fromkeys(joined.keys, joined))
        return joined

    @torch.inference_mode()
    def flush(self, key: int) -> Tensor | None:
        stream, step = self._stream(key), self._step
        if step is None or not stream.pushed:
            return None
        hop = self.network.hop
        last = hop - 1 + stream.pushed + self.network.delay  # by then all features are known
        frames = list(stream.pending)
        missing = max(last - stream.before - len(frames), 0)
        missing += -(missing + len(frames)) % hop
        frames += [self._blank_frame(step)] * missing
        present, *kept = self._stream_state(step, key)
        logits, *_ = drain(
            step.run_incremental(
                torch.stack(frames, dim=1).unsqueeze(0),
                torch.tensor([stream.before], device=present.device),
                torch.tensor([stream.pushed], device=present.device),
                present,
                kept,
                mask=True,
            )
        )
        return logits[0]

    def _stream_state(self, step: StepNetwork, key: int) -> list[Tensor]:
        if key in self._states:
            return self._states[key].select({key}).tensors
        return [*step.initial_state(1)]

    def close(self, key: int) -> None:
        self._stream(key)
        self._evict(key)
        del self._streams[key]
        if not self._streams:
            self._step = None

    def _evict(self, key: int) -> None:
        """Drop the state of a stream; its rows in common tensors are left unused."""
        self._states.pop(key, None)
        if self._running_job:
            self._running_job.pushed.pop(key, None)
            self._running_job = self._running_job if self._running_job.pushed else None

    def state_dict(self, key: int) -> dict[str, Tensor]:
        stream, step = self._stream(key), self._step
        state = {"before": torch.tensor(stream.before), "pushed": torch.tensor(stream.pushed)}
        if step is None or not stream.pushed:
            return state
        pending = [*stream.pending, self._blank_frame(step)]  # a stack needs at least one
        state["pending"] = torch.stack(pending)[:-1]
        if stream.logits is not None:
            state["logits"] = stream.logits.clone()
        rows = self._stream_state(step, key)
        return {**state, **{f"kept.{i}": tensor.clone() for i, tensor in enumerate(rows)}}

    @torch.inference_mode()
    def load_state_dict(self, key: int, state: Mapping[str, Tensor]) -> None:
        self._stream(key)
        try:
            before, pushed = int(state["before"]), int(state["pushed"])
            frames = list(state["pending"]) if pushed else []
            logits = state.get("logits")
            loaded = _StreamState(before, pushed, logits=None if logits is None else logits.clone())
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            raise ModelError(f"expected a state of a stream in step mode: {error}") from error
        hop = self.network.hop
        given = before + len(frames)
        if before < 0 or before % hop or given != (pushed + hop - 1 if pushed else 0):
            raise ModelError("expected a state of a stream in step mode: frames are missing")
        rows = None
        if pushed:
            checked = self._validate(dict(enumerate(frames)), begin=False)
            loaded.pending = deque(checked.values())
            present = state.get("kept.0")
            persons = 0 if present is None or present.ndim != 2 else present.shape[1]
            step = self._step or StepNetwork(self.network, persons, self.window)
            rows = BatchedState((key,), self._load_rows(step, state))
        self._evict(key)
        self._streams[key] = loaded
        if rows is not None:
            self._step, self._states[key] = step, rows

    def _stream(self, key: int) -> _StreamState:
        if key not in self._streams:
            raise ModelError(f"unknown stream key {key!r}: open a stream first")
        return self._streams[key]

    def _validate(self, frames: Mapping[int, Tensor], *, begin: bool = True) -> dict[int, Tensor]:
        """Return copies of frames that all fit; a first frame fixes the number of persons."""
        persons = None if self._step is None else self._step.persons
        checked = self._fast_validate(frames, persons) if persons else None
        if checked is None:
            checked = {}
            for key, frame in frames.items():
                checked[key] = validate_frame(self.network, frame, persons)
                persons = checked[key].shape[2]
        if persons is not None:
            check_persons(persons, self.network.persons)
        if begin and self._step is None and persons is not None:
            self._step = StepNetwork(self.network, persons, self.window)
        return checked

    def _fast_validate(
        self, frames: Mapping[int, Tensor], persons: int
    ) -> dict[int, Tensor] | None:
        """Return copies of valid frames, made at once; None if one of them is not valid."""
        shape = (self.network.in_channels, self.network.layout.num_joints, persons)
        given = list(frames.values())
        alike = {
            (frame.shape, frame.dtype, frame.device) if isinstance(frame, Tensor) else None
            for frame in given
        }
        if alike != {(shape, torch.float32, self._device)}:
            return None
        copies = torch.stack([frame.detach() for frame in given])
        if not bool((copies.abs() < MAX_COORDINATE).all()):
            return None
        return dict(zip(frames, copies.unbind(), strict=True))

    def _load_rows(self, step: StepNetwork, state: Mapping[str, Tensor]) -> list[Tensor]:
        initial = step.initial_state(1)
        rows = [state.get(f"kept.{i}") for i in range(len(initial))]
        alike = [
            row is not None and (row.shape, row.dtype) == (own.shape, own.dtype)
            for row, own in zip(rows, initial, strict=True)
        ]
        if not all(alike) or f"kept.{len(rows)}" in state:
            raise ModelError(
                "this state belongs to another model, window length or number of persons"
            )
        device = initial[0].device
        copies = [row.to(device, copy=True) for row in rows if row is not None]
        if any(bool(row.isnan().any()) for row in copies):
            raise ModelError("this state contains NaN")
        return copies

    def _blank_frame(self, step: StepNetwork) -> Tensor:
        shape = (self.network.in_channels, self.network.layout.num_joints, step.persons)
        return torch.zeros(shape, device=self._device)


@contextmanager
def single_thread(wanted: bool) -> Iterator[None]:
    """Use one thread, if wanted: waiting for a second costs more than small products take."""
    threads = torch.get_num_threads()
    if not wanted or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
