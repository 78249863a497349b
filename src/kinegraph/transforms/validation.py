"""What options a transform takes: annotations that hold in recipes as in calls."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, wraps
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from kinegraph.clips.clip import Clip
from kinegraph.errors import TransformError, did_you_mean
from kinegraph.skeleton.layouts import LAYOUT_ALIASES, LAYOUTS

Transform = Callable[..., Clip]
F = TypeVar("F", bound=Transform)


@dataclass(frozen=True)
class Bounds:
    """Inclusive limits of a number, or of each number of a list."""

    low: float = -math.inf
    high: float = math.inf

    def hold(self, value: Any) -> bool:
        """Whether every number in ``value`` is within the limits; what is no number passes."""
        if isinstance(value, list | tuple):
            return all(self.hold(item) for item in value)
        return not _is_number(value) or self.low <= value <= self.high

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"of {self.low:g} or more"
        return f"from {self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class LayoutName:
    """A name that is, or stands for, a registered layout."""

    def hold(self, value: Any) -> bool:
        """Whether there is such a layout."""
        return LAYOUT_ALIASES.get(value, value) in LAYOUTS

    def __str__(self) -> str:
        return "that names a layout"


MAX_COORDINATE = 1e30  # far beyond any coordinate, and a float32 still
Count = Annotated[int, Bounds(1, 100_000)]
Probability = Annotated[float, Bounds(0, 1)]


def transform(function: F) -> F:
    """Makes a function refuse options that its annotations do not allow.

    Raises (when the function is called):
        TransformError: an option that is unknown, of the wrong type or out of bounds.
    """

    @wraps(function)
    def checked(clip: Clip, rng: Any = None, /, **options: Any) -> Clip:
        mistakes = validate_options(function, options)
        if mistakes:
            raise TransformError(f"transform {function.__name__!r}: {mistakes[0]}")
        return function(clip, rng, **options)

    return cast(F, checked)


def unchecked(function: Transform) -> Transform:
    """The transform without the check of its options, for options that are known to be good."""
    return inspect.unwrap(function)


def validate_options(function: Transform, options: Mapping[str, Any]) -> list[str]:
    """What is wrong with these options, a sentence each; empty if nothing is.

    >>> from kinegraph.transforms.temporal_sampling import uniform_sample
    >>> validate_options(uniform_sample, {"frames": 0})
    ['frames must be a whole number from 1 to 100000, got 0']
    """
    rules = option_rules(function)
    mistakes = []
    for name, value in options.items():
        if name not in rules:
            mistakes.append(_unknown_option(str(name), list(rules)))
        elif not _allows(rules[name], value):
            mistakes.append(f"{name} must be {_describe(rules[name])}, got {value!r}")
    return mistakes


@cache
def option_rules(function: Transform) -> dict[str, Any]:
    """Option name -> annotation, in the order of the signature."""
    plain = unchecked(function)
    hints = get_type_hints(plain, include_extras=True)
    parameters = inspect.signature(plain).parameters.values()
    return {p.name: hints[p.name] for p in parameters if p.kind is p.KEYWORD_ONLY}


def require_coordinates(clip: Clip, name: str, *allowed: int) -> None:
    """Raises a TransformError unless the clip has one of the allowed numbers of coordinates."""
    if clip.num_channels not in allowed:
        wanted = " or ".join(str(n) for n in allowed)
        raise TransformError(
            f"transform {name!r}: expected joints of {wanted} coordinates, "
            f"clip {clip.id!r} has {clip.num_channels}"
        )


def _unknown_option(name: str, known: Sequence[str]) -> str:
    if not known:
        return f"unknown option {name!r}; it has no options"
    hint = did_you_mean(name, known)
    return f"unknown option {name!r}{hint}; known: {', '.join(sorted(known))}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _allows(rule: Any, value: Any) -> bool:
    origin, members = get_origin(rule), get_args(rule)
    if origin is Annotated:
        return _allows(members[0], value) and all(bounds.hold(value) for bounds in members[1:])
    if origin in (Union, UnionType):
        return any(_allows(member, value) for member in members)
    if origin is Literal:
        return isinstance(value, str) and value in members
    if origin is tuple:
        return _allows_list(members, value)
    if rule is float:
        return _is_number(value) and -MAX_COORDINATE <= value <= MAX_COORDINATE
    if rule is int:
        return _is_number(value) and isinstance(value, int)
    return isinstance(value, rule)


def _allows_list(members: tuple[Any, ...], value: Any) -> bool:
    if not isinstance(value, list | tuple) or not value:
        return False
    if members[-1] is Ellipsis:
        return all(_allows(members[0], item) for item in value)
    pairs = zip(members, value, strict=False)
    return len(value) == len(members) and all(_allows(rule, item) for rule, item in pairs)


_WORDS: dict[Any, tuple[str, str]] = {
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("a string", "strings"),
    bool: ("true or false", "truth values"),
    NoneType: ("null", "nulls"),
}


def _describe(rule: Any) -> str:
    origin, members = get_origin(rule), get_args(rule)
    if origin is Annotated:
        return " ".join([_describe(members[0]), *(str(bounds) for bounds in members[1:])])
    if origin in (Union, UnionType):
        return " or ".join(_describe(member) for member in members)
    if origin is Literal:
        return " or ".join(repr(member) for member in members)
    if origin is tuple:
        return _describe_list(members)
    return _WORDS[rule][0]


def _describe_list(members: tuple[Any, ...]) -> str:
    count = "" if members[-1] is Ellipsis else f"{len(members)} "
    plain, *bounds = get_args(members[0]) or (members[0],)
    return " ".join([f"a list of {count}{_WORDS[plain][1]}", *(str(b) for b in bounds)])
