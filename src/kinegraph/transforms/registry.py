"""The registry of transforms, and the decorator that adds a function to it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, update_wrapper
from typing import Any, Literal, NamedTuple, get_type_hints

import numpy as np

from kinegraph.clips.clip import Clip
from kinegraph.errors import TransformError
from kinegraph.skeleton.space import PREPARATIONS
from kinegraph.transforms.validation import find_option_errors


class View(NamedTuple):
    """One of the inputs that an evaluation makes of a clip, whose scores it averages.

    Attributes:
        number: which of the sampled clips, from 0.
        clips: number of clips that are sampled from each clip; 1 takes the usual one.
        mirrored: whether the step `mirror` mirrors the clip.
    """

    number: int = 0
    clips: int = 1
    mirrored: bool = False


#: Draws a training clip of the same class, which went through the steps before this one. It is the
#: clip itself if the class has no other.
DrawPartner = Callable[[], Clip]

TRANSFORMS: dict[str, Transform] = {}  # transforms by name, in the order of their definition


@dataclass(eq=False)
class Transform:
    """A function from clip to clip with validated options and stated properties.

    Attributes:
        function: ``f(clip, *, options)``, or ``f(clip, rng, *, options)`` if it draws random
            numbers. It may take further arguments before the options: ``partner``, which draws
            another clip of the same class (`DrawPartner`), and ``view``, which states the part of
            an evaluation that averages several inputs (`View`, None in training). Absent joints
            are NaN and stay absent.
        random: whether it changes clips in training only; evaluation leaves it out.
        scope: which frames of the clip a frame of the result depends on in evaluation: "frame"
            (that frame only), "history" (that frame, and the first and last known position of each
            joint before it), or "clip" (any).
        pads: whether it only brings a clip to a number of frames; streams leave it out, because
            their length is not known.
        per_person: whether each person of the result depends on the same person only.
        coordinates: the numbers of coordinates per joint that it takes; empty for any number.
        prepares: the convention of prepared arrays that it brings clips to; clips that follow it
            already are left as they are, those of another one are refused unless it cancels what
            they lost.
        cancels: the properties of the coordinates that its result does not depend on: position,
            rotation or size, of the whole clip.
        count_channels: returns the channels of a joint in the result, by those in the clip and the
            options; None if their number stays.
        joins_persons: whether it makes one body of the first two persons.
    """

    function: Callable[..., Clip]
    random: bool = False
    scope: Literal["frame", "history", "clip"] = "clip"
    pads: bool = False
    per_person: bool = False
    coordinates: tuple[int, ...] = ()
    prepares: str | None = None
    cancels: frozenset[str] = frozenset()
    count_channels: Callable[[int, Mapping[str, Any]], int] | None = None
    joins_persons: bool = False

    def __post_init__(self) -> None:
        update_wrapper(self, self.function)
        self.name = self.function.__name__
        parameters = inspect.signature(self.function).parameters
        self._draws, self.uses_partner = "rng" in parameters, "partner" in parameters
        self.uses_view = "view" in parameters

    @cached_property
    def options(self) -> dict[str, Any]:
        """The annotation of each option by name, in the order of the signature."""
        hints = get_type_hints(self.function, include_extras=True)
        parameters = inspect.signature(self.function).parameters.values()
        return {p.name: hints[p.name] for p in parameters if p.kind is p.KEYWORD_ONLY}

    def find_errors(self, options: Mapping[str, Any]) -> list[str]:
        """Return what is wrong with these options, one sentence each."""
        return find_option_errors(self.options, options)

    def __call__(
        self,
        clip: Clip,
        rng: np.random.Generator | None = None,
        partner: DrawPartner | None = None,
        view: View | None = None,
        /,
        **options: Any,
    ) -> Clip:
        """Validate the options and return the transformed clip; ``rng=None`` means evaluation.

        Raises:
            TransformError: an option is unknown, of the wrong type or out of range, or the
                transform does not fit the clip.
        """
        if errors := self.find_errors(options):
            raise TransformError(f"transform {self.name!r}: {errors[0]}")
        return self.apply(clip, rng, options, partner, view)

    def apply(
        self,
        clip: Clip,
        rng: np.random.Generator | None,
        options: Mapping[str, Any],
        partner: DrawPartner | None = None,
        view: View | None = None,
    ) -> Clip:
        """Return the transformed clip, for options that were validated before.

        Without a ``partner`` the clip is its own.

        Raises:
            TransformError: the transform does not fit the clip.
        """
        if self.random and rng is None and not (self.uses_view and view):
            return clip
        if self.prepares is not None and clip.space.prepared != "recorded":
            if clip.space.prepared == self.prepares:
                return clip
            preparation = PREPARATIONS[clip.space.prepared]
            if lost := preparation.changes - self.cancels:
                raise TransformError(
                    f"transform {self.name!r}: clip {clip.id!r} is prepared as by "
                    f"{clip.space.prepared!r} ({preparation.about}), which lost the "
                    f"{' and '.join(sorted(lost))} that the transform needs"
                )
        if self.coordinates and clip.num_channels not in self.coordinates:
            expected = " or ".join(str(number) for number in self.coordinates)
            raise TransformError(
                f"transform {self.name!r}: expected joints of {expected} coordinates, "
                f"clip {clip.id!r} has {clip.num_channels}"
            )
        given: list[Any] = [clip, rng][: 1 + self._draws]
        if self.uses_partner:
            given.append(partner or (lambda: clip))
        if self.uses_view:
            given.append(view)
        return self.function(*given, **options)

    def __reduce__(self) -> str:
        return self.name  # pickle by reference, like a function


def transform(**properties: Any) -> Callable[[Callable[..., Clip]], Transform]:
    """Register a function as a transform with these properties, see `Transform`."""

    def register(function: Callable[..., Clip]) -> Transform:
        made = TRANSFORMS[function.__name__] = Transform(function, **properties)
        return made

    return register
