"""The registry of transforms, and the decorator that adds a function to it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cached_property, update_wrapper
from typing import Any, Literal, get_type_hints

import numpy as np

from kinegraph.clips.clip import Clip
from kinegraph.errors import TransformError
from kinegraph.transforms.validation import find_option_errors

Scope = Literal["frame", "history", "clip"]


class Transform:
    """A function from clip to clip with validated options and stated properties.

    The function is ``f(clip, *, options)``, or ``f(clip, rng, *, options)`` if it draws random
    numbers. Absent joints are NaN and stay absent.

    Attributes:
        name: the name in recipes.
        random: whether it changes clips in training only; evaluation leaves it out.
        scope: which frames of the clip a frame of the result depends on in evaluation: "frame"
            (that frame only), "history" (that frame, and the first and last known position of each
            joint before it), or "clip" (any).
        pads: whether it only brings a clip to a number of frames; streams leave it out, because
            their length is not known.
        per_person: whether each person of the result depends on the same person only.
    """

    def __init__(
        self,
        function: Callable[..., Clip],
        random: bool,
        scope: Scope,
        pads: bool,
        per_person: bool,
    ) -> None:
        update_wrapper(self, function)
        self.name = function.__name__
        self.random, self.scope, self.pads, self.per_person = random, scope, pads, per_person
        self._function = function
        self._draws = "rng" in inspect.signature(function).parameters

    @cached_property
    def options(self) -> dict[str, Any]:
        """The annotation of each option by name, in the order of the signature."""
        hints = get_type_hints(self._function, include_extras=True)
        parameters = inspect.signature(self._function).parameters.values()
        return {p.name: hints[p.name] for p in parameters if p.kind is p.KEYWORD_ONLY}

    def find_errors(self, options: Mapping[str, Any]) -> list[str]:
        """Return what is wrong with these options, one sentence each."""
        return find_option_errors(self.options, options)

    def __call__(
        self, clip: Clip, rng: np.random.Generator | None = None, /, **options: Any
    ) -> Clip:
        """Validate the options and return the transformed clip; ``rng=None`` means evaluation.

        Raises:
            TransformError: an option is unknown, of the wrong type or out of range, or the
                transform does not fit the clip.
        """
        if errors := self.find_errors(options):
            raise TransformError(f"transform {self.name!r}: {errors[0]}")
        return self.apply(clip, rng, options)

    def apply(
        self, clip: Clip, rng: np.random.Generator | None, options: Mapping[str, Any]
    ) -> Clip:
        """Return the transformed clip, for options that were validated before."""
        if self.random and rng is None:
            return clip
        return (
            self._function(clip, rng, **options) if self._draws else self._function(clip, **options)
        )

    def __reduce__(self) -> str:
        return self.name  # pickle by reference, like a function


#: Transforms by name, in the order of their definition.
TRANSFORMS: dict[str, Transform] = {}


def transform(
    *,
    random: bool = False,
    scope: Scope = "clip",
    pads: bool = False,
    per_person: bool = False,
) -> Callable[[Callable[..., Clip]], Transform]:
    """Register a function as a transform with these properties, see `Transform`."""

    def register(function: Callable[..., Clip]) -> Transform:
        made = Transform(function, random, scope, pads, per_person)
        TRANSFORMS[made.name] = made
        return made

    return register
