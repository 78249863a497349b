"""Streams of a model: frames in one by one, logits out, by steps or by windows.

Shapes: C channels, V joints, M persons.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor, nn

from kinegraph.errors import ModelError, unknown_name
from kinegraph.runtime.fuse import optimize_for_inference
from kinegraph.runtime.micro_batching import CHUNK_FRAMES, StepStreams, validate_frame
from kinegraph.runtime.network import InferenceNetwork, PersonNetwork
from kinegraph.runtime.step import MAX_WINDOW_FRAMES, check_window

Mode = Literal["auto", "step", "window"]


class StreamBatch(Protocol):
    """Many streams of one model, each with a key, computed together."""

    def open(self) -> int:
        """Open a stream and return its key."""

    def push(self, frames: Mapping[int, Tensor]) -> dict[int, Tensor | None]:
        """Push the next frame (C, V, M) of some streams; return the logits (classes,) of each.

        None where there is no answer yet.

        Raises:
            ModelError: a frame of another shape, an unknown key.
        """

    def flush(self, key: int) -> Tensor | None:
        """Return the logits (classes,) of all that was pushed, as if the clip ended here.

        The stream may continue. None while the clip is too short.
        """

    def close(self, key: int) -> None:
        """End a stream and drop its frames."""

    def state_dict(self, key: int) -> dict[str, Tensor]:
        """Return copies of all that is needed to continue the stream later or elsewhere."""

    def load_state_dict(self, key: int, state: Mapping[str, Tensor]) -> None:
        """Continue another stream in place of this one.

        Raises:
            ModelError: a state of another model, number of persons, window, or kind of stream.
        """


def open_streams(
    model: nn.Module,
    mode: Mode = "auto",
    *,
    window: int | None = None,
    chunk: int = CHUNK_FRAMES,
    amortize: bool = True,
) -> StreamBatch:
    """Return streams of a model in evaluation mode, with the weights that it has now.

    >>> from kinegraph.models import create_model
    >>> model = create_model("stgcn", layout="ntu25", num_classes=5, channels=[8], strides=[1])
    >>> streams = open_streams(model)
    >>> key = streams.open()
    >>> for frame in torch.randn(20, 3, 25, 1):
    ...     logits = streams.push({key: frame})[key]
    >>> streams.flush(key).shape
    torch.Size([5])

    Args:
        model: keeps the contract of `kinegraph.models.base.SkeletonModel`, or is made by
            `optimize_for_inference`.
        mode: ``step``: every frame is computed once, for models that are local in time;
            ``window``: the latest frames are computed again with every frame, for any model;
            ``auto``: the first where it is possible.
        window: how many of the latest frames count; None for all since the start.
        chunk: of ``step``: how many frames of a stream are computed at a time, rounded up to what
            makes a whole feature. Larger chunks take less time a frame, and answers come later.
        amortize: of ``step``: this work is spread over as many frames, for all streams together,
            so that no frame has to wait for all of it; answers come later by as many frames again,
            or twice as many where streams wait for each other. Without it all is done when due.

    Raises:
        ModelError: a mode that is not possible for the model, a window without frames.
        UnknownNameError: an unknown mode.
    """
    if mode not in get_args(Mode):
        raise unknown_name("stream mode", mode, get_args(Mode))
    network = optimize_for_inference(model)
    if mode != "window" and isinstance(network, PersonNetwork):
        return StepStreams(network, window, chunk=chunk, amortize=amortize)
    if mode == "step":
        raise ModelError(
            f"mode 'step' is not possible: {type(model).__name__} is not local in time "
            f"({network.reason}); use mode='window'"
        )
    return WindowStreams(network, MAX_WINDOW_FRAMES if window is None else window)


class WindowStreams(StreamBatch):
    """Streams whose latest frames are computed again with every frame, see `open_streams`.

    Args:
        network: of the model.
        window: frames.

    Raises:
        ModelError: a window without frames.
    """

    def __init__(self, network: InferenceNetwork, window: int) -> None:
        check_window(window)
        self.network = network
        self.window = window
        self._frames: dict[int, deque[Tensor]] = {}
        self._opened = 0

    def open(self) -> int:
        self._opened += 1
        self._frames[self._opened] = deque(maxlen=self.window)
        return self._opened

    def push(self, frames: Mapping[int, Tensor]) -> dict[int, Tensor | None]:
        checked = {key: self._validate(frame, self._of(key)) for key, frame in frames.items()}
        for key, frame in checked.items():
            self._frames[key].append(frame)
        return {key: self.flush(key) for key in frames}

    def _validate(self, frame: Tensor, before: Sequence[Tensor]) -> Tensor:
        persons = before[0].shape[2] if before else self.network.persons
        return validate_frame(self.network, frame, persons)

    @torch.inference_mode()
    def flush(self, key: int) -> Tensor | None:
        frames = self._of(key)
        if len(frames) < self.network.min_frames:
            return None
        logits: Tensor = self.network(torch.stack(list(frames), dim=1).unsqueeze(0))
        return logits[0]

    def close(self, key: int) -> None:
        self._of(key)
        del self._frames[key]

    def state_dict(self, key: int) -> dict[str, Tensor]:
        frames = self._of(key)
        return {"frames": torch.stack(list(frames))} if frames else {}

    def load_state_dict(self, key: int, state: Mapping[str, Tensor]) -> None:
        self._of(key)
        if set(state) - {"frames"} or any(t.ndim != 4 for t in state.values()):
            raise ModelError("expected a state of a stream in window mode")
        frames: list[Tensor] = []
        for frame in state["frames"] if state else ():
            frames.append(self._validate(frame, frames))
        self._frames[key] = deque(frames, maxlen=self.window)

    def _of(self, key: int) -> deque[Tensor]:
        if key not in self._frames:
            raise ModelError(f"unknown stream key {key!r}: open a stream first")
        return self._frames[key]
