"""From clip to clip: normalisation, streams, sampling and augmentation, by name or in a pipeline.

Every transform is a function ``f(clip, rng, *, options) -> Clip``. Randomness comes from ``rng``
alone; ``rng=None`` means evaluation. Absent joints stay absent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kinegraph.clips.clip import Clip
from kinegraph.errors import TransformError, UnknownNameError, unknown_name
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import get_layout
from kinegraph.transforms.augment import (
    jitter,
    joint_dropout,
    joint_gaps,
    mirror,
    person_swap,
    random_move,
    random_rotate,
    random_scale,
    random_shear,
    random_view,
    swap_sides,
)
from kinegraph.transforms.convert_layout import DEFAULT as DEFAULT_LAYOUT
from kinegraph.transforms.convert_layout import convert_layout, layout
from kinegraph.transforms.input_streams import STREAMS, parse_stream, to_stream
from kinegraph.transforms.normalize import (
    body_normalize,
    center,
    center_box,
    flip_y,
    image_normalize,
    kinetics_normalize,
    minmax,
    scale,
    skeleton_norm,
)
from kinegraph.transforms.orient import prenormalize
from kinegraph.transforms.temporal_sampling import (
    auto_pad,
    crop_resize,
    downsample,
    drop_empty_frames,
    random_choose,
    random_crop,
    random_frames,
    random_shift,
    random_speed,
    reduce_frame,
    repeat_pad,
    resize,
    trim,
    uniform_sample,
    zero_pad,
)
from kinegraph.transforms.to_model_input import to_array
from kinegraph.transforms.validation import Transform, unchecked, validate_options
from kinegraph.transforms.visibility import (
    fill_missing,
    forget_confidence,
    hold_missing,
    mask_confidence,
    persons,
)

__all__ = [
    "STREAMS",
    "TRANSFORMS",
    "Pipeline",
    "Transform",
    "check_steps",
    "convert_layout",
    "get_transform",
    "list_transforms",
    "parse_steps",
    "to_array",
    "to_stream",
]

Step = tuple[str, dict[str, Any]]
STREAM_STEP = "stream"

#: Steps that change clips for training alone: in evaluation they do nothing.
AUGMENTS = frozenset(
    {
        *("random_move", "random_rotate", "random_view", "random_scale", "random_shear"),
        *("random_crop", "random_speed", "jitter", "joint_dropout", "joint_gaps"),
        *("person_swap", "mirror", "swap_sides"),
    }
)
#: Steps that, in evaluation, need no later frame than the one that they change.
FRAMEWISE = AUGMENTS | {
    *("layout", "mask_confidence", "forget_confidence", "body_normalize", "hold_missing"),
    *("prenormalize", "center", "skeleton_norm", "flip_y"),
    *("image_normalize", "kinetics_normalize"),
}
#: Of these, the ones that look at earlier frames too: where joints were first and last seen.
LOOK_BACK = frozenset({"prenormalize", "center", "skeleton_norm", "hold_missing", "body_normalize"})
#: Steps that bring a clip to a length: they pad shorter ones, and cut or thin longer ones.
LENGTHS = frozenset({"zero_pad", "repeat_pad", "random_choose", "auto_pad"})

TRANSFORMS: dict[str, Transform] = {
    # which joints and persons
    "layout": layout,
    "persons": persons,
    "mask_confidence": mask_confidence,
    "forget_confidence": forget_confidence,
    "fill_missing": fill_missing,
    "hold_missing": hold_missing,
    # place, size, direction
    "prenormalize": prenormalize,
    "center": center,
    "scale": scale,
    "center_box": center_box,
    "body_normalize": body_normalize,
    "minmax": minmax,
    "image_normalize": image_normalize,
    "kinetics_normalize": kinetics_normalize,
    "skeleton_norm": skeleton_norm,
    "flip_y": flip_y,
    # frames
    "uniform_sample": uniform_sample,
    "random_frames": random_frames,
    "crop_resize": crop_resize,
    "resize": resize,
    "repeat_pad": repeat_pad,
    "zero_pad": zero_pad,
    "random_choose": random_choose,
    "auto_pad": auto_pad,
    "random_shift": random_shift,
    "random_crop": random_crop,
    "random_speed": random_speed,
    "downsample": downsample,
    "reduce_frame": reduce_frame,
    "trim": trim,
    "drop_empty_frames": drop_empty_frames,
    # augmentation
    "random_move": random_move,
    "random_rotate": random_rotate,
    "random_view": random_view,
    "random_scale": random_scale,
    "random_shear": random_shear,
    "jitter": jitter,
    "joint_dropout": joint_dropout,
    "joint_gaps": joint_gaps,
    "person_swap": person_swap,
    "mirror": mirror,
    "swap_sides": swap_sides,
}


def get_transform(name: str) -> Transform:
    """The transform of this name.

    Raises:
        UnknownNameError: no such transform.
    """
    if name not in TRANSFORMS:
        raise unknown_name("transform", name, TRANSFORMS)
    return TRANSFORMS[name]


def list_transforms() -> list[str]:
    """The names of all transforms, sorted."""
    return sorted(TRANSFORMS)


def parse_steps(steps: Any) -> list[Step]:
    """Steps as a recipe writes them: bare names, or mappings of one name to its options.

    >>> parse_steps(["trim", {"repeat_pad": {"frames": 300}}])
    [('trim', {}), ('repeat_pad', {'frames': 300})]

    Raises:
        TransformError: entries of another form, all of them listed.
    """
    if not isinstance(steps, list | tuple):
        raise TransformError(f"expected a list of transform steps, got {steps!r}")
    parsed, mistakes = [], []
    for number, entry in enumerate(steps, start=1):
        step = _parse_step(entry)
        if step is None:
            mistakes.append(f"step {number}: expected a name or {{name: options}}, got {entry!r}")
        else:
            parsed.append(step)
    _raise_all(mistakes)
    return parsed


def check_steps(steps: Sequence[tuple[str, Mapping[str, Any]]], stream: str = "joint") -> list[str]:
    """Every mistake in parsed steps and the stream they are to make; empty if there is none."""
    mistakes = []
    for number, (name, options) in enumerate(steps, start=1):
        found = _step_mistakes(name, options)
        mistakes += [f"step {number} ({name}): {mistake}" for mistake in found]
    return mistakes + _stream_mistakes([name for name, _ in steps], stream)


@dataclass(frozen=True)
class Pipeline:
    """Transforms in the order in which a recipe lists them.

    The step named "stream" marks where the joints become the stream: motion and resampling do
    not commute, so its place is part of the recipe. Equal lists make equal pipelines; a pipeline
    pickles, and `to_list` gives the fast form that checkpoints store.

    Attributes:
        steps: (name, options) pairs, as `parse_steps` returns them.
        stream: a name of STREAMS, or several joined by "+".

    Raises:
        TransformError: unknown names or options, values out of bounds, a stream other than
            "joint" without its step; all of them listed.
    """

    steps: Sequence[Step] = ()
    stream: str = "joint"

    def __post_init__(self) -> None:
        _raise_all(check_steps(self.steps, self.stream))
        steps = tuple((name, _plain(options)) for name, options in self.steps)
        object.__setattr__(self, "steps", steps)
        object.__setattr__(self, "stream", "+".join(parse_stream(self.stream)))

    @classmethod
    def from_list(cls, steps: Any, stream: str = "joint") -> Pipeline:
        """The pipeline of a recipe's list; the inverse of `to_list`."""
        return cls(parse_steps(steps), stream)

    def to_list(self) -> list[Any]:
        """Plain data: names, or one-key mappings of names to options."""
        return [{name: _plain(options)} if options else name for name, options in self.steps]

    def whole_clip_steps(self) -> list[str]:
        """The steps that a stream cannot take frame by frame, as they look at the whole clip."""
        names = [name for name, _ in self.steps if name not in FRAMEWISE | LENGTHS | {STREAM_STEP}]
        moving = any("motion" in part for part in parse_stream(self.stream))
        return [*names, f"{STREAM_STEP} {self.stream}"] if moving else names

    def without_length_steps(self) -> Pipeline:
        """The pipeline without the steps that bring a clip to a length; a stream has none."""
        return Pipeline([step for step in self.steps if step[0] not in LENGTHS], self.stream)

    def for_evaluation(self) -> Pipeline:
        """The pipeline without the steps that are for training alone."""
        return Pipeline([step for step in self.steps if step[0] not in AUGMENTS], self.stream)

    def isolate_history_steps(self) -> list[Pipeline]:
        """Pipelines that are this one, one after the other: each step that looks back is alone."""
        parts: list[list[Step]] = []
        for step in self.steps:
            if not parts or step[0] in LOOK_BACK or parts[-1][-1][0] in LOOK_BACK:
                parts.append([])
            parts[-1].append(step)
        return [
            Pipeline(part, self.stream if STREAM_STEP in dict(part) else "joint") for part in parts
        ]

    def output_layout(self, layout: SkeletonLayout) -> SkeletonLayout:
        """The layout that clips of this layout have after all steps."""
        for name, options in self.steps:
            if name == "layout":
                layout = get_layout(options.get("to", DEFAULT_LAYOUT))
        return layout

    def convert_layout(self, clip: Clip) -> Clip:
        """The clip in the layout that the steps convert to, and otherwise as it is.

        Raises:
            TransformError: it cannot become that.
        """
        for name, options in self.steps:
            clip = layout(clip, None, **options) if name == "layout" else clip
        return clip

    @property
    def converts_layout(self) -> bool:
        """Whether a step makes the clips' layout what it should be, whatever it was."""
        return any(name == "layout" for name, _ in self.steps)

    @property
    def uses_history(self) -> bool:
        """Whether a step takes something from earlier frames, see `LOOK_BACK`."""
        return any(name in LOOK_BACK for name, _ in self.steps)

    def __call__(self, clip: Clip, rng: np.random.Generator | None = None) -> Clip:
        """The clip after all steps; ``rng=None`` means evaluation.

        Raises:
            TransformError: a clip that does not fit a step.
        """
        for name, options in self.steps:
            if name == STREAM_STEP:
                clip = to_stream(clip, self.stream)
            else:
                clip = unchecked(TRANSFORMS[name])(clip, rng, **options)
        return clip


def _parse_step(entry: Any) -> Step | None:
    if isinstance(entry, str):
        return entry, {}
    if not isinstance(entry, Mapping) or len(entry) != 1:
        return None
    name, options = next(iter(entry.items()))
    options = {} if options is None else options
    return (name, dict(options)) if isinstance(name, str) and isinstance(options, Mapping) else None


def _step_mistakes(name: str, options: Mapping[str, Any]) -> list[str]:
    if name == STREAM_STEP:
        return ["the stream has no options here; it is named beside the steps"] if options else []
    if name not in TRANSFORMS:
        return [str(unknown_name("transform", name, [*TRANSFORMS, STREAM_STEP]))]
    return validate_options(TRANSFORMS[name], options)


def _stream_mistakes(names: Sequence[str], stream: str) -> list[str]:
    try:
        parts = parse_stream(stream)
    except UnknownNameError as error:
        return [str(error)]
    places = names.count(STREAM_STEP)
    if places > 1:
        return [f"the step '{STREAM_STEP}' must occur once, it occurs {places} times"]
    if places == 0 and parts != ["joint"]:
        return [
            f"the stream is {stream!r}, but no step '{STREAM_STEP}' says where it is computed; "
            f"add '{STREAM_STEP}' to the steps (usually before the first augmentation)"
        ]
    return []


def _raise_all(mistakes: Sequence[str]) -> None:
    if mistakes:
        raise TransformError("; ".join(mistakes))


def _plain(value: Any) -> Any:
    """A deep copy in plain containers, tuples as lists."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
