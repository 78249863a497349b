"""How a crowd works on the frames of many streams: step by step, or window by window."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kinegraph.clips.clip import Clip
from kinegraph.errors import ClipError, KinegraphError, ModelError, TransformError
from kinegraph.inference.online_preprocessing import (
    FrameValidator,
    JointHistory,
    OnlinePreprocessor,
    ValidatedFrame,
)
from kinegraph.inference.stream import WINDOW, joined, step_network
from kinegraph.runtime.micro_batching import FARTHEST, StepStreams
from kinegraph.runtime.step_work import Stop
from kinegraph.runtime.streams import Mode
from kinegraph.training.objectives import Batch

if TYPE_CHECKING:
    from kinegraph.inference.recognizer import Recognizer
    from kinegraph.runtime.network import FastNetwork

Array = NDArray[np.float32]
Logits = NDArray[np.float32]
TOGETHER = 4  # frames of a stream that are worked on at a time; with many streams that is enough
REFUSALS = (ClipError, TransformError, ModelError)


class Update(NamedTuple):
    """What a frame has brought: logits if they are new, and after how many frames they hold."""

    logits: Logits | None
    frames: int


NO_UPDATE = Update(None, 0)


class StreamingBackend(Protocol):
    """A way of working; each stream is known by what `open` gave for it."""

    mode: Mode

    def open(self, number: int) -> Any: ...

    def enqueue(
        self, frames: Mapping[int, tuple[Any, ValidatedFrame]]
    ) -> dict[int, KinegraphError]:
        """The next frame of some streams, under any names -> which are refused."""
        ...

    def step(self, stop: Stop) -> None:
        """Do the work that falls to what was taken; see `StepStreams.go_on`."""
        ...

    def poll(self, own: Any) -> Update:
        """What is new of a stream since this was asked last."""
        ...

    def snapshot(self, own: Any) -> Any: ...

    def flush_snapshot(self, state: Any) -> Logits | None: ...

    def close(self, own: Any) -> None: ...


def select_backend(
    recognizer: Recognizer, mode: Mode, window: int | None, every: int
) -> StreamingBackend:
    network = None if mode == "window" else step_network(recognizer)
    if network is not None:
        return StepBackend(recognizer, network, window)
    if mode == "step":
        OnlinePreprocessor(recognizer)  # says which transforms are in the way, if any are
        raise ModelError("mode 'step': this model is not local in time; take mode 'window'")
    return WindowBackend(recognizer, WINDOW if window is None else window, every)


@dataclass
class _Stepped:
    """A stream of steps: its key, what it has seen, and its latest logits."""

    key: int
    seen: JointHistory
    latest: Tensor | None = None


class StepBackend:
    """Each frame once, and all of them in one call of the step network."""

    mode: Mode = "step"

    def __init__(self, recognizer: Recognizer, network: FastNetwork, window: int | None) -> None:
        self._ready = OnlinePreprocessor(recognizer)
        self._device = recognizer.device
        self._network, self._window = network, window
        self._streams = StepStreams(network, window, together=TOGETHER, spread=True)

    def open(self, number: int) -> _Stepped:
        return _Stepped(self._streams.open(), self._ready.blank())

    def enqueue(
        self, frames: Mapping[int, tuple[_Stepped, ValidatedFrame]]
    ) -> dict[int, KinegraphError]:
        refused: dict[int, KinegraphError] = {}
        taken: dict[int, Tensor] = {}
        for group in _alike(frames):
            for key, result in self._made_ready(group, frames).items():
                if isinstance(result, KinegraphError):
                    refused[key] = result
                else:
                    own = frames[key][0]
                    taken[own.key] = torch.from_numpy(result[0]).to(self._device)
                    own.seen = result[1]
        if taken:
            self._streams.take(taken)
        return refused

    def step(self, stop: Stop) -> None:
        self._streams.go_on(stop)

    def _made_ready(
        self, keys: list[int], frames: Mapping[int, tuple[_Stepped, ValidatedFrame]]
    ) -> dict[int, tuple[Array, JointHistory] | KinegraphError]:
        try:
            given, seen = [frames[key][1] for key in keys], [frames[key][0].seen for key in keys]
            arrays, noted = self._ready(given, seen)
            if all(np.abs(array).max() < FARTHEST for array in arrays):
                return dict(zip(keys, zip(arrays, noted, strict=True), strict=True))
            refusal: KinegraphError = ClipError(
                f"{given[0].name}: expected coordinates below {FARTHEST:.0e}"
            )
        except REFUSALS as error:
            refusal = error
        if len(keys) == 1:
            return {keys[0]: refusal}
        parts = [self._made_ready([key], frames) for key in keys]  # which one it was
        return {key: one for part in parts for key, one in part.items()}

    def poll(self, own: _Stepped) -> Update:
        logits = self._streams.latest(own.key)
        if logits is None or logits is own.latest:
            return NO_UPDATE
        own.latest = logits
        return Update(logits.float().cpu().numpy(), self._streams.known(own.key))

    def snapshot(self, own: _Stepped) -> dict[str, _Packed]:
        return {name: _packed(t) for name, t in self._streams.state_dict(own.key).items()}

    def flush_snapshot(self, state: dict[str, _Packed]) -> Logits | None:
        alone = StepStreams(self._network, self._window, together=TOGETHER, spread=False)
        key = alone.open()
        alone.load_state_dict(key, {name: _unpacked(packed) for name, packed in state.items()})
        logits = alone.flush(key)
        return None if logits is None else logits.float().cpu().numpy()

    def close(self, own: _Stepped) -> None:
        self._streams.close(own.key)


_Packed = tuple[str, tuple[int, ...], NDArray[np.uint8]]


def _packed(tensor: Tensor) -> _Packed:
    """What can be sent to another process much faster than a tensor."""
    values = tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), values


def _unpacked(packed: _Packed) -> Tensor:
    dtype, shape, values = packed
    return torch.from_numpy(values.copy()).view(getattr(torch, dtype)).reshape(shape)


@dataclass
class _Windowed:
    """A stream of windows: its latest frames, how far it is to its next turn, and what is new."""

    frames: deque[Clip]
    wait: int
    pushed: int = 0
    new: Update = NO_UPDATE


class WindowBackend:
    """The latest frames of a stream as a clip, whenever it is its turn; such clips in batches."""

    mode: Mode = "window"

    def __init__(self, recognizer: Recognizer, window: int, every: int) -> None:
        if window < 1:
            raise ModelError(f"expected a window of at least one frame, got {window}")
        self._recognizer, self._raw = recognizer, FrameValidator(recognizer)
        self._window, self._every = window, every
        self._due: list[tuple[_Windowed, int, Batch]] = []

    def open(self, number: int) -> _Windowed:
        return _Windowed(deque(maxlen=self._window), number % self._every)

    def enqueue(
        self, frames: Mapping[int, tuple[_Windowed, ValidatedFrame]]
    ) -> dict[int, KinegraphError]:
        refused: dict[int, KinegraphError] = {}
        for key, (own, given) in frames.items():
            try:
                frame = self._raw.clip(given)
                latest = deque([*own.frames, frame], self._window)
                if (own.pushed + 1 - own.wait) % self._every == 0 and _seen(latest):
                    self._due.append((own, own.pushed + 1, self._recognizer.batch(joined(latest))))
                elif frame.valid.any():
                    self._recognizer.batch(frame)  # what transforms refuse is refused now
                own.frames, own.pushed = latest, own.pushed + 1
            except KinegraphError as error:
                refused[key] = error
        return refused

    def step(self, stop: Stop) -> None:
        due, self._due = self._due, []
        for shape in {tuple(batch.x.shape) for _, _, batch in due}:
            alike = [one for one in due if tuple(one[2].x.shape) == shape]
            answered = self._answered([batch for _, _, batch in alike])
            for (own, pushed, _), logits in zip(alike, answered, strict=True):
                own.new = Update(logits, pushed)

    def poll(self, own: _Windowed) -> Update:
        new, own.new = own.new, NO_UPDATE
        return new

    def _answered(self, batches: list[Batch]) -> Logits:
        parts = zip(*batches, strict=True)
        return self._recognizer.logits(Batch(*(torch.cat(tensors) for tensors in parts)))

    def snapshot(self, own: _Windowed) -> list[Clip]:
        return list(own.frames)

    def flush_snapshot(self, state: list[Clip]) -> Logits | None:
        if not _seen(state):
            return None
        return self._recognizer.logits(self._recognizer.batch(joined(state)))[0]

    def close(self, own: _Windowed) -> None:
        own.frames.clear()


def _seen(frames: Iterable[Clip]) -> bool:
    """Whether anybody is."""
    return any(frame.valid.any() for frame in frames)


def _alike(frames: Mapping[int, tuple[Any, ValidatedFrame]]) -> list[list[int]]:
    """Keys of frames that state the same things, and so can be made ready together."""
    groups: dict[Any, list[int]] = {}
    for key, (_, frame) in frames.items():
        same = (frame.confidence is None, tuple(sorted(frame.meta.items())))
        groups.setdefault(same, []).append(key)
    return list(groups.values())
