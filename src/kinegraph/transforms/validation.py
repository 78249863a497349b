"""Validation of a transform's options by their annotations."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Interval, MinLen, Predicate

from kinegraph.errors import LayoutError, TransformError, UnknownNameError, did_you_mean
from kinegraph.skeleton.layouts import parse_layout

MAX_NUMBER = 1e30  # far beyond any coordinate, and within the range of float32
Count = Annotated[int, Interval(ge=1, le=100_000)]
Number = Annotated[float, Interval(ge=-MAX_NUMBER, le=MAX_NUMBER)]
Numbers = Annotated[tuple[Number, ...], MinLen(1)]
NonNegative = Annotated[float, Interval(ge=0, le=MAX_NUMBER)]
Probability = Annotated[float, Interval(ge=0, le=1)]
LayoutChoice = Annotated[str | dict, Predicate(parse_layout)]


def find_option_errors(annotations: Mapping[str, Any], options: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with options that have these annotations, one sentence each.

    >>> find_option_errors({"frames": Count}, {"frames": 0})
    ['frames must be a whole number from 1 to 100000, got 0']
    """
    errors = []
    for name, value in options.items():
        if name in annotations:
            errors += _find_value_errors(name, annotations[name], value)
        elif annotations:
            hint, known = did_you_mean(str(name), annotations), ", ".join(sorted(annotations))
            errors.append(f"unknown option {str(name)!r}{hint}; known: {known}")
        else:
            errors.append(f"unknown option {str(name)!r}; it has no options")
    return errors


def require_ascending(name: str, option: str, low: float, high: float) -> None:
    """Check that ``low`` is not above ``high``.

    Raises:
        TransformError: it is.
    """
    if low > high:
        raise TransformError(
            f"transform {name!r}: {option} must be ascending, got {low:g} and {high:g}"
        )


def _find_value_errors(name: str, annotation: Any, value: Any) -> list[str]:
    from pydantic import ValidationError

    try:
        # recipes have lists where annotations have tuples
        _validator(annotation)(tuple(value) if isinstance(value, list) else value)
    except ValidationError:
        return [f"{name} must be {describe_annotation(annotation)}, got {value!r}"]
    except (LayoutError, UnknownNameError) as error:
        return [f"{name}: {error}"]
    return []


@cache
def _validator(annotation: Any) -> Any:
    from pydantic import ConfigDict, TypeAdapter

    config = ConfigDict(strict=True, allow_inf_nan=False)
    return TypeAdapter(annotation, config=config).validate_python


_TYPE_NAMES: dict[Any, tuple[str, str]] = {
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("a string", "strings"),
    dict: ("a mapping", "mappings"),
    bool: ("true or false", "truth values"),
    NoneType: ("null", "nulls"),
}


def describe_annotation(annotation: Any) -> str:
    """Return an annotation in words, such as "a whole number from 1 to 5"."""
    origin, members = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return describe_annotation(members[0]) + "".join(map(_describe_constraint, members[1:]))
    if origin in (Union, UnionType):
        return " or ".join(describe_annotation(member) for member in members)
    if origin is Literal:
        return " or ".join(repr(member) for member in members)
    if origin is tuple:
        count = "" if members[-1] is Ellipsis else f"{len(members)} "
        item, *constraints = get_args(members[0]) or (members[0],)
        described = "".join(map(_describe_constraint, constraints))
        return f"a list of {count}{_TYPE_NAMES[item][1]}{described}"
    return _TYPE_NAMES[annotation][0]


def _describe_constraint(constraint: Any) -> str:
    if not isinstance(constraint, Interval) or constraint.ge == -MAX_NUMBER:
        return ""
    if constraint.le in (None, MAX_NUMBER):
        return f" of {constraint.ge:g} or more"
    return f" from {constraint.ge:g} to {constraint.le:g}"
