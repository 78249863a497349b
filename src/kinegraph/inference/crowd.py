"""Many streams of raw frames of one recogniser: whoever has a frame is worked on together."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kinegraph.clips.clip import Clip, MetaValue
from kinegraph.errors import ClipError, KinegraphError, ModelError, TransformError, unknown_name
from kinegraph.inference.ready import Raw, RawFrames, Ready, Sightings
from kinegraph.inference.scores import Scores
from kinegraph.inference.stream import WINDOW, joined, step_network
from kinegraph.models.step_streams import FARTHEST, StepStreams
from kinegraph.models.stream import Mode
from kinegraph.training.objectives import Batch

if TYPE_CHECKING:
    from kinegraph.inference.recognizer import Answer, Recognizer
    from kinegraph.models.fast_network import FastNetwork

Array = NDArray[np.float32]
Logits = NDArray[np.float32]
TOGETHER = 4  # frames of a stream that are worked on at a time; with many streams that is enough
EVERY = 10  # frames between the answers of a stream of windows
REFUSALS = (ClipError, TransformError, ModelError)


class Frame(NamedTuple):
    """A raw frame, see `ActionStream.push`."""

    joints: Any
    confidence: Any = None


class Told(NamedTuple):
    """What is known of a stream.

    Attributes:
        answer: the latest; None while there is nothing to say.
        frames: after how many of its frames a stream whose work is not spread says the same. An
            answer lags behind the frames that were pushed while these are worked on.
    """

    answer: Answer | None
    frames: int


class Pushed(NamedTuple):
    """What a frame has brought: logits if they are new, and after how many frames they hold."""

    logits: Logits | None
    frames: int


NOTHING = Told(None, 0)


class Ending(NamedTuple):
    """A stream as it was at a time; None if it had no frames."""

    state: Any


class Crowd:
    """Streams of raw frames, worked on together; each answers as an `ActionStream` of its own.

    In ``step`` mode an answer is about the frames whose neighbours in time are known, as that of
    ``Recognizer.stream()``. In ``window`` mode it is that of ``Recognizer.stream("window")``, given
    every so many frames.

    Args:
        recognizer: who answers.
        mode: as for `Recognizer.stream`.
        window: as for `Recognizer.stream`.
        every: frames between the answers of a stream of windows.

    Raises:
        ModelError: a mode that this run cannot have, a window without frames.
        UnknownNameError: no such mode.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        mode: Mode = "auto",
        window: int | None = None,
        every: int = EVERY,
    ) -> None:
        if mode not in get_args(Mode):
            raise unknown_name("stream mode", mode, get_args(Mode))
        if every < 1:
            raise ModelError(f"expected an answer every 1 or more frames, got every={every}")
        self.recognizer = recognizer
        self._raw = RawFrames(recognizer)
        self._together = _together(recognizer, mode, window, every)
        self._numbers = count()
        self._lines: dict[int, _Line] = {}
        self._told: dict[int, Told] = {}

    @property
    def mode(self) -> Mode:
        """How frames are worked on: ``step`` or ``window``."""
        return self._together.mode

    def __len__(self) -> int:
        return len(self._lines)

    def open(self, meta: Mapping[str, MetaValue] | None = None) -> int:
        """Begin a stream; the key to it. ``meta`` is as for `Recognizer.stream`."""
        key = next(self._numbers)
        self._lines[key] = _Line(self._together.open(key), dict(meta or {}))
        return key

    def push_many(self, frames: Mapping[int, Frame]) -> dict[int, Told | KinegraphError]:
        """The next frame of some streams -> what is known of each of these.

        A frame that is refused gives its error and leaves its stream as it was; the others go on.

        Raises:
            ModelError: no stream has that key.
        """
        return self.tell(self.work(frames))

    def work(self, frames: Mapping[int, Frame]) -> dict[int, Pushed | KinegraphError]:
        """The first half of `push_many`: what the next frames bring."""
        found: dict[int, Pushed | KinegraphError] = {}
        raw: dict[int, Raw] = {}
        with np.errstate(over="ignore", invalid="ignore"):
            for key, frame in frames.items():
                line = self._of(key)
                try:
                    raw[key] = self._raw(*frame, f"frame {line.frames}", line.meta)
                except ClipError as error:
                    found[key] = error
            found |= self._together.push({k: (self._lines[k].own, one) for k, one in raw.items()})
        for key, one in found.items():
            self._lines[key].frames += not isinstance(one, KinegraphError)
        return {key: found[key] for key in frames}

    def tell(
        self, found: Mapping[int, Pushed | KinegraphError]
    ) -> dict[int, Told | KinegraphError]:
        """The second half of `push_many`: what is known by now, in names and probabilities."""
        fresh = [
            (key, one.frames, one.logits)
            for key, one in found.items()
            if isinstance(one, Pushed) and one.logits is not None
        ]
        answers = self._answers([logits for _, _, logits in fresh])
        for (key, frames, _), answer in zip(fresh, answers, strict=True):
            self._told[key] = Told(answer, frames)
        return {
            key: one if isinstance(one, KinegraphError) else self._told.get(key, NOTHING)
            for key, one in found.items()
        }

    def flush(self, key: int) -> Answer | None:
        """The answer to all that was pushed, as if it ended here; the stream may go on."""
        return self.answer_to(self.ending(key))

    def ending(self, key: int) -> Ending:
        """What `answer_to` needs to know of a stream, as it is now."""
        line = self._of(key)
        return Ending(self._together.ending(line.own) if line.frames else None)

    def answer_to(self, ending: Ending) -> Answer | None:
        """The answer to all that was pushed by then; any thread may ask, whatever comes meanwhile.

        It takes as long as many frames.
        """
        logits = None if ending.state is None else self._together.ended(ending.state)
        return None if logits is None else self._answers([logits])[0]

    def close(self, key: int) -> None:
        """End a stream and forget its frames."""
        self._together.close(self._of(key).own)
        del self._lines[key]
        self.forget(key)

    def forget(self, key: int) -> None:
        """Forget what was told of a stream."""
        self._told.pop(key, None)

    def _answers(self, logits: list[Logits]) -> list[Answer]:
        if not logits:
            return []
        names = ("stream",) * len(logits)
        return self.recognizer.answers(Scores(names, np.full(len(logits), -1), np.stack(logits)))

    def _of(self, key: int) -> _Line:
        if key not in self._lines:
            raise ModelError(f"no stream has the key {key!r}: open one first")
        return self._lines[key]


@dataclass
class _Line:
    """A stream: what its way of working keeps of it, and how many frames it was given."""

    own: Any
    meta: dict[str, MetaValue]
    frames: int = 0


class _Together(Protocol):
    """A way of working; each stream is known by what `open` gave for it."""

    mode: Mode

    def open(self, number: int) -> Any: ...

    def push(self, frames: Mapping[int, tuple[Any, Raw]]) -> dict[int, Pushed | KinegraphError]:
        """The next frame of some streams, under any names."""
        ...

    def ending(self, own: Any) -> Any: ...

    def ended(self, state: Any) -> Logits | None: ...

    def close(self, own: Any) -> None: ...


def _together(recognizer: Recognizer, mode: Mode, window: int | None, every: int) -> _Together:
    network = None if mode == "window" else step_network(recognizer)
    if network is not None:
        return _StepsTogether(recognizer, network, window)
    if mode == "step":
        Ready(recognizer)  # says which transforms are in the way, if any are
        raise ModelError("mode 'step': this model is not local in time; take mode 'window'")
    return _WindowsTogether(recognizer, WINDOW if window is None else window, every)


@dataclass
class _Stepped:
    """A stream of steps: its key, what it has seen, and its latest logits."""

    key: int
    seen: Sightings
    latest: Tensor | None = None


class _StepsTogether:
    """Each frame once, and all of them in one call of the step network."""

    mode: Mode = "step"

    def __init__(self, recognizer: Recognizer, network: FastNetwork, window: int | None) -> None:
        self._ready = Ready(recognizer)
        self._device = recognizer.device
        self._network, self._window = network, window
        self._streams = StepStreams(network, window, together=TOGETHER, spread=True)

    def open(self, number: int) -> _Stepped:
        return _Stepped(self._streams.open(), self._ready.blank())

    def push(
        self, frames: Mapping[int, tuple[_Stepped, Raw]]
    ) -> dict[int, Pushed | KinegraphError]:
        found: dict[int, Pushed | KinegraphError] = {}
        pushed: dict[int, Tensor] = {}
        for group in _alike(frames):
            for key, result in self._made_ready(group, frames).items():
                if isinstance(result, KinegraphError):
                    found[key] = result
                else:
                    own = frames[key][0]
                    pushed[own.key] = torch.from_numpy(result[0]).to(self._device)
                    own.seen = result[1]
        logits = self._streams.push(pushed) if pushed else {}
        for key in frames:
            if key not in found:
                found[key] = self._noted(frames[key][0], logits[frames[key][0].key])
        return found

    def _made_ready(
        self, keys: list[int], frames: Mapping[int, tuple[_Stepped, Raw]]
    ) -> dict[int, tuple[Array, Sightings] | KinegraphError]:
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

    def _noted(self, own: _Stepped, logits: Tensor | None) -> Pushed:
        """Streams give the same tensor until there is another answer."""
        if logits is None or logits is own.latest:
            return Pushed(None, 0)
        own.latest = logits
        return Pushed(logits.float().cpu().numpy(), self._streams.known(own.key))

    def ending(self, own: _Stepped) -> dict[str, _Packed]:
        return {name: _packed(t) for name, t in self._streams.state_dict(own.key).items()}

    def ended(self, state: dict[str, _Packed]) -> Logits | None:
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
    """A stream of windows: its latest frames, and how far it is to its next turn."""

    frames: deque[Clip]
    wait: int
    pushed: int = 0


class _WindowsTogether:
    """The latest frames of a stream as a clip, whenever it is its turn; such clips in batches."""

    mode: Mode = "window"

    def __init__(self, recognizer: Recognizer, window: int, every: int) -> None:
        if window < 1:
            raise ModelError(f"expected a window of at least one frame, got {window}")
        self._recognizer, self._raw = recognizer, RawFrames(recognizer)
        self._window, self._every = window, every

    def open(self, number: int) -> _Windowed:
        return _Windowed(deque(maxlen=self._window), number % self._every)

    def push(
        self, frames: Mapping[int, tuple[_Windowed, Raw]]
    ) -> dict[int, Pushed | KinegraphError]:
        found: dict[int, Pushed | KinegraphError] = {}
        due: dict[int, Batch] = {}
        for key, (own, given) in frames.items():
            try:
                frame = self._raw.clip(given)
                latest = deque([*own.frames, frame], self._window)
                if (own.pushed + 1 - own.wait) % self._every == 0 and _seen(latest):
                    due[key] = self._recognizer.batch(joined(latest))
                elif frame.valid.any():
                    self._recognizer.batch(frame)  # what transforms refuse is refused now
                own.frames, own.pushed = latest, own.pushed + 1
                found[key] = Pushed(None, 0)
            except KinegraphError as error:
                found[key] = error
        for keys in _of_a_shape(due):
            for key, logits in zip(keys, self._answered([due[k] for k in keys]), strict=True):
                found[key] = Pushed(logits, frames[key][0].pushed)
        return found

    def _answered(self, batches: list[Batch]) -> Logits:
        parts = zip(*batches, strict=True)
        return self._recognizer.logits(Batch(*(torch.cat(tensors) for tensors in parts)))

    def ending(self, own: _Windowed) -> list[Clip]:
        return list(own.frames)

    def ended(self, state: list[Clip]) -> Logits | None:
        if not _seen(state):
            return None
        return self._recognizer.logits(self._recognizer.batch(joined(state)))[0]

    def close(self, own: _Windowed) -> None:
        own.frames.clear()


def _seen(frames: Iterable[Clip]) -> bool:
    """Whether anybody is."""
    return any(frame.valid.any() for frame in frames)


def _alike(frames: Mapping[int, tuple[Any, Raw]]) -> list[list[int]]:
    """Keys of frames that state the same things, and so can be made ready together."""
    groups: dict[Any, list[int]] = {}
    for key, (_, frame) in frames.items():
        same = (frame.confidence is None, tuple(sorted(frame.meta.items())))
        groups.setdefault(same, []).append(key)
    return list(groups.values())


def _of_a_shape(batches: Mapping[int, Batch]) -> list[list[int]]:
    groups: dict[Any, list[int]] = {}
    for key, batch in batches.items():
        groups.setdefault(tuple(batch.x.shape), []).append(key)
    return list(groups.values())
