"""Pydantic models of requests and answers; the OpenAPI description is made from them."""

from __future__ import annotations

import io
import math
from http import HTTPStatus
from reprlib import Repr
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
)

from kinegraph.clips.clip import Clip
from kinegraph.errors import ReadError, unknown_name
from kinegraph.inference.answer import Candidate
from kinegraph.inference.json_arrays import parse_array
from kinegraph.inference.online_preprocessing import input_frame_shape
from kinegraph.inference.trained_model import TrainedModel
from kinegraph.readers.formats.numpy_file import read_npz, to_float32
from kinegraph.readers.space_options import SpaceOptions
from kinegraph.server.errors import RequestRejectedError, too_large
from kinegraph.server.limits import Limits
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import get_layout
from kinegraph.skeleton.space import PREPARATIONS, Space

JSON = "application/json"
NPZ = "application/x-npz"
MEDIA_TYPES = {JSON: JSON, NPZ: NPZ, "application/octet-stream": NPZ, "application/zip": NPZ}
MAX_ID_LENGTH = 64
MAX_UNUSUAL_PERSONS = 16  # with more persons than frames, the axes are probably swapped
MAX_ZIP_ENTRIES = 64
MAX_LISTED_ERRORS = 100
ZIP_ENTRY_MARK = b"PK\x01\x02"

_repr = Repr()
_repr.maxlevel = 2
_Scalar = (
    Annotated[str, Field(max_length=1000)]
    | Annotated[int, Field(ge=-(2**53), le=2**53)]
    | Annotated[float, Field(allow_inf_nan=False)]
    | bool
)


def _to_array(value: Any) -> NDArray[np.float32]:
    """Convert nested lists of numbers to float32; null at any depth becomes NaN."""
    with np.errstate(over="ignore"):
        return parse_array(value).astype(np.float32)


def _to_joints(value: Any) -> NDArray[np.float32]:
    array = _to_array(value)
    if array.ndim not in (3, 4):
        raise ValueError(f"got an array of shape {array.shape}")
    clip = array if array.ndim == 4 else array[None]
    if len(clip) > max(clip.shape[1], MAX_UNUSUAL_PERSONS):
        raise ValueError(f"got {len(clip)} persons of {clip.shape[1]} frames each")
    return clip


def _to_confidence(value: Any) -> NDArray[np.float32] | None:
    if value is None:
        return None
    array = _to_array(value)
    if not np.isfinite(array).all():
        raise ValueError("got values that are not finite")
    return array[None] if array.ndim == 2 else array


def _to_frame_joints(value: Any) -> NDArray[np.float32] | None:
    """Convert the joints of one or more bodies; nulls only are a frame without bodies."""
    if value is None:
        return None
    array = _to_array(value)
    if array.ndim < 2 and np.isnan(array).all():
        return np.empty(0, np.float32)
    if array.ndim not in (2, 3):
        raise ValueError(f"got an array of shape {array.shape}")
    return array


def _to_frame_confidence(value: Any) -> NDArray[np.float32] | None:
    if value is None:
        return None
    array = _to_array(value)
    if array.ndim not in (1, 2):
        raise ValueError(f"got an array of shape {array.shape}")
    return array


def _reject_infinity(value: float) -> float:
    if math.isinf(value):
        raise ValueError(f"got {value}")
    return value


class _Request(BaseModel):
    """JSON from a client: unknown keys are errors, and no value is converted to another type.

    The description of a field completes the sentence 'expected "field" to be ...'.
    """

    model_config = ConfigDict(extra="forbid", strict=True)


_Array = WithJsonSchema({"type": "array", "items": {"type": "array", "items": {}}})
_Rows = {"type": ["array", "null"], "items": {"type": ["number", "null", "array"]}}
_FrameJoints = WithJsonSchema({"type": ["array", "null"], "items": _Rows})
_FrameConfidence = WithJsonSchema(_Rows)


class SpacePayload(_Request):
    """What coordinates mean, see `kinegraph.skeleton.space.Space`; what is left out is open."""

    kind: str | None = Field(None, description="image or world")
    up: str | None = Field(None, description="world: the axis that points up, such as -y")
    away: str | None = Field(None, description="world: the axis that points away from the viewer")
    handedness: str | None = Field(None, description="world: right or left")
    unit: str | None = Field(None, description="pixel or share; m, cm or mm")
    prepared: str | None = Field(None, description="recorded, or a convention of prepared arrays")


_SPACE_TEXT = (
    "image, world, or an object with any of the keys kind, up, away, handedness, unit and prepared"
)


class ClipPayload(_Request):
    """A clip to predict.

    Without layout and space it is in those of the model (GET /v1/model). The space of another
    layout is guessed from the joints, and the guess is stated in the answer.
    """

    joints: Annotated[Any, BeforeValidator(_to_joints), _Array] = Field(
        description="numbers of shape (frames, joints, coordinates) or (persons, frames, joints, "
        "coordinates), with null where a joint is not visible"
    )
    confidence: Annotated[Any, BeforeValidator(_to_confidence), _Array] = Field(
        None, description="finite numbers of the shape of joints without coordinates"
    )
    fps: float | None = Field(None, gt=0, lt=1e6, description="a number of frames/s above 0")
    layout: str | None = Field(
        None, description="the name of a skeleton layout (default: that of the model)"
    )
    space: str | SpacePayload | None = Field(
        None, description=f"{_SPACE_TEXT} (default: the space of the model)"
    )
    id: str | None = Field(None, description="the name of the clip")
    meta: dict[str, _Scalar] | None = Field(
        None,
        max_length=64,
        description="an object of at most 64 strings, finite numbers and booleans, such as the "
        "width and height of the image in pixels",
    )


class FramePayload(_Request):
    """One JSON message of a stream: a frame of a person, or a request for its answer."""

    person: (
        Annotated[str, Field(min_length=1, max_length=MAX_ID_LENGTH)]
        | Annotated[int, Field(ge=0, lt=2**32)]
    ) = Field(description=f"a string of 1 to {MAX_ID_LENGTH} characters, or an unsigned integer")
    joints: Annotated[Any, BeforeValidator(_to_frame_joints), _FrameJoints] = Field(
        None,
        description="numbers of shape (joints, coordinates) or (bodies, joints, coordinates), "
        "with null where a joint is not visible",
    )
    confidence: Annotated[Any, BeforeValidator(_to_frame_confidence), _FrameConfidence] = Field(
        None, description="one number per joint"
    )
    time: Annotated[float, AfterValidator(_reject_infinity)] | None = Field(
        None, description="a finite number of seconds"
    )
    meta: dict[str, _Scalar] | None = Field(
        None,
        max_length=16,
        description="an object of at most 16 strings, finite numbers and booleans",
    )
    layout: str | None = Field(
        None, description="with the first frame: the name of a skeleton layout"
    )
    space: str | SpacePayload | None = Field(
        None, description=f"with the first frame: {_SPACE_TEXT}"
    )
    flush: bool = Field(False, description="true or false")
    end: bool = Field(False, description="true or false")


class Statement(NamedTuple):
    """What the address of a request states of all joints that it sends."""

    layout: str | None = None
    space: str | SpacePayload | None = None


NO_STATEMENT = Statement()


def parse_statement(layout: str | None, space: str | None) -> Statement:
    """Parse the layout and the space in the address of a request; a space may be a JSON object.

    Raises:
        RequestRejectedError, UnknownNameError: one of them is not valid.
    """
    if layout is not None:
        get_layout(layout)
    if space is None or not space.startswith("{"):
        return Statement(layout, space)
    try:
        return Statement(layout, SpacePayload.model_validate_json(space))
    except ValidationError as error:
        raise rejection(SpacePayload, error) from error


def to_space(stated: str | SpacePayload | None) -> Space | None:
    """Return a space that is wholly stated, None if nothing is.

    Raises:
        SpaceError: what is stated is wrong, or too little.
    """
    if isinstance(stated, SpacePayload):
        fields = stated.model_dump(exclude_none=True)
        known = PREPARATIONS.get(fields.get("prepared", ""))
        return known.result if known and len(fields) == 1 else Space.from_dict(fields)
    return None if stated is None else Space.from_dict(stated)


def _settle_space(
    stated: str | SpacePayload | None,
    joints: NDArray[np.float32],
    layout: SkeletonLayout,
    model: TrainedModel,
) -> Space:
    """Return the space of a clip: as stated, as the model's, or guessed from the joints."""
    D = joints.shape[-1]
    if stated is None and layout.is_same(model.layout) and input_frame_shape(model)[1] == D:
        return model.frame_space
    if stated is None and D == 3 and layout.space and layout.default_space(3).kind == "unstated":
        raise RequestRejectedError(
            f"3 numbers per joint, but {layout.name!r} is a layout of images (x, y): send a "
            'confidence as "confidence"; of joints in 3D state the "space", such as '
            '{"kind": "world", "up": "-y", "unit": "m"}'
        )
    fields = {"kind": stated} if isinstance(stated, str) else {}
    if isinstance(stated, SpacePayload):
        fields = stated.model_dump(exclude_none=True)
    fields["space"] = fields.pop("kind", "")
    return SpaceOptions(**fields).resolve(joints, layout)


def parse_clip(
    body: bytes,
    media_type: str,
    model: TrainedModel,
    limits: Limits,
    statement: Statement = NO_STATEMENT,
) -> Clip:
    """Parse the clip in a request body.

    Args:
        body: JSON as in `ClipPayload`, or an .npz with its arrays ``joints``, ``confidence`` and
            ``fps``.
        media_type: `JSON` or `NPZ`.
        model: clips that state no layout and no space are in its own.
        limits: limits of the server.
        statement: what the address states, for a body that does not.

    Raises:
        RequestRejectedError, KinegraphError: the body is not a clip.
    """
    try:
        if media_type == JSON:
            payload = ClipPayload.model_validate_json(body)
        else:
            payload = ClipPayload.model_validate(_unpack_arrays(body, limits))
    except ValidationError as error:
        raise rejection(ClipPayload, error) from error
    return to_clip(payload, model, limits, statement)


def to_clip(
    payload: ClipPayload,
    model: TrainedModel,
    limits: Limits,
    statement: Statement = NO_STATEMENT,
) -> Clip:
    """Return the clip of a payload; the arguments are those of `parse_clip`.

    Raises:
        RequestRejectedError, KinegraphError: it is too long or empty, or not a clip.
    """
    joints, frames = payload.joints, payload.joints.shape[1]
    if frames > limits.max_frames:
        raise too_large(f"expected a clip of at most {limits.max_frames} frames, got {frames}")
    if np.isnan(joints).all():
        raise RequestRejectedError("no joint is visible in any frame")
    layout = get_layout(payload.layout or statement.layout or model.layout)
    space = _settle_space(payload.space or statement.space, joints, layout, model)
    facts: Any = {"id": payload.id or "clip", "fps": payload.fps, "meta": payload.meta or {}}
    return Clip(joints, layout, payload.confidence, space=space, **facts)


def _unpack_arrays(body: bytes, limits: Limits) -> dict[str, Any]:
    if body.count(ZIP_ENTRY_MARK) > MAX_ZIP_ENTRIES:
        raise RequestRejectedError(f"expected an .npz of at most {MAX_ZIP_ENTRIES} arrays")
    names = ("joints", "confidence", "fps")
    arrays: dict[str, Any] = read_npz(
        io.BytesIO(body), names, "the clip", limits.max_unpacked_bytes
    )
    if "joints" not in arrays:
        raise ReadError("the clip: expected an array named 'joints'")
    fps = arrays.pop("fps", None)
    found = {name: to_float32(array) for name, array in arrays.items()}
    return found if fps is None else found | {"fps": float(fps.item()) if fps.size == 1 else fps}


def rejection(model: type[BaseModel], error: ValidationError) -> RequestRejectedError:
    """Describe the first error of a validation: what was expected, and what came."""
    if error.error_count() > MAX_LISTED_ERRORS:  # listing thousands of them would take long
        return RequestRejectedError(f"expected an object with the keys {_keys(model)}")
    first = error.errors(include_url=False)[0]
    kind, value = first["type"], first["input"]
    field = next((part for part in first["loc"] if isinstance(part, str)), "")
    if kind == "json_invalid":
        return RequestRejectedError(f"expected the message as JSON: {first['msg']}")
    if kind == "extra_forbidden":
        unknown = unknown_name("key", field[:MAX_ID_LENGTH], model.model_fields)
        return RequestRejectedError(str(unknown))
    if not field:
        return RequestRejectedError(
            f"expected an object with the keys {_keys(model)}, got {_repr.repr(value)}"
        )
    cause = first.get("ctx", {}).get("error")
    got = "it is missing" if kind == "missing" else cause or f"got {_repr.repr(value)}"
    expected = model.model_fields[field].description
    return RequestRejectedError(f'expected "{field}" to be {expected}; {got}')


def _keys(model: type[BaseModel]) -> str:
    return ", ".join(f'"{name}"' for name in model.model_fields)


def _with_example(**fields: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [fields]})


class ErrorBody(BaseModel):
    """The body of every answer with an error status."""

    model_config = _with_example(error="expected a clip of at most 3000 frames, got 4000")

    error: str


class ClipPrediction(BaseModel):
    """The prediction of a clip."""

    model_config = _with_example(
        id="clip",
        is_confident=True,
        top=[{"label": 2, "name": "squat", "probability": 0.9134}],
        logits=[-1.2, 0.3, 4.9],
    )

    id: str
    is_confident: bool = Field(description="False if the verdict is 'unknown'.")
    top: list[Candidate] = Field(description="The most probable actions.")
    logits: list[float]
    read_as: str | None = Field(None, description="How the joints were read, if that was guessed.")


class HealthStatus(BaseModel):
    """The state of the server."""

    model_config = _with_example(status="ok", workers=2, expected_workers=2, persons=3, capacity=41)

    status: Literal["ok", "degraded", "unavailable", "draining"] = Field(
        description="degraded: some processes are being restarted; unavailable: all workers are; "
        "draining: the server is shutting down."
    )
    workers: int = Field(description="Workers that take streams.")
    expected_workers: int = Field(description="Workers when all run.")
    persons: int = Field(description="Persons that stream now.")
    capacity: int = Field(description="Persons that can stream at the same time.")


class LayoutInfo(BaseModel):
    """The skeleton layout of the model."""

    name: str
    joints: list[str]
    bones: list[tuple[int, int]]


class SpaceInfo(BaseModel):
    """What the coordinates mean that the model expects of clips and frames without a space."""

    kind: str
    up: str | None
    away: str | None
    handedness: str
    unit: str | None
    prepared: str
    description: str


class StreamInfo(BaseModel):
    """The properties and limits of streams."""

    mode: Literal["step", "window"]
    frame_rate: float
    capacity: int
    max_message_bytes: int


class VideoInfo(BaseModel):
    """Whether the server takes video, and what it needs for that."""

    available: bool
    requirement: str | None


class ModelInfo(BaseModel):
    """The model, and the input that it expects."""

    name: str
    classes: list[str]
    layout: LayoutInfo
    space: SpaceInfo
    coordinates: int
    persons: int
    confidence: bool
    threshold: float
    background: int | None
    stream: StreamInfo
    video: VideoInfo


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI responses of statuses, and of those of the access checks."""
    return {
        status: {"model": ErrorBody, "description": HTTPStatus(status).phrase}
        for status in sorted({401, 403, 421, 429, *statuses})
    }


def _inline_definitions(schema: dict[str, Any]) -> Any:
    """Replace references to ``$defs`` by what they define: in OpenAPI they would lead nowhere."""
    definitions = schema.pop("$defs", {})

    def inline(part: Any) -> Any:
        if isinstance(part, list):
            return [inline(item) for item in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            return inline(definitions[part["$ref"].rpartition("/")[2]])
        return {key: inline(value) for key, value in part.items()}

    return inline(schema)


def describe_body(model: type[BaseModel], example: Any, *binary: str) -> dict[str, Any]:
    """Return the OpenAPI description of a request body: JSON, or binary of other media types."""
    schema = _inline_definitions(model.model_json_schema())
    content: dict[str, Any] = {JSON: {"schema": schema, "example": example}}
    content |= {kind: {"schema": {"type": "string", "format": "binary"}} for kind in binary}
    return {"requestBody": {"required": True, "content": content}}


PREDICT_ERRORS = error_responses(400, 404, 408, 413, 415, 422, 429, 503)
PREDICT_BODY = describe_body(
    ClipPayload,
    {"joints": [[[0.1, 0.9], [0.2, None]], [[0.1, 0.8], None]], "fps": 30},
    NPZ,
)
