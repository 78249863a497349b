"""Types and ranges of the fields of a checkpoint's header, checked when a file is read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from kinegraph.errors import CheckpointError, KinegraphError
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.space import Space
from kinegraph.training.objectives import create_objective
from kinegraph.training.recipe import Recipe
from kinegraph.transforms import parse_steps

T = TypeVar("T")

#: Configuration of dataclasses whose fields are checked: nothing is converted or left out.
STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
_MAX_HEADER_CLASSES, _MAX_HEADER_PERSONS, _MAX_CHANNELS = 100_000, 1000, 10_000


class HeaderFacts(dict[str, Any]):
    """Facts in a header; a fact that this checkpoint does not state is a sentence."""

    def __missing__(self, key: str) -> Any:
        raise CheckpointError(f"the header of this checkpoint does not state {key!r}")


def parse_fields(cls: type[T], data: Any) -> T:
    """Return a dataclass, whose ``__pydantic_config__`` is STRICT, with the fields of plain data.

    Raises:
        ValueError: a field is missing, unknown, of a wrong type or out of range.
    """
    try:
        # strict dataclasses are made of JSON texts only
        fields: T = _fields_type(cls).validate_json(json.dumps(data))  # type: ignore[arg-type]
        return fields
    except ValidationError as error:
        raise ValueError(describe_errors(error)) from error


@cache
def _fields_type(cls: Any) -> TypeAdapter[Any]:
    return TypeAdapter(cls)


def describe_errors(error: ValidationError) -> str:
    """Return the first wrong field of a header as a sentence, with the number of the others."""
    first, *others = error.errors(include_url=False)
    where = ".".join(map(str, first["loc"]))
    more = f" (and {len(others)} more)" if others else ""
    return f"field {where!r}: {first['msg'][0].lower()}{first['msg'][1:]}{more}"


def _accepted_by(parse: Callable[[Any], object]) -> AfterValidator:
    """Return a check that a value is plain data of ``parse``; the value stays as it is."""

    def check(value: Any) -> Any:
        try:
            parse(value)
        except KinegraphError as error:
            raise PydanticCustomError("kinegraph", "{reason}", {"reason": str(error)}) from error
        return value

    return AfterValidator(check)


def _check_model(value: dict[str, Any]) -> dict[str, Any]:
    """Check a model: its name and options, and the head of a model that names each frame."""
    parts = {"head": {"name": ""}, **value}
    named = isinstance(parts.get("name"), str) and isinstance(parts.get("options"), dict)
    head = parts["head"] or {"name": ""}
    if not named or len(parts) != 3 or not isinstance(head, dict):
        raise PydanticCustomError("named", "expected a name and a map of options")
    if not isinstance(head.get("name"), str):
        raise PydanticCustomError("named", "expected the name of the head")
    return value


def _check_reader(value: dict[str, Any]) -> dict[str, Any]:
    """Check a reader; a store that kinegraph did not write has none."""
    return value if value.get("name") is None else _check_model(value)


def _wrap_facts(value: dict[str, Any], *inner: str) -> HeaderFacts:
    parts = {key: HeaderFacts(value[key]) for key in inner if key in value}
    return HeaderFacts(value | parts)


def _to_recipe_facts(value: dict[str, Any]) -> HeaderFacts:
    """Check the keys that recipes have; a header of another version may have more or fewer."""
    known = {key: value[key] for key in Recipe.model_fields if key in value}
    Recipe.model_validate({"name": "unnamed", "store": "", "protocol": "auto", **known})
    return _wrap_facts(value, "train", "validation")


_TRAINING_TYPES: Mapping[str, Any] = {
    "clips": Annotated[int, Field(ge=0)],
    "held_out": Annotated[int, Field(ge=0)],
    "unlabeled": Annotated[int, Field(ge=0)] | None,
    "store": str,
    "coordinates": Annotated[int, Field(ge=1, le=_MAX_CHANNELS)],
    "epoch": Annotated[int, Field(ge=0)],
    "metrics": dict[str, float | None],
    "seconds": Annotated[float, Field(ge=0)],
    "taught": dict[str, Any],
    "selection": dict[str, Any],
}
_TRAINING = {
    key: TypeAdapter(annotation, config=ConfigDict(strict=True))
    for key, annotation in _TRAINING_TYPES.items()
}


def _to_training_facts(value: dict[str, Any]) -> HeaderFacts:
    for key, adapter in _TRAINING.items():
        if key in value:
            try:
                adapter.validate_python(value[key])
            except ValidationError as error:
                facts = {"key": key, "reason": error.errors()[0]["msg"]}
                raise PydanticCustomError("training", "{key}: {reason}", facts) from error
    return _wrap_facts(value, "selection", "taught")


ModelFields = Annotated[dict[str, Any], AfterValidator(_check_model)]
ReaderFields = Annotated[dict[str, Any], AfterValidator(_check_reader)]
LayoutFields = Annotated[dict[str, Any], _accepted_by(SkeletonLayout.from_dict)]
SpaceFields = Annotated[dict[str, Any], _accepted_by(Space.from_dict)]
Steps = Annotated[list[Any], _accepted_by(parse_steps)]
ObjectiveFields = Annotated[dict[str, Any], _accepted_by(create_objective)]
RecipeFacts = Annotated[dict[str, Any], AfterValidator(_to_recipe_facts)]
TrainingFacts = Annotated[dict[str, Any], AfterValidator(_to_training_facts)]
ClassCount = Annotated[int, Field(ge=1, le=_MAX_HEADER_CLASSES)]
ChannelCount = Annotated[int, Field(ge=1, le=_MAX_CHANNELS)]
PersonCount = Annotated[int, Field(ge=0, le=_MAX_HEADER_PERSONS)]
CenterCount = Annotated[int, Field(ge=0, le=_MAX_HEADER_CLASSES)]
PositiveNumber = Annotated[float, Field(gt=0, le=1e6)]
Label = Annotated[int, Field(ge=0, lt=_MAX_HEADER_CLASSES)]
