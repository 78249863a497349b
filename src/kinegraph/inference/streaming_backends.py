"""Streaming backends: frames of many streams, computed by steps or by windows."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kinegraph.clips.clip import Clip, MetaValue
from kinegraph.errors import (
    ClipError,
    KinegraphError,
    ModelError,
    UnexpectedError,
    unknown_name,
)
from kinegraph.inference.backends.exported_model import ExportedModel
from kinegraph.inference.frame_converter import FrameConverter
from kinegraph.inference.online_preprocessing import (
    JointHistory,
    OnlinePreprocessor,
    ValidatedFrame,
    input_frame_shape,
    merge_frames,
)
from kinegraph.inference.recognizer import Recognizer
from kinegraph.runtime.micro_batching import MAX_COORDINATE, StepStreams, StopCondition
from kinegraph.runtime.network import PersonNetwork
from kinegraph.runtime.step import MAX_WINDOW_FRAMES, check_window
from kinegraph.runtime.streams import Mode, open_streams
from kinegraph.skeleton.space import Space
from kinegraph.training.batch import Batch

Logits = NDArray[np.float32]
StreamState = Mapping[str, Tensor]


class Update(NamedTuple):
    """New logits of a stream, or None; and how many frames they include."""

    logits: Logits | None
    frames: int


NO_UPDATE = Update(None, 0)


@dataclass
class Stream:
    """A stream, with what the backend keeps of it.

    Attributes:
        number: counts the streams of a pool.
        meta: facts about the recording, as in `Clip.meta`.
        space: what the coordinates of its frames mean, once they are in the model's layout.
        converter: converts its frames to that; None if they are as those of the model.
        frames: how many were pushed.
        update: what is new since the last `StreamingBackend.poll`.
        key: of the stream in `StepStreams`.
        history: of the transforms, in mode ``step``.
        latest: the logits of the last update, in mode ``step``.
        window: the latest frames, in mode ``window``.
    """

    number: int
    meta: Mapping[str, MetaValue]
    space: Space
    converter: FrameConverter | None = None
    frames: int = 0
    update: Update = NO_UPDATE
    key: int = 0
    history: JointHistory = field(default_factory=list)
    latest: Tensor | None = None
    window: deque[Clip] = field(default_factory=deque)


class StreamingBackend(Protocol):
    """A way to run streams."""

    mode: Mode

    def open(self, stream: Stream) -> None:
        """Start a stream."""

    def enqueue(self, frames: Mapping[int, tuple[Stream, ValidatedFrame]]) -> Rejected:
        """Add the next frame of some streams, by any key; return the errors of those refused."""

    def step(self, stop: StopCondition) -> None:
        """Run the share of work that is due after `enqueue`, see `StepStreams.step`."""

    def poll(self, stream: Stream) -> Update:
        """Return what is new since the last poll."""
        update, stream.update = stream.update, NO_UPDATE
        return update

    def flush(self, stream: Stream) -> Logits | None:
        """Return the logits of all frames so far, as if the stream ended here."""

    def state_dict(self, stream: Stream) -> dict[str, Tensor]:
        """Return a copy of all that the backend keeps of a stream."""

    def load_state_dict(self, stream: Stream, state: StreamState) -> None:
        """Restore a copied state; if it does not fit, raise ModelError and change nothing."""

    def flush_state(
        self, state: StreamState, meta: Mapping[str, MetaValue], space: Space
    ) -> Logits | None:
        """Return what `flush` gives for a stream of this state. Safe in any thread."""

    def close(self, stream: Stream) -> None:
        """End a stream and free its frames."""


Rejected = dict[int, KinegraphError]


def log_failure(task: str) -> UnexpectedError:
    """Log the exception that is handled now, and return the error of the stream."""
    logging.getLogger(__name__).exception("%s failed", task)
    return UnexpectedError(f"{task} failed; see the log")


class StreamOptions(NamedTuple):
    """Options of all streams of a pool, see `SessionPool`; the window in frames of rate fps."""

    mode: Mode
    window: int | None
    every: int
    immediate: bool
    chunk_frames: int
    fps: float | None = None


def select_backend(recognizer: Recognizer, options: StreamOptions) -> StreamingBackend:
    """Return the step backend where mode, model and transforms allow it, else the window backend.

    Raises:
        ModelError: mode ``step`` is not possible, or the window has no or too many frames.
        UnknownNameError: an unknown mode.
    """
    if options.mode not in get_args(Mode):
        raise unknown_name("stream mode", options.mode, get_args(Mode))
    if options.every < 1:
        raise ModelError(f"expected every to be 1 or more frames, got {options.every}")
    if options.window is not None:
        check_window(options.window)
    model, mode = recognizer.model, options.mode
    needs_clips = isinstance(model, ExportedModel) or recognizer.pipeline.whole_clip_steps()
    # in mode step, frames as recorded cannot be prepared as the training clips of this run were
    clips_prepared = mode == "auto" and not recognizer.prepares_frames
    use_window = mode == "window" or needs_clips or clips_prepared
    network = None if use_window else recognizer.step_network
    if network is not None:
        return StepBackend(recognizer, network, options)
    if mode == "step" and needs_clips:
        OnlinePreprocessor(recognizer)  # raises an error that names the transforms, if any
        raise ModelError(
            "mode 'step': an exported file accepts whole clips only; use mode 'window'"
        )
    if mode == "step":
        open_streams(model, mode)  # raises an error that gives the reason
    return WindowBackend(recognizer, options)


class StepBackend(StreamingBackend):
    """The step network: each frame is run once, those of all streams in one call.

    Updates lag behind by ``network.delay`` and the frames of a chunk, unless they are immediate.
    """

    mode: Mode = "step"

    def __init__(
        self, recognizer: Recognizer, network: PersonNetwork, options: StreamOptions
    ) -> None:
        window = options.window
        if window is not None and not options.immediate:
            # The latest features are unknown, as a feature needs the `delay` frames that follow it.
            # Without this correction 90 % of the changes between actions of Penn Action were
            # reported within 4.4 s, with it within 3.7 s.
            window = max(window - network.delay // 2, window // 2, 1)
        self._preprocessor = OnlinePreprocessor(recognizer)
        self._device = recognizer.device
        self._network, self._window, self._chunk_frames = network, window, options.chunk_frames
        self._every = options.every if options.immediate else None
        self._due: list[Stream] = []
        self._streams = self._create_streams(amortize=True)

    def _create_streams(self, *, amortize: bool) -> StepStreams:
        return StepStreams(self._network, self._window, chunk=self._chunk_frames, amortize=amortize)

    def open(self, stream: Stream) -> None:
        stream.key, stream.history = self._streams.open(), self._preprocessor.initial_history()

    def enqueue(self, frames: Mapping[int, tuple[Stream, ValidatedFrame]]) -> Rejected:
        rejected: Rejected = {}
        inputs: dict[int, Tensor] = {}
        for group in _group_alike(frames):
            for key, result in self._preprocess(group, frames).items():
                if isinstance(result, KinegraphError):
                    rejected[key] = result
                    continue
                stream, (array, stream.history) = frames[key][0], result
                inputs[stream.key] = torch.from_numpy(array).to(self._device)
                if self._every and (stream.frames + 1) % self._every == 0:
                    self._due.append(stream)
        if inputs:
            self._streams.enqueue(inputs)
        return rejected

    def _preprocess(
        self, keys: list[int], frames: Mapping[int, tuple[Stream, ValidatedFrame]]
    ) -> dict[int, tuple[NDArray[np.float32], JointHistory] | KinegraphError]:
        """Return the network's input and the new history of each stream, or its error."""
        streams, given = [frames[key][0] for key in keys], [frames[key][1] for key in keys]
        try:
            arrays, updated = self._preprocessor(given, [stream.history for stream in streams])
            if all(np.abs(array).max() < MAX_COORDINATE for array in arrays):
                return dict(zip(keys, zip(arrays, updated, strict=True), strict=True))
            raise ClipError(f"{given[0].name}: expected coordinates below {MAX_COORDINATE:.0e}")
        except KinegraphError as error:
            if len(keys) == 1:
                return {keys[0]: error}
        except Exception:
            if len(keys) == 1:
                return {keys[0]: log_failure("the preprocessing of a frame")}
        single = [self._preprocess([key], frames) for key in keys]  # finds the frame at fault
        return {key: result for one in single for key, result in one.items()}

    def step(self, stop: StopCondition) -> None:
        self._streams.step(stop)
        due, self._due = self._due, []
        for stream in due:
            stream.update = Update(self.flush(stream), stream.frames)

    def poll(self, stream: Stream) -> Update:
        logits = self._streams.latest(stream.key)
        if not self._every and logits is not None and logits is not stream.latest:
            stream.latest = logits
            return Update(_to_numpy(logits), self._streams.frames_of_latest(stream.key))
        return super().poll(stream)

    def flush(self, stream: Stream) -> Logits | None:
        return _to_numpy(self._streams.flush(stream.key))

    def state_dict(self, stream: Stream) -> dict[str, Tensor]:
        seen = {
            f"seen.{i}": torch.from_numpy(stream.history[i].copy())
            for i in self._preprocessor.stateful_steps()
        }
        return {**self._streams.state_dict(stream.key), **seen}

    def load_state_dict(self, stream: Stream, state: StreamState) -> None:
        history = self._preprocessor.initial_history()
        for i in self._preprocessor.stateful_steps():
            history[i] = read_state(state, f"seen.{i}", history[i].shape)
        self._streams.load_state_dict(stream.key, state)
        stream.history, stream.latest, stream.update = history, None, NO_UPDATE

    def flush_state(
        self, state: StreamState, meta: Mapping[str, MetaValue], space: Space
    ) -> Logits | None:
        streams = self._create_streams(amortize=False)
        key = streams.open()
        streams.load_state_dict(key, state)
        return _to_numpy(streams.flush(key))

    def close(self, stream: Stream) -> None:
        self._streams.close(stream.key)


class WindowBackend(StreamingBackend):
    """The network on clips: the latest frames of a stream are run as a clip, in batches.

    Different streams take turns.
    """

    mode: Mode = "window"

    def __init__(self, recognizer: Recognizer, options: StreamOptions) -> None:
        self._recognizer, self._every, self._fps = recognizer, options.every, options.fps
        self._window = options.window or MAX_WINDOW_FRAMES
        self._due: list[tuple[Stream, Batch]] = []

    def open(self, stream: Stream) -> None:
        stream.window = deque(maxlen=self._window)

    def enqueue(self, frames: Mapping[int, tuple[Stream, ValidatedFrame]]) -> Rejected:
        rejected: Rejected = {}
        for key, (stream, given) in frames.items():
            try:
                frame = merge_frames([given], self._recognizer, self._fps)
                window = deque([*stream.window, frame], self._window)
                due = (stream.frames + 1 - stream.number) % self._every == 0
                if due and _is_anyone_visible(window):
                    self._due.append((stream, self._recognizer.batch(join_frames(window))))
                elif frame.valid.any():
                    self._recognizer.batch(frame)  # so that transforms reject a bad frame now
                stream.window = window
            except KinegraphError as error:
                rejected[key] = error
            except Exception:  # the other streams must go on
                rejected[key] = log_failure("the preprocessing of a frame")
        return rejected

    def step(self, stop: StopCondition) -> None:
        due, self._due = self._due, []
        for shape in {batch.x.shape for _, batch in due}:
            streams, batches = zip(*(one for one in due if one[1].x.shape == shape), strict=True)
            logits = self._recognizer.logits(Batch(*map(torch.cat, zip(*batches, strict=True))))
            for stream, row in zip(streams, logits, strict=True):
                stream.update = Update(row, stream.frames)

    def flush(self, stream: Stream) -> Logits | None:
        if not _is_anyone_visible(stream.window):
            return None
        return self._recognizer.logits(self._recognizer.batch(join_frames(stream.window)))[0]

    def state_dict(self, stream: Stream) -> dict[str, Tensor]:
        if not stream.window:
            return {}
        clip = join_frames(stream.window)
        state = {"joints": torch.from_numpy(np.array(clip.joints))}
        if clip.confidence is not None:
            state["confidence"] = torch.from_numpy(np.array(clip.confidence))
        return state

    def load_state_dict(self, stream: Stream, state: StreamState) -> None:
        if set(state) - {"joints", "confidence"}:
            raise ModelError("expected the state of a stream in mode 'window', got one of 'step'")
        window: deque[Clip] = deque(maxlen=self._window)
        if state:
            joints = read_state(state, "joints", (None, None, *input_frame_shape(self._recognizer)))
            T, layout, space = joints.shape[1], self._recognizer.layout, stream.space
            confidences: Sequence[NDArray[np.float32] | None] = [None] * T
            if "confidence" in state:
                confidences = np.split(read_state(state, "confidence", joints.shape[:3]), T, axis=1)
            for frame, confidence in zip(np.split(joints, T, axis=1), confidences, strict=True):
                facts: dict[str, Any] = {"fps": self._fps, "meta": stream.meta, "space": space}
                window.append(Clip(frame, layout, confidence, **facts))
        stream.window, stream.update = window, NO_UPDATE

    def flush_state(
        self, state: StreamState, meta: Mapping[str, MetaValue], space: Space
    ) -> Logits | None:
        stream = Stream(0, meta, space)
        self.load_state_dict(stream, state)
        return self.flush(stream)

    def close(self, stream: Stream) -> None:
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
    return replace(last, joints=joints, confidence=confidence if stated else None)


def read_state(state: StreamState, name: str, shape: Sequence[int | None]) -> NDArray[Any]:
    """Return a copy of a tensor of a state; None in the shape allows any size above 0.

    Raises:
        ModelError: the tensor is missing or has another shape.
    """
    if not isinstance(tensor := state.get(name), Tensor):
        raise ModelError(f"expected the state of a streaming session, got one without {name!r}")
    given = tuple(tensor.shape)
    same = all(wanted in (None, size) for size, wanted in zip(given, shape, strict=False))
    if not same or len(given) != len(shape) or 0 in given:
        raise ModelError(
            f"the state belongs to another model: expected {name!r} of shape {tuple(shape)}, "
            f"got {given}"
        )
    return np.array(tensor.detach().cpu().numpy())


def _to_numpy(logits: Tensor | None) -> Any:
    return None if logits is None else logits.float().cpu().numpy()


def _is_anyone_visible(frames: Iterable[Clip]) -> bool:
    return any(frame.valid.any() for frame in frames)


def _group_alike(frames: Mapping[int, tuple[Stream, ValidatedFrame]]) -> list[list[int]]:
    """Return the keys in groups of frames with the same meta and space, and of one form.

    All or none of a group have a confidence.
    """
    groups: dict[Any, list[int]] = {}
    for key, (stream, frame) in frames.items():
        same = (frame.confidence is None, id(frame.space), tuple(sorted(stream.meta.items())))
        groups.setdefault(same, []).append(key)
    return list(groups.values())
