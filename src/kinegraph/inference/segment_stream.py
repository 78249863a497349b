"""Segmentation of a stream: frames in one by one, the classes of earlier frames out.

The network is that of the whole recording: the backbone computes a short window around the newest
frames, the causal head goes on from its state. So the result is that of the whole recording, late
by the delay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kinegraph.clips.clip import Clip, MetaValue
from kinegraph.errors import ModelError
from kinegraph.inference.backends.exported_model import ExportedModel
from kinegraph.inference.frame_converter import open_converter
from kinegraph.inference.online_preprocessing import (
    FrameValidator,
    OnlinePreprocessor,
    ValidatedFrame,
    input_frame_shape,
)
from kinegraph.inference.segment import Segmenter
from kinegraph.inference.session import StatedSpace
from kinegraph.models.frame_heads import CausalHead
from kinegraph.models.segmenter import FrameSegmenter
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.transforms import Pipeline, to_array
from kinegraph.transforms.input_streams import count_frames_ahead
from kinegraph.transforms.pipeline import STREAM_STEP

_PROBE_FRAMES = 256  # a backbone that reads farther than half of it has no stream


class SegmentationStream:
    """One stream of frames of a run with a causal head.

    >>> stream = SegmentationStream(Segmenter.load("runs/causal"))  # doctest: +SKIP
    >>> for joints in frames: rows = stream.push(joints)  # doctest: +SKIP
    >>> rows = stream.finish()  # doctest: +SKIP

    Args:
        segmenter: the run; its transforms go frame by frame, after ``downsample`` if there is one.
            Streams with motion may be the last of them: a frame then waits for the next one.
        meta, layout, space: of the frames, see `kinegraph.inference.session.open_session`.

    Attributes:
        delay: frames of the stream after a frame until its classes are known, at most.

    Raises:
        ModelError: another head, a backbone that reads the whole recording, or transforms that do;
            an exported file; frames that cannot be converted to those of the model.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        meta: Mapping[str, MetaValue] | None = None,
        layout: str | SkeletonLayout | None = None,
        space: StatedSpace = None,
    ) -> None:
        model = segmenter.model
        if isinstance(model, ExportedModel):
            raise ModelError("an exported segmentation takes whole recordings: stream the run")
        if not isinstance(model, FrameSegmenter) or not isinstance(model.head, CausalHead):
            raise ModelError("a stream needs a causal head: train with head: {name: causal}")
        self._segmenter, self._step = _split_downsample(segmenter)
        self._model, self._head = model, model.head
        self._past, self._future = backbone_reach(model)
        self._meta = dict(meta or {})
        self._converter = open_converter(self._segmenter, layout, space, self._meta, in_steps=True)
        self._space = self._converter.space if self._converter else self._segmenter.frame_space
        self._validate = FrameValidator(self._segmenter)
        self._inputs = _InputFrames(self._segmenter)
        self._state = self._head.initial_state(1)
        self._window: list[Tensor] = []  # inputs (C, V, M) from frame self._window_start on
        self._window_start = 0
        self._featured = 0  # inputs whose features the head has read
        self._headed = 0  # logits that the head has given
        self._raw: list[NDArray[np.float32]] = []  # votes from self._raw_start on, not averaged
        self._raw_start = 0
        self._rows: list[NDArray[np.float32]] = []  # classes of inputs from self._row_start on
        self._row_start = 0
        self._frames = 0  # frames of the stream
        self._returned = 0  # those that were answered
        late = self._inputs.ahead + self._future + self._head.delay + model.stride - 1
        self.delay = late * self._step + self._step // 2

    def push(self, joints: Any, confidence: Any = None) -> NDArray[np.float32]:
        """Take the next frame; return (t, K), the classes of the frames that are now known.

        Frames are answered in order, each once. See `kinegraph.StreamingSession.push` for the
        arguments and errors.
        """
        number, name = self._frames, f"frame {self._frames}"
        if number % self._step:
            self._frames += 1
            return self._answer()
        if self._converter is not None:
            joints, confidence = self._converter(joints, confidence, name)
        frame = self._validate(joints, confidence, name, self._meta, self._space)
        self._window += self._inputs.push(frame)
        self._frames += 1
        last = self._window_start + len(self._window) - self._future
        self._advance(last, is_end=False)
        return self._answer()

    def finish(self) -> NDArray[np.float32]:
        """Return the classes of the frames that are not answered yet; the stream ends."""
        self._window += self._inputs.finish()
        inputs = self._window_start + len(self._window)
        self._advance(inputs, is_end=True)
        return self._answer(inputs)

    @torch.no_grad()
    def _advance(self, stop: int, *, is_end: bool) -> None:
        """Compute the features of the inputs before ``stop``, and the classes that follow."""
        stop = stop if is_end else stop - stop % self._model.stride
        parts = []
        if stop > self._featured:
            x = torch.stack(self._window, dim=1)[None].to(self._segmenter.device)
            features = self._model.frame_features(x)
            start = self._featured - self._window_start
            parts.append(features[..., start : stop - self._window_start])
            self._featured = stop
            stride = self._model.stride
            kept = max(0, stop - self._past) // stride * stride
            del self._window[: max(0, kept - self._window_start)]
            self._window_start = max(self._window_start, kept)
        if is_end and self._head.shift:
            shape = (1, self._head.stages[0].enter.in_channels, self._head.shift)
            parts.append(torch.zeros(shape, device=self._segmenter.device))
        for part in parts:
            logits, self._state = self._head.step(part, self._state)
            rows = [*self._head.vote(logits.float())[0].T.cpu().numpy()]
            skipped = max(0, min(len(rows), self._head.shift - self._headed))
            self._headed += len(rows)
            self._raw += rows[skipped:]  # the first ones belong to no frame
        self._smooth(is_end=is_end)

    def _smooth(self, *, is_end: bool) -> None:
        """Average the rows whose neighbors are known, as `CausalHead.smooth` states."""
        reach, stop = self._head.smooth, self._raw_start + len(self._raw)
        first = self._row_start + len(self._rows)
        for row in range(first, stop if is_end else stop - reach):
            low, high = max(row - reach, 0) - self._raw_start, row + reach + 1 - self._raw_start
            self._rows.append(np.mean(self._raw[low:high], axis=0) if reach else self._raw[low])
        kept = max(0, self._row_start + len(self._rows) - reach)
        del self._raw[: max(0, kept - self._raw_start)]
        self._raw_start = max(self._raw_start, kept)

    def _answer(self, inputs: int | None = None) -> NDArray[np.float32]:
        """Return the classes of further frames, each that of the nearest input.

        Args:
            inputs: how many inputs the stream has in all, at its end.
        """
        found = []
        while self._returned < self._frames:
            nearest = (self._returned + self._step // 2) // self._step
            nearest = nearest if inputs is None else min(nearest, inputs - 1)
            if nearest >= self._row_start + len(self._rows):
                break
            del self._rows[: nearest - self._row_start]
            self._row_start = nearest
            found.append(self._rows[0])
            self._returned += 1
        return np.stack(found) if found else np.zeros((0, len(self._segmenter.classes)), np.float32)


class _InputFrames:
    """The frames of a stream as network inputs (C, V, M), which may depend on later frames.

    Attributes:
        ahead: how many later frames an input depends on.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        header = segmenter.header
        steps = [*header.pipeline().without_length_steps().for_evaluation().steps]
        self.ahead = count_frames_ahead(header.stream) if steps[-1][0] == STREAM_STEP else 0
        self._persons, self._confidence = header.persons, header.confidence
        self._to_stream: Pipeline | None = None
        if self.ahead:
            self._to_stream = Pipeline([steps.pop()], header.stream)
            _, D = input_frame_shape(segmenter)
            transforms, channels = Pipeline(steps).to_list(), D + header.confidence
            header = replace(header, transforms=transforms, stream="joint", in_channels=channels)
            segmenter = Segmenter(segmenter.model, header)
        self._preprocess = OnlinePreprocessor(segmenter)
        self._history = self._preprocess.initial_history()
        self._waiting: list[Clip] = []  # one transformed frame each

    def push(self, frame: ValidatedFrame) -> list[Tensor]:
        """Take the next frame; return the inputs that are now known."""
        if self._to_stream is None:
            (array,), (self._history,) = self._preprocess([frame], [self._history])
            return [torch.from_numpy(array)]
        clip, (self._history,) = self._preprocess.transform([frame], [self._history])
        self._waiting.append(clip)
        if len(self._waiting) <= self.ahead:
            return []
        known = self._compute(self._to_stream)[:1]
        del self._waiting[0]
        return known

    def finish(self) -> list[Tensor]:
        """Return the inputs that are not known yet; the stream ends."""
        known = self._compute(self._to_stream) if self._to_stream and self._waiting else []
        self._waiting.clear()
        return known

    def _compute(self, to_stream: Pipeline) -> list[Tensor]:
        """Return the inputs of the waiting frames, as if the recording had no others."""
        clips = self._waiting
        stated = [clip.confidence for clip in clips if clip.confidence is not None]
        joined = clips[0].with_checked_joints(
            np.concatenate([clip.joints for clip in clips], axis=1),
            np.concatenate(stated, axis=1) if stated else None,
        )
        array = to_array(to_stream(joined), self._persons, self._confidence)
        return [torch.from_numpy(np.ascontiguousarray(array[:, t])) for t in range(len(clips))]


def backbone_reach(model: FrameSegmenter) -> tuple[int, int]:
    """Return how many inputs before and after a frame its features read.

    It is measured: a frame that is not a number makes all features that read it such. Then frames
    farther away are changed, which must change nothing: a network may read them by comparisons.

    Raises:
        ModelError: the features of a frame read the whole recording.
    """
    middle, persons = _PROBE_FRAMES // 2, model.backbone.fixed_persons or 1
    shape = (model.stride, model.in_channels, _PROBE_FRAMES, model.layout.num_joints, persons)
    x = torch.zeros(shape, device=next(model.parameters()).device)
    places = middle + torch.arange(model.stride)
    x[torch.arange(model.stride), :, places] = torch.nan
    with torch.no_grad():
        read = model.frame_features(x).isnan().any(dim=1).cpu()
    reached = [row.nonzero().flatten() for row in read]
    past = max(int(frames[-1]) - int(place) for frames, place in zip(reached, places, strict=True))
    future = max(int(place) - int(frames[0]) for frames, place in zip(reached, places, strict=True))
    if max(past, future) >= middle - model.stride or not _reads_only(model, past, future):
        raise ModelError(
            f"the features of {type(model.backbone).__name__} read the whole recording, so it "
            "cannot be computed as a stream: choose another model, such as stgcn"
        )
    return past, future


@torch.no_grad()
def _reads_only(model: FrameSegmenter, past: int, future: int) -> bool:
    """Return whether frames farther away than these leave the features of a frame as they are."""
    middle = _PROBE_FRAMES // 2 // model.stride * model.stride
    persons, draw = model.backbone.fixed_persons or 1, torch.Generator().manual_seed(0)
    shape = (2, model.in_channels, _PROBE_FRAMES, model.layout.num_joints, persons)
    x = torch.randn(shape, generator=draw)
    near = slice(middle - past, middle + future + 1)
    x[1, :, near] = x[0, :, near]
    found = model.frame_features(x.to(next(model.parameters()).device))[..., middle]
    return torch.allclose(found[0], found[1], rtol=1e-4, atol=1e-5)


def _split_downsample(segmenter: Segmenter) -> tuple[Segmenter, int]:
    """Return the run without its first steps ``downsample``, and the product of their steps."""
    steps, factor = [*segmenter.header.pipeline().for_evaluation().steps], 1
    while steps and steps[0][0] in ("downsample", "reduce_frame"):
        factor *= int(steps.pop(0)[1].get("step", 2))
    header = replace(
        segmenter.header, transforms=Pipeline(steps, segmenter.header.stream).to_list()
    )
    return Segmenter(segmenter.model, header), factor
