"""The messages of a stream: binary and JSON frames from the client, predictions to the client."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import FailFast, TypeAdapter, ValidationError

from kinegraph.clips.clip import MetaValue
from kinegraph.inference.answer import Prediction, accepted_action
from kinegraph.inference.session import RawFrame
from kinegraph.server.errors import RequestRejectedError
from kinegraph.server.schemas import FramePayload, SpacePayload, rejection

PersonId = str | int
MAGIC = b"KGF1"
HEADER = struct.Struct("<4sBBH")  # magic, flags, bodies per person, persons
PERSON_HEADER = struct.Struct("<Id")  # person, time
HAS_CONFIDENCE = 1  # flag: confidences follow the joints
_PAYLOADS = TypeAdapter(Annotated[list[FramePayload], FailFast()])


class ClientMessage(NamedTuple):
    """A frame of a person, or a request for an answer.

    Attributes:
        person: the person's name, unique within the connection.
        frame: the next frame, or None.
        time: time of the frame in seconds, or NaN.
        meta: facts about the recording, with the first frame.
        layout, space: of the frames, with the first one; None for those of the connection.
        flush: request a prediction that includes the latest frames.
        end: the same, and end the person's stream.
    """

    person: PersonId
    frame: RawFrame | None = None
    time: float = math.nan
    meta: Mapping[str, MetaValue] | None = None
    flush: bool = False
    end: bool = False
    layout: str | None = None
    space: str | SpacePayload | None = None


def decode_json(text: str) -> list[ClientMessage]:
    """Parse a JSON object or a list of objects.

    Raises:
        RequestRejectedError: it is not valid.
    """
    try:
        if text.lstrip().startswith("["):
            return [_to_message(one) for one in _PAYLOADS.validate_json(text)]
        return [_to_message(FramePayload.model_validate_json(text))]
    except ValidationError as error:
        raise rejection(FramePayload, error) from error


def decode_binary(data: bytes, num_joints: int, coordinates: int | None) -> list[ClientMessage]:
    """Parse the frames of a binary message, see docs/serving.md.

    Args:
        num_joints: V.
        coordinates: D; None for 2 or 3, as the length of the message tells.

    Raises:
        RequestRejectedError: the magic bytes are missing, or the length does not fit the header.
    """
    if len(data) < HEADER.size or data[:4] != MAGIC:
        raise RequestRejectedError(f"expected a binary message to begin with {MAGIC.decode()}")
    _, flags, bodies, persons = HEADER.unpack_from(data)
    V, D = num_joints, coordinates or 2
    extra = flags & HAS_CONFIDENCE
    size = _message_size(persons, bodies * V * (D + extra))
    if coordinates is None and len(data) == _message_size(persons, bodies * V * (3 + extra)):
        D, size = 3, len(data)
    values = bodies * V * (D + extra)
    if flags & ~HAS_CONFIDENCE or not bodies or not persons or len(data) != size:
        raise RequestRejectedError(
            f"expected {size} bytes for {persons} persons of {bodies} x {V} joints x {D} "
            f"coordinates with flags {flags}, got {len(data)}"
        )
    messages, at = [], HEADER.size
    for _ in range(persons):
        person, time = PERSON_HEADER.unpack_from(data, at)
        numbers = np.frombuffer(data, "<f4", values, at + PERSON_HEADER.size)
        joints = numbers[: bodies * V * D].reshape(bodies, V, D)
        confidence = None
        if flags & HAS_CONFIDENCE:
            confidence = numbers[bodies * V * D :].reshape(bodies, V)
        if math.isinf(time):
            raise RequestRejectedError(f"expected a finite time or NaN, got {time}")
        messages.append(ClientMessage(person, RawFrame(joints, confidence), time))
        at += PERSON_HEADER.size + 4 * values
    return messages


def _message_size(persons: int, values: int) -> int:
    return HEADER.size + persons * (PERSON_HEADER.size + 4 * values)


def to_json(message: dict[str, Any]) -> str:
    """Encode a message to a client."""
    return json.dumps(message, separators=(",", ":"))


def prediction_payload(
    prediction: Prediction | None, top: int = 0, logits: bool = False
) -> dict[str, Any]:
    """Return the fields of a prediction for a message, with the ``top`` candidates if asked for."""
    payload = accepted_action(prediction)
    if prediction is None:
        return payload
    payload["probability"] = round(prediction.probability, 7)
    if top:
        payload["top"] = [vars(candidate) for candidate in prediction.candidates[:top]]
    if logits:
        payload["logits"] = prediction.logits.tolist()
    return payload


def _to_message(payload: FramePayload) -> ClientMessage:
    frame = None
    if payload.joints is not None:
        frame = RawFrame(payload.joints, payload.confidence)
    elif not payload.flush and not payload.end:
        raise RequestRejectedError('expected "joints", or "flush": true, or "end": true')
    time = math.nan if payload.time is None else payload.time
    asked = payload.flush, payload.end
    stated = payload.layout, payload.space
    return ClientMessage(payload.person, frame, time, payload.meta, *asked, *stated)
