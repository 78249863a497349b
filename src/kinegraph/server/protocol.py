"""What goes over a stream: frames of persons as JSON or binary, and answers as JSON."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import numpy as np

from kinegraph.clips.clip import MetaValue
from kinegraph.inference.answer import Prediction
from kinegraph.inference.online_preprocessing import parse_joints
from kinegraph.inference.session import RawFrame
from kinegraph.server.errors import RequestRejectedError

PersonId = str | int
MAGIC = b"KGF1"
HEADER = struct.Struct("<4sBBH")  # magic, flags, bodies of a person, persons
PERSON_HEADER = struct.Struct("<Id")  # person, time
HAS_CONFIDENCE = 1  # flag: joints are followed by their confidences
MAX_ID_LENGTH = 64
MAX_META_ENTRIES = 16
KEYS = {"person", "joints", "confidence", "time", "meta", "flush", "end"}


@dataclass(frozen=True)
class ClientMessage:
    """One thing that a client says of a person: a frame, or that it wants to hear an answer.

    Attributes:
        person: who; known to this connection alone.
        frame: the next frame; None for none.
        time: of the frame, in seconds; NaN if it was not said.
        meta: facts about the recording, with the first frame.
        flush: an answer to all frames so far is wanted.
        end: no more frames will come, and an answer to all of them is wanted.
    """

    person: PersonId
    frame: RawFrame | None = None
    time: float = math.nan
    meta: dict[str, MetaValue] | None = None
    flush: bool = False
    end: bool = False


def parse_json(text: str, shape: tuple[int, int]) -> list[ClientMessage]:
    """The messages of a text: a JSON object, or a list of them; ``shape`` is (V, D).

    Raises:
        RequestRejectedError: it is none of that.
    """
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RequestRejectedError(
            HTTPStatus.BAD_REQUEST, f"expected a message as JSON: {error or 'nested too deeply'}"
        ) from error
    parts = given if isinstance(given, list) else [given]
    return [_said(part, shape) for part in parts]


def parse_binary(data: bytes, shape: tuple[int, int]) -> list[ClientMessage]:
    """The frames of a binary message, see docs/serving.md.

    Raises:
        RequestRejectedError: it is no such message, or not as long as its header says.
    """
    if len(data) < HEADER.size or data[:4] != MAGIC:
        raise RequestRejectedError(
            HTTPStatus.BAD_REQUEST, f"expected a binary message to begin with {MAGIC.decode()}"
        )
    _, flags, bodies, persons = HEADER.unpack_from(data)
    V, D = shape
    values = bodies * V * (D + (flags & HAS_CONFIDENCE))
    size = HEADER.size + persons * (PERSON_HEADER.size + 4 * values)
    if flags & ~HAS_CONFIDENCE or not bodies or not persons or len(data) != size:
        raise RequestRejectedError(
            HTTPStatus.BAD_REQUEST,
            f"expected {size} bytes for {persons} persons of {bodies} x {V} joints x {D} "
            f"coordinates with flags {flags}, got {len(data)}",
        )
    said, at = [], HEADER.size
    for _ in range(persons):
        person, time = PERSON_HEADER.unpack_from(data, at)
        numbers = np.frombuffer(data, "<f4", values, at + PERSON_HEADER.size)
        joints = numbers[: bodies * V * D].reshape(bodies, V, D)
        stated = numbers[bodies * V * D :].reshape(bodies, V) if flags & HAS_CONFIDENCE else None
        said.append(ClientMessage(person, RawFrame(joints, stated), _time(time)))
        at += PERSON_HEADER.size + 4 * values
    return said


def to_json(prediction_payload: dict[str, Any]) -> str:
    """A message to a client; what is no number becomes null."""
    return json.dumps(prediction_payload, separators=(",", ":"))


def prediction_payload(
    answer: Prediction | None, top: int = 0, logits: bool = False
) -> dict[str, Any]:
    """What an answer says: of the verdict, and of as many guesses as asked for."""
    if answer is None:
        return {"label": None, "name": None, "probability": None}
    verdict = answer.accepted
    found: dict[str, Any] = {
        "label": None if verdict is None else verdict.label,
        "name": "unknown" if verdict is None else verdict.name,
        "probability": round(answer.probability, 7),
    }
    if top:
        found["top"] = [vars(guess) for guess in answer.candidates[:top]]
    if logits:
        found["logits"] = answer.logits.tolist()
    return found


def _said(given: Any, shape: tuple[int, int]) -> ClientMessage:
    if not isinstance(given, dict) or "person" not in given:
        raise RequestRejectedError(
            HTTPStatus.BAD_REQUEST,
            'expected an object with a "person", and its "joints", "flush" or "end"',
        )
    if unknown := set(given) - KEYS:
        raise RequestRejectedError(
            HTTPStatus.BAD_REQUEST,
            f"unknown key {min(unknown)[:MAX_ID_LENGTH]!r}; known: {', '.join(sorted(KEYS))}",
        )
    person = _person(given["person"])
    for flag in ("flush", "end"):
        if not isinstance(given.get(flag, False), bool):
            raise RequestRejectedError(
                HTTPStatus.BAD_REQUEST, f'expected "{flag}" to be true or false'
            )
    frame = None
    if "joints" in given:
        frame = RawFrame(_numbers(given["joints"], shape), given.get("confidence"))
    said = ClientMessage(
        person,
        frame,
        _time(given.get("time", math.nan)),
        _meta(given.get("meta")),
        given.get("flush", False),
        given.get("end", False),
    )
    if said.frame is None and not said.flush and not said.end:
        raise RequestRejectedError(
            HTTPStatus.BAD_REQUEST, 'expected "joints", or "flush": true, or "end": true'
        )
    return said


def _person(given: Any) -> PersonId:
    named = isinstance(given, str) and 0 < len(given) <= MAX_ID_LENGTH
    numbered = isinstance(given, int) and not isinstance(given, bool) and 0 <= given < 2**32
    if not named and not numbered:
        raise RequestRejectedError(
            HTTPStatus.BAD_REQUEST,
            f'expected "person" to be a text of 1 to {MAX_ID_LENGTH} letters, or a number',
        )
    person: PersonId = given
    return person


def _numbers(given: Any, shape: tuple[int, int]) -> Any:
    """Joints whose null is not a number; what they are worth is seen when they are made ready."""
    try:
        return np.asarray(given, np.float32)
    except (TypeError, ValueError, OverflowError):
        try:
            return parse_joints(given, shape)
        except TypeError as error:
            raise RequestRejectedError(HTTPStatus.BAD_REQUEST, f'"joints": {error}') from error


def _time(given: Any) -> float:
    if given is None:
        return math.nan
    if not isinstance(given, int | float) or isinstance(given, bool) or math.isinf(given):
        raise RequestRejectedError(
            HTTPStatus.BAD_REQUEST, f'expected "time" to be seconds, got {str(given)[:40]!r}'
        )
    return float(given)


def _meta(given: Any) -> dict[str, MetaValue] | None:
    if given is None:
        return None
    plain = isinstance(given, dict) and len(given) <= MAX_META_ENTRIES
    if not plain or not all(isinstance(v, str | int | float | bool) for v in given.values()):
        raise RequestRejectedError(
            HTTPStatus.BAD_REQUEST, 'expected "meta" to be an object of a few texts and numbers'
        )
    return dict(given)
