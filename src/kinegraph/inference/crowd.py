"""Many streams of raw frames of one recogniser: whoever has a frame is worked on together."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
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
from kinegraph.models.step_streams import FARTHEST
from kinegraph.models.stream import Mode, open_streams
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
        frames: after how many of its frames a stream that does not take turns says the same. An
            answer lags behind the frames that were pushed while others have their turn.
    """

    answer: Answer | None
    frames: int


NOTHING = Told(None, 0)


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
        found: dict[int, Told | KinegraphError] = {}
        raw: dict[int, Raw] = {}
        with np.errstate(over="ignore", invalid="ignore"):
            for key, frame in frames.items():
                line = self._of(key)
                try:
                    raw[key] = self._raw(*frame, f"frame {line.frames}", line.meta)
                except ClipError as error:
                    found[key] = error
            pushed = self._together.push({k: (self._lines[k].own, one) for k, one in raw.items()})
        found |= {key: one for key, one in pushed.items() if isinstance(one, KinegraphError)}
        self._note({key: one for key, one in pushed.items() if isinstance(one, _Pushed)})
        return {key: found.get(key) or self._lines[key].told for key in frames}

    def flush(self, key: int) -> Answer | None:
        """The answer to all that was pushed, as if it ended here; the stream may go on."""
        return self.ending(key)()

    def ending(self, key: int) -> Callable[[], Answer | None]:
        """A function that does the work of `flush`, in any thread and whatever comes meanwhile."""
        line = self._of(key)
        if not line.frames:
            return lambda: None
        work = self._together.ending(line.own)

        def answer() -> Answer | None:
            logits = work()
            return None if logits is None else self._answers([logits])[0]

        return answer

    def close(self, key: int) -> None:
        """End a stream and forget its frames."""
        self._together.close(self._of(key).own)
        del self._lines[key]

    def _note(self, pushed: Mapping[int, _Pushed]) -> None:
        """What the frames have brought, as the latest of their streams."""
        fresh = {key: one for key, one in pushed.items() if one.logits is not None}
        answers = self._answers([one.logits for one in fresh.values() if one.logits is not None])
        for key, answer in zip(fresh, answers, strict=True):
            self._lines[key].told = Told(answer, pushed[key].frames)
        for key in pushed:
            self._lines[key].frames += 1

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
    """A stream: what its way of working keeps of it, and what it has come to."""

    own: Any
    meta: dict[str, MetaValue]
    frames: int = 0
    told: Told = NOTHING


class _Pushed(NamedTuple):
    """What a frame has brought: logits if they are new, and after how many frames they hold."""

    logits: Logits | None
    frames: int


Work = Callable[[], Logits | None]


class _Together(Protocol):
    """A way of working; each stream is known by what `open` gave for it."""

    mode: Mode

    def open(self, number: int) -> Any: ...

    def push(self, frames: Mapping[int, tuple[Any, Raw]]) -> dict[int, _Pushed | KinegraphError]:
        """The next frame of some streams, under any names."""
        ...

    def ending(self, own: Any) -> Work: ...

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
    """A stream of steps: its key, what it has seen, how many answers there were, and the latest."""

    key: int
    seen: Sightings
    answers: int = 0
    latest: Tensor | None = None


class _StepsTogether:
    """Each frame once, and all of them in one call of the step network."""

    mode: Mode = "step"

    def __init__(self, recognizer: Recognizer, network: FastNetwork, window: int | None) -> None:
        self._ready = Ready(recognizer)
        self._device = recognizer.device
        self._network, self._window = network, window
        self._streams = open_streams(network, "step", window=window, together=TOGETHER)
        #: after how many frames there is an answer, and how many there are between two
        self._every = -(-TOGETHER // network.hop) * network.hop
        worked_on = -(-network.first_answer // self._every) * self._every
        self._first = worked_on - (network.hop - 1)  # these do not belong to the clip

    def open(self, number: int) -> _Stepped:
        return _Stepped(self._streams.open(), self._ready.blank())

    def push(
        self, frames: Mapping[int, tuple[_Stepped, Raw]]
    ) -> dict[int, _Pushed | KinegraphError]:
        found: dict[int, _Pushed | KinegraphError] = {}
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

    def _noted(self, own: _Stepped, logits: Tensor | None) -> _Pushed:
        """Streams give the same tensor until there is another answer."""
        if logits is None or logits is own.latest:
            return _Pushed(None, 0)
        frames = self._first + own.answers * self._every
        own.latest, own.answers = logits, own.answers + 1
        return _Pushed(logits.float().cpu().numpy(), frames)

    def ending(self, own: _Stepped) -> Work:
        state = self._streams.state_dict(own.key)
        network, window = self._network, self._window

        def work() -> Logits | None:
            alone = open_streams(network, "step", window=window)
            key = alone.open()
            alone.load_state_dict(key, state)
            logits = alone.flush(key)
            return None if logits is None else logits.float().cpu().numpy()

        return work

    def close(self, own: _Stepped) -> None:
        self._streams.close(own.key)


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
    ) -> dict[int, _Pushed | KinegraphError]:
        found: dict[int, _Pushed | KinegraphError] = {}
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
                found[key] = _Pushed(None, 0)
            except KinegraphError as error:
                found[key] = error
        for keys in _of_a_shape(due):
            for key, logits in zip(keys, self._answered([due[k] for k in keys]), strict=True):
                found[key] = _Pushed(logits, frames[key][0].pushed)
        return found

    def _answered(self, batches: list[Batch]) -> Logits:
        parts = zip(*batches, strict=True)
        return self._recognizer.logits(Batch(*(torch.cat(tensors) for tensors in parts)))

    def ending(self, own: _Windowed) -> Work:
        frames = list(own.frames)

        def work() -> Logits | None:
            if not _seen(frames):
                return None
            return self._recognizer.logits(self._recognizer.batch(joined(frames)))[0]

        return work

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
