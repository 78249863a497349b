"""Initial weights: those of another run, mapped by joint names where its layout is another.

Shapes: C input channels, V joints; other axes are those of the tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kinegraph.errors import CheckpointError, KinegraphError
from kinegraph.models.joint_axes import JointAxes, find_joint_axes
from kinegraph.skeleton.joint_mapping import map_joints
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.space import Space
from kinegraph.training.checkpoint import CheckpointHeader, is_head_parameter, load_model
from kinegraph.transforms.input_streams import stream_width
from kinegraph.transforms.pipeline import STREAM_STEP, Pipeline

State = dict[str, Tensor]
IndexPairs = Sequence[tuple[int, int]]

DATA_NORM = "data_bn"
MAX_NAMES_SHOWN = 6


@dataclass
class InitialWeights:
    """What became of a model's tensors, by their names.

    Attributes:
        copied: taken as they are.
        mapped: taken where a joint or an input channel is known, the rest as initialized.
        fresh: as initialized.
    """

    copied: list[str] = field(default_factory=list)
    mapped: list[str] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)

    def describe(self, run: Path) -> list[str]:
        """Return a line about each of the three groups."""
        groups = {
            "copied": self.copied,
            "mapped by joints and channels": self.mapped,
            "not taken": self.fresh,
        }
        return [f"weights of {run}, {title}: {_list(names)}" for title, names in groups.items()]


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(names[:MAX_NAMES_SHOWN])
    more = len(names) - MAX_NAMES_SHOWN
    counted = "1 tensor" if len(names) == 1 else f"{len(names)} tensors"
    return counted + (f" ({shown}{', ...' if more > 0 else ''})" if names else "")


def load_initial_weights(model: nn.Module, header: CheckpointHeader, run: Path) -> InitialWeights:
    """Initialize a model with the weights of a run: all of them, except a head for other classes.

    The encoder of an auto-encoder initializes a model of the encoder's class. Where the layouts
    differ, entries of joints that both have are taken (`kinegraph.models.joint_axes`), and buffers
    that depend on the layout, such as an adjacency, stay. Where the numbers of input channels
    differ, those of the same stream and coordinate are taken; if the axes of the clips point the
    other way, the first normalization turns them. Everything else is copied.

    Raises:
        CheckpointError: there is no checkpoint, its model is another one, or the layouts have no
            joint in common.
    """
    source, trained = load_model(run)
    encoder = getattr(source, "encoder", None)
    if isinstance(encoder, type(model)):
        source = encoder
    theirs = source.state_dict()
    twin = _build_twin(header, trained, run)
    has_same_classes = _stated_classes(trained) == _stated_classes(header)
    if wrong := _find_misfits(twin, theirs):
        raise CheckpointError(
            f"{run} cannot initialize the model: its {trained.model['name']!r} on layout "
            f"{trained.layout['name']!r} does not fit, {len(wrong)} tensors differ, the first: "
            f"{wrong[0]!r}"
        )
    links = _Links.between(trained, header, run)
    result = InitialWeights()
    state = model.state_dict()
    constants = _constants(model)
    axes, their_axes = dict(find_joint_axes(model)), dict(find_joint_axes(twin))
    shapes = {key: value.shape for key, value in twin.state_dict().items()}
    for key, value in state.items():
        if key in constants:
            continue
        mapped = None
        fits = key in theirs and theirs[key].shape == shapes.get(key)
        if fits and (has_same_classes or not is_head_parameter(key)):
            mapped = links.map(theirs[key], value, their_axes.get(key), axes.get(key))
        if mapped is None:
            result.fresh.append(key)
            continue
        is_copy = mapped.shape == theirs[key].shape and torch.equal(mapped, theirs[key])
        (result.copied if is_copy else result.mapped).append(key)
        state[key] = mapped
    model.load_state_dict(state)
    _turn_axes(model, links.signs)
    return result


def _stated_classes(header: CheckpointHeader) -> tuple[object, ...]:
    return header.num_classes, header.classes


def _build_twin(header: CheckpointHeader, trained: CheckpointHeader, run: Path) -> nn.Module:
    """Return the model for the clips that the weights were trained with."""
    try:
        with torch.random.fork_rng(devices=[]):
            return replace(
                header,
                layout=trained.layout,
                num_classes=trained.num_classes,
                in_channels=trained.in_channels,
                unknown_centers=0,
            ).build_model()
    except KinegraphError as error:
        raise CheckpointError(
            f"{run} cannot initialize the model: there is no such model for its layout "
            f"{trained.layout['name']!r}: {error}"
        ) from error


def _find_misfits(twin: nn.Module, theirs: State) -> list[str]:
    """Return the tensors that only one of two models of the same layout has, without the head."""
    ours, constants = twin.state_dict(), _constants(twin)
    keys = [key for key in {**ours, **theirs} if not is_head_parameter(key)]
    wrong = [k for k in keys if k not in ours or k not in theirs]
    both = [k for k in keys if k in ours and k in theirs]
    wrong += [k for k in both if ours[k].shape != theirs[k].shape]
    fixed = [k for k in both if k in constants and k not in wrong]
    return wrong + [k for k in fixed if not torch.equal(ours[k], theirs[k])]


def _constants(model: nn.Module) -> set[str]:
    """Return the names of the buffers that are not statistics of a batch norm."""
    return {
        f"{path}.{name}".lstrip(".")
        for path, module in model.named_modules()
        if not isinstance(module, _BatchNorm)
        for name, _ in module.named_buffers(recurse=False)
    }


@dataclass(frozen=True)
class _Links:
    """The joints and input channels that two models share.

    Attributes:
        joints: (ours, theirs) of each joint that both layouts have.
        sizes: (V of ours, V of theirs).
        channels: (ours, theirs) of each input channel that both have.
        widths: (C of ours, C of theirs).
        signs: (C of ours,), -1 for a channel whose axis points the other way.
    """

    joints: IndexPairs
    sizes: tuple[int, int]
    channels: IndexPairs
    widths: tuple[int, int]
    signs: Tensor

    @classmethod
    def between(cls, trained: CheckpointHeader, header: CheckpointHeader, run: Path) -> _Links:
        layouts = [SkeletonLayout.from_dict(h.layout) for h in (header, trained)]
        try:
            sources = map_joints(layouts[1], layouts[0])
        except KinegraphError as error:
            raise CheckpointError(f"{run} cannot initialize the model: {error}") from error
        names, theirs = _name_channels(header), _name_channels(trained)
        channels = [(i, theirs.index(name)) for i, name in enumerate(names) if name in theirs]
        signs = _find_signs(_space(trained), _space(header))
        turned = [signs.get(k, 1.0) if (part, k) in theirs else 1.0 for part, k in names]
        return cls(
            joints=[(joint, own[0]) for joint, own in enumerate(sources) if len(own) == 1],
            sizes=(layouts[0].num_joints, layouts[1].num_joints),
            channels=channels,
            widths=(len(names), len(theirs)),
            signs=torch.tensor(turned),
        )

    def map(
        self, theirs: Tensor, ours: Tensor, their_axes: JointAxes | None, axes: JointAxes | None
    ) -> Tensor | None:
        """Return our tensor with their entries, None if none of them has a place in it."""
        joint_axes: tuple[int, ...] | None = ()
        if axes is not None and their_axes is not None:
            joint_axes = axes.axes
            theirs = theirs.reshape(their_axes.shape or theirs.shape)
        result = ours.clone().reshape((axes.shape if axes else None) or ours.shape)
        if joint_axes is None:
            is_same = self.sizes[0] == len(self.joints) == self.sizes[1]
            is_same = is_same and all(a == b for a, b in self.joints)
            return theirs.clone() if is_same else None
        pairs = [
            self._pair(size, other, is_joint=axis in joint_axes)
            for axis, (size, other) in enumerate(zip(result.shape, theirs.shape, strict=True))
        ]
        if not all(pairs):
            return None
        to, of = (
            np.ix_(*([pair[side] for pair in some] for some in pairs)) if pairs else ()
            for side in (0, 1)
        )
        result[to] = theirs[of]
        return result.reshape(ours.shape)

    def _pair(self, ours: int, theirs: int, *, is_joint: bool) -> IndexPairs:
        """Return the indices of an axis that belong together, none if that is not known."""
        if is_joint:
            return self.joints if (ours, theirs) == self.sizes else []
        if ours == theirs:
            return [(i, i) for i in range(ours)]
        return self.channels if (ours, theirs) == self.widths else []


def _name_channels(header: CheckpointHeader) -> list[tuple[str, int]]:
    """Return (stream, number within the stream) of each input channel."""
    pipeline = header.pipeline()
    names = [name for name, _ in pipeline.steps]
    at = names.index(STREAM_STEP) if STREAM_STEP in names else len(names)
    width = Pipeline(pipeline.steps[:at]).output_channels(_coordinates(header))
    parts = pipeline.stream.split("+")
    channels = [(part, k) for part in parts for k in range(width * stream_width(part))]
    last = "confidence" if header.confidence else "frame_index"
    further = header.in_channels - len(channels)
    return [*channels, *((last, k) for k in range(further))][: header.in_channels]


def _coordinates(header: CheckpointHeader) -> int:
    if header.pipeline().has_camera:
        return 2
    return int(header.training.get("coordinates", header.in_channels - header.confidence))


def _space(header: CheckpointHeader) -> Space:
    """Return the space of the model's input."""
    return Space("image") if header.pipeline().has_camera else header.clip_space()


def _find_signs(theirs: Space, ours: Space) -> dict[int, float]:
    """Return coordinate -> sign of their axis in our space; none unless all axes are parallel."""
    if "unstated" in (theirs.kind, ours.kind):
        return {}
    signs = np.diag(theirs.rotation_to(ours))
    return {k: float(sign) for k, sign in enumerate(signs)} if signs.all() else {}


@torch.no_grad()
def _turn_axes(model: nn.Module, signs: Tensor) -> None:
    """Let the normalization of a model's input turn the channels of sign -1 around."""
    for path, module in model.named_modules():
        if path.rpartition(".")[2] == DATA_NORM and isinstance(module, _BatchNorm):
            for value in (module.weight, module.running_mean):
                if value is not None and not value.numel() % len(signs):
                    value.view(-1, len(signs)).mul_(signs.to(value))
