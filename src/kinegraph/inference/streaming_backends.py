"""Streaming backends: run the frames of many streams step by step or window by window."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kinegraph.clips.clip import Clip, MetaValue
from kinegraph.errors import ClipError, KinegraphError, ModelError, TransformError
from kinegraph.inference.backends.exported_model import ExportedModel
from kinegraph.inference.online_preprocessing import (
    FrameValidator,
    JointHistory,
    OnlinePreprocessor,
    ValidatedFrame,
    input_frame_shape,
)
from kinegraph.inference.recognizer import Recognizer
from kinegraph.runtime.fuse import optimize_for_inference
from kinegraph.runtime.micro_batching import MAX_COORDINATE, StepStreams, StopCondition
from kinegraph.runtime.network import PersonNetwork
from kinegraph.runtime.step import check_window
from kinegraph.runtime.streams import Mode
from kinegraph.training.batch import Batch

Array = NDArray[np.float32]
Logits = NDArray[np.float32]
State = Mapping[str, Tensor]
REJECTED_FRAME = (ClipError, TransformError, ModelError)


class Update(NamedTuple):
    """New logits of a stream after a frame, or None; and after how many frames they hold."""

    logits: Logits | None
    frames: int


NO_UPDATE = Update(None, 0)


class StreamingBackend(Protocol):
    """A way to run streams; `open` returns the handle of a stream, which the other methods take."""

    mode: Mode

    def open(self, number: int) -> Any:
        """Start the stream of this number."""
        ...

    def enqueue(
        self, frames: Mapping[int, tuple[Any, ValidatedFrame]]
    ) -> dict[int, KinegraphError]:
        """Add the next frame of some streams; return the errors of the frames that do not fit.

        Args:
            frames: handle and frame of each stream, by any key.
        """
        ...

    def step(self, stop: StopCondition) -> None:
        """Run the share of work that is due after `enqueue`, see `StepStreams.step`."""
        ...

    def poll(self, stream: Any) -> Update:
        """Return what is new since the last poll."""
        ...

    def flush(self, stream: Any) -> Logits | None:
        """Return the logits of all frames so far, as if the stream ended here."""
        ...

    def state_dict(self, stream: Any) -> dict[str, Tensor]:
        """Return all state of a stream, copied."""
        ...

    def load_state_dict(
        self, stream: Any, state: State, frames: int, meta: Mapping[str, MetaValue]
    ) -> None:
        """Replace the state of a stream by that of another, which was given so many frames.

        Raises:
            ModelError: the state does not fit; the stream is unchanged.
        """
        ...

    def flush_state(self, state: State, meta: Mapping[str, MetaValue]) -> Logits | None:
        """Return what `flush` would for a stream of this state. Safe in any thread."""
        ...

    def close(self, stream: Any) -> None:
        """End a stream and free its frames."""
        ...


def select_backend(
    recognizer: Recognizer,
    mode: Mode,
    window: int | None,
    every: int,
    *,
    immediate: bool,
    chunk_frames: int,
) -> StreamingBackend:
    """Return the step backend where mode, model and transforms allow it, else the window backend.

    Raises:
        ModelError: mode ``step`` is not possible, or the window has no or too many frames.
    """
    if window is not None:
        check_window(window)
    network = None if mode == "window" else _step_network(recognizer)
    if network is not None:
        due = every if immediate else None
        return StepBackend(recognizer, network, window, due, chunk_frames)
    if mode == "step":
        OnlinePreprocessor(recognizer)  # its error names the transforms that need the whole clip
        raise ModelError("mode 'step': this model is not local in time; take mode 'window'")
    return WindowBackend(recognizer, window, every)


def _step_network(recognizer: Recognizer) -> PersonNetwork | None:
    """Return the network that runs frame by frame, None if model or transforms do not allow it."""
    model = recognizer.model
    if recognizer.pipeline.whole_clip_steps() or isinstance(model, ExportedModel):
        return None  # an exported file runs whole clips
    network = optimize_for_inference(model)
    return network if isinstance(network, PersonNetwork) else None


@dataclass
class _StepStream:
    """The key of a stream in `StepStreams`, its preprocessing state, and its latest logits."""

    key: int
    history: JointHistory
    frames: int = 0
    latest: Tensor | None = None
    update: Update = NO_UPDATE


class StepBackend:
    """The step network: each frame is run once, those of all streams in one call.

    Args:
        recognizer: the transforms and the device.
        network: of its model.
        window: how many of the latest frames a prediction covers; None for all.
        every: frames between updates that include all frames so far; None for updates without
            extra work, which lag behind by ``network.delay`` and the frames of a chunk.
        chunk_frames: frames of a stream that are run at a time.
    """

    mode: Mode = "step"

    def __init__(
        self,
        recognizer: Recognizer,
        network: PersonNetwork,
        window: int | None,
        every: int | None,
        chunk_frames: int,
    ) -> None:
        self._preprocessor = OnlinePreprocessor(recognizer)
        self._device = recognizer.device
        if window is not None and every is None:
            # The latest features are unknown, as a feature needs the `delay` frames that follow it.
            # Without this correction 90 % of the changes between actions of Penn Action were
            # reported within 4.4 s, with it within 3.7 s.
            window = max(window - network.delay // 2, window // 2, 1)
        self._network, self._window, self._chunk_frames = network, window, chunk_frames
        self._every = every
        self._due: list[_StepStream] = []
        self._streams = self._open_streams(amortize=True)

    def _open_streams(self, *, amortize: bool) -> StepStreams:
        return StepStreams(self._network, self._window, chunk=self._chunk_frames, amortize=amortize)

    def open(self, number: int) -> _StepStream:
        return _StepStream(self._streams.open(), self._preprocessor.initial_history())

    def enqueue(
        self, frames: Mapping[int, tuple[_StepStream, ValidatedFrame]]
    ) -> dict[int, KinegraphError]:
        rejected: dict[int, KinegraphError] = {}
        inputs: dict[int, Tensor] = {}
        for group in _group_alike(frames):
            for key, result in self._preprocess(group, frames).items():
                if isinstance(result, KinegraphError):
                    rejected[key] = result
                    continue
                stream, (array, stream.history) = frames[key][0], result
                stream.frames += 1
                inputs[stream.key] = torch.from_numpy(array).to(self._device)
                if self._every and stream.frames % self._every == 0:
                    self._due.append(stream)
        if inputs:
            self._streams.enqueue(inputs)
        return rejected

    def _preprocess(
        self, keys: list[int], frames: Mapping[int, tuple[_StepStream, ValidatedFrame]]
    ) -> dict[int, tuple[Array, JointHistory] | KinegraphError]:
        """Return the network's input and the new history of each stream, or its error."""
        given = [frames[key][1] for key in keys]
        try:
            arrays, updated = self._preprocessor(given, [frames[key][0].history for key in keys])
            if all(np.abs(array).max() < MAX_COORDINATE for array in arrays):
                return dict(zip(keys, zip(arrays, updated, strict=True), strict=True))
            raise ClipError(f"{given[0].name}: expected coordinates below {MAX_COORDINATE:.0e}")
        except REJECTED_FRAME as error:
            if len(keys) == 1:
                return {keys[0]: error}
        single = [self._preprocess([key], frames) for key in keys]  # finds the frame at fault
        return {key: result for one in single for key, result in one.items()}

    def step(self, stop: StopCondition) -> None:
        self._streams.step(stop)
        due, self._due = self._due, []
        for stream in due:
            stream.update = Update(self.flush(stream), stream.frames)

    def poll(self, stream: _StepStream) -> Update:
        if self._every:
            update, stream.update = stream.update, NO_UPDATE
            return update
        logits = self._streams.latest(stream.key)
        if logits is None or logits is stream.latest:
            return NO_UPDATE
        stream.latest = logits
        return Update(_to_numpy(logits), self._streams.frames_of_latest(stream.key))

    def flush(self, stream: _StepStream) -> Logits | None:
        return _to_numpy(self._streams.flush(stream.key))

    def state_dict(self, stream: _StepStream) -> dict[str, Tensor]:
        seen = {
            f"seen.{i}": torch.from_numpy(stream.history[i].copy())
            for i in self._preprocessor.stateful_steps()
        }
        return {**self._streams.state_dict(stream.key), **seen}

    def load_state_dict(
        self, stream: _StepStream, state: State, frames: int, meta: Mapping[str, MetaValue]
    ) -> None:
        history = self._preprocessor.initial_history()
        for i in self._preprocessor.stateful_steps():
            history[i] = read_state(state, f"seen.{i}", history[i].shape)
        self._streams.load_state_dict(stream.key, state)
        stream.history, stream.frames, stream.latest = history, frames, None

    def flush_state(self, state: State, meta: Mapping[str, MetaValue]) -> Logits | None:
        streams = self._open_streams(amortize=False)
        key = streams.open()
        streams.load_state_dict(key, state)
        return _to_numpy(streams.flush(key))

    def close(self, stream: _StepStream) -> None:
        self._streams.close(stream.key)


@dataclass
class _WindowStream:
    """The latest frames of a stream, the offset of its turns, and its latest update."""

    offset: int
    window: deque[Clip]
    frames: int = 0
    update: Update = NO_UPDATE


class WindowBackend:
    """The network on clips: the latest frames of a stream are run as a clip, in batches.

    Args:
        recognizer: the transforms and the model.
        window: frames of the clip; None for all.
        every: frames between updates of a stream; different streams take turns.
    """

    mode: Mode = "window"

    def __init__(self, recognizer: Recognizer, window: int | None, every: int) -> None:
        self._recognizer, self._window, self._every = recognizer, window, every
        self._validator = FrameValidator(recognizer)
        self._due: list[tuple[_WindowStream, Batch]] = []

    def open(self, number: int) -> _WindowStream:
        return _WindowStream(number % self._every, deque(maxlen=self._window))

    def enqueue(
        self, frames: Mapping[int, tuple[_WindowStream, ValidatedFrame]]
    ) -> dict[int, KinegraphError]:
        rejected: dict[int, KinegraphError] = {}
        for key, (stream, given) in frames.items():
            try:
                frame = self._validator.to_clip(given)
                window = deque([*stream.window, frame], self._window)
                due = (stream.frames + 1 - stream.offset) % self._every == 0
                if due and _is_anyone_visible(window):
                    self._due.append((stream, self._recognizer.batch(join_frames(window))))
                elif frame.valid.any():
                    self._recognizer.batch(frame)  # so that transforms reject a bad frame now
                stream.window, stream.frames = window, stream.frames + 1
            except KinegraphError as error:
                rejected[key] = error
        return rejected

    def step(self, stop: StopCondition) -> None:
        due, self._due = self._due, []
        for shape in {batch.x.shape for _, batch in due}:
            streams, batches = zip(*(one for one in due if one[1].x.shape == shape), strict=True)
            tensors = map(torch.cat, zip(*batches, strict=True))
            logits = self._recognizer.logits(Batch(*tensors))
            for stream, row in zip(streams, logits, strict=True):
                stream.update = Update(row, stream.frames)

    def poll(self, stream: _WindowStream) -> Update:
        update, stream.update = stream.update, NO_UPDATE
        return update

    def flush(self, stream: _WindowStream) -> Logits | None:
        return self._logits(stream.window)

    def _logits(self, window: Sequence[Clip]) -> Logits | None:
        if not _is_anyone_visible(window):
            return None
        return self._recognizer.logits(self._recognizer.batch(join_frames(window)))[0]

    def state_dict(self, stream: _WindowStream) -> dict[str, Tensor]:
        if not stream.window:
            return {}
        clip = join_frames(stream.window)
        state = {"joints": torch.from_numpy(np.array(clip.joints))}
        if clip.confidence is not None:
            state["confidence"] = torch.from_numpy(np.array(clip.confidence))
        return state

    def load_state_dict(
        self, stream: _WindowStream, state: State, frames: int, meta: Mapping[str, MetaValue]
    ) -> None:
        stream.window = deque(self._frames_of_state(state, meta), self._window)
        stream.frames, stream.update = frames, NO_UPDATE

    def flush_state(self, state: State, meta: Mapping[str, MetaValue]) -> Logits | None:
        return self._logits(self._frames_of_state(state, meta))

    def _frames_of_state(self, state: State, meta: Mapping[str, MetaValue]) -> list[Clip]:
        if set(state) - {"joints", "confidence"}:
            raise ModelError("expected the state of a stream in mode 'window', got one of 'step'")
        if not state:
            return []
        joints = read_state(state, "joints", (None, None, *input_frame_shape(self._recognizer)))
        confidences: Sequence[Array | None] = [None] * joints.shape[1]
        if "confidence" in state:
            stated = read_state(state, "confidence", joints.shape[:3])
            confidences = np.split(stated, joints.shape[1], axis=1)
        frames = np.split(joints, joints.shape[1], axis=1)
        layout = self._recognizer.layout
        return [Clip(f, layout, c, meta=meta) for f, c in zip(frames, confidences, strict=True)]

    def close(self, stream: _WindowStream) -> None:
        stream.window.clear()


def join_frames(frames: Sequence[Clip]) -> Clip:
    """Join clips of one frame each into one clip; a person missing at the end is absent."""
    last = frames[-1]
    persons = max(frame.num_persons for frame in frames)
    joints = np.full((persons, len(frames), *last.joints.shape[2:]), np.nan, np.float32)
    confidence = np.zeros(joints.shape[:3], np.float32)
    for t, frame in enumerate(frames):
        here = slice(frame.num_persons)
        joints[here, t] = frame.joints[:, 0]
        confidence[here, t] = 1 if frame.confidence is None else frame.confidence[:, 0]
    stated = any(frame.confidence is not None for frame in frames)
    return Clip(joints, last.layout, confidence if stated else None, id=last.id, meta=last.meta)


def read_state(state: State, name: str, shape: Sequence[int | None]) -> NDArray[Any]:
    """Return a copy of a tensor of a state; None in the shape allows any size above 0.

    Raises:
        ModelError: the tensor is missing or has another shape.
    """
    if not isinstance(tensor := state.get(name), Tensor):
        raise ModelError(f"expected the state of a streaming session, got one without {name!r}")
    fits = tensor.ndim == len(shape) and all(
        size == wanted if wanted is not None else size
        for size, wanted in zip(tensor.shape, shape, strict=True)
    )
    if not fits:
        raise ModelError(
            f"the state is of another model: expected {name!r} of the shape "
            f"{tuple('any' if n is None else n for n in shape)}, got {tuple(tensor.shape)}"
        )
    return np.array(tensor.detach().cpu().numpy())


def _to_numpy(logits: Tensor | None) -> Any:
    return None if logits is None else logits.float().cpu().numpy()


def _is_anyone_visible(frames: Iterable[Clip]) -> bool:
    return any(frame.valid.any() for frame in frames)


def _group_alike(frames: Mapping[int, tuple[Any, ValidatedFrame]]) -> list[list[int]]:
    """Return the keys in groups of frames with the same meta, and all or none with confidence."""
    groups: dict[Any, list[int]] = {}
    for key, (_, frame) in frames.items():
        same = (frame.confidence is None, tuple(sorted(frame.meta.items())))
        groups.setdefault(same, []).append(key)
    return list(groups.values())
