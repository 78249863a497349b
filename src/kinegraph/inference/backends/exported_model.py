"""A model in an exported file: its manifest, its interface, and a module that runs it.

Shapes: N clips, C channels, T frames, V joints, M persons, S streams, f frames of a step.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import torch
from pydantic import AfterValidator, AllowInfNan, Field
from torch import Tensor, nn

from kinegraph.errors import ExportError, ModelError
from kinegraph.inference.backends.file_checksum import damaged_file, verify_file
from kinegraph.inference.backends.runtimes import FORMATS, Run, format_of
from kinegraph.plain_text import parse_json
from kinegraph.training.checkpoint import CheckpointHeader
from kinegraph.training.header_fields import STRICT, parse_fields

#: 1: .onnx and .xml files may have no checksum.
VERSION = 2
MAX_INTERFACE_FRAMES = 100_000
MAX_STATE_NUMBERS = 1 << 24  # of a state tensor of one stream


def _check_state_shape(shape: Sequence[int]) -> Sequence[int]:
    if math.prod(shape) > MAX_STATE_NUMBERS:
        raise ValueError(f"expected at most {MAX_STATE_NUMBERS} numbers, got {math.prod(shape)}")
    return shape


@dataclass(frozen=True)
class StateSpec:
    """One state tensor of a step network, with a row for each stream.

    Attributes:
        shape: of a row.
        dtype: its name in torch, such as float32.
        fill: the value of all its numbers before the first step.
    """

    shape: Annotated[Sequence[Annotated[int, Field(ge=0)]], AfterValidator(_check_state_shape)]
    dtype: Annotated[str, Field(pattern="^(float(16|32|64)|bfloat16|int32|int64|bool)$")]
    fill: Annotated[float, AllowInfNan(True)]

    __pydantic_config__ = STRICT

    def initial(self, streams: int) -> Tensor:
        """Return (S, ...) before the first step."""
        return torch.full((streams, *self.shape), self.fill, dtype=getattr(torch, self.dtype))


@dataclass(frozen=True)
class Interface:
    """Inputs and outputs of an exported network.

    Attributes:
        inputs: names, in order.
        outputs: names, in order.
        least: frames of the shortest clip.
        persons: M of the clips; None for any.
        lengths: whether the second input is how many frames of each clip are real.
        hop: frames that a step network takes at a time; 0: a network of whole clips.
        delay: frames that have to follow a clip until its answer is known.
        kept: the state of a step network, beside who has been seen.
    """

    inputs: Sequence[str]
    outputs: Sequence[str]
    least: Annotated[int, Field(ge=1, le=MAX_INTERFACE_FRAMES)] = 1
    persons: Annotated[int, Field(ge=1, le=1000)] | None = None
    lengths: bool = False
    hop: Annotated[int, Field(ge=0, le=MAX_INTERFACE_FRAMES)] = 0
    delay: Annotated[int, Field(ge=0, le=MAX_INTERFACE_FRAMES)] = 0
    kept: Sequence[StateSpec] = ()

    __pydantic_config__ = STRICT

    def compute(self, run: Run, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the logits (N, classes) of clips, by one or more calls of the network.

        Args:
            run: calls the network: inputs to outputs.
            x: (N, C, T, V, M).
            lengths: (N,) how many of the first frames are real, None for all.
        """
        if self.hop:
            return self._compute_steps(run, x)
        if not self.lengths:
            return run([x])[0]
        if lengths is None:
            lengths = torch.full(x.shape[:1], x.shape[2])
        return run([x, lengths])[0]

    def _compute_steps(self, run: Run, x: Tensor) -> Tensor:
        """Run clips a step at a time, with blank frames before and after them."""
        N, _, T, _, M = x.shape
        last = self.hop - 1 + T + self.delay
        last += -last % self.hop
        after = last - T - self.hop + 1
        x = nn.functional.pad(x, (0, 0, 0, 0, self.hop - 1, after))
        end = torch.full((N,), T)
        state = [torch.zeros(N, M, dtype=torch.bool), *(spec.initial(N) for spec in self.kept)]
        logits = x.new_empty(0)
        for before in range(0, last, self.hop):
            frames = x[:, :, before : before + self.hop].contiguous()
            logits, *state = run([frames, torch.full((N,), before), end, *state])
        return logits


@dataclass(frozen=True)
class Manifest:
    """The metadata of an exported file.

    Attributes:
        header: of the run.
        format: onnx, openvino or torch.
        precision: fp32, fp16, bf16 or int8.
        interface: inputs and outputs.
        parity: how it compares with the original network, None while that is not known.
        versions: of the packages that wrote it.
        version: of the manifest.
    """

    header: CheckpointHeader
    format: str
    precision: str
    interface: Interface
    parity: dict[str, Any] | None
    versions: dict[str, str]
    version: Annotated[int, Field(ge=1, le=VERSION)] = VERSION

    __pydantic_config__ = STRICT

    def to_json(self) -> str:
        """Return the text for the file's metadata."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the inverse of `to_json`.

        Raises:
            ValueError: the text is not a manifest, or one of another version.
        """
        data = parse_json(text)
        if not isinstance(data, dict) or not isinstance(data.get("header"), dict):
            raise ValueError("its manifest is not one of kinegraph")
        CheckpointHeader.from_dict(data["header"])  # checks more than its types
        return parse_fields(cls, data)


class ExportedModel(nn.Module):
    """An exported network that is called like a model; on the CPU.

    Args:
        interface: of the network.
        shape: (C, V) of the clips.
        run: calls the file's runtime.
    """

    takes_lengths = True

    def __init__(self, interface: Interface, shape: tuple[int, int], run: Run) -> None:
        super().__init__()
        self.interface = interface
        self.shape = shape
        self._run = run

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(N, C, T, V, M) -> logits (N, classes).

        Raises:
            ModelError: clips of another shape than the file was exported for.
        """
        self._check(x)
        known = None if lengths is None else lengths.cpu()
        try:
            return self.interface.compute(self._run, x.cpu(), known)
        # runtimes have error classes of their own, and the network is whatever the file holds
        except Exception as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise ModelError(f"the exported network fails on these clips: {reason}") from error

    def _check(self, x: Tensor) -> None:
        C, V = self.shape
        least, M = self.interface.least, self.interface.persons
        if x.ndim != 5 or x.shape[1] != C or x.shape[3] != V or x.shape[4] != (M or x.shape[4]):
            raise ModelError(
                f"expected clips (N, {C}, T, {V}, {M or 'M'}), as the file was exported for, "
                f"got {tuple(x.shape)}"
            )
        if x.shape[2] < least:
            raise ModelError(
                f"this exported network needs clips of at least {least} frames, got {x.shape[2]}"
            )


def is_exported(path: Path) -> bool:
    """Return whether a path names an exported file, by its suffix."""
    return format_of(path) is not None and not path.is_dir()


def read_manifest(path: Path) -> Manifest:
    """Return the manifest of an exported file.

    Raises:
        ExportError: there is no such file, a damaged one, or one that kinegraph did not write.
    """
    name = format_of(path)
    if name is None or not path.is_file():
        raise ExportError(f"{path} does not exist: expected a file of `kinegraph export`")
    has_checksum = verify_file(path)
    try:
        text = FORMATS[name].read(path)
        if text is None:
            raise ValueError("it has no manifest")
        manifest = Manifest.from_json(text)
        if manifest.format != name or manifest.precision not in FORMATS[name].precisions:
            raise ValueError(f"it states {manifest.format} in {manifest.precision}")
    except ValueError as error:
        raise ExportError(
            f"{path} was not written by `kinegraph export`: {error}; only such files state how raw "
            "clips become their input"
        ) from error
    if manifest.version > 1 and not has_checksum:
        raise damaged_file(path)
    return manifest


def load_exported(path: Path) -> tuple[ExportedModel, CheckpointHeader]:
    """Return the network in an exported file, run by its runtime, and the header of its run.

    Raises:
        ExportError: see `read_manifest`; or the package that runs it is not installed.
    """
    manifest = read_manifest(path)
    run = FORMATS[manifest.format].open(path, manifest.precision)
    header = manifest.header
    shape = header.in_channels, len(header.layout["joints"])
    return ExportedModel(manifest.interface, shape, run), header
