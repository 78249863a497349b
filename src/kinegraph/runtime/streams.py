"""Streams: a model that is given one frame after the other and answers as they come.

Shapes: C channels, V joints, M persons.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor, nn

from kinegraph.errors import ModelError, unknown_name
from kinegraph.runtime.fuse import fast
from kinegraph.runtime.micro_batching import TOGETHER, StepStreams, checked_frame
from kinegraph.runtime.network import FastNetwork
from kinegraph.runtime.step import check_window

Mode = Literal["auto", "step", "window"]
WINDOW = 300  # frames that are run again at every frame, if nothing else is asked for


class Streams(Protocol):
    """Many streams of one model, each with a key; steps of several are worked on together."""

    def open(self) -> int:
        """Begin a stream; the key to it."""
        ...

    def push(self, frames: Mapping[int, Tensor]) -> dict[int, Tensor | None]:
        """The next frame (C, V, M) of some streams -> the logits (classes,) of each of these.

        None while there is nothing to say yet.

        Raises:
            ModelError: a frame of another shape, an unknown key.
        """
        ...

    def flush(self, key: int) -> Tensor | None:
        """The logits (classes,) of all that was pushed; the stream may go on afterwards."""
        ...

    def close(self, key: int) -> None:
        """End a stream and forget its frames."""
        ...

    def state_dict(self, key: int) -> dict[str, Tensor]:
        """All that the stream is, to go on with it later or elsewhere."""
        ...

    def load_state_dict(self, key: int, state: Mapping[str, Tensor]) -> None:
        """Put a stream where another was.

        Raises:
            ModelError: a state of another model or kind of stream.
        """
        ...


class Stream:
    """One stream of a model.

    >>> from kinegraph.models import create_model
    >>> model = create_model("stgcn", layout="ntu25", num_classes=5, channels=[8], strides=[1])
    >>> stream = open_stream(model.eval())
    >>> for frame in torch.randn(20, 3, 25, 1):
    ...     logits = stream.push(frame)
    >>> stream.flush().shape
    torch.Size([5])
    """

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._key = streams.open()

    def push(self, frame: Tensor) -> Tensor | None:
        """The next frame (C, V, M) -> logits (classes,), None while there is nothing to say yet.

        Raises:
            ModelError: a frame of another shape.
        """
        return self._streams.push({self._key: frame})[self._key]

    def flush(self) -> Tensor | None:
        """The logits (classes,) of all that was pushed, as if the clip ended here.

        None if nothing was pushed. More frames may follow: the stream is not changed.
        """
        return self._streams.flush(self._key)

    def state_dict(self) -> dict[str, Tensor]:
        """All that the stream is, to go on with it later or elsewhere."""
        return self._streams.state_dict(self._key)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on with another stream of the same model.

        Raises:
            ModelError: a state of another model or kind of stream.
        """
        self._streams.load_state_dict(self._key, state)


def open_streams(
    model: nn.Module,
    mode: Mode = "auto",
    *,
    window: int | None = None,
    together: int = TOGETHER,
    spread: bool = True,
) -> Streams:
    """Streams of a model in evaluation mode, whose weights they take as they are now.

    Args:
        model: of `MODELS`, or made by `fast`.
        mode: ``step``: every frame is worked on once, for models that are local in time;
            ``window``: the latest frames are run again with every frame, for any model; ``auto``:
            the first where it can be had.
        window: how many of the latest frames count; None for all since the start, or for 300
            (``window``).
        together: of ``step``: how many frames of a stream are worked on at a time, rounded up to
            what makes a whole feature. Of more, each takes less time, and answers come later.
        spread: of ``step``: this work is spread over as many frames, for all streams together, so
            that no frame has to wait for all of it; answers come later by as many frames again, or
            twice as many where streams wait for each other. Without it all is done when it is due.

    Raises:
        ModelError: a mode that the model cannot have, a window without frames.
        UnknownNameError: no such mode.
    """
    if mode not in get_args(Mode):
        raise unknown_name("stream mode", mode, get_args(Mode))
    network = model if isinstance(model, FastNetwork) else fast(model)
    if mode != "window" and isinstance(network, FastNetwork):
        return StepStreams(network, window, together=together, spread=spread)
    if mode == "step":
        raise ModelError(
            f"{type(model).__name__} is not local in time: what its links are depends on the whole "
            "clip; take mode='window'"
        )
    return WindowStreams(network, WINDOW if window is None else window)


def open_stream(model: nn.Module, mode: Mode = "auto", **options: Any) -> Stream:
    """One stream of a model; the arguments are those of `open_streams`."""
    return Stream(open_streams(model, mode, **options))


class WindowStreams:
    """Streams whose latest frames are run again with every frame, see `open_streams`.

    Args:
        network: (N, C, T, V, M) -> (N, classes).
        window: frames that are run.

    Raises:
        ModelError: a window without frames.
    """

    def __init__(self, network: nn.Module, window: int) -> None:
        check_window(window)
        self.network = network
        self.window = window
        self._frames: dict[int, deque[Tensor]] = {}
        self._opened = 0
        # released AS-GCN leaves the last frames of a clip unseen
        unseen = network.future if getattr(network, "faithful", False) else 0
        self._least = unseen + 1

    def open(self) -> int:
        """Begin a stream; the key to it."""
        self._opened += 1
        self._frames[self._opened] = deque(maxlen=self.window)
        return self._opened

    def push(self, frames: Mapping[int, Tensor]) -> dict[int, Tensor | None]:
        """The next frame (C, V, M) of some streams -> logits (classes,) or None of each."""
        taken = {key: self._checked(frame, self._of(key)) for key, frame in frames.items()}
        for key, frame in taken.items():
            self._frames[key].append(frame)
        return {key: self.flush(key) for key in frames}

    def _checked(self, frame: Tensor, before: Sequence[Tensor]) -> Tensor:
        network = self.network
        persons = before[0].shape[2] if before else getattr(network, "persons", 0) or None
        device = next(network.parameters()).device
        return checked_frame(frame, network.in_channels, network.layout.num_joints, persons, device)

    @torch.inference_mode()
    def flush(self, key: int) -> Tensor | None:
        """The logits (classes,) of the window; None while it is too short."""
        frames = self._of(key)
        if len(frames) < self._least:
            return None
        logits: Tensor = self.network(torch.stack(list(frames), dim=1).unsqueeze(0))
        return logits[0]

    def close(self, key: int) -> None:
        """End a stream and forget its frames."""
        self._of(key)
        del self._frames[key]

    def state_dict(self, key: int) -> dict[str, Tensor]:
        """All that the stream is, to go on with it later or elsewhere; a copy."""
        frames = self._of(key)
        return {"frames": torch.stack(list(frames))} if frames else {}

    def load_state_dict(self, key: int, state: Mapping[str, Tensor]) -> None:
        """Put a stream where another was.

        Raises:
            ModelError: a state of another kind of stream.
        """
        self._of(key)
        if set(state) - {"frames"} or any(t.ndim != 4 for t in state.values()):
            raise ModelError("this is no state of a stream of windows")
        frames: list[Tensor] = []
        for frame in state["frames"] if state else ():
            frames.append(self._checked(frame, frames))
        self._frames[key] = deque(frames, maxlen=self.window)

    def _of(self, key: int) -> deque[Tensor]:
        if key not in self._frames:
            raise ModelError(f"no stream has the key {key!r}: open one first")
        return self._frames[key]
