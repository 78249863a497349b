"""Pipelines: transforms in the order in which a recipe lists them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from kinegraph.clips.clip import Clip
from kinegraph.clips.repetition import find_period
from kinegraph.errors import TransformError, UnknownNameError, unknown_name
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import parse_layout
from kinegraph.skeleton.pair_layout import pair_layout, single_layout
from kinegraph.skeleton.space import PREPARATIONS
from kinegraph.transforms.convert_layout import DEFAULT_LAYOUT, layout
from kinegraph.transforms.input_streams import (
    STREAM_OPTIONS,
    count_frames_ahead,
    parse_stream,
    stream_width,
    to_stream,
)
from kinegraph.transforms.registry import TRANSFORMS, DrawPartner, Transform, View
from kinegraph.transforms.temporal_sampling import take_frames
from kinegraph.transforms.validation import find_option_errors

Step = tuple[str, dict[str, Any]]
STREAM_STEP = "stream"

#: The steps from a recorded clip, in the source space of `PREPARATIONS`, to each convention. How
#: the arrays of FSD-10 were scaled is not published.
PREPARATION_STEPS: dict[str, list[Step]] = {
    "agcn": [("repeat_pad", {"frames": 300}), ("prenormalize", {"faithful": True})],
    "ctrgcn": [("center", {"joint": "spine_mid", "frame": "first"})],
    "kinetics": [("kinetics_normalize", {})],
}


def parse_steps(steps: Any) -> list[Step]:
    """Return (name, options) pairs of a recipe's list of names and {name: options} mappings.

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
    """Return every mistake in parsed steps and in the stream that they compute."""
    mistakes = []
    for number, (name, options) in enumerate(steps, start=1):
        found = _find_step_errors(name, options)
        mistakes += [f"step {number} ({name}): {mistake}" for mistake in found]
    return mistakes + _find_stream_errors([name for name, _ in steps], stream)


@dataclass(frozen=True)
class Pipeline:
    """Transforms in the order in which a recipe lists them.

    The step named "stream" computes the stream from the joints. Motion and resampling do not
    commute, so its place is part of the recipe. Pipelines of equal steps are equal and can be
    pickled.

    Attributes:
        steps: (name, options) pairs, as `parse_steps` returns them.
        stream: a name of STREAMS, or several joined by "+".

    Raises:
        TransformError: unknown names or options, values out of range, a stream other than "joint"
            without its step; all of them listed.
    """

    steps: Sequence[Step] = ()
    stream: str = "joint"

    def __post_init__(self) -> None:
        _raise_all(check_steps(self.steps, self.stream))
        steps = tuple((name, _copy_plain(options)) for name, options in self.steps)
        object.__setattr__(self, "steps", steps)
        object.__setattr__(self, "stream", "+".join(parse_stream(self.stream)))

    @classmethod
    def from_list(cls, steps: Any, stream: str = "joint") -> Pipeline:
        """Return the pipeline of a recipe's list; the inverse of `to_list`."""
        return cls(parse_steps(steps), stream)

    def to_list(self) -> list[Any]:
        """Return plain data: names, or one-key mappings of names to options."""
        steps = self.steps
        return [{name: _copy_plain(options)} if options else name for name, options in steps]

    def __call__(
        self,
        clip: Clip,
        rng: np.random.Generator | None = None,
        partner: DrawPartner | None = None,
        view: View | None = None,
    ) -> Clip:
        """Return the clip after all steps; ``rng=None`` means evaluation.

        Args:
            partner: draws another training clip of the same class, for the steps that need one;
                None makes each clip its own partner.
            view: which of several inputs an evaluation makes of the clip; None for the usual one.

        Raises:
            TransformError: the clip does not fit a step.
        """
        return self._run(clip, rng, partner, view, len(self.steps))

    def _run(
        self,
        clip: Clip,
        rng: np.random.Generator | None,
        partner: DrawPartner | None,
        view: View | None,
        stop: int,
    ) -> Clip:
        """Return the clip after the first ``stop`` steps."""
        for number, (name, options) in enumerate(self.steps[:stop]):
            if name == STREAM_STEP:
                clip = to_stream(clip, self.stream, **options)
                continue
            draw = partial(self._draw_partner, rng, partner, number) if partner else None
            clip = TRANSFORMS[name].apply(clip, rng, options, draw, view)
        return clip

    def _draw_partner(
        self, rng: np.random.Generator | None, partner: DrawPartner, stop: int
    ) -> Clip:
        return self._run(partner(), rng, partner, None, stop)

    def for_evaluation(self) -> Pipeline:
        """Return the pipeline without the random steps, which are for training only."""
        return self._select(lambda step: not step.random)

    def without_length_steps(self) -> Pipeline:
        """Return the pipeline without the steps that only pad, for streams of unknown length."""
        return self._select(lambda step: not step.pads)

    def whole_clip_steps(self) -> list[str]:
        """Return the steps that need the whole clip, so that a stream cannot take them."""
        names = [
            name
            for name, step in self._transforms()
            if step.scope == "clip" and not step.random and not step.pads
        ]
        later = count_frames_ahead(self.stream)
        return [*names, f"{STREAM_STEP} {self.stream}"] if later else names

    @cached_property
    def preparations(self) -> frozenset[str]:
        """The conventions of prepared arrays that its steps bring clips to."""
        return frozenset(step.prepares for _, step in self._transforms() if step.prepares)

    @cached_property
    def cancels(self) -> frozenset[str]:
        """The properties of the coordinates that the result does not depend on."""
        return frozenset().union(*(step.cancels for _, step in self._transforms()))

    @staticmethod
    def prepare(clip: Clip, convention: str) -> Clip:
        """Return a recorded clip in a convention of prepared arrays, without repeated frames.

        Raises:
            TransformError: the clip cannot be prepared so.
        """
        if convention not in PREPARATION_STEPS:
            raise TransformError(
                f"the model was trained on arrays prepared as by {convention!r}, and how these "
                "were made is not published: clips as recorded cannot be brought to it"
            )
        for name, options in PREPARATION_STEPS[convention]:
            clip = TRANSFORMS[name].apply(clip, None, options)
        period = find_period(clip.joints)
        if period < clip.num_frames:  # as readers of prepared arrays do
            clip = take_frames(clip, np.arange(period))
        return clip.with_space(PREPARATIONS[convention].result)

    @staticmethod
    def prepares_frames(convention: str) -> bool:
        """Return whether `prepare` treats each frame by itself."""
        steps = PREPARATION_STEPS.get(convention, [])
        return all(TRANSFORMS[name].scope == "frame" for name, _ in steps)

    @cached_property
    def uses_partner(self) -> bool:
        """Whether a step needs another training clip of the same class."""
        return any(step.uses_partner for _, step in self._transforms())

    @cached_property
    def samples_clips(self) -> bool:
        """Whether a step can sample several clips from a clip in evaluation."""
        return any(step.uses_view and not step.random for _, step in self._transforms())

    @property
    def is_per_person(self) -> bool:
        """Whether each person of the result depends on the same person only."""
        return all(step.per_person or step.random for _, step in self._transforms())

    @property
    def resamples(self) -> bool:
        """Whether a step brings clips of different frame rates to one."""
        return any(name == "resample" for name, _ in self.steps)

    @property
    def has_camera(self) -> bool:
        """Whether a step projects 3D clips onto an image."""
        return any(options.get("camera", "none") != "none" for _, options in self.steps)

    @property
    def uses_history(self) -> bool:
        """Whether a step needs the known positions of earlier frames."""
        return any(step.scope == "history" for _, step in self._transforms())

    def isolate_history_steps(self) -> list[Pipeline]:
        """Divide the pipeline so that each step that needs earlier frames is alone in its part."""
        parts: list[list[Step]] = []
        alone = True
        for name, options in self.steps:
            needs_history = name != STREAM_STEP and TRANSFORMS[name].scope == "history"
            if alone or needs_history:
                parts.append([])
            parts[-1].append((name, options))
            alone = needs_history
        return [
            Pipeline(part, self.stream if STREAM_STEP in dict(part) else "joint") for part in parts
        ]

    @property
    def converts_layout(self) -> bool:
        """Whether a step converts clips of any layout to the one that the model expects."""
        return any(name == "layout" for name, _ in self.steps)

    def output_layout(self, layout: SkeletonLayout) -> SkeletonLayout:
        """Return the layout of clips after all steps."""
        for name, options in self.steps:
            if name == "layout":
                layout = parse_layout(options.get("to", DEFAULT_LAYOUT))
            elif name in TRANSFORMS and TRANSFORMS[name].joins_persons:
                layout = pair_layout(layout)
        return layout

    @property
    def joins_persons(self) -> bool:
        """Whether a step makes one body of the first two persons."""
        return any(step.joins_persons for _, step in self._transforms())

    def input_layout(self, layout: SkeletonLayout) -> SkeletonLayout:
        """Return the layout of the persons of a clip, by that of clips after all steps.

        Of a pipeline that converts the layout it is the layout converted to.
        """
        return single_layout(layout) if self.joins_persons else layout

    def output_persons(self, persons: int) -> int:
        """Return the number of persons after all steps, of at most ``persons`` before them."""
        return 1 if self.joins_persons else persons

    def output_channels(self, channels: int) -> int:
        """Return the channels of a joint after all steps, by the coordinates before them."""
        for name, options in self.steps:
            if name == STREAM_STEP:
                channels *= stream_width(self.stream)
            elif count := TRANSFORMS[name].count_channels:
                channels = count(channels, options)
        return channels

    def convert_layout(self, clip: Clip) -> Clip:
        """Apply the steps that convert the layout, and no others.

        Raises:
            TransformError: the clip cannot be converted.
        """
        for name, options in self.steps:
            clip = layout(clip, **options) if name == "layout" else clip
        return clip

    def _transforms(self) -> list[tuple[str, Transform]]:
        return [(name, TRANSFORMS[name]) for name, _ in self.steps if name != STREAM_STEP]

    def _select(self, keep: Callable[[Transform], bool]) -> Pipeline:
        kept = {STREAM_STEP, *(name for name, step in self._transforms() if keep(step))}
        return Pipeline([step for step in self.steps if step[0] in kept], self.stream)


def _parse_step(entry: Any) -> Step | None:
    if isinstance(entry, str):
        return entry, {}
    if not isinstance(entry, Mapping) or len(entry) != 1:
        return None
    name, options = next(iter(entry.items()))
    options = {} if options is None else options
    return (name, dict(options)) if isinstance(name, str) and isinstance(options, Mapping) else None


def _find_step_errors(name: str, options: Mapping[str, Any]) -> list[str]:
    if name == STREAM_STEP:
        return find_option_errors(STREAM_OPTIONS, options)
    if name not in TRANSFORMS:
        return [str(unknown_name("transform", name, [*TRANSFORMS, STREAM_STEP]))]
    return TRANSFORMS[name].find_errors(options)


def _find_stream_errors(names: Sequence[str], stream: str) -> list[str]:
    try:
        parts = parse_stream(stream)
    except UnknownNameError as error:
        return [str(error)]
    places = names.count(STREAM_STEP)
    if places > 1:
        return [f"the step '{STREAM_STEP}' must occur once, it occurs {places} times"]
    if places == 0 and parts != ["joint"]:
        return [
            f"the stream is {stream!r}, but no step '{STREAM_STEP}' computes it; "
            f"add '{STREAM_STEP}' to the steps (usually before the first augmentation)"
        ]
    return []


def _raise_all(mistakes: Sequence[str]) -> None:
    if mistakes:
        raise TransformError("; ".join(mistakes))


def _copy_plain(value: Any) -> Any:
    """Return a deep copy in plain containers, tuples as lists."""
    if isinstance(value, Mapping):
        return {key: _copy_plain(item) for key, item in value.items()}
    return [_copy_plain(item) for item in value] if isinstance(value, list | tuple) else value
