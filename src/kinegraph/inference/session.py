"""Streaming sessions: raw frames in, predictions out, for one stream or a pool of many."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import count
from math import isfinite
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kinegraph.clips.clip import MetaValue
from kinegraph.clips.scores import Scores
from kinegraph.errors import (
    ClipError,
    KinegraphError,
    LayoutError,
    ModelError,
    SpaceError,
    TransformError,
)
from kinegraph.inference.answer import Prediction
from kinegraph.inference.frame_converter import open_converter
from kinegraph.inference.online_preprocessing import FrameValidator, ValidatedFrame
from kinegraph.inference.recognizer import Recognizer
from kinegraph.inference.streaming_backends import (
    Logits,
    Stream,
    StreamOptions,
    Update,
    log_failure,
    read_state,
    select_backend,
)
from kinegraph.runtime.micro_batching import CHUNK_FRAMES, StopCondition, no_stop
from kinegraph.runtime.streams import Mode
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.space import Space
from kinegraph.training.checkpoint import DEFAULT_FPS, CheckpointHeader

Window = float | Literal["auto"] | None  # seconds
StatedSpace = Space | str | Mapping[str, Any] | None  # a space, its fields or its kind
UPDATE_INTERVAL_FRAMES = 10  # of a stream in mode `window`
POOL_CHUNK_FRAMES = 4  # fewer than for one stream: the batch of many streams is large enough


class RawFrame(NamedTuple):
    """Joints and confidence of a frame, see `StreamingSession.push`."""

    joints: Any
    confidence: Any = None


class StreamResult(NamedTuple):
    """The latest prediction of a stream.

    Attributes:
        prediction: None as long as there is none.
        frames: after how many frames of the stream it holds; these are fewer than were pushed
            while the work on the latest frames is not finished.
    """

    prediction: Prediction | None
    frames: int


NO_RESULT = StreamResult(None, 0)


class StreamSnapshot(NamedTuple):
    """The state of a stream at a time, as arrays, which pickle much faster than tensors."""

    state: Mapping[str, NDArray[Any]]
    meta: Mapping[str, MetaValue]
    space: Space


class SessionPool:
    """Streams of raw frames that are run together, with the results that each has by itself.

    `push_many` does all the work of a frame. A server that answers before it works calls
    `enqueue`, `poll` and `step`, and `decode` in any process.

    Args:
        recognizer: names the actions.
        mode, window, fps: see `open_session`.
        every: frames between predictions of a stream in mode ``window``, or if they are immediate.
        immediate: whether predictions in mode ``step`` include the latest frames, at the cost of
            running as many frames again as the network lags behind.
        chunk_frames: frames of a stream that are run at a time in mode ``step``; more frames take
            less time each, and predictions lag behind by these.

    Raises:
        ModelError: a mode that this run does not support, a window without frames.
        UnknownNameError: an unknown mode.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        mode: Mode = "auto",
        window: Window = "auto",
        every: int = UPDATE_INTERVAL_FRAMES,
        *,
        fps: float | None = None,
        immediate: bool = False,
        chunk_frames: int = POOL_CHUNK_FRAMES,
    ) -> None:
        frames = window_frames(recognizer.header, window, fps)
        rate = fps or recognizer.header.fps
        options = StreamOptions(mode, frames, every, immediate, chunk_frames, rate)
        self.recognizer = recognizer
        self._validator = FrameValidator(recognizer)
        self._backend = select_backend(recognizer, options)
        self._numbers = count()
        self._streams: dict[int, Stream] = {}
        self._results: dict[int, StreamResult] = {}

    @property
    def mode(self) -> Mode:
        """How frames are run: ``step`` or ``window``."""
        return self._backend.mode

    def __len__(self) -> int:
        return len(self._streams)

    def open(
        self,
        meta: Mapping[str, MetaValue] | None = None,
        layout: str | SkeletonLayout | None = None,
        space: StatedSpace = None,
    ) -> int:
        """Start a stream and return its key. The arguments are those of `open_session`.

        Raises:
            ModelError: the frames cannot be converted to those of the model.
            SpaceError, UnknownNameError: what is stated of them is wrong.
        """
        own = dict(meta or {})
        converter = open_converter(self.recognizer, layout, space, own, self.mode == "step")
        key = next(self._numbers)
        found = self.recognizer.frame_space if converter is None else converter.space
        self._streams[key] = stream = Stream(key, own, found, converter)
        self._backend.open(stream)
        return key

    def num_frames(self, key: int) -> int:
        """Return how many frames were pushed to a stream."""
        return self._stream(key).frames

    def push_many(self, frames: Mapping[int, RawFrame]) -> dict[int, StreamResult | KinegraphError]:
        """Push the next frame of some streams; return the latest result of each of these.

        A frame that does not fit gives its error and leaves its stream unchanged.

        Raises:
            ModelError: an unknown key.
        """
        rejected = self.enqueue(frames)
        self.step()
        return self.decode(self.poll(frames, rejected))

    def enqueue(self, frames: Mapping[int, RawFrame]) -> dict[int, KinegraphError]:
        """Validate and store the next frame of some streams; return the errors by key."""
        rejected: dict[int, KinegraphError] = {}
        validated: dict[int, tuple[Stream, ValidatedFrame]] = {}
        with np.errstate(over="ignore", invalid="ignore"):  # an overflow is rejected as infinite
            for key, frame in frames.items():
                stream = self._stream(key)
                try:
                    name = f"frame {stream.frames}"
                    if stream.converter is not None:
                        frame = RawFrame(*stream.converter(*frame, name))
                    meta, space = stream.meta, stream.space
                    validated[key] = stream, self._validator(*frame, name, meta, space)
                except (ClipError, LayoutError, SpaceError, TransformError) as error:
                    rejected[key] = error
                except Exception:  # the other streams must go on
                    rejected[key] = log_failure("the conversion of a frame")
            rejected |= self._backend.enqueue(validated)
        for key in frames:
            self._streams[key].frames += key not in rejected
        return rejected

    def step(self, stop: StopCondition = no_stop) -> None:
        """Run the share of work that is due for the stored frames; see `StepStreams.step`."""
        self._backend.step(stop)

    def poll(
        self, keys: Iterable[int], rejected: Mapping[int, KinegraphError]
    ) -> dict[int, Update | KinegraphError]:
        """Return what is new of some streams, or the errors of `enqueue`."""
        return {key: rejected.get(key) or self._backend.poll(self._stream(key)) for key in keys}

    def decode(
        self, updates: Mapping[int, Update | KinegraphError]
    ) -> dict[int, StreamResult | KinegraphError]:
        """Return the latest result of each stream, with the logits of updates as predictions."""
        new = {k: u for k, u in updates.items() if isinstance(u, Update) and u.logits is not None}
        predictions = self._predictions([u.logits for u in new.values() if u.logits is not None])
        for (key, update), prediction in zip(new.items(), predictions, strict=True):
            self._results[key] = StreamResult(prediction, update.frames)
        return {
            key: one if isinstance(one, KinegraphError) else self._results.get(key, NO_RESULT)
            for key, one in updates.items()
        }

    def flush(self, key: int) -> Prediction | None:
        """Return the prediction for all frames so far, as if the stream ended here.

        More frames may follow. The cost is that of as many frames as the network lags behind.
        """
        stream = self._stream(key)
        return self._prediction(self._backend.flush(stream) if stream.frames else None)

    def snapshot(self, key: int) -> StreamSnapshot:
        """Return the present state of a stream for `decode_snapshot`."""
        stream = self._stream(key)
        state = self._backend.state_dict(stream) if stream.frames else {}
        arrays = {name: tensor.cpu().numpy() for name, tensor in state.items()}
        return StreamSnapshot(arrays, stream.meta, stream.space)

    def decode_snapshot(self, snapshot: StreamSnapshot) -> Prediction | None:
        """Return what `flush` gave when the snapshot was taken. Safe in any thread."""
        if not snapshot.state:
            return None
        state = {name: torch.tensor(array) for name, array in snapshot.state.items()}
        return self._prediction(self._backend.flush_state(state, snapshot.meta, snapshot.space))

    def state_dict(self, key: int) -> dict[str, Tensor]:
        """Return all state of a stream, to continue it later or elsewhere."""
        stream, latest = self._stream(key), self._results.get(key, NO_RESULT)
        state = {"frames": torch.tensor(stream.frames), **self._backend.state_dict(stream)}
        if latest.prediction is not None:
            state["latest"] = torch.from_numpy(np.array(latest.prediction.logits))
            state["latest_frames"] = torch.tensor(latest.frames)
        return state

    def load_state_dict(self, key: int, state: Mapping[str, Tensor]) -> None:
        """Continue from the state of another stream of the same model and mode.

        Raises:
            ModelError: the state of another model or mode; the stream is unchanged.
        """
        stream, result = self._stream(key), NO_RESULT
        frames = _read_count(state, "frames")
        if "latest" in state:
            logits = read_state(state, "latest", (self.recognizer.header.num_classes,))
            result = StreamResult(self._prediction(logits), _read_count(state, "latest_frames"))
        own = {"frames", "latest", "latest_frames"}
        rest = {name: tensor for name, tensor in state.items() if name not in own}
        self._backend.load_state_dict(stream, rest)
        stream.frames, self._results[key] = frames, result

    def close(self, key: int) -> None:
        """End a stream and free its frames."""
        self._backend.close(self._stream(key))
        del self._streams[key]
        self.drop(key)

    def drop(self, key: int) -> None:
        """Delete the latest result of a stream."""
        self._results.pop(key, None)

    def _predictions(self, logits: list[Logits]) -> list[Prediction]:
        if not logits:
            return []
        names, unlabeled = ("stream",) * len(logits), np.full(len(logits), -1)
        return self.recognizer.decode(Scores(names, unlabeled, np.stack(logits)))

    def _prediction(self, logits: Logits | None) -> Prediction | None:
        return None if logits is None else self._predictions([logits])[0]

    def _stream(self, key: int) -> Stream:
        if key not in self._streams:
            raise ModelError(f"no stream has the key {key!r}: open one first")
        return self._streams[key]


class StreamingSession:
    """One stream of raw frames, answered frame by frame; see `open_session`."""

    def __init__(
        self,
        pool: SessionPool,
        meta: Mapping[str, MetaValue] | None = None,
        layout: str | SkeletonLayout | None = None,
        space: StatedSpace = None,
    ) -> None:
        self._pool = pool
        self._key = pool.open(meta, layout, space)

    @property
    def mode(self) -> Mode:
        """How frames are run: ``step`` or ``window``."""
        return self._pool.mode

    @property
    def frames(self) -> int:
        """How many frames were pushed."""
        return self._pool.num_frames(self._key)

    def push(self, joints: Any, confidence: Any = None) -> Prediction | None:
        """Push the next frame; return the latest prediction, None as long as there is none.

        Args:
            joints: (M, V, D), or (V, D) of one person; NaN where a joint is not visible. A person
                keeps its index from frame to frame; absent persons are all NaN, or left out at the
                end.
            confidence: (M, V), or (V,) of one person, in [0, 1].

        Raises:
            ClipError: an array of another shape than the skeleton, or infinite values.
            TransformError: the run's transforms do not fit the frame.
                After either the session is unchanged.
        """
        result = self._pool.push_many({self._key: RawFrame(joints, confidence)})[self._key]
        if isinstance(result, KinegraphError):
            raise result
        return result.prediction

    def flush(self) -> Prediction | None:
        """Return the prediction for all frames so far, as if the stream ended here.

        More frames may follow.
        """
        return self._pool.flush(self._key)

    def state_dict(self) -> dict[str, Tensor]:
        """Return all state of the session, to continue it later or elsewhere."""
        return self._pool.state_dict(self._key)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from the state of another session of the same model and mode.

        Raises:
            ModelError: the state of another model or mode; the stream is unchanged.
        """
        self._pool.load_state_dict(self._key, state)


def open_session(
    recognizer: Recognizer,
    mode: Mode = "auto",
    window: Window = "auto",
    every: int | None = None,
    meta: Mapping[str, MetaValue] | None = None,
    fps: float | None = None,
    layout: str | SkeletonLayout | None = None,
    space: StatedSpace = None,
) -> StreamingSession:
    """Open a streaming session: it takes raw frames one by one and returns predictions.

    Args:
        recognizer: names the actions.
        mode: ``step`` computes each frame once. It needs a model that is local in time, and
            transforms that process frames one by one; transforms that change the length of clips
            are skipped. ``window`` computes the latest frames as a clip for every prediction.
            ``auto`` is ``step`` if possible, else ``window``.
        window: seconds before the latest frame that a prediction covers: ``auto`` for the value
            in the run's header (by default 3), None for all frames since the start. In mode
            ``step`` it is rounded up to the temporal stride (4 frames for ST-GCN).
        every: frames between predictions; each prediction includes the latest frame. By default
            there is a prediction after every frame. In mode ``step`` these predictions lag behind
            (by 76 frames for ST-GCN as published), because a feature depends on later frames. With
            ``every``, ``step`` computes the frames of this lag again for each prediction.
        meta: facts about the recording that transforms need, as in `Clip.meta`: ``width`` and
            ``height`` of its images.
        fps: frames per second of the stream, for the window and the step ``resample``; by default
            those of the run's training clips. If these are unknown, the window is of 30, and
            frames are not resampled.
        layout: the layout of the frames, by default the model's (`TrainedModel.layout`).
        space: what the coordinates of the frames mean: a `Space`, its fields, or its kind. By
            default that of the model (`TrainedModel.frame_space`), or the usual space of another
            layout. Frames are converted one by one, as `kinegraph predict` converts clips.

    Raises:
        ModelError: a mode that this run does not support, a window without frames; frames that
            cannot be converted to those of the model, or whose unit is not stated.
        SpaceError, UnknownNameError: an unknown mode, layout or space.
    """
    interval, immediate = 1 if every is None else every, every is not None
    pool = SessionPool(
        recognizer, mode, window, interval, fps=fps, immediate=immediate, chunk_frames=CHUNK_FRAMES
    )
    return StreamingSession(pool, meta, layout, space)


def window_frames(header: CheckpointHeader, window: Window, fps: float | None = None) -> int | None:
    """Return the frames of a window of a run's streams, None for all; see `open_session`.

    Raises:
        ModelError: seconds or frames per second that are not finite and above 0.
    """
    if window is None:
        return None
    seconds = header.stream_window_seconds if window == "auto" else window
    rate = fps or header.fps or DEFAULT_FPS
    for name, value in (("window", seconds), ("fps", rate)):
        if not isinstance(value, int | float) or not isfinite(value) or value <= 0:
            raise ModelError(f"expected {name} to be a finite number above 0, got {value!r}")
    return max(1, round(seconds * rate))


def _read_count(state: Mapping[str, Tensor], name: str) -> int:
    number = read_state(state, name, ())
    if number.dtype.kind != "i" or number < 0:
        raise ModelError(f"{name!r} in the state of a session is not a number of frames")
    return int(number)
